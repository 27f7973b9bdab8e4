//! The builder of a service.

mod plan;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use micro_registry::{Metadata, Registry, validate};
use micro_rpc::{Address, Limits, Listener, MemoryNetwork, Request, Response};
use tower::Layer;

use crate::layer::{BoxError, Layers, Next};
use crate::running::{RunningService, Signals, Start};
use crate::settings::{Resolved, Settings};
use crate::{Code, Contract, Error, Phase, Result, advertise};

/// A service: what it serves, under which name, and where it registers.
///
/// Setters may come in any order; [`Settings`] stand above them. Nothing happens before
/// [`run`](Self::run), [`serve_until`](Self::serve_until) or [`start`](Self::start).
///
/// # Several services in one process
///
/// Each reads the settings of the process, so `MICRO_NAME`, `MICRO_ADDRESS` and the like would apply
/// to all of them: the second could not listen where the first does. Give them
/// `.settings(Settings::none())`, or each its own with [`Settings::flag`].
///
/// # Examples
///
/// ```no_run
/// # #[micro::service]
/// # pub trait Greeter { async fn hello(&self, name: String) -> String; }
/// # struct English;
/// # impl Greeter for English { async fn hello(&self, name: String) -> String { name } }
/// # async fn example() -> micro::Result<()> {
/// use std::time::Duration;
///
/// micro::Service::new()
///     .name("greeter")
///     .register_ttl(Duration::from_secs(30))
///     .register_interval(Duration::from_secs(10))
///     .serve(GreeterServer::new(English))
///     .run()
///     .await
/// # }
/// ```
#[derive(Default)]
#[must_use = "a service does nothing until it is run"]
pub struct Service {
    settings: Option<Settings>,
    registry: Option<Arc<dyn Registry>>,
    name: Option<String>,
    version: Option<String>,
    id: Option<String>,
    address: Option<String>,
    advertise: Option<String>,
    zone: Option<String>,
    weight: Option<u16>,
    metadata: Metadata,
    register_ttl: Option<Duration>,
    register_interval: Option<Duration>,
    shutdown_timeout: Option<Duration>,
    limits: Limits,
    memory: Option<MemoryNetwork>,
    contracts: Vec<Contract>,
    layers: Layers,
}

impl Service {
    /// A service with nothing to serve yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves a contract. May be called several times, for several contracts.
    pub fn serve(mut self, contract: impl Into<Contract>) -> Self {
        self.contracts.push(contract.into());
        self
    }

    /// Puts a layer around all methods; one that is added later lies further inside. See
    /// [`layer`](crate::layer).
    pub fn layer<L>(mut self, layer: L) -> Self
    where
        L: Layer<Next> + Send + Sync + 'static,
        L::Service: tower::Service<Request, Response = Response> + Clone + Send + Sync + 'static,
        <L::Service as tower::Service<Request>>::Error: Into<BoxError>,
        <L::Service as tower::Service<Request>>::Future: Send + 'static,
    {
        self.layers.push(layer);
        self
    }

    /// The name it is looked up by: `[a-z0-9._-]{1,128}`. Default: the name of its only contract.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Its version, semantic or `latest`. Default: `latest`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// The id of this node: `[A-Za-z0-9._-]{1,96}`, unique within the service. Default: a UUID made
    /// at the start. A fixed id lets a restarted process take its predecessor's place.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Where to listen: `ip:port`, `host:port` or `unix:/path`. Default: a free port, on the loopback
    /// when the registry reaches no further than this host, else on all interfaces.
    pub fn address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// The address others are told, or only its host. Default: the bound address, or where that is
    /// unspecified the first interface's that is not the loopback.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// The failure domain it runs in. Default: none.
    pub fn zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Its share of traffic relative to its neighbours: 0..=10 000, default 100; 0 gets none.
    pub fn weight(mut self, weight: u16) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Adds a label, for people and filters.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// Where it registers. Default: the `local:` registry.
    pub fn registry(mut self, registry: impl Registry) -> Self {
        self.registry = Some(Arc::new(registry));
        self
    }

    /// How long the registry keeps it without hearing of it: at least twice the interval, at most a
    /// year. Default: 30 s.
    pub fn register_ttl(mut self, ttl: Duration) -> Self {
        self.register_ttl = Some(ttl);
        self
    }

    /// How often it renews its registration: at least 100 ms. Default: 10 s.
    pub fn register_interval(mut self, interval: Duration) -> Self {
        self.register_interval = Some(interval);
        self
    }

    /// How long running calls may take to finish when it stops. Default: 30 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// What it accepts from peers.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Listens in this network inside the process, as [`test::Net`] makes it do; `address` is
    /// `memory:name` then.
    ///
    /// [`test::Net`]: crate::test::Net
    pub fn memory_network(mut self, network: MemoryNetwork) -> Self {
        self.memory = Some(network);
        self
    }

    /// The settings to read instead of those of the process; [`Settings::none`] for none.
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = Some(settings);
        self
    }

    /// Serves until the process is told to stop by SIGINT or SIGTERM, then [shuts
    /// down](RunningService::shutdown); a second signal ends it at once.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn run(self) -> Result<()> {
        let signals = Signals::listen()?;
        self.start().await?.run_until(signals).await;
        Ok(())
    }

    /// Serves until the future ends, then [shuts down](RunningService::shutdown). Installs no
    /// signal handler.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the service without deregistering it.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) -> Result<()> {
        let running = self.start().await?;
        stop.await;
        running.shutdown().await;
        Ok(())
    }

    /// Listens, serves and begins to register. Does not wait for the registry.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for what makes no sense, naming the value, its origin and what would be
    /// right; `unavailable` when it cannot listen.
    pub async fn start(self) -> Result<RunningService> {
        let plan = self.plan().await?;
        let listener = listen(&plan.address, plan.memory.as_ref()).await?;
        let bound = listener.local_address();
        let advertised = advertise::choose(&bound, plan.advertise, &advertise::interfaces())?;
        tracing::info!(address = %advertised.address, reason = advertised.reason, "advertising");
        let mut registration = plan.registration;
        registration.node.address = advertised.address.to_string();
        validate::registration(&registration, plan.timing.ttl)?;
        RunningService::start(Start {
            registration,
            listener,
            contracts: plan.contracts,
            layers: plan.layers,
            limits: plan.limits,
            registry: plan.registry,
            timing: plan.timing,
            shutdown_timeout: plan.shutdown_timeout,
            settings: plan.settings,
            memory: plan.memory,
        })
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("name", &self.name)
            .field("contracts", &self.contracts)
            .field("layers", &self.layers)
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

async fn listen(address: &Resolved<Address>, memory: Option<&MemoryNetwork>) -> Result<Listener> {
    let Resolved { value: address, origin } = address;
    let listener = match (address, memory) {
        (Address::Memory(name), Some(network)) => network.listen(name.clone()),
        _ => Listener::bind(address).await,
    };
    listener.map_err(|error| {
        let message = format!("cannot listen on address \"{address}\" from {origin}");
        Error::at(Code::Unavailable, Phase::Start, message).with_source(error)
    })
}
