//! Services called and described by name, without their contracts.

use super::*;
use micro::dynamic::{Description, Encoded, ask};
use micro::registry::{Endpoints, Registry};
use micro::rpc::{Codec, TraceContext, TraceId};
use micro::{Code, Error, Stopwatch};
use serde_json::{Value, json};

async fn called(client: &Client, method: &str, arguments: Value) -> Result<Value, Error> {
    Ok(client.call_by_name("shop", "shop", method, &arguments).await?)
}

/// Values go there and come back as JSON, with the node, the attempts and the trace beside them.
#[tokio::test(start_paused = true)]
async fn arguments_and_answers_are_json() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let client = town.client().await;
    assert_eq!(called(&client, "price", json!({ "thing": "tea" })).await.unwrap(), json!(3));
    let stocked = called(&client, "stock", json!({ "things": ["tea"], "new": [1] })).await;
    assert_eq!(stocked.unwrap(), Value::Null);
    let call = client.call_by_name("shop", "shop", "context", &json!({ "key": "k" }));
    let reply = call.metadata("k", "v").reply().await.unwrap();
    let seen: Seen = reply.value;
    assert_eq!(seen.value.as_deref(), Some("v"));
    assert_eq!(Some(seen.trace), reply.trace.as_ref().map(TraceId::to_string));
    assert_eq!(reply.node.unwrap().node.id, "a");
    assert_eq!(reply.attempts, 1);
}

/// What goes wrong has the code and words that typed callers see, and the method's own error in it.
#[tokio::test(start_paused = true)]
async fn errors_have_code_words_and_details() {
    let town = Town::default();
    let (_service, corner) = town.open("a").await;
    let client = town.client().await;
    let error = called(&client, "price", json!({ "thing": "boat" })).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "boat is not sold here"));
    assert_eq!(error.details::<Value>(), Some(json!({ "NotSold": { "thing": "boat" } })));
    assert_eq!(error.details::<ShopError>(), Some(ShopError::NotSold { thing: "boat".into() }));
    assert_eq!(error.node().unwrap().0, "a");
    for (method, arguments, code) in [
        ("price", json!({}), Code::InvalidArgument),
        ("price", json!({ "thing": 5 }), Code::InvalidArgument),
        ("price", json!(["tea"]), Code::InvalidArgument),
        ("prices", json!({}), Code::Unimplemented),
        ("panic", json!({}), Code::Internal),
    ] {
        let error = called(&client, method, arguments).await.unwrap_err();
        assert_eq!((error.code(), error.details::<Value>()), (code, None), "{error}");
    }
    assert_eq!(corner.calls.load(Ordering::Relaxed), 1);
    let late = client.call_by_name("shop", "shop", "wait", &json!({ "millis": 60_000 }));
    let late: Result<Value, _> = late.timeout(Duration::from_millis(100)).await;
    assert_eq!(Error::from(late.unwrap_err()).code(), Code::DeadlineExceeded);
    let nobody: Result<Value, _> = client.call_by_name("nobody", "shop", "wait", &json!({})).await;
    assert_eq!(Error::from(nobody.unwrap_err()).code(), Code::NotFound);
}

/// A stopwatch says where the time of a call went, of one that failed as well; its parts are the
/// whole.
#[tokio::test(start_paused = true)]
async fn a_stopwatch_measures() {
    let town = Town::default();
    let client = town.client().await;
    let stopwatch = Stopwatch::default();
    assert_eq!(stopwatch.times(), micro::Times::default());
    let shop = ShopClient::named(&client, "shop");
    let waits = shop.wait(50).wait_for_ready(true).stopwatch(&stopwatch);
    let waits = tokio::spawn(waits.into_future());
    tokio::time::sleep(Duration::from_millis(300)).await;
    let _shop = town.open("a").await;
    waits.await.unwrap().unwrap();
    let times = stopwatch.times();
    assert!(times.resolve >= Duration::from_millis(300), "{times:?}");
    assert!(times.wait >= Duration::from_millis(50), "{times:?}");
    assert!(times.resolve + times.wait < Duration::from_millis(400), "{times:?}");
    assert_eq!(times.resolve + times.retry + times.connect + times.wait, times.total);

    let late = shop.wait(60_000).timeout(Duration::from_millis(70)).stopwatch(&stopwatch);
    late.await.unwrap_err();
    let times = stopwatch.times();
    assert!(times.resolve.is_zero() && times.wait >= Duration::from_millis(70), "{times:?}");
    assert!(times.total < Duration::from_millis(200), "{times:?}");
}

