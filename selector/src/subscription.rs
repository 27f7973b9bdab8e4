//! One service as its callers see it: a snapshot to pick from, and the loop of attempts.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use micro_registry::Registration;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::snapshot::Known;
use crate::{
    Avoid, Budget, Class, Classify, Decision, Filter, Picked, Picker, RetryPolicy, Snapshot,
    Throttle, Tried,
};

/// One service as its callers see it.
///
/// Comes from [`Selector::subscribe`](crate::Selector::subscribe), whose task keeps it current; it
/// is watched for as long as somebody holds it or uses it.
pub struct Subscription<T> {
    service: Arc<str>,
    snapshot: ArcSwap<Snapshot<T>>,
    changed: Notify,
    picker: Picker,
    avoid: Arc<Avoid<T>>,
    budget: Budget,
    throttle: Option<Throttle>,
    used: AtomicBool,
}

/// How one call is made.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CallOptions {
    /// When to stop waiting, for nodes and between attempts; the attempts keep it themselves.
    pub deadline: Option<Instant>,
    /// Whether it may be repeated after it may have been executed. Default `false`.
    pub idempotent: bool,
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

    /// Tries it on the node `target` is kept for; `number` counts from 0.
    fn make(
        &mut self,
        target: &T,
        number: u32,
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
}

/// Why a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The registry answered that nobody is registered.
    NotFound,
    /// Nodes are registered, but none of them wants traffic.
    NoneServing {
        /// How many there are.
        registered: usize,
    },
    /// Nodes are serving, but the filters leave none of them.
    NoneMatching {
        /// How many are serving.
        serving: usize,
    },
    /// The deadline passed before there was a node to try.
    Unresolved {
        /// Whether the registry has answered; if so, nobody was there who wanted traffic.
        answered: bool,
    },
    /// Nothing was sent: the service refuses so much as overloaded that this call is spared it.
    Throttled,
    /// Attempts were made, and the last ended the call; at least one, in their order. Of more than
    /// 64 the last ones.
    Attempts(Vec<Attempted<E>>),
}

/// One failed attempt.
#[derive(Debug)]
pub struct Attempted<E> {
    /// The node it was made on.
    pub node: Arc<Registration>,
    /// What came back.
    pub error: E,
}

impl<E> fmt::Display for Failure<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("no node is registered"),
            Self::NoneServing { registered } => {
                write!(f, "none of {registered} registered nodes is serving")
            }
            Self::NoneMatching { serving } => {
                write!(
                    f,
                    "none of {serving} serving nodes has the version, zone and labels asked for"
                )
            }
            Self::Unresolved { answered: true } => {
                f.write_str("no node was serving before the deadline")
            }
            Self::Unresolved { answered: false } => {
                f.write_str("the registry did not answer before the deadline")
            }
            Self::Throttled => f.write_str("not sent, since the service is overloaded"),
            Self::Attempts(attempts) => write!(f, "failed after {} attempts", attempts.len()),
        }
    }
}

impl<E: StdError + 'static> StdError for Failure<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Attempts(attempts) => attempts.last().map(|last| &last.error as _),
            _ => None,
        }
    }
}

