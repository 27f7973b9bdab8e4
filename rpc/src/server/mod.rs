//! The server: accepting connections, draining and shutting down.

mod accept;
mod call;
mod episode;
mod gate;
#[cfg(feature = "http")]
pub(crate) mod http;
mod places;
mod queue;
mod rate;
mod router;
mod session;
mod shared;
mod stall;
mod stats;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

#[cfg(feature = "http")]
pub use self::http::{Asked, HttpBody, HttpService, Page};
pub use self::router::{DuplicateRoute, Handler, Router};
use self::shared::{Phase, Shared};
pub use self::stats::{MethodStats, ServerStats};
use crate::limits::YEAR;
use crate::{Address, Limits, Listener};

/// Answers whether the service can serve, with the reason when it cannot.
type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

/// How long a peer may take to read the last answers and close.
const LINGER: Duration = Duration::from_secs(1);

/// Answers calls with the handlers of a [`Router`], on any number of listeners.
///
/// The first byte of a connection says which protocol it speaks: `micro/1`, or HTTP/1.1 with the
/// feature `http`.
///
/// # Examples
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use micro_rpc::{Channel, ChannelConfig, Codec, Listener, Request, Response, Router, Server};
///
/// let echo = |request: Request| async move { Ok(Response::new(request.codec, request.body)) };
/// let listener = Listener::bind(&"127.0.0.1:0".parse()?).await?;
/// let server = Server::new(Router::new().route("echo", "say", echo))?.start(vec![listener]);
///
/// let channel = Channel::new(server.addresses()[0].clone(), ChannelConfig::default());
/// let body = Codec::Json.encode("hello")?;
/// let answer = channel.call(&Request::new("echo", "say", Codec::Json, body)).await?;
/// assert_eq!(answer.body, "\"hello\"");
/// server.shutdown(std::time::Duration::from_secs(1)).await;
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
/// ```
#[must_use]
pub struct Server {
    routes: router::Routes,
    config: ServerConfig,
    web: Web,
}

/// What only HTTP clients see.
#[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP asks"))]
struct Web {
    /// Those of the configuration, once it has started.
    hosts: Arc<[String]>,
    ready: Ready,
    describe: Bytes,
    #[cfg(feature = "http")]
    pages: Vec<Page>,
}

impl Default for Web {
    fn default() -> Self {
        Self {
            hosts: Arc::default(),
            ready: Arc::new(|| Ok(())),
            describe: Bytes::from_static(b"{}"),
            #[cfg(feature = "http")]
            pages: Vec::new(),
        }
    }
}

/// How a [`Server`] behaves.
#[derive(Clone, Debug, Default)]
pub struct ServerConfig {
    /// Bounds on what clients can make the server hold.
    pub limits: Limits,
    /// Names an HTTP client may use for this server in its `Host` header, besides IP addresses,
    /// `localhost` and names without a dot; none by default.
    ///
    /// A page of a foreign site can point its own name at this server (DNS rebinding), and then
    /// send requests that its browser takes for harmless. Such requests carry that name.
    pub hosts: Vec<String>,
}

impl Server {
    /// Creates a server of these methods.
    ///
    /// # Errors
    ///
    /// When a method has two handlers.
    pub fn new(router: Router) -> Result<Self, DuplicateRoute> {
        Ok(Self { routes: router.build()?, config: ServerConfig::default(), web: Web::default() })
    }

