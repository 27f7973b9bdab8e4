//! The builder of a service.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use micro_registry::{Endpoints, Metadata, Node, Registration, Registry, validate};
use micro_rpc::{Address, Limits, Listener, MemoryNetwork, Request, Response};
use tower::Layer;

use crate::layer::{BoxError, Layers, Next};
use crate::open::OpenRegistry;
use crate::registrar::Timing;
use crate::running::{RunningService, Signals, Start};
use crate::settings::{Resolved, Settings};
use crate::{Code, Contract, Error, Phase, Result, advertise, duration, open};

/// A service: what it serves, under which name, and where it registers.
///
/// Setters may come in any order; [`Settings`] stand above them. Nothing happens before
/// [`run`](Self::run), [`serve_until`](Self::serve_until) or [`start`](Self::start).
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

    /// How long the registry keeps it without hearing of it: at least twice the interval. Default:
    /// 30 s.
    pub fn register_ttl(mut self, ttl: Duration) -> Self {
        self.register_ttl = Some(ttl);
        self
    }

    /// How often it renews its registration. Default: 10 s.
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

    /// Listens in this network inside the process, for tests; `address` is `memory:name` then.
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

    /// Everything settled that can be before anything happens.
    async fn plan(self) -> Result<Plan> {
        let settings = self.settings.map_or_else(Settings::from_process, Ok)?;
        let registry = open::registry(&settings, self.registry).await?;
        let (name, version) = (self.name, self.version);
        let name = settings.resolve("name", name, checked(validate::service_name))?;
        let name = match name {
            Some(name) => check(name, "name", validate::service_name)?,
            None => default_name(&self.contracts)?.to_owned(),
        };
        let version = settings.resolve("version", version, checked(validate::version))?;
        let version = version.unwrap_or_else(|| Resolved::by_default("latest".to_owned()));
        let version = check(version, "version", validate::version)?;
        let default_address = if registry.is_one_host { "127.0.0.1:0" } else { "0.0.0.0:0" };
        let address = settings.resolve("address", self.address, |text| Ok(text.to_owned()))?;
        let address = address.unwrap_or_else(|| Resolved::by_default(default_address.to_owned()));
        let address = parse_address(&address)?;
        let advertise =
            settings.resolve("advertise", self.advertise, |text| Ok(text.to_owned()))?;
        let zone = settings.resolve("zone", self.zone, checked(validate::zone))?;
        let timing = timing(&settings, self.register_ttl, self.register_interval)?;
        let id = self.id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        // The address is set once it is bound.
        let mut node = Node::new(id, String::new());
        node.epoch = unix_milliseconds();
        node.weight = self.weight.unwrap_or(Node::DEFAULT_WEIGHT);
        node.zone = zone.map(|zone| zone.value);
        let mut registration = Registration::new(name, version, node);
        registration.metadata = self.metadata;
        let endpoints = self.contracts.iter().flat_map(Contract::endpoints).collect();
        registration.endpoints = Endpoints::Listed(endpoints);
        Ok(Plan {
            registration,
            address,
            advertise,
            timing,
            registry,
            contracts: self.contracts,
            layers: self.layers,
            limits: self.limits,
            memory: self.memory,
            shutdown_timeout: self.shutdown_timeout.unwrap_or(DEFAULT_SHUTDOWN).min(FOREVER),
            settings,
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

struct Plan {
    registration: Registration,
    address: Address,
    advertise: Option<Resolved<String>>,
    timing: Timing,
    registry: OpenRegistry,
    contracts: Vec<Contract>,
    layers: Layers,
    limits: Limits,
    memory: Option<MemoryNetwork>,
    shutdown_timeout: Duration,
    settings: Settings,
}

const DEFAULT_SHUTDOWN: Duration = Duration::from_secs(30);
/// As good as no bound, and within what clocks can add.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
const DEFAULT_TTL: Duration = Duration::from_secs(30);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);

fn timing(
    settings: &Settings,
    ttl: Option<Duration>,
    interval: Option<Duration>,
) -> Result<Timing> {
    let ttl = settings.resolve("register_ttl", ttl, duration::parse)?;
    let ttl = ttl.unwrap_or(Resolved::by_default(DEFAULT_TTL));
    let interval = settings.resolve("register_interval", interval, duration::parse)?;
    let interval = interval.unwrap_or(Resolved::by_default(DEFAULT_INTERVAL));
    if interval.value.is_zero() {
        let origin = &interval.origin;
        let message = format!("register_interval 0s from {origin} is invalid: expected more");
        return Err(Error::invalid(message));
    }
    if ttl.value < interval.value.saturating_mul(2) {
        return Err(Error::invalid(format!(
            "register_ttl {:?} from {} is less than twice register_interval {:?} from {}: one lost \
             renewal would take the service out; expected {:?} or more",
            ttl.value,
            ttl.origin,
            interval.value,
            interval.origin,
            interval.value.saturating_mul(2),
        )));
    }
    Ok(Timing { ttl: ttl.value, interval: interval.value })
}

type Rule = fn(&str) -> std::result::Result<(), micro_registry::Error>;

/// A parser for text that must keep a rule of the model.
fn checked(rule: Rule) -> impl Fn(&str) -> std::result::Result<String, String> {
    move |text| rule(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// The same for a value from code, which no parser has seen.
fn check(resolved: Resolved<String>, key: &str, rule: Rule) -> Result<String> {
    let Resolved { value, origin } = resolved;
    match rule(&value) {
        Ok(()) => Ok(value),
        Err(error) => Err(Error::invalid(format!("{key} from {origin}: {error}"))),
    }
}

fn parse_address(resolved: &Resolved<String>) -> Result<Address> {
    let Resolved { value, origin } = resolved;
    value.parse().map_err(|error: micro_rpc::InvalidAddress| {
        Error::invalid(format!("address {value:?} from {origin} is invalid: {error}"))
    })
}

fn default_name(contracts: &[Contract]) -> Result<&str> {
    match contracts {
        [only] => Ok(only.name()),
        [] => Err(Error::invalid("the service has no name and nothing to serve: call `.serve(…)`")),
        several => {
            let names: Vec<_> = several.iter().map(Contract::name).collect();
            let names = names.join(", ");
            Err(Error::invalid(format!(
                "the service has no name, and several contracts ({names}): call `.name(…)`"
            )))
        }
    }
}

async fn listen(address: &Address, memory: Option<&MemoryNetwork>) -> Result<Listener> {
    let listener = match (address, memory) {
        (Address::Memory(name), Some(network)) => network.listen(name.clone()),
        _ => Listener::bind(address).await,
    };
    listener.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}");
        Error::at(Code::Unavailable, Phase::Start, message).with_source(error)
    })
}

fn unix_milliseconds() -> u64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
