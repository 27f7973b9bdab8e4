//! One service as its callers see it: a snapshot to pick from, and the loop of attempts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::stream::Stream;
use micro_registry::Registration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tower::discover;

use crate::attempts::{SoFar, in_time};
use crate::discovery::Discovery;
use crate::failure::NothingToPick;
use crate::snapshot::Known;
use crate::stats::Counters;
use crate::{
    Attempted, Avoid, Budget, BudgetPolicy, Class, Classify, Decision, Failure, Filter, Member,
    Picked, Picker, RetryPolicy, Snapshot, Stats, StrategyKind, Throttle, Tried,
};

/// One service as its callers see it.
///
/// Comes from [`Selector::subscribe`](crate::Selector::subscribe), whose task keeps it current; it
/// is watched for as long as somebody holds it or uses it. Or it is made of a stream of changes with
/// [`discover`](Self::discover), and kept current by those who call.
pub struct Subscription<T> {
    service: Arc<str>,
    snapshot: ArcSwap<Snapshot<T>>,
    changed: Arc<Notify>,
    /// What names the nodes, if those who call ask it themselves.
    discovery: Option<Discovery<T>>,
    picker: Picker,
    avoid: Arc<Avoid<T>>,
    budget: Arc<Budget>,
    throttle: Option<Throttle>,
    zone: Option<String>,
    /// That of all its calls, by which the snapshot is made.
    filter: Filter,
    counters: Counters,
    used: AtomicBool,
}

/// How one call is made.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CallOptions {
    /// When the call begins, for callers who have just read the clock: it is not read again for the
    /// first attempt. Default: when it is made.
    pub now: Option<Instant>,
    /// When to stop waiting, for nodes and between attempts; the attempts keep it themselves.
    pub deadline: Option<Instant>,
    /// Whether it may be repeated after it may have been executed. Default `false`.
    pub idempotent: bool,
    /// Whether it is made on behalf of a call that is a repetition itself. It pays nothing into the
    /// budget then, and is repeated only if that is [free](Class::is_free): whoever repeats the call
    /// behind it asks again anyway, and repetitions of repetitions multiply. Default `false`.
    pub is_retry: bool,
    /// Whether to wait for a node when the registry knows of none, or none can be reached, rather
    /// than fail. Default `false`.
    pub wait_for_ready: bool,
    /// When to try again.
    pub retry: RetryPolicy,
    /// Which nodes come into question. Default: all.
    pub filter: Option<Arc<Filter>>,
    /// What `consistent-hash` goes by: the [hash](crate::hash) of a user's or an object's name,
    /// say. Default: none, so that any node will do.
    pub key: Option<u64>,
    /// Which method is called: the [hash](crate::hash) of its name. Methods are known by it as long
    /// or short ones, so that a long one does not make its node look slow. Default: none, as if all
    /// were alike.
    pub method: Option<u64>,
}

/// How a call is tried on one node.
pub trait Attempt<T>: Send {
    /// What a node answers.
    type Response: Send;
    /// What goes wrong.
    type Error: Classify + Send;

    /// Tries it on the node `target` is kept for; `number` counts from 0, and `now` is when that node
    /// was picked.
    fn make(
        &mut self,
        target: &T,
        number: u32,
        now: Instant,
    ) -> impl Future<Output = Result<Self::Response, Self::Error>> + Send;
}

/// An answer, and where it came from.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answered<R> {
    /// What came back.
    pub response: R,
    /// The node that gave it.
    pub node: Arc<Registration>,
    /// How many attempts were made, this one among them.
    pub attempts: u32,
    /// When it came.
    pub at: Instant,
}

/// So many failed attempts a failure tells of.
const REPORTED: usize = 64;

