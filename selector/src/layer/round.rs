//! What retries and the balancer behind them tell each other.
//!
//! Both go over services and requests of any type, with any other layers between them, so it is
//! neither in the request nor in the error: it is with the task, for as long as an attempt runs.

use std::cell::RefCell;
use std::pin::Pin;

use tokio::task::futures::TaskLocalFuture;

use crate::Tried;

tokio::task_local! {
    /// `None` behind a balancer: what is called there is no attempt of this call.
    static ROUND: RefCell<Option<Round>>;
}

/// The attempt that a task makes.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// The nodes that the call must not go to; the balancer adds the one that it picks.
    pub(super) tried: Tried,
    /// That one.
    pub(super) node: Option<u64>,
    /// Whether the call made an attempt before this one.
    is_retry: bool,
    /// Besides that one and those there is no other.
    pub(super) is_last: bool,
    /// There was none but those, where the attempt went last.
    pub(super) is_over: bool,
}

/// An attempt that a balancer behind it keeps from those nodes.
pub(super) type Attempt<F> = TaskLocalFuture<RefCell<Option<Round>>, F>;

/// Makes an attempt of `future`, of a call that tried these.
pub(super) fn attempt<F: Future>(tried: Tried, is_retry: bool, future: F) -> Attempt<F> {
    ROUND.scope(RefCell::new(Some(Round { tried, is_retry, ..Round::default() })), future)
}

/// What became of the attempt, once it is over.
pub(super) fn ended<F: Future>(attempt: Pin<&mut Attempt<F>>) -> Round {
    attempt.take_value().and_then(RefCell::into_inner).unwrap_or_default()
}

/// The nodes that this call tried; none when it is made without retries.
pub(super) fn tried() -> Tried {
    with(|round| round.tried.clone()).unwrap_or_default()
}

/// Whether the attempt repeats another.
pub(super) fn is_retry() -> bool {
    with(|round| round.is_retry).unwrap_or_default()
}

/// The attempt goes to this node; `is_left` says whether the call could go to another after those.
pub(super) fn goes_to(key: u64, is_left: impl FnOnce(&Tried) -> bool) {
    with(|round| {
        round.tried.insert(key);
        (round.node, round.is_over) = (Some(key), false);
        round.is_last = !is_left(&round.tried);
    });
}

/// The attempt goes nowhere: all nodes were tried.
pub(super) fn is_over() {
    with(|round| round.is_over = true);
}

/// Whether an attempt runs here that no balancer has picked a node for.
pub(super) fn is_alone() -> bool {
    with(|_| ()).is_some()
}

/// Runs what lies behind the balancer.
pub(super) fn behind<R>(poll: impl FnOnce() -> R) -> R {
    match is_alone() {
        true => ROUND.sync_scope(RefCell::new(None), poll),
        false => poll(),
    }
}

/// Without retries nobody wants to know.
fn with<R>(tell: impl FnOnce(&mut Round) -> R) -> Option<R> {
    ROUND.try_with(|round| round.borrow_mut().as_mut().map(tell)).ok().flatten()
}
