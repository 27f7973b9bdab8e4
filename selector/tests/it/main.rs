//! The selector over a real registry in memory, on paused time.

mod field;
mod layer;
mod picking;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use micro_registry::{MemoryRegistry, Node, NodeState, Registration, Registry};
use micro_selector::{
    Attempt, BudgetPolicy, CallOptions, Class, Classify, Failure, Filter, RetryPolicy, Selector,
    SelectorConfig, Stats, StrategyKind, Subscription, ThrottlePolicy,
};
use tokio::time::{Instant, sleep};

const TTL: Duration = Duration::from_secs(3_600);

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0:?}")]
struct Broken(Class);

impl Classify for Broken {
    fn class(&self) -> Class {
        self.0
    }
}

/// An attempt that is over at once.
struct Try<F>(F);

impl<R, E, F> Attempt<String> for Try<F>
where
    R: Send,
    E: Classify + Send,
    F: FnMut(&String) -> Result<R, E> + Send,
{
    type Response = R;
    type Error = E;

    async fn make(&mut self, id: &String, _: u32, _: Instant) -> Result<R, E> {
        (self.0)(id)
    }
}

fn registration(id: &str) -> Registration {
    Registration::new("greeter", "1.0.0", Node::new(id, "127.0.0.1:1"))
}

async fn registry_of(ids: &[&str]) -> MemoryRegistry {
    let registry = MemoryRegistry::new();
    for id in ids {
        registry.register(&registration(id), TTL).await.expect("memory does not fail");
    }
    registry
}

/// Nodes are called by their id; what is kept for each is that id.
fn selector(registry: &MemoryRegistry) -> Selector<String> {
    let config = SelectorConfig::default();
    Selector::new(Arc::new(registry.clone()), config, |r| Ok(r.node.id.clone()))
}

fn within(seconds: u64) -> CallOptions {
    let mut options = CallOptions::default();
    options.deadline = Some(Instant::now() + Duration::from_secs(seconds));
    options
}

async fn call(
    subscription: &Subscription<String>,
    options: &CallOptions,
) -> Result<String, Failure<Broken>> {
    let answered = subscription.call(options, &mut Try(|id: &String| Ok(id.clone()))).await?;
    assert_eq!(answered.node.node.id, answered.response, "it names the node it came from");
    Ok(answered.response)
}

/// A call that any node answers, whatever is kept for it.
async fn call_any<T: Clone + Sync>(subscription: &Subscription<T>) -> Result<(), Failure<Broken>> {
    struct Fine;
    impl<T: Sync> Attempt<T> for Fine {
        type Response = ();
        type Error = Broken;

        async fn make(&mut self, _: &T, _: u32, _: Instant) -> Result<(), Broken> {
            Ok(())
        }
    }
    subscription.call(&within(1), &mut Fine).await.map(drop)
}