/// A node says what it serves, with the schemas of what its methods take, answer and fail with.
#[tokio::test(start_paused = true)]
async fn a_node_describes_itself() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let client = town.client().await;
    let [described] = <[Description; 1]>::try_from(client.describe("shop").await.unwrap()).unwrap();
    assert_eq!((&*described.version, described.node.as_deref()), ("latest", Some("a")));
    assert_eq!(described.contracts[0].doc, "A contract with one method of each kind.");
    assert_eq!(described.methods().count(), 6);
    let price = described.method("shop", "price").unwrap();
    assert!(price.idempotent && price.doc == "What a thing costs.");
    let thing = json!({ "thing": { "type": "string" } });
    let takes = json!({ "type": "object", "properties": thing, "required": ["thing"] });
    assert_eq!(price.request, Some(takes));
    assert_eq!(price.response.as_ref().unwrap()["format"], "uint32");
    let error = price.error.as_ref().unwrap();
    assert_eq!(error["oneOf"][0]["properties"]["NotSold"]["required"], json!(["thing"]));
    assert_eq!(error["oneOf"][1], json!({ "const": "Closed" }));
    let stock = described.method("shop", "stock").unwrap();
    assert_eq!(stock.request.as_ref().unwrap()["required"], json!(["things"]));
    assert_eq!((stock.response.as_ref(), &stock.error), (Some(&json!({ "type": "null" })), &None));
    assert_eq!(client.describe("nobody").await.unwrap_err().code(), Code::NotFound);
}

/// Where no node answers, the registry says what is served, if it knows that.
#[tokio::test(start_paused = true)]
async fn the_registry_describes_those_who_do_not_answer() {
    let town = Town::default();
    let (running, _corner) = town.open("a").await;
    let client = town.client().await;
    let mut registration = running.registration().clone();
    registration.service = "away".into();
    registration.node.address = "memory:nowhere".into();
    town.registry.register(&registration, Duration::from_secs(3_600)).await.unwrap();
    let described = client.describe("away").await.unwrap();
    assert_eq!((described.len(), &described[0].node), (1, &None));
    let price = described[0].method("shop", "price").unwrap();
    assert_eq!((price.idempotent, &price.request), (true, &None));
    registration.endpoints = Endpoints::Omitted;
    town.registry.register(&registration, Duration::from_secs(3_600)).await.unwrap();
    assert_eq!(client.describe("away").await.unwrap_err().code(), Code::Unavailable);
}

/// A version that nobody can describe takes nothing from the others.
#[tokio::test(start_paused = true)]
async fn a_version_that_is_unknown_is_left_out() {
    let town = Town::default();
    let (running, _corner) = town.open("a").await;
    let client = town.client().await;
    let mut registration = running.registration().clone();
    registration.version = "0.1.0".into();
    registration.node.id = "old".into();
    registration.node.address = "memory:nowhere".into();
    registration.endpoints = Endpoints::Omitted;
    town.registry.register(&registration, Duration::from_secs(3_600)).await.unwrap();
    let described = client.describe("shop").await.unwrap();
    assert_eq!((described.len(), described[0].node.as_deref()), (1, Some("a")));
}

