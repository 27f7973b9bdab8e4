//! One server that is killed, stopped, emptied, compacted or cut off.

use std::time::Duration;

use futures::StreamExt;
use micro_registry::directory::{Directory, Keys};
use micro_registry::{EmptyReason, ErrorKind, Registry, RemoveReason, Scope, Update, View};
use serde_json::json;

use crate::proxy::Proxy;
use crate::{etcd, eventually, next, node, open, service, soon, until};
use testbed::etcd::{self as server, Server};

const TTL: Duration = Duration::from_secs(60);

/// A server that is killed and comes back without its data: nobody hears of its nodes until they are
/// registered again, which their next renewal does.
#[tokio::test]
async fn a_server_that_lost_its_data() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let registry = open(&[server.address()]);
    registry.register(&node("a", 1), TTL).await.unwrap();
    let mut watch = registry.watch(service()).await.unwrap();
    assert_eq!(
        next(&mut watch).await,
        Update::reset(vec![node("a", 1).into()], EmptyReason::Unknown)
    );
    server.kill();
    assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
    let down = registry.register(&node("a", 1), TTL).await;
    assert_eq!(down.unwrap_err().kind(), ErrorKind::Unavailable);
    server.restart_empty();
    assert_eq!(next(&mut watch).await, Update::reset(vec![], EmptyReason::Unknown));
    registry.register(&node("a", 1), TTL).await.unwrap();
    assert_eq!(next(&mut watch).await, Update::Put(node("a", 1).into()));
}

/// A watch from a revision that the server has not reached, since it lost its data, is refused: it
/// would wait for years.
#[tokio::test]
async fn an_emptied_server_is_noticed() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let etcd = etcd(&server);
    for weight in 0..9 {
        server.put("/micro/n/s/1", &weight.to_string());
    }
    let keys = Keys::Below("n/".into());
    let listed = etcd.list(&keys).await.unwrap();
    server.kill();
    server.restart_empty();
    let refused = soon("a refusal", async {
        loop {
            match etcd.follow(&keys, listed.revision).await {
                Ok(_) => panic!("the watch began"),
                Err(error) if error.to_string().contains("without data") => break error,
                // It takes a while until the server answers again.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    assert_eq!(refused.await.kind(), ErrorKind::Unavailable);
}

/// A server that is stopped for ten seconds makes calls fail in time and watches stale, and nothing
/// is lost when it goes on.
#[tokio::test]
async fn a_server_that_hangs() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let registry = open(&[server.address()]);
    registry.register(&node("a", 1), TTL).await.unwrap();
    let mut watch = registry.watch(service()).await.unwrap();
    assert!(matches!(next(&mut watch).await, Update::Reset { .. }));
    server.pause();
    let resumed = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        server.resume();
    };
    let meanwhile = async {
        assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
        let error = soon("an error", registry.get("shop")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let Update::Reset { .. } = next(&mut watch).await else { panic!("no reset") };
    };
    tokio::join!(resumed, meanwhile);
    assert_eq!(registry.get("shop").await.unwrap()[0].nodes, [node("a", 1).node]);
}

/// A lease that somebody revokes is the node's expiry, and the next renewal's affair.
#[tokio::test]
async fn a_lease_revoked_by_hand() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let registry = open(&[server.address()]);
    registry.register(&node("a", 1), TTL).await.unwrap();
    let mut watch = registry.watch(service()).await.unwrap();
    next(&mut watch).await;
    server.revoke_all();
    assert_eq!(next(&mut watch).await, Update::remove(&node("a", 1), RemoveReason::Expired));
    registry.register(&node("a", 1), TTL).await.unwrap();
    assert_eq!(next(&mut watch).await, Update::Put(node("a", 1).into()));
}

/// What changed while a watch was cut off, and has been compacted since, is in the reset that follows.
#[tokio::test]
async fn compaction_while_cut_off() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let (watching, writing) = (open(&[proxy.address()]), open(&[server.address()]));
    writing.register(&node("a", 1), TTL).await.unwrap();
    writing.register(&node("b", 1), TTL).await.unwrap();
    let mut watch = watching.watch(service()).await.unwrap();
    next(&mut watch).await;
    proxy.cut();
    assert!(matches!(next(&mut watch).await, Update::Stale { .. }));
    writing.deregister(&node("b", 1)).await.unwrap();
    writing.register(&node("a", 2), TTL).await.unwrap();
    compact(&server);
    proxy.mend();
    let reset = Update::reset(vec![node("a", 2).into()], EmptyReason::Unknown);
    assert_eq!(next(&mut watch).await, reset);
    writing.register(&node("a", 3), TTL).await.unwrap();
    assert_eq!(next(&mut watch).await, Update::Put(node("a", 3).into()));
}

/// A watch from a revision that is compacted ends with an error, not in silence.
#[tokio::test]
async fn a_compacted_revision_is_an_error() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let etcd = etcd(&server);
    for weight in 0..9 {
        server.put("/micro/n/s/1", &weight.to_string());
    }
    compact(&server);
    let mut changes = etcd.follow(&Keys::Below("n/".into()), 2).await.unwrap();
    let error = soon("an error", changes.next()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("compacted"), "{error}");
    assert!(soon("the end", changes.next()).await.is_none());
}

/// A connection that leads nowhere any more is replaced: calls succeed and watches begin again over
/// a new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_connection_is_replaced() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let registry = open(&[proxy.address()]);
    registry.register(&node("a", 1), TTL).await.unwrap();
    let mut watch = registry.watch(service()).await.unwrap();
    next(&mut watch).await;
    proxy.freeze();
    registry.register(&node("a", 2), TTL).await.unwrap();
    let mut view = View::new();
    let stored = view_of(2);
    until(&mut watch, &mut view, |view| *view == stored).await;
    registry.register(&node("a", 3), TTL).await.unwrap();
    let stored = view_of(3);
    until(&mut watch, &mut view, |view| *view == stored).await;
}

/// Of watches on one stream that is cut each is told, and each goes on.
#[tokio::test]
async fn all_watches_of_a_stream_hear_of_its_end() {
    if !server::is_there() {
        return;
    }
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let (watching, writing) = (open(&[proxy.address()]), open(&[server.address()]));
    let mut watches = vec![];
    for scope in [service(), Scope::All, Scope::Service("other".into())] {
        let mut watch = watching.watch(scope).await.unwrap();
        next(&mut watch).await;
        watches.push(watch);
    }
    let one = watching.watch(Scope::Service("one".into())).await.unwrap();
    eventually("all of them", async || server.watches() == 4).await;
    drop(one);
    eventually("all but the one that was dropped", async || server.watches() == 3).await;
    proxy.cut();
    for watch in &mut watches {
        assert!(matches!(next(watch).await, Update::Stale { .. }));
    }
    writing.register(&node("a", 1), TTL).await.unwrap();
    proxy.mend();
    for (watch, nodes) in watches.iter_mut().zip([1, 1, 0]) {
        let Update::Reset { registrations: found, .. } = next(watch).await else {
            panic!("no reset")
        };
        assert_eq!(found.len(), nodes);
    }
    drop(watches);
    eventually("no watch is left", async || server.watches() == 0).await;
}

fn view_of(weight: u16) -> View {
    [node("a", weight).into()].into_iter().collect()
}

/// Up to now.
fn compact(server: &Server) {
    let answer = server.call("/v3/kv/range", &json!({ "key": server::encoded("x") }));
    let revision = &answer["header"]["revision"];
    server.call("/v3/kv/compaction", &json!({ "revision": revision, "physical": true }));
}
