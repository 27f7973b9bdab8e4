//! Feeding watches: one task for all who watch the same, for as long as anybody does.
//!
//! What a backend brings is the future that runs in it. Who comes, who leaves, who has to be told of
//! an outage and when to try again is the same for all of them. A backend whose task serves more than
//! watches has [`Backoff`] by itself.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{Error, Scope, Update, WatchSender};

/// Feeds watches by one task, which runs while there is any.
///
/// Dropping it aborts the task, and the watches end.
#[derive(Debug, Default)]
pub struct Feeder {
    inbox: Arc<Inbox>,
}

impl Feeder {
    /// A feeder. Starts no task.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a watch on; starts the task if it does not run, or the runtime it ran on has gone.
    ///
    /// The future that `feed` makes serves the audience it is handed until that
    /// [is over](Audience::is_over), and ends then.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn attach<F>(&self, watch: WatchSender, feed: impl FnOnce(Audience) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut state = self.inbox.lock();
        state.arrivals.push(watch);
        if state.task.as_ref().is_none_or(JoinHandle::is_finished) {
            state.task = Some(tokio::spawn(feed(Audience::new(self.inbox.clone()))));
        }
        drop(state);
        self.inbox.arrived.notify_one();
    }

    /// Whether its task runs.
    pub fn is_running(&self) -> bool {
        self.inbox.lock().task.as_ref().is_some_and(|task| !task.is_finished())
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        let mut state = self.inbox.lock();
        state.arrivals.clear();
        if let Some(task) = state.task.take() {
            task.abort();
        }
    }
}

/// Those who watch, as the task that feeds them knows them.
pub struct Audience {
    inbox: Arc<Inbox>,
    watches: Vec<Arc<WatchSender>>,
    leaving: FuturesUnordered<BoxFuture<'static, ()>>,
    outage: Option<Outage>,
    backoff: Backoff,
}

impl Audience {
    fn new(inbox: Arc<Inbox>) -> Self {
        Self {
            inbox,
            watches: Vec::new(),
            leaving: FuturesUnordered::new(),
            outage: None,
            backoff: Backoff::new(),
        }
    }

    /// Waits until somebody came, who is let in by [`admit`](Self::admit), or left.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nobody is lost.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.inbox.arrived.notified() => {}
            () = left(&mut self.leaving) => {}
        }
        self.watches.retain(|watch| !watch.is_closed());
    }

    /// Lets in who came, and tells each what there is.
    pub fn admit(&mut self, reset: impl Fn(&Scope) -> Update) {
        for watch in self.let_in() {
            watch.send(&reset(watch.scope()));
        }
    }

    /// Whether nobody watches any more. If so the task has to end: whoever comes later starts another.
    #[must_use = "the task has to end if it is so"]
    pub fn is_over(&self) -> bool {
        self.watches.is_empty() && self.inbox.close_if_empty()
    }

    /// Tells everybody.
    pub fn send(&self, updates: &[Update]) {
        for watch in &self.watches {
            for update in updates {
                watch.send(update);
            }
        }
    }

    /// Tells everybody what there is, from which they follow what happens, and ends the outage; says
    /// whether there was one.
    pub fn reset(&mut self, reset: impl Fn(&Scope) -> Update) -> bool {
        self.let_in();
        for watch in &self.watches {
            watch.send(&reset(watch.scope()));
        }
        self.backoff.found();
        self.outage.take().is_some()
    }

    /// Tells everybody that the source is lost, once per outage; says whether it is news.
    pub fn lose(&mut self, error: &Error) -> bool {
        self.backoff.lost();
        if self.outage.is_some() {
            return false;
        }
        let outage = Outage { since: SystemTime::now(), cause: error.chain() };
        self.send(&[outage.stale()]);
        self.outage = Some(outage);
        true
    }

    /// Whether the source is lost.
    pub fn is_lost(&self) -> bool {
        self.outage.is_some()
    }

    /// How long to wait before the source is tried again, by its [`Backoff`].
    pub fn pause(&self) -> Duration {
        self.backoff.pause()
    }

    /// Does some work to its end; `None` when nobody watches any more. Who comes meanwhile is told of
    /// the outage, if there is one, and otherwise waits for the next reset.
    ///
    /// # Cancel safety
    ///
    /// Nobody is lost; the work is dropped.
    pub async fn meanwhile<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Some(done),
                () = self.changed() => {}
            }
            let arrived = self.let_in();
            if let Some(outage) = &self.outage {
                for watch in arrived {
                    watch.send(&outage.stale());
                }
            }
            if self.is_over() {
                return None;
            }
        }
    }

    fn let_in(&mut self) -> Vec<Arc<WatchSender>> {
        let arrived: Vec<_> = self.inbox.take().into_iter().map(Arc::new).collect();
        for watch in &arrived {
            let left = watch.clone();
            self.leaving.push(Box::pin(async move { left.closed().await }));
        }
        self.watches.extend(arrived.iter().cloned());
        arrived
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience")
            .field("watches", &self.watches.len())
            .field("outage", &self.outage)
            .finish_non_exhaustive()
    }
}

