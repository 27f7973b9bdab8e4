//! Layers around calls, attempts and handlers.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use micro::layer::{self, BoxError, Next};
use micro::rpc::{Address, Execution, Request, Response, Status};
use micro::{CallError, Code, Error, Phase};
use micro_selector::layer::deadline::Missed;

use super::*;

/// What passed where, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, line: String) {
        self.0.lock().expect("no panic").push(line);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }

    /// A layer that notes when a request comes by, and when its answer does.
    fn layer(&self, name: &'static str) -> impl tower::Layer<Next, Service: Noting> + 'static {
        let log = self.clone();
        layer::from_fn(move |request: Request, next: Next| {
            let log = log.clone();
            async move {
                log.note(format!("> {name}"));
                let answer = next.run(request).await;
                log.note(format!("< {name}"));
                answer
            }
        })
    }
}

/// Shorthand for what every layer here makes.
trait Noting:
    tower::Service<Request, Response = Response, Error = BoxError, Future: Send + 'static>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Noting for S where
    S: tower::Service<Request, Response = Response, Error = BoxError, Future: Send + 'static>
        + Clone
        + Send
        + Sync
        + 'static
{
}

async fn client_with(town: &Town, build: impl FnOnce(ClientBuilder) -> ClientBuilder) -> Client {
    let builder = Client::connect().settings(Settings::none()).registry(town.registry.clone());
    build(builder.memory_network(town.network.clone())).await.expect("nothing about it is wrong")
}

/// At each of the three places the layer that was added first sees the request first, and the
/// answer last.
#[tokio::test]
async fn layers_have_an_order() {
    let (town, log) = (Town::default(), Log::default());
    let service = town.service("a").layer(log.layer("server 1")).layer(log.layer("server 2"));
    let _node = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let client = client_with(&town, |client| {
        client
            .attempt_layer(log.layer("attempt 1"))
            .layer(log.layer("call 1"))
            .attempt_layer(log.layer("attempt 2"))
            .layer(log.layer("call 2"))
    });
    assert_eq!(ShopClient::new(&client.await).price("tea").await.expect("it is sold"), 3);
    let inwards = ["call 1", "call 2", "attempt 1", "attempt 2", "server 1", "server 2"];
    let expected: Vec<_> = (inwards.iter().map(|name| format!("> {name}")))
        .chain(inwards.iter().rev().map(|name| format!("< {name}")))
        .collect();
    assert_eq!(log.take(), expected);
}

/// A layer around attempts runs for each of them and knows its node; one around calls runs once.
#[tokio::test]
async fn attempts_are_told_apart_from_calls() {
    let (town, log) = (Town::default(), Log::default());
    let (_a, _b) = (town.open("a").await, town.open("b").await);
    town.network.listen_to_nobody(&town, "gone").await;
    let nodes = log.clone();
    let attempt = layer::from_fn(move |request: Request, next: Next| {
        nodes.note(request.extensions.get::<Address>().expect("it is there").to_string());
        next.run(request)
    });
    let client = client_with(&town, |c| c.layer(log.layer("call")).attempt_layer(attempt)).await;
    let shop = ShopClient::new(&client);
    let mut retried = 0;
    for _ in 0..50 {
        shop.price("tea").await.expect("two of three nodes serve");
        let lines = log.take();
        assert_eq!((lines.first(), lines.last()), (Some(&"> call".into()), Some(&"< call".into())));
        retried += usize::from(lines.len() == 4 && lines[1] == "memory:gone");
    }
    assert!(retried > 0, "one of three nodes is not there");
}

trait ListenToNobody {
    async fn listen_to_nobody(&self, town: &Town, id: &str);
}

impl ListenToNobody for MemoryNetwork {
    /// Registers a node at an address where nobody listens.
    async fn listen_to_nobody(&self, town: &Town, id: &str) {
        use micro::registry::{Node, Registration, Registry};
        let registration =
            Registration::new("shop", "1.0.0", Node::new(id, format!("memory:{id}")));
        let registered = town.registry.register(&registration, Duration::from_secs(60)).await;
        registered.expect("memory does not fail");
    }
}

