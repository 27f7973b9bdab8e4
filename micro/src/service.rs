//! The builder of a service.

mod plan;

use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use micro_registry::{Metadata, Registry, validate};
use micro_rpc::{Address, Limits, Listener, MemoryNetwork, Request, Response, ServerConfig};
use tower::Layer;

use crate::health::Check;
use crate::hooks::{Hooks, Stage};
use crate::layer::{BoxError, Layers, Next};
use crate::metrics::Shown;
use crate::running::{RunningService, Start};
use crate::settings::{Resolved, Settings};
use plan::Place;

use crate::{Client, Code, Contract, Error, Group, Phase, Result, advertise};

/// A service: what it serves, under which name, and where it registers.
///
/// Setters may come in any order; [`Settings`] stand above them. Nothing happens before
/// [`run`](Self::run), [`serve_until`](Self::serve_until) or [`start`](Self::start).
///
/// # Several services in one process
///
/// Run them in a [`Group`]. Run each by itself, and `MICRO_NAME`, `MICRO_ADDRESS` and the like apply
/// to all of them: the second could not listen where the first does.
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
    pub(crate) settings: Option<Settings>,
    registry: Option<Arc<dyn Registry>>,
    name: Option<String>,
    version: Option<String>,
    id: Option<String>,
    address: Option<String>,
    /// Or why one is none, which the start says.
    listeners: Vec<std::result::Result<Listener, String>>,
    advertise: Option<String>,
    hosts: Vec<String>,
    zone: Option<String>,
    weight: Option<u16>,
    metadata: Metadata,
    register_ttl: Option<Duration>,
    register_interval: Option<Duration>,
    health_check: Option<Arc<Check>>,
    health_interval: Option<Duration>,
    drain_delay: Option<Duration>,
    shutdown_timeout: Option<Duration>,
    hooks: Hooks,
    limits: Limits,
    memory: Option<MemoryNetwork>,
    contracts: Vec<Contract>,
    layers: Layers,
    pub(crate) shown: Shown,
}

impl Service {
    /// A service with nothing to serve yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A service whose settings are those of the process with the flags of the command line above
    /// them, for programs that have no flags of their own: see [`Settings::from_args`], which may end
    /// the process.
    ///
    /// ```no_run
    /// # #[micro::service]
    /// # pub trait Greeter { async fn hello(&self, name: String) -> String; }
    /// # struct English;
    /// # impl Greeter for English { async fn hello(&self, name: String) -> String { name } }
    /// # async fn example() -> micro::Result<()> {
    /// micro::Service::from_args().serve(GreeterServer::new(English)).run().await
    /// # }
    /// ```
    pub fn from_args() -> Self {
        Self::new().settings(Settings::from_args())
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

    /// Serves on a listener the program made, instead of an [`address`](Self::address): one that was
    /// handed to the process, or has options of its own. TCP and Unix listeners of tokio and of the
    /// standard library are such; may be called several times, and others are told the first. One
    /// that cannot be served on is an error of the start.
    ///
    /// An `address` beside it, from wherever it comes, makes the start fail: it would be one more
    /// place, or the same one twice. So where `MICRO_ADDRESS` is set, take
    /// [`settings`](Self::settings) without it.
    ///
    /// ```
    /// # #[tokio::main]
    /// # async fn main() -> std::io::Result<()> {
    /// # use micro::rpc::Listener;
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("shop.sock");
    /// let inherited = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let unix = micro::rpc::Address::Unix(path.into());
    ///
    /// micro::Service::new()
    ///     .listener(inherited)
    ///     .listener(Listener::bind(&unix).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn listener<L>(mut self, listener: L) -> Self
    where
        L: TryInto<Listener, Error: fmt::Display>,
    {
        self.listeners.push(listener.try_into().map_err(|error| error.to_string()));
        self
    }

    /// The address others are told, or only its host. Default: the bound address, or where that is
    /// unspecified the first interface's that is not the loopback.
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Adds names, without a port, by which HTTP callers know it, besides IP addresses, `localhost`,
    /// names without a dot and the advertised one. A request that names another host is answered
    /// 403, lest a page of a foreign site calls the service by a name of its own:
    /// [`ServerConfig::hosts`](crate::rpc::ServerConfig::hosts).
    pub fn hosts<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.hosts.extend(names.into_iter().map(Into::into));
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

    /// Asks the program on every interval whether it can serve, and at the start before it does.
    ///
    /// While the check fails, panics or does not end within the interval, the node is registered as
    /// *not serving*: it gets no new calls, and `/health/ready` answers 503 with the reason. That is
    /// told to the registry at once, and taken back as soon as the check passes. A failing check
    /// never deregisters, and calls that arrive all the same are served. Default: none, always well.
    ///
    /// ```
    /// # async fn ping() -> Result<(), std::io::Error> { Ok(()) }
    /// micro::Service::new().health_check(|| async {
    ///     ping().await?;
    ///     Ok(())
    /// });
    /// ```
    pub fn health_check<F, Fut>(mut self, check: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.health_check = Some(Arc::new(move || check().boxed()));
        self
    }

    /// How long after a health check the next one begins, and how long one may take: at least
    /// 100 ms. Default: 10 s.
    pub fn health_interval(mut self, interval: Duration) -> Self {
        self.health_interval = Some(interval);
        self
    }

    /// How long it still accepts calls when it stops, after its clients and the registry were told
    /// that it will: long enough for the news to get around, at most 5 min. Default: 2 s; tests do
    /// well with zero.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = Some(delay);
        self
    }

