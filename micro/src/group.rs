//! Several services in one process.

use std::collections::BTreeSet;
use std::fmt;
use std::pin::{Pin, pin};

use crate::service::{Remains, Started};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::{Code, Error, Phase, Result, RunningService, Service};

/// Services that a process runs together: started in the order in which they were added, stopped in
/// the opposite one, by the same signal.
///
/// They share the settings of the process, save what would make them the same: `name`, `version`,
/// `address` and `advertise` apply to none of them, from wherever they come, and one warning says so.
/// Code tells the services apart, with the setters of [`Service`], or with settings made for one of
/// them: those of [`Settings::none`] and [`Settings::from_parts`] apply wholly. Alone in its group, a
/// service has all of the settings.
///
/// # Examples
///
/// ```
/// # #[micro::service]
/// # pub trait Kitchen { async fn bake(&self, kind: String) -> String; }
/// # #[micro::service]
/// # pub trait Till { async fn ring_up(&self, cents: u64) -> u64; }
/// # struct Oven;
/// # impl Kitchen for Oven { async fn bake(&self, kind: String) -> String { kind } }
/// # struct Drawer;
/// # impl Till for Drawer { async fn ring_up(&self, cents: u64) -> u64 { cents } }
/// # use micro::{Group, Service};
/// # use micro::registry::MemoryRegistry;
/// # #[tokio::main]
/// # async fn main() -> micro::Result<()> {
/// # let registry = MemoryRegistry::new();
/// let kitchen = Service::new().serve(KitchenServer::new(Oven));
/// let till = Service::new().serve(TillServer::new(Drawer));
/// # let kitchen = kitchen.registry(registry.clone()).drain_delay(std::time::Duration::ZERO);
/// # let till = till.registry(registry.clone()).drain_delay(std::time::Duration::ZERO);
/// let bakery = Group::new().service(kitchen).service(till);
/// # let bakery = bakery.settings(micro::Settings::none());
/// # #[cfg(any())]
/// bakery.run().await
/// # ;bakery.serve_until(async {}).await
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "a group does nothing until it is run"]
pub struct Group {
    settings: Option<Settings>,
    services: Vec<Service>,
}

impl Group {
    /// A group without services.
    pub fn new() -> Self {
        Self::default()
    }

    /// A group whose settings have the flags of the command line above them; see
    /// [`Settings::from_args`], which may end the process.
    pub fn from_args() -> Self {
        Self::new().settings(Settings::from_args())
    }

    /// Adds a service, which is started after and stopped before those that are there.
    pub fn service(mut self, service: Service) -> Self {
        self.services.push(service);
        self
    }

    /// The settings of services that have none of their own, instead of those of the process.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Serves until SIGINT or SIGTERM, then [shuts down](RunningGroup::shutdown). A signal during the
    /// start ends that, and stops what was started.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and `aborted` when a second signal forced the end of all of them, as
    /// for [`Service::run`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the services without deregistering them.
    pub async fn run(self) -> Result<()> {
        let mut signals = Signals::listen()?;
        let mut running = RunningGroup::default();
        let started = self.start_into(&mut running, pin!(signals.next())).await;
        let first = match started {
            Ok(Some(signal)) => signal,
            Ok(None) => signals.next().await,
            Err(error) => {
                tokio::select! {
                    () = running.shutdown() => {}
                    _ = signals.next() => {}
                }
                return Err(error);
            }
        };
        running.stop(first, signals).await
    }