/// What a server's layer answers is what the caller sees, and the method is not run; what it puts
/// into the extensions is there for the method.
#[tokio::test]
async fn a_server_layer_decides() {
    #[micro::service]
    trait Club {
        async fn enter(&self, cx: &Context) -> String;
    }
    struct Doors;
    impl Club for Doors {
        async fn enter(&self, cx: &Context) -> String {
            cx.extension::<Guest>().expect("the layer has put it there").0.clone()
        }
    }
    #[derive(Clone)]
    struct Guest(String);

    async fn authenticate(mut request: Request, next: Next) -> Result<Response, BoxError> {
        let Some(name) = request.metadata.get("name").map(str::to_owned) else {
            return Err(Status::new(Code::Unauthenticated, "who are you?").into());
        };
        if name == "Bob" {
            return Err("Bob's file is in drawer 7".into());
        }
        request.extensions.insert(Guest(name));
        next.run(request).await
    }

    let town = Town::default();
    let service = town.service("a").name("club").layer(layer::from_fn(authenticate));
    let _node = registered(service.serve(ClubServer::new(Doors))).await;
    let club = ClubClient::new(&town.client().await);
    assert_eq!(club.enter().metadata("name", "Ann").await.expect("Ann may"), "Ann");
    let CallError::Rpc(error) = club.enter().await.expect_err("nobody may");
    assert_eq!((error.code(), error.attempts()), (Code::Unauthenticated, 1));
    assert!(error.to_string().contains("who are you?"), "{error}");
    let CallError::Rpc(error) = club.enter().metadata("name", "Bob").await.expect_err("not Bob");
    assert_eq!(error.code(), Code::Internal);
    assert!(!error.to_string().contains("drawer"), "{error}");
}

/// Tower's own layers fit, on both sides, and their errors have codes.
#[tokio::test(start_paused = true)]
async fn towers_layers_fit() {
    use tower::timeout::TimeoutLayer;
    let second = Duration::from_secs(1);
    let town = Town::default();
    let _node = town.open("a").await;
    let client = client_with(&town, |client| client.layer(TimeoutLayer::new(second))).await;
    let CallError::Rpc(error) = ShopClient::new(&client).wait(5_000).await.expect_err("too long");
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    let client = client_with(&town, |client| client.attempt_layer(TimeoutLayer::new(second))).await;
    let call = ShopClient::new(&client).wait(5_000).idempotent(true);
    let CallError::Rpc(error) = call.await.expect_err("each attempt takes too long");
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");

    let service = town.service("slow").name("slow").layer(TimeoutLayer::new(second));
    let _slow = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let slow = ShopClient::named(&town.client().await, "slow");
    let CallError::Rpc(error) = slow.wait(5_000).await.expect_err("too long");
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
}

/// The selector's layers fit, on both sides, and their errors have codes and say what was executed.
#[tokio::test(start_paused = true)]
async fn the_selectors_layers_fit() {
    use micro::selector::layer::limit::Config;
    use micro::selector::layer::{self, DeadlineLayer, LimitLayer, LoadShedLayer};
    use tower::ServiceBuilder;
    let second = Duration::from_secs(1);
    let deadline = || {
        ServiceBuilder::new().map_err(layer::Error::into_boxed).layer(DeadlineLayer::within(second))
    };
    let full =
        || ServiceBuilder::new().map_err(layer::Error::into_boxed).layer(LoadShedLayer::new(0));
    let town = Town::default();
    let service = town.service("a").layer(deadline());
    let _node = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let service = town.service("full").name("full").layer(full());
    let _full = registered(service.serve(ShopServer::new(Corner::default()))).await;

    let client = town.client().await;
    let error = rpc_error(ShopClient::new(&client).wait(5_000).await);
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert_eq!(error.execution(), Execution::MaybeExecuted, "{error}");
    let error = rpc_error(ShopClient::named(&client, "full").price("tea").await);
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert_eq!(error.execution(), Execution::Refused, "{error}");

    let client = client_with(&town, |client| client.layer(full())).await;
    let error = rpc_error(ShopClient::new(&client).price("tea").await);
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    assert_eq!(error.execution(), Execution::Refused, "{error}");
    // One call at once, which is over before the next one: what passes is unchanged.
    let config = Config { max: 1, ..Config::default() };
    let one =
        ServiceBuilder::new().map_err(layer::Error::into_boxed).layer(LimitLayer::new(&config));
    let client = client_with(&town, |client| client.attempt_layer(one)).await;
    for _ in 0..3 {
        ShopClient::new(&client).price("tea").await.expect("there is a place");
    }
}

