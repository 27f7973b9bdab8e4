//! `micro doctor`: it finds each fault, and says what to do.

use std::sync::Arc;
use std::time::Duration;

use micro::Service;
use micro::registry::{Node, NodeState, Registration, Registry};
use serde_json::{Value, json};
use testbed::eventually;
use tokio::task::JoinSet;

use crate::shop::{Ended, Town, registered};

const LONG: Duration = Duration::from_secs(600);

/// The fault a run of the doctor found: which check, what it says, and what to do.
fn fault(ended: &Ended) -> [String; 3] {
    let report = ended.json();
    assert_eq!(report["healthy"], false, "{report:#}");
    let checks = report["checks"].as_array().unwrap();
    let faults: Vec<_> = checks.iter().filter(|check| check["status"] == "fault").collect();
    let [fault] = &*faults else { panic!("{} faults: {report:#}", faults.len()) };
    ["check", "message", "advice"].map(|key| fault[key].as_str().unwrap().to_owned())
}

/// That this fault is found, and no other.
fn assert_fault(ended: &Ended, code: i32, expected: [&str; 3]) {
    let fault = fault(ended);
    assert_eq!(ended.code, Some(code), "{fault:?}");
    assert_eq!(fault[0], expected[0], "{fault:?}");
    assert!(fault[1].contains(expected[1]), "{:?} is not in {fault:?}", expected[1]);
    assert!(fault[2].contains(expected[2]), "{:?} is not in {fault:?}", expected[2]);
}

async fn examined(town: &Town, name: &str) -> Ended {
    town.micro(&["doctor", name, "-o", "json"]).await
}

/// Registers a node that stays for as long as what this returns.
#[must_use]
async fn add(town: &Town, registration: &Registration) -> Arc<dyn Registry> {
    let registry = town.registry().await;
    registry.register(registration, LONG).await.unwrap();
    registry
}

/// All is well: everything that was looked at is told, with the configuration and its origins.
#[tokio::test]
async fn nothing_is_wrong() {
    let town = Town::new();
    let shop = town.open("a").await;
    let ended = town.micro(&["doctor", "shop.price", "-o", "json"]).await.ok();
    let report = ended.json();
    assert_eq!(report["healthy"], true, "{report:#}");
    let checks = report["checks"].as_array().unwrap();
    let message = |name: &str| {
        let check = checks.iter().find(|check| check["check"] == name);
        check.unwrap_or_else(|| panic!("no {name}: {report:#}"))["message"].as_str().unwrap()
    };
    assert!(message("features").contains("memory:, static:, local:, mdns:"));
    assert_eq!(message("configuration"), "the values make sense to a service");
    assert!(message("registry").contains("from environment variable MICRO_REGISTRY answers in"));
    let address = &shop.registration().node.address;
    assert!(message("records").contains(&format!("a at {address}, serving, started ")));
    assert!(message("advertise").contains("is found at 127.0.0.1: the address it is bound to"));
    assert_eq!(message("state"), "all of 1 nodes want calls");
    assert_eq!(message("address"), "all of 1 nodes are where they say");
    assert_eq!(message("method"), "all of 1 nodes that answer have shop.price");
    assert_eq!(message("clock"), "no node was started in the future");
    assert!(!message("multicast").is_empty());
    let ttl = json!({ "key": "register_ttl", "value": "30s", "origin": "default" });
    assert!(report["configuration"].as_array().unwrap().contains(&ttl), "{report:#}");
    let text = town.micro(&["doctor"]).await.ok().stdout;
    assert!(text.starts_with("ok    features        micro "), "{text}");
    assert!(text.contains("\n      register_ttl"), "{text}");
}

