use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::channel::mpsc;
use futures::future::{BoxFuture, join_all};
use futures::stream::{self, StreamExt};
use micro_selector::layer::{Balance, Classified, DeadlineLayer, RetryLayer};
use micro_selector::{
    Budget, CallOptions, Class, Classify, Failure, Selector, SelectorConfig, StrategyKind,
};
use tokio::time::{Instant, advance, sleep};
use tower::discover::Change;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

use super::{Ask, Node, assert_ready, panics};
use crate::{Broken, registry_of, within};

type Changes = mpsc::UnboundedSender<Result<Change<usize, Node>, &'static str>>;

fn discovered() -> (Changes, Balance<Node>) {
    let (sender, changes) = mpsc::unbounded();
    (sender, Balance::discover(changes, &StrategyKind::default()))
}

fn insert(changes: &Changes, id: usize) -> Node {
    let node = Node::new(id);
    changes.unbounded_send(Ok(Change::Insert(id, node.clone()))).expect("it is heard");
    node
}

fn remove(changes: &Changes, id: usize) {
    changes.unbounded_send(Ok(Change::Remove(id))).expect("it is heard");
}

/// The nodes that answer.
async fn answering(balance: &Balance<Node>) -> BTreeSet<usize> {
    let mut ids = BTreeSet::new();
    for _ in 0..200 {
        ids.extend(balance.clone().oneshot(Ask::Answer).await.ok());
    }
    ids
}

/// Nodes come, go and are replaced as the stream says, under calls that go on.
#[tokio::test(start_paused = true)]
async fn follows_the_stream() {
    let (changes, balance) = discovered();
    assert_ready(&balance);
    let first = insert(&changes, 1);
    assert_eq!(answering(&balance).await, [1].into());
    let running = balance.clone().oneshot(Ask::Answer);
    insert(&changes, 2);
    assert_eq!(answering(&balance).await, [1, 2].into());
    remove(&changes, 1);
    assert_eq!(running.await.unwrap(), 2, "it was not begun");
    let mut hanging = Box::pin(balance.clone().oneshot(Ask::Hang));
    assert!(hanging.as_mut().now_or_never().is_none());
    remove(&changes, 2);
    let failure = balance.clone().oneshot(Ask::Answer).await.unwrap_err();
    assert!(matches!(failure, Failure::NotFound), "{failure}");
    assert!(hanging.as_mut().now_or_never().is_none(), "what runs on a node that left goes on");
    let before = first.calls();
    let second = insert(&changes, 1);
    assert_eq!(answering(&balance).await, [1].into());
    let between = second.calls();
    let (third, fourth) = (insert(&changes, 1), insert(&changes, 1));
    assert_eq!(answering(&balance).await, [1].into());
    assert_eq!((first.calls(), second.calls(), third.calls()), (before, between, 0));
    assert_eq!(fourth.calls(), 200, "the last one inserted is called");
}

/// While nothing was named yet calls wait, all of them, and each gets its answer although another
/// polled the stream for it and was dropped; with a deadline they wait no longer than that.
#[tokio::test(start_paused = true)]
async fn waits_for_the_first_node() {
    let (changes, balance) = discovered();
    let mut dropped = Box::pin(balance.clone().oneshot(Ask::Answer));
    assert!(dropped.as_mut().now_or_never().is_none());
    let waiting: Vec<_> =
        (0..50).map(|_| tokio::spawn(balance.clone().oneshot(Ask::Answer))).collect();
    tokio::task::yield_now().await;
    drop(dropped);
    let late = balance.clone().options(within(1)).oneshot(Ask::Answer).await.unwrap_err();
    assert!(matches!(late, Failure::Unresolved { answered: false }), "{late}");
    insert(&changes, 7);
    for answer in join_all(waiting).await {
        assert_eq!(answer.unwrap().unwrap(), 7);
    }
}

fn patient() -> CallOptions {
    let mut options = within(60);
    options.wait_for_ready = true;
    options
}

/// Calls that wait for a node when all have left are told of the next one.
#[tokio::test(start_paused = true)]
async fn waits_for_the_next_node() {
    let (changes, balance) = discovered();
    insert(&changes, 1);
    assert_eq!(answering(&balance).await, [1].into());
    remove(&changes, 1);
    let call = tokio::spawn(balance.clone().options(patient()).oneshot(Ask::Answer));
    sleep(Duration::from_secs(1)).await;
    insert(&changes, 2);
    assert_eq!(call.await.unwrap().unwrap(), 2);
}