    /// How long running calls may take to finish when it stops, and each hook. Default: 30 s.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = Some(timeout);
        self
    }

    /// Runs this before it listens, once its settings are known to make sense.
    ///
    /// # Hooks
    ///
    /// The hooks of one kind run one after the other, in the order in which they were added. When
    /// one of the start fails, or panics, the start does: no further ones of the start run, but
    /// those of the end do, all of them after an `after_start` hook and `after_stop` alone after a
    /// `before_start` hook. A hook of the end that fails, panics or does not end within the
    /// [`shutdown_timeout`](Self::shutdown_timeout) is logged, and what follows happens all the
    /// same. Nothing runs when a service is dropped or its end is forced.
    ///
    /// ```
    /// # async fn warm_up() -> Result<(), std::io::Error> { Ok(()) }
    /// micro::Service::new()
    ///     .before_start(|| async {
    ///         warm_up().await?;
    ///         Ok(())
    ///     })
    ///     .after_stop(|| async {
    ///         println!("bye");
    ///         Ok(())
    ///     });
    /// ```
    pub fn before_start<F, Fut>(self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.hook(Stage::BeforeStart, hook)
    }

    /// Runs this once it listens and has begun to register. See [`before_start`](Self::before_start).
    pub fn after_start<F, Fut>(self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.hook(Stage::AfterStart, hook)
    }

    /// Runs this first when it stops, while everything still works. See
    /// [`before_start`](Self::before_start).
    pub fn before_stop<F, Fut>(self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.hook(Stage::BeforeStop, hook)
    }

    /// Runs this when its last call has ended and it has been taken out of the registry, or the
    /// attempt has failed. See [`before_start`](Self::before_start).
    pub fn after_deregister<F, Fut>(self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.hook(Stage::AfterDeregister, hook)
    }

    /// Runs this last. See [`before_start`](Self::before_start).
    pub fn after_stop<F, Fut>(self, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.hook(Stage::AfterStop, hook)
    }

    /// Shows the figures of a client at `/metrics` as well, and what it calls at `/info`. Those of the
    /// [clients this service gives](RunningService::client) are there by themselves.
    pub fn metrics_of(self, client: &Client) -> Self {
        self.shown.add(client);
        self
    }

    /// What it accepts from peers, and how much it does at once. The settings of each limit, such as
    /// `max_running`, stand above it. A value out of its range is an error of the start.
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

    /// Every key with its value and where that comes from, what code says included, one line each;
    /// passwords are not shown. The values need not make sense: nothing is checked.
    ///
    /// # Errors
    ///
    /// Those of [`Settings::from_process`], if the service was not handed any.
    pub fn explain(&self) -> Result<impl fmt::Display + use<>> {
        let settings = self.own_settings()?;
        Ok(self.explained(&settings))
    }

    /// Whether all that is known before anything happens makes sense: settings, what code says and
    /// the contracts. It opens the registry, asks it nothing and listens on nothing; what depends on
    /// where the service comes to listen, as its advertised address does, is left to the start, and so
    /// are `--explain-config` and warnings of what is ignored.
    ///
    /// # Errors
    ///
    /// `invalid_argument`, as [`start`](Self::start) would fail with.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing.
    pub async fn check(self) -> Result<()> {
        let settings = self.own_settings()?;
        self.plan(settings).await.map(drop)
    }

    /// Serves until the process is told to stop by SIGINT or SIGTERM, then [shuts
    /// down](RunningService::shutdown). A signal during the start ends that too.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and `aborted` when a second signal forced the end: running calls
    /// were aborted, hooks that had not run did not, and the registration, which says *draining*, is
    /// left to its TTL. Return it from `main`, and the process ends with exit code 1.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts the service without deregistering it.
    pub async fn run(self) -> Result<()> {
        Group::new().service(self).run().await
    }

    /// Serves until the future ends, then [shuts down](RunningService::shutdown). Installs no
    /// signal handler. The future may end during the start.
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
    /// Dropping the future aborts the service without deregistering it.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) -> Result<()> {
        Group::new().service(self).serve_until(stop).await
    }

    /// Listens, serves and begins to register. Does not wait for the registry:
    /// [`RunningService::registered`] tells when it is done.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for what makes no sense, naming the value, its origin and what would be
    /// right; `unavailable` when it cannot listen; `failed_precondition` when a hook fails, with its
    /// error as the source.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves nothing running, as dropping the service does.
    pub async fn start(self) -> Result<RunningService> {
        match self.start_until(pin!(pending::<Infallible>())).await {
            Started::Running(running) => Ok(*running),
            Started::Told(_, never) => match never {},
            Started::Failed(remains, error) => {
                remains.end().await;
                Err(error)
            }
        }
    }

    /// Starts, unless it is told to stop. What remains of a start that came to nothing is not ended
    /// yet: whoever listens for signals goes on listening meanwhile.
    pub(crate) async fn start_until<T>(
        mut self,
        mut stop: Pin<&mut impl Future<Output = T>>,
    ) -> Started<T> {
        let (mut hooks, grace) = (std::mem::take(&mut self.hooks), self.grace());
        let launched = tokio::select! {
            biased;
            launched = self.launch(&mut hooks) => launched,
            told = stop.as_mut() => {
                tracing::info!("told to stop before it served");
                return Started::Told(Remains::Hooks(hooks, grace), told);
            }
        };
        let mut running = match launched {
            Ok(running) => Box::new(running),
            Err(error) => return Started::Failed(Remains::Hooks(hooks, grace), error),
        };
        running.hooks = hooks;
        let told = tokio::select! {
            biased;
            started = running.hooks.start(Stage::AfterStart) => started.map(|()| None),
            told = stop => Ok(Some(told)),
        };
        match told {
            Ok(None) => Started::Running(running),
            Ok(Some(told)) => Started::Told(Remains::Service(running), told),
            Err(error) => Started::Failed(Remains::Service(running), error),
        }
    }

    /// What people call it, before its settings are looked at.
    pub(crate) fn label(&self) -> String {
        let names = self.contracts.iter().map(Contract::name);
        self.name.clone().unwrap_or_else(|| names.collect::<Vec<_>>().join("+"))
    }

    async fn launch(self, hooks: &mut Hooks) -> Result<RunningService> {
        let settings = self.own_settings()?;
        settings.end_if_to_explain(|| self.explained(&settings).to_string());
        settings.warn_of_ignored();
        let plan = self.plan(settings).await?;
        hooks.start(Stage::BeforeStart).await?;
        let listeners = match plan.place {
            Place::Bound(listeners) => listeners,
            Place::Address(address) => vec![listen(&address, plan.memory.as_ref()).await?],
        };
        let bound = listeners.first().expect("a plan has one at least").local_address();
        let advertised = advertise::choose(&bound, plan.advertise, &advertise::interfaces())?;
        tracing::info!(address = %advertised.address, reason = advertised.reason, "advertising");
        let mut registration = plan.registration;
        registration.node.address = advertised.address.to_string();
        validate::registration(&registration, plan.timing.ttl)?;
        Ok(RunningService::start(Start {
            registration,
            listeners,
            server: plan.server,
            description: plan.description,
            explanation: plan.explanation,
            shown: plan.shown,
            config: ServerConfig { limits: plan.limits, hosts: plan.hosts },
            registry: plan.registry,
            timing: plan.timing,
            health: plan.health,
            ending: plan.ending,
            settings: plan.settings,
            memory: plan.memory,
        }))
    }

    fn hook<F, Fut>(mut self, stage: Stage, hook: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.hooks.add(stage, hook);
        self
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

/// How a start ended.
pub(crate) enum Started<T> {
    /// It serves.
    Running(Box<RunningService>),
    /// It was told to stop: before it served, or while its last hooks ran.
    Told(Remains, T),
    /// It could not start.
    Failed(Remains, Error),
}

/// What a start that came to nothing leaves to be ended; dropping it runs no hooks.
pub(crate) enum Remains {
    /// It came no further than to its first hooks; each has so long.
    Hooks(Hooks, Duration),
    /// It serves.
    Service(Box<RunningService>),
}

impl Remains {
    /// Ends it in good order.
    pub(crate) async fn end(self) {
        match self {
            Self::Hooks(hooks, patience) => hooks.give_up(patience).await,
            Self::Service(running) => running.shutdown().await,
        }
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
