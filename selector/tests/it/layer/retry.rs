use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use micro_selector::layer::retry::{Retry, RetryLayer};
use micro_selector::layer::{Error, LoadShedLayer};
use micro_selector::{Budget, Class, Classify, RetryPolicy};
use tokio::time::{Instant, timeout};
use tower::{Layer, Service, ServiceExt};

use super::{Ask, Node, assert_ready, panics};
use crate::Broken;

const IDEMPOTENT: fn(&Ask) -> bool = |_| true;
const NOT_IDEMPOTENT: fn(&Ask) -> bool = |_| false;

async fn attempts(retry: &Retry<Node, fn(&Ask) -> bool>, class: Class) -> usize {
    let failed = retry.clone().oneshot(Ask::Fail(class)).await.expect_err("as asked");
    assert_eq!(failed.class(), class);
    failed.attempts().len()
}

/// Over one service what may be repeated is tried three times in all, by class and idempotence.
#[tokio::test(start_paused = true)]
async fn repeats_by_class() {
    for (is_idempotent, maybe) in [(IDEMPOTENT, 3), (NOT_IDEMPOTENT, 1)] {
        let node = Node::default();
        let retry = RetryLayer::new(is_idempotent).layer(node.clone());
        assert_ready(&retry);
        for (class, expected) in [
            (Class::NotSent, 3),
            (Class::Refused, 3),
            (Class::Overloaded, 3),
            (Class::MaybeExecuted, maybe),
            (Class::Executed, 1),
            (Class::Unsent, 1),
        ] {
            let before = node.calls();
            assert_eq!(attempts(&retry, class).await, expected, "{class:?}");
            assert_eq!((node.calls() - before) as usize, expected, "{class:?}");
        }
    }
}

/// An answer ends the attempts; before each but the first there is a wait, below the policy's.
#[tokio::test(start_paused = true)]
async fn waits_between_attempts() {
    let asked = Arc::new(AtomicU32::new(0));
    let service = tower::service_fn(move |()| {
        let number = asked.fetch_add(1, Relaxed) % 5;
        async move { if number < 4 { Err(Broken(Class::Refused)) } else { Ok(number) } }
    });
    let backoff = Duration::from_secs(1);
    let policy = RetryPolicy::default().max_attempts(5).backoff(backoff).max_backoff(2 * backoff);
    let retry = RetryLayer::new(|&()| false).policy(policy).layer(service);
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    for _ in 0..50 {
        let before = Instant::now();
        assert_eq!(retry.clone().oneshot(()).await.unwrap(), 4);
        longest = longest.max(before.elapsed());
    }
    assert!(longest <= 7 * backoff, "{longest:?}");
    let mean = start.elapsed().as_secs_f64() / 50.0;
    assert!((1.5..5.5).contains(&mean), "{mean}: half of 1 + 2 + 2 + 2 s, by the draw");
}

/// However many calls fail, no more are repeated than the budget has, and it is one for all clones.
#[tokio::test(start_paused = true)]
async fn the_budget_is_kept() {
    for class in [Class::MaybeExecuted, Class::Overloaded] {
        let node = Node::default();
        let budget = Arc::new(Budget::new(0.2, 0, Instant::now()));
        let retry = RetryLayer::new(IDEMPOTENT).budget(budget).layer(node.clone());
        for _ in 0..1_000 {
            attempts(&retry, class).await;
        }
        assert_eq!(node.calls(), 1_200, "{class:?}");
    }
}

/// The failure tells of every attempt, and is executed perhaps when one of them may have been.
#[tokio::test(start_paused = true)]
async fn the_failure_tells_all() {
    let classes = [Class::NotSent, Class::MaybeExecuted, Class::Refused];
    let asked = Arc::new(AtomicU32::new(0));
    let service = tower::service_fn(move |()| {
        let class = classes[asked.fetch_add(1, Relaxed) as usize];
        async move { Err::<(), _>(Broken(class)) }
    });
    let retry = RetryLayer::new(|&()| true).layer(service);
    let failed = retry.oneshot(()).await.unwrap_err();
    assert_eq!(failed.attempts().map(Classify::class).collect::<Vec<_>>(), classes);
    assert_eq!(failed.class(), Class::MaybeExecuted);
    assert_eq!(failed.to_string(), "failed after 3 attempts");
    assert_eq!(std::error::Error::source(&failed).unwrap().to_string(), "Refused");
    assert_eq!(failed.into_last().0, Class::Refused);
}

/// Nobody can ask for more attempts than a call can remember.
#[tokio::test(start_paused = true)]
async fn attempts_are_bounded() {
    let policy = RetryPolicy::default().max_attempts(u32::MAX);
    let retry = RetryLayer::new(IDEMPOTENT).policy(policy).layer(Node::default());
    for class in [Class::NotSent, Class::Refused, Class::MaybeExecuted] {
        assert_eq!(attempts(&retry, class).await, 8, "{class:?}");
    }
    let retry = RetryLayer::new(IDEMPOTENT).policy(RetryPolicy::none()).layer(Node::default());
    assert_eq!(attempts(&retry, Class::NotSent).await, 1);
}

/// Dropped in an attempt or between two, a call holds nothing behind it; a panic there reaches the
/// caller, and is not repeated.
#[tokio::test(start_paused = true)]
async fn dropped_calls_hold_nothing() {
    let node = Node::default();
    let inner = LoadShedLayer::new(1).layer(node.clone());
    let policy = RetryPolicy::default().backoff(Duration::from_secs(60)).max_attempts(8);
    let retry = RetryLayer::new(IDEMPOTENT).policy(policy).layer(inner.clone());
    for ask in [Ask::Hang, Ask::Fail(Class::Refused)] {
        let call = timeout(Duration::from_millis(1), retry.clone().oneshot(ask));
        assert!(call.await.is_err());
        assert_eq!(inner.in_flight(), 0);
    }
    let before = node.calls();
    panics(retry.clone(), Ask::Panic).await;
    assert_eq!((node.calls() - before, inner.in_flight()), (1, 0));
    let _held = inner.clone().call(Ask::Hang);
    let full = retry.oneshot(Ask::Answer);
    let failed = tokio::select! { outcome = full => outcome, () = tokio::time::sleep(Duration::from_secs(3_600)) => panic!("it ends") };
    assert!(matches!(failed.unwrap_err().last(), Error::Ended(_)));
}