impl<T: Clone + Send + 'static> Subscription<T> {
    /// The nodes that a stream of changes names, picked from by `strategy`; `T` is the service, or
    /// whatever else, that is kept for each.
    ///
    /// What [`tower::discover`] takes is taken here. Nobody but those who call polls the stream:
    /// no task is started, and nobody is held up while another polls. What is inserted again takes
    /// the place of the old. A stream that fails, ends or panics takes no node out: what is known
    /// stays. One that fails eight times in a row without a pause is not polled any more.
    ///
    /// Keys are told apart by what `Display` makes of them, which is the id of the node. Nodes of a
    /// stream all weigh the same, and have no zone and no labels; who has those implements
    /// [`Registry`](micro_registry::Registry).
    pub fn discover<K, E>(
        changes: impl Stream<Item = Result<discover::Change<K, T>, E>> + Send + 'static,
        strategy: &StrategyKind,
    ) -> Arc<Self>
    where
        K: fmt::Display,
        E: fmt::Display,
    {
        let now = Instant::now();
        let picker = Picker::new(strategy, now);
        let changed = Arc::<Notify>::default();
        let discovery = Some(Discovery::new(changes, &picker, changed.clone()));
        let BudgetPolicy { share, per_second, .. } = BudgetPolicy::default();
        let budget = Budget::new(share, per_second, now);
        let subscription = Self::new("".into(), picker, Arc::new(|_| false), budget, None);
        Arc::new(Self { changed, discovery, ..subscription })
    }
}

impl<T> Subscription<T> {
    pub(crate) fn new(
        service: Arc<str>,
        picker: Picker,
        avoid: Arc<Avoid<T>>,
        budget: Budget,
        throttle: Option<Throttle>,
    ) -> Self {
        Self {
            service,
            snapshot: ArcSwap::from_pointee(Snapshot::new(Vec::new(), Known::default(), |_| false)),
            changed: Arc::default(),
            discovery: None,
            picker,
            avoid,
            budget: Arc::new(budget),
            throttle,
            zone: None,
            filter: Filter::default(),
            counters: Counters::default(),
            used: AtomicBool::new(true),
        }
    }

    /// The same for a caller in this zone, who calls nothing but what the filter allows.
    pub(crate) fn within(self, zone: Option<String>, filter: Filter) -> Self {
        Self { zone, filter, ..self }
    }

    /// The service's name; empty for nodes of a stream of changes.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The nodes as they are known now.
    pub fn snapshot(&self) -> Arc<Snapshot<T>> {
        self.snapshot.load_full()
    }

    /// What has happened to its calls so far.
    pub fn stats(&self) -> Stats {
        let (over_budget, ejections) = (self.budget.refused(), self.picker.peers().ejections());
        let throttled = self.throttle.as_ref().map_or(0, Throttle::ended);
        Stats { over_budget, throttled, ejections, ..self.counters.read() }
    }

    /// What its retries are taken from, for others that are to share it: a
    /// [`RetryLayer`](crate::layer::RetryLayer) for example.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// How many retries its calls have left at present, besides those that cost no server anything.
    pub fn retries_left(&self) -> u32 {
        self.budget.left(Instant::now())
    }

    pub(crate) fn publish(&self, snapshot: Snapshot<T>) {
        self.snapshot.store(Arc::new(snapshot));
        self.changed.notify_waiters();
    }

    /// Whether it was used since this was last asked.
    pub(crate) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// Writes only when there is something to write: the line stays shared between callers.
    pub(crate) fn touch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }
}

