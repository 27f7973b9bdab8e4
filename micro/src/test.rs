//! Services, clients and the faults between them, inside one test.
//!
//! A [`Net`] is a registry and a network in memory: no sockets, no files, nothing shared with other
//! tests. Everything runs on tokio's clock, so a test may take hours of it in no time:
//!
//! ```
//! use std::time::Duration;
//!
//! # #[micro::service]
//! # pub trait Greeter { #[rpc(idempotent)] async fn hello(&self, name: String) -> String; }
//! # #[derive(Clone)]
//! # struct English;
//! # impl Greeter for English {
//! #     async fn hello(&self, name: String) -> String { format!("Hello, {name}!") }
//! # }
//! // In a test: #[tokio::test(start_paused = true)]
//! # #[tokio::main(flavor = "current_thread")]
//! async fn survives_a_node() -> micro::Result<()> {
//!     let net = micro::test::Net::new();
//!     let first = net.serve("greeter", GreeterServer::new(English)).await?;
//!     let second = net.serve("greeter", GreeterServer::new(English)).await?;
//!     let greeter = GreeterClient::new(&net.client());
//!
//!     first.kill();
//!     assert_eq!(greeter.hello("Ann").await?, "Hello, Ann!");
//!     second.slow_down(Duration::from_millis(500));
//!     let error = greeter.hello("Ann").timeout(Duration::from_millis(100)).await.unwrap_err();
//!     let micro::CallError::Rpc(error) = error;
//!     assert_eq!(error.code(), micro::Code::DeadlineExceeded);
//!     Ok(())
//! }
//! # survives_a_node().unwrap();
//! ```
//!
//! What a test can do to a [`Node`], and what its callers notice:
//!
//! | | connections | registration |
//! |---|---|---|
//! | [`shutdown`](Node::shutdown) | told to go elsewhere, then closed | removed |
//! | [`kill`](Node::kill), drop | reset at once | stays until its TTL ends |
//! | [`hang`](Node::hang) | silent; new ones get no answer | stays until its TTL ends |
//! | [`cut_off`](Node::cut_off) | silent; new ones get no answer | renewed |
//! | [`slow_down`](Node::slow_down) | late | renewed |
//! | [`Net::registry_down`] | as before | as last known |

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use micro_registry::{
    Error as RegistryError, MemoryRegistry, Registration, Registry, Scope, ServiceSummary, Watch,
};
use micro_rpc::MemoryNetwork;
use tokio::sync::watch;

use crate::{
    Client, ClientBuilder, Contract, Registered, Result, RunningService, Service, Settings,
};

/// A registry and a network in memory, for one test.
///
/// Clones are the same net; two nets know nothing of each other. What it starts reads no
/// environment and no `micro.toml`.
#[derive(Clone, Debug, Default)]
pub struct Net {
    registry: MemoryRegistry,
    network: MemoryNetwork,
    /// Nodes so far, for their addresses.
    nodes: Arc<AtomicU32>,
}

impl Net {
    /// A net with nobody on it. Starts no task.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a node of a service that serves one contract; more than one makes them neighbours.
    ///
    /// # Errors
    ///
    /// `invalid_argument` for a name that is none.
    pub async fn serve(
        &self,
        name: impl Into<String>,
        contract: impl Into<Contract>,
    ) -> Result<Node> {
        self.start(Service::new().name(name).serve(contract)).await
    }

    /// Starts a node of a service and waits until it is registered or, while the registry is down,
    /// until it has tried.
    ///
    /// Where it listens and registers, and which settings it reads, is the net's to say; what the
    /// service says of that does not count.
    ///
    /// # Errors
    ///
    /// As [`Service::start`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future is the end of the node, as [`kill`](Node::kill) is.
    pub async fn start(&self, service: Service) -> Result<Node> {
        let name = format!("node-{}", self.nodes.fetch_add(1, Ordering::Relaxed) + 1);
        let address = format!("memory:{name}");
        let way = Way { network: self.network.clone(), name, faults: watch::Sender::default() };
        let seen = SeenByNode { registry: self.registry.clone(), faults: way.faults.subscribe() };
        let running = service
            .settings(Settings::none())
            .registry(seen)
            .memory_network(self.network.clone())
            .address(&address)
            .advertise(&address)
            .start()
            .await?;
        let has_tried = |state: &Registered| *state != Registered::Starting;
        // It cannot fail: the registrar lives as long as the service.
        let _ = running.registered().wait_for(has_tried).await;
        Ok(Node { way, running })
    }

    /// A client of this net.
    ///
    /// # Panics
    ///
    /// Never: there is nothing about it that could be wrong.
    #[must_use]
    pub fn client(&self) -> Client {
        let registry = Arc::new(self.registry.clone());
        let client = self.connect().build_on(&Settings::none(), registry);
        client.expect("defaults are valid, and no settings are read")
    }

    /// The same, for a client with options of its own: `net.connect().timeout(…).await?`.
    pub fn connect(&self) -> ClientBuilder {
        Client::connect()
            .settings(Settings::none())
            .registry(self.registry.clone())
            .memory_network(self.network.clone())
    }