/// What was warned of, for whom all is well: which check, what it says, and what to do.
fn warned(ended: Ended) -> Vec<[String; 3]> {
    let report = ended.ok().json();
    let checks = report["checks"].as_array().unwrap();
    let warnings = checks.iter().filter(|check| check["status"] == "warning");
    let told = |check: &Value| {
        ["check", "message", "advice"].map(|key| check[key].as_str().unwrap().to_owned())
    };
    warnings.map(told).collect()
}

/// That there is this warning, and no other.
fn assert_warning(ended: Ended, expected: [&str; 3]) {
    let warned = warned(ended);
    let [warning] = &*warned else { panic!("{warned:?}") };
    assert_eq!(warning[0], expected[0], "{warning:?}");
    assert!(warning[1].contains(expected[1]), "{warning:?}");
    assert!(warning[2].contains(expected[2]), "{warning:?}");
}

/// A value that a service would refuse is found before one starts, and is no fault of the registry.
#[tokio::test]
async fn a_wrong_configuration() {
    let town = Town::new();
    let _shop = town.open("a").await;
    for (file, check, expected) in [
        ("register_ttl = \"soon\"", "configuration", "register_ttl \"soon\" from file micro.toml"),
        ("selector = \"best\"", "configuration", "selector \"best\" from file micro.toml"),
        ("registr = \"local:\"", "configuration", "key \"registr\" in file micro.toml"),
        ("registry = ", "configuration", "file micro.toml, line 1, is not TOML"),
        ("advertise = \"not a host\"", "advertise", "\"not a host\" from file micro.toml"),
        ("address = \"nowhere\"", "configuration", "address \"nowhere\" from file micro.toml"),
    ] {
        std::fs::write(town.scene.directory().join("micro.toml"), file).unwrap();
        let ended = town.micro(&["doctor", "-o", "json"]).await;
        assert_fault(&ended, 2, [check, expected, "mend the value where it comes from"]);
    }
}

/// Nobody at all is registered, which may be meant.
#[tokio::test]
async fn an_empty_registry() {
    let town = Town::new();
    let ended = town.micro(&["doctor", "-o", "json"]).await;
    assert_warning(ended, ["registry", "answers in", "do services use the same registry"]);
}

/// A service started here would advertise an address that means whoever uses it.
#[tokio::test]
async fn an_address_that_only_this_host_finds() {
    let town = Town::new();
    std::fs::write(town.scene.directory().join("micro.toml"), "address = \"127.0.0.1:0\"").unwrap();
    let ended = town.micro(&["doctor", "-o", "json", "--registry", "static:far=127.0.0.1:1"]).await;
    let told = "found at 127.0.0.1: the address it is bound to";
    assert_warning(ended, ["advertise", told, "MICRO_ADVERTISE=host"]);
}

/// A registry's URL that makes no sense.
#[tokio::test]
async fn a_wrong_registry_url() {
    let town = Town::new();
    for (url, expected) in [
        ("etcd//10.0.0.1", "registry from flag --registry"),
        ("etcd://10.0.0.1:2379?tiemout=1s", "query key `tiemout`"),
        ("static:", "registry from flag --registry"),
    ] {
        let ended = town.micro(&["doctor", "-o", "json", "--registry", url]).await;
        assert_fault(&ended, 2, ["registry", expected, "for example local: or etcd://"]);
    }
}

/// A registry that does not answer.
#[tokio::test]
async fn a_registry_that_is_down() {
    let town = Town::new();
    let down = "etcd://127.0.0.1:1";
    let ended = town.micro(&["doctor", "shop", "-o", "json", "--registry", down]).await;
    assert_fault(&ended, 6, ["registry", "does not answer", "start it, or mend its address"]);
}

/// A scheme that this program cannot open: it says which it can.
#[tokio::test]
async fn a_scheme_that_is_not_compiled_in() {
    let town = Town::new();
    let ended = town.micro(&["doctor", "-o", "json", "--registry", "nosuch://10.0.0.1"]).await;
    assert_fault(&ended, 2, ["registry", "`nosuch:`", "memory:, static:, local:, mdns:"]);
}

