//! A service while it runs, from its start to its last answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use micro_registry::{Registration, Registry};
use micro_rpc::{Address, Listener, MemoryNetwork, Server, ServerConfig, ServerHandle};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::client::ClientBuilder;
use crate::health::{Health, HealthCheck, HealthTask};
use crate::hooks::{Hooks, Stage};
use crate::metrics::{Figures, Shown};
#[cfg(feature = "http")]
use crate::pages::About;
use crate::registrar::{Registrar, Timing};
use crate::settings::Explanation;
use crate::{Client, Registered, Result, RunningGroup, Settings};

/// A service that listens, serves and registers.
///
/// It owns all of it: dropping it closes the listener, aborts running calls and leaves the
/// registration to its TTL, and runs no hooks; [`shutdown`](Self::shutdown) does all that in good
/// order.
#[must_use = "dropping it stops the service"]
pub struct RunningService {
    registration: Registration,
    server: ServerHandle,
    registrar: Registrar,
    health: HealthTask,
    wellbeing: Wellbeing,
    registry: Arc<dyn Registry>,
    settings: Settings,
    memory: Option<MemoryNetwork>,
    shown: Shown,
    ending: Ending,
    pub(crate) hooks: Hooks,
}

/// What [`RunningService::start`] needs.
pub(crate) struct Start {
    pub(crate) registration: Registration,
    /// One at least; others are told the first.
    pub(crate) listeners: Vec<Listener>,
    pub(crate) server: Server,
    pub(crate) description: Vec<u8>,
    #[cfg_attr(not(feature = "http"), expect(dead_code, reason = "only HTTP asks"))]
    pub(crate) explanation: Explanation,
    pub(crate) shown: Shown,
    /// Its hosts are those besides the advertised one.
    pub(crate) config: ServerConfig,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) timing: Timing,
    pub(crate) health: Option<HealthCheck>,
    pub(crate) ending: Ending,
    pub(crate) settings: Settings,
    pub(crate) memory: Option<MemoryNetwork>,
}

/// How a service ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ending {
    /// How long calls are still accepted once clients are told to go elsewhere.
    pub(crate) drain_delay: Duration,
    /// How long running calls may then take, and each hook.
    pub(crate) grace: Duration,
}

/// How long the registry may take to hear that a service stops. Calls are safe without it: the
/// connections tell their clients.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);

impl RunningService {
    pub(crate) fn start(start: Start) -> Self {
        let Start { registration, registry, timing, mut config, .. } = start;
        config.hosts.extend(advertised_host(&registration));
        let registrar = Registrar::spawn(registry.clone(), registration.clone(), timing);
        let health = HealthTask::spawn(start.health, registrar.announcer());
        let wellbeing = Wellbeing { registered: registrar.state(), health: health.state() };
        let server = start.server.config(config).describe(start.description.into());
        #[cfg(feature = "http")]
        let server = {
            let about = About::new(&registration, &wellbeing, &start.shown, &start.explanation);
            about.pages().into_iter().fold(server, Server::page)
        };
        let ready = wellbeing.clone();
        let server = server.ready(Arc::new(move || ready.ready())).start(start.listeners);
        Self {
            registration,
            server,
            registrar,
            health,
            wellbeing,
            registry,
            settings: start.settings,
            memory: start.memory,
            shown: start.shown,
            ending: start.ending,
            hooks: Hooks::default(),
        }
    }

    /// What it registers: its name, id and advertised address. The state of the node is the one it
    /// starts with.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Whether it is registered, now and as that changes.
    ///
    /// # Examples
    ///
    /// Waiting until it is:
    ///
    /// ```no_run
    /// # async fn example(running: micro::RunningService) {
    /// let is_registered = |state: &micro::Registered| *state == micro::Registered::Yes;
    /// running.registered().wait_for(is_registered).await.expect("the service runs");
    /// # }
    /// ```
    pub fn registered(&self) -> watch::Receiver<Registered> {
        self.registrar.state()
    }

    /// A client over the same registry and in the same zone, for the calls this service makes itself,
    /// which it shows at `/metrics`.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for settings that make no sense.
    pub fn client(&self) -> Result<Client> {
        let mut builder = ClientBuilder::default();
        if let Some(network) = &self.memory {
            builder = builder.memory_network(network.clone());
        }
        if let Some(zone) = &self.registration.node.zone {
            builder = builder.zone(zone);
        }
        let client = builder.build_on(&self.settings, self.registry.clone())?;
        self.shown.add(&client);
        Ok(client)
    }

    /// What it answers at `/metrics`: how its calls came out and those of the clients it shows, in the
    /// text format of OpenMetrics, whose media type is
    /// `application/openmetrics-text; version=1.0.0; charset=utf-8`.
    pub fn metrics(&self) -> String {
        let Self { registration, wellbeing, server, shown, .. } = self;
        Figures::of(registration, wellbeing, &server.stats(), shown).into_text()
    }