/// A layer of either kind that waits for something has until the call's deadline, not for ever.
#[tokio::test(start_paused = true)]
async fn layers_end_with_the_deadline() {
    let town = Town::default();
    let _node = town.open("a").await;
    let waiting = layer::from_fn(|_: Request, _: Next| std::future::pending());
    for is_attempt in [false, true] {
        let client = client_with(&town, |client| match is_attempt {
            false => client.layer(waiting),
            true => client.attempt_layer(waiting),
        });
        let client = client.await;
        let call = ShopClient::new(&client).price("tea").timeout(Duration::from_secs(1));
        let ended = tokio::time::timeout(Duration::from_secs(10), async { call.await }).await;
        let error = rpc_error(ended.expect("it ends in time"));
        assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
        assert_eq!((error.service(), error.method()), (Some("shop"), Some("price")));
        assert_eq!(error.node().is_some(), is_attempt, "{error}");
    }
}

/// A call in a queue of a layer's own ends with its deadline, not with the call before it.
#[tokio::test(start_paused = true)]
async fn queues_end_with_the_deadline() {
    let town = Town::default();
    let _node = town.open("a").await;
    let places = Arc::new(tokio::sync::Semaphore::new(1));
    let one_by_one = layer::from_fn(move |request: Request, next: Next| {
        let places = places.clone();
        async move {
            let _place = places.acquire_owned().await?;
            next.run(request).await
        }
    });
    let shop = ShopClient::new(&client_with(&town, |client| client.layer(one_by_one)).await);
    let first = tokio::spawn({
        let call = shop.wait(30_000).timeout(Duration::from_secs(60));
        async move { call.await }
    });
    tokio::task::yield_now().await;
    let error = rpc_error(shop.wait(0).timeout(Duration::from_secs(1)).await);
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(!first.is_finished(), "it still has the place");
    first.await.expect("no panic").expect("it is answered");
}

/// When the deadline passes behind the layers, what is known there is what the caller is told.
#[tokio::test(start_paused = true)]
async fn deadlines_behind_layers_say_where() {
    let (town, log) = (Town::default(), Log::default());
    let _node = town.open("a").await;
    let client =
        client_with(&town, |c| c.layer(log.layer("call")).attempt_layer(log.layer("attempt")));
    let shop = ShopClient::new(&client.await);
    let error = rpc_error(shop.wait(5_000).timeout(Duration::from_secs(1)).await);
    assert_eq!((error.code(), error.phase()), (Code::DeadlineExceeded, Phase::Wait), "{error}");
    assert_eq!(error.node(), Some(("a", "memory:a")), "{error}");
    assert_eq!(error.execution(), Execution::MaybeExecuted);
}

/// Where a layer may be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Call,
    Attempt,
    Server,
}

const PLACES: [Place; 3] = [Place::Call, Place::Attempt, Place::Server];

