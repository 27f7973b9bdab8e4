//! The shapes that `-o json` promises, and what people see instead.

use std::time::Duration;

use micro::registry::{Node, NodeState, Registration};
use serde_json::json;
use testbed::eventually;

use crate::shop::{Town, ask, registered};

/// `services -o json` is a list of versions with their nodes; YAML says the same.
#[tokio::test]
async fn services() {
    let town = Town::new();
    let empty = town.micro(&["services", "-o", "json"]).await.ok();
    assert_eq!(empty.json(), json!([]));
    let empty = town.micro(&["services"]).await.ok();
    assert_eq!(empty.stdout, "");
    assert!(empty.stderr.contains("no service is registered in the local registry"), "{empty:?}");

    let shop = registered(town.service("a").version("1.2.0").zone("north").weight(50)).await;
    let a = shop.registration().node.clone();
    let mut node = Node::new("b", "127.0.0.1:7");
    node.state = NodeState::Draining;
    let mut b = Registration::new("shop", "1.2.0", node);
    b.metadata.insert("team".into(), "north".into());
    let registry = town.registry().await;
    registry.register(&b, Duration::from_secs(600)).await.unwrap();
    let listed = town.micro(&["services", "-o", "json"]).await.ok().json();
    let service = &listed[0];
    assert_eq!((&service["name"], &service["version"]), (&json!("shop"), &json!("1.2.0")));
    assert_eq!(
        service["nodes"],
        json!([
            {
                "id": "a", "address": a.address, "state": "serving", "weight": 50, "zone": "north",
                "epoch": a.epoch, "metadata": {},
            },
            {
                "id": "b", "address": "127.0.0.1:7", "state": "draining", "weight": 100,
                "zone": null, "epoch": 0, "metadata": {},
            },
        ])
    );
    assert!(service["metadata"].is_object());
    assert_eq!(town.micro(&["services", "shop", "-o", "json"]).await.ok().json(), listed);
    let yaml = town.micro(&["services", "-o", "yaml"]).await.ok().stdout;
    assert!(yaml.contains("  name: shop\n") && yaml.contains("    - address: "), "{yaml}");
    let table = town.micro(&["services"]).await.ok().stdout;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let rows: Vec<_> = table.lines().map(words).collect();
    assert_eq!(rows[0], ["SERVICE", "VERSION", "NODES", "HEALTH"]);
    assert_eq!(rows[1].join(" "), "shop 1.2.0 2 1 draining, 1 serving");
    let wide = town.micro(&["services", "-o", "wide"]).await.ok().stdout;
    let rows: Vec<_> = wide.lines().map(words).collect();
    assert_eq!(rows[2].join(" "), "shop 1.2.0 b 127.0.0.1:7 draining 100 -");
}

/// `describe -o json` is what nodes answer at `/describe`, for each version.
#[tokio::test]
async fn describe() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let described = town.micro(&["describe", "shop", "-o", "json"]).await.ok().json();
    let version = &described[0];
    assert_eq!((&version["service"], &version["node"]), (&json!("shop"), &json!("a")));
    let contract = &version["contracts"][0];
    assert_eq!(contract["doc"], "The shop of the tests.");
    let price = &contract["methods"][0];
    assert_eq!((&price["name"], &price["idempotent"]), (&json!("price"), &json!(true)));
    assert_eq!(price["request"]["required"], json!(["thing"]));
    let text = town.micro(&["describe", "shop"]).await.ok().stdout;
    for expected in [
        "shop latest, as node a says\n",
        "  price(thing: string, count?: uint32) -> { cents: uint64, currency?: string }  idempotent\n",
        "    What so many of a thing cost.\n\n    One if nobody says how many.\n",
        "    fails with { NotSold: { thing: string } } | \"None\"\n",
        "  echo(at: \"here\" | { there: { metres: double } }, tags: [string], text: string) -> {",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
}

/// `describe -o openapi` is what a gateway in front of this one service answers at `/openapi.json`.
#[tokio::test]
async fn openapi() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let _other = registered(town.service("b").name("other")).await;
    let printed = town.micro(&["describe", "shop", "-o", "openapi"]).await.ok().json();
    assert_eq!(printed["openapi"], "3.1.0");
    let price = &printed["paths"]["/shop/price"]["post"];
    let schema = &price["requestBody"]["content"]["application/json"]["schema"];
    assert_eq!(schema["required"], json!(["thing"]));
    let gateway = town.gateway(Some("shop")).await;
    let address = gateway.address().to_string();
    // It asks the node for the schemas first.
    let is_same = async || {
        let answer = ask(&address, "GET", "/openapi.json", "", "").await;
        (answer.body == printed).then_some(())
    };
    eventually("the gateway says the same", is_same).await;
}

/// `call -o json` has the answer or the error, and all that is known of the call's way.
#[tokio::test]
async fn call() {
    let town = Town::new();
    let shop = town.open("a").await;
    let address = &shop.registration().node.address;
    let line = ["call", "shop.echo", "--text=x", "--tags=[]", "--at=here", "-o", "json"];
    let mut printed = town.micro(&line).await.ok().json();
    let times = printed["times_ms"].take();
    for phase in ["resolve", "retry", "connect", "wait", "total"] {
        assert!(times[phase].is_f64(), "{phase}: {times}");
    }
    assert_eq!(printed["trace"].take().as_str().map(str::len), Some(32));
    assert_eq!(
        printed,
        json!({
            "answer": { "text": "x", "tags": [], "at": "here", "metadata": {} },
            "node": { "id": "a", "address": address },
            "attempts": 1, "trace": null, "metadata": { "by": "corner" }, "times_ms": null,
        })
    );
    let failed = town.micro(&["call", "shop.price", "--thing=boat", "-o", "json"]).await.json();
    assert_eq!(
        failed["error"],
        json!({
            "code": "not_found", "message": "boat is not sold here", "phase": "wait",
            "details": { "NotSold": { "thing": "boat" } },
        })
    );
    assert_eq!((&failed["attempts"], failed.get("answer")), (&json!(1), None));
    let nobody =
        town.micro(&["call", "shop.price", "{}", "--address", "127.0.0.1:1", "-o", "json"]);
    let nobody = nobody.await.json();
    assert_eq!(nobody["error"]["code"], "unavailable", "{nobody}");
}

/// Nothing has colours that does not go to a terminal.
#[tokio::test]
async fn colours_are_for_terminals() {
    let town = Town::new();
    let _shop = town.open("a").await;
    for line in [&["describe", "shop"][..], &["call", "shop.nosuch"], &["--help"], &["nosuch"]] {
        let ended = town.micro(line).await;
        assert!(!format!("{ended:?}").contains("\\u{1b}"), "{ended:?}");
    }
}
