//! A registry inside one process: for tests, and for services that live in one program.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{
    Emptied, EmptyReason, Error, ErrorKind, Registration, Registry, RegistryUrl, RemoveReason,
    Scope, Service, ServiceSummary, Update, View, Watch, WatchSender, validate,
};

/// A registry inside one process.
///
/// Clones share their contents. It keeps the whole contract, TTLs included, on tokio's clock, so
/// paused time works. [`interrupt`](Self::interrupt) makes it unreachable, as a registry that
/// crashed would be.
///
/// The first registration starts one task that expires nodes; it ends with the last clone, or with
/// the runtime it runs on, and then the next registration starts another.
///
/// # Errors
///
/// Besides what [`Registry`] names, every call but `watch` answers `Unavailable` while it is
/// interrupted; nothing else can go wrong.
///
/// # Panics
///
/// `register` panics outside of a tokio runtime with its timer enabled.
#[derive(Clone, Default)]
pub struct MemoryRegistry {
    shared: Arc<Shared>,
}

impl MemoryRegistry {
    /// An empty registry. Starts no task.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty registry by URL: `memory:`, and nothing else, as there is nothing to name. Two of them
    /// do not see each other; share one handle instead.
    ///
    /// # Errors
    ///
    /// `Invalid` for a host, a path or a query.
    pub fn from_url(url: RegistryUrl) -> Result<Self, Error> {
        if url.authority().is_some() || !url.path().is_empty() {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!("registry `{url}` is invalid: expected memory: alone, it has no name"),
            ));
        }
        url.finish(&[])?;
        Ok(Self::new())
    }

    /// Makes it unreachable: every call answers `Unavailable`, watchers get `Stale`, and TTLs go on
    /// counting, until [`restore`](Self::restore).
    pub fn interrupt(&self, cause: impl Into<String>) {
        let mut state = self.shared.lock();
        let cause = cause.into();
        state.broadcast(&Update::stale(SystemTime::now(), &*cause));
        state.interrupted = Some(cause);
    }

    /// Makes it reachable again; watchers get a fresh `Reset`.
    pub fn restore(&self) {
        let mut state = self.shared.lock();
        // Still unreachable: those who watch are told by the reset alone.
        state.expire(Instant::now());
        state.interrupted = None;
        let State { watchers, .. } = &mut *state;
        let watchers = std::mem::take(watchers);
        for watcher in &watchers {
            watcher.send(&state.reset(watcher.scope()));
        }
        state.watchers = watchers;
    }

    /// The state, as of now, unless it is interrupted.
    fn reach(&self) -> Result<MutexGuard<'_, State>, Error> {
        let mut state = self.shared.lock();
        if let Some(cause) = &state.interrupted {
            return Err(Error::new(ErrorKind::Unavailable, format!("memory registry: {cause}")));
        }
        state.expire(Instant::now());
        Ok(state)
    }

    /// The task is made anew when the runtime it ran on has gone.
    fn ensure_expiry_runs(&self, state: &mut State) {
        if state.expiry.as_ref().is_none_or(JoinHandle::is_finished) {
            state.expiry = Some(tokio::spawn(expire_when_due(
                Arc::downgrade(&self.shared),
                self.shared.deadline_changed.clone(),
            )));
        }
        self.shared.deadline_changed.notify_one();
    }
}

impl fmt::Debug for MemoryRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("MemoryRegistry")
            .field("nodes", &state.view.len())
            .field("watchers", &state.watchers.len())
            .field("interrupted", &state.interrupted)
            .finish()
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    fn name(&self) -> &str {
        "memory"
    }

    fn is_one_host(&self) -> bool {
        true
    }

    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error> {
        validate::registration(registration, ttl)?;
        let mut state = self.reach()?;
        state.register(registration, Instant::now() + ttl)?;
        self.ensure_expiry_runs(&mut state);
        Ok(())
    }

    async fn deregister(&self, registration: &Registration) -> Result<(), Error> {
        validate::identity(registration)?;
        self.reach()?.deregister(registration);
        Ok(())
    }

    async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
        validate::service_name(service)?;
        let services = self.reach()?.view.service(service);
        if services.is_empty() { Err(Error::not_found(service)) } else { Ok(services) }
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        Ok(self.reach()?.view.list())
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        scope.validate()?;
        let mut state = self.shared.lock();
        state.expire(Instant::now());
        let first = match &state.interrupted {
            Some(cause) => Update::stale(SystemTime::now(), &**cause),
            None => state.reset(&scope),
        };
        let (sender, watch) = Watch::channel(scope);
        sender.send(&first);
        state.watchers.retain(|watcher| !watcher.is_closed());
        state.watchers.push(sender);
        Ok(watch)
    }
}

