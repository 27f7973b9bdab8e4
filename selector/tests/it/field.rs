//! What has gone wrong with caches of registries in the field: a read now and then, events beside
//! it, "not found" remembered for seconds, and an empty answer believed. A cache built so fails
//! each of these.

use std::sync::Mutex;
use std::time::SystemTime;

use async_trait::async_trait;
use micro_registry::{
    EmptyReason, Error, ErrorKind, RemoveReason, Scope, Service, ServiceSummary, Update, Watch,
    WatchSender,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::*;

/// A registry whose watch says what the test says, and whose reads are as old as the test wants.
#[derive(Debug, Default)]
struct Scripted {
    watch: Mutex<Option<WatchSender>>,
    watched: Notify,
}

impl Scripted {
    /// The end of the watch the selector has opened.
    async fn opened(&self) -> WatchSender {
        loop {
            if let Some(sender) = self.watch.lock().expect("no panic").take() {
                return sender;
            }
            self.watched.notified().await;
        }
    }
}

#[async_trait]
impl Registry for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    async fn register(&self, _: &Registration, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn deregister(&self, _: &Registration) -> Result<(), Error> {
        Ok(())
    }

    async fn get(&self, _: &str) -> Result<Vec<Service>, Error> {
        Err(Error::new(ErrorKind::Unavailable, "only watches are scripted"))
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        Err(Error::new(ErrorKind::Unavailable, "only watches are scripted"))
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        let (sender, watch) = Watch::channel(scope);
        *self.watch.lock().expect("no panic") = Some(sender);
        self.watched.notify_one();
        Ok(watch)
    }
}

fn scripted() -> (Arc<Scripted>, Selector<String>) {
    let registry = Arc::new(Scripted::default());
    let selector =
        Selector::new(registry.clone(), SelectorConfig::default(), |r| Ok(r.node.id.clone()));
    (registry, selector)
}

fn reset(ids: &[&str], why_empty: EmptyReason) -> Update {
    Update::reset(ids.iter().map(|id| Arc::new(registration(id))).collect(), why_empty)
}

/// A node replaced while its service is being looked up for the first time is gone at once, not
/// after a cache's time to live: nothing happens between the first read and the watch.
#[tokio::test(start_paused = true)]
async fn replaced_during_the_first_lookup() {
    for steps in 0..20 {
        let registry = registry_of(&["old"]).await;
        let selector = selector(&registry);
        let subscription = selector.subscribe("greeter").expect("a good name");
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
        registry.register(&registration("new"), TTL).await.expect("memory does not fail");
        registry.deregister(&registration("old")).await.expect("memory does not fail");
        let before = Instant::now();
        eventually(&subscription, |ids| ids == ["new"]).await;
        assert!(before.elapsed() < Duration::from_secs(1), "after {steps} steps");
    }
}

/// "Not found" is true for the moment it is said: a service that appears then is called at once.
#[tokio::test(start_paused = true)]
async fn looked_up_just_before_it_exists() {
    let registry = registry_of(&[]).await;
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").expect("a good name");
    assert!(matches!(call(&subscription, &within(1)).await, Err(Failure::NotFound)));
    registry.register(&registration("a"), TTL).await.expect("memory does not fail");
    let before = Instant::now();
    eventually(&subscription, |ids| ids == ["a"]).await;
    assert!(before.elapsed() < Duration::from_millis(100));
}

/// A registry that cannot be reached is not one that knows of nobody: the call waits, and says so.
#[tokio::test(start_paused = true)]
async fn a_transient_error_is_not_absence() {
    let registry = registry_of(&["a"]).await;
    registry.interrupt("a blip");
    let selector = selector(&registry);
    let subscription = selector.subscribe("greeter").expect("a good name");
    let failure = call(&subscription, &within(1)).await.expect_err("nothing is known");
    assert!(matches!(failure, Failure::Unresolved { answered: false }), "{failure}");
    registry.restore();
    assert_eq!(call(&subscription, &within(60)).await.expect("the blip is over"), "a");
}

/// A registry that comes back empty after an outage does not take every node out.
#[tokio::test(start_paused = true)]
async fn an_empty_push_after_a_restart() {
    let (registry, selector) = scripted();
    let subscription = selector.subscribe("greeter").expect("a good name");
    let watch = registry.opened().await;
    watch.send(&reset(&["a", "b"], EmptyReason::Unknown));
    eventually(&subscription, |ids| ids == ["a", "b"]).await;
    watch.send(&Update::stale(SystemTime::now(), "restarting"));
    watch.send(&reset(&[], EmptyReason::NeverSeen));
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        call(&subscription, &within(1)).await.expect("the known nodes are kept");
    }
    // Real emptiness is believed all the same.
    watch.send(&reset(&["a"], EmptyReason::Unknown));
    watch.send(&Update::remove(&registration("a"), RemoveReason::Deregistered));
    eventually(&subscription, |ids| !ids.contains(&"a".to_owned())).await;
}