    /// Serves until the future ends, then [shuts down](RunningGroup::shutdown). Installs no signal
    /// handler. The future may end during the start.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the services without deregistering them.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) -> Result<()> {
        let mut stop = pin!(stop);
        let mut running = RunningGroup::default();
        let started = self.start_into(&mut running, stop.as_mut()).await;
        if let Ok(None) = started {
            stop.await;
        }
        running.shutdown().await;
        started.map(|_| ())
    }

    /// Starts one service after the other, hooks included, as [`Service::start`] does; does not wait
    /// for the registry. When one cannot start, those before it are stopped.
    ///
    /// # Errors
    ///
    /// Those of [`Service::start`], with the name of the service, and `invalid_argument` for a group
    /// without services.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing running; what was started is aborted.
    pub async fn start(self) -> Result<RunningGroup> {
        let mut running = RunningGroup::default();
        let never = pin!(std::future::pending::<()>());
        match self.start_into(&mut running, never).await {
            Ok(_) => Ok(running),
            Err(error) => {
                running.shutdown().await;
                Err(error)
            }
        }
    }

    /// Starts until it is told to stop, and gives what it was told.
    async fn start_into<T>(
        self,
        running: &mut RunningGroup,
        mut stop: Pin<&mut impl Future<Output = T>>,
    ) -> Result<Option<T>> {
        let services = self.configured()?;
        explain_if_asked(&services);
        let is_alone = services.len() == 1;
        for service in services {
            let label = service.label();
            match service.start_until(stop.as_mut()).await {
                Started::Running(service) => running.services.push(*service),
                Started::Told(remains, told) => {
                    running.remains = Some(remains);
                    return Ok(Some(told));
                }
                Started::Failed(remains, error) => {
                    running.remains = Some(remains);
                    return Err(if is_alone { error } else { of(&label, error) });
                }
            }
        }
        Ok(None)
    }

    /// Gives every service its settings.
    fn configured(self) -> Result<Vec<Service>> {
        let Self { settings, mut services } = self;
        if services.is_empty() {
            return Err(Error::invalid("the group has no services: call `.service(…)`"));
        }
        let is_needed = services.iter().any(|service| service.settings.is_none());
        let shared = match settings {
            None if is_needed => Settings::from_process()?,
            settings => settings.unwrap_or_default(),
        };
        let is_alone = services.len() == 1;
        let mut left_out = BTreeSet::new();
        for service in &mut services {
            let own = service.settings.take();
            let are_shared = own.as_ref().is_none_or(Settings::are_of_the_process);
            let mut settings = own.unwrap_or_else(|| shared.clone());
            if are_shared && !is_alone {
                left_out.extend(settings.remove_identity());
            }
            service.settings = Some(settings);
        }
        if !left_out.is_empty() {
            let settings = left_out.into_iter().collect::<Vec<_>>().join(", ");
            tracing::warn!(%settings, "cannot be meant for several services, applied to none");
        }
        Ok(services)
    }
}

/// Services of a [`Group`] that listen, serve and register.
///
/// It owns them: dropping it is what dropping each [`RunningService`] is;
/// [`shutdown`](Self::shutdown) stops them in good order.
#[derive(Default)]
#[must_use = "dropping it stops the services"]
pub struct RunningGroup {
    services: Vec<RunningService>,
    /// Of the one that did not come to run; it ends first.
    remains: Option<Remains>,
}

impl RunningGroup {
    /// The services, in the order in which they were added.
    pub fn services(&self) -> &[RunningService] {
        &self.services
    }

    /// Serves until SIGINT or SIGTERM, then [shuts down](Self::shutdown). The signals are listened for
    /// from this call on, before it is awaited.
    ///
    /// # Errors
    ///
    /// As [`RunningService::run`]; a second signal forces the end of all services.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the services.
    pub fn run(self) -> impl Future<Output = Result<()>> + Send {
        let signals = Signals::listen();
        async move {
            let mut signals = signals?;
            let first = signals.next().await;
            self.stop(first, signals).await
        }
    }

    /// [Shuts down](RunningService::shutdown) one service after the other, the last one first, so that
    /// each can call those that were added before it until its end. Every one takes its own
    /// `drain_delay`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts what still runs, as dropping the group does.
    pub async fn shutdown(mut self) {
        if let Some(remains) = self.remains.take() {
            remains.end().await;
        }
        while let Some(service) = self.services.pop() {
            service.shutdown().await;
        }
    }

    /// Shuts down because of a first signal, unless a second one comes.
    async fn stop(self, first: &'static str, mut signals: Signals) -> Result<()> {
        tracing::info!(signal = first, "stopping");
        tokio::select! {
            () = self.shutdown() => Ok(()),
            second = signals.next() => {
                let message = format!("stopped at once by a second signal, {second}");
                Err(Error::at(Code::Aborted, Phase::Stop, message))
            }
        }
    }
}

impl From<RunningService> for RunningGroup {
    fn from(service: RunningService) -> Self {
        Self { services: vec![service], remains: None }
    }
}

impl fmt::Debug for RunningGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.services).finish()
    }
}

/// Explains all of them at once, and ends the process, if the command line asks for it.
fn explain_if_asked(services: &[Service]) {
    let explained = |service: &Service| {
        let settings = service.settings.clone().unwrap_or_default();
        match services.len() {
            1 => service.explained(&settings).to_string(),
            _ => format!("{}\n{}", service.label(), service.explained(&settings)),
        }
    };
    for settings in services.iter().filter_map(|service| service.settings.as_ref()) {
        settings
            .end_if_to_explain(|| services.iter().map(explained).collect::<Vec<_>>().join("\n"));
    }
}

/// An error of one of several services.
fn of(label: &str, error: Error) -> Error {
    Error::of(error.code(), error.phase(), format!("service {label}: {error}"), error)
}