/// A stream that fails is heard again; one that ends, panics or does nothing but fail leaves the
/// nodes that it named, and none to be waited for if it named none.
#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_takes_no_node_out() {
    let (changes, balance) = discovered();
    insert(&changes, 1);
    changes.unbounded_send(Err("shaky")).unwrap();
    insert(&changes, 2);
    assert_eq!(answering(&balance).await, [1, 2].into());
    changes.unbounded_send(Err("shakier")).unwrap();
    assert_eq!(answering(&balance).await, [1, 2].into());
    insert(&changes, 3);
    assert_eq!(answering(&balance).await, [1, 2, 3].into());
    drop(changes);
    assert_eq!(answering(&balance).await, [1, 2, 3].into());

    type Item = Result<Change<usize, Node>, &'static str>;
    let ends: [fn() -> stream::BoxStream<'static, Item>; 3] = [
        || stream::empty().boxed(),
        || stream::repeat_with(|| Err("broken")).boxed(),
        || stream::once(async { panic!("as asked") }).boxed(),
    ];
    for end in ends {
        let named = stream::iter([Ok(Change::Insert(1, Node::new(1)))]);
        let balance = Balance::discover(named.chain(end()), &StrategyKind::default());
        assert_eq!(answering(&balance).await, [1].into());
        let balance = Balance::<Node>::discover(end(), &StrategyKind::default());
        let failure = balance.oneshot(Ask::Answer).await.unwrap_err();
        assert!(matches!(failure, Failure::NotFound), "{failure}");
    }
}

/// A service whose clone panics costs the call that made it, and takes no node out.
#[tokio::test(start_paused = true)]
async fn a_clone_that_panics() {
    struct Brittle(Arc<AtomicU32>);

    impl Clone for Brittle {
        fn clone(&self) -> Self {
            assert!(self.0.fetch_add(1, Relaxed) > 0, "as asked");
            Self(self.0.clone())
        }
    }

    impl Service<Ask> for Brittle {
        type Response = ();
        type Error = Broken;
        type Future = std::future::Ready<Result<(), Broken>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Ask) -> Self::Future {
            std::future::ready(Ok(()))
        }
    }

    let nodes = [1, 2].map(|id: u32| Ok::<_, &str>(Change::Insert(id, Brittle(Arc::default()))));
    let balance = Balance::discover(stream::iter(nodes), &StrategyKind::RoundRobin);
    let balance = balance.options(within(60));
    for _ in 0..2 {
        panics(balance.clone(), Ask::Answer).await;
    }
    for _ in 0..10 {
        balance.clone().oneshot(Ask::Answer).await.expect("there are two");
    }
    assert_eq!(balance.subscription().snapshot().members().len(), 2);
}

/// A stream that never pauses holds up no call for ever, not even one that waits for a node.
#[tokio::test]
async fn a_stream_that_never_pauses() {
    let ids = (0..10_000usize).cycle();
    let changes = stream::iter(ids.map(|id| match id % 2 {
        0 => Ok::<_, &str>(Change::Insert(id, Node::new(id))),
        _ => Ok(Change::Remove(id - 1)),
    }));
    let changes = stream::iter([Ok(Change::Insert(99_999, Node::new(99_999)))]).chain(changes);
    let balance = Balance::discover(changes, &StrategyKind::default());
    for _ in 0..20 {
        answering_once(&balance).await;
    }

    let polls = Arc::new(AtomicU32::new(0));
    let counted = polls.clone();
    let restless = stream::poll_fn(move |cx: &mut Context<'_>| {
        cx.waker().wake_by_ref();
        match counted.fetch_add(1, Relaxed) {
            0 => Poll::Ready(Some(Ok::<_, &str>(Change::Insert(7, Node::new(7))))),
            1..10_000 => Poll::Pending,
            _ => Poll::Ready(None),
        }
    });
    let balance = Balance::discover(restless, &StrategyKind::default());
    for _ in 0..20 {
        answering_once(&balance).await;
    }
    assert!(polls.load(Relaxed) < 1_000, "each call polls it a few times");

    let nobody = stream::iter((0..).map(|id: usize| Ok::<_, &str>(Change::Remove(id))));
    let balance = Balance::<Node>::discover(nobody, &StrategyKind::default()).options(|_: &Ask| {
        let mut options = CallOptions::default();
        options.deadline = Some(Instant::now() + Duration::from_millis(50));
        options.wait_for_ready = true;
        options
    });
    let late = balance.oneshot(Ask::Answer).await.unwrap_err();
    assert!(matches!(late, Failure::Unresolved { answered: true }), "{late}");
}

