use futures::FutureExt;
use micro_selector::layer::load_shed::{Full, LoadShed};
use micro_selector::layer::{Error, LoadShedLayer};
use micro_selector::{Class, Classify};
use tower::{Layer, Service, ServiceExt};

use super::{Ask, Node, assert_ready, panics};

fn shed(limit: usize) -> LoadShed<Node> {
    LoadShedLayer::new(limit).layer(Node::default())
}

/// So many calls of all clones run at once, and no more; who finds no place is told so at once, as
/// something to try elsewhere.
#[tokio::test(start_paused = true)]
async fn so_many_at_once() {
    let service = shed(2);
    assert_ready(&service);
    let calls: Vec<_> = (0..2).map(|_| service.clone().call(Ask::Hang)).collect();
    let refused = service.clone().oneshot(Ask::Answer).now_or_never();
    let Some(Err(Error::Ended(full @ Full { limit: 2 }))) = refused else { panic!("{refused:?}") };
    assert_eq!(full.class(), Class::Refused);
    drop(calls);
    assert_eq!(service.oneshot(Ask::Answer).await.unwrap(), 0);
}

/// A call gives its place back however it ends: answered, failed, dropped half-way, dropped before
/// it began, by a panic.
#[tokio::test(start_paused = true)]
async fn places_are_given_back() {
    let service = shed(1);
    service.clone().oneshot(Ask::Answer).await.unwrap();
    service.clone().oneshot(Ask::Fail(Class::MaybeExecuted)).await.unwrap_err();
    drop(service.clone().call(Ask::Hang));
    let mut hanging = Box::pin(service.clone().call(Ask::Hang));
    assert!(hanging.as_mut().now_or_never().is_none());
    assert_eq!(service.in_flight(), 1);
    drop(hanging);
    panics(service.clone(), Ask::Panic).await;
    panics(service.clone(), Ask::PanicAtOnce).await;
    assert_eq!(service.in_flight(), 0);
}

/// A call that has ended holds no place, although its future is still there.
#[tokio::test(start_paused = true)]
async fn an_answered_call_holds_no_place() {
    let mut service = shed(1);
    let mut call = Box::pin(service.call(Ask::Answer));
    call.as_mut().await.unwrap();
    assert_eq!(service.in_flight(), 0);
}

/// A layer gives each service places of its own.
#[tokio::test(start_paused = true)]
async fn each_service_has_its_own() {
    let layer = LoadShedLayer::new(1);
    let (mut a, b) = (layer.layer(Node::default()), layer.layer(Node::default()));
    let _running = a.call(Ask::Hang);
    assert!(b.oneshot(Ask::Answer).await.is_ok());
}
