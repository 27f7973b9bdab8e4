//! `micro top` without a terminal: what happens within one interval.

use std::time::Duration;

use micro::registry::{Node, Registration};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::shop::{Town, post};

const LONG: Duration = Duration::from_secs(600);
const SNAPSHOT: [&str; 5] = ["top", "--interval", "300ms", "-o", "json"];

/// Calls it all the time.
async fn load(address: &str) {
    loop {
        let (status, _) = post(address, "/shop/price", "", r#"{"thing":"tea"}"#).await;
        assert_eq!(status, 200);
        let (status, _) = post(address, "/shop/price", "", r#"{"thing":"boat"}"#).await;
        assert_eq!(status, 404);
    }
}

/// `top -o json` has rates, errors and percentiles of a node that is called, method by method.
#[tokio::test]
async fn calls_are_counted() {
    let town = Town::new();
    let shop = town.open("a").await;
    let address = shop.registration().node.address.clone();
    let ended = tokio::select! {
        ended = town.micro(&SNAPSHOT) => ended.ok(),
        () = load(&address) => unreachable!("it never ends"),
    };
    let snapshot = ended.json();
    assert_eq!(snapshot["seconds"], 0.3);
    let service = &snapshot["services"][0];
    assert_eq!((&service["name"], &service["versions"]), (&json!("shop"), &json!(["latest"])));
    let node = &service["nodes"][0];
    assert_eq!((&node["id"], &node["address"]), (&json!("a"), &json!(address)));
    assert_eq!((&node["version"], &node["health"]), (&json!("latest"), &json!("serving")));
    assert!(node["running"].is_u64() && node["queued"].is_u64(), "{node:#}");
    assert_eq!(node["shed_per_second"], 0.0);
    let method = &node["methods"][0];
    assert_eq!(method["name"], "shop/price");
    for row in [service, node, method] {
        let of = |name: &str| row[name].as_f64().unwrap_or_else(|| panic!("{name}: {row:#}"));
        assert!(of("calls_per_second") > of("errors_per_second"), "{row:#}");
        assert!(of("errors_per_second") > 0.0, "{row:#}");
        assert!(of("p50_ms") > 0.0 && of("p99_ms") >= of("p50_ms"), "{row:#}");
    }
}

/// A node that hangs, one that is gone and one that is another are told apart, and hold nobody up;
/// the table says the same as JSON.
#[tokio::test]
async fn who_does_not_answer() {
    let town = Town::new();
    let shop = town.open("a").await;
    let registry = town.registry().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    // It is let in by the kernel, and by nobody else.
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung_at = hung.local_addr().unwrap().to_string();
    let taken = shop.registration().node.address.clone();
    for (id, address) in [("b", hung_at), ("c", gone), ("d", taken)] {
        let node = Registration::new("shop", "1.0.0", Node::new(id, address));
        registry.register(&node, LONG).await.unwrap();
    }
    let snapshot = town.micro(&SNAPSHOT).await.ok().json();
    let service = &snapshot["services"][0];
    assert_eq!(service["versions"], json!(["1.0.0", "latest"]));
    let nodes = service["nodes"].as_array().unwrap();
    let health: Vec<_> = nodes.iter().map(|node| &node["health"]).collect();
    assert_eq!(health, ["serving", "hung", "unreachable", "stranger"]);
    assert_eq!((&nodes[1]["calls_per_second"], &nodes[1]["running"]), (&Value::Null, &Value::Null));
    assert_eq!(nodes[0]["calls_per_second"], 0.0);
    let table = town.micro(&["top", "--once", "--interval", "100ms"]).await.ok().stdout;
    let has_line = |begin: &str, part: &str| {
        assert!(table.lines().any(|l| l.starts_with(begin) && l.contains(part)), "{table}");
    };
    has_line("SERVICE/NODE/METHOD", "P99");
    has_line("- shop ", "≠ 1.0.0 latest  1/4 serving");
    has_line(&format!("    {} b ", hung.local_addr().unwrap()), " hung ");
    assert!(!table.contains('\x1b'), "{table}");
}

/// Without services it says so, and what makes no sense, or a registry that is not there, is told by
/// the exit code.
#[tokio::test]
async fn nothing_to_show() {
    let town = Town::new();
    let ended = town.micro(&["top", "--interval", "100ms"]).await.ok();
    assert_eq!(ended.stdout, "");
    assert_eq!(ended.stderr, "no service is registered in the local registry\n");
    let empty = town.micro(&SNAPSHOT).await.ok().json();
    assert_eq!(empty, json!({ "seconds": 0.3, "services": [] }));
    for interval in ["0s", "1ms", "2h", "soon"] {
        let ended = town.micro(&["top", "--interval", interval]).await;
        assert_eq!(ended.code, Some(2), "{ended:?}");
    }
}
