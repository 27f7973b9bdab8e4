//! Calls through generated clients.

use super::*;
use micro::layer;
use micro::registry::{Node, Registration, Registry};
use micro::rpc::{Channel, ChannelConfig, Codec, Execution, Request};
use micro::{CallError, Code, Phase};

/// Values go there and come back: none, one and several arguments, options, lists, unit.
#[tokio::test(start_paused = true)]
async fn arguments_and_answers() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let shop = ShopClient::named(&town.client().await, "shop");
    assert_eq!(shop.price("tea").await.unwrap(), 3);
    assert_eq!(shop.wait(5).await.unwrap(), 5);
    shop.stock(vec!["tea".to_owned()], None).await.unwrap();
}

/// A call takes at most a kibibyte while it waits: what allocators are slow beyond.
#[tokio::test]
async fn calls_are_small() {
    let shop = ShopClient::named(&Town::default().client().await, "shop");
    let call = shop.price("tea").into_future();
    assert!(size_of_val(&*call) <= 1024, "{} bytes", size_of_val(&*call));
}

/// A method's own error arrives typed, is made once and is never tried again.
#[tokio::test(start_paused = true)]
async fn application_errors_are_typed() {
    let town = Town::default();
    let (_service, corner) = town.open("a").await;
    let shop = ShopClient::named(&town.client().await, "shop");
    let Err(CallError::App(error)) = shop.price("boat").await else { panic!() };
    assert_eq!(error, ShopError::NotSold { thing: "boat".into() });
    assert_eq!(corner.calls.load(Ordering::Relaxed), 1);
}

/// What runs another version of the shop.
mod newer {
    /// The shop, whose prices are words.
    #[micro::service]
    pub trait Shop {
        /// What a thing costs.
        async fn price(&self, thing: String) -> String;
    }

    pub(super) struct Wordy;

    impl Shop for Wordy {
        async fn price(&self, _: String) -> String {
            "three".to_owned()
        }
    }
}