impl<T: Clone> Subscription<T> {
    /// Makes a call: picks a node, lets `attempt` try it, and repeats on nodes not tried yet as
    /// [`RetryPolicy::decide`] says. When none is left it may try the same again, after a wait: see
    /// [`RetryPolicy::max_attempts`](field@RetryPolicy::max_attempts).
    ///
    /// While the registry has not answered it waits; see [`CallOptions`].
    ///
    /// # Errors
    ///
    /// Every [`Failure`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempt under way. The call has paid into the retry budget by
    /// then, whatever becomes of it.
    pub async fn call<A: Attempt<T>>(
        &self,
        options: &CallOptions,
        attempt: &mut A,
    ) -> Result<Answered<A::Response>, Failure<A::Error>> {
        self.touch();
        if !options.is_retry {
            self.budget.deposit();
        }
        // On the heap, where few calls need it: what a future holds, every call pays for.
        let mut past: Option<Box<Past<A::Error>>> = None;
        loop {
            let so_far = past.as_deref_mut().map(|past| &mut past.so_far);
            let (picked, now) = match self.next(options, so_far).await {
                Ok(picked) => picked,
                Err(nothing) => return Err(ended(past, nothing.into())),
            };
            if self.throttle.as_ref().is_some_and(|throttle| !throttle.admit(now)) {
                return Err(ended(past, Failure::Throttled));
            }
            let member = picked.member();
            let number = past.as_ref().map_or(0, |past| past.so_far.number);
            self.count(member, number > 0);
            let error = match attempt.make(member.target(), number, now).await {
                Ok(response) => {
                    let (node, at) = (member.registration().clone(), Instant::now());
                    picked.finish(Ok(()), at);
                    let attempts = number.saturating_add(1);
                    return Ok(Answered { response, node, attempts, at });
                }
                Err(error) => error,
            };
            let (class, is_local, now) = (error.class(), error.is_local(), Instant::now());
            let Past { so_far, failed } = &mut **past.get_or_insert_default();
            so_far.tried.insert(member.stats().key());
            so_far.told(member.stats().key(), &error, now);
            if failed.len() >= REPORTED {
                failed.remove(0);
            }
            let node = member.registration().clone();
            tell(picked, &error, now);
            failed.push(Attempted { node, error });
            if let (Class::Overloaded, false, Some(throttle)) = (class, is_local, &self.throttle) {
                throttle.overloaded(now);
            }
            let is_left = class.is_free() || self.is_left(options, &so_far.tried);
            match so_far.decide(class, options, is_left, &self.budget, now) {
                Decision::Retry(wait) if rest(options, wait, now).await => {}
                _ => return Err(Failure::Attempts(std::mem::take(failed))),
            }
        }
    }

    /// Counts an attempt on a node.
    #[inline]
    pub(crate) fn count(&self, member: &Member<T>, is_retry: bool) {
        let is_near = self.zone.is_some() && self.zone == member.registration().node.zone;
        self.counters.attempt(is_near, is_retry);
    }

    /// The node for the next attempt, and when it was picked: one not tried yet, as soon as the
    /// snapshot has any at all, or when none is left perhaps, after a wait, one that was.
    async fn next(
        &self,
        options: &CallOptions,
        mut so_far: Option<&mut SoFar>,
    ) -> Result<(Picked<T>, Instant), NothingToPick> {
        let mut told = options.now.filter(|_| so_far.is_none());
        loop {
            let now = told.take().unwrap_or_else(Instant::now);
            let tried = so_far.as_ref().map_or(&Tried::NONE, |so_far| &so_far.tried);
            let (picked, now) = match self.pick_known(options, tried, now) {
                Some(known) => (known, now),
                // Boxed, as is every wait here: calls that need none do not carry room for it.
                None => (Box::pin(self.appear_in_time(options)).await, Instant::now()),
            };
            let nothing = match picked {
                Ok(picked) => return Ok((picked, now)),
                Err(nothing) => nothing,
            };
            let wait = so_far.as_mut().and_then(|so_far| so_far.begin_again(options, now));
            let wait = wait.ok_or(nothing)?;
            Box::pin(sleep(wait)).await;
        }
    }

    /// Whether a call that tried those could go to another node.
    pub(crate) fn is_left(&self, options: &CallOptions, tried: &Tried) -> bool {
        let allows = |member: &_| options.filter.as_ref().is_none_or(|f| f.allows(member));
        let is_new = |member: &Member<T>| !tried.contains(member.stats().key());
        let snapshot = self.snapshot.load();
        snapshot.members().iter().any(|member| is_new(member) && allows(member))
    }

    /// Says how an attempt that is the only one ended.
    pub(crate) fn conclude<R, E: Classify>(
        &self,
        picked: Picked<T>,
        outcome: Result<R, E>,
    ) -> Result<R, Failure<E>> {
        let error = match outcome {
            Ok(response) => {
                picked.finish(Ok(()), Instant::now());
                return Ok(response);
            }
            Err(error) => error,
        };
        let node = picked.member().registration().clone();
        tell(picked, &error, Instant::now());
        Err(Failure::Attempts(vec![Attempted { node, error }]))
    }

