//! Keeps one registration where it belongs, beside serving and never in its path.

mod presence;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use futures::FutureExt;
use micro_registry::{Error, ErrorKind, NodeState, Registration, Registry, RemoveReason};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use self::presence::Presence;
use crate::error::chain;

/// Whether a service is registered, as far as its registrar knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Registered {
    /// The first attempt has not ended yet.
    Starting,
    /// It is, and is renewed.
    Yes,
    /// The last attempt failed; the next comes by itself.
    Retrying {
        /// Since when.
        since: Instant,
        /// Whether it was registered before.
        was_registered: bool,
        /// What the registry said, with the causes.
        cause: String,
    },
    /// A newer process owns the node id. It is tried again once per TTL, since that lease may end.
    Fenced {
        /// What the registry said.
        cause: String,
    },
}

/// How often, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) ttl: Duration,
    pub(crate) interval: Duration,
}

/// The task that registers and renews, and the means to steer it. Dropping it stops the task
/// without deregistering: the registration ends with its TTL.
#[derive(Debug)]
pub(crate) struct Registrar {
    registry: Arc<dyn Registry>,
    wanted: Announcer,
    state: watch::Receiver<Registered>,
    tried: watch::Receiver<Tried>,
    task: JoinHandle<()>,
}

/// What came of all attempts so far.
#[derive(Debug, Default)]
struct Tried {
    /// The node's state at the end of the last one.
    state: Option<NodeState>,
    /// Whether one succeeded ever, whatever came after.
    has_registered: bool,
}

/// What to register: a change of it is told to the registry at once. `None` ends the registrar,
/// after the write under way.
#[derive(Clone, Debug)]
pub(crate) struct Announcer(watch::Sender<Option<Registration>>);

impl Announcer {
    /// Announces another state of the node; one that drains keeps to that.
    pub(crate) fn set(&self, state: NodeState) {
        self.0.send_if_modified(|wanted| match wanted {
            Some(Registration { node, .. })
                if node.state != state && node.state != NodeState::Draining =>
            {
                node.state = state;
                true
            }
            _ => false,
        });
    }
}

impl Registrar {
    /// Starts the task; it registers at once and never gives up.
    pub(crate) fn spawn(
        registry: Arc<dyn Registry>,
        registration: Registration,
        timing: Timing,
    ) -> Self {
        let (wanted, changes) = watch::channel(Some(registration));
        let (report, state) = watch::channel(Registered::Starting);
        let (tries, tried) = watch::channel(Tried::default());
        let task = tokio::spawn(keep(registry.clone(), changes, timing, report, tries));
        Self { registry, wanted: Announcer(wanted), state, tried, task }
    }

    /// What it knows, now and as it changes.
    pub(crate) fn state(&self) -> watch::Receiver<Registered> {
        self.state.clone()
    }

    /// Whether others may have seen it in the registry, now or before; they may hold connections
    /// though a newer process owns the node id since.
    pub(crate) fn was_registered(&self) -> bool {
        self.tried.borrow().has_registered
    }

    /// The means to announce other states of the node.
    pub(crate) fn announcer(&self) -> Announcer {
        self.wanted.clone()
    }

    /// Announces that the node drains, and waits until the registry was told, at most `patience`.
    pub(crate) async fn drain(&mut self, patience: Duration) {
        self.wanted.set(NodeState::Draining);
        let told = self.tried.wait_for(|tried| tried.state == Some(NodeState::Draining));
        if timeout(patience, told).await.is_err() {
            tracing::warn!("the registry was not told in time that the node drains");
        }
    }

