//! The same programs over other registries: nothing of them changes but the URL.

use std::time::Duration;

use micro::registry::{NodeState, RemoveReason, Update, Watch};
use testbed::{Scene, Signal};
use tokio::time::sleep;

use crate::processes::{Greeters, Server};
use crate::{RENEWS_OFTEN, Report, follow, joined, left, registered, registry_of, watch};

/// Over multicast DNS, in a network of one host.
#[tokio::test]
async fn over_multicast_dns() {
    nodes_come_and_go(&Scene::over_multicast_dns()).await;
}

/// A server that is killed expires, one that is stopped drains and says goodbye, one that is new
/// joins; callers notice nothing but who answers.
pub(crate) async fn nodes_come_and_go(scene: &Scene) {
    let servers: [Server; 3] = scene.servers(&RENEWS_OFTEN).await;
    registered(scene, &servers).await;
    let [first, second, third] = &servers;
    let registry = registry_of(scene).await;
    let mut watch = watch(&registry).await;
    joined(&mut watch, &first.node).await;
    let mut client = scene.load(600, &[]);
    let fourth = scene.server("server-4", &RENEWS_OFTEN).await;
    joined(&mut watch, &fourth.node).await;
    // Long enough for everybody to be called.
    sleep(Duration::from_secs(3)).await;
    first.process.signal(Signal::KILL);
    assert_eq!(left(&mut watch, &first.node).await, RemoveReason::Expired);
    second.process.signal(Signal::TERM);
    drains(&mut watch, &second.node).await;
    assert_eq!(left(&mut watch, &second.node).await, RemoveReason::Deregistered);
    client.signal(Signal::INT);
    let report = Report::of(&mut client).await;
    report.assert_all_answered_by([first, second, third, &fourth]);
}

/// Waits until the watch tells that this node takes no new calls.
async fn drains(watch: &mut Watch, node: &str) {
    follow(watch, &format!("{node} drains"), |update| match update {
        Update::Put(registration) if registration.node.id == node => {
            (registration.node.state == NodeState::Draining).then_some(())
        }
        _ => None,
    })
    .await;
}