/// Of a version's nodes the newest that wants traffic says what it serves, and none of another service
/// or version.
#[tokio::test(start_paused = true)]
async fn the_newest_node_describes_its_version() {
    let town = Town::default();
    let (_first, _second) = (town.open("a").await, town.open("b").await);
    let client = town.client().await;
    let mut version = client.registry().get("shop").await.unwrap().remove(0);
    for (epochs, weights, expected) in
        [([1, 2], [1, 1], "b"), ([2, 1], [1, 1], "a"), ([2, 1], [0, 1], "b")]
    {
        for (node, (epoch, weight)) in version.nodes.iter_mut().zip(epochs.into_iter().zip(weights))
        {
            (node.epoch, node.weight) = (epoch, weight);
        }
        let (node, told) = client.describe_version(&version).await.unwrap();
        assert_eq!((&*node.id, told.node.as_deref()), (expected, Some(expected)));
    }
    let name = std::mem::replace(&mut version.name, "other".into());
    let error = client.describe_version(&version).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().contains("is `shop` latest"), "{error}");
    (version.name, version.version) = (name, "1.0.0".into());
    let error = client.describe_version(&version).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

/// A node is asked at its address, without a registry.
#[tokio::test]
async fn a_node_is_asked_at_its_address() {
    let town = Town::default();
    let service = town.service("a").address("127.0.0.1:0");
    let running = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let description = ask(&running.registration().node.address).await.unwrap();
    assert_eq!((&*description.service, description.node.as_deref()), ("shop", Some("a")));
}

/// What cannot be asked is unavailable, what is no node of ours does not describe itself.
#[tokio::test]
async fn what_does_not_describe_itself() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 404 Not Found\r\n\r\n{}").await.unwrap();
    };
    let (asked, ()) = tokio::join!(ask(&address), answer);
    assert_eq!(asked.unwrap_err().code(), Code::Unimplemented);
    // Unread requests make that a reset.
    let hang_up = async { drop(listener.accept().await.unwrap()) };
    let (asked, ()) = tokio::join!(ask(&address), hang_up);
    assert_eq!(asked.unwrap_err().code(), Code::Unimplemented);
    drop(listener);
    for nobody in [&*address, "memory:a", "nonsense"] {
        assert_eq!(ask(nobody).await.unwrap_err().code(), Code::Unavailable, "{nobody}");
    }
}

/// Encoded arguments go there as they are and the answer comes back so, in the trace that is given;
/// an error keeps its details and what came along with it.
#[tokio::test(start_paused = true)]
async fn bodies_stay_encoded() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let client = town.client().await;
    let call = |method: &str, body: &'static str| {
        let body = Encoded::new(Codec::Json, body.into());
        client.call_encoded("shop", "shop".to_owned(), method.to_owned(), body)
    };
    let trace = TraceContext::new_root();
    let reply = call("context", r#" {"key": "k"} "#).trace(trace).encoded_reply().await.unwrap();
    assert_eq!((reply.value.codec, reply.trace), (Codec::Json, Some(trace.trace_id())));
    let seen: Seen = serde_json::from_slice(&reply.value.body).unwrap();
    assert_eq!(seen.trace, trace.trace_id().to_string());

    let error = call("price", r#"{"thing": "boat"}"#).encoded_reply().await.unwrap_err();
    let status = error.to_status();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "boat is not sold here"));
    let (codec, details) = status.details().unwrap();
    assert_eq!((codec, &**details), (Codec::Json, &br#"{"NotSold":{"thing":"boat"}}"#[..]));
    let error = call("price", "{").encoded_reply().await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
}

/// What a method sends along with its error reaches the caller, as a status too.
#[tokio::test(start_paused = true)]
async fn errors_have_metadata() {
    let town = Town::default();
    let service = town.service("a").serve(StrictServer::new(Sorry));
    let _strict = registered(service).await;
    let client = town.client().await;
    let error = StrictClient::named(&client, "shop").refuse().await.unwrap_err();
    let error = Error::from(error);
    assert_eq!(error.metadata().get("hint"), Some("later"));
    assert_eq!(error.to_status().metadata().get("hint"), Some("later"));
}

/// Refuses, and says something beside that.
#[micro::service]
trait Strict {
    async fn refuse(&self, cx: &Context) -> Result<(), Error>;
}

struct Sorry;

impl Strict for Sorry {
    async fn refuse(&self, cx: &Context) -> Result<(), Error> {
        cx.reply_metadata("hint", "later").unwrap();
        Err(Error::new(Code::Aborted, "not now"))
    }
}