/// An answer that is not understood names the node it came from, and how many attempts it took, with
/// layers around the call and without; one that a layer made names none.
#[tokio::test(start_paused = true)]
async fn a_garbled_answer_names_its_node() {
    let town = Town::default();
    let service = town.service("a").serve(newer::ShopServer::new(newer::Wordy));
    let _shop = registered(service).await;
    let nowhere = Node::new("nowhere", "memory:nowhere");
    let nowhere = Registration::new("shop", "latest", nowhere);
    town.registry.register(&nowhere, Duration::from_secs(3_600)).await.unwrap();
    let builder = || {
        let builder = Client::connect().settings(Settings::none());
        builder.registry(town.registry.clone()).memory_network(town.network.clone())
    };
    let open = layer::from_fn(|request, next: layer::Next| next.run(request));
    for client in [builder(), builder().layer(open)] {
        let shop = ShopClient::named(&client.await.unwrap(), "shop");
        let mut attempts = Vec::new();
        for _ in 0..100 {
            let Err(CallError::Rpc(error)) = shop.price("tea").await else { panic!() };
            assert_eq!((error.phase(), error.execution()), (Phase::Decode, Execution::Executed));
            assert_eq!(error.node(), Some(("a", "memory:a")), "{error}");
            attempts.push(error.attempts());
        }
        attempts.sort_unstable();
        attempts.dedup();
        assert_eq!(attempts, [1, 2]);
    }

    let made = layer::from_fn(|_, _| async {
        Ok(micro::rpc::Response::new(Codec::Json, r#""four""#.into()))
    });
    let client = builder().layer(made).await.unwrap();
    let answer = ShopClient::named(&client, "shop").price("tea").await;
    let Err(CallError::Rpc(error)) = answer else { panic!("{answer:?}") };
    assert_eq!((error.phase(), error.node(), error.attempts()), (Phase::Decode, None, 0));
}

/// The framework's error says what failed, where, how far it got, and in which trace.
#[tokio::test(start_paused = true)]
async fn framework_errors_tell_the_whole_story() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let shop = ShopClient::named(&town.client().await, "shop");
    let Err(CallError::Rpc(error)) = shop.panic().await else { panic!() };
    assert_eq!((error.code(), error.execution()), (Code::Internal, Execution::MaybeExecuted));
    assert_eq!(error.service(), Some("shop"));
    assert_eq!((error.contract(), error.method()), (Some("shop"), Some("panic")));
    assert_eq!(error.node(), Some(("a", "memory:a")));
    assert_eq!(error.attempts(), 1);
    assert_eq!(error.trace_id().unwrap().to_string().len(), 32);
    let text = error.to_string();
    assert!(text.contains("shop/panic") && text.contains("memory:a"), "{text}");
    assert!(!text.contains("on purpose"), "what a panic says stays on the server: {text}");
    // The service lives on.
    assert_eq!(shop.price("tea").await.unwrap(), 3);
}

/// A service nobody registered is not found at once; waiting for one is an option of the call.
#[tokio::test(start_paused = true)]
async fn unknown_services() {
    let town = Town::default();
    let shop = ShopClient::named(&town.client().await, "shop");
    let Err(CallError::Rpc(error)) = shop.price("tea").await else { panic!() };
    assert_eq!((error.code(), error.phase()), (Code::NotFound, Phase::Resolve));
    assert!(error.to_string().contains("`shop`"), "{error}");

    let waiting = tokio::spawn(shop.price("tea").wait_for_ready(true).into_future());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let _shop = town.open("a").await;
    assert_eq!(waiting.await.unwrap().unwrap(), 3);
}

/// A call ends at its deadline, and its handler with it.
#[tokio::test(start_paused = true)]
async fn deadlines_end_calls_and_handlers() {
    let town = Town::default();
    let (_service, corner) = town.open("a").await;
    let shop = ShopClient::named(&town.client().await, "shop");
    let Err(CallError::Rpc(error)) = shop.wait(60_000).timeout(Duration::from_millis(200)).await
    else {
        panic!()
    };
    assert_eq!(error.code(), Code::DeadlineExceeded);
    while corner.cancelled.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A call that is dropped is cancelled on the server.
#[tokio::test(start_paused = true)]
async fn dropping_cancels() {
    let town = Town::default();
    let (_service, corner) = town.open("a").await;
    let shop = ShopClient::named(&town.client().await, "shop");
    let call = shop.wait(600_000).timeout(Duration::from_secs(900));
    assert!(tokio::time::timeout(Duration::from_secs(1), call).await.is_err());
    while corner.cancelled.load(Ordering::Relaxed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Metadata reaches the handler; a nested call inherits deadline and trace, not metadata.
#[tokio::test(start_paused = true)]
async fn nested_calls_inherit_deadline_and_trace() {
    let town = Town::default();
    let _inner = town.open("inner").await;
    let client = town.client().await;
    let outer = Corner { client: Some(client.clone()), ..Corner::default() };
    let service = town.service("outer").name("outer").serve(ShopServer::new(outer));
    let _outer = registered(service).await;
    let shop = ShopClient::named(&client, "outer");

    let direct = shop.context("key").metadata("key", "value").await.unwrap();
    assert_eq!(direct.value.as_deref(), Some("value"));

    let call = shop.ask("shop").timeout(Duration::from_millis(500)).metadata("key", "value");
    let nested = call.await.unwrap().expect("the nested call succeeds");
    assert_eq!(nested.node, "inner");
    assert!(nested.has_deadline && nested.remaining_ms <= 500, "{nested:?}");
    assert_eq!(nested.value, None);
    assert_eq!(nested.trace.len(), 32);
}

/// Metadata that cannot be sent fails the call, before it is sent.
#[tokio::test(start_paused = true)]
async fn bad_metadata_fails_the_call() {
    let town = Town::default();
    let (_service, corner) = town.open("a").await;
    let shop = ShopClient::named(&town.client().await, "shop");
    let Err(CallError::Rpc(error)) = shop.price("tea").metadata("Not A Key", "x").await else {
        panic!()
    };
    assert_eq!((error.code(), error.phase()), (Code::InvalidArgument, Phase::Encode));
    assert_eq!(corner.calls.load(Ordering::Relaxed), 0);
}

/// Arguments that do not decode cost that call, and say of which method.
#[tokio::test(start_paused = true)]
async fn undecodable_arguments_cost_one_call() {
    let town = Town::default();
    let (service, _) = town.open("a").await;
    let config = ChannelConfig { memory: Some(town.network.clone()), ..ChannelConfig::default() };
    let address = service.registration().node.address.parse().unwrap();
    let channel = Channel::new(address, config);
    let request = |method: &'static str, body: &'static str| {
        Request::new("shop", method, Codec::Json, body.as_bytes().into())
    };
    let error = channel.call(&request("price", r#"{"thing":7}"#)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("shop/price"), "{error}");
    let error = channel.call(&request("price", r#"["tea"]"#)).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument, "arguments go by name");
    let error = channel.call(&request("nosuch", "{}")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    let answer = channel.call(&request("price", r#"{"thing":"tea","new":1}"#)).await.unwrap();
    assert_eq!(&answer.body[..], b"3");
}

/// Calls are shared between the nodes, and one that vanishes costs no call.
#[tokio::test(start_paused = true)]
async fn balances_and_survives() {
    let town = Town::default();
    let (a, _) = town.open("a").await;
    let (_b, _) = town.open("b").await;
    let shop = ShopClient::named(&town.client().await, "shop");
    let mut by_node = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..200 {
        *by_node.entry(shop.context("key").await.unwrap().node).or_default() += 1;
    }
    assert!(by_node["a"] > 50 && by_node["b"] > 50, "{by_node:?}");
    // It goes without a word: the registry still has it until its TTL is over.
    drop(a);
    for _ in 0..200 {
        assert_eq!(shop.context("key").idempotent(true).await.unwrap().node, "b");
    }
}

/// A parameter that takes long to decode, and knows which task decoded it.
#[derive(Serialize)]
struct Heavy;

impl<'de> Deserialize<'de> for Heavy {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        std::thread::sleep(Duration::from_millis(2));
        serde::de::IgnoredAny::deserialize(from).map(|_| Self)
    }
}

#[micro::service]
trait Parser {
    /// Which task decoded the parameter.
    async fn parse(&self, heavy: Heavy) -> String;
}

struct Task;

impl Parser for Task {
    async fn parse(&self, _: Heavy) -> String {
        tokio::task::id().to_string()
    }
}

/// Decoding counts as part of a method's work: where it is slow, each call gets a task of its own
/// and the connection's is free for others.
#[tokio::test]
async fn slow_arguments_do_not_hold_up_the_connection() {
    let town = Town::default();
    let _node = registered(town.service("a").name("parser").serve(ParserServer::new(Task))).await;
    let parser = ParserClient::new(&town.client().await);
    let mut tasks = std::collections::HashSet::new();
    for _ in 0..10 {
        tasks.insert(parser.parse(Heavy).await.expect("it is parsed"));
    }
    assert!(tasks.len() > 5, "{tasks:?}");
}

/// An error a method returned tells whoever passes it on that the method ran, of whatever type it
/// is.
#[test]
fn errors_of_methods_were_executed() {
    let errors = [
        micro::Error::from(CallError::App(ShopError::Closed)),
        micro::Error::from(CallError::App(micro::Error::new(Code::Internal, "it is broken"))),
        micro::Error::from(CallError::App(anyhow::anyhow!("it is broken"))),
    ];
    for error in errors {
        assert_eq!(error.execution(), Execution::Executed, "{error}");
        assert_eq!(error.phase(), Phase::Execute, "{error}");
    }
}
