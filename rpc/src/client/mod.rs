//! Calls to one node over a few multiplexed connections.

mod calls;
mod connection;
mod driver;
mod health;
mod keepalive;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::connection::Connection;
use self::health::Health;
use crate::outbox::lock;
use crate::wire::decode_response;
use crate::{Address, Code, Error, Execution, Limits, MemoryNetwork, Phase, Request, Response};

/// Calls to one node.
///
/// Connections are made when a call needs one and are shared by all clones; many calls are in
/// flight on each. After a failure the next connection is attempted after 100 ms × 1.6ⁿ, at most
/// 10 s, ± 20 %; until then calls fail at once with [`Execution::NotSent`]. A connection that ends
/// before anything was answered on it is such a failure, too. A node that says
/// go-away finishes what it accepted, while new calls go to a new connection.
///
/// The channel owns the tasks of its connections. Dropping the last clone aborts them;
/// [`Channel::close`] lets running calls finish first.
#[derive(Clone)]
pub struct Channel {
    inner: Arc<Inner>,
}

/// How a [`Channel`] connects, and what it accepts.
///
/// Times below a millisecond count as one, and those above a year as that.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// How many connections calls are spread over, in turn, those that are made at about the same time
    /// together; at least and by default 1, which is right unless one connection's task is the
    /// bottleneck.
    pub connections: usize,
    /// How long connecting may take, including the node's first words; default 1 s.
    pub connect_timeout: Duration,
    /// The silence after which a node that owes an answer is pinged; default 1 s. A connection
    /// without calls is pinged after 15 s, or after this if it is longer.
    pub keepalive_interval: Duration,
    /// How long a ping waits for any byte before the connection is given up; default 2 s.
    pub keepalive_timeout: Duration,
    /// Bounds on answers and on calls in flight; those on connections are a server's.
    pub limits: Limits,
    /// Where `memory:` addresses are looked up; none by default.
    pub memory: Option<MemoryNetwork>,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self {
            connections: 1,
            connect_timeout: Duration::from_secs(1),
            keepalive_interval: Duration::from_secs(1),
            keepalive_timeout: Duration::from_secs(2),
            limits: Limits::default(),
            memory: None,
        }
    }
}

impl ChannelConfig {
    /// With every time in its range, so that no arithmetic with it overflows.
    fn clamped(mut self) -> Self {
        const RANGE: (Duration, Duration) =
            (Duration::from_millis(1), Duration::from_secs(365 * 24 * 3600));
        let Self { connect_timeout, keepalive_interval, keepalive_timeout, .. } = &mut self;
        for time in [connect_timeout, keepalive_interval, keepalive_timeout] {
            *time = (*time).clamp(RANGE.0, RANGE.1);
        }
        self
    }
}

impl Channel {
    /// Creates a channel, without I/O and without a task: the first call connects.
    #[must_use]
    pub fn new(address: Address, config: ChannelConfig) -> Self {
        let config = config.clamped();
        let links = (0..config.connections.max(1)).map(|_| Link::default()).collect();
        Self {
            inner: Arc::new(Inner {
                address,
                config,
                links,
                turn: AtomicUsize::new(0),
                health: Arc::default(),
                tasks: Mutex::new(JoinSet::new()),
                closed: AtomicBool::new(false),
            }),
        }
    }

    /// Makes a call and waits for the answer, at most until the request's deadline.
    ///
    /// When as many calls are in flight as the connection allows, it waits for its turn.
    ///
    /// # Errors
    ///
    /// [`Error::code`] says what went wrong, and [`Error::execution`] whether the method may have
    /// run.
    ///
    /// # Panics
    ///
    /// When it has to connect and is not inside a tokio runtime with I/O and time enabled.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future takes the request back if it has not left yet, and otherwise tells the
    /// server, which drops the handler.
    pub async fn call(&self, request: &Request) -> Result<Response, Error> {
        self.call_at(Instant::now(), request).await
    }

