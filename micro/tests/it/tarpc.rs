//! Contracts of tarpc's, called and served.

use std::error::Error as _;
use std::io::ErrorKind;
use std::time::Instant;

use ::tarpc::ServerError;
use ::tarpc::client::RpcError;
use ::tarpc::context::{self, Context as Tarpc};
use ::tarpc::server::Serve;
use micro::rpc::{Channel, ChannelConfig, Codec, Request};
use micro::tarpc::{Stub, host, stub};
use micro::{CallError, Code, Contract, Phase};

use super::*;

/// The contract as tarpc has it.
mod plain {
    use super::{Item, Told};

    #[::tarpc::service]
    pub(super) trait Depot {
        async fn ping();
        async fn node() -> String;
        async fn price(item: Item, count: u32) -> u32;
        async fn find(names: Vec<String>, note: Option<String>) -> Option<Vec<Item>>;
        async fn sha_256(text: String) -> String;
        async fn divide(a: i32, b: i32) -> Result<i32, Undefined>;
        async fn wait(millis: u64) -> u64;
        async fn told() -> Told;
        async fn told_next() -> Told;
        async fn panic();
    }

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct Undefined {
        pub(super) a: i32,
    }
}

/// The same shape as `#[micro::service]` has it, and a method more.
mod ours {
    use super::{Item, ShopError};

    #[micro::service]
    pub(super) trait Depot {
        async fn ping(&self);
        async fn node(&self) -> String;
        async fn price(&self, item: Item, count: u32) -> u32;
        async fn find(&self, names: Vec<String>, note: Option<String>) -> Option<Vec<Item>>;
        async fn sha_256(&self, text: String) -> String;
        async fn divide(&self, a: i32, b: i32) -> Result<i32, ShopError>;
        async fn nosuch(&self);
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    name: String,
    each: u32,
}

/// What an implementation is told about its call.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Told {
    remaining_ms: u64,
    trace: String,
    /// As our own context has it.
    trace_here: String,
    tenant: Option<String>,
}

/// A depot, of either kind.
#[derive(Clone, Default)]
struct Depot {
    node: String,
    begun: Arc<AtomicU32>,
    cancelled: Arc<AtomicU32>,
    next: Option<Plain>,
}

type Plain = plain::DepotClient<Stub<plain::DepotRequest, plain::DepotResponse>>;

fn items(names: Vec<String>) -> Option<Vec<Item>> {
    let item = |name| Item { name, each: 2 };
    (!names.is_empty()).then(|| names.into_iter().map(item).collect())
}

impl plain::Depot for Depot {
    async fn ping(self, _: Tarpc) {}

    async fn node(self, _: Tarpc) -> String {
        self.node
    }

    async fn price(self, _: Tarpc, item: Item, count: u32) -> u32 {
        item.each * count
    }

    async fn find(self, _: Tarpc, names: Vec<String>, _: Option<String>) -> Option<Vec<Item>> {
        items(names)
    }

    async fn sha_256(self, _: Tarpc, text: String) -> String {
        format!("of {text}")
    }

    async fn divide(self, _: Tarpc, a: i32, b: i32) -> Result<i32, plain::Undefined> {
        a.checked_div(b).ok_or(plain::Undefined { a })
    }

    async fn wait(self, _: Tarpc, millis: u64) -> u64 {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let mut finishing = Finishing(&self.cancelled, false);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        finishing.1 = true;
        millis
    }

    async fn told(self, cx: Tarpc) -> Told {
        let here = Context::current().expect("it is being served");
        let remaining = cx.deadline.saturating_duration_since(now());
        Told {
            remaining_ms: remaining.as_millis() as u64,
            trace: format!("{:032x}", u128::from(*cx.trace_id())),
            trace_here: here.trace().map(|trace| trace.trace_id().to_string()).unwrap_or_default(),
            tenant: here.metadata().get("baggage.tenant").map(str::to_owned),
        }
    }