    /// Sets how the server behaves.
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.config = config;
        self
    }

    /// Sets what `GET /health/ready` asks; by default a server is ready until it drains.
    ///
    /// It is called for each request, so it must be quick.
    pub fn ready(mut self, ready: Arc<dyn Fn() -> Result<(), String> + Send + Sync>) -> Self {
        self.web.ready = ready;
        self
    }

    /// Sets the JSON that `GET /describe` answers; `{}` by default.
    pub fn describe(mut self, json: Bytes) -> Self {
        self.web.describe = json;
        self
    }

    /// Adds something else that is answered over HTTP; what is built in stands above it, and of two
    /// pages that would answer the same the first does.
    #[cfg(feature = "http")]
    pub fn page(mut self, page: Page) -> Self {
        self.web.pages.push(page);
        self
    }

    /// Serves these listeners, in tasks that the returned handle owns.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(self, listeners: Vec<Listener>) -> ServerHandle {
        let Self { routes, config, web } = self;
        let addresses = listeners.iter().map(Listener::local_address).collect();
        let shared = Arc::new(Shared::new(routes, config, web));
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(accept::accept(listener, Arc::clone(&shared)));
        }
        ServerHandle {
            #[cfg(feature = "http")]
            mount: http::Mount::new(&shared),
            shared,
            addresses,
            tasks,
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

/// A running server, and the owner of all its tasks.
///
/// Dropping it aborts them: handlers are dropped where they wait and connections close.
/// [`ServerHandle::shutdown`] is the gentle way.
#[must_use]
pub struct ServerHandle {
    shared: Arc<Shared>,
    addresses: Vec<Address>,
    tasks: JoinSet<()>,
    #[cfg(feature = "http")]
    mount: Arc<http::Mount>,
}

/// What a shutdown did with the calls that were running when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShutdownReport {
    /// Calls that came to their end within the grace period.
    pub finished: usize,
    /// Calls that were dropped at the end of it; their callers were told.
    pub aborted: usize,
}

impl ServerHandle {
    /// Returns where the server listens, in the order of the listeners.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Returns what the server answers over HTTP, for a web application that mounts it among its own
    /// routes, beside the port of the server.
    ///
    /// # Examples
    ///
    /// ```
    /// # async fn example(server: micro_rpc::ServerHandle) {
    /// use bytes::Bytes;
    /// use http_body_util::Full;
    /// use tower::ServiceExt;
    ///
    /// let mounted = server.http().hosts(["shop.example"]);
    /// let body = Full::new(Bytes::from_static(br#"{"name":"Ann"}"#));
    /// let request = http::Request::post("http://shop.example/greeter/hello").body(body);
    /// let answer = mounted.oneshot(request.expect("it has a path")).await;
    /// # }
    /// ```
    #[cfg(feature = "http")]
    pub fn http(&self) -> HttpService {
        HttpService::new(&self.mount)
    }

    /// Announces the end: tells every client to go elsewhere, and answers 503 to
    /// `GET /health/ready`.
    ///
    /// Connections and calls that come nevertheless are served, since clients, registries and load
    /// balancers take a moment to know. [`ServerHandle::shutdown`] is for after that moment.
    pub fn drain(&self) {
        self.shared.enter(Phase::Draining);
    }

    /// Returns what it does now, and what has happened to its calls.
    #[must_use]
    pub fn stats(&self) -> ServerStats {
        self.shared.stats()
    }

    /// Returns the number of calls that wait in a handler now.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.gate.running()
    }

    /// Returns the number of calls that wait for their turn to run now: see
    /// [`Limits::max_queued`].
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.gate.queued()
    }

    /// Stops: takes no new calls or connections, waits for running calls at most `grace` long, and
    /// closes all connections such that no answer is lost.
    ///
    /// Each client is told which of its calls was the last to be accepted. Later ones are not
    /// executed, which the client knows, so that it can repeat them elsewhere; and those that wait
    /// for their turn to run are refused, to the same end.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts what is left, as dropping the handle does.
    pub async fn shutdown(mut self, grace: Duration) -> ShutdownReport {
        self.shared.gate.close();
        let running = self.in_flight();
        let until = Instant::now() + grace.min(YEAR);
        self.shared.enter(Phase::Stopping(until));
        while let Some(ended) = self.tasks.join_next().await {
            shared::report_panic(ended);
        }
        #[cfg(feature = "http")]
        self.mount.finish(until).await;
        let aborted = self.shared.aborted();
        ShutdownReport { finished: running.saturating_sub(aborted), aborted }
    }
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle")
            .field("addresses", &self.addresses)
            .field("in_flight", &self.in_flight())
            .finish_non_exhaustive()
    }
}
