use std::time::Duration;

use futures::stream;
use micro_selector::layer::ejection::{Ejected, Ejection};
use micro_selector::layer::{Balance, DeadlineLayer, EjectionLayer, Error, RetryLayer};
use micro_selector::{Class, Classify, EjectionPolicy, StrategyKind};
use tokio::time::{Instant, advance, timeout};
use tower::discover::Change;
use tower::{Layer, Service, ServiceExt};

use super::{Ask, Node, assert_ready, panics};

const FAIL: Ask = Ask::Fail(Class::MaybeExecuted);

/// How long the service is out; fails when it is not.
async fn rest(service: &Ejection<Node>) -> Duration {
    match service.clone().oneshot(Ask::Answer).await {
        Err(Error::Ended(ended @ Ejected { rest, .. })) => {
            assert_eq!(ended.class(), Class::NotSent);
            assert!(ended.to_string().ends_with(&format!("probed in {rest:?}")), "{ended}");
            rest
        }
        other => panic!("{other:?}"),
    }
}

async fn ejected(node: &Node) -> Ejection<Node> {
    let service = EjectionLayer::new().layer(node.clone());
    for _ in 0..5 {
        assert!(!service.is_ejected());
        assert!(matches!(service.clone().oneshot(FAIL).await, Err(Error::Inner(_))));
    }
    assert!(service.is_ejected());
    service
}

/// After five failures in a row calls end unsent; after a second or so one of them is the probe,
/// whose failure doubles the rest and whose answer takes the service in again.
#[tokio::test(start_paused = true)]
async fn fails_fast_and_probes() {
    let node = Node::default();
    let service = ejected(&node).await;
    assert_ready(&service);
    for seconds in [1.0, 2.0, 4.0] {
        let rest = rest(&service).await;
        assert!((0.74 * seconds..1.26 * seconds).contains(&rest.as_secs_f64()), "{rest:?}");
        let before = node.calls();
        advance(rest).await;
        service.clone().oneshot(FAIL).await.unwrap_err();
        assert_eq!(node.calls(), before + 1, "it was the probe");
    }
    advance(rest(&service).await).await;
    assert_eq!(service.clone().oneshot(Ask::Answer).await.unwrap(), 0);
    assert!(!service.is_ejected());
}

/// Failures in a row, the share of answers and the times are as the policy says, whose values are
/// moved into their range.
#[tokio::test(start_paused = true)]
async fn ejects_by_its_policy() {
    let rest = |first, longest| {
        EjectionPolicy::default().rest(Duration::from_millis(first), Duration::from_millis(longest))
    };
    let policy = rest(100, 150).failures(2).answered(0.0, 10);
    let service = EjectionLayer::new().policy(policy).layer(Node::default());
    let ask = async |service: &Ejection<Node>, ask| service.clone().oneshot(ask).await;
    ask(&service, FAIL).await.unwrap_err();
    assert!(!service.is_ejected());
    for (least, most) in [(75, 125), (112, 188), (112, 188)] {
        ask(&service, FAIL).await.unwrap_err();
        let rest = self::rest(&service).await.as_millis();
        assert!((least..=most).contains(&rest), "{rest}");
        advance(Duration::from_millis(190)).await;
    }
    assert_eq!(ask(&service, Ask::Answer).await.unwrap(), 0);

    let policy = EjectionPolicy::default().answered(0.5, 4);
    let service = EjectionLayer::new().policy(policy).layer(Node::default());
    for (asked, is_ejected) in
        [(FAIL, false), (Ask::Answer, false), (FAIL, false), (Ask::Answer, false), (FAIL, true)]
    {
        let _ = ask(&service, asked).await;
        assert_eq!(service.is_ejected(), is_ejected);
    }

    let absurd = EjectionPolicy::default().failures(0).answered(f64::NAN, 0);
    let absurd = absurd.rest(Duration::ZERO, Duration::MAX);
    let service = EjectionLayer::new().policy(absurd).layer(Node::default());
    ask(&service, Ask::Answer).await.unwrap();
    for _ in 0..50 {
        ask(&service, FAIL).await.unwrap_err();
        assert!(service.is_ejected());
        assert!(self::rest(&service).await <= Duration::from_secs(30 * 3600));
        advance(Duration::from_secs(30 * 3600)).await;
    }
}