    /// Ends the task and takes the registration out, each within `patience`.
    pub(crate) async fn deregister(mut self, patience: Duration) {
        // A write cut off could still land after the removal, so it is let finish.
        let Some(registration) = self.wanted.0.send_replace(None) else { return };
        match timeout(patience, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "the registrar failed"),
            Err(_) => self.task.abort(),
        }
        let (registry, node) = (&*self.registry, &registration.node.id);
        match answer(patience, async || registry.deregister(&registration).await).await {
            Ok(()) => tracing::info!(node, "deregistered"),
            Err(error) => {
                tracing::warn!(%error, "not deregistered: the TTL will do it");
            }
        }
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(
    registry: Arc<dyn Registry>,
    mut wanted: watch::Receiver<Option<Registration>>,
    timing: Timing,
    report: watch::Sender<Registered>,
    tries: watch::Sender<Tried>,
) {
    let mut schedule = Schedule::new(timing);
    let Some(registration) = wanted.borrow().clone() else { return };
    let mut presence = Presence::new(registry.clone(), registration);
    let mut removals = Removals::default();
    loop {
        let Some(registration) = wanted.borrow_and_update().clone() else { return };
        let register = async || registry.register(&registration, timing.ttl).await;
        let result = answer(timing.ttl / 2, register).await;
        let tried = Instant::now();
        let next = schedule.after(&result, tried);
        // First, so that whoever is told that it is registered finds it so.
        tries.send_modify(|tried| {
            tried.state = Some(registration.node.state);
            tried.has_registered |= result.is_ok();
        });
        report_change(&report, &registration, registry.name(), schedule.state(&result));
        let is_to_stay = registration.node.state != NodeState::Draining;
        tokio::select! {
            reason = presence.missed(tried), if is_to_stay => {
                // That it went for want of renewals was said before.
                if let Some(reason) = reason.filter(|_| result.is_ok()) {
                    removals.report(&registration, registry.name(), reason, timing.ttl);
                }
            }
            () = sleep_until(next) => {}
            changed = wanted.changed() => if changed.is_err() { return },
        }
    }
}

/// What a registry answers, its causes in its message. One that hangs or panics, even in the text of
/// its error, has failed.
async fn answer(
    patience: Duration,
    ask: impl AsyncFnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let answered = async {
        let answer = timeout(patience, ask()).await.unwrap_or_else(|_| {
            let message = format!("the registry did not answer within {patience:?}");
            Err(Error::new(ErrorKind::Unavailable, message))
        });
        answer.map_err(|error| Error::new(error.kind(), chain(&error)))
    };
    AssertUnwindSafe(answered)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Internal, "the registry panicked")))
}

/// Logs what is new and keeps quiet about what goes on.
fn report_change(
    report: &watch::Sender<Registered>,
    registration: &Registration,
    registry: &str,
    state: Registered,
) {
    let (service, node) = (&registration.service, &registration.node.id);
    let address = &registration.node.address;
    let is_new = std::mem::discriminant(&*report.borrow()) != std::mem::discriminant(&state);
    match &state {
        _ if !is_new => {}
        Registered::Retrying { cause, .. } => {
            tracing::warn!(service, node, registry, cause, "not registered, trying again");
        }
        Registered::Fenced { cause } => {
            tracing::error!(service, node, registry, cause, "another process owns this node id");
        }
        _ => tracing::info!(service, node, address, registry, "registered"),
    }
    report.send_replace(state);
}

/// Says that somebody removed the node, once while that goes on.
#[derive(Default)]
struct Removals {
    last: Option<Instant>,
}

impl Removals {
    fn report(
        &mut self,
        registration: &Registration,
        registry: &str,
        reason: RemoveReason,
        quiet: Duration,
    ) {
        let now = Instant::now();
        let last = self.last.replace(now);
        if last.is_none_or(|last| now > last + quiet) {
            let (service, node) = (&registration.service, &registration.node.id);
            tracing::warn!(service, node, registry, ?reason, "removed, registering again");
        }
    }
}

/// When to register next, from how it went: a plain function of results and time.
struct Schedule {
    timing: Timing,
    backoff: backon::ExponentialBackoff,
    failing_since: Option<Instant>,
    was_registered: bool,
}

impl Schedule {
    fn new(timing: Timing) -> Self {
        Self { timing, backoff: backoff(), failing_since: None, was_registered: false }
    }

    fn after(&mut self, result: &Result<(), Error>, now: Instant) -> Instant {
        match result {
            Ok(()) => {
                self.backoff = backoff();
                self.failing_since = None;
                self.was_registered = true;
                now + jittered(self.timing.interval)
            }
            Err(error) if error.kind() == ErrorKind::Fenced => {
                self.failing_since = None;
                self.was_registered = false;
                now + jittered(self.timing.ttl)
            }
            Err(_) => {
                self.failing_since.get_or_insert(now);
                now + self.backoff.next().unwrap_or(MAX_BACKOFF).min(MAX_BACKOFF)
            }
        }
    }

    fn state(&self, result: &Result<(), Error>) -> Registered {
        match result {
            Ok(()) => Registered::Yes,
            Err(error) if error.kind() == ErrorKind::Fenced => {
                Registered::Fenced { cause: error.to_string() }
            }
            Err(error) => Registered::Retrying {
                since: self.failing_since.unwrap_or_else(Instant::now),
                was_registered: self.was_registered,
                cause: error.to_string(),
            },
        }
    }
}

