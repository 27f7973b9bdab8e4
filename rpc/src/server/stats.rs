//! What is counted about a server, for those who watch it from outside.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::call::Outcome;
use super::router::Route;
use crate::{Code, Durations, Name, Status, Tally};

/// What a server does now, and what has happened to its calls.
///
/// Read while calls go on, the figures need not match each other to the last call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStats {
    /// Whether it has announced its end.
    pub is_draining: bool,
    /// Connections that have a place.
    pub connections: usize,
    /// Calls that wait in a handler.
    pub running: usize,
    /// How many of these there may be at present: see [`Limits::max_running`](crate::Limits::max_running).
    pub limit: usize,
    /// Calls that wait for their turn to run.
    pub queued: usize,
    /// Calls that were refused because there was too much to do, or waited for too long; only grows.
    pub shed: u64,
    /// The calls of each method, in the order of their names, then those that led to none.
    pub methods: Vec<MethodStats>,
}

/// What has happened to the calls of a method.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MethodStats {
    /// `None` for the calls that led to no method: unknown ones, and those that were refused before
    /// anybody looked which they were for, as over `micro/1` a server with too much to do refuses
    /// them. Over HTTP, and of those that waited their turn in vain, it is known.
    pub contract: Option<Name>,
    /// `None` for all that a [fallback](crate::Router::fallback) served as well.
    pub method: Option<Name>,
    /// How long those took that succeeded, or ended with a code, from when the server had read them,
    /// or their head if it refused to read the rest.
    /// Those that their callers gave up ended as *cancelled*.
    pub ends: Vec<(Result<(), Code>, Durations)>,
}

impl MethodStats {
    pub(super) fn of(route: &Route) -> Self {
        let (contract, method) = (Some(route.contract.clone()), route.method.clone());
        Self { contract, method, ends: route.tally.read().collect() }
    }

    /// Of calls that led to no method.
    pub(super) fn astray(tally: &Tally) -> Self {
        Self { contract: None, method: None, ends: tally.read().collect() }
    }
}

/// A call whose end is noted: when it has one, or as *cancelled* when it is dropped before.
pub(super) struct Noted {
    pub(super) route: Arc<Route>,
    since: Instant,
    has_ended: bool,
}

impl Noted {
    /// Of a call that the server has read at this time.
    pub(super) fn new(route: &Arc<Route>, since: Instant) -> Self {
        Self { route: Arc::clone(route), since, has_ended: false }
    }

    /// How long it took until now.
    pub(super) fn took(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.since)
    }

    /// It ended after so long.
    pub(super) fn ended(&mut self, outcome: &Outcome, took: Duration) {
        self.has_ended = true;
        let end = outcome.as_ref().map(|_| ()).map_err(Status::code);
        self.route.tally.note(end, took);
    }

    /// It ended then.
    pub(super) fn ended_at(&mut self, outcome: &Outcome, now: Instant) {
        self.ended(outcome, self.took(now));
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if !self.has_ended {
            self.route.tally.note(Err(Code::Cancelled), self.since.elapsed());
        }
    }
}
