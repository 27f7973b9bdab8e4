//! Feeding watches: one task for all who watch the same, for as long as anybody does.
//!
//! What a backend brings is a [`Source`] to follow. Who comes, who leaves, who has to be told of an
//! outage and when to try again is the same for all of them. A backend whose task serves more than
//! watches has [`Backoff`] by itself.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::{Error, ErrorKind, Scope, Update, WatchSender};

/// What the watches of a [`Feeder`] are fed from.
#[async_trait]
pub trait Source: Send + 'static {
    /// What it is, for logs.
    fn name(&self) -> String;

    /// Follows it and tells the audience what it holds and what changes, beginning with a
    /// [`reset`](Audience::reset). Ends with what broke, after which it is followed again, or with
    /// `None` once the audience [is over](Audience::is_over).
    ///
    /// Who watches knows what a call answered before, and may not be told anything older. So whoever
    /// comes later waits for another look, which [`begins`](Audience::begin_look) after that; this is
    /// the first one, which begins where this is called.
    ///
    /// A panic is an outage like another: it may be called again after one, as after an error.
    async fn follow(&mut self, look: Look, audience: &mut Audience) -> Option<Error>;
}

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

    /// Takes a watch on; starts the task, with the source that is made for it, if it does not run or
    /// the runtime it ran on has gone.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn attach<S: Source>(&self, watch: WatchSender, source: impl FnOnce() -> S) {
        let mut state = self.inbox.lock();
        state.arrivals.push(watch);
        if state.task.as_ref().is_none_or(JoinHandle::is_finished) {
            let source = source();
            let audience = Audience::new(source.name(), self.inbox.clone());
            state.task = Some(tokio::spawn(feed(source, audience)));
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

/// A [`Feeder`] for each scope that is followed.
///
/// Dropping it aborts the tasks, and the watches end.
#[derive(Debug, Default)]
pub struct Feeders {
    feeders: Mutex<ByScope>,
}

#[derive(Debug, Default)]
struct ByScope {
    of: HashMap<Scope, Feeder>,
    /// At how many to look for those nobody needs any more.
    sweep_at: usize,
}

impl Feeders {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a watch on, fed by whatever follows this scope; see [`Feeder::attach`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn attach<S: Source>(
        &self,
        followed: Scope,
        watch: WatchSender,
        source: impl FnOnce() -> S,
    ) {
        let mut feeders = self.lock();
        feeders.sweep();
        feeders.of.entry(followed).or_default().attach(watch, source);
    }

    /// How many scopes are followed.
    pub fn running(&self) -> usize {
        self.lock().of.values().filter(|feeder| feeder.is_running()).count()
    }

    fn lock(&self) -> MutexGuard<'_, ByScope> {
        self.feeders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ByScope {
    fn sweep(&mut self) {
        if self.of.len() >= self.sweep_at {
            self.of.retain(|_, feeder| feeder.is_running());
            self.sweep_at = 2 * self.of.len() + 16;
        }
    }
}

/// Follows the source from outage to outage until nobody watches any more.
async fn feed(mut source: impl Source, mut audience: Audience) {
    while let Some(ended) = follow(&mut source, &mut audience).await {
        audience.lose(&ended);
        let pause = tokio::time::sleep(audience.pause());
        if audience.meanwhile(pause).await.is_none() {
            return;
        }
    }
}

async fn follow(source: &mut impl Source, audience: &mut Audience) -> Option<Error> {
    let look = audience.begin_look();
    let followed = AssertUnwindSafe(source.follow(look, audience)).catch_unwind().await;
    followed.unwrap_or_else(|_| {
        tracing::error!(source = audience.source, "following what feeds watches panicked");
        Some(Error::new(ErrorKind::Internal, format!("following {} panicked", audience.source)))
    })
}

/// Those who watch, as the task that feeds them knows them.
pub struct Audience {
    /// By what its source is called.
    source: String,
    inbox: Arc<Inbox>,
    seats: Vec<Seat>,
    leaving: FuturesUnordered<BoxFuture<'static, ()>>,
    outage: Option<Outage>,
    backoff: Backoff,
}

/// A look at the source, which [began](Audience::begin_look) and is good for one answer to those who
/// came before it.
#[derive(Debug)]
#[must_use = "who waits for it is to be told what it shows"]
pub struct Look {
    is_awaited: bool,
}

impl Look {
    /// Whether anybody waits for it.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.is_awaited
    }
}

/// One who watches.
struct Seat {
    watch: Arc<WatchSender>,
    knows: Knows,
}

/// What somebody who watches was told.
#[derive(Clone, Copy, PartialEq)]
enum Knows {
    /// Nothing, and what is being looked at may be older than what they know from elsewhere.
    Nothing,
    /// Nothing yet; the look that began since they came will tell.
    Soon,
    /// What there was at some time, and everything since.
    All,
}

impl Audience {
    fn new(source: String, inbox: Arc<Inbox>) -> Self {
        Self {
            source,
            inbox,
            seats: Vec::new(),
            leaving: FuturesUnordered::new(),
            outage: None,
            backoff: Backoff::new(),
        }
    }

    /// Waits until somebody came, for whom another look has to [begin](Self::begin_look), or left.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nobody is lost.
    pub async fn changed(&mut self) {
        tokio::select! {
            () = self.inbox.arrived.notified() => {}
            () = left(&mut self.leaving) => {}
        }
        self.seats.retain(|seat| !seat.watch.is_closed());
    }

    /// Says that the source is looked at from here on, for all who have come.
    pub fn begin_look(&mut self) -> Look {
        self.let_in();
        for seat in self.seats.iter_mut().filter(|seat| seat.knows == Knows::Nothing) {
            seat.knows = Knows::Soon;
        }
        Look { is_awaited: self.seats.iter().any(|seat| seat.knows == Knows::Soon) }
    }

    /// Tells those who waited for the look what there is, from which they follow what happens; the
    /// others have to know it already.
    pub fn admit(&mut self, _: Look, reset: impl Fn(&Scope) -> Update) {
        self.tell(reset, |knows| knows == Knows::Soon);
    }

    /// Tells those who waited for the look that it failed, and that they have to wait for another; the
    /// others are told nothing.
    pub fn put_off(&mut self, _: Look, error: &Error) {
        let stale = Outage::new(error).stale();
        for seat in self.seats.iter_mut().filter(|seat| seat.knows == Knows::Soon) {
            seat.watch.send(&stale);
            seat.knows = Knows::Nothing;
        }
    }

    /// Whether nobody watches any more. If so [`Source::follow`] has to end: whoever comes later starts
    /// another task.
    #[must_use = "the task has to end if it is so"]
    pub fn is_over(&self) -> bool {
        self.seats.is_empty() && self.inbox.close_if_empty()
    }

    /// Tells everybody who knows what there was.
    pub fn send(&self, updates: &[Update]) {
        for seat in self.seats.iter().filter(|seat| seat.knows == Knows::All) {
            for update in updates {
                seat.watch.send(update);
            }
        }
    }

    /// Tells everybody what there is, from which they follow what happens, and ends the outage. Who
    /// came since the look [began](Self::begin_look) waits for the next.
    pub fn reset(&mut self, _: Look, reset: impl Fn(&Scope) -> Update) {
        self.backoff.found();
        if self.outage.take().is_some() {
            tracing::debug!(source = self.source, "what feeds watches is followed again");
        }
        self.tell(reset, |knows| knows != Knows::Nothing);
    }

    /// Tells everybody that the source is lost, once per outage; for outages that do not end
    /// [`Source::follow`], as those are told.
    pub fn lose(&mut self, error: &Error) {
        self.backoff.lost();
        if self.outage.is_some() {
            return;
        }
        let outage = Outage::new(error);
        // Whoever watches is told, and it is theirs to make something of it.
        tracing::debug!(source = self.source, cause = outage.cause, "what feeds watches is lost");
        for seat in &self.seats {
            seat.watch.send(&outage.stale());
        }
        self.outage = Some(outage);
    }

    /// Whether the source is lost.
    pub fn is_lost(&self) -> bool {
        self.outage.is_some()
    }

    /// How long to wait before the source is tried again, by its [`Backoff`].
    fn pause(&self) -> Duration {
        self.backoff.pause()
    }

    /// Does some work to its end; `None` when nobody watches any more. Who comes meanwhile is told of
    /// the outage, if there is one, and waits for the next look.
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
            self.let_in();
            if self.is_over() {
                return None;
            }
        }
    }

    /// Lets in who came; in an outage they are told of it.
    fn let_in(&mut self) {
        let stale = self.outage.as_ref().map(Outage::stale);
        for watch in self.inbox.take().into_iter().map(Arc::new) {
            if let Some(stale) = &stale {
                watch.send(stale);
            }
            let left = watch.clone();
            self.leaving.push(Box::pin(async move { left.closed().await }));
            self.seats.push(Seat { watch, knows: Knows::Nothing });
        }
    }

    fn tell(&mut self, reset: impl Fn(&Scope) -> Update, is_meant: impl Fn(Knows) -> bool) {
        for seat in self.seats.iter_mut().filter(|seat| is_meant(seat.knows)) {
            seat.watch.send(&reset(seat.watch.scope()));
            seat.knows = Knows::All;
        }
    }
}