/// A thousand lookups of names nobody has leave no task behind.
#[tokio::test(start_paused = true)]
async fn unknown_names_leave_no_task() {
    let registry = registry_of(&[]).await;
    let selector = selector(&registry);
    let before = Handle::current().metrics().num_alive_tasks();
    for i in 0..1_000 {
        let unknown = selector.subscribe(&format!("unknown-{i}")).expect("a good name");
        assert!(matches!(call(&unknown, &within(1)).await, Err(Failure::NotFound)));
    }
    assert!(Handle::current().metrics().num_alive_tasks() > before, "they are watched for a while");
    sleep(Duration::from_secs(120)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}

/// Of changes that come together each one counts, not only the first.
#[tokio::test(start_paused = true)]
async fn every_change_of_a_batch() {
    let (registry, selector) = scripted();
    let subscription = selector.subscribe("greeter").expect("a good name");
    let watch = registry.opened().await;
    watch.send(&reset(&["a", "b"], EmptyReason::Unknown));
    eventually(&subscription, |ids| ids == ["a", "b"]).await;
    watch.send(&Update::remove(&registration("a"), RemoveReason::Expired));
    watch.send(&Update::Put(Arc::new(registration("c"))));
    watch.send(&Update::Put(Arc::new(registration("d"))));
    eventually(&subscription, |ids| ids == ["b", "c", "d"]).await;
}

/// An old process that says goodbye late takes nothing away from its successor of the same id.
#[tokio::test(start_paused = true)]
async fn an_old_process_leaves_its_successor_alone() {
    let of_epoch = |epoch| {
        let mut registration = registration("a");
        registration.node.epoch = epoch;
        registration
    };
    let (registry, selector) = scripted();
    let subscription = selector.subscribe("greeter").expect("a good name");
    let watch = registry.opened().await;
    watch.send(&Update::reset(vec![Arc::new(of_epoch(1))], EmptyReason::Unknown));
    watch.send(&Update::Put(Arc::new(of_epoch(2))));
    eventually(&subscription, |ids| ids == ["a"]).await;
    watch.send(&Update::remove(&of_epoch(1), RemoveReason::Deregistered));
    for _ in 0..10 {
        sleep(Duration::from_secs(1)).await;
        assert_eq!(call(&subscription, &within(1)).await.expect("the successor serves"), "a");
    }
}

/// A registry that refuses every watch, as none should.
#[derive(Debug)]
struct Refusing;

#[async_trait]
impl Registry for Refusing {
    fn name(&self) -> &str {
        "refusing"
    }

    async fn register(&self, _: &Registration, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn deregister(&self, _: &Registration) -> Result<(), Error> {
        Ok(())
    }

    async fn get(&self, _: &str) -> Result<Vec<Service>, Error> {
        Err(Error::new(ErrorKind::Unavailable, "never"))
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        Err(Error::new(ErrorKind::Unavailable, "never"))
    }

    async fn watch(&self, _: Scope) -> Result<Watch, Error> {
        Err(Error::new(ErrorKind::Unavailable, "never"))
    }
}

/// A service whose watch is refused for ever is forgotten like any other nobody uses.
#[tokio::test(start_paused = true)]
async fn refused_watches_leave_no_task() {
    let config = SelectorConfig::default();
    let selector = Selector::new(Arc::new(Refusing), config, |r| Ok(r.node.id.clone()));
    let before = Handle::current().metrics().num_alive_tasks();
    let subscription = selector.subscribe("greeter").expect("a good name");
    let failure = call(&subscription, &within(1)).await.expect_err("nothing is known");
    assert!(matches!(failure, Failure::Unresolved { answered: false }), "{failure}");
    drop(subscription);
    sleep(Duration::from_secs(120)).await;
    assert_eq!(Handle::current().metrics().num_alive_tasks(), before);
}