/// Of a stream that has much to say at once, all is heard in the end, by one caller alone too.
#[tokio::test(start_paused = true)]
async fn much_at_once() {
    let changes = stream::iter((0..5_000).map(|id| Ok::<_, &str>(Change::Remove(id))));
    let last = stream::iter([Ok(Change::Insert(7, Node::new(7)))]).chain(stream::pending());
    let balance =
        Balance::discover(changes.chain(last), &StrategyKind::default()).options(patient());
    assert_eq!(balance.oneshot(Ask::Answer).await.unwrap(), 7);
}

/// Of nodes that come and go by the thousand, what was kept for those that left is dropped.
#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_nodes_that_left() {
    let (changes, balance) = discovered();
    let stays = insert(&changes, 0);
    let mut left = Vec::new();
    for id in 1..5_000 {
        let node = insert(&changes, id % 7 + 1);
        left.push(Arc::downgrade(&node.calls));
        if id % 3 == 0 {
            answering_once(&balance).await;
        }
        remove(&changes, id % 7 + 1);
    }
    // Not all are taken in at once.
    for _ in 0..10 {
        answering_once(&balance).await;
    }
    assert_eq!(left.iter().filter(|calls| calls.upgrade().is_some()).count(), 0);
    assert_eq!(balance.subscription().snapshot().members().len(), 1);
    assert!(stays.calls() > 0);
}

async fn answering_once(balance: &Balance<Node>) {
    balance.clone().oneshot(Ask::Answer).await.expect("there is a node");
}

/// Dropping a balancer drops its stream, although the stream holds what wakes it.
#[tokio::test(start_paused = true)]
async fn dropping_it_drops_the_stream() {
    let (changes, balance) = discovered();
    insert(&changes, 1);
    answering_once(&balance).await;
    drop(balance);
    assert!(changes.is_closed());
}

