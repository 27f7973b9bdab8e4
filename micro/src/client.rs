//! What finds services and calls them.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use micro_registry::{Registration, Registry};
use micro_rpc::{
    Address, Channel, ChannelConfig, InvalidAddress, MemoryNetwork, Name, Request, Response,
};
use micro_selector::{
    BudgetPolicy, Filter, RetryPolicy, Selector, StrategyKind, Subscription, ThrottlePolicy,
};
use tower::{Layer, Service};

use crate::balancing::{Balancing, HashBy, Settled};
use crate::layer::{BoxError, Layers, Next};
use crate::meter::Meter;
use crate::metrics::Figures;
use crate::send::Stacks;
use crate::settings::{Explanation, Resolved};
use crate::{Error, Result, Settings, open};

/// Finds services and calls them, through the generated clients.
///
/// Clones share everything: the watches on the registry, the connections, the retry budgets. Make
/// one per process. Dropping the last clone closes the connections.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    selector: Selector<Channel>,
    defaults: CallDefaults,
    stacks: Stacks,
    /// Where `memory:` addresses are.
    network: Option<MemoryNetwork>,
    meter: Meter,
}

/// What applies to calls that say nothing themselves.
#[derive(Clone, Debug)]
pub(crate) struct CallDefaults {
    pub(crate) timeout: Duration,
    pub(crate) wait_for_ready: bool,
    pub(crate) retry: RetryPolicy,
    /// The metadata whose value is the key of a call that says none.
    pub(crate) hash_by: Option<String>,
}

impl Client {
    /// A client of the registry the [`Settings`] name, or of the one the builder is given. Await
    /// the builder to get it; it does not wait for the registry to answer, and starts nothing before
    /// the first call.
    ///
    /// # Errors
    ///
    /// When awaited: `invalid_argument` for what makes no sense, naming the value, its origin and
    /// what would be right.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing behind.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> micro::Result<()> {
    /// let client = micro::Client::connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect() -> ClientBuilder {
        ClientBuilder::default()
    }

    /// The registry it looks services up in.
    pub fn registry(&self) -> &Arc<dyn Registry> {
        self.inner.selector.registry()
    }

    /// The cache of services it calls.
    pub fn selector(&self) -> &Selector<Channel> {
        &self.inner.selector
    }

    /// What its calls came to, and what it knows of the services it called, in the text format of
    /// OpenMetrics. A service shows this at `/metrics` for the clients it [is told of](crate::Service::metrics_of);
    /// a program without a service answers it where it likes.
    pub fn metrics(&self) -> String {
        let mut figures = Figures::default();
        figures.client(self);
        figures.into_text()
    }

    pub(crate) fn meter(&self) -> &Meter {
        &self.inner.meter
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.inner)
    }

    pub(crate) fn upgrade(inner: &Weak<Inner>) -> Option<Self> {
        Some(Self { inner: inner.upgrade()? })
    }

    pub(crate) fn call_defaults(&self) -> &CallDefaults {
        &self.inner.defaults
    }

    pub(crate) fn stacks(&self) -> &Stacks {
        &self.inner.stacks
    }

    pub(crate) fn network(&self) -> Option<&MemoryNetwork> {
        self.inner.network.as_ref()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("selector", &self.inner.selector)
            .field("defaults", &self.inner.defaults)
            .finish()
    }
}

/// How a [`Client`] is made. Setters may come in any order; [`Settings`] stand above them.
#[derive(Clone, Debug)]
#[must_use = "a client is made when its builder is awaited"]
pub struct ClientBuilder {
    settings: Option<Settings>,
    registry: Option<Arc<dyn Registry>>,
    balancing: Balancing,
    channel: ChannelConfig,
    timeout: Duration,
    wait_for_ready: bool,
    layers: Layers,
    attempt_layers: Layers,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            settings: None,
            registry: None,
            balancing: Balancing::default(),
            channel: ChannelConfig::default(),
            timeout: Duration::from_secs(10),
            wait_for_ready: false,
            layers: Layers::default(),
            attempt_layers: Layers::default(),
        }
    }
}

impl ClientBuilder {
    /// Where services are looked up. Default: the `local:` registry.
    pub fn registry(mut self, registry: impl Registry) -> Self {
        self.registry = Some(Arc::new(registry));
        self
    }

    /// The settings to read instead of those of the process; [`Settings::none`] for none.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// How nodes are picked. Default: `ewma`, the soonest expected answer out of five nodes.
    pub fn strategy(mut self, strategy: StrategyKind) -> Self {
        self.balancing.strategy = Some(strategy);
        self
    }

    /// The metadata by whose value `consistent-hash` picks, unless a call says its
    /// [key](crate::Call::hash_key) itself. [Baggage](crate::Context::BAGGAGE) travels from service to
    /// service, so it is a good one. Calls without such an entry go to any node.
    pub fn hash_by(mut self, metadata_key: impl Into<String>) -> Self {
        self.balancing.hash_by = Some(HashBy::Metadata(metadata_key.into()));
        self
    }

    /// Lets `consistent-hash` pick by the [keys](crate::Call::hash_key) of calls alone; those without
    /// one go to any node.
    pub fn hash_by_call_keys(mut self) -> Self {
        self.balancing.hash_by = Some(HashBy::Calls);
        self
    }