    async fn told_next(self, _: Tarpc) -> Told {
        let next = self.next.expect("there is a next one");
        next.told(in_time(Duration::from_secs(3600))).await.expect("it answers")
    }

    async fn panic(self, _: Tarpc) {
        panic!("on purpose");
    }
}

impl ours::Depot for Depot {
    async fn ping(&self) {}

    async fn node(&self) -> String {
        self.node.clone()
    }

    async fn price(&self, item: Item, count: u32) -> u32 {
        item.each * count
    }

    async fn find(&self, names: Vec<String>, _: Option<String>) -> Option<Vec<Item>> {
        items(names)
    }

    async fn sha_256(&self, text: String) -> String {
        format!("of {text}")
    }

    async fn divide(&self, a: i32, b: i32) -> Result<i32, ShopError> {
        a.checked_div(b).ok_or(ShopError::Closed)
    }

    async fn nosuch(&self) {}
}

/// The clock of deadlines, which may be paused.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn in_time(time: Duration) -> Tarpc {
    let mut context = context::current();
    context.deadline = Instant::now() + time;
    context
}

fn hosted(depot: Depot) -> Contract {
    host(move |cx, request| Serve::serve(plain::Depot::serve(depot.clone()), cx, request))
}

impl Town {
    /// Starts a depot of tarpc's, named like its contract.
    async fn hosts(&self, depot: Depot) -> RunningService {
        let id = depot.node.clone();
        registered(self.service(&id).name("depot").serve(hosted(depot))).await
    }

    /// The same on a TCP port.
    async fn exposes(&self, id: &str) -> RunningService {
        let service = self.service(id).name("depot").address("127.0.0.1:0");
        registered(service.serve(hosted(depot(id)))).await
    }

    async fn depot(&self, service: &str) -> Plain {
        plain::DepotClient::from(stub(&self.client().await, service))
    }
}

fn depot(node: &str) -> Depot {
    Depot { node: node.to_owned(), ..Depot::default() }
}

fn tea() -> Item {
    Item { name: "tea".to_owned(), each: 2 }
}

/// Everything that both kinds of peers can say to each other, said by a client of tarpc's.
async fn says_all(depot: &Plain) {
    let cx = context::current();
    depot.ping(cx).await.unwrap();
    assert_eq!(depot.node(cx).await.unwrap(), "a");
    assert_eq!(depot.price(cx, tea(), 3).await.unwrap(), 6);
    assert_eq!(depot.find(cx, vec![], None).await.unwrap(), None);
    let found = depot.find(cx, vec!["tea".to_owned()], Some("now".to_owned())).await.unwrap();
    assert_eq!(found, Some(vec![tea()]));
    assert_eq!(depot.sha_256(cx, "tea".to_owned()).await.unwrap(), "of tea");
}