/// One probe at a time: while it is under way calls end at once; dropped or panicked it leaves the
/// next one to be made.
#[tokio::test(start_paused = true)]
async fn one_probe_at_a_time() {
    let service = ejected(&Node::default()).await;
    advance(rest(&service).await).await;
    let probe = service.clone().call(Ask::Hang);
    assert_eq!(rest(&service).await, Duration::ZERO);
    drop(probe);
    panics(service.clone(), Ask::Panic).await;
    assert!(service.is_ejected());
    assert_eq!(service.clone().oneshot(Ask::Answer).await.unwrap(), 0);
}

/// What the service answers never ejects it, nor do calls that it refuses or that are dropped; what
/// cannot be sent does, and a time limit behind the layer.
#[tokio::test(start_paused = true)]
async fn what_counts_as_a_failure() {
    let fails = |ask| async move {
        let service = EjectionLayer::new().layer(Node::default());
        for _ in 0..100 {
            let _ = timeout(Duration::from_millis(1), service.clone().oneshot(ask)).await;
        }
        service.is_ejected()
    };
    for class in [Class::Executed, Class::Refused, Class::Overloaded] {
        assert!(!fails(Ask::Fail(class)).await, "{class:?}");
    }
    assert!(!fails(Ask::Answer).await);
    assert!(!fails(Ask::Hang).await);
    for class in [Class::NotSent, Class::MaybeExecuted] {
        assert!(fails(Ask::Fail(class)).await, "{class:?}");
    }
    let limited = DeadlineLayer::within(Duration::from_millis(10)).layer(Node::default());
    let service = EjectionLayer::new().layer(limited);
    for _ in 0..5 {
        service.clone().oneshot(Ask::Hang).await.unwrap_err();
    }
    assert!(service.is_ejected());
}

/// What a layer behind it leaves unsent is neither an answer nor a failure: it saves no service that
/// fails, takes none in, and leaves the probe to be made.
#[tokio::test(start_paused = true)]
async fn what_is_unsent_tells_nothing() {
    let service = EjectionLayer::new().layer(Node::default());
    for ask in [FAIL, FAIL, FAIL, FAIL, Ask::Fail(Class::Unsent), FAIL] {
        assert!(!service.is_ejected());
        service.clone().oneshot(ask).await.unwrap_err();
    }
    assert!(service.is_ejected());
    advance(rest(&service).await).await;
    service.clone().oneshot(Ask::Fail(Class::Unsent)).await.unwrap_err();
    assert!(service.is_ejected());
    assert_eq!(service.clone().oneshot(Ask::Answer).await.unwrap(), 0, "it is the probe");
    for _ in 0..100 {
        service.clone().oneshot(Ask::Fail(Class::Unsent)).await.unwrap_err();
    }
    assert!(!service.is_ejected());
}

/// Retries around a service that is ejected end at once; behind a balancer they go to the others.
#[tokio::test(start_paused = true)]
async fn retries_go_elsewhere_or_nowhere() {
    let out = ejected(&Node::new(0)).await;
    let (start, retry) = (Instant::now(), RetryLayer::new(|_: &Ask| true));
    let failed = retry.layer(out.clone()).oneshot(Ask::Answer).await.unwrap_err();
    assert_eq!((failed.attempts().len(), failed.class()), (1, Class::Unsent));

    let nodes = [out.clone(), EjectionLayer::new().layer(Node::new(1))];
    let changes: Vec<_> =
        (0..).zip(nodes).map(|(id, node)| Ok::<_, &str>(Change::Insert(id, node))).collect();
    let both = Balance::discover(stream::iter(changes), &StrategyKind::default());
    for _ in 0..100 {
        assert_eq!(retry.layer(both.clone()).oneshot(Ask::Answer).await.unwrap(), 1);
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
}
