//! What a call has tried, and what it does after a failure: the core of every loop of attempts.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Budget, CallOptions, Class, Decision, Tried};

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
}

impl SoFar {
    /// What to do after an attempt that failed so.
    pub(crate) fn decide(
        &mut self,
        class: Class,
        options: &CallOptions,
        budget: &Budget,
    ) -> Decision {
        let CallOptions { retry, idempotent, wait_for_ready, .. } = options;
        self.count(class);
        self.goes_round = retry.may_go_round(class, self.number, *wait_for_ready);
        let waits = *wait_for_ready && class == Class::NotSent;
        let tried = if waits { 0 } else { self.number as usize };
        let decided = retry.decide(class, self.reached, tried, *idempotent, budget, Instant::now());
        match decided {
            // So many nodes, and none could be reached: more of them at once would be a flood.
            Decision::Retry(_) if waits && self.tried.is_full() => {
                Decision::Retry(self.begin_again(options))
            }
            decided => decided,
        }
    }

    /// The same where the next attempt goes to the same service as this one: every attempt counts,
    /// and every further one waits.
    pub(crate) fn decide_alone(
        &mut self,
        class: Class,
        options: &CallOptions,
        budget: &Budget,
    ) -> Decision {
        let CallOptions { retry, idempotent, .. } = options;
        self.count(class);
        if self.number >= retry.max_attempts {
            return Decision::GiveUp;
        }
        let tried = self.number as usize;
        match retry.decide(class, self.number, tried, *idempotent, budget, Instant::now()) {
            Decision::Retry(_) => Decision::Retry(retry.wait_before(self.number)),
            Decision::GiveUp => Decision::GiveUp,
        }
    }

    /// Forgets what was tried, and says how long to wait before it is tried again.
    pub(crate) fn begin_again(&mut self, options: &CallOptions) -> Duration {
        self.tried = Tried::default();
        options.retry.wait_before(self.number)
    }

    fn count(&mut self, class: Class) {
        self.number = self.number.saturating_add(1);
        self.reached += u32::from(class != Class::NotSent);
    }
}
