use std::time::Duration;

use futures::FutureExt;
use micro_selector::layer::deadline::Missed;
use micro_selector::layer::{DeadlineLayer, Error, LoadShedLayer};
use micro_selector::{Class, Classify};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt};

use super::{Ask, Node, assert_ready, panics};

const SOON: Duration = Duration::from_secs(1);

fn after(span: Duration) -> impl Fn(&Ask) -> Option<Instant> + Clone {
    let until = Instant::now() + span;
    move |_: &Ask| Some(until)
}

/// A call that takes too long ends at its deadline, and what is behind it is dropped then, although
/// the future is not.
#[tokio::test(start_paused = true)]
async fn ends_at_the_deadline() {
    let inner = LoadShedLayer::new(1).layer(Node::default());
    for (is_callers, class) in [(true, Class::MaybeExecuted), (false, Class::MaybeExecuted)] {
        let start = Instant::now();
        let by_request = DeadlineLayer::new(after(SOON)).layer(inner.clone());
        let mut by_time = DeadlineLayer::within(SOON).layer(inner.clone());
        assert_ready(&by_request);
        let missed = match is_callers {
            true => by_request.oneshot(Ask::Hang).await.unwrap_err(),
            false => {
                let mut call = Box::pin(by_time.call(Ask::Hang));
                let missed = call.as_mut().await.unwrap_err();
                assert_eq!(inner.in_flight(), 0, "what is behind is dropped");
                missed
            }
        };
        assert_eq!(start.elapsed(), SOON);
        assert!(
            matches!(missed, Error::Ended(Missed::During { is_callers: c }) if c == is_callers)
        );
        let Error::Ended(missed) = missed else { panic!("{missed:?}") };
        assert_eq!((missed.class(), missed.is_late()), (class, is_callers));
    }
}

/// A call that always has something to do ends at its deadline all the same.
#[tokio::test]
async fn ends_what_never_rests() {
    let busy = tower::service_fn(async |()| {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let start = Instant::now();
        while start.elapsed() < 20 * SOON {
            sender.send(()).expect("it is heard");
            receiver.recv().await.expect("it was sent");
        }
        Ok::<_, crate::Broken>(())
    });
    let limited = DeadlineLayer::within(Duration::from_millis(10)).layer(busy);
    assert!(matches!(limited.oneshot(()).await, Err(Error::Ended(Missed::During { .. }))));
}

/// What comes after its deadline is not sent, nor is it to be repeated.
#[tokio::test(start_paused = true)]
async fn what_is_late_is_not_sent() {
    let node = Node::default();
    let layer = DeadlineLayer::new(after(SOON));
    advance(SOON).await;
    let missed = layer.layer(node.clone()).oneshot(Ask::Answer).await.unwrap_err();
    assert!(matches!(missed, Error::Ended(Missed::Before)), "{missed:?}");
    assert_eq!((missed.class(), node.calls()), (Class::Unsent, 0));
}

/// Without a deadline, or with one beyond all time, a call takes as long as it takes; an answer in
/// time is passed on, and so are failures and panics.
#[tokio::test(start_paused = true)]
async fn in_time_nothing_changes() {
    let never = DeadlineLayer::new(|_: &Ask| None).layer(Node::default());
    let far = DeadlineLayer::within(Duration::MAX).layer(Node::default());
    for ask in [Ask::Answer, Ask::Hang] {
        for call in [never.clone().call(ask).boxed(), far.clone().call(ask).boxed()] {
            let is_over = tokio::select! {
                outcome = call => outcome.is_ok(),
                () = sleep(1_000 * SOON) => false,
            };
            assert_eq!(is_over, ask == Ask::Answer);
        }
    }
    let failed = far.clone().oneshot(Ask::Fail(Class::Refused)).await.unwrap_err();
    assert_eq!(failed.class(), Class::Refused);
    panics(far, Ask::Panic).await;
}
