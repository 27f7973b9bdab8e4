//! Between processes.

use micro_registry::{Registry, RemoveReason, View};

use crate::child::Other;
use crate::{HOUR, config, greeter, registration, registry, until, until_gone};

/// A process that is killed says nothing: its node expires with its TTL.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_expires() {
    let config = config();
    let registry = registry(&config);
    let (mut watch, mut view) = (registry.watch(greeter()).await.unwrap(), View::new());
    let mut other = Other::start("register", &config);
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    other.kill();
    assert_eq!(until_gone(&mut watch, &mut view).await, RemoveReason::Expired);
}

/// A process that was stopped for longer than a TTL looks again before it takes anybody for dead;
/// who was renewed meanwhile never left.
#[tokio::test(flavor = "multi_thread")]
async fn being_stopped_evicts_nobody() {
    let config = config();
    let _renewed = Other::start("register", &config);
    let mut watcher = Other::start("watch", &config);
    watcher.signal("-STOP");
    tokio::time::sleep(crate::child::TTL * 3).await;
    watcher.signal("-CONT");
    let told: Vec<_> = ["", ""].map(|any| watcher.until(any)).into();
    assert_eq!(told, ["stale", "reset 1"]);
}

/// A handle has one thread, however it is used, and takes it along.
#[cfg(target_os = "linux")]
#[test]
fn a_handle_has_one_thread() {
    Other::start("threads", &config());
}

/// A service that leaves its process and comes back in another is the same node.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_moves_to_another_process() {
    let config = config();
    let registry = registry(&config);
    let mut other = Other::start("register", &config);
    let moved = registration("greeter", "other", 6);
    registry.register(&moved, HOUR).await.unwrap();
    other.kill();
    let nodes = registry.get("greeter").await.unwrap().remove(0).nodes;
    assert_eq!(nodes, [moved.node]);
}
