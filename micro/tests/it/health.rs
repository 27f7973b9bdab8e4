//! What a service's own health check does to it.

use std::sync::Mutex;

use futures::StreamExt;
use micro::BoxError;
use micro::registry::{NodeState, Registry, Scope, Update, Watch};
use tokio::sync::Notify;

use super::*;
use crate::fragile::Unspeakable;

const SECOND: Duration = Duration::from_secs(1);

/// Says how a service is, as a test wants.
#[derive(Clone, Default)]
struct Doctor(Arc<Mutex<Option<&'static str>>>);

impl Doctor {
    fn find(&self, illness: Option<&'static str>) {
        *self.0.lock().unwrap() = illness;
    }

    fn check(&self) -> impl Future<Output = Result<(), BoxError>> + use<> {
        let illness = *self.0.lock().unwrap();
        async move {
            match illness {
                None => Ok(()),
                Some("hangs") => std::future::pending().await,
                Some("panics") => panic!("on purpose"),
                Some("mumbles") => Err(Unspeakable.into()),
                Some(illness) => Err(illness.into()),
            }
        }
    }
}

async fn watch(town: &Town) -> Watch {
    let mut watch = town.registry.watch(Scope::Service("shop".into())).await.unwrap();
    assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
    watch
}

/// The next state the node is put into.
async fn next_state(watch: &mut Watch) -> NodeState {
    match watch.next().await {
        Some(Update::Put(registration)) => registration.node.state,
        other => panic!("the node goes nowhere: {other:?}"),
    }
}

/// A failing check takes the node out of rotation at once, not with the next renewal, and a passing
/// one puts it back; readiness says why.
#[tokio::test(start_paused = true)]
async fn a_check_is_heard_at_once() {
    let (town, doctor) = (Town::default(), Doctor::default());
    let mut watch = watch(&town).await;
    let asked = doctor.clone();
    let service = town
        .service("a")
        .register_ttl(3_600 * 3 * SECOND)
        .register_interval(3_600 * SECOND)
        .health_interval(SECOND)
        .health_check(move || asked.check());
    let _service = registered(service.serve(ShopServer::new(Corner::default()))).await;
    while next_state(&mut watch).await != NodeState::Serving {}
    assert_eq!(town.http("a", "/health/ready").await.0, 200);
    let begin = tokio::time::Instant::now();
    for (illness, reason) in [
        ("the disk is full", "not serving: the disk is full"),
        ("panics", "not serving: it panicked"),
        ("mumbles", "not serving: it panicked"),
        ("hangs", "not serving: the health check did not end within 1s"),
    ] {
        doctor.find(Some(illness));
        assert_eq!(next_state(&mut watch).await, NodeState::NotServing, "{illness}");
        let (status, body) = town.http("a", "/health/ready").await;
        assert_eq!((status, body.trim_end()), (503, reason));
        doctor.find(None);
        assert_eq!(next_state(&mut watch).await, NodeState::Serving, "{illness}");
        assert_eq!(town.http("a", "/health/ready").await.0, 200);
    }
    // On the paused clock: long before the first renewal.
    assert!(begin.elapsed() < 60 * SECOND, "{:?}", begin.elapsed());
}

/// A check that goes on failing keeps the node registered, and out of rotation, for as long.
#[tokio::test(start_paused = true)]
async fn a_failing_check_never_deregisters() {
    let (town, doctor) = (Town::default(), Doctor::default());
    let mut watch = watch(&town).await;
    doctor.find(Some("never well"));
    let asked = doctor.clone();
    let service = town.service("a").health_check(move || asked.check());
    let _service = registered(service.serve(ShopServer::new(Corner::default()))).await;
    while next_state(&mut watch).await != NodeState::NotServing {}
    tokio::time::sleep(600 * SECOND).await;
    let nodes = &town.registry.get("shop").await.unwrap()[0].nodes;
    assert_eq!(nodes[0].state, NodeState::NotServing);
    doctor.find(None);
    assert_eq!(next_state(&mut watch).await, NodeState::Serving, "and nothing came between");
}

/// Until the first check passes a node is starting: seen, and not called.
#[tokio::test(start_paused = true)]
async fn a_node_starts_with_its_first_check() {
    let town = Town::default();
    let mut watch = watch(&town).await;
    let warm = Arc::new(Notify::new());
    let warming = warm.clone();
    let service = town.service("a").health_check(move || {
        let warming = warming.clone();
        async move {
            warming.notified().await;
            Ok(())
        }
    });
    let _service = registered(service.serve(ShopServer::new(Corner::default()))).await;
    assert_eq!(next_state(&mut watch).await, NodeState::Starting);
    let (status, body) = town.http("a", "/health/ready").await;
    assert_eq!((status, body.trim_end()), (503, "the first health check has not ended"));
    warm.notify_one();
    assert_eq!(next_state(&mut watch).await, NodeState::Serving);
}

/// A service that stops is draining, whatever its check finds.
#[tokio::test(start_paused = true)]
async fn a_check_does_not_end_a_drain() {
    let (town, doctor) = (Town::default(), Doctor::default());
    doctor.find(Some("unwell"));
    let asked = doctor.clone();
    let service = town
        .service("a")
        .drain_delay(30 * SECOND)
        .health_interval(SECOND)
        .health_check(move || asked.check());
    let service = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let mut watch = watch(&town).await;
    let stopping = tokio::spawn(service.shutdown());
    while next_state(&mut watch).await != NodeState::Draining {}
    doctor.find(None);
    assert!(matches!(watch.next().await, Some(Update::Remove { .. })));
    stopping.await.unwrap();
}

/// A check in between checks makes no sense.
#[tokio::test]
async fn a_hasty_interval_is_refused() {
    let service = Town::default().service("a").health_interval(Duration::from_millis(99));
    let error = service.serve(ShopServer::new(Corner::default())).start().await.unwrap_err();
    let expected = "health_interval 99ms from code is invalid: expected 100ms or more";
    assert_eq!(error.to_string(), expected);
}