/// Nobody has the name, and somebody has a similar one.
#[tokio::test]
async fn a_similar_name() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let expected = ["service", "did you mean `shop`?", "by the name that it has"];
    assert_fault(&examined(&town, "shp").await, 3, expected);
    assert_fault(&examined(&town, "shp.price").await, 3, expected);
}

/// Nobody wants calls: all nodes leave, or their health checks fail, with the reason.
#[tokio::test]
async fn nodes_that_want_no_calls() {
    let town = Town::new();
    let sick = town.service("sick").health_check(|| async { Err("the disk is full".into()) });
    let sick = registered(sick).await;
    let registry = town.registry().await;
    eventually("it is announced", async || {
        let services = registry.get("shop").await.ok()?;
        (services[0].nodes[0].state == NodeState::NotServing).then_some(())
    })
    .await;
    let expected = ["state", "sick is not serving: the disk is full", "mend what it says"];
    assert_fault(&examined(&town, "shop").await, 6, expected);
    drop(sick);

    let town = Town::new();
    let shop = town.open("a").await;
    let mut leaving = shop.registration().clone();
    leaving.node.state = NodeState::Draining;
    leaving.node.epoch += 1;
    let _kept = add(&town, &leaving).await;
    let expected = ["state", "0 of 1 nodes want calls\na is draining", "start new ones"];
    assert_fault(&examined(&town, "shop").await, 6, expected);

    let town = Town::new();
    let shop = town.open("a").await;
    let mut idle = shop.registration().clone();
    idle.node.weight = 0;
    idle.node.epoch += 1;
    let _kept = add(&town, &idle).await;
    let expected = ["state", "a has weight 0", "give them a weight above 0"];
    assert_fault(&examined(&town, "shop").await, 6, expected);
}

/// A node is registered, and nothing listens on its port.
#[tokio::test]
async fn a_port_that_is_closed() {
    let town = Town::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let _kept = add(&town, &Registration::new("shop", "1.0.0", Node::new("gone", &address))).await;
    let expected = ["port", "Connection refused", "start the service again"];
    assert_fault(&examined(&town, "shop").await, 6, expected);
}

/// A node advertises the address of another node, of something that is none, or each caller's own.
#[tokio::test]
async fn a_wrong_advertised_address() {
    let town = Town::new();
    let shop = town.open("a").await;
    let address = shop.registration().node.address.clone();
    let _kept = add(&town, &Registration::new("other", "1.0.0", Node::new("b", &address))).await;
    let told = "answers node a of service shop, not node b";
    let expected = ["address", told, "MICRO_ADVERTISE"];
    assert_fault(&examined(&town, "other").await, 6, expected);

    let (_web, address) = answering("\r\n<html>").await;
    let _kept = add(&town, &Registration::new("web", "1.0.0", Node::new("c", &address))).await;
    let expected = ["address", "is no service of micro", "MICRO_ADVERTISE"];
    assert_fault(&examined(&town, "web").await, 6, expected);

    let listed = "static:far=127.0.0.1:1";
    let ended = town.micro(&["doctor", "far", "-o", "json", "--registry", listed]).await;
    assert_fault(&ended, 6, ["address", "127.0.0.1:1", "each caller's own host"]);
}

/// What answers every request on a free port with these headers and this body, until it is dropped.
async fn answering(rest: &'static str) -> (JoinSet<()>, String) {
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = web.local_addr().unwrap().to_string();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = web.accept().await {
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4_096]).await;
            let page = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{rest}");
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, page.as_bytes()).await;
        }
    });
    (tasks, address)
}