impl fmt::Debug for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audience")
            .field("source", &self.source)
            .field("watches", &self.seats.len())
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
    fn new(error: &Error) -> Self {
        Self { since: SystemTime::now(), cause: error.chain() }
    }

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
    use crate::{EmptyReason, Node, Registration, Watch};
    use std::collections::VecDeque;
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

    /// What never changes, once it was lost as often as said.
    #[derive(Default)]
    struct Fixed {
        losses: VecDeque<Loss>,
    }

    enum Loss {
        Error,
        Panic,
        /// It is found when told.
        Until(Arc<Notify>),
    }

    impl Fixed {
        fn after(losses: impl IntoIterator<Item = Loss>) -> Self {
            Self { losses: losses.into_iter().collect() }
        }
    }

    #[async_trait]
    impl Source for Fixed {
        fn name(&self) -> String {
            "nothing".into()
        }

        async fn follow(&mut self, look: Look, audience: &mut Audience) -> Option<Error> {
            match self.losses.pop_front() {
                Some(Loss::Error) => return Some(lost()),
                Some(Loss::Panic) => panic!("as the test wants it"),
                Some(Loss::Until(found)) => {
                    audience.lose(&lost());
                    audience.meanwhile(found.notified()).await?;
                }
                None => {}
            }
            audience.reset(look, nothing);
            while !audience.is_over() {
                audience.changed().await;
                let look = audience.begin_look();
                audience.admit(look, nothing);
            }
            None
        }
    }

    /// All watches share one task, which ends with the last of them; the next starts another.
    #[tokio::test(start_paused = true)]
    async fn one_task_while_anybody_watches() {
        let feeder = Feeder::new();
        for _ in 0..2 {
            let open = || {
                let (sender, watch) = Watch::channel(Scope::All);
                feeder.attach(sender, Fixed::default);
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
        feeder.attach(sender, Fixed::default);
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
        let losses = [Loss::Error, Loss::Until(over.clone())];
        feeder.attach(sender, || Fixed::after(losses));
        assert!(matches!(early.next().await, Some(Update::Stale { .. })));
        let (sender, mut late) = Watch::channel(Scope::All);
        feeder.attach(sender, Fixed::default);
        assert!(matches!(late.next().await, Some(Update::Stale { .. })));
        over.notify_one();
        for watch in [&mut early, &mut late] {
            assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
        }
    }

    /// Who comes while the source is looked at is told nothing of what is seen then, and waits for the
    /// next look, also after an outage.
    #[test]
    fn who_comes_during_a_look_waits_for_the_next() {
        let inbox = Arc::<Inbox>::default();
        let mut audience = Audience::new("nothing".into(), inbox.clone());
        let come = || {
            let (sender, watch) = Watch::channel(Scope::All);
            inbox.lock().arrivals.push(sender);
            watch
        };
        let heard = |watch: &mut Watch| watch.next().now_or_never().flatten();
        let put = Update::Put(Arc::new(Registration::new("s", "1.0.0", Node::new("a", "h:1"))));
        let mut first = come();
        let look = audience.begin_look();
        assert!(look.is_awaited());
        let mut second = come();
        audience.reset(look, nothing);
        assert_eq!(heard(&mut first), Some(nothing(&Scope::All)));
        let look = audience.begin_look();
        assert!(look.is_awaited());
        let mut third = come();
        audience.admit(look, nothing);
        audience.send(std::slice::from_ref(&put));
        assert_eq!(heard(&mut first), Some(put));
        assert!(matches!(heard(&mut second), Some(Update::Reset { .. })));
        assert_eq!(heard(&mut third), None);
        audience.lose(&lost());
        let look = audience.begin_look();
        assert!(look.is_awaited());
        let mut fourth = come();
        audience.let_in();
        for watch in [&mut first, &mut second, &mut third, &mut fourth] {
            assert!(matches!(heard(watch), Some(Update::Stale { .. })));
        }
        audience.reset(look, nothing);
        for watch in [&mut first, &mut second, &mut third] {
            assert_eq!(heard(watch), Some(nothing(&Scope::All)));
        }
        assert_eq!(heard(&mut fourth), None);
        let look = audience.begin_look();
        assert!(look.is_awaited());
        audience.admit(look, nothing);
        assert_eq!(heard(&mut fourth), Some(nothing(&Scope::All)));
        assert!(!audience.begin_look().is_awaited());
    }

    /// A source that panics is lost like another, each time: those who watch are told, and fed again.
    #[tokio::test(start_paused = true)]
    async fn a_panic_is_an_outage() {
        let feeder = Feeder::new();
        let (sender, mut watch) = Watch::channel(Scope::All);
        feeder.attach(sender, || Fixed::after([Loss::Panic, Loss::Error, Loss::Panic]));
        let told = tokio::time::timeout(MAX_PAUSE, watch.next()).await.unwrap();
        assert!(matches!(&told, Some(Update::Stale { cause, .. }) if cause.contains("panicked")));
        assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
    }

    /// Pauses grow while the source is lost again and again, and are short again once it held.
    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_shrink() {
        let mut audience = Audience::new("nothing".into(), Arc::default());
        let mut longest = Duration::ZERO;
        for _ in 0..100 {
            audience.lose(&lost());
            longest = longest.max(audience.pause());
            assert!(audience.pause() <= MAX_PAUSE);
            let look = audience.begin_look();
            audience.reset(look, nothing);
        }
        assert!(longest > MAX_PAUSE / 2, "{longest:?}");
        tokio::time::advance(3 * MAX_PAUSE).await;
        audience.lose(&lost());
        assert!(audience.pause() <= MIN_PAUSE);
    }
}
