use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use micro_selector::layer::limit::{Config, Limit};
use micro_selector::layer::{Error, LimitLayer};
use micro_selector::{Class, Classify};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt};

use super::{Ask, Node, assert_ready, panics};

fn limited(max: usize) -> Limit<Node> {
    LimitLayer::new(&Config { max, min: 1, adaptive: true }).layer(Node::default())
}

/// What is too much is sent away at once, as an overload that says when to come back; a call gives
/// its place back however it ends.
#[tokio::test(start_paused = true)]
async fn places_are_given_back() {
    let service = limited(1);
    assert_ready(&service);
    let mut hanging = Box::pin(service.clone().call(Ask::Hang));
    assert!(hanging.as_mut().now_or_never().is_none());
    let refused = service.clone().oneshot(Ask::Answer).now_or_never();
    let Some(Err(Error::Ended(overloaded))) = refused else { panic!("{refused:?}") };
    assert_eq!((overloaded.class(), overloaded.limit), (Class::Overloaded, 1));
    assert!(overloaded.retry_after().is_some());
    drop(hanging);
    service.clone().oneshot(Ask::Answer).await.unwrap();
    service.clone().oneshot(Ask::Fail(Class::MaybeExecuted)).await.unwrap_err();
    drop(service.clone().call(Ask::Hang));
    panics(service.clone(), Ask::Panic).await;
    panics(service.clone(), Ask::PanicAtOnce).await;
    assert_eq!(service.in_flight(), 0);
}

/// A service that gets slow under many calls is left fewer of them, and all again afterwards.
#[tokio::test(start_paused = true)]
async fn finds_what_the_service_can_do() {
    const CAPACITY: u32 = 20;
    let running = Arc::new(AtomicU32::new(0));
    let service = tower::service_fn(move |()| {
        let running = running.clone();
        async move {
            // As if its calls took turns.
            let waits = running.fetch_add(1, Relaxed) / CAPACITY;
            sleep(Duration::from_millis(50) * (waits + 1)).await;
            running.fetch_sub(1, Relaxed);
            Ok::<_, std::convert::Infallible>(())
        }
    });
    let service = LimitLayer::new(&Config { max: 1_000, min: 10, adaptive: true }).layer(service);
    let rush = async |calls| {
        for _ in 0..200 {
            join_all((0..calls).map(|_| service.clone().oneshot(()))).await;
        }
        service.limit()
    };
    assert_eq!(rush(5).await, 1_000);
    let limit = rush(500).await;
    assert!((CAPACITY as usize..200).contains(&limit), "{limit}");
    assert_eq!(rush(5).await, 1_000);
}

/// What fails at once teaches nothing of how quick an answer is.
#[tokio::test(start_paused = true)]
async fn quick_errors_teach_nothing() {
    let service = tower::service_fn(async |fails: bool| {
        sleep(Duration::from_millis(if fails { 20 } else { 200 })).await;
        if fails { Err(std::fmt::Error) } else { Ok(()) }
    });
    let service = LimitLayer::new(&Config { max: 500, ..Config::default() }).layer(service);
    for (calls, fails) in [(20, false), (20, true), (500, false)] {
        for _ in 0..50 {
            let answers = join_all((0..calls).map(|_| service.clone().oneshot(fails))).await;
            assert!(answers.iter().all(|answer| answer.is_ok() != fails), "{answers:?}");
        }
    }
}