    /// Makes a call as [`call`](Self::call) does, for who has just read the clock and polls the future
    /// at once. What is left until the deadline, which travels with the request, counts from `now`: with
    /// one that lies further back the server takes longer than the caller waits.
    ///
    /// # Errors
    ///
    /// Those of `call`.
    ///
    /// # Panics
    ///
    /// When `call` does.
    ///
    /// # Cancel safety
    ///
    /// That of `call`.
    pub async fn call_at(&self, now: Instant, request: &Request) -> Result<Response, Error> {
        let answer = self.inner.call(now, request).await;
        let answer = answer.and_then(read_answer);
        answer.map_err(|error| error.with_address(self.inner.address.clone()))
    }

    /// Returns the node's address.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Returns whether the node said, not long ago, that it wants no new calls.
    ///
    /// A go-away counts if the node answers on no other connection.
    ///
    /// It stays so as long as the connections on which the node announced that, and for a second
    /// after the last of them, so that a node which has restarted is seen. Cheap enough to ask for each call.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.health.is_draining(Instant::now)
    }

    /// Returns whether calls had better go elsewhere at present: the node [drains](Self::is_draining),
    /// could not be reached and it is too early to try again, or lost a connection within the last
    /// 100 ms ± 20 % and has answered on none since. While it answers on another connection, only the
    /// first counts.
    ///
    /// A call that is made nevertheless fails at once, unsent, if it is too early to try again;
    /// after a loss it connects. As cheap to ask.
    #[must_use]
    pub fn is_away(&self) -> bool {
        self.inner.health.is_away(Instant::now)
    }

    /// Returns how many connections it has: those that are being made, and those that only finish
    /// their last calls, among them.
    #[must_use]
    pub fn connections(&self) -> usize {
        let mut tasks = lock(&self.inner.tasks);
        reap(&mut tasks);
        tasks.len()
    }

    /// Stops accepting calls; those in flight finish, then the connections close.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        for link in &self.inner.links {
            let _changing = lock(&link.change);
            if let Some(connection) = &*link.current.load() {
                connection.close();
            }
        }
    }
}

impl tower::Service<Request> for Channel {
    type Response = Response;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Response, Error>>;

    /// Always ready: a call waits inside its future, where its deadline counts.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let channel = self.clone();
        Box::pin(async move { Channel::call(&channel, &request).await })
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("address", &self.inner.address)
            .field("config", &self.inner.config)
            .field("closed", &self.inner.closed)
            .finish_non_exhaustive()
    }
}

/// What the clones of a channel share.
struct Inner {
    address: Address,
    config: ChannelConfig,
    links: Box<[Link]>,
    turn: AtomicUsize,
    health: Arc<Health>,
    /// The tasks of all connections, also of those that only finish their last calls.
    tasks: Mutex<JoinSet<()>>,
    closed: AtomicBool,
}

/// A place for a connection.
#[derive(Default)]
struct Link {
    /// The one it has now. Every call asks for it, and must not wait for another call that does.
    current: ArcSwapOption<Connection>,
    /// Held while it is given another one, so that one is made for all who find it gone.
    change: Mutex<()>,
}

impl Inner {
    /// Makes the call on the connection whose turn it is.
    async fn call(&self, now: Instant, request: &Request) -> Result<Bytes, Error> {
        let turn = self.turn();
        let connection = self.links[turn].current.load_full();
        if let Some(connection) = connection
            && let Some(payload) = connection.call(now, request).await?
        {
            return Ok(payload);
        }
        // Boxed, so that calls whose connection is there do not carry room for it.
        Box::pin(self.call_on_any(turn, request)).await
    }