    /// What it answers over HTTP, for a web application of this process to mount among its own
    /// routes: contracts, `/health/…`, `/describe`, `/metrics` and the pages for callers of
    /// this host, for whom the application says the [`Peer`](micro_rpc::Peer). Its own port stays, and is what it registers.
    ///
    /// Callers that use a name of the application, such as browsers, need that name to be
    /// [told](micro_rpc::HttpService::hosts). It outlives the service, and answers 503 then.
    #[cfg(feature = "http")]
    pub fn http(&self) -> micro_rpc::HttpService {
        self.server.http()
    }

    /// Serves until SIGINT or SIGTERM, then [shuts down](Self::shutdown). The signals are listened
    /// for from this call on, before it is awaited.
    ///
    /// # Errors
    ///
    /// `internal` when the signals cannot be listened for; `aborted` when a second signal forced the
    /// end: running calls were aborted, hooks that had not run did not, and the registration, which
    /// says *draining*, is left to its TTL.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the service.
    pub fn run(self) -> impl Future<Output = Result<()>> + Send {
        RunningGroup::from(self).run()
    }

    /// Stops in good order:
    ///
    /// 1. The `before_stop` hooks run.
    /// 2. The registry is told that the node is *draining*, and connected clients that they had
    ///    better go elsewhere, both at once. Calls are accepted for `drain_delay` longer, unless the
    ///    service never was in the registry.
    /// 3. Later calls are refused, which makes clients repeat them elsewhere. Running calls finish,
    ///    within `shutdown_timeout`, and all connections are closed.
    /// 4. The node is deregistered, and the `after_deregister` hooks run.
    /// 5. What the service holds is dropped, and the `after_stop` hooks run.
    ///
    /// A registry that cannot be reached delays this by a few seconds at most; the TTL takes the
    /// node out then.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts what still runs, as dropping the service does.
    pub async fn shutdown(self) {
        let Self { server, mut registrar, health, registry, ending, mut hooks, .. } = self;
        hooks.stop(Stage::BeforeStop, ending.grace).await;
        drop(health);
        server.drain();
        let was_registered = registrar.was_registered();
        let serve_out = async {
            if was_registered {
                sleep(ending.drain_delay).await;
            }
            server.shutdown(ending.grace).await
        };
        let ((), report) = tokio::join!(registrar.drain(GOODBYE_PATIENCE), serve_out);
        if report.aborted > 0 {
            tracing::warn!(calls = report.aborted, "calls did not finish in time, aborted");
        }
        registrar.deregister(GOODBYE_PATIENCE).await;
        hooks.stop(Stage::AfterDeregister, ending.grace).await;
        drop(registry);
        hooks.stop(Stage::AfterStop, ending.grace).await;
    }
}

impl fmt::Debug for RunningService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunningService")
            .field("registration", &self.registration)
            .field("registrar", &self.registrar)
            .finish_non_exhaustive()
    }
}

/// The name it is advertised by, for HTTP callers that use it.
fn advertised_host(registration: &Registration) -> Option<String> {
    match registration.node.address.parse() {
        Ok(Address::Tcp { host, .. }) => Some(host),
        _ => None,
    }
}

/// Whether a service is well, as far as it knows itself.
#[derive(Clone, Debug)]
pub(crate) struct Wellbeing {
    pub(crate) registered: watch::Receiver<Registered>,
    health: watch::Receiver<Health>,
}

impl Wellbeing {
    pub(crate) fn is_registered(&self) -> bool {
        *self.registered.borrow() == Registered::Yes
    }

    pub(crate) fn is_healthy(&self) -> bool {
        *self.health.borrow() == Health::Good
    }

    /// Ready once it has been registered and its check passes; an outage of the registry later does
    /// not make it less so. That it drains the server knows itself.
    ///
    /// The reason is for everybody; what a registry says, which may name hosts and paths, is not in it.
    pub(crate) fn ready(&self) -> std::result::Result<(), String> {
        match &*self.health.borrow() {
            Health::Good => {}
            Health::Unknown => return Err("the first health check has not ended".to_owned()),
            Health::Bad(reason) => return Err(format!("not serving: {reason}")),
        }
        match &*self.registered.borrow() {
            Registered::Yes | Registered::Retrying { was_registered: true, .. } => Ok(()),
            Registered::Starting | Registered::Retrying { .. } => {
                Err("not registered yet".to_owned())
            }
            Registered::Fenced { .. } => {
                Err("fenced: a newer process has registered the same id".to_owned())
            }
        }
    }
}
