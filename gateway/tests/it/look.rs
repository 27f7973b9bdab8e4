//! What there is: lists, descriptions and events.

use super::*;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Services are listed with versions, nodes and methods; one that is not allowed is not.
#[tokio::test]
async fn services_are_listed() {
    let town = Town::default();
    let shop = town.open("a").await;
    let gateway = town.gateway().await;
    let listed = get(&gateway, "/services").await.json();
    assert_eq!(listed[0]["name"], "shop");
    let node = &listed[0]["versions"][0]["nodes"][0];
    assert_eq!((&node["id"], &node["state"]), (&json!("a"), &json!("serving")));
    assert_eq!(node["address"], shop.registration().node.address);
    let method = json!({ "contract": "shop", "name": "find" });
    assert_eq!(listed[0]["methods"][0], method);

    let described = get(&gateway, "/describe?service=shop").await.json();
    assert_eq!(described[0]["contracts"][0]["name"], "shop");
    assert_eq!(get(&gateway, "/describe?service=other").await.status, 404);
    assert_eq!(get(&gateway, "/describe").await.status, 400);
    assert_eq!(post(&gateway, "/services", "{}").await.header("allow"), Some("GET"));

    let nobody = |config: &mut Config| config.services = Some([String::from("other")].into());
    let gateway = town.gateway_with(nobody).await;
    assert_eq!(get(&gateway, "/services").await.json(), json!([]));
    assert_eq!(get(&gateway, "/describe?service=shop").await.status, 404);
}

/// Server-sent events of a gateway.
struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    async fn of(gateway: &Gateway) -> Self {
        let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        Self(BufReader::new(stream).lines())
    }

    /// The next event's name and data; none at the end of the stream.
    async fn next(&mut self) -> Option<(String, Value)> {
        timeout(testbed::PATIENCE, self.read()).await.expect("something happens")
    }

    async fn read(&mut self) -> Option<(String, Value)> {
        let mut name = String::new();
        while let Some(line) = self.0.next_line().await.unwrap() {
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((name, serde_json::from_str(data).unwrap()));
            }
        }
        None
    }

    /// The next thing that happened to a node.
    async fn happened(&mut self) -> Option<Value> {
        loop {
            match self.next().await? {
                (name, data) if name == "change" => return Some(data),
                (name, _) => assert_eq!(name, "methods"),
            }
        }
    }

    /// The methods of a service, once it has one of this name.
    async fn has_method(&mut self, method: &str) -> Value {
        loop {
            let (name, data) = self.next().await.expect("it goes on");
            let methods = data["methods"].as_array().cloned().unwrap_or_default();
            if name == "methods" && methods.iter().any(|known| known["name"] == method) {
                return data;
            }
        }
    }
}

/// Who listens is told what there is, then what happens, and the end when the gateway stops.
#[tokio::test]
async fn events() {
    let town = Town::default();
    let gateway = town.gateway().await;
    let mut events = Events::of(&gateway).await;
    assert_eq!(events.next().await.unwrap(), ("services".to_owned(), json!([])));
    let shop = town.open("a").await;
    let joined = events.happened().await.unwrap();
    for (field, expected) in [("what", "joined"), ("service", "shop"), ("node", "a")] {
        assert_eq!(joined[field], expected);
    }
    shop.shutdown().await;
    loop {
        let happened = events.happened().await.unwrap();
        if happened["what"] == "left" {
            assert_eq!(happened["reason"], "said goodbye");
            break;
        }
        assert_eq!(happened["what"], "changed");
    }
    let end = async { tokio::join!(gateway.shutdown(), events.next()) };
    let ((), end) = timeout(testbed::PATIENCE, end).await.expect("the stream ends");
    assert_eq!(end, None);
}