/// A row of the table of errors: one of them, the code on a client and on a server, its words.
type Row = (fn() -> BoxError, Code, Code, &'static str);

const TABLE: [Row; 6] = [
    (
        || Status::new(Code::Unauthenticated, "who are you?").into(),
        Code::Unauthenticated,
        Code::Unauthenticated,
        "who are you?",
    ),
    (
        || Error::new(Code::FailedPrecondition, "not on Sundays").into(),
        Code::FailedPrecondition,
        Code::FailedPrecondition,
        "not on Sundays",
    ),
    (
        || {
            let phase = micro::rpc::Phase::Wait;
            micro::rpc::Error::new(Code::Aborted, phase, Execution::Executed, "lost a race").into()
        },
        Code::Aborted,
        Code::Aborted,
        "lost a race",
    ),
    (
        || tower::timeout::error::Elapsed::new().into(),
        Code::DeadlineExceeded,
        Code::DeadlineExceeded,
        "timed out",
    ),
    (
        || tower::load_shed::error::Overloaded::new().into(),
        Code::ResourceExhausted,
        Code::ResourceExhausted,
        "overloaded",
    ),
    (|| "drawer 7".into(), Code::Unknown, Code::Internal, "drawer 7"),
];

/// How the call fails that a layer at this place ends, before or after it passed the request on.
async fn ended_by(make: fn() -> BoxError, place: Place, passes: bool) -> Error {
    let ending = layer::from_fn(move |request: Request, next: Next| async move {
        if passes {
            next.run(request).await?;
        }
        Err::<Response, _>(make())
    });
    let town = Town::default();
    let service = match place {
        Place::Server => town.service("a").layer(ending),
        _ => town.service("a"),
    };
    let _node = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let client = client_with(&town, |client| match place {
        Place::Call => client.layer(ending),
        Place::Attempt => client.attempt_layer(ending),
        Place::Server => client,
    });
    let shop = ShopClient::new(&client.await);
    rpc_error(shop.price("tea").retry(micro::Retry::none()).await)
}

/// Each row of the table of errors holds at each place, and the error says which call it ended.
#[tokio::test]
async fn errors_have_the_codes_of_the_table() {
    for (make, on_client, on_server, words) in TABLE {
        for place in PLACES {
            let error = ended_by(make, place, false).await;
            let is_client = place != Place::Server;
            let code = if is_client { on_client } else { on_server };
            assert_eq!(error.code(), code, "{place:?}: {error}");
            let is_told = code != Code::Internal;
            assert_eq!(error.to_string().contains(words), is_told, "{place:?}: {error}");
            assert_eq!(error.service(), Some("shop"), "{place:?}: {error}");
            assert_eq!(error.method(), Some("price"), "{place:?}: {error}");
            assert_eq!(error.node().is_some(), place != Place::Call, "{place:?}: {error}");
        }
    }
}

/// What a client's layer ends was not sent, or may have been executed if the layer passed it on.
#[tokio::test]
async fn client_layers_know_what_was_sent() {
    for (make, code, _, _) in TABLE {
        for (place, passes) in
            [Place::Call, Place::Attempt].map(|at| [(at, false), (at, true)]).concat()
        {
            let error = ended_by(make, place, passes).await;
            let execution = match (passes, code) {
                (_, Code::ResourceExhausted) => Execution::Refused,
                (false, _) => Execution::NotSent,
                // The engine's own: what it says is known where the engine is.
                (true, Code::Aborted) if place == Place::Attempt => Execution::Executed,
                (true, _) => Execution::MaybeExecuted,
            };
            let what = format!("{place:?}, passes: {passes}, {error}");
            assert_eq!(error.execution(), execution, "{what}");
            let phase = if passes { Phase::Wait } else { Phase::Send };
            assert_eq!(error.phase(), phase, "{what}");
        }
    }
}

/// What a server's layer answers is an answer, unless it says that it interrupted or refused.
#[tokio::test]
async fn server_layers_answer() {
    for (make, _, code, _) in TABLE {
        let error = ended_by(make, Place::Server, false).await;
        let execution = match code {
            Code::DeadlineExceeded => Execution::MaybeExecuted,
            Code::ResourceExhausted => Execution::Refused,
            _ => Execution::Executed,
        };
        assert_eq!(error.execution(), execution, "{error}");
    }
}

/// An idempotent call that a server's layer interrupts is repeated elsewhere.
#[tokio::test(start_paused = true)]
async fn what_a_server_layer_interrupts_is_repeated() {
    let town = Town::default();
    let slow = |id| {
        let timeout = tower::timeout::TimeoutLayer::new(Duration::from_secs(1));
        registered(town.service(id).layer(timeout).serve(ShopServer::new(Corner::default())))
    };
    let _nodes = (slow("a").await, slow("b").await);
    let shop = ShopClient::new(&town.client().await);
    let error = rpc_error(shop.wait(5_000).idempotent(true).await);
    assert_eq!((error.code(), error.attempts()), (Code::DeadlineExceeded, 2), "{error}");
    let error = rpc_error(shop.wait(5_000).await);
    assert_eq!((error.execution(), error.attempts()), (Execution::MaybeExecuted, 1), "{error}");
}

/// A call that its layers send again, after it may have been executed, is repeated no further: what
/// they repeat and what the client repeats do not multiply.
#[tokio::test(start_paused = true)]
async fn what_layers_repeat_is_a_retry() {
    let town = Town::default();
    let slow = |id| {
        let timeout = tower::timeout::TimeoutLayer::new(Duration::from_secs(1));
        registered(town.service(id).layer(timeout).serve(ShopServer::new(Corner::default())))
    };
    let _nodes = (slow("a").await, slow("b").await, slow("c").await);
    let twice = layer::from_fn(|request: Request, next: Next| async move {
        match next.clone().run(request.clone()).await {
            Err(_) => next.run(request).await,
            answer => answer,
        }
    });
    let log = Log::default();
    let client = client_with(&town, |c| c.layer(twice).attempt_layer(log.layer("attempt"))).await;
    let error = rpc_error(ShopClient::new(&client).wait(5_000).idempotent(true).await);
    assert_eq!((error.code(), error.attempts()), (Code::DeadlineExceeded, 1), "{error}");
    assert_eq!(log.take().len(), 2 * (3 + 1));
}

/// A layer that sends a call twice at once, and then again: what it sends last is a retry if either
/// of the first two may have cost a server something, whichever ended last, and otherwise it is none.
#[tokio::test(start_paused = true)]
async fn each_of_what_layers_send_at_once_counts() {
    for (ends, is_retry) in
        [(["free", "costly"], true), (["costly", "free"], true), (["free", "free"], false)]
    {
        let town = Town::default();
        let _node = town.open("a").await;
        let hedge = layer::from_fn(move |request: Request, next: Next| async move {
            let send = |end| {
                let (mut copy, next) = (request.clone(), next.clone());
                copy.metadata.insert("end", end).expect("it is short");
                next.run(copy)
            };
            let [first, second] = ends;
            let _ = tokio::join!(send(first), send(second));
            send("last").await
        });
        let log = Log::default();
        let noting = log.clone();
        let attempt = layer::from_fn(move |request: Request, next: Next| {
            let log = noting.clone();
            async move {
                match request.metadata.get("end") {
                    Some("free") => {
                        tokio::time::sleep(Duration::from_secs(2)).await;
                        Err(Status::new(Code::Unavailable, "not here").refused().into())
                    }
                    Some("costly") => {
                        next.run(request).await?;
                        Err("it was lost".into())
                    }
                    _ => {
                        log.note(format!("retry: {}", request.no_retry));
                        next.run(request).await
                    }
                }
            }
        });
        let client = client_with(&town, |c| c.layer(hedge).attempt_layer(attempt)).await;
        let shop = ShopClient::new(&client);
        shop.price("tea").retry(micro::Retry::none()).await.expect("it is answered at last");
        assert_eq!(log.take(), [format!("retry: {is_retry}")], "{ends:?}");
    }
}

/// What a layer ends before it is sent says nothing against the node it was meant for, whatever the
/// layer says: the node gets its share again at once.
#[tokio::test(start_paused = true)]
async fn unsent_attempts_say_nothing_of_the_node() {
    let reasons: [fn() -> BoxError; 4] = [
        || "not on Sundays".into(),
        || Missed::Before.into(),
        || Status::new(Code::ResourceExhausted, "too much").refused().into(),
        || Status::new(Code::Unavailable, "not there").into(),
    ];
    for reason in reasons {
        let town = Town::default();
        let (_a, a) = town.open("a").await;
        let _others = (town.open("b").await, town.open("c").await);
        let closed = Arc::new(AtomicBool::new(true));
        let is_closed = closed.clone();
        let gate = layer::from_fn(move |request: Request, next: Next| {
            let address = request.extensions.get::<Address>().expect("it is there");
            let ends = is_closed.load(Ordering::Relaxed) && address.to_string() == "memory:a";
            async move { if ends { Err(reason()) } else { next.run(request).await } }
        });
        let client = client_with(&town, |c| c.attempt_layer(gate)).await;
        let shop = ShopClient::new(&client);
        for _ in 0..60 {
            let _ = shop.price("tea").await;
        }
        assert_eq!(a.calls.load(Ordering::Relaxed), 0);
        closed.store(false, Ordering::Relaxed);
        for _ in 0..60 {
            let _ = shop.price("tea").await;
        }
        assert!(a.calls.load(Ordering::Relaxed) > 5, "{}", reason());
    }
}

/// An attempt that a layer's time limit ended unsent is repeated elsewhere, idempotent or not.
#[tokio::test(start_paused = true)]
async fn attempts_that_end_unsent_are_repeated() {
    let town = Town::default();
    let (_a, _b) = (town.open("a").await, town.open("b").await);
    let hangs = layer::from_fn(|request: Request, next: Next| async move {
        let address = request.extensions.get::<Address>().expect("it is there");
        match address.to_string().as_str() {
            "memory:a" => std::future::pending().await,
            _ => next.run(request).await,
        }
    });
    let limit = tower::timeout::TimeoutLayer::new(Duration::from_secs(1));
    let client = client_with(&town, |c| c.attempt_layer(limit).attempt_layer(hangs)).await;
    let shop = ShopClient::new(&client);
    for _ in 0..20 {
        let call = shop.wait(0).timeout(Duration::from_secs(10));
        assert_eq!(call.await.expect("the other node answers"), 0);
    }
}

/// An error of another call that a layer made is told, and is not taken for that of the call.
#[tokio::test]
async fn errors_of_other_calls_are_not_the_calls_own() {
    for (passes, is_attempt) in [(false, false), (true, false), (false, true), (true, true)] {
        let town = Town::default();
        let _node = town.open("a").await;
        let bank = ShopClient::named(&town.client().await, "bank");
        let pay = layer::from_fn(move |request: Request, next: Next| {
            let bank = bank.clone();
            async move {
                if passes {
                    next.run(request).await?;
                }
                Err::<Response, _>(rpc_error(bank.price("money").await).into())
            }
        });
        let client = client_with(&town, |client| match is_attempt {
            false => client.layer(pay),
            true => client.attempt_layer(pay),
        });
        let shop = ShopClient::new(&client.await);
        let error = rpc_error(shop.price("tea").retry(micro::Retry::none()).await);
        assert_eq!((error.code(), error.service()), (Code::NotFound, Some("shop")), "{error}");
        assert!(error.to_string().contains("shop/price of bank"), "{error}");
        let execution = if passes { Execution::MaybeExecuted } else { Execution::NotSent };
        assert_eq!(error.execution(), execution, "{error}");
    }
}

/// What the caller was told was not sent is not sent afterwards.
#[tokio::test]
async fn what_was_ended_unsent_stays_unsent() {
    let town = Town::default();
    let (_node, corner) = town.open("a").await;
    let kept = Arc::new(Mutex::new(Vec::new()));
    for is_attempt in [false, true] {
        let keeps = kept.clone();
        let keep = layer::from_fn(move |request: Request, next: Next| {
            keeps.lock().expect("no panic").push((request, next));
            async { Err::<Response, _>("not now".into()) }
        });
        let client = client_with(&town, |client| match is_attempt {
            false => client.layer(keep),
            true => client.attempt_layer(keep),
        });
        let client = client.await;
        let call = ShopClient::new(&client).price("tea").retry(micro::Retry::none());
        assert_eq!(rpc_error(call.await).execution(), Execution::NotSent);
        let (request, next) = kept.lock().expect("no panic").pop().expect("it was kept");
        next.run(request).await.expect_err("it comes too late");
        assert_eq!(corner.calls.load(Ordering::Relaxed), 0);
    }
}

/// The error of a call that its method did not fail.
fn rpc_error<T: std::fmt::Debug, E: std::fmt::Debug>(ended: Result<T, CallError<E>>) -> Error {
    match ended {
        Err(CallError::Rpc(error)) => error,
        ended => panic!("no error of the call: {ended:?}"),
    }
}

/// A layer's own error is the source of the call's, and one that loses the request is told so.
#[tokio::test]
async fn a_client_layers_error_is_kept() {
    let town = Town::default();
    let _node = town.open("a").await;
    let refuse = layer::from_fn(|_: Request, _: Next| async { Err("not on Sundays".into()) });
    let client = client_with(&town, |client| client.layer(refuse)).await;
    let CallError::Rpc(error) = ShopClient::new(&client).price("tea").await.expect_err("refused")
    else {
        panic!("the shop did not say so")
    };
    assert_eq!(error.code(), Code::Unknown);
    assert!(error.to_string().contains("shop/price of shop"), "{error}");
    let source = std::error::Error::source(&error).expect("the layer's error");
    assert_eq!(source.to_string(), "not on Sundays");

    let anew = layer::from_fn(|request: Request, next: Next| {
        next.run(Request::new(request.contract, request.method, request.codec, request.body))
    });
    let client = client_with(&town, |client| client.layer(anew)).await;
    let error = ShopClient::new(&client).price("tea").await.expect_err("it cannot be sent");
    assert!(error.to_string().contains("pass the one it was given on"), "{error}");
}

/// The method's own error passes through layers as the type it is.
#[tokio::test]
async fn application_errors_pass_through() {
    let (town, log) = (Town::default(), Log::default());
    let service = town.service("a").layer(log.layer("server"));
    let _node = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let client =
        client_with(&town, |c| c.layer(log.layer("call")).attempt_layer(log.layer("attempt")));
    let error = ShopClient::new(&client.await).price("door").await.expect_err("it is closed");
    assert!(matches!(error, CallError::App(ShopError::Closed)), "{error}");
}
