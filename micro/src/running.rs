//! A service while it runs, from its start to its last answer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use micro_registry::{NodeState, Registration, Registry};
use micro_rpc::{Address, Limits, Listener, MemoryNetwork, Server, ServerConfig, ServerHandle};
use tokio::sync::watch;

use crate::client::ClientBuilder;
use crate::describe::describe;
use crate::layer::Layers;
use crate::mount;
use crate::registrar::{Registrar, Timing};
use crate::{Client, Contract, Error, Registered, Result, Settings};

/// A service that listens, serves and registers.
///
/// It owns all of it: dropping it closes the listener, aborts running calls and leaves the
/// registration to its TTL; [`shutdown`](Self::shutdown) does all that in good order.
#[must_use = "dropping it stops the service"]
pub struct RunningService {
    registration: Registration,
    server: ServerHandle,
    registrar: Registrar,
    registry: Arc<dyn Registry>,
    settings: Settings,
    memory: Option<MemoryNetwork>,
    stopping: Arc<AtomicBool>,
    shutdown_timeout: Duration,
}

/// What [`RunningService::start`] needs.
pub(crate) struct Start {
    pub(crate) registration: Registration,
    pub(crate) listener: Listener,
    pub(crate) contracts: Vec<Contract>,
    pub(crate) layers: Layers,
    pub(crate) limits: Limits,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) timing: Timing,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) settings: Settings,
    pub(crate) memory: Option<MemoryNetwork>,
}

/// How long the registry may take to hear that a service stops. Calls are safe without it: the
/// connections tell their clients.
const GOODBYE_PATIENCE: Duration = Duration::from_secs(2);

impl RunningService {
    pub(crate) fn start(start: Start) -> Result<Self> {
        let Start { registration, contracts, registry, timing, .. } = start;
        let description = describe(&registration, &contracts);
        let router = mount::router(contracts, &start.layers);
        let server = Server::new(router).map_err(|error| Error::invalid(error.to_string()))?;
        let registrar = Registrar::spawn(registry.clone(), registration.clone(), timing);
        let stopping = Arc::new(AtomicBool::new(false));
        let ready = readiness(registrar.state(), stopping.clone());
        let server = server
            .config(ServerConfig { limits: start.limits, hosts: hosts(&registration) })
            .ready(Arc::new(ready))
            .describe(description.into())
            .start(vec![start.listener]);
        Ok(Self {
            registration,
            server,
            registrar,
            registry,
            settings: start.settings,
            memory: start.memory,
            stopping,
            shutdown_timeout: start.shutdown_timeout,
        })
    }

    /// What it registers: its name, id and advertised address.
    pub fn registration(&self) -> &Registration {
        &self.registration
    }

    /// Whether it is registered, now and as that changes.
    pub fn registered(&self) -> watch::Receiver<Registered> {
        self.registrar.state()
    }

    /// A client over the same registry, for the calls this service makes itself.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for settings that make no sense.
    pub fn client(&self) -> Result<Client> {
        let mut builder = ClientBuilder::default();
        if let Some(network) = &self.memory {
            builder = builder.memory_network(network.clone());
        }
        builder.build_on(&self.settings, self.registry.clone())
    }

    /// Serves until SIGINT or SIGTERM, then [shuts down](Self::shutdown); a second signal ends it
    /// at once. The signals are listened for from this call on, before it is awaited.
    ///
    /// # Errors
    ///
    /// `internal` when the signals cannot be listened for.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn run(self) -> impl Future<Output = Result<()>> + Send {
        let signals = Signals::listen();
        async move {
            self.run_until(signals?).await;
            Ok(())
        }
    }

    pub(crate) async fn run_until(self, mut signals: Signals) {
        let first = signals.next().await;
        tracing::info!(signal = first, "stopping");
        tokio::select! {
            () = self.shutdown() => {}
            second = signals.next() => tracing::warn!(signal = second, "stopping at once"),
        }
    }

    /// Stops in good order: the registry says *draining* and connected clients are told to go
    /// elsewhere, running calls finish within the shutdown timeout, then it deregisters and closes.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts what still runs, as dropping the service does.
    pub async fn shutdown(mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.server.drain();
        self.registrar.announce(NodeState::Draining, GOODBYE_PATIENCE).await;
        let report = self.server.shutdown(self.shutdown_timeout).await;
        if report.aborted > 0 {
            tracing::warn!(calls = report.aborted, "calls did not finish in time, aborted");
        }
        self.registrar.deregister(GOODBYE_PATIENCE).await;
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
fn hosts(registration: &Registration) -> Vec<String> {
    match registration.node.address.parse() {
        Ok(Address::Tcp { host, .. }) => vec![host],
        _ => Vec::new(),
    }
}

/// Ready once it has been registered; an outage of the registry later does not make it less so.
fn readiness(
    registered: watch::Receiver<Registered>,
    stopping: Arc<AtomicBool>,
) -> impl Fn() -> std::result::Result<(), String> + Send + Sync {
    move || {
        if stopping.load(Ordering::Relaxed) {
            return Err("draining".to_owned());
        }
        match &*registered.borrow() {
            Registered::Yes | Registered::Retrying { was_registered: true, .. } => Ok(()),
            Registered::Starting => Err("not registered yet".to_owned()),
            Registered::Retrying { cause, .. } => Err(format!("not registered: {cause}")),
            Registered::Fenced { cause } => Err(format!("fenced: {cause}")),
        }
    }
}

/// The signals that end a service.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| {
            signal(kind).map_err(|error| {
                let message = format!("cannot listen for signals: {error}");
                Error::at(crate::Code::Internal, crate::Phase::Start, message).with_source(error)
            })
        };
        let terminate = listen(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "ctrl-c",
            Err(_) => std::future::pending().await,
        }
    }
}