/// So many failed attempts a failure tells of.
const REPORTED: usize = 64;

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
            changed: Notify::new(),
            picker,
            avoid,
            budget,
            throttle,
            used: AtomicBool::new(true),
        }
    }

    /// The service's name.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The nodes as they are known now.
    pub fn snapshot(&self) -> Arc<Snapshot<T>> {
        self.snapshot.load_full()
    }

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
        self.budget.deposit();
        let (mut so_far, mut failed) = (SoFar::default(), Vec::new());
        loop {
            let now = Instant::now();
            if self.throttle.as_ref().is_some_and(|throttle| !throttle.admit(now)) {
                return Err(ended(failed, Failure::Throttled));
            }
            let picked = match self.next(options, &mut so_far, now).await {
                Ok(picked) => picked,
                Err(nothing) => return Err(ended(failed, nothing.into())),
            };
            let (member, number) = (picked.member(), so_far.number);
            let error = match attempt.make(member.target(), number).await {
                Ok(response) => {
                    let node = member.registration().clone();
                    picked.finish(Ok(()), Instant::now());
                    return Ok(Answered { response, node, attempts: number.saturating_add(1) });
                }
                Err(error) => error,
            };
            let (class, is_late) = (error.class(), error.is_late());
            if failed.len() >= REPORTED {
                failed.remove(0);
            }
            failed.push(Attempted { node: member.registration().clone(), error });
            self.tell(picked, class, is_late);
            match so_far.decide(class, options, &self.budget) {
                Decision::Retry(wait) if rest(options, wait).await => {}
                _ => return Err(Failure::Attempts(failed)),
            }
        }
    }

    /// The node for the next attempt: one not tried yet, or when none is left perhaps, after a wait,
    /// one that was.
    async fn next(
        &self,
        options: &CallOptions,
        so_far: &mut SoFar,
        now: Instant,
    ) -> Result<Picked<T>, NothingToPick> {
        let mut picked = self.pick(options, &so_far.tried, now).await;
        if picked.is_err() && so_far.goes_round && so_far.begin_again(options).await {
            picked = self.pick(options, &so_far.tried, Instant::now()).await;
        }
        picked.inspect(|picked| so_far.tried.insert(picked.member().stats().key()))
    }

    /// Says how a failed attempt ended.
    fn tell(&self, picked: Picked<T>, class: Class, is_late: bool) {
        let now = Instant::now();
        if is_late {
            picked.expire(class, now);
        } else {
            picked.finish(Err(class), now);
        }
        if let (Class::Overloaded, Some(throttle)) = (class, &self.throttle) {
            throttle.overloaded(now);
        }
    }

    /// A node not tried yet, as soon as the snapshot has any at all.
    async fn pick(
        &self,
        options: &CallOptions,
        tried: &Tried,
        now: Instant,
    ) -> Result<Picked<T>, NothingToPick> {
        // Loaded for the moment only: one held across an await would make later loads slow.
        let known = {
            let snapshot = self.snapshot.load();
            self.pick_from(&snapshot, options, tried, now).ok_or_else(|| snapshot.nothing())
        };
        match known {
            Err(_) if tried.is_empty() => {}
            known => return known,
        }
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
            {
                let snapshot = self.snapshot.load();
                let (untried, now) = (Tried::default(), Instant::now());
                if let Some(picked) = self.pick_from(&snapshot, options, &untried, now) {
                    return Ok(picked);
                }
                if snapshot.is_answered() && !options.wait_for_ready {
                    return Err(snapshot.nothing());
                }
            }
            changed.await;
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

/// What a call has done.
#[derive(Default)]
struct SoFar {
    /// Since it last went round.
    tried: Tried,
    /// Whether it may try the same nodes again.
    goes_round: bool,
    /// The attempts it made.
    number: u32,
    /// Those that reached a server.
    reached: u32,
}

impl SoFar {
    /// What to do after an attempt that failed so.
    fn decide(&mut self, class: Class, options: &CallOptions, budget: &Budget) -> Decision {
        let CallOptions { retry, idempotent, wait_for_ready, .. } = options;
        self.number = self.number.saturating_add(1);
        self.reached += u32::from(class != Class::NotSent);
        self.goes_round = retry.may_go_round(class, self.number, *wait_for_ready);
        let waits = *wait_for_ready && class == Class::NotSent;
        let tried = if waits { 0 } else { self.number as usize };
        let decided = retry.decide(class, self.reached, tried, *idempotent, budget, Instant::now());
        match decided {
            // So many nodes, and none could be reached: more of them at once would be a flood.
            Decision::Retry(_) if waits && self.tried.is_full() => {
                self.tried = Tried::default();
                Decision::Retry(retry.wait_before(self.number))
            }
            decided => decided,
        }
    }

    /// Goes round after a wait, unless the deadline passes before.
    async fn begin_again(&mut self, options: &CallOptions) -> bool {
        self.tried = Tried::default();
        rest(options, options.retry.wait_before(self.number)).await
    }
}

/// Waits, unless the deadline passes before.
async fn rest(options: &CallOptions, wait: Duration) -> bool {
    let is_in_time = options.deadline.is_none_or(|at| Instant::now() + wait < at);
    if is_in_time && !wait.is_zero() {
        tokio::time::sleep(wait).await;
    }
    is_in_time
}

/// What the attempts say that were made, or else why there was none.
fn ended<E>(failed: Vec<Attempted<E>>, otherwise: Failure<E>) -> Failure<E> {
    if failed.is_empty() { otherwise } else { Failure::Attempts(failed) }
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

impl<T> Snapshot<T> {
    /// Why nothing of it can be picked.
    fn nothing(&self) -> NothingToPick {
        match (self.registered(), self.serving()) {
            (0, _) => NothingToPick::NotFound,
            (registered, 0) => NothingToPick::NoneServing(registered),
            (_, serving) => NothingToPick::NoneMatching(serving),
        }
    }
}

#[derive(Debug)]
enum NothingToPick {
    NotFound,
    NoneServing(usize),
    NoneMatching(usize),
    Unresolved { answered: bool },
}

impl<E> From<NothingToPick> for Failure<E> {
    fn from(nothing: NothingToPick) -> Self {
        match nothing {
            NothingToPick::NotFound => Self::NotFound,
            NothingToPick::NoneServing(registered) => Self::NoneServing { registered },
            NothingToPick::NoneMatching(serving) => Self::NoneMatching { serving },
            NothingToPick::Unresolved { answered } => Self::Unresolved { answered },
        }
    }
}