    /// The registry, to see what is registered and to change it by hand.
    #[must_use]
    pub fn registry(&self) -> &MemoryRegistry {
        &self.registry
    }

    /// Makes the registry unreachable for nodes and clients. TTLs go on counting meanwhile.
    pub fn registry_down(&self) {
        self.registry.interrupt("the test says that it is down");
    }

    /// Makes the registry reachable again; clients hear afresh what is registered.
    pub fn registry_up(&self) {
        self.registry.restore();
    }
}

/// A running instance of a service in a [`Net`], and what a test can do to it.
///
/// Dropping it [kills](Self::kill) it.
#[derive(Debug)]
#[must_use = "dropping it kills the node"]
pub struct Node {
    /// Dropped first: nobody must hear of the end of the service before the way is cut.
    way: Way,
    running: RunningService,
}

impl Node {
    /// Its id, as in [`Error::node`](crate::Error::node).
    #[must_use]
    pub fn id(&self) -> &str {
        &self.running.registration().node.id
    }

    /// The service, for what it registers and whether it is registered.
    pub fn service(&self) -> &RunningService {
        &self.running
    }

    /// Stops it in good order, as SIGTERM does.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future aborts what still runs.
    pub async fn shutdown(self) {
        let Self { way, running } = self;
        running.shutdown().await;
        drop(way);
    }

    /// Ends it at once, as `kill -9` or the loss of its host does: connections are reset, running
    /// calls are not answered. The registry lists it until its TTL ends (30 s unless the service
    /// says otherwise), which is the harder case: `local:` would know at once.
    pub fn kill(self) {
        drop(self);
    }

    /// Stops it without ending it, as SIGSTOP or a deadlock does: it accepts connections, answers
    /// nobody and renews nothing, so that it leaves the registry when its TTL ends. Methods that
    /// run already go on, unheard.
    pub fn hang(&self) {
        self.way.set(|faults| faults.hangs = true);
    }

    /// Ends a [`hang`](Self::hang): what arrived meanwhile is answered, and it registers again.
    pub fn resume(&self) {
        self.way.set(|faults| faults.hangs = false);
    }

    /// Cuts it off from those who call it, while it reaches the registry, which goes on listing it.
    /// Its own calls are not affected.
    pub fn cut_off(&self) {
        self.way.set(|faults| faults.is_cut_off = true);
    }

    /// Ends a [`cut_off`](Self::cut_off): what was on the way arrives.
    pub fn heal(&self) {
        self.way.set(|faults| faults.is_cut_off = false);
    }

    /// Adds a latency to all it answers; zero takes it away.
    ///
    /// It is the network's: the answer to a connection attempt and to a ping is late too, so more
    /// than the client's patience for these (1 s and 2 s by default) is as good as a
    /// [`cut_off`](Self::cut_off). For a method that takes long let its implementation sleep.
    pub fn slow_down(&self, latency: Duration) {
        self.way.network.set_delay(&self.way.name, latency);
    }
}

/// The way to a node; it ends with a reset for those who are connected.
#[derive(Debug)]
struct Way {
    network: MemoryNetwork,
    name: String,
    faults: watch::Sender<Faults>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    hangs: bool,
    is_cut_off: bool,
}

impl Way {
    fn set(&self, change: impl FnOnce(&mut Faults)) {
        self.faults.send_modify(change);
        let Faults { hangs, is_cut_off } = *self.faults.borrow();
        self.network.set_silent(&self.name, hangs || is_cut_off);
    }
}

impl Drop for Way {
    /// The death of a process that hangs is heard; that of one that is cut off is not.
    fn drop(&mut self) {
        self.network.set_silent(&self.name, self.faults.borrow().is_cut_off);
        self.network.crash(&self.name);
    }
}

/// The registry as a node sees it, which writes nothing while it hangs.
#[derive(Clone, Debug)]
struct SeenByNode {
    registry: MemoryRegistry,
    faults: watch::Receiver<Faults>,
}

impl SeenByNode {
    /// Waits until the node does not hang; for ever, when it was killed meanwhile.
    async fn runs(&self) {
        if self.faults.clone().wait_for(|faults| !faults.hangs).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Registry for SeenByNode {
    fn name(&self) -> &str {
        self.registry.name()
    }

    fn is_one_host(&self) -> bool {
        self.registry.is_one_host()
    }

    async fn register(
        &self,
        registration: &Registration,
        ttl: Duration,
    ) -> std::result::Result<(), RegistryError> {
        self.runs().await;
        self.registry.register(registration, ttl).await
    }

    async fn deregister(
        &self,
        registration: &Registration,
    ) -> std::result::Result<(), RegistryError> {
        self.runs().await;
        self.registry.deregister(registration).await
    }

    async fn get(
        &self,
        service: &str,
    ) -> std::result::Result<Vec<micro_registry::Service>, RegistryError> {
        self.registry.get(service).await
    }

    async fn list(&self) -> std::result::Result<Vec<ServiceSummary>, RegistryError> {
        self.registry.list().await
    }

    async fn watch(&self, scope: Scope) -> std::result::Result<Watch, RegistryError> {
        self.registry.watch(scope).await
    }
}
