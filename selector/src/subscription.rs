//! One service as its callers see it: a snapshot to pick from, and the loop of attempts.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use micro_registry::Registration;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::{Budget, Classify, Decision, RetryPolicy, Snapshot, Strategy, Tried};

/// One service as its callers see it.
///
/// Comes from [`Selector::subscribe`](crate::Selector::subscribe), whose task keeps it current; it
/// is watched for as long as somebody holds it or uses it.
pub struct Subscription<T> {
    service: Arc<str>,
    snapshot: ArcSwap<Snapshot<T>>,
    changed: Notify,
    strategy: Box<dyn Strategy>,
    budget: Budget,
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
    /// Whether to wait for a node when the registry knows of none, rather than fail. Default
    /// `false`.
    pub wait_for_ready: bool,
    /// When to try again.
    pub retry: RetryPolicy,
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
    /// The deadline passed before there was a node to try.
    Unresolved {
        /// Whether the registry has answered; if so, nobody was there who wanted traffic.
        answered: bool,
    },
    /// Attempts were made, and the last ended the call; at least one, in their order.
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
            Self::Unresolved { answered: true } => {
                f.write_str("no node was serving before the deadline")
            }
            Self::Unresolved { answered: false } => {
                f.write_str("the registry did not answer before the deadline")
            }
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

impl<T> Subscription<T> {
    pub(crate) fn new(service: Arc<str>, strategy: Box<dyn Strategy>, budget: Budget) -> Self {
        Self {
            service,
            snapshot: ArcSwap::from_pointee(Snapshot::new(Vec::new(), 0, false, false)),
            changed: Notify::new(),
            strategy,
            budget,
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
    /// [`RetryPolicy::decide`] says. `attempt` gets what is kept for the node and the number of the
    /// attempt, from 0.
    ///
    /// While the registry has not answered it waits; see [`CallOptions`].
    ///
    /// # Errors
    ///
    /// Every [`Failure`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the attempt under way and counts nothing.
    pub async fn call<R, E, F, Fut>(
        &self,
        options: &CallOptions,
        mut attempt: F,
    ) -> Result<R, Failure<E>>
    where
        T: Clone,
        E: Classify,
        F: FnMut(T, u32) -> Fut,
        Fut: Future<Output = Result<R, E>>,
    {
        self.touch();
        self.budget.deposit();
        let mut tried = Tried::default();
        let mut failed = Vec::new();
        loop {
            let snapshot = match self.current(options).await {
                Ok(snapshot) => snapshot,
                Err(failure) => return Err(failed_or(failed, failure)),
            };
            let Some(picked) = snapshot.pick(&*self.strategy, &tried) else {
                let registered = snapshot.registered();
                return Err(failed_or(failed, Failure::NoneServing { registered }));
            };
            let member = picked.member;
            tried.insert(member.stats().key());
            let number = failed.len() as u32;
            let error = match attempt(member.target().clone(), number).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let class = error.class();
            failed.push(Attempted { node: member.registration().clone(), error });
            drop(picked);
            let now = Instant::now();
            match options.retry.decide(class, number + 1, options.idempotent, &self.budget, now) {
                Decision::Retry(wait) if options.deadline.is_none_or(|at| now + wait < at) => {
                    if !wait.is_zero() {
                        tokio::time::sleep(wait).await;
                    }
                }
                _ => return Err(Failure::Attempts(failed)),
            }
        }
    }

    /// The snapshot, once there is something in it to pick from.
    async fn current(
        &self,
        options: &CallOptions,
    ) -> Result<Guard<Arc<Snapshot<T>>>, NothingToPick> {
        let snapshot = self.snapshot.load();
        if !snapshot.members().is_empty() {
            return Ok(snapshot);
        }
        drop(snapshot);
        let settled = self.settled(options.wait_for_ready);
        match options.deadline {
            None => settled.await,
            Some(at) => match tokio::time::timeout_at(at, settled).await {
                Ok(settled) => settled,
                Err(_) => {
                    let answered = self.snapshot.load().is_answered();
                    Err(NothingToPick::Unresolved { answered })
                }
            },
        }
    }

    async fn settled(
        &self,
        wait_for_ready: bool,
    ) -> Result<Guard<Arc<Snapshot<T>>>, NothingToPick> {
        loop {
            let changed = self.changed.notified();
            let snapshot = self.snapshot.load();
            if !snapshot.members().is_empty() {
                return Ok(snapshot);
            }
            if snapshot.is_answered() && !wait_for_ready {
                return Err(match snapshot.registered() {
                    0 => NothingToPick::NotFound,
                    registered => NothingToPick::NoneServing(registered),
                });
            }
            drop(snapshot);
            changed.await;
        }
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

impl<T> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot.load();
        f.debug_struct("Subscription")
            .field("service", &self.service)
            .field("nodes", &snapshot.members().len())
            .field("stale", &snapshot.is_stale())
            .field("strategy", &self.strategy)
            .finish()
    }
}

#[derive(Debug)]
enum NothingToPick {
    NotFound,
    NoneServing(usize),
    Unresolved { answered: bool },
}

impl<E> From<NothingToPick> for Failure<E> {
    fn from(nothing: NothingToPick) -> Self {
        match nothing {
            NothingToPick::NotFound => Self::NotFound,
            NothingToPick::NoneServing(registered) => Self::NoneServing { registered },
            NothingToPick::Unresolved { answered } => Self::Unresolved { answered },
        }
    }
}

/// What attempts said is worth more to the caller than that there was no further node.
fn failed_or<E>(failed: Vec<Attempted<E>>, otherwise: impl Into<Failure<E>>) -> Failure<E> {
    if failed.is_empty() { otherwise.into() } else { Failure::Attempts(failed) }
}