/// When to try again what was lost.
#[derive(Debug, Default)]
pub struct Backoff {
    /// How often in a row it was lost, and when it was found again last.
    losses: u32,
    found: Option<Instant>,
}

impl Backoff {
    /// Nothing was lost yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// It is there, for now.
    pub fn found(&mut self) {
        self.found = Some(Instant::now());
    }

    /// It is lost, or still is.
    pub fn lost(&mut self) {
        let lasted = self.found.take().is_some_and(|at| at.elapsed() > 2 * MAX_PAUSE);
        self.losses = if lasted { 1 } else { self.losses.saturating_add(1) };
    }

    /// How long to wait before it is tried again: 100 ms, growing to 2 s as long as it is lost or
    /// found only for moments, a part of it random.
    pub fn pause(&self) -> Duration {
        let doublings = self.losses.saturating_sub(1).min(8);
        let full = (MIN_PAUSE * (1 << doublings)).min(MAX_PAUSE);
        full.mul_f32(0.75 + fastrand::f32() / 4.0)
    }
}

#[derive(Debug)]
struct Outage {
    since: SystemTime,
    cause: String,
}

impl Outage {
    fn stale(&self) -> Update {
        Update::stale(self.since, &*self.cause)
    }
}

/// Where new watches wait for the task.
#[derive(Debug, Default)]
struct Inbox {
    state: Mutex<InboxState>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct InboxState {
    arrivals: Vec<WatchSender>,
    task: Option<JoinHandle<()>>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<WatchSender> {
        std::mem::take(&mut self.lock().arrivals)
    }

    /// Whether the task may end. If so it counts as ended from here on.
    fn close_if_empty(&self) -> bool {
        let mut state = self.lock();
        let is_empty = state.arrivals.is_empty();
        if is_empty {
            state.task = None;
        }
        is_empty
    }
}

/// Waits until one of them left. Cancel-safe.
async fn left(leaving: &mut FuturesUnordered<BoxFuture<'static, ()>>) {
    if leaving.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}

const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EmptyReason, ErrorKind, Watch};
    use tokio::runtime::Handle;

    fn tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    fn nothing(_: &Scope) -> Update {
        Update::reset(vec![], EmptyReason::Unknown)
    }

    fn lost() -> Error {
        Error::new(ErrorKind::Unavailable, "lost")
    }

    /// Feeds what never changes.
    async fn feed_nothing(mut audience: Audience) {
        while !audience.is_over() {
            audience.changed().await;
            audience.admit(nothing);
        }
    }

    /// All watches share one task, which ends with the last of them; the next starts another.
    #[tokio::test(start_paused = true)]
    async fn one_task_while_anybody_watches() {
        let feeder = Feeder::new();
        for _ in 0..2 {
            let open = || {
                let (sender, watch) = Watch::channel(Scope::All);
                feeder.attach(sender, feed_nothing);
                watch
            };
            let mut watches = [open(), open(), open()];
            for watch in &mut watches {
                assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
            }
            assert_eq!(tasks(), 1);
            drop(watches);
            while feeder.is_running() || tasks() > 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// What is dropped takes its task and its watches along.
    #[tokio::test]
    async fn the_end_of_a_feeder_is_that_of_its_watches() {
        let feeder = Feeder::new();
        let (sender, mut watch) = Watch::channel(Scope::All);
        feeder.attach(sender, feed_nothing);
        watch.next().await.unwrap();
        drop(feeder);
        assert_eq!(watch.next().await, None);
    }

    /// During an outage everybody is told once that it is one, who comes later included, and all get a
    /// reset at its end.
    #[tokio::test(start_paused = true)]
    async fn an_outage_is_told_to_all() {
        let feeder = Feeder::new();
        let (sender, mut early) = Watch::channel(Scope::All);
        let over = Arc::new(Notify::new());
        let until = over.clone();
        feeder.attach(sender, |mut audience| async move {
            assert!(audience.lose(&lost()));
            assert!(!audience.lose(&lost()), "the second attempt is no news");
            audience.meanwhile(until.notified()).await;
            assert!(audience.reset(nothing));
            feed_nothing(audience).await;
        });
        assert!(matches!(early.next().await, Some(Update::Stale { .. })));
        let (sender, mut late) = Watch::channel(Scope::All);
        feeder.attach(sender, feed_nothing);
        assert!(matches!(late.next().await, Some(Update::Stale { .. })));
        over.notify_one();
        for watch in [&mut early, &mut late] {
            assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
        }
    }

    /// Pauses grow while the source is lost again and again, and are short again once it held.
    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_shrink() {
        let mut audience = Audience::new(Arc::default());
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            audience.lose(&lost());
            longest = longest.max(audience.pause());
            assert!(audience.pause() <= MAX_PAUSE);
            audience.reset(nothing);
        }
        assert!(longest > MAX_PAUSE / 2, "{longest:?}");
        tokio::time::advance(3 * MAX_PAUSE).await;
        audience.lose(&lost());
        assert!(audience.pause() <= MIN_PAUSE);
    }
}
