//! The program, as nodes and as a caller, in a registry of its own.

use testbed::{Process, Scene, eventually};

/// Who calls is answered by the nodes that are there: after one is killed, by the other.
#[tokio::test]
async fn calls_find_the_nodes() {
    let scene = Scene::new();
    let first = node(&scene, "first").await;
    let _second = node(&scene, "second").await;
    greets(&scene, "before").await;
    drop(first);
    greets(&scene, "after").await;
}

/// An error of a method is the caller's, and ends its program.
#[tokio::test]
async fn errors_reach_the_caller() {
    let scene = Scene::new();
    let _node = node(&scene, "node").await;
    let mut caller = scene.run(PROGRAM, "caller", &["call"]);
    assert!(!caller.ended().await.success());
    assert!(caller.stderr().contains("nobody to greet"), "{}", caller.stderr());
}

async fn greets(scene: &Scene, name: &str) {
    let mut caller = scene.run(PROGRAM, name, &["call", "Ann", "Bob"]);
    let status = caller.ended().await;
    assert_eq!(caller.stdout(), "Hello, Ann!\nHello, Bob!\nHello, Ann and Bob!\n");
    assert!(status.success(), "{status}");
}

/// Starts a node, and returns when it serves.
async fn node(scene: &Scene, name: &str) -> Process {
    let node = scene.run(PROGRAM, name, &["serve"]);
    let serves = async || node.stdout().ends_with("/greeter/hello\n").then_some(());
    eventually(&format!("{name} serves"), serves).await;
    node
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_tarpc-greeter");