    /// A node not tried yet, as long as there is nothing to wait for.
    pub(crate) fn pick_known(
        &self,
        options: &CallOptions,
        tried: &Tried,
        now: Instant,
    ) -> Option<Result<Picked<T>, NothingToPick>> {
        self.discover_more();
        // Loaded for the moment only: one held across an await would make later loads slow.
        let snapshot = self.snapshot.load();
        match self.pick_from(&snapshot, options, tried, now) {
            Some(picked) => Some(Ok(picked)),
            // With nobody left to be excluded it is as if the call had tried none.
            None if tried.keys().next().is_none() => None,
            None if options.wait_for_ready && snapshot.serving() == 0 => None,
            None => Some(Err(self.nothing(&snapshot, options))),
        }
    }

    /// Waits for a node until the deadline.
    pub(crate) async fn appear_in_time(
        &self,
        options: &CallOptions,
    ) -> Result<Picked<T>, NothingToPick> {
        let appear = self.appear(options);
        let Some(at) = options.deadline else { return appear.await };
        match tokio::time::timeout_at(at, appear).await {
            Ok(picked) => picked,
            Err(_) => {
                let answered = self.snapshot.load().is_answered();
                Err(NothingToPick::Unresolved { answered })
            }
        }
    }

    /// Waits for the registry's answer and, if asked to, for a node.
    async fn appear(&self, options: &CallOptions) -> Result<Picked<T>, NothingToPick> {
        loop {
            let changed = self.changed.notified();
            self.discover_more();
            {
                let snapshot = self.snapshot.load();
                let (untried, now) = (Tried::default(), Instant::now());
                if let Some(picked) = self.pick_from(&snapshot, options, &untried, now) {
                    return Ok(picked);
                }
                if snapshot.is_answered() && !options.wait_for_ready {
                    return Err(self.nothing(&snapshot, options));
                }
            }
            changed.await;
            // It may be this very caller that has more to take in, whom others must not wait for.
            tokio::task::yield_now().await;
        }
    }

    fn pick_from(
        &self,
        snapshot: &Snapshot<T>,
        options: &CallOptions,
        tried: &Tried,
        now: Instant,
    ) -> Option<Picked<T>> {
        self.picker.pick(snapshot, options, tried, &*self.avoid, now)
    }

    /// Why nothing of a snapshot can be picked.
    fn nothing(&self, snapshot: &Snapshot<T>, options: &CallOptions) -> NothingToPick {
        match (snapshot.registered(), snapshot.serving()) {
            (0, _) => NothingToPick::NotFound,
            (registered, 0) => NothingToPick::NoneServing { registered },
            (_, serving) => {
                let all = [Some(&self.filter), options.filter.as_deref()];
                let says = |filter: &&Filter| **filter != Filter::default();
                let filters = all.into_iter().flatten().filter(says).cloned().collect();
                NothingToPick::NoneMatching { serving, service: self.service.clone(), filters }
            }
        }
    }

    /// Hears what the source has to say, if it is one that is heard by those who call.
    #[inline]
    fn discover_more(&self) {
        if let Some(discovery) = &self.discovery {
            discovery.poll(|snapshot| self.publish(snapshot));
        }
    }
}

/// Says how a failed attempt ended.
fn tell<T>(picked: Picked<T>, error: &impl Classify, now: Instant) {
    if error.is_local() {
        picked.cancel(now);
    } else if error.is_late() {
        picked.expire(error.class(), now);
    } else {
        picked.finish(Err(error.class()), now);
    }
}

/// Waits, unless the deadline passes before.
async fn rest(options: &CallOptions, wait: Duration, now: Instant) -> bool {
    let wait = in_time(options, wait, now);
    if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
        Box::pin(sleep(wait)).await;
    }
    wait.is_some()
}

/// What a call whose first attempt failed has done.
struct Past<E> {
    so_far: SoFar,
    failed: Vec<Attempted<E>>,
}

impl<E> Default for Past<E> {
    fn default() -> Self {
        Self { so_far: SoFar::default(), failed: Vec::new() }
    }
}

/// What the attempts say that were made, or else why there was none.
fn ended<E>(past: Option<Box<Past<E>>>, otherwise: Failure<E>) -> Failure<E> {
    past.map_or(otherwise, |past| Failure::Attempts(past.failed))
}

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot.load();
        f.debug_struct("Subscription")
            .field("service", &self.service)
            .field("nodes", &snapshot.members().len())
            .field("stale", &snapshot.is_stale())
            .field("strategy", self.picker.strategy())
            .finish()
    }
}