/// Threads that call while nodes come and go lose no change: once the stream is silent, all call
/// what it named last.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_is_lost_between_threads() {
    let (changes, balance) = discovered();
    insert(&changes, 0);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let balance = balance.clone();
            tokio::spawn(async move {
                for _ in 0..2_000 {
                    answering_once(&balance).await;
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for id in 1..500 {
        insert(&changes, id);
        remove(&changes, id - 1);
        tokio::task::yield_now().await;
    }
    for caller in callers {
        caller.await.unwrap();
    }
    assert_eq!(answering(&balance).await, [499].into());
}

/// Fails on every node, and notes which.
#[derive(Clone)]
struct Failing {
    id: usize,
    tried: Arc<std::sync::Mutex<Vec<usize>>>,
}

impl Service<Class> for Failing {
    type Response = ();
    type Error = Broken;
    type Future = BoxFuture<'static, Result<(), Broken>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, class: Class) -> Self::Future {
        self.tried.lock().expect("no panic").push(self.id);
        Box::pin(async move { Err(Broken(class)) })
    }
}

fn failing(count: usize) -> (Arc<std::sync::Mutex<Vec<usize>>>, Balance<Failing>) {
    let tried = Arc::default();
    let nodes = (0..count).map(|id| Failing { id, tried: Arc::clone(&tried) });
    let changes: Vec<_> = nodes.map(|node| Ok::<_, &str>(Change::Insert(node.id, node))).collect();
    (tried, Balance::discover(stream::iter(changes), &StrategyKind::default()))
}

/// With retries around it, whatever is between, no attempt goes to a node that was tried while there
/// is another; what was surely not executed goes to the next one at once, and round again after a
/// wait when none is left.
#[tokio::test(start_paused = true)]
async fn retries_go_elsewhere() {
    for (nodes, attempts, class) in [
        (10, 3, Class::Refused),
        (10, 8, Class::NotSent),
        (3, 3, Class::MaybeExecuted),
        (2, 2, Class::MaybeExecuted),
        (2, 3, Class::Refused),
        (1, 3, Class::Refused),
        (1, 1, Class::MaybeExecuted),
        (10, 1, Class::Executed),
    ] {
        for _ in 0..50 {
            let (tried, balance) = failing(nodes);
            let service = ServiceBuilder::new()
                .layer(RetryLayer::new(|_| true))
                .layer(DeadlineLayer::within(Duration::from_secs(60)))
                .service(BoxCloneSyncService::new(balance));
            let start = Instant::now();
            let failed = service.oneshot(class).await.unwrap_err();
            let tried = tried.lock().unwrap().clone();
            let context = format!("{class:?} on {nodes}: {tried:?}");
            assert_eq!(tried.len(), attempts, "{context}");
            assert_eq!(failed.attempts().len(), attempts, "{context}");
            let different: BTreeSet<_> = tried.iter().take(nodes).collect();
            assert_eq!(different.len(), attempts.min(nodes), "{context}");
            let waits = attempts > nodes || (class == Class::MaybeExecuted && attempts > 1);
            assert_eq!(!start.elapsed().is_zero(), waits, "{context}");
        }
    }
}

/// A node that rests keeps nobody from the others: one that could not be reached is tried again.
#[tokio::test(start_paused = true)]
async fn others_are_tried_while_one_rests() {
    let asked = Arc::new(AtomicU32::new(0));
    let node = |id: u32| {
        let asked = asked.clone();
        tower::service_fn(move |()| {
            let outcome = match (id, asked.fetch_add(1, Relaxed)) {
                (0, _) => {
                    let error = Classified::new(Class::Refused, "drains");
                    Err(error.with_retry_after(Duration::from_secs(5)))
                }
                (_, 0 | 1) => Err(Classified::new(Class::NotSent, "restarts")),
                _ => Ok(id),
            };
            async move { outcome }
        })
    };
    for _ in 0..20 {
        asked.store(0, Relaxed);
        let changes = [0, 1].map(|id| Ok::<_, &str>(Change::Insert(id, node(id))));
        let balance = Balance::discover(stream::iter(changes), &StrategyKind::default());
        let (start, retry) = (Instant::now(), RetryLayer::new(|&()| false));
        assert_eq!(retry.layer(balance).oneshot(()).await.unwrap(), 1);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

/// Retries that have no node to go to take nothing out of the budget.
#[tokio::test(start_paused = true)]
async fn retries_without_a_node_are_not_paid_for() {
    for (nodes, paid) in [(1, 0), (2, 1)] {
        for class in [Class::MaybeExecuted, Class::Overloaded] {
            let budget = Arc::new(Budget::new(0.0, 0, Instant::now()));
            let (_, balance) = failing(nodes);
            let retry = RetryLayer::new(|_: &Class| true).budget(budget.clone()).layer(balance);
            retry.oneshot(class).await.unwrap_err();
            assert_eq!(budget.refused(), paid, "{class:?} on {nodes}");
        }
    }
}

/// Attempts after a call's first are counted as retries, on the node that it tried before too; what
/// a balancer is told of overload does not keep other users of its subscription from calling.
#[tokio::test(start_paused = true)]
async fn counts_retries_and_throttles_nobody() {
    let registry = registry_of(&["a"]).await;
    let keep = |_: &_| Ok(Node::default());
    let selector = Selector::new(Arc::new(registry), SelectorConfig::default(), keep);
    let subscription = selector.subscribe("greeter").unwrap();
    let balance = Balance::new(subscription.clone());
    let retry = RetryLayer::new(|_: &Ask| false).layer(balance.clone());
    retry.oneshot(Ask::Fail(Class::Refused)).await.unwrap_err();
    assert_eq!((subscription.stats().attempts, subscription.stats().retries), (3, 2));
    for _ in 0..100 {
        balance.clone().oneshot(Ask::Fail(Class::Overloaded)).await.unwrap_err();
    }
    for _ in 0..100 {
        crate::call_any(&subscription).await.expect("nothing is throttled");
    }
}

/// A balancer with no node left says nothing about what may have been executed by the one that the
/// same attempt went to instead.
#[tokio::test(start_paused = true)]
async fn a_fallback_is_an_attempt() {
    let (_, first) = failing(1);
    let (tried, second) = failing(10);
    let made = tried.clone();
    let either = tower::service_fn(move |()| {
        let (first, second, number) = (first.clone(), second.clone(), made.lock().unwrap().len());
        async move {
            first.oneshot(Class::Refused).await.unwrap_err();
            let class = if number == 0 { Class::Refused } else { Class::MaybeExecuted };
            second.oneshot(class).await
        }
    });
    let failed = RetryLayer::new(|&()| false).layer(either).oneshot(()).await.unwrap_err();
    assert_eq!((failed.attempts().len(), tried.lock().unwrap().len()), (2, 2));
    assert_eq!(failed.last().class(), Class::MaybeExecuted);
}

/// A node that says when it wants to be asked again is asked no sooner by that call, and another one
/// at once; over one service the next attempt waits as long.
#[tokio::test(start_paused = true)]
async fn nodes_are_asked_again_when_they_say() {
    let wait = Duration::from_secs(5);
    for nodes in [2, 1] {
        let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
        let start = Instant::now();
        let node = |id: usize| {
            let asked = asked.clone();
            tower::service_fn(move |()| {
                asked.lock().expect("no panic").push((id, start.elapsed()));
                let error = Classified::new(Class::Overloaded, "busy").with_retry_after(wait);
                async move { Err::<(), _>(error) }
            })
        };
        let failed = if nodes == 1 {
            RetryLayer::new(|&()| false).layer(node(0)).oneshot(()).await.is_err()
        } else {
            let changes = [0, 1].map(|id| Ok::<_, &str>(Change::Insert(id, node(id))));
            let balance = Balance::discover(stream::iter(changes), &StrategyKind::default());
            RetryLayer::new(|&()| false).layer(balance).oneshot(()).await.is_err()
        };
        let asked = asked.lock().expect("no panic").clone();
        assert!(failed && asked.len() == 3, "{asked:?}");
        assert_eq!((asked[0].0 == asked[1].0, asked[0].0), (nodes == 1, asked[2].0), "{asked:?}");
        assert_eq!(asked[1].1.is_zero(), nodes == 2, "{asked:?}");
        let last = if nodes == 2 { Duration::ZERO } else { asked[1].1 };
        assert!(asked[2].1 - last >= wait, "{asked:?}");
    }
}

/// Told which method a request calls, a balancer gives a node that served a long call its share of
/// the short ones after it; the other options stay as they are.
#[tokio::test(start_paused = true)]
async fn knows_the_methods_it_calls() {
    let node = |id: usize| {
        service_fn(move |millis: u64| async move {
            sleep(Duration::from_millis(millis)).await;
            Ok::<_, Infallible>(id)
        })
    };
    let changes = (0..3).map(|id| Ok::<_, Infallible>(Change::Insert(id, node(id))));
    let changes = stream::iter(changes.collect::<Vec<_>>());
    let balance = Balance::discover(changes, &StrategyKind::default());
    let balance = balance.options(within(1_000)).method_of(|millis: &u64| 1 + millis);
    let (mut served, mut short, mut after_long) = (0, 0.0, 0.0);
    for turn in 0..3_000 {
        let is_long = turn % 100 == 99;
        let id = balance.clone().oneshot(if is_long { 100 } else { 1 }).await.unwrap();
        if is_long {
            served = id;
        } else if turn > 500 {
            short += 1.0;
            after_long += f64::from(id == served);
        }
    }
    let share: f64 = after_long / short;
    assert!((0.25..0.45).contains(&share), "{share}");
}

/// What a balancer's retries are taken from may be what those of its subscription are.
#[tokio::test(start_paused = true)]
async fn retries_share_the_budget_of_the_subscription() {
    let (changes, balance) = discovered();
    insert(&changes, 1);
    insert(&changes, 2);
    let budget = balance.subscription().budget().clone();
    while budget.withdraw(Instant::now()) {}
    let before = budget.refused();
    let retry = RetryLayer::new(|_: &Ask| true).budget(budget.clone()).layer(balance.clone());
    retry.oneshot(Ask::Fail(Class::MaybeExecuted)).await.unwrap_err();
    assert_eq!(
        (budget.refused(), balance.subscription().stats().over_budget),
        (before + 1, before + 1)
    );
}

/// A node's own calls, to a balancer behind it, are no attempts of the call that it serves.
#[tokio::test(start_paused = true)]
async fn calls_within_calls_are_their_own() {
    let (tried, behind) = failing(1);
    let nodes = (0..3).map(|id| {
        let behind = behind.clone();
        let node = tower::service_fn(move |class: Class| {
            let behind = behind.clone();
            async move {
                for _ in 0..10 {
                    let _ = behind.clone().oneshot(Class::Executed).await;
                }
                Err::<(), _>(Broken(class))
            }
        });
        Ok::<_, &str>(Change::Insert(id, node))
    });
    let outer = Balance::discover(stream::iter(nodes.collect::<Vec<_>>()), &Default::default());
    let service = RetryLayer::new(|_: &Class| false).layer(outer);
    let failed = service.oneshot(Class::Refused).await.unwrap_err();
    let nodes: BTreeSet<_> = failed.attempts().map(Failure::to_string).collect();
    assert_eq!((nodes.len(), tried.lock().unwrap().len()), (3, 30));
}

/// A call that is dropped, or whose node panics, is in flight no more.
#[tokio::test(start_paused = true)]
async fn dropped_calls_are_not_in_flight() {
    let (changes, balance) = discovered();
    insert(&changes, 1);
    answering_once(&balance).await;
    let in_flight = || balance.subscription().snapshot().members()[0].stats().in_flight();
    let mut call = Box::pin(balance.clone().oneshot(Ask::Hang));
    assert!(call.as_mut().now_or_never().is_none());
    assert_eq!(in_flight(), 1);
    drop(call);
    panics(balance.clone(), Ask::Panic).await;
    panics(balance.clone(), Ask::PanicAtOnce).await;
    assert_eq!(in_flight(), 0);
}

/// A node that fails is ejected and probed, as over a registry.
#[tokio::test(start_paused = true)]
async fn ejects_nodes_that_fail() {
    let is_down = Arc::new(AtomicU32::new(1));
    let nodes = (0..4u32).map(|id| {
        let is_down = is_down.clone();
        let node = tower::service_fn(move |()| {
            let fails = id == 0 && is_down.load(Relaxed) == 1;
            async move { if fails { Err(Broken(Class::MaybeExecuted)) } else { Ok(id) } }
        });
        Ok::<_, &str>(Change::Insert(id, node))
    });
    let nodes = stream::iter(nodes.collect::<Vec<_>>());
    let balance = Balance::discover(nodes, &StrategyKind::RoundRobin);
    for _ in 0..100 {
        let _ = balance.clone().oneshot(()).await;
    }
    let snapshot = balance.subscription().snapshot();
    let bad = snapshot.members().iter().find(|member| member.stats().is_ejected());
    assert_eq!(bad.map(|member| &*member.registration().node.id), Some("0"));
    is_down.store(0, Relaxed);
    advance(Duration::from_secs(2)).await;
    for _ in 0..100 {
        balance.clone().oneshot(()).await.unwrap();
    }
    assert!(!snapshot.members().iter().any(|member| member.stats().is_ejected()));
}

/// What a layer behind it leaves unsent tells nothing about the node: it neither saves one that
/// fails nor takes one in.
#[tokio::test(start_paused = true)]
async fn what_is_unsent_tells_nothing() {
    let (changes, balance) = discovered();
    (0..2).for_each(|id| drop(insert(&changes, id)));
    let balance_of = |class| balance.clone().oneshot(Ask::Fail(class));
    let is_out = || {
        let snapshot = balance.subscription().snapshot();
        snapshot.members().iter().any(|member| member.stats().is_ejected())
    };
    for _ in 0..100 {
        if is_out() {
            break;
        }
        balance_of(Class::MaybeExecuted).await.unwrap_err();
        for _ in 0..10 {
            balance_of(Class::Unsent).await.unwrap_err();
        }
    }
    advance(Duration::from_secs(2)).await;
    for _ in 0..100 {
        balance_of(Class::Unsent).await.unwrap_err();
    }
    assert!(is_out(), "no probe was answered");
    for _ in 0..100 {
        balance.clone().oneshot(Ask::Answer).await.unwrap();
    }
    assert!(!is_out());
}

/// Over a registry it is the same service, with the same retries.
#[tokio::test(start_paused = true)]
async fn balances_over_a_registry() {
    let registry = registry_of(&["a", "b"]).await;
    let asked = Arc::new(AtomicU32::new(0));
    let node = tower::service_fn(move |()| {
        let number = asked.fetch_add(1, Relaxed);
        async move { if number == 0 { Err(Broken(Class::NotSent)) } else { Ok(number) } }
    });
    let selector =
        Selector::new(Arc::new(registry), SelectorConfig::default(), move |_| Ok(node.clone()));
    let balance = Balance::new(selector.subscribe("greeter").unwrap()).options(within(1));
    let retry = RetryLayer::new(|&()| false).layer(balance);
    assert_eq!(retry.oneshot(()).await.unwrap(), 1);
}
