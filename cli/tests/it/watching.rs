//! `micro watch`: who joins, changes and leaves.

use std::time::Duration;

use micro::registry::{Node, NodeState, Registration};
use serde_json::{Value, json};
use testbed::{Process, eventually};

use crate::shop::{MICRO, Town};

const LONG: Duration = Duration::from_secs(600);

/// The line after those that were seen, once it is there.
async fn next(watch: &Process, seen: &mut usize) -> String {
    let line =
        eventually("another line", async || watch.stdout().lines().nth(*seen).map(str::to_owned))
            .await;
    *seen += 1;
    line
}

/// Those who are there come first; then each join, change and leave has its line, with the reason.
#[tokio::test]
async fn lines_for_people() {
    let town = Town::new();
    let shop = town.open("a").await;
    let registry = town.registry().await;
    let watch = town.scene.run(MICRO, "watch", &["watch", "shop"]);
    let mut seen = 0;
    let address = shop.registration().node.address.clone();
    assert_eq!(next(&watch, &mut seen).await, format!("+ shop latest a {address}"));
    let mut b = Registration::new("shop", "1.0.0", Node::new("b", "127.0.0.1:7"));
    registry.register(&b, LONG).await.unwrap();
    assert_eq!(next(&watch, &mut seen).await, "+ shop 1.0.0 b 127.0.0.1:7");
    b.node.state = NodeState::Draining;
    b.node.weight = 5;
    registry.register(&b, LONG).await.unwrap();
    assert_eq!(
        next(&watch, &mut seen).await,
        "~ shop 1.0.0 b 127.0.0.1:7 state: serving -> draining weight: 100 -> 5"
    );
    let other = Registration::new("other", "1.0.0", Node::new("b", "127.0.0.1:7"));
    registry.register(&other, LONG).await.unwrap();
    registry.deregister(&b).await.unwrap();
    assert_eq!(next(&watch, &mut seen).await, "- shop 1.0.0 b 127.0.0.1:7 (deregistered)");
}

/// The same as JSON, an object on each line.
#[tokio::test]
async fn lines_for_programs() {
    let town = Town::new();
    let registry = town.registry().await;
    let watch = town.scene.run(MICRO, "watch", &["watch", "-o", "json"]);
    let mut seen = 0;
    let mut event =
        async || -> Value { serde_json::from_str(&next(&watch, &mut seen).await).unwrap() };
    assert_eq!(event().await["event"], "empty");
    let mut b = Registration::new("shop", "1.0.0", Node::new("b", "127.0.0.1:7"));
    registry.register(&b, LONG).await.unwrap();
    let node = json!({
        "id": "b", "address": "127.0.0.1:7", "state": "serving", "weight": 100, "zone": null,
        "epoch": 0, "metadata": {},
    });
    assert_eq!(
        event().await,
        json!({ "event": "joined", "service": "shop", "version": "1.0.0", "node": node })
    );
    b.node.weight = 5;
    registry.register(&b, LONG).await.unwrap();
    let changed = event().await;
    assert_eq!(changed["event"], "changed");
    assert_eq!(changed["changes"], json!({ "weight": ["100", "5"] }));
    assert_eq!(changed["node"]["weight"], 5);
    let c = Registration::new("shop", "1.0.0", Node::new("c", "127.0.0.1:8"));
    registry.register(&c, Duration::from_secs(1)).await.unwrap();
    assert_eq!(event().await["node"]["id"], "c");
    let left = event().await;
    assert_eq!((&left["event"], &left["reason"]), (&json!("left"), &json!("expired")));
    registry.deregister(&b).await.unwrap();
    let left = event().await;
    assert_eq!((&left["event"], &left["reason"]), (&json!("left"), &json!("deregistered")));
}

/// A reader that goes away ends it quietly.
#[tokio::test]
async fn a_reader_may_leave() {
    let town = Town::new();
    let _shop = town.open("a").await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(MICRO);
    command.args(["services", "-o", "json"]).env_clear().env("MICRO_REGISTRY", town.scene.url());
    let run = move || command.stdout(writer).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""));
}