const MIN_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(15);

fn backoff() -> backon::ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(MIN_BACKOFF)
        .with_max_delay(MAX_BACKOFF)
        .with_jitter()
        .without_max_times()
        .build()
}

/// Up to a tenth sooner, never later: the TTL is measured in intervals.
fn jittered(interval: Duration) -> Duration {
    interval.mul_f64(0.9 + 0.1 * fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use futures::StreamExt;
    use micro_registry::{
        EmptyReason, MemoryRegistry, Node, Scope, Service, ServiceSummary, Update, Watch,
        WatchSender,
    };
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    const TIMING: Timing =
        Timing { ttl: Duration::from_secs(30), interval: Duration::from_secs(10) };

    fn registration(epoch: u64) -> Registration {
        let mut node = Node::new("a", "127.0.0.1:1");
        node.epoch = epoch;
        Registration::new("greeter", "1.0.0", node)
    }

    async fn reached(registrar: &Registrar, wanted: impl Fn(&Registered) -> bool) -> Registered {
        let mut state = registrar.state();
        state.wait_for(wanted).await.expect("the registrar lives").clone()
    }

    /// It registers, renews for as long as it lives, and takes the node out at the end.
    #[tokio::test(start_paused = true)]
    async fn keeps_a_node_registered() {
        let registry = MemoryRegistry::new();
        let mut registrar = Registrar::spawn(Arc::new(registry.clone()), registration(1), TIMING);
        reached(&registrar, |state| *state == Registered::Yes).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        registry.get("greeter").await.unwrap();
        registrar.drain(Duration::from_secs(1)).await;
        let services = registry.get("greeter").await.unwrap();
        assert_eq!(services[0].nodes[0].state, NodeState::Draining);
        registrar.deregister(Duration::from_secs(1)).await;
        assert_eq!(registry.get("greeter").await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// A registry that is down, at the start or later, is tried for as long as it takes.
    #[tokio::test(start_paused = true)]
    async fn never_gives_up() {
        let registry = MemoryRegistry::new();
        registry.interrupt("down at start");
        let registrar = Registrar::spawn(Arc::new(registry.clone()), registration(1), TIMING);
        let is_first = |state: &Registered| {
            matches!(state, Registered::Retrying { was_registered: false, .. })
        };
        reached(&registrar, is_first).await;
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        registry.restore();
        reached(&registrar, |state| *state == Registered::Yes).await;
        registry.interrupt("down again");
        let is_later =
            |state: &Registered| matches!(state, Registered::Retrying { was_registered: true, .. });
        reached(&registrar, is_later).await;
        registry.restore();
        reached(&registrar, |state| *state == Registered::Yes).await;
    }

    /// A newer owner of the id is not fought, and replaced only once its lease has ended.
    #[tokio::test(start_paused = true)]
    async fn does_not_fight_a_newer_owner() {
        let registry = MemoryRegistry::new();
        registry.register(&registration(2), Duration::from_secs(60)).await.unwrap();
        let registrar = Registrar::spawn(Arc::new(registry.clone()), registration(1), TIMING);
        reached(&registrar, |state| matches!(state, Registered::Fenced { .. })).await;
        assert_eq!(registry.get("greeter").await.unwrap()[0].nodes[0].epoch, 2);
        reached(&registrar, |state| *state == Registered::Yes).await;
        assert_eq!(registry.get("greeter").await.unwrap()[0].nodes[0].epoch, 1);
    }

    /// Renewals so rare that what comes sooner is no renewal.
    const RARE: Timing =
        Timing { ttl: Duration::from_secs(7_200), interval: Duration::from_secs(3_600) };

    async fn watched(registry: &MemoryRegistry) -> Watch {
        registry.watch(Scope::node(&registration(1))).await.unwrap()
    }

    /// Waits for the node to be registered anew.
    async fn is_put(watch: &mut Watch) {
        let minutes = Duration::from_secs(600);
        let put = async { while !matches!(watch.next().await, Some(Update::Put(_))) {} };
        timeout(minutes, put).await.expect("registered again long before the next renewal");
    }

    /// A node somebody removes is back at once, however often; so often as to hammer the registry is
    /// not.
    #[tokio::test(start_paused = true)]
    async fn a_removed_node_comes_back() {
        let registry = MemoryRegistry::new();
        let mut watch = watched(&registry).await;
        let _registrar = Registrar::spawn(Arc::new(registry.clone()), registration(1), RARE);
        let start = Instant::now();
        for _ in 0..100 {
            is_put(&mut watch).await;
            registry.deregister(&registration(1)).await.unwrap();
        }
        assert!(start.elapsed() >= Duration::from_secs(98), "{:?}", start.elapsed());
    }

    /// A node that drains, or leaves by itself, is not brought back.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_leaves_stays_away() {
        let registry = MemoryRegistry::new();
        let mut registrar = Registrar::spawn(Arc::new(registry.clone()), registration(1), RARE);
        reached(&registrar, |state| *state == Registered::Yes).await;
        registrar.drain(Duration::from_secs(1)).await;
        registry.deregister(&registration(1)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(registry.get("greeter").await.unwrap_err().kind(), ErrorKind::NotFound);

        let registrar = Registrar::spawn(Arc::new(registry.clone()), registration(2), RARE);
        reached(&registrar, |state| *state == Registered::Yes).await;
        registrar.deregister(Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(registry.get("greeter").await.unwrap_err().kind(), ErrorKind::NotFound);
    }

    /// Who is replaced by a newer one does not take that for a removal.
    #[tokio::test(start_paused = true)]
    async fn a_newer_owner_removes_nobody() {
        let registry = MemoryRegistry::new();
        let registrar = Registrar::spawn(Arc::new(registry.clone()), registration(1), RARE);
        reached(&registrar, |state| *state == Registered::Yes).await;
        registry.register(&registration(2), RARE.ttl).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(registry.get("greeter").await.unwrap()[0].nodes[0].epoch, 2);
        assert_eq!(*registrar.state().borrow(), Registered::Yes, "it has not tried");
    }

    /// Who was kept out by a newer process follows it at once when that leaves.
    #[tokio::test(start_paused = true)]
    async fn who_was_fenced_follows_at_once() {
        let registry = MemoryRegistry::new();
        registry.register(&registration(2), RARE.ttl).await.unwrap();
        let registrar = Registrar::spawn(Arc::new(registry.clone()), registration(1), RARE);
        reached(&registrar, |state| matches!(state, Registered::Fenced { .. })).await;
        let mut watch = watched(&registry).await;
        registry.deregister(&registration(2)).await.unwrap();
        is_put(&mut watch).await;
    }

    /// A registry that never shows the node is not asked again and again.
    #[tokio::test(start_paused = true)]
    async fn what_is_not_shown_is_not_missed() {
        let blind = Arc::new(Blind::default());
        let _registrar = Registrar::spawn(blind.clone(), registration(1), RARE);
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(blind.registered.load(Relaxed) <= 2, "{blind:?}");
    }

    /// A registry whose watch panics is renewed with as ever.
    #[tokio::test(start_paused = true)]
    async fn a_watch_that_panics_ends_no_renewals() {
        let blind = Arc::new(Blind { panics: true, ..Blind::default() });
        let _registrar = Registrar::spawn(blind.clone(), registration(1), TIMING);
        tokio::time::sleep(10 * TIMING.interval).await;
        assert!((10..=12).contains(&blind.registered.load(Relaxed)), "{blind:?}");
    }

    /// Registers whatever it is told, and shows nothing.
    #[derive(Debug, Default)]
    struct Blind {
        panics: bool,
        registered: AtomicU32,
        watches: Mutex<Vec<WatchSender>>,
    }

    #[async_trait]
    impl Registry for Blind {
        fn name(&self) -> &str {
            "blind"
        }

        async fn register(&self, _: &Registration, _: Duration) -> Result<(), Error> {
            self.registered.fetch_add(1, Relaxed);
            Ok(())
        }

        async fn deregister(&self, _: &Registration) -> Result<(), Error> {
            Ok(())
        }

        async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
            Err(Error::not_found(service))
        }

        async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
            Ok(vec![])
        }

        async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
            assert!(!self.panics, "on purpose");
            let (sender, watch) = Watch::channel(scope);
            sender.send(&Update::reset(vec![], EmptyReason::NeverSeen));
            self.watches.lock().unwrap().push(sender);
            Ok(watch)
        }
    }

    /// A node that drains keeps to that, whatever else is announced.
    #[tokio::test(start_paused = true)]
    async fn a_drain_is_final() {
        let registry = MemoryRegistry::new();
        let mut registrar = Registrar::spawn(Arc::new(registry.clone()), registration(1), TIMING);
        registrar.drain(Duration::from_secs(1)).await;
        registrar.announcer().set(NodeState::Serving);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let services = registry.get("greeter").await.unwrap();
        assert_eq!(services[0].nodes[0].state, NodeState::Draining);
    }
}