/// Waits, on paused time, until the subscription satisfies the condition.
async fn eventually(subscription: &Subscription<String>, condition: impl Fn(&[String]) -> bool) {
    for _ in 0..10_000 {
        let snapshot = subscription.snapshot();
        let ids: Vec<_> = snapshot.members().iter().map(|m| m.target().clone()).collect();
        if condition(&ids) {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never so: {subscription:?}");
}

/// Calls go to what is registered, and follow it as nodes come, drain and leave.
#[tokio::test(start_paused = true)]
async fn follows_the_registry() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    assert_eq!(call(&subscription, &within(1)).await.unwrap(), "a");

    registry.register(&registration("b"), TTL).await.unwrap();
    eventually(&subscription, |ids| ids == ["a", "b"]).await;

    let mut draining = registration("a");
    draining.node.state = NodeState::Draining;
    registry.register(&draining, TTL).await.unwrap();
    eventually(&subscription, |ids| ids == ["b"]).await;

    registry.deregister(&registration("b")).await.unwrap();
    eventually(&subscription, |ids| ids.is_empty()).await;
    let failure = call(&subscription, &within(1)).await.unwrap_err();
    assert!(matches!(failure, Failure::NoneServing { registered: 1 }), "{failure}");
}

/// A name nobody registered is not found at once; one that appears is answered when it does.
#[tokio::test(start_paused = true)]
async fn unknown_names_fail_fast_or_wait() {
    let registry = registry_of(&[]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    let before = Instant::now();
    assert!(matches!(call(&subscription, &within(5)).await, Err(Failure::NotFound)));
    assert_eq!(Instant::now(), before, "a certain answer must not wait");

    let mut options = within(60);
    options.wait_for_ready = true;
    let appear = async {
        sleep(Duration::from_secs(7)).await;
        registry.register(&registration("a"), TTL).await.unwrap();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = call(&subscription, &options) => assert_eq!(answer.unwrap(), "a"),
        () = appear => unreachable!(),
    }
    assert_eq!(Instant::now() - before, Duration::from_secs(7));
    assert!(selector.subscribe("Not A Name").is_err());
}

/// While the registry has not answered a call waits, within its deadline.
#[tokio::test(start_paused = true)]
async fn waits_for_the_first_answer() {
    let registry = registry_of(&["a"]).await;
    registry.interrupt("down at start");
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    let failure = call(&subscription, &within(2)).await.unwrap_err();
    assert!(matches!(failure, Failure::Unresolved { answered: false }), "{failure}");
    let options = within(60);
    let (answer, ()) = tokio::join!(call(&subscription, &options), async {
        sleep(Duration::from_secs(1)).await;
        registry.restore();
    });
    assert_eq!(answer.unwrap(), "a");
}

/// The last known nodes outlive an outage of the registry.
#[tokio::test(start_paused = true)]
async fn survives_an_outage() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    call(&subscription, &within(1)).await.unwrap();
    registry.interrupt("down");
    for _ in 0..60 {
        sleep(Duration::from_secs(10)).await;
        assert_eq!(call(&subscription, &within(1)).await.unwrap(), "a");
    }
    assert!(subscription.snapshot().is_stale());
    registry.restore();
    eventually(&subscription, |ids| ids == ["a"]).await;
}

/// Each attempt goes to another node, and the failure tells of all of them.
#[tokio::test(start_paused = true)]
async fn retries_go_elsewhere() {
    let registry = registry_of(&["a", "b", "c"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    let mut refuse = Try(|_: &String| Err::<(), _>(Broken(Class::NotSent)));
    let Err(Failure::Attempts(attempts)) = subscription.call(&within(1), &mut refuse).await else {
        panic!("it cannot succeed")
    };
    let mut ids: Vec<_> = attempts.iter().map(|a| a.node.node.id.as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b", "c"]);
}

/// With one node, what was surely not executed is repeated there after a wait, as often as the policy
/// says; what is not, is not, nor is an overloaded node asked again.
#[tokio::test(start_paused = true)]
async fn the_only_node_is_tried_again() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    call(&subscription, &within(1)).await.unwrap();
    for (class, idempotent, expected) in [
        (Class::NotSent, false, 3),
        (Class::Refused, false, 3),
        (Class::MaybeExecuted, false, 1),
        (Class::Overloaded, true, 1),
        (Class::Executed, true, 1),
    ] {
        let mut options = within(10);
        options.idempotent = idempotent;
        let before = Instant::now();
        let mut refuse = Try(|_: &String| Err::<(), _>(Broken(class)));
        let failure = subscription.call(&options, &mut refuse).await.unwrap_err();
        let Failure::Attempts(attempts) = failure else { panic!("{class:?}: {failure}") };
        assert_eq!(attempts.len(), expected, "{class:?} {idempotent}");
        assert_eq!(Instant::now() > before, expected > 1, "{class:?}: it waits in between");
    }
    let mut none = within(10);
    none.retry = RetryPolicy::none();
    none.wait_for_ready = true;
    let mut refuse = Try(|_: &String| Err::<(), _>(Broken(Class::NotSent)));
    let failure = subscription.call(&none, &mut refuse).await.unwrap_err();
    assert!(matches!(failure, Failure::Attempts(attempts) if attempts.len() == 1));
}

/// A call that waits for a node waits as well for one that cannot be reached yet, and until its
/// deadline, however many there are.
#[tokio::test(start_paused = true)]
async fn waits_for_nodes_that_cannot_be_reached() {
    let many: Vec<_> = (0..20).map(|id| format!("n{id:02}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    for nodes in [&["a"][..], &many] {
        let registry = registry_of(nodes).await;
        let selector = selector(&registry);
        let subscription = selector.subscribe("greeter").unwrap();
        let mut options = within(60);
        options.wait_for_ready = true;
        let (reachable, made) = (Instant::now() + Duration::from_secs(30), AtomicU32::new(0));
        let mut starting = Try(|_: &String| {
            made.fetch_add(1, Ordering::Relaxed);
            let is_reachable = Instant::now() >= reachable;
            is_reachable.then_some(()).ok_or(Broken(Class::NotSent))
        });
        subscription.call(&options, &mut starting).await.expect("it starts in time");
        assert!(made.load(Ordering::Relaxed) < 8_000, "it does not spin");
        let (before, mut refuse) =
            (Instant::now(), Try(|_: &String| Err::<(), _>(Broken(Class::NotSent))));
        options = within(5);
        options.wait_for_ready = true;
        let failure = subscription.call(&options, &mut refuse).await.unwrap_err();
        assert!(matches!(failure, Failure::Attempts(attempts) if attempts.len() <= 64));
        assert!((4..=5).contains(&(Instant::now() - before).as_secs()));
    }
}

/// What could not be sent uses up no attempt of a call that waits for nodes: once one is there, it
/// may refuse the call as often as it might have at first.
#[tokio::test(start_paused = true)]
async fn waiting_uses_up_no_attempts() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    for after in [None, Some(Duration::from_millis(10))] {
        let mut options = within(60);
        options.wait_for_ready = true;
        let mut made = 0;
        let mut attempt = Try(|_: &String| {
            made += 1;
            match made {
                1..=20 => Err(Later(Class::NotSent, None)),
                21 | 22 => Err(Later(Class::Refused, after)),
                _ => Ok(()),
            }
        });
        subscription.call(&options, &mut attempt).await.expect("the third that reached it");
    }
}

/// Retries with nowhere to go take nothing out of the budget, nor does the throttle count them.
#[tokio::test(start_paused = true)]
async fn retries_without_a_node_are_not_paid_for() {
    let mut config = SelectorConfig::default();
    config.budget = BudgetPolicy::new(0.0, 0);
    let registry = Arc::new(registry_of(&["a"]).await);
    let selector = Selector::new(registry, config, |r| Ok(r.node.id.clone()));
    let subscription = selector.subscribe("greeter").unwrap();
    for class in [Class::MaybeExecuted, Class::Overloaded] {
        let mut options = within(1);
        options.idempotent = true;
        let mut fail = Try(|_: &String| Err::<(), _>(Broken(class)));
        subscription.call(&options, &mut fail).await.unwrap_err();
        assert_eq!(subscription.stats().over_budget, 0, "{class:?}");
    }
}

/// Nobody waits for a day because a node says so, and no wait is beyond what clocks can add.
#[tokio::test(start_paused = true)]
async fn waits_are_bounded() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    let start = Instant::now();
    for class in [Class::Refused, Class::Overloaded] {
        let mut refuse = Try(|_: &String| {
            Err::<(), _>(Later(class, Some(RetryPolicy::LONGEST_REST + Duration::from_secs(1))))
        });
        let options = CallOptions::default();
        let failure = subscription.call(&options, &mut refuse).await.unwrap_err();
        assert!(matches!(failure, Failure::Attempts(made) if made.len() == 1));
    }
    assert_eq!(start.elapsed(), Duration::ZERO);
    let mut options = within(1);
    options.retry = RetryPolicy::default().backoff(Duration::MAX).max_backoff(Duration::MAX);
    assert!(options.retry.check().is_err());
    let mut refuse = Try(|_: &String| Err::<(), _>(Broken(Class::Refused)));
    subscription.call(&options, &mut refuse).await.unwrap_err();
}

/// What may have been executed is repeated for idempotent calls alone; an answer never is.
#[tokio::test(start_paused = true)]
async fn repeats_by_class() {
    let registry = registry_of(&["a", "b", "c"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    for (class, idempotent, expected) in [
        (Class::MaybeExecuted, false, 1),
        (Class::MaybeExecuted, true, 3),
        (Class::Executed, true, 1),
        (Class::Refused, false, 3),
    ] {
        let made = AtomicU32::new(0);
        let mut options = within(10);
        options.idempotent = idempotent;
        let mut attempt = Try(|_: &String| {
            made.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(Broken(class))
        });
        subscription.call(&options, &mut attempt).await.unwrap_err();
        assert_eq!(made.load(Ordering::Relaxed), expected, "{class:?} {idempotent}");
    }
}

/// A call on behalf of a retry is repeated where that is free alone, and pays nothing into the
/// budget.
#[tokio::test(start_paused = true)]
async fn retries_do_not_breed() {
    let mut config = SelectorConfig::default();
    config.budget = BudgetPolicy::new(1.0, 0);
    let registry = Arc::new(registry_of(&["a", "b", "c"]).await);
    let selector = Selector::new(registry, config, |r| Ok(r.node.id.clone()));
    let subscription = selector.subscribe("greeter").unwrap();
    let attempts = async |class, is_retry| {
        let mut options = within(10);
        (options.idempotent, options.is_retry) = (true, is_retry);
        let mut attempt = Try(|_: &String| Err::<(), _>(Broken(class)));
        match subscription.call(&options, &mut attempt).await.unwrap_err() {
            Failure::Attempts(attempts) => attempts.len(),
            other => panic!("{other}"),
        }
    };
    assert_eq!(attempts(Class::Executed, false).await, 1, "it pays for one retry");
    assert_eq!(attempts(Class::NotSent, true).await, 3);
    assert_eq!(attempts(Class::Refused, true).await, 3);
    assert_eq!(attempts(Class::MaybeExecuted, true).await, 1);
    assert_eq!(attempts(Class::Overloaded, true).await, 1);
    assert_eq!(attempts(Class::MaybeExecuted, false).await, 3, "with one that it pays itself");
    assert_eq!(attempts(Class::Executed, true).await, 1, "it pays for none");
    assert_eq!(attempts(Class::MaybeExecuted, false).await, 2, "it has what it paid itself");
}

/// A service that refuses everything as overloaded is spared most attempts, but not all; one call
/// that only sometimes is refused never is. It can be turned off.
#[tokio::test(start_paused = true)]
async fn overloaded_services_are_spared() {
    for (nodes, throttle) in [(&["a", "b"][..], true), (&["a"], true), (&["a", "b"], false)] {
        let mut config = SelectorConfig::default();
        config.throttle = throttle.then(ThrottlePolicy::default);
        let registry = Arc::new(registry_of(nodes).await);
        let selector = Selector::new(registry, config, |r| Ok(r.node.id.clone()));
        let subscription = selector.subscribe("greeter").unwrap();
        let mut refuse = Try(|_: &String| Err::<(), _>(Broken(Class::Overloaded)));
        let mut spared = 0u64;
        for _ in 0..1_000 {
            let failure = subscription.call(&within(1), &mut refuse).await.unwrap_err();
            spared += u64::from(matches!(failure, Failure::Throttled));
        }
        assert_eq!((850..940).contains(&spared), throttle, "{spared}");
        if nodes.len() == 1 {
            let throttled = subscription.stats().throttled;
            assert_eq!(throttled, spared, "what has nowhere to go is not counted");
        }
        sleep(Duration::from_secs(3)).await;
        call(&subscription, &within(1)).await.expect("it recovered");
    }
}

/// What this process itself has too much of.
#[derive(Debug)]
struct Local;

impl Classify for Local {
    fn class(&self) -> Class {
        Class::Overloaded
    }

    fn is_local(&self) -> bool {
        true
    }
}

/// What ends before a node hears of it spares a service nothing.
#[tokio::test(start_paused = true)]
async fn what_ends_locally_is_no_overload_of_the_service() {
    let registry = Arc::new(registry_of(&["a"]).await);
    let selector = Selector::new(registry, SelectorConfig::default(), |r| Ok(r.node.id.clone()));
    let subscription = selector.subscribe("greeter").unwrap();
    for _ in 0..200 {
        let ended = subscription.call(&within(1), &mut Try(|_: &String| Err::<(), _>(Local))).await;
        assert!(matches!(ended, Err(Failure::Attempts(_))));
    }
}

/// An error that says when to come back.
#[derive(Debug)]
struct Later(Class, Option<Duration>);

impl Classify for Later {
    fn class(&self) -> Class {
        self.0
    }

    fn retry_after(&self) -> Option<Duration> {
        self.1
    }
}

/// Who waits for nodes and rests for one that leaves meanwhile waits for another.
#[tokio::test(start_paused = true)]
async fn another_may_come_while_one_rests() {
    let registry = Arc::new(registry_of(&["a"]).await);
    let selector =
        Selector::new(registry.clone(), SelectorConfig::default(), |r| Ok(r.node.id.clone()));
    let subscription = selector.subscribe("greeter").unwrap();
    call(&subscription, &within(1)).await.expect("it is known from here on");
    let mut options = within(60);
    options.wait_for_ready = true;
    let mut attempt = Try(|id: &String| match id.as_str() {
        "a" => Err(Later(Class::Overloaded, Some(Duration::from_secs(1)))),
        _ => Ok(()),
    });
    let replace = async {
        sleep(Duration::from_millis(100)).await;
        registry.deregister(&registration("a")).await.unwrap();
        sleep(Duration::from_secs(10)).await;
        registry.register(&registration("b"), Duration::from_secs(3_600)).await.unwrap();
    };
    let (answered, ()) = tokio::join!(subscription.call(&options, &mut attempt), replace);
    assert_eq!(answered.expect("b answers").node.node.id, "b");
}

/// A node that says when to come back is not asked sooner by that call; another one is at once.
#[tokio::test(start_paused = true)]
async fn nodes_are_asked_again_when_they_say() {
    let millis = Duration::from_millis;
    let mut config = SelectorConfig::default();
    config.throttle = None;
    let registry = Arc::new(registry_of(&["a", "b"]).await);
    let selector = Selector::new(registry, config, |r| Ok(r.node.id.clone()));
    let subscription = selector.subscribe("greeter").unwrap();
    call(&subscription, &within(1)).await.expect("it is known from here on");
    let start = Instant::now();
    for class in [Class::Overloaded, Class::Refused] {
        let asked = std::sync::Mutex::new(Vec::new());
        let begin = Instant::now();
        let mut options = CallOptions::default();
        // Enough to come back in, not to come later than that.
        options.deadline = Some(begin + millis(201));
        let mut attempt = Try(|id: &String| {
            let mut asked = asked.lock().unwrap();
            asked.push((id.clone(), begin.elapsed()));
            match asked.len() {
                1 => Err(Later(class, Some(millis(200)))),
                2 => Err(Later(class, Some(millis(500)))),
                _ => Ok(()),
            }
        });
        subscription.call(&options, &mut attempt).await.expect("the third answers");
        let asked = asked.into_inner().unwrap();
        assert_ne!(asked[0].0, asked[1].0);
        assert_eq!((asked[1].1, &asked[2].0), (Duration::ZERO, &asked[0].0), "{asked:?}");
        assert!((millis(200)..=millis(201)).contains(&asked[2].1), "{asked:?}");
    }

    // With less time, or fewer attempts, the call ends with what it was told; so it does when nobody
    // says when, and a node may say what is no time.
    let begin = Instant::now();
    for (within, attempts, after, expected) in [
        (millis(199), 3, Some(millis(200)), 2),
        (millis(1_000), 2, Some(millis(200)), 2),
        (millis(1_000), 3, None, 2),
        (millis(1_000), 3, Some(Duration::MAX), 2),
    ] {
        let mut options = CallOptions::default();
        options.deadline = Some(Instant::now() + within);
        options.retry = RetryPolicy::default().max_attempts(attempts);
        let mut refuse = Try(|_: &String| Err::<(), _>(Later(Class::Overloaded, after)));
        let failure = subscription.call(&options, &mut refuse).await.unwrap_err();
        let Failure::Attempts(made) = failure else { panic!("{failure}") };
        assert_eq!((made.len(), made[1].error.1), (expected, after));
    }
    assert_eq!(begin.elapsed(), Duration::ZERO);
    assert!(start.elapsed() < Duration::from_secs(1));
}

/// What happens to calls is counted.
#[tokio::test(start_paused = true)]
async fn counts_what_happens() {
    let mut config = SelectorConfig::default();
    (config.zone, config.budget) = (Some("x".to_owned()), BudgetPolicy::new(0.0, 1));
    let registry = MemoryRegistry::new();
    for (id, zone) in [("a", "x"), ("b", "x"), ("c", "x"), ("d", "y")] {
        let mut registration = Registration::new("greeter", "1.0.0", Node::new(id, "h:1"));
        registration.node.zone = Some(zone.to_owned());
        registry.register(&registration, TTL).await.unwrap();
    }
    let selector = Selector::new(Arc::new(registry), config, |r| Ok(r.node.id.clone()));
    let subscription = selector.subscribe("greeter").unwrap();
    assert_eq!(subscription.stats(), Stats::default());
    for _ in 0..100 {
        call(&subscription, &within(1)).await.expect("it answers");
    }
    let stats = subscription.stats();
    assert_eq!((stats.attempts, stats.retries, stats.ejections), (100, 0, 0));
    assert!((80..=100).contains(&stats.near), "{stats:?}");

    let mut options = within(1_000);
    options.idempotent = true;
    let mut made = 0;
    for _ in 0..20 {
        let mut fail = Try(|_: &String| Err::<(), _>(Broken(Class::MaybeExecuted)));
        match subscription.call(&options, &mut fail).await.unwrap_err() {
            Failure::Attempts(attempts) => made += attempts.len() as u64,
            other => panic!("{other}"),
        }
    }
    let stats = subscription.stats();
    assert_eq!((stats.attempts, stats.retries), (100 + made, made - 20));
    assert_eq!((stats.over_budget > 0, stats.throttled), (true, 0));
    assert_eq!(stats.ejections, 2, "half of them may be");

    // Longer than the throttle looks back.
    sleep(Duration::from_secs(3)).await;
    let mut refuse = Try(|_: &String| Err::<(), _>(Broken(Class::Overloaded)));
    let mut unsent = 0;
    for _ in 0..100 {
        let failure = subscription.call(&within(1), &mut refuse).await.unwrap_err();
        unsent += u64::from(matches!(failure, Failure::Throttled));
    }
    assert!(unsent > 0 && subscription.stats().throttled >= unsent);
}

/// A node that fails calls is left out, though the registry still names it.
#[tokio::test(start_paused = true)]
async fn failing_nodes_are_left_out() {
    let registry = registry_of(&["a", "b", "c"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    let mut options = within(1_000);
    options.idempotent = true;
    let asked = AtomicU32::new(0);
    for _ in 0..1_000 {
        let mut attempt = Try(|id: &String| match id.as_str() {
            "b" => {
                asked.fetch_add(1, Ordering::Relaxed);
                Err(Broken(Class::MaybeExecuted))
            }
            _ => Ok(()),
        });
        subscription.call(&options, &mut attempt).await.expect("others answer");
        sleep(Duration::from_millis(10)).await;
    }
    let asked = asked.load(Ordering::Relaxed);
    assert!((1..10).contains(&asked), "{asked}");
}

/// Callers whose own deadlines are too short for any node eject none.
#[tokio::test(start_paused = true)]
async fn late_callers_eject_nobody() {
    let registry = registry_of(&["a", "b", "c"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    for _ in 0..100 {
        subscription.call(&within(1), &mut TooLate).await.expect_err("nobody is so quick");
    }
    let snapshot = subscription.snapshot();
    assert!(snapshot.members().iter().all(|member| !member.stats().is_ejected()));
}

/// An attempt that its caller gives two milliseconds.
struct TooLate;

#[derive(Debug)]
struct Late;

impl Classify for Late {
    fn class(&self) -> Class {
        Class::MaybeExecuted
    }

    fn is_late(&self) -> bool {
        true
    }
}

impl Attempt<String> for TooLate {
    type Response = ();
    type Error = Late;

    async fn make(&mut self, _: &String, _: u32, _: Instant) -> Result<(), Late> {
        sleep(Duration::from_millis(2)).await;
        Err(Late)
    }
}

/// Calls that filter everything out say so, and wait for what they want if asked to.
#[tokio::test(start_paused = true)]
async fn filters_that_leave_nothing() {
    let registry = registry_of(&["a", "b"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    let mut options = within(60);
    options.filter = Some(Arc::new(Filter::default().version("2").expect("a range")));
    let failure = call(&subscription, &options).await.unwrap_err();
    assert!(matches!(failure, Failure::NoneMatching { serving: 2, .. }), "{failure}");
    assert_eq!(failure.to_string(), "none of 2 serving nodes of greeter matches version=^2");
    options.wait_for_ready = true;
    let (answer, ()) = tokio::join!(call(&subscription, &options), async {
        sleep(Duration::from_secs(1)).await;
        let mut next = registration("c");
        next.version = "2.1.0".to_owned();
        registry.register(&next, TTL).await.expect("memory does not fail");
    });
    assert_eq!(answer.unwrap(), "c");
    // The same for all calls of a selector.
    let mut config = SelectorConfig::default();
    config.filter = Filter::default().version("2").expect("a range");
    let selector = Selector::new(Arc::new(registry), config, |r| Ok(r.node.id.clone()));
    let subscription = selector.subscribe("greeter").unwrap();
    for _ in 0..50 {
        assert_eq!(call(&subscription, &within(1)).await.unwrap(), "c");
    }
}

/// A call that is dropped leaves nothing in flight.
#[tokio::test(start_paused = true)]
async fn dropped_calls_are_not_in_flight() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    call(&subscription, &within(1)).await.unwrap();
    let in_flight = || subscription.snapshot().members()[0].stats().in_flight();
    let options = within(100);
    let mut never = Never;
    let mut pending = Box::pin(subscription.call(&options, &mut never));
    assert!(futures::poll!(pending.as_mut()).is_pending());
    assert_eq!(in_flight(), 1);
    drop(pending);
    assert_eq!(in_flight(), 0);
}

/// An attempt that never ends.
struct Never;

impl Attempt<String> for Never {
    type Response = ();
    type Error = Broken;

    async fn make(&mut self, _: &String, _: u32, _: Instant) -> Result<(), Broken> {
        std::future::pending().await
    }
}

/// Round robin gives each node its exact share, whoever calls.
#[tokio::test(start_paused = true)]
async fn round_robin_shares_exactly() {
    let registry = registry_of(&["a", "b", "c"]).await;
    let mut config = SelectorConfig::default();
    config.strategy = StrategyKind::RoundRobin;
    let selector = Selector::new(Arc::new(registry.clone()), config, |r| Ok(r.node.id.clone()));
    let subscription = selector.subscribe("greeter").unwrap();
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..300 {
        *counts.entry(call(&subscription, &within(1)).await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [100, 100, 100]);
}

/// A thousand lookups of unknown names leave nothing behind once nobody uses them.
#[tokio::test(start_paused = true)]
async fn idle_and_negative_entries_are_evicted() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    for i in 0..1_000 {
        let unknown = selector.subscribe(&format!("unknown-{i}")).unwrap();
        assert!(matches!(call(&unknown, &within(1)).await, Err(Failure::NotFound)));
    }
    let held = selector.subscribe("greeter").unwrap();
    call(&held, &within(1)).await.unwrap();
    assert_eq!(selector.services().len(), 1_001);
    sleep(Duration::from_secs(1_000)).await;
    let left: Vec<_> = selector.services().iter().map(|s| s.service().to_owned()).collect();
    assert_eq!(left, ["greeter"], "what is held stays");
    drop(held);
    sleep(Duration::from_secs(1_000)).await;
    assert!(selector.services().is_empty());
    // The registry takes closed watches out with the next change.
    registry.register(&registration("b"), TTL).await.unwrap();
    assert!(format!("{registry:?}").contains("watchers: 0"), "{registry:?}");
}

/// What is known of a service is not forgotten while the registry is away, though nobody calls it.
#[tokio::test(start_paused = true)]
async fn nothing_is_evicted_during_an_outage() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    call(&selector.subscribe("greeter").unwrap(), &within(1)).await.unwrap();
    registry.interrupt("down");
    sleep(Duration::from_secs(10_000)).await;
    let subscription = selector.subscribe("greeter").unwrap();
    assert_eq!(call(&subscription, &within(1)).await.expect("it is known"), "a");
    drop(subscription);
    registry.restore();
    sleep(Duration::from_secs(10_000)).await;
    assert!(selector.services().is_empty());
}

/// Dropping the selector ends its tasks and their watches.
#[tokio::test(start_paused = true)]
async fn dropping_it_stops_everything() {
    let registry = registry_of(&["a"]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").unwrap();
    call(&subscription, &within(1)).await.unwrap();
    drop(selector);
    sleep(Duration::from_secs(1)).await;
    registry.register(&registration("b"), TTL).await.unwrap();
    assert!(format!("{registry:?}").contains("watchers: 0"), "{registry:?}");
    assert_eq!(call(&subscription, &within(1)).await.unwrap(), "a", "what was known stays");
}

/// A panic in what makes targets costs time, not the service: the watch starts again by itself.
#[tokio::test(start_paused = true)]
async fn a_panic_is_survived() {
    let registry = registry_of(&["a"]).await;
    let made = AtomicU32::new(0);
    let selector = Selector::new(Arc::new(registry), SelectorConfig::default(), move |r| {
        assert!(made.fetch_add(1, Ordering::Relaxed) > 0, "the first one panics");
        Ok(r.node.id.clone())
    });
    let subscription = selector.subscribe("greeter").expect("a good name");
    assert_eq!(call(&subscription, &within(10)).await.expect("it recovers"), "a");
}

/// What makes no sense is named, with what would.
#[test]
fn absurd_configuration_is_named() {
    let config = |change: fn(&mut SelectorConfig)| {
        let mut config = SelectorConfig::default();
        change(&mut config);
        config.check().unwrap_err().to_string()
    };
    let second = Duration::from_secs(1);
    for (error, expected) in [
        (config(|c| c.zone = Some(String::new())), "zone \"\" is invalid: expected a zone: 1 to"),
        (config(|c| c.filter = c.filter.clone().zone("a b")), "zone \"a b\" is invalid"),
        (config(|c| c.filter = c.filter.clone().label("", "x")), "label \"\" is invalid: expected"),
        (
            config(|c| c.budget.share = -0.1),
            "share -0.1 is invalid: expected 0.0 to 1.0 of the calls",
        ),
        (config(|c| c.budget.share = f64::NAN), "share NaN is invalid"),
        (config(|c| c.budget.share = f64::INFINITY), "share inf is invalid"),
        (
            ThrottlePolicy::new(1.0, second).check().unwrap_err().to_string(),
            "k 1 is invalid: expected more than 1 attempt",
        ),
        (ThrottlePolicy::new(f64::NAN, second).check().unwrap_err().to_string(), "k NaN is"),
        (
            ThrottlePolicy::new(2.0, Duration::ZERO).check().unwrap_err().to_string(),
            "window 0ns is invalid: expected a window of 100ms to 2m",
        ),
        (
            RetryPolicy::default().max_attempts(0).check().unwrap_err().to_string(),
            "max_attempts 0 is invalid: expected 1, which is never to try again, to 8",
        ),
        (
            RetryPolicy::default().max_attempts(9).check().unwrap_err().to_string(),
            "max_attempts 9 is invalid",
        ),
        (
            RetryPolicy::default().backoff(second).check().unwrap_err().to_string(),
            "backoff 1s is invalid: expected at most max_backoff, which is 250ms",
        ),
    ] {
        assert!(error.starts_with(expected), "{error}");
    }
    SelectorConfig::default().check().expect("the defaults make sense");
    RetryPolicy::none().check().expect("it does");
}

/// Absurd configuration is brought into range instead of overflowing a clock.
#[tokio::test(start_paused = true)]
async fn absurd_configuration_does_no_harm() {
    for (span, share) in [(Duration::MAX, f64::INFINITY), (Duration::ZERO, f64::NAN)] {
        let mut config = SelectorConfig::default();
        config.reread_interval = span;
        config.idle_timeout = span;
        config.negative_timeout = span;
        config.budget.share = share;
        config.throttle = Some(ThrottlePolicy::new(share, span));
        assert!(config.check().is_err());
        let registry = Arc::new(registry_of(&["a"]).await);
        let selector = Selector::new(registry, config, |r| Ok(r.node.id.clone()));
        let subscription = selector.subscribe("greeter").expect("a good name");
        assert_eq!(call(&subscription, &within(10)).await.expect("it works"), "a");
        sleep(Duration::from_secs(5)).await;
        assert_eq!(call(&subscription, &within(10)).await.expect("it still does"), "a");
    }
}

/// However many nodes are to be avoided, none is called while there is another.
#[tokio::test(start_paused = true)]
async fn avoids_most_of_many_nodes() {
    let ids: Vec<_> = (0..24).map(|id| format!("n{id:02}")).collect();
    let registry = registry_of(&ids.iter().map(String::as_str).collect::<Vec<_>>()).await;
    for name in StrategyKind::NAMES {
        let mut config = SelectorConfig::default();
        config.strategy = name.parse().expect("it is known");
        let selector = Selector::avoiding(
            Arc::new(registry.clone()),
            config,
            |r| Ok(r.node.id.clone()),
            |id: &String| id.as_str() < "n20",
        );
        let subscription = selector.subscribe("greeter").expect("a good name");
        for _ in 0..500 {
            let called = call(&subscription, &within(1)).await.expect("it answers");
            assert!(called.as_str() >= "n20", "{called}");
        }
    }
}

/// A node to avoid is called only when there is no other, and not twice in one call.
#[tokio::test(start_paused = true)]
async fn avoids_nodes_while_there_are_others() {
    let leaving = Arc::new(std::sync::Mutex::new(vec!["a", "b"]));
    let avoid = leaving.clone();
    let selector = Selector::avoiding(
        Arc::new(registry_of(&["a", "b", "c"]).await),
        SelectorConfig::default(),
        |r| Ok(r.node.id.clone()),
        move |id: &String| avoid.lock().expect("no panic").contains(&id.as_str()),
    );
    let subscription = selector.subscribe("greeter").expect("a good name");
    for _ in 0..100 {
        assert_eq!(call(&subscription, &within(1)).await.expect("it answers"), "c");
    }
    leaving.lock().expect("no panic").push("c");
    let mut called = std::collections::BTreeSet::new();
    for _ in 0..100 {
        called.insert(call(&subscription, &within(1)).await.expect("it answers"));
    }
    assert_eq!(called.len(), 3, "all are leaving, so all are called");
    let mut refuse = Try(|_: &String| Err::<(), _>(Broken(Class::NotSent)));
    let Err(Failure::Attempts(attempts)) = subscription.call(&within(1), &mut refuse).await else {
        panic!("it cannot succeed")
    };
    assert_eq!(attempts.len(), 3);
}