/// Takes out what is due, sleeping in between; ends when the registry is gone.
async fn expire_when_due(shared: Weak<Shared>, deadline_changed: Arc<Notify>) {
    loop {
        let next = {
            let Some(shared) = shared.upgrade() else { return };
            let mut state = shared.lock();
            state.expire(Instant::now());
            state.due.first().map(|(at, _)| *at)
        };
        match next {
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = deadline_changed.notified() => {}
            },
            None => deadline_changed.notified().await,
        }
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    deadline_changed: Arc<Notify>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(expiry) = state.expiry.take() {
            expiry.abort();
        }
    }
}

type NodeKey = (String, String);

#[derive(Default)]
struct State {
    view: View,
    deadlines: HashMap<NodeKey, Instant>,
    /// The same, soonest first.
    due: BTreeSet<(Instant, NodeKey)>,
    emptied: Emptied,
    watchers: Vec<WatchSender>,
    interrupted: Option<String>,
    expiry: Option<JoinHandle<()>>,
}

impl State {
    fn register(&mut self, registration: &Registration, expires: Instant) -> Result<(), Error> {
        let key = (registration.service.clone(), registration.node.id.clone());
        let stored = self.view.node(&key.0, &key.1);
        if let Some(stored) = stored.filter(|s| s.node.epoch > registration.node.epoch) {
            return Err(Error::new(
                ErrorKind::Fenced,
                format!(
                    "node `{}` of `{}` is registered with epoch {}, newer than {}",
                    key.1, key.0, stored.node.epoch, registration.node.epoch
                ),
            ));
        }
        self.forget_deadline(&key);
        self.due.insert((expires, key.clone()));
        self.deadlines.insert(key, expires);
        self.publish(&Update::Put(Arc::new(registration.clone())));
        Ok(())
    }

    fn deregister(&mut self, registration: &Registration) {
        let stored = self.view.node(&registration.service, &registration.node.id);
        if stored.is_some_and(|stored| stored.is_same_instance(registration)) {
            self.remove(registration, RemoveReason::Deregistered);
        }
    }

    fn expire(&mut self, now: Instant) {
        while let Some((_, (service, id))) = self.due.first().filter(|(at, _)| *at <= now) {
            let Some(registration) = self.view.node(service, id).cloned() else {
                self.due.pop_first();
                continue;
            };
            self.remove(&registration, RemoveReason::Expired);
        }
    }

    fn forget_deadline(&mut self, key: &NodeKey) {
        if let Some(at) = self.deadlines.remove(key) {
            self.due.remove(&(at, key.clone()));
        }
    }

    fn remove(&mut self, registration: &Registration, reason: RemoveReason) {
        self.forget_deadline(&(registration.service.clone(), registration.node.id.clone()));
        self.publish(&Update::remove(registration, reason));
        if !self.view.contains(&registration.service) {
            self.emptied.remember(&registration.service, EmptyReason::from_last(reason));
        }
    }

    fn publish(&mut self, update: &Update) {
        if self.view.apply(update) && self.interrupted.is_none() {
            self.broadcast(update);
        }
    }

    fn broadcast(&mut self, update: &Update) {
        self.watchers.retain(|watcher| watcher.send(update));
    }

    fn reset(&self, scope: &Scope) -> Update {
        let in_scope = self.view.iter().filter(|r| scope.contains(&r.service, &r.node.id));
        let registrations: Vec<_> = in_scope.cloned().collect();
        Update::reset(registrations, self.emptied.why(scope, &self.view))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Node, NodeState};
    use futures::{FutureExt, StreamExt};
    use std::task::{Context, Poll, Wake};

    const TTL: Duration = Duration::from_secs(30);

    fn registration(id: &str) -> Registration {
        Registration::new("greeter", "1.0.0", Node::new(id, "127.0.0.1:7000"))
    }