    /// Makes the call on the connection whose turn it is, which has to be made, or on the next that is
    /// there when that one cannot be.
    async fn call_on_any(&self, turn: usize, request: &Request) -> Result<Bytes, Error> {
        let mut refusal = None;
        for link in self.links[turn..].iter().chain(&self.links[..turn]) {
            match self.call_on(link, request).await? {
                Ok(payload) => return Ok(payload),
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        Err(refusal.unwrap_or_else(|| not_sent("there is no connection".into())))
    }

    /// The link for a call: the last one's while frames gather there, and then the next.
    fn turn(&self) -> usize {
        let links = self.links.len();
        if links == 1 {
            return 0;
        }
        let last = self.turn.load(Ordering::Relaxed) % links;
        let connection = self.links[last].current.load();
        if connection.as_ref().is_some_and(|connection| connection.is_gathering()) {
            return last;
        }
        self.turn.fetch_add(1, Ordering::Relaxed).wrapping_add(1) % links
    }

    /// Makes the call on this link; the inner error is that there is no connection, nor may be. A
    /// connection that is gone takes no call, and each further one has to be made first, so this
    /// ends when the node cannot be reached, or does nothing with the connections it accepts.
    async fn call_on(&self, link: &Link, request: &Request) -> Result<Result<Bytes, Error>, Error> {
        let mut gone = None;
        loop {
            let connection = match self.connection(link, gone.as_ref()) {
                Ok(connection) => connection,
                Err(refused) => return Ok(Err(refused)),
            };
            match connection.call(Instant::now(), request).await? {
                Some(payload) => return Ok(Ok(payload)),
                None => gone = Some(connection),
            }
        }
    }

    /// Returns the link's connection; a new one when there is none, or only the one known as gone.
    fn connection(
        &self,
        link: &Link,
        gone: Option<&Arc<Connection>>,
    ) -> Result<Arc<Connection>, Error> {
        let _changing = lock(&link.change);
        if let Some(current) = link.current.load_full()
            && gone.is_none_or(|gone| !Arc::ptr_eq(gone, &current))
        {
            return Ok(current);
        }
        // Dropped first, so that a refusal below leaves no connection that is gone.
        link.current.store(None);
        let connection = self.connect()?;
        link.current.store(Some(Arc::clone(&connection)));
        Ok(connection)
    }

    /// Starts the task of a new connection, unless it is too early for one.
    fn connect(&self) -> Result<Arc<Connection>, Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(not_sent("the channel is closed".into()));
        }
        self.health.may_connect(Instant::now()).map_err(|backing_off| {
            let health::BackingOff { reason, next_try } = backing_off;
            not_sent(format!("{reason}; next try in {} ms", next_try.as_millis()))
        })?;
        let max_in_flight = self.config.limits.clamped().max_in_flight;
        let connection = Connection::new(max_in_flight, self.config.keepalive_interval);
        let connection = Arc::new(connection);
        let (address, config) = (self.address.clone(), self.config.clone());
        let health = Arc::clone(&self.health);
        let task = driver::run(address, config, Arc::clone(&connection), health);
        let mut tasks = lock(&self.tasks);
        tasks.spawn(task);
        reap(&mut tasks);
        Ok(connection)
    }
}

/// Reads the results of tasks that have ended; a panic in one is a bug of this crate.
fn reap(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.try_join_next() {
        if let Err(error) = ended {
            tracing::error!(%error, "the task of a connection failed");
        }
    }
}

fn not_sent(message: String) -> Error {
    Error::new(Code::Unavailable, Phase::Connect, Execution::NotSent, message)
}

/// Reads a response's payload, on the caller's task rather than the connection's.
fn read_answer(payload: Bytes) -> Result<Response, Error> {
    match decode_response(payload) {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(status)) => Err(status.into()),
        Err(error) => {
            let message = "the node's answer cannot be read";
            let unreadable =
                Error::new(Code::Internal, Phase::Wait, Execution::MaybeExecuted, message);
            Err(unreadable.with_source(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Codec, Listener, Router, Server};

    /// Times no clock can add are as good as none, and zero is not a reason to give up.
    #[tokio::test]
    async fn absurd_times_do_no_harm() {
        let echo = |request: Request| async move { Ok(Response::new(request.codec, request.body)) };
        let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
        let server =
            Server::new(Router::new().route("test", "echo", echo)).unwrap().start(vec![listener]);
        for keepalive_interval in [Duration::MAX, Duration::ZERO] {
            let config = ChannelConfig {
                connect_timeout: Duration::MAX,
                keepalive_interval,
                keepalive_timeout: Duration::MAX,
                ..ChannelConfig::default()
            };
            let channel = Channel::new(server.addresses()[0].clone(), config);
            let request = Request::new("test", "echo", Codec::Json, Bytes::from("1"));
            for _ in 0..3 {
                assert_eq!(channel.call(&request).await.unwrap().body, "1");
            }
        }
    }
}
