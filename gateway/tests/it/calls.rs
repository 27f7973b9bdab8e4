//! Calls: the same through the gateway as on the service's own port.

use super::*;
use serde_json::json;
use std::net::SocketAddr;

/// A request that names `shop/price` on the service's own port, and its answer there and here.
struct Case {
    name: &'static str,
    asked: Asked,
    status: u16,
    /// The code of the error; empty for a result.
    code: &'static str,
}

fn case(name: &'static str, asked: Asked, status: u16, code: &'static str) -> Case {
    Case { name, asked, status, code }
}

fn post_to(method: &str, body: &str) -> Asked {
    Asked::post(&format!("/shop/{method}"), body)
}

fn cases() -> Vec<Case> {
    let tea = || post_to("price", r#"{"thing":"tea"}"#);
    let deep = format!(r#"{{"thing":"tea","more":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    let long = "x".repeat(MAX_BODY);
    let much = "v".repeat(17 * 1024);
    vec![
        case("a result", tea(), 200, ""),
        case("with a form's type", tea().with("content-type", "text/plain"), 200, ""),
        case("a field nobody knows", post_to("price", r#"{"thing":"tea","x":1}"#), 200, ""),
        case("a list and nothing", post_to("find", r#"{"words":["a"],"limit":null}"#), 200, ""),
        case("two arguments", post_to("order", r#"{"thing":"tea","count":2}"#), 200, ""),
        case("metadata comes back", post_to("seen", r#"{"keys":[]}"#), 200, ""),
        case("space around", post_to("price", " \n{\"thing\": \"tea\"} "), 200, ""),
        case("an answer in time", tea().with("micro-timeout", "60s"), 200, ""),
        case("a foreign trace", tea().with("traceparent", "nonsense"), 200, ""),
        case("an own error", post_to("price", r#"{"thing":"boat"}"#), 404, "not_found"),
        case(
            "another own error",
            post_to("order", r#"{"thing":"tea","count":99}"#),
            400,
            "failed_precondition",
        ),
        case("an error with metadata", post_to("refuse", "{}"), 409, "aborted"),
        case("a method that is not there yet", post_to("missing", "{}"), 501, "unimplemented"),
        case("a panic", post_to("panic", "{}"), 500, "internal"),
        case("a missing field", post_to("price", "{}"), 400, "invalid_argument"),
        case("no body", post_to("price", ""), 400, "invalid_argument"),
        case("a wrong type", post_to("price", r#"{"thing":5}"#), 400, "invalid_argument"),
        case("a list of arguments", post_to("price", r#"["tea"]"#), 400, "invalid_argument"),
        case("no JSON", post_to("price", "thing=tea"), 400, "invalid_argument"),
        case("half of it", post_to("price", r#"{"thing":"te"#), 400, "invalid_argument"),
        case("too much of it", post_to("price", r#"{"thing":"tea"}{}"#), 400, "invalid_argument"),
        case("too deep", post_to("price", &deep), 400, "invalid_argument"),
        case("too long", post_to("price", &long.replace('x', "xx")), 413, "resource_exhausted"),
        case(
            "too late",
            post_to("wait", r#"{"millis":60000}"#).with("micro-timeout", "50ms"),
            504,
            "deadline_exceeded",
        ),
        case("late already", tea().with("micro-timeout", "0s"), 504, "deadline_exceeded"),
        case("no time", tea().with("micro-timeout", "soon"), 400, "invalid_argument"),
        case("an unknown class", tea().with("micro-criticality", "vital"), 400, "invalid_argument"),
        case("a known class", tea().with("micro-criticality", "sheddable"), 200, ""),
        case("a key that is none", tea().with("micro-meta-a*b", "x"), 400, "invalid_argument"),
        case(
            "a key twice",
            tea().with("micro-meta-a", "1").with("micro-meta-a", "2"),
            400,
            "invalid_argument",
        ),
        case("too much beside", tea().with("micro-meta-a", &much), 400, "invalid_argument"),
        case(
            "too much to do",
            tea().with("micro-meta-overloaded", "1").with("micro-timeout", "2s"),
            429,
            "resource_exhausted",
        ),
        case("a method nobody has", post_to("prices", "{}"), 404, "unimplemented"),
        case(
            "a foreign page",
            tea().with("origin", "http://evil.example"),
            403,
            "permission_denied",
        ),
        case("a foreign name", tea().with("host", "evil.example"), 403, "permission_denied"),
        case("a wrong verb", Asked { verb: "PUT", ..post_to("order", "") }, 405, "unimplemented"),
        case(
            "to get what changes",
            Asked { verb: "GET", ..post_to("order", "") },
            405,
            "unimplemented",
        ),
        case("nothing there", Asked::post("/price", "{}"), 404, "not_found"),
    ]
}

/// Whether two errors are one: in words too, except where each names its own list of what there is.
fn same_words(own: &str, here: &str) -> bool {
    let said = |text: &str| text.split("; ").next().unwrap_or_default().to_owned();
    said(own) == said(here)
}

/// Result, error, status and headers are the same through the gateway as on the service's own port.
#[tokio::test]
async fn the_same_as_on_the_own_port() {
    let town = Town::default();
    let shop = town.open("a").await;
    let own: SocketAddr = shop.registration().node.address.parse().unwrap();
    let gateway = town.gateway().await;
    for Case { name, asked, status, code } in cases() {
        let (there, here) = (asked.of(own).await, asked.of(gateway.address()).await);
        assert_eq!((there.status, here.status), (status, status), "{name}: {there:?} {here:?}");
        assert_eq!(here.header("content-type"), Some("application/json"), "{name}");
        for header in ["allow", "retry-after", "micro-meta-hint", "micro-meta-shop"] {
            assert_eq!(there.header(header).is_some(), here.header(header).is_some(), "{name}");
        }
        if code.is_empty() {
            assert_eq!(without_trace(&there), without_trace(&here), "{name}");
            assert_eq!(here.header("micro-node"), Some("a"), "{name}");
            continue;
        }
        assert_eq!((&*there.code(), &*here.code()), (code, code), "{name}");
        let (there, here) = (there.json(), here.json());
        assert_eq!(there["details"], here["details"], "{name}");
        let words = [&there, &here].map(|error| error["message"].as_str().unwrap().to_owned());
        let is_late = code == "deadline_exceeded";
        assert!(is_late || same_words(&words[0], &words[1]), "{name}: {words:?}");
    }
}

/// An answer; each call has a trace of its own.
fn without_trace(answer: &Answer) -> serde_json::Value {
    let mut value = answer.json();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("trace");
    }
    value
}

/// The contract may be named, and has to be where several have the method.
#[tokio::test]
async fn contracts_in_the_path() {
    let town = Town::default();
    let service = town.service("a").name("twins");
    let service = service.serve(LeftServer::new(Twin)).serve(RightServer::new(Twin));
    let _twins = registered(service).await;
    let gateway = town.gateway().await;
    for (target, status, expected) in [
        ("/twins/left/which", 200, r#""left""#),
        ("/twins/right/which", 200, r#""right""#),
        ("/twins/only", 200, r#""right""#),
        ("/twins/which", 400, "call /twins/left/which or /twins/right/which"),
        ("/twins/other", 404, "has no method `other`"),
        ("/twins/left/only", 404, "unimplemented"),
        ("/twins/centre/which", 404, "unimplemented"),
    ] {
        let answer = post(&gateway, target, "{}").await;
        assert_eq!(answer.status, status, "{target}: {}", answer.body);
        assert!(answer.body.contains(expected), "{target}: {}", answer.body);
    }
}

#[micro::service]
trait Left {
    async fn which(&self) -> String;
}

#[micro::service]
trait Right {
    async fn which(&self) -> String;
    async fn only(&self) -> String;
}

struct Twin;

impl Left for Twin {
    async fn which(&self) -> String {
        "left".to_owned()
    }
}

impl Right for Twin {
    async fn which(&self) -> String {
        "right".to_owned()
    }

    async fn only(&self) -> String {
        "right".to_owned()
    }
}

/// What is idempotent can be got, with its arguments in the query; pages of other sites cannot make
/// a browser do so.
#[tokio::test]
async fn idempotent_methods_can_be_got() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    for (target, status, expected) in [
        ("/shop/price?thing=tea", 200, "3"),
        ("/shop/shop/price?thing=%74ea&", 200, "3"),
        ("/shop/price?thing=green+boat", 404, "green boat is not sold here"),
        (r#"/shop/find?words=["a","b"]&limit=1"#, 200, r#"["a"]"#),
        ("/shop/price", 400, "invalid_argument"),
    ] {
        let answer = get(&gateway, &target.replace('"', "%22")).await;
        assert_eq!(answer.status, status, "{target}: {}", answer.body);
        assert!(answer.body.contains(expected), "{target}: {}", answer.body);
    }
    for (site, status) in
        [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
    {
        let asked = Asked::get("/shop/price?thing=tea").with("sec-fetch-site", site);
        assert_eq!(asked.of(gateway.address()).await.status, status, "{site}");
    }
    let allowed = Asked { verb: "PUT", ..Asked::get("/shop/price") }.of(gateway.address()).await;
    assert_eq!(allowed.header("allow"), Some("GET, POST"));
}

/// Where browsers do not say which page asks, a `GET` needs something that no page can add.
#[tokio::test]
async fn what_strangers_could_get() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    let price = |host| Asked::get("/shop/price?thing=tea").with("host", host);
    for host in ["localhost", "127.0.0.1:80", "[::1]:80", "LOCALHOST:80"] {
        assert_eq!(price(host).of(gateway.address()).await.status, 200, "{host}");
    }
    for (header, value, status) in [
        ("accept", "*/*", 403),
        ("authorization", "Basic dTpw", 403),
        ("authorization", "Bearer t", 200),
        ("micro-timeout", "10s", 200),
        ("sec-fetch-site", "none", 200),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        for host in ["node7:80", "10.0.0.7"] {
            let answer = price(host).with(header, value).of(gateway.address()).await;
            assert_eq!(answer.status, status, "{host} {header}: {value}");
        }
    }
    let posted = Asked::post("/shop/price", r#"{"thing":"tea"}"#).with("host", "node7:80");
    assert_eq!(posted.of(gateway.address()).await.status, 200);
}

/// What a header that is forwarded says is said by that header alone, and once.
#[tokio::test]
async fn what_goes_along_cannot_be_forged() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway =
        town.gateway_with(|config| config.forward = vec!["x-user".parse().unwrap()]).await;
    let asked = Asked::post("/shop/seen", r#"{"keys":["x-user"]}"#);
    let forged = asked.clone().with("micro-meta-x-user", "mallory");
    let answer = forged.of(gateway.address()).await;
    assert_eq!(answer.json()["entries"], json!({}));
    let answer = forged.with("x-user", "ann").of(gateway.address()).await;
    assert_eq!(answer.json()["entries"], json!({ "x-user": "ann" }));
    let twice = asked.with("x-user", "ann").with("x-user", "mallory").of(gateway.address()).await;
    assert_eq!((twice.status, &*twice.code()), (400, "invalid_argument"));
}

/// Metadata, the token of the caller, the trace and headers that are said to be forwarded reach the
/// method; others do not.
#[tokio::test]
async fn what_goes_along() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway =
        town.gateway_with(|config| config.forward = vec!["x-tenant".parse().unwrap()]).await;
    let keys = r#"{"keys":["user","authorization","x-tenant","x-other"]}"#;
    let answer = Asked::post("/shop/seen", keys)
        .with("micro-meta-user", "ann")
        .with("authorization", "Bearer t")
        .with("x-tenant", "acme")
        .with("x-other", "x")
        .with("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .of(gateway.address())
        .await;
    assert_eq!(
        answer.json(),
        json!({
            "node": "a",
            "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
            "entries": { "user": "ann", "authorization": "Bearer t", "x-tenant": "acme" },
        })
    );
    assert_eq!(answer.header("micro-meta-shop"), Some("corner"));
}

/// A call goes to the versions that it asks for: one that nobody has is not found, one whose nodes
/// want no traffic is unavailable.
#[tokio::test]
async fn versions() {
    let town = Town::default();
    let mut starting = micro::registry::Node::new("starting", "127.0.0.1:1");
    starting.state = micro::registry::NodeState::Starting;
    look::register(&town, "shop", "4.0.0", starting).await;
    let shop = |id: &str| ShopServer::new(Corner(id.to_owned()));
    let _old = registered(town.service("old").version("1.2.0").serve(shop("old"))).await;
    let _new = registered(town.service("new").version("2.0.0").serve(shop("new"))).await;
    let gateway = town.gateway().await;
    let ask = async |version: &str| {
        let asked = Asked::post("/shop/seen", r#"{"keys":[]}"#).with("micro-version", version);
        asked.of(gateway.address()).await
    };
    for (version, node) in [("1.2.0", "old"), ("^1.0", "old"), ("2", "new"), (">=2, <3", "new")] {
        for _ in 0..5 {
            assert_eq!(ask(version).await.json()["node"], node, "{version}");
        }
    }
    assert_eq!((ask("4").await.status, &*ask("4").await.code()), (503, "unavailable"));
    let nobody = ask("3").await;
    assert_eq!((nobody.status, &*nobody.code()), (404, "not_found"));
    assert!(nobody.body.contains("`3`: there is 1.2.0, 2.0.0, 4.0.0"), "{}", nobody.body);
    assert_eq!((ask("new").await.status, &*ask("new").await.code()), (400, "invalid_argument"));
}

/// Services that are not on the list do not exist.
#[tokio::test]
async fn the_list_of_services() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let _other =
        registered(town.service("b").name("other").serve(ShopServer::new(Corner("b".into()))))
            .await;
    let gateway =
        town.gateway_with(|config| config.services = Some([String::from("other")].into())).await;
    let tea = r#"{"thing":"tea"}"#;
    assert_eq!(post(&gateway, "/other/price", tea).await.status, 200);
    assert_eq!(post(&gateway, "/other/shop/price", tea).await.status, 200);
    let answer = post(&gateway, "/shop/price", tea).await;
    assert_eq!((answer.status, &*answer.code()), (404, "not_found"));
}

/// A service of which nobody has heard is not found, one that just came is.
#[tokio::test]
async fn services_come_and_go() {
    let town = Town::default();
    let gateway = town.gateway().await;
    let tea = r#"{"thing":"tea"}"#;
    let answer = post(&gateway, "/shop/price", tea).await;
    assert_eq!((answer.status, &*answer.code()), (404, "not_found"));
    let shop = town.open("a").await;
    let called = async || (post(&gateway, "/shop/price", tea).await.status == 200).then_some(());
    testbed::eventually("the shop is called", called).await;
    shop.shutdown().await;
    let gone = async || (post(&gateway, "/shop/price", tea).await.status == 404).then_some(());
    testbed::eventually("the shop is gone", gone).await;
}

/// Where nodes are is told to no caller, however many failed before.
#[tokio::test]
async fn addresses_stay_inside() {
    let town = Town::default();
    let _shops = [town.open("a").await, town.open("b").await];
    for id in ["c", "d"] {
        let nobody = micro::registry::Node::new(id, "127.0.0.1:1");
        look::register(&town, "gone", "1.0.0", nobody).await;
    }
    let gateway = town.gateway().await;
    let busy = post_to("price", r#"{"thing":"tea"}"#).with("micro-meta-overloaded", "1");
    let busy = busy.with("micro-timeout", "2s").of(gateway.address()).await;
    assert_eq!((busy.status, &busy.json()["message"]), (429, &json!("too much to do")));
    let gone = Asked::post("/gone/gone/price", "{}").of(gateway.address()).await;
    assert_eq!((gone.status, &*gone.code()), (503, "unavailable"), "{}", gone.body);
    assert!(!gone.body.contains("127.0.0.1"), "{}", gone.body);
}
