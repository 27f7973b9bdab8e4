//! The registry: validation, deadlines, and what is asked of the state.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use micro_registry::{
    Error, Registration, Registry, RegistryUrl, Scope, Service, ServiceSummary, View, Watch,
    validate,
};

use crate::MdnsConfig;
use crate::clock::Clock;
use crate::error::unavailable;
use crate::feeder::{Shared, in_time};
use crate::network;
use crate::state::{Standing, State};
use crate::text::Announcement;

/// The registry of one local network; see the [crate] for how it works.
///
/// Clones share one handle: one task and one thread, which its first call starts. When the last
/// clone is dropped both end, its nodes say goodbye, and its watches end.
///
/// # Errors
///
/// Besides what [`Registry`] names: `Invalid` for a registration that does not fit into a record
/// without its endpoints, and `Fenced` only when the newer node was heard of before.
///
/// # Panics
///
/// Its calls panic outside of a tokio runtime with its timer enabled.
#[derive(Clone)]
pub struct MdnsRegistry {
    shared: Arc<Shared>,
}

impl MdnsRegistry {
    /// A handle. Does no I/O and starts no task.
    ///
    /// # Errors
    ///
    /// `Invalid` for a namespace, a port or an interface that cannot be one.
    pub fn new(config: MdnsConfig) -> Result<Self, Error> {
        config.validate()?;
        Ok(Self { shared: Arc::new(Shared::new(config)) })
    }

    /// A handle by URL: `mdns:`, or with any of `?namespace=name&interface=eth0,eth1&port=5353`.
    /// Does no I/O and starts no task.
    ///
    /// # Errors
    ///
    /// `Invalid`, saying what would be right, for a host, a path, another scheme, an unknown key,
    /// and for what [`new`](Self::new) refuses.
    pub fn from_url(url: RegistryUrl) -> Result<Self, Error> {
        Self::new(MdnsConfig::from_url(url)?)
    }

    /// The task looks for interfaces once in a while; who asks is told the truth.
    fn reach(&self) -> Result<(), Error> {
        self.shared.ensure_running();
        network::interfaces(&self.shared.config).map(drop)
    }

    /// Waits until everybody had time to answer.
    async fn read<T>(&self, answer: impl Fn(&View) -> T) -> Result<T, Error> {
        self.reach()?;
        in_time(self.shared.until(|state| match state.standing() {
            Standing::Live => Some(Ok(answer(state.view()))),
            Standing::Away(outage) => Some(Err(unavailable(outage.cause.as_str()))),
            Standing::Opening | Standing::Settling { .. } => None,
        }))
        .await
    }

    /// Waits until the network was tried, and for what a change has to be sent.
    async fn write(
        &self,
        change: impl FnOnce(&mut State) -> Result<u64, Error>,
    ) -> Result<(), Error> {
        self.reach()?;
        in_time(async {
            self.shared.until(|state| (*state.standing() != Standing::Opening).then_some(())).await;
            let count = change(&mut self.shared.lock())?;
            self.shared.call();
            self.shared.until(|state| state.is_sent(count)).await
        })
        .await
    }
}

impl fmt::Debug for MdnsRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("MdnsRegistry")
            .field("config", &self.shared.config)
            .field("standing", state.standing())
            .field("nodes", &state.view().len())
            .field("watchers", &state.watchers())
            .finish()
    }
}

#[async_trait]
impl Registry for MdnsRegistry {
    fn name(&self) -> &str {
        "mdns"
    }

    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error> {
        validate::registration(registration, ttl)?;
        // Before any I/O; the longest stamp decides whether it fits.
        Announcement::here(&self.shared.config.namespace, registration, ttl, u64::MAX)?;
        self.write(|state| state.register(registration, ttl, Clock::read())).await
    }

    async fn deregister(&self, registration: &Registration) -> Result<(), Error> {
        validate::identity(registration)?;
        self.write(|state| state.deregister(registration, Clock::read())).await
    }

    async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
        validate::service_name(service)?;
        let services = self.read(|view| view.service(service)).await?;
        if services.is_empty() { Err(Error::not_found(service)) } else { Ok(services) }
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        self.read(View::list).await
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        scope.validate()?;
        self.shared.ensure_running();
        let (sender, watch) = Watch::channel(scope);
        self.shared.lock().attach(sender);
        Ok(watch)
    }
}