    fn with_epoch(epoch: u64) -> Registration {
        let mut registration = registration("a");
        registration.node.epoch = epoch;
        registration
    }

    /// What was registered is found, and only under its own name.
    #[tokio::test]
    async fn round_trip() {
        let registry = MemoryRegistry::new();
        assert_eq!(registry.get("greeter").await.unwrap_err().kind(), ErrorKind::NotFound);
        registry.register(&registration("a"), TTL).await.unwrap();
        assert_eq!(registry.get("greeter").await.unwrap()[0].nodes, [registration("a").node]);
        assert_eq!(registry.get("greete").await.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(registry.list().await.unwrap()[0].name, "greeter");
        registry.deregister(&registration("a")).await.unwrap();
        registry.deregister(&registration("a")).await.unwrap();
        assert_eq!(registry.get("greeter").await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// A URL that names something is refused: nothing would be found under the name.
    #[test]
    fn a_url_names_nothing() {
        MemoryRegistry::from_url("memory:".parse().unwrap()).unwrap();
        for (bad, hint) in [
            ("memory:x", "`memory:x` is invalid: expected memory: alone"),
            ("memory://x", "expected memory: alone"),
            ("memory:?x=1", "query key `x`"),
        ] {
            let error = MemoryRegistry::from_url(bad.parse().unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{bad}");
            assert!(error.to_string().contains(hint), "{bad}: {error}");
        }
    }

    /// A node nobody renews leaves `get` and watchers; a renewed sibling stays.
    #[tokio::test(start_paused = true)]
    async fn expiry_reaches_get_and_watchers() {
        let registry = MemoryRegistry::new();
        let mut watch = registry.watch(Scope::Service("greeter".into())).await.unwrap();
        registry.register(&registration("a"), TTL).await.unwrap();
        registry.register(&registration("b"), TTL).await.unwrap();
        tokio::time::advance(TTL / 2).await;
        registry.register(&registration("b"), TTL).await.unwrap();
        assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
        let removed = loop {
            match watch.next().await.unwrap() {
                Update::Remove { id, reason, .. } => break (id, reason),
                other => assert!(matches!(other, Update::Put(_)), "{other:?}"),
            }
        };
        assert_eq!(removed, ("a".to_owned(), RemoveReason::Expired));
        let nodes = &registry.get("greeter").await.unwrap()[0].nodes;
        assert_eq!(nodes.iter().map(|n| &n.id[..]).collect::<Vec<_>>(), ["b"]);
    }

    /// An old process can neither replace nor remove its successor.
    #[tokio::test]
    async fn epochs_fence() {
        let registry = MemoryRegistry::new();
        registry.register(&with_epoch(2), TTL).await.unwrap();
        let refused = registry.register(&with_epoch(1), TTL).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Fenced);
        registry.deregister(&with_epoch(1)).await.unwrap();
        assert_eq!(registry.get("greeter").await.unwrap()[0].nodes[0].epoch, 2);
    }

    /// Renewal is silent, a changed state is seen.
    #[tokio::test]
    async fn only_changes_reach_watchers() {
        let registry = MemoryRegistry::new();
        registry.register(&registration("a"), TTL).await.unwrap();
        let mut watch = registry.watch(Scope::All).await.unwrap();
        assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
        registry.register(&registration("a"), TTL).await.unwrap();
        let mut draining = registration("a");
        draining.node.state = NodeState::Draining;
        registry.register(&draining, TTL).await.unwrap();
        assert_eq!(watch.next().await, Some(Update::Put(Arc::new(draining))));
    }

    /// Reads a watch at the very moment it has something.
    struct Eager(Mutex<(Watch, Vec<Update>)>);

    impl Wake for Eager {
        fn wake(self: Arc<Self>) {
            let waker = self.clone().into();
            let (watch, read) = &mut *self.0.lock().unwrap();
            let mut context = Context::from_waker(&waker);
            while let Poll::Ready(Some(update)) = watch.poll_next_unpin(&mut context) {
                read.push(update);
            }
        }
    }

    /// What expired in an outage is told by the reset that ends it, not before.
    #[tokio::test]
    async fn nothing_comes_between_stale_and_reset() {
        let registry = MemoryRegistry::new();
        registry.register(&registration("a"), Duration::from_millis(1)).await.unwrap();
        let watch = registry.watch(Scope::Service("greeter".into())).await.unwrap();
        let eager = Arc::new(Eager(Mutex::new((watch, vec![]))));
        eager.clone().wake();
        registry.interrupt("stopped by the test");
        // The task that expires shares this thread, so it cannot come first.
        std::thread::sleep(Duration::from_millis(5));
        registry.restore();
        let told = std::mem::take(&mut eager.0.lock().unwrap().1);
        let empty = Update::reset(vec![], EmptyReason::AllExpired);
        assert!(matches!(&told[..], [_, Update::Stale { .. }, end] if *end == empty), "{told:?}");
    }

    /// All that expire at once are told of, each.
    #[tokio::test(start_paused = true)]
    async fn a_mass_expiry_is_told_in_full() {
        let registry = MemoryRegistry::new();
        for id in 0..100 {
            registry.register(&registration(&id.to_string()), TTL).await.unwrap();
        }
        let mut watch = registry.watch(Scope::All).await.unwrap();
        let mut view = View::new();
        view.apply(&watch.next().await.unwrap());
        assert_eq!(view.len(), 100);
        while !view.is_empty() {
            let update = tokio::time::timeout(2 * TTL, watch.next()).await.unwrap().unwrap();
            assert!(matches!(update, Update::Remove { reason: RemoveReason::Expired, .. }));
            assert!(view.apply(&update));
        }
    }

    /// A node that leaves takes nothing from another one at the same address.
    #[tokio::test]
    async fn an_old_node_leaves_its_successor_at_the_same_address() {
        let registry = MemoryRegistry::new();
        for id in ["old", "new"] {
            registry.register(&registration(id), TTL).await.unwrap();
        }
        registry.deregister(&registration("old")).await.unwrap();
        assert_eq!(registry.get("greeter").await.unwrap()[0].nodes, [registration("new").node]);
    }

    /// A watch that opens amid changes misses none: what it tells leads to what is true.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_watch_that_opens_amid_changes_misses_none() {
        let registry = MemoryRegistry::new();
        let writing = tokio::spawn({
            let registry = registry.clone();
            async move {
                for round in 0..1_000 {
                    let node = registration(&format!("n{round}"));
                    registry.register(&node, TTL).await.unwrap();
                    if round % 2 == 0 {
                        registry.deregister(&node).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                }
            }
        });
        let mut watches = vec![];
        while !writing.is_finished() && watches.len() < 50 {
            watches.push(registry.watch(Scope::Service("greeter".into())).await.unwrap());
            tokio::task::yield_now().await;
        }
        writing.await.unwrap();
        let truth = registry.reach().unwrap().view.clone();
        for watch in &mut watches {
            let mut view = View::new();
            while let Some(Some(update)) = watch.next().now_or_never() {
                view.apply(&update);
            }
            assert_eq!(view, truth);
        }
    }

    /// A thousand lookups and watches of unknown names leave nothing behind.
    #[tokio::test]
    async fn unknown_names_leave_nothing() {
        let registry = MemoryRegistry::new();
        for name in 0..1_000 {
            let watch = registry.watch(Scope::Service(format!("s{name}"))).await.unwrap();
            registry.get(&format!("s{name}")).await.unwrap_err();
            drop(watch);
            assert!(registry.shared.lock().watchers.len() <= 1);
        }
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
    }

    /// While it is unreachable it says so, and afterwards watchers start afresh, told why a service
    /// is empty.
    #[tokio::test(start_paused = true)]
    async fn an_outage_is_stale_then_reset() {
        let registry = MemoryRegistry::new();
        registry.register(&registration("a"), TTL).await.unwrap();
        let mut watch = registry.watch(Scope::Service("greeter".into())).await.unwrap();
        assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
        registry.interrupt("stopped by the test");
        assert!(matches!(watch.next().await, Some(Update::Stale { .. })));
        let error = registry.get("greeter").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_retryable());
        let mut late = registry.watch(Scope::All).await.unwrap();
        assert!(matches!(late.next().await, Some(Update::Stale { .. })));
        tokio::time::advance(TTL).await;
        registry.restore();
        assert_eq!(watch.next().await, Some(Update::reset(vec![], EmptyReason::AllExpired)));
        assert!(matches!(late.next().await, Some(Update::Reset { .. })));
    }
}
