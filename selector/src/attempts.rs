//! What a call has tried, and what it does after a failure: the core of every loop of attempts.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Budget, CallOptions, Class, Classify, Decision, Tried};

/// What a call has done.
#[derive(Debug, Default)]
pub(crate) struct SoFar {
    /// The nodes it went to since it last went round.
    pub(crate) tried: Tried,
    /// The attempts it made.
    pub(crate) number: u32,
    /// Whether it may try the same nodes again.
    pub(crate) goes_round: bool,
    /// Those attempts that reached a server.
    reached: u32,
    /// The nodes that said when they want to be asked again.
    resting: Vec<(u64, Instant)>,
}

/// As good as never, and within what clocks can add.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// Callers that were told the same come back spread over this part of the time.
const SPREAD: f64 = 0.25;

impl SoFar {
    /// Notes when a node wants to be asked again, if it says so.
    pub(crate) fn told(&mut self, key: u64, error: &impl Classify) {
        if let Some(after) = told(error) {
            self.resting.push((key, Instant::now() + after));
        }
    }

    /// What to do after an attempt that failed so.
    pub(crate) fn decide(
        &mut self,
        class: Class,
        options: &CallOptions,
        budget: &Budget,
    ) -> Decision {
        let CallOptions { retry, idempotent, is_retry, wait_for_ready, .. } = options;
        self.number = self.number.saturating_add(1);
        self.reached += u32::from(class != Class::NotSent);
        let is_awaited = !self.resting.is_empty() && self.number < retry.max_attempts;
        self.goes_round = is_awaited || retry.may_go_round(class, self.number, *wait_for_ready);
        if *is_retry && !class.is_free() {
            return Decision::GiveUp;
        }
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

    /// The same where the next attempt goes to the same service as this one: every attempt counts,
    /// and every further one waits.
    pub(crate) fn decide_alone(
        &mut self,
        error: &impl Classify,
        options: &CallOptions,
        budget: &Budget,
    ) -> Decision {
        let CallOptions { retry, idempotent, .. } = options;
        self.number = self.number.saturating_add(1);
        if self.number >= retry.max_attempts {
            return Decision::GiveUp;
        }
        let (class, tried) = (error.class(), self.number as usize);
        match retry.decide(class, self.number, tried, *idempotent, budget, Instant::now()) {
            Decision::Retry(_) => Decision::Retry(match told(error) {
                Some(after) => spread(after),
                None => retry.wait_before(self.number),
            }),
            Decision::GiveUp => Decision::GiveUp,
        }
    }

    /// Goes round: to the node that wants to be asked again first, else to all. Returns how long to
    /// wait before that, unless the deadline passes before.
    pub(crate) fn begin_again(&mut self, options: &CallOptions) -> Option<Duration> {
        if let Some(first) = (0..self.resting.len()).min_by_key(|index| self.resting[*index].1) {
            let (key, at) = self.resting.swap_remove(first);
            let told = at.saturating_duration_since(Instant::now());
            self.tried.remove(key);
            return in_time(options, spread(told)).or_else(|| in_time(options, told));
        }
        self.tried = Tried::default();
        in_time(options, options.retry.wait_before(self.number))
    }
}

/// This wait, unless the deadline passes before.
pub(crate) fn in_time(options: &CallOptions, wait: Duration) -> Option<Duration> {
    options.deadline.is_none_or(|at| Instant::now() + wait < at).then_some(wait)
}

/// After how long a node that refused a call may have it.
fn told(error: &impl Classify) -> Option<Duration> {
    let may_come_back = matches!(error.class(), Class::Refused | Class::Overloaded);
    error.retry_after().filter(|_| may_come_back).map(|after| after.min(LONGEST))
}

fn spread(told: Duration) -> Duration {
    told.mul_f64(1.0 + SPREAD * fastrand::f64())
}