/// The clock of a node's host goes wrong by more than anybody notices.
#[tokio::test]
async fn a_clock_that_is_off() {
    let town = Town::new();
    let (_shop, address) = answering(concat!(
        "Date: Thu, 01 Jan 2026 00:00:00 GMT\r\n\r\n",
        r#"{"service":"shop","version":"1.0.0","node":"late","contracts":[]}"#,
    ))
    .await;
    let _kept = add(&town, &Registration::new("shop", "1.0.0", Node::new("late", &address))).await;
    let expected = ["clock", "the clock of node late is ", "set both clocks, by NTP"];
    assert_warning(examined(&town, "shop").await, expected);
}

/// A list of addresses has no ids of its own: a node there is who it says.
#[tokio::test]
async fn nodes_of_a_list_are_themselves() {
    let town = Town::new();
    let shop = town.open("a").await;
    let listed = format!("static:shop={}", shop.registration().node.address);
    let line = ["doctor", "shop.price", "-o", "json", "--registry", &listed];
    assert_eq!(town.micro(&line).await.ok().json()["healthy"], true);
}

/// What answers and speaks no HTTP may be a service without that feature.
#[tokio::test]
async fn a_node_that_does_not_describe_itself() {
    let town = Town::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let _kept = add(&town, &Registration::new("shop", "1.0.0", Node::new("bare", &address))).await;
    let expected = ["address", "does not describe", "without the feature `http`"];
    assert_warning(examined(&town, "shop").await, expected);
}

/// A name that cannot be looked up is a fault, not silence.
#[tokio::test]
async fn a_name_that_cannot_be() {
    let town = Town::new();
    let expected = ["service", "service name \"Shop\"", "mend the name"];
    assert_fault(&examined(&town, "Shop").await, 2, expected);
}

/// Of many nodes some are asked, and all are counted.
#[tokio::test]
async fn many_nodes() {
    let town = Town::new();
    let registry = town.registry().await;
    let shop = town.open("a").await;
    for number in 0..59 {
        let mut node = Node::new(format!("b{number:02}"), &shop.registration().node.address);
        let is_leaving = number < 55;
        node.state = if is_leaving { NodeState::Draining } else { NodeState::Serving };
        registry.register(&Registration::new("shop", "latest", node), LONG).await.unwrap();
    }
    let report = examined(&town, "shop").await.ok().json();
    let text = report.to_string();
    for expected in ["5 of 60 nodes want calls", "and 5 more", "(50 of 60 asked)"] {
        assert!(text.contains(expected), "{expected}: {report:#}");
    }
}

/// The service is there, and has no such method.
#[tokio::test]
async fn a_method_that_is_missing() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let told = "has no method `prise`\ndid you mean `shop.price`?";
    let expected = ["method", told, "deploy the version that has this one"];
    assert_fault(&examined(&town, "shop.prise").await, 5, expected);
}

/// Takes stock.
#[micro::service]
trait Stock {
    /// How many there are.
    async fn count(&self) -> u32;
}

struct Empty;

impl Stock for Empty {
    async fn count(&self) -> u32 {
        0
    }
}

/// Some nodes are of a version that has no such method.
#[tokio::test]
async fn a_method_of_some_nodes() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let other = Service::new().settings(town.settings()).name("shop").version("2.0.0").id("b");
    let _other = registered(other.serve(StockServer::new(Empty))).await;
    let told = "1 of 2 nodes have shop.price; it is missing on b";
    let expected = ["method", told, "these run another version"];
    assert_warning(examined(&town, "shop.price").await, expected);
}

/// What goes wrong with some nodes only is a warning: calls go to the others.
#[tokio::test]
async fn some_nodes_are_enough() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let mut gone = Registration::new("shop", "1.0.0", Node::new("gone", "127.0.0.1:1"));
    gone.node.state = NodeState::Draining;
    gone.node.epoch = u64::from(u32::MAX) * 1_000;
    let _kept = add(&town, &gone).await;
    let warned = warned(examined(&town, "shop.price").await);
    let checks: Vec<_> = warned.iter().map(|[check, ..]| check).collect();
    assert_eq!(checks, ["clock", "state", "port"], "{warned:?}");
}