    /// The failure domain it runs in. Nodes there are preferred while at least three of them are
    /// ready, and the best takes at most twice as long as is normal elsewhere. Default: none, all
    /// nodes are alike.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.balancing.zone = Some(zone.into());
        self
    }

    /// Which nodes come into question, for all calls; a call may leave out
    /// [more](crate::Call::filter) of them. Default: all.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.balancing.filter = Some(filter);
        self
    }

    /// How long a call may take that says nothing itself. Default: 10 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether calls wait for a node when none is registered, so that services can be started in
    /// any order. Default: they fail at once.
    pub fn wait_for_ready(mut self, wait: bool) -> Self {
        self.wait_for_ready = wait;
        self
    }

    /// When calls are tried again. Default: see [`RetryPolicy`].
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.balancing.retry = Some(retry);
        self
    }

    /// How many retries the calls to each service have in all, besides those that cost no server
    /// anything. Default: one in five calls, and ten a second.
    pub fn retry_budget(mut self, budget: BudgetPolicy) -> Self {
        self.balancing.budget = Some(budget);
        self
    }

    /// When calls of a service that refuses many as overloaded end before they are sent, `None` for
    /// never. Default: see [`ThrottlePolicy`].
    pub fn throttle(mut self, throttle: impl Into<Option<ThrottlePolicy>>) -> Self {
        self.balancing.throttle = Some(throttle.into());
        self
    }

    /// How many connections are kept to each node; calls of all callers share them. Default: 1.
    pub fn connections_per_node(mut self, connections: usize) -> Self {
        self.channel.connections = connections;
        self
    }

    /// Puts a layer around every call, its retries included; one that is added later lies further
    /// inside. See [`layer`](crate::layer).
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Next> + Send + Sync + 'static,
        L::Service: Service<Request, Response = Response> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Error: Into<BoxError>,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.layers.push(layer);
        self
    }

    /// Puts a layer around each attempt of every call, with the node's
    /// [address](crate::rpc::Address) among the request's extensions. See [`layer`](crate::layer).
    pub fn attempt_layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Next> + Send + Sync + 'static,
        L::Service: Service<Request, Response = Response> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Error: Into<BoxError>,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.attempt_layers.push(layer);
        self
    }

    /// Calls `memory:` addresses in this network inside the process, as [`test::Net`] does.
    ///
    /// [`test::Net`]: crate::test::Net
    pub fn memory_network(mut self, network: MemoryNetwork) -> Self {
        self.channel.memory = Some(network);
        self
    }

    /// How connections are made and kept, in all particulars. The memory network stays, unless this
    /// names another one.
    pub fn channel(mut self, config: ChannelConfig) -> Self {
        let memory = config.memory.or(self.channel.memory);
        self.channel = ChannelConfig { memory, ..config };
        self
    }

    async fn build(self) -> Result<Client> {
        let settings = self.settings.clone().map_or_else(Settings::from_process, Ok)?;
        settings.end_if_to_explain(|| self.explained(&settings).to_string());
        settings.warn_of_ignored();
        let registry = open::registry(&settings, self.registry.clone()).await?;
        self.build_on(&settings, registry)
    }

    fn explained(&self, settings: &Settings) -> Explanation {
        let mut said = self.balancing.said();
        if let Some(registry) = &self.registry {
            said.insert("registry", Resolved::by_code(registry.name().to_owned()));
        }
        Explanation::new(settings, &said)
    }

    /// The client, over a registry that is open already.
    pub(crate) fn build_on(
        self,
        settings: &Settings,
        registry: Arc<dyn Registry>,
    ) -> Result<Client> {
        let stacks = Stacks::new(&self.layers, &self.attempt_layers);
        let Self { balancing, channel, timeout, wait_for_ready, .. } = self;
        if channel.connections == 0 {
            let why = "connections_per_node 0 from code is invalid: expected 1 or more";
            return Err(Error::invalid(why));
        }
        if timeout.is_zero() {
            return Err(Error::invalid("timeout 0s from code is invalid: expected more than zero"));
        }
        let Settled { selector: config, retry, hash_by } = balancing.settle(settings)?;
        let defaults = CallDefaults { timeout, wait_for_ready, retry, hash_by };
        let network = channel.memory.clone();
        let connect = move |registration: &Registration| channel_to(registration, &channel);
        let selector = Selector::avoiding(registry, config, connect, Channel::is_away);
        let meter = Meter::default();
        Ok(Client { inner: Arc::new(Inner { selector, defaults, stacks, network, meter }) })
    }
}

fn channel_to(
    registration: &Registration,
    config: &ChannelConfig,
) -> std::result::Result<Channel, String> {
    let address: Address =
        registration.node.address.parse().map_err(|error: InvalidAddress| error.to_string())?;
    Ok(Channel::new(address, config.clone()))
}

impl IntoFuture for ClientBuilder {
    type Output = Result<Client>;
    type IntoFuture = BoxFuture<'static, Result<Client>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.build())
    }
}

/// A service as a generated client calls it.
#[derive(Clone)]
pub struct Target(Arc<TargetInner>);

struct TargetInner {
    client: Client,
    service: Name,
    /// Made with the first call, since making a client starts nothing.
    subscription: OnceLock<Arc<Subscription<Channel>>>,
}

#[allow(missing_docs)] // Called by the macros' expansions only.
impl Target {
    pub fn new(client: &Client, service: impl Into<String>) -> Self {
        let (client, service) = (client.clone(), Name::from(service.into()));
        Self(Arc::new(TargetInner { client, service, subscription: OnceLock::new() }))
    }

    pub(crate) fn service(&self) -> &Name {
        &self.0.service
    }

    pub(crate) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(crate) fn subscription(
        &self,
    ) -> std::result::Result<&Arc<Subscription<Channel>>, micro_registry::Error> {
        if let Some(subscription) = self.0.subscription.get() {
            return Ok(subscription);
        }
        let subscription = self.0.client.selector().subscribe(&self.0.service)?;
        Ok(self.0.subscription.get_or_init(|| subscription))
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("service", &self.0.service).finish_non_exhaustive()
    }
}