/// An event has the node that changed, as the list has it, and none of the others.
#[tokio::test]
async fn events_are_what_changed() {
    let town = Town::default();
    let _first = town.open("a").await;
    let gateway = town.gateway().await;
    let mut events = Events::of(&gateway).await;
    assert_eq!(events.next().await.unwrap().0, "services");
    let second = micro::registry::Node::new("b", "127.0.0.1:1");
    register(&town, "shop", "7.0.0", second).await;
    let joined = loop {
        let happened = events.happened().await.unwrap();
        if happened["node"] == "b" {
            break happened;
        }
    };
    let listed = get(&gateway, "/services").await.json();
    let versions = listed[0]["versions"].as_array().unwrap();
    assert_eq!(versions.len(), 2);
    let seventh = versions.iter().find(|version| version["version"] == "7.0.0").unwrap();
    assert_eq!(&joined["now"], seventh);
    assert!(!joined.to_string().contains(r#""id":"a""#), "{joined}");
}

/// Who listens is told of the methods that a registration leaves out, once a node has told of them.
#[tokio::test]
async fn methods_that_are_told_later() {
    let elsewhere = Town::default();
    let shop = elsewhere.open("a").await;
    let town = Town::default();
    let gateway = town.gateway().await;
    let mut events = Events::of(&gateway).await;
    assert_eq!(events.next().await.unwrap().0, "services");
    let registration = shop.registration();
    register(&town, "shop", &registration.version, registration.node.clone()).await;
    assert_eq!(events.happened().await.unwrap()["what"], "joined");
    let described = events.has_method("price").await;
    assert_eq!(described["service"], "shop");
    let listed = get(&gateway, "/services").await.json();
    assert_eq!(described["methods"], listed[0]["methods"]);
}

/// Those who listen take a quarter of the places at most, and give them back.
#[tokio::test]
async fn listeners_leave_places_to_calls() {
    let gateway = Town::default().gateway_with(|config| config.max_connections = 8).await;
    let mut listeners = vec![Events::of(&gateway).await, Events::of(&gateway).await];
    for listener in &mut listeners {
        assert_eq!(listener.next().await.unwrap().0, "services");
    }
    let refused = timeout(testbed::PATIENCE, get(&gateway, "/events")).await.expect("it ends");
    assert_eq!((refused.status, &*refused.code()), (429, "resource_exhausted"));
    assert_eq!(get(&gateway, "/services").await.status, 200);
    listeners.pop();
    let listens = async || {
        let mut listener = Events::of(&gateway).await;
        (listener.next().await?.0 == "services").then_some(())
    };
    testbed::eventually("there is a place", listens).await;
}

/// What is said to one caller now is kept for nobody, but for the files of the pages.
#[tokio::test]
async fn nothing_is_kept() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    for target in [
        "/shop/price?thing=tea",
        "/services",
        "/describe?service=shop",
        "/openapi.json",
        "/nothing",
    ] {
        let answer = get(&gateway, target).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{target}");
    }
    assert_eq!(get(&gateway, "/").await.header("cache-control"), Some("no-cache"));
}

/// The document names each method under the shortest path that leads to it, with the versions there
/// are and the statuses of what can go wrong, and refers to nothing that is not in it.
#[tokio::test]
async fn openapi() {
    let town = Town::default();
    let shop = town.open("a").await;
    let gateway = town.gateway().await;
    let document = get(&gateway, "/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 8);
    let price = &paths["/shop/price"];
    assert_eq!(price["post"]["operationId"], "shop.shop.price");
    assert_eq!(price["get"]["operationId"], "shop.shop.price.get");
    assert_eq!(price["post"]["summary"], "What a thing costs.");
    assert!(paths["/shop/order"].get("get").is_none());
    for (path, operations) in paths {
        for (verb, operation) in operations.as_object().unwrap() {
            if verb == "parameters" {
                continue;
            }
            let responses = operation["responses"].as_object().unwrap();
            for status in ["200", "400", "404", "429", "503", "504", "default"] {
                assert!(responses.contains_key(status), "{path} {status}");
            }
            assert_eq!(operation.get("requestBody").is_some(), verb == "post", "{path}");
        }
    }
    let version = &price["parameters"].as_array().unwrap()[3];
    assert_eq!(version["name"], "micro-version");
    assert_eq!(version["schema"]["examples"], json!([shop.registration().version]));
    references(&document, &mut |reference| {
        let pointer = reference.strip_prefix('#').expect("it stays in the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    });
    assert!(document.get("security").is_none());
    let access = micro_gateway::Access::Bearer(vec!["t".into()]);
    let gateway = town.gateway_with(|config| config.access = access).await;
    let asked = Asked::get("/openapi.json").with("authorization", "Bearer t");
    let document = asked.of(gateway.address()).await.json();
    assert_eq!(document["security"], json!([{ "token": [] }]));
}

fn references(value: &Value, found: &mut impl FnMut(&str)) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("$ref", Value::String(reference)) => found(reference),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// Registers a node that leaves out what it serves.
pub(crate) async fn register(
    town: &Town,
    service: &str,
    version: &str,
    node: micro::registry::Node,
) {
    let mut silent = micro::registry::Registration::new(service, version, node);
    silent.endpoints = micro::registry::Endpoints::Omitted;
    put(town, &silent).await;
}

/// Registers a node.
pub(crate) async fn put(town: &Town, registration: &micro::registry::Registration) {
    let ttl = Duration::from_secs(3_600);
    micro::registry::Registry::register(&town.registry, registration, ttl).await.unwrap();
}

/// A service whose registration leaves its methods out is described, and called, by the word of its
/// nodes.
#[tokio::test]
async fn methods_that_are_left_out() {
    let elsewhere = Town::default();
    let shop = elsewhere.open("a").await;
    let town = Town::default();
    let registration = shop.registration();
    register(&town, "shop", &registration.version, registration.node.clone()).await;
    let gateway = town.gateway().await;
    let answer = post(&gateway, "/shop/price", r#"{"thing":"tea"}"#).await;
    assert_eq!((answer.status, &*answer.body), (200, "3"));
    assert_eq!(get(&gateway, "/shop/price?thing=tea").await.status, 200);
}

/// Whoever answers at the address of a service is not believed when it is another service, or
/// another version; calls go there as soon as that is clear, and say so when they lead to nothing.
#[tokio::test]
async fn another_service_describes_nothing() {
    let town = Town::default();
    let shop = town.open("a").await;
    let node = shop.registration().node.clone();
    register(&town, "silent", &shop.registration().version, node.clone()).await;
    register(&town, "old", "0.0.7", node).await;
    let gateway = town.gateway().await;
    for (target, status, expected) in [
        ("/silent/shop/price", 200, "3"),
        ("/old/shop/price", 200, "3"),
        ("/silent/price", 404, "no node of `silent` says what it serves"),
    ] {
        let asked = Asked::post(target, r#"{"thing":"tea"}"#).with("micro-timeout", "600s");
        let answer = timeout(testbed::PATIENCE, asked.of(gateway.address())).await.unwrap();
        assert_eq!(answer.status, status, "{target}: {}", answer.body);
        assert!(answer.body.contains(expected), "{}", answer.body);
    }
    let got = get(&gateway, "/silent/shop/price?thing=tea").await;
    assert_eq!((got.status, &*got.code()), (503, "unavailable"), "{}", got.body);
    assert_eq!(get(&gateway, "/describe?service=silent").await.json(), json!([]));
}

/// Callers who make up methods add nothing to the figures but to the count of the others.
#[tokio::test]
async fn made_up_methods_are_counted_together() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    for target in ["/shop/made-up-1", "/shop/shop/made-up-2", "/shop/made-up-3/price"] {
        assert_eq!(post(&gateway, target, "{}").await.status, 404, "{target}");
    }
    let text = get(&gateway, "/metrics").await.body;
    assert!(!text.contains("made-up"), "{text}");
    let others = r#"rpc_method="_OTHER",rpc_response_status_code="unimplemented",error_type="unimplemented"} 3"#;
    assert!(text.contains(others), "{text}");
}

/// Figures of the calls made, and of the gateway itself, end where the format says so.
#[tokio::test]
async fn figures() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    post(&gateway, "/shop/price", r#"{"thing":"tea"}"#).await;
    let answer = get(&gateway, "/metrics").await;
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(answer.body.contains(r#"rpc_method="shop/price""#), "{}", answer.body);
    assert!(answer.body.contains("\nmicro_gateway_connections "), "{}", answer.body);
    assert!(answer.body.ends_with("# EOF\n"));
}
