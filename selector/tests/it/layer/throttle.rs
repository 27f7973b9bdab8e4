use micro_selector::layer::throttle::{Throttle, Throttled};
use micro_selector::layer::{Error, RetryLayer, ThrottleLayer};
use micro_selector::{Class, ThrottlePolicy};
use tokio::time::advance;
use tower::{Layer, ServiceExt};

use super::{Ask, Node, assert_ready, panics};

async fn ended(service: &Throttle<Node>, ask: Ask, calls: u32) -> u32 {
    let mut ended = 0;
    for _ in 0..calls {
        let outcome = service.clone().oneshot(ask).await;
        ended += u32::from(matches!(outcome, Err(Error::Ended(Throttled))));
    }
    ended
}

/// A service that answers only *overloaded* is spared most calls, but not all; when it has
/// recovered it gets them all again.
#[tokio::test(start_paused = true)]
async fn spares_what_is_overloaded() {
    let node = Node::default();
    let service = ThrottleLayer::new().layer(node.clone());
    assert_ready(&service);
    let spared = ended(&service, Ask::Fail(Class::Overloaded), 1_000).await;
    assert_eq!(node.calls(), 1_000 - spared);
    assert!((700..950).contains(&spared), "{spared}");
    assert!(service.refused_share() > 0.8);
    advance(2 * ThrottlePolicy::default().window).await;
    assert_eq!(ended(&service, Ask::Answer, 1_000).await, 0);
}

/// Nothing but *overloaded* counts: no other failure, no call that is dropped, no panic.
#[tokio::test(start_paused = true)]
async fn only_overloaded_counts() {
    let service = ThrottleLayer::new().layer(Node::default());
    for class in [Class::NotSent, Class::Refused, Class::MaybeExecuted, Class::Executed] {
        assert_eq!(ended(&service, Ask::Fail(class), 200).await, 0, "{class:?}");
    }
    for _ in 0..100 {
        drop(tower::Service::call(&mut service.clone(), Ask::Hang));
        panics(service.clone(), Ask::Panic).await;
    }
    assert_eq!(service.refused_share(), 0.0);
}

/// What ends here is not repeated by retries around it.
#[tokio::test(start_paused = true)]
async fn what_is_spared_is_not_repeated() {
    let throttle = ThrottleLayer::new().layer(Node::default());
    ended(&throttle, Ask::Fail(Class::Overloaded), 1_000).await;
    let retried = RetryLayer::new(|_: &Ask| true).layer(throttle);
    let mut met = 0;
    for _ in 0..100 {
        let failed = retried.clone().oneshot(Ask::Fail(Class::Overloaded)).await.unwrap_err();
        let spared = failed.attempts().position(|error| *error == Error::Ended(Throttled));
        if let Some(spared) = spared {
            met += 1;
            assert_eq!(spared + 1, failed.attempts().len(), "{failed:?}");
        }
    }
    assert!(met > 50, "{met}");
}