/// The text of an error and of all that caused it.
fn text(error: &RpcError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

/// With tarpc on both sides all that a trait can say comes through, results too.
#[tokio::test(start_paused = true)]
async fn tarpc_calls_tarpc() {
    let town = Town::default();
    let _depot = town.hosts(depot("a")).await;
    let depot = town.depot("depot").await;
    says_all(&depot).await;
    let cx = context::current();
    assert_eq!(depot.divide(cx, 6, 2).await.unwrap(), Ok(3));
    assert_eq!(depot.divide(cx, 6, 0).await.unwrap(), Err(plain::Undefined { a: 6 }));
}

/// A client of tarpc's calls a service of `#[micro::service]` whose trait has the same shape; only
/// an answer that is a `Result` is not understood.
#[tokio::test(start_paused = true)]
async fn tarpc_calls_micro() {
    let town = Town::default();
    let service = town.service("a").name("depot").serve(ours::DepotServer::new(depot("a")));
    let _depot = registered(service).await;
    let depot = town.depot("depot").await;
    says_all(&depot).await;
    let error = depot.divide(context::current(), 6, 2).await.unwrap_err();
    assert!(matches!(error, RpcError::Channel(_)), "{error:?}");
    assert!(text(&error).contains("the answer does not decode"), "{}", text(&error));
    assert!(text(&error).contains("node a at memory:a"), "{}", text(&error));
    let error = depot.divide(context::current(), 6, 0).await.unwrap_err();
    let RpcError::Server(error) = error else { panic!("{error:?}") };
    assert!(error.detail.contains("closed"), "{error}");
}

/// A client of `#[micro::service]` calls a service of tarpc's whose trait has the same shape.
#[tokio::test(start_paused = true)]
async fn micro_calls_tarpc() {
    let town = Town::default();
    let _depot = town.hosts(depot("a")).await;
    let depot = ours::DepotClient::new(&town.client().await);
    depot.ping().await.unwrap();
    assert_eq!(depot.node().await.unwrap(), "a");
    assert_eq!(depot.price(tea(), 3).await.unwrap(), 6);
    assert_eq!(depot.find(vec![], None).await.unwrap(), None);
    let found = depot.find(vec!["tea".to_owned()], Some("now".to_owned())).await.unwrap();
    assert_eq!(found, Some(vec![tea()]));
    assert_eq!(depot.sha_256("tea").await.unwrap(), "of tea");
    let Err(CallError::Rpc(error)) = depot.divide(6, 2).await else { panic!() };
    assert_eq!(error.phase(), Phase::Decode, "{error}");
    let Err(CallError::Rpc(error)) = depot.nosuch().await else { panic!() };
    assert_eq!(error.code(), Code::Unimplemented, "{error}");
}

/// The calls of a plain contract are shared between its nodes, and a node that is gone without a
/// word costs none of them, though they are not idempotent: what never left goes elsewhere.
#[tokio::test]
async fn a_dead_node_costs_no_call() {
    let town = Town::default();
    let (a, _b, _c) = tokio::join!(town.exposes("a"), town.exposes("b"), town.exposes("c"));
    let answered = async || {
        let depot = town.depot("depot").await;
        let mut by_node = std::collections::BTreeMap::<String, u32>::new();
        for _ in 0..200 {
            let node = depot.node(context::current()).await.expect("it answers");
            *by_node.entry(node).or_default() += 1;
        }
        Vec::from_iter(by_node.into_keys())
    };
    assert_eq!(answered().await, ["a", "b", "c"]);
    drop(a);
    let client = town.client().await;
    let services = client.registry().get("depot").await.unwrap();
    assert_eq!(services[0].nodes.len(), 3, "the registry does not know it yet");
    assert_eq!(answered().await, ["b", "c"]);
}

/// When a node dies under load, only those calls fail that it may have executed, and they say so.
#[tokio::test]
async fn a_dying_node_fails_only_what_it_has() {
    let town = Town::default();
    let (a, _b, _c) = tokio::join!(town.exposes("a"), town.exposes("b"), town.exposes("c"));
    let depot = town.depot("depot").await;
    let (mut callers, answered) = (tokio::task::JoinSet::new(), Arc::new(AtomicU32::new(0)));
    for _ in 0..8 {
        let (depot, answered) = (depot.clone(), answered.clone());
        callers.spawn(async move {
            for _ in 0..500 {
                match depot.wait(context::current(), 1).await {
                    Ok(_) => drop(answered.fetch_add(1, Ordering::Relaxed)),
                    Err(RpcError::Channel(::tarpc::ChannelError::Read(_))) => {}
                    Err(error) => panic!("{}", text(&error)),
                }
            }
        });
    }
    eventually("they are busy", || answered.load(Ordering::Relaxed) > 100).await;
    drop(a);
    while let Some(ended) = callers.join_next().await {
        ended.expect("no call failed in another way");
    }
    // At most what each caller had there at the time.
    assert!(answered.load(Ordering::Relaxed) >= 8 * 500 - 8);
}

/// A call ends with the deadline of tarpc's context, on the server too, and does not begin after it.
#[tokio::test(start_paused = true)]
async fn deadlines_pass() {
    let town = Town::default();
    let there = depot("a");
    let _depot = town.hosts(there.clone()).await;
    let depot = town.depot("depot").await;
    let error = depot.wait(in_time(Duration::from_millis(50)), 60_000).await.unwrap_err();
    assert!(matches!(error, RpcError::DeadlineExceeded), "{error:?}");
    let is_cancelled = || there.cancelled.load(Ordering::Relaxed) == 1;
    eventually("the server gives up", is_cancelled).await;
    let error = depot.wait(in_time(Duration::ZERO), 0).await.unwrap_err();
    assert!(matches!(error, RpcError::DeadlineExceeded), "{error:?}");
    assert_eq!(there.begun.load(Ordering::Relaxed), 1);
}

/// An implementation is told deadline and trace of its caller, and calls it makes meanwhile inherit
/// them with the baggage, whatever their own contexts say of time.
#[tokio::test(start_paused = true)]
async fn contexts_travel() {
    let town = Town::default();
    let _last = town.hosts(depot("a")).await;
    let middle = Depot { next: Some(town.depot("depot").await), ..depot("b") };
    let service = town.service("b").name("middle").serve(hosted(middle));
    let _middle = registered(service).await;
    let depot = town.depot("middle").await;

    let mut cx = in_time(Duration::from_secs(5));
    cx.trace_context.trace_id = 7.into();
    cx.trace_context.span_id = 8.into();
    let told = depot.told(cx).await.unwrap();
    assert!((1..=5000).contains(&told.remaining_ms), "{told:?}");
    assert_eq!(told.trace, format!("{:032x}", 7));
    assert_eq!(told.trace_here, told.trace);

    let told = depot.told_next(cx).await.unwrap();
    assert!((1..=5000).contains(&told.remaining_ms), "{told:?}");
    assert_eq!(told.trace, format!("{:032x}", 7));

    let untraced = depot.told(in_time(Duration::from_secs(5))).await.unwrap();
    assert!(untraced.trace.contains(|digit| digit != '0') && untraced.trace != told.trace);

    let mut request = Request::new("depot", "told_next", Codec::Json, "{}".into());
    request.metadata.insert("baggage.tenant", "acme").unwrap();
    let answer = town.channel("b").call(&request).await.unwrap();
    let told: Told = answer.codec.decode(&answer.body).unwrap();
    assert_eq!(told.tenant.as_deref(), Some("acme"));
}

/// Dropping a call cancels it on the server.
#[tokio::test(start_paused = true)]
async fn dropped_calls_are_cancelled() {
    let town = Town::default();
    let there = depot("a");
    let _depot = town.hosts(there.clone()).await;
    let depot = town.depot("depot").await;
    let call = tokio::spawn(async move { depot.wait(context::current(), 5_000).await });
    eventually("it has begun", || there.begun.load(Ordering::Relaxed) == 1).await;
    call.abort();
    eventually("it is cancelled", || there.cancelled.load(Ordering::Relaxed) == 1).await;
}

/// A contract takes the methods it has, by their exact names, with arguments by name; all else
/// costs that call and says why.
#[tokio::test(start_paused = true)]
async fn wrong_requests_cost_one_call() {
    let town = Town::default();
    let _depot = town.hosts(depot("a")).await;
    let channel = town.channel("a");
    let call = async |method: &'static str, body: &'static str| {
        channel.call(&Request::new("depot", method, Codec::Json, body.into())).await
    };
    for method in ["nosuch", "sha256", "Ping", "told__next", ""] {
        let error = call(method, r#"{"text":"tea"}"#).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{method}: {error}");
        assert!(error.message().contains(&format!("`{method}`")), "{error}");
    }
    for body in [r#"{"text":7}"#, "{}", r#"["tea"]"#, "", r#"{"text":"tea"},"Ping":{}"#, "null"] {
        let error = call("sha_256", body).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{body}: {error}");
        assert!(error.message().contains("depot/sha_256"), "{error}");
    }
    let answer = call("sha_256", r#"{"text":"tea","new":1}"#).await.unwrap();
    assert_eq!(&answer.body[..], br#""of tea""#);
    let answer = call("ping", "{}").await.unwrap();
    assert_eq!(&answer.body[..], b"null");
}

/// Methods of tarpc's contracts lie behind a service's layers as others do.
#[tokio::test(start_paused = true)]
async fn layers_are_around_them() {
    let town = Town::default();
    let seen = Arc::new(AtomicU32::new(0));
    let counter = seen.clone();
    let layer = micro::layer::from_fn(move |request, next| {
        counter.fetch_add(1, Ordering::Relaxed);
        next.run(request)
    });
    let service = town.service("a").name("depot").layer(layer).serve(hosted(depot("a")));
    let _depot = registered(service).await;
    says_all(&town.depot("depot").await).await;
    assert_eq!(seen.load(Ordering::Relaxed), 6);
}

/// A time limit that is a layer of the client is told as the call's own deadline is.
#[tokio::test(start_paused = true)]
async fn time_limits_of_layers_are_deadlines() {
    let town = Town::default();
    let _depot = town.hosts(depot("a")).await;
    let client = Client::connect().settings(Settings::none()).registry(town.registry.clone());
    let client = client.memory_network(town.network.clone());
    let limit = tower::timeout::TimeoutLayer::new(Duration::from_secs(1));
    let depot = plain::DepotClient::from(stub(&client.layer(limit).await.unwrap(), "depot"));
    let error = depot.wait(in_time(Duration::from_secs(60)), 5_000).await.unwrap_err();
    assert!(matches!(error, RpcError::DeadlineExceeded), "{error:?}");
}

/// What fails is told as tarpc tells it, with our account of it inside.
#[tokio::test(start_paused = true)]
async fn errors_are_told() {
    let town = Town::default();
    let depot_there = town.depot("depot").await;
    let error = depot_there.ping(context::current()).await.unwrap_err();
    let RpcError::Channel(::tarpc::ChannelError::Ready(cause)) = &error else {
        panic!("{error:?}")
    };
    let cause = cause.downcast_ref::<micro::Error>().expect("it is ours");
    assert_eq!((cause.code(), cause.phase()), (Code::NotFound, Phase::Resolve));
    assert!(text(&error).contains("depot/ping"), "{}", text(&error));

    let _depot = town.hosts(depot("a")).await;
    let depot = town.depot("depot").await;
    let RpcError::Server(error) = depot.panic(context::current()).await.unwrap_err() else {
        panic!()
    };
    assert_eq!(error.kind, ErrorKind::Other);
    assert!(error.detail.contains("depot/panic") && error.detail.contains("memory:a"), "{error}");
    assert!(!error.detail.contains("on purpose"), "what a panic says stays there: {error}");
}

/// What a server says when it gives up, and that it does not know a method, arrives as its kind.
#[tokio::test(start_paused = true)]
async fn servers_errors_keep_their_kind() {
    let town = Town::default();
    let busy = host(|_, _: plain::DepotRequest| async {
        let error = ServerError::new(ErrorKind::WouldBlock, "too much to do".to_owned());
        Err::<plain::DepotResponse, _>(error)
    });
    let _busy = registered(town.service("a").name("busy").serve(busy)).await;
    let error = town.depot("busy").await.ping(context::current()).await.unwrap_err();
    let RpcError::Server(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind, ErrorKind::WouldBlock);
    assert!(error.detail.contains("too much to do"), "{error}");

    let service = town.service("b").name("ours").serve(ours::DepotServer::new(depot("b")));
    let _ours = registered(service).await;
    let error = town.depot("ours").await.told(context::current()).await.unwrap_err();
    let RpcError::Server(error) = error else { panic!("{error:?}") };
    assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
}

/// Methods are registered and described under their names, and `curl` finds them.
#[tokio::test(start_paused = true)]
async fn http_callers_find_them() {
    let town = Town::default();
    let running = town.hosts(depot("a")).await;
    let endpoints = running.registration().endpoints.as_slice();
    let named = |name| endpoints.iter().any(|one| one.contract == "depot" && one.name == name);
    assert!(named("price") && named("told_next"), "{endpoints:?}");
    let post = |path, body| town.post("a", path, body);
    assert_eq!(post("/depot/sha_256", r#"{"text":"tea"}"#).await, (200, r#""of tea""#.to_owned()));
    assert_eq!(post("/depot/ping", "").await, (200, "null".to_owned()));
    let (status, body) = post("/depot/nosuch", "{}").await;
    assert!(status == 404 && body.contains("unimplemented"), "{status} {body}");
}

/// Contracts of both macros by the names of their traits.
macro_rules! named_alike {
    ($($name:ident $server:ident),*) => {
        #[allow(dead_code, reason = "only their names are of interest")]
        mod alike {
            pub(super) mod plain {
                $(#[::tarpc::service]
                pub(in super::super) trait $name {
                    async fn ping();
                })*
            }

            $(#[micro::service]
            pub(super) trait $name {
                async fn ping(&self);
            })*

            #[derive(Clone)]
            pub(super) struct Both;

            $(impl $name for Both {
                async fn ping(&self) {}
            }

            impl plain::$name for Both {
                async fn ping(self, _: ::tarpc::context::Context) {}
            })*
        }

        /// The name of each contract by tarpc's trait, and by ours.
        fn named_alike() -> Vec<[String; 2]> {
            let name = |contract: Contract| contract.name().to_owned();
            vec![$([
                name(host(|cx, request| {
                    Serve::serve(alike::plain::$name::serve(alike::Both), cx, request)
                })),
                name(alike::$server::new(alike::Both).into()),
            ]),*]
        }
    };
}

named_alike! {
    HTTPProxy HTTPProxyServer,
    HTTPServer2Go HTTPServer2GoServer,
    Sha256 Sha256Server,
    V2Api V2ApiServer,
    IO IOServer,
    A1B2 A1B2Server
}

/// Both macros name a contract alike, acronyms and digits or not.
#[test]
fn contracts_are_named_alike() {
    let expected = ["http-proxy", "http-server2-go", "sha256", "v2-api", "io", "a1-b2"];
    assert_eq!(named_alike(), expected.map(|name| [name; 2]));
}

/// A request that is no enum is no contract, and said to be none at once.
#[test]
#[should_panic(expected = "is an enum")]
fn other_requests_are_refused() {
    host(|_, request: String| async { Ok::<_, ServerError>(request) });
}

/// A stub of what is no contract fails its calls.
#[tokio::test(start_paused = true)]
async fn other_stubs_fail() {
    let stub: Stub<String, String> = stub(&Town::default().client().await, "depot");
    let call = ::tarpc::client::stub::Stub::call(&stub, context::current(), String::new());
    let error = call.await.unwrap_err();
    assert!(matches!(error, RpcError::Send(_)), "{error:?}");
    assert!(text(&error).contains("`string`"), "{}", text(&error));
}

impl Town {
    /// A connection to a node, for requests that no client makes.
    fn channel(&self, id: &str) -> Channel {
        let config =
            ChannelConfig { memory: Some(self.network.clone()), ..ChannelConfig::default() };
        Channel::new(format!("memory:{id}").parse().unwrap(), config)
    }

    /// Posts JSON and returns status and body.
    async fn post(&self, id: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = self.network.connect(id).unwrap();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: depot\r\nConnection: close\r\n");
        let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }
}

/// Waits until something is true, generously.
async fn eventually(what: &str, is_true: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("gave up waiting: {what}");
}
