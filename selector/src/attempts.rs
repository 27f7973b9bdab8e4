//! What a call has tried, and what it does after a failure: the core of every loop of attempts.

use std::time::Duration;

use tokio::time::Instant;

use crate::{Budget, CallOptions, Class, Classify, Decision, RetryPolicy, Tried};

/// What a call has done.
#[derive(Debug, Default)]
pub(crate) struct SoFar {
    /// The nodes it went to since it last went round.
    pub(crate) tried: Tried,
    /// The attempts it made.
    pub(crate) number: u32,
    /// Those attempts that reached a server.
    reached: u32,
    /// Whether it may try all nodes again.
    may_go_round: bool,
    /// Whether it may try those again that said when.
    may_come_back: bool,
    /// The nodes that said when they want to be asked again.
    resting: Vec<(u64, Instant)>,
}

/// As good as never, and within what clocks can add.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Callers that were told the same come back spread over this part of the time.
const SPREAD: f64 = 0.25;

impl SoFar {
    /// Notes when a node wants to be asked again, if it says so.
    pub(crate) fn told(&mut self, key: u64, error: &impl Classify, now: Instant) {
        self.resting.retain(|(resting, _)| *resting != key);
        if let Some(after) = told(error) {
            self.resting.push((key, now + after.min(NEVER)));
        }
    }

    /// What to do after an attempt that failed so; `is_left` says whether there is a node that was not
    /// tried.
    pub(crate) fn decide(
        &mut self,
        class: Class,
        options: &CallOptions,
        is_left: bool,
        budget: &Budget,
        now: Instant,
    ) -> Decision {
        let CallOptions { retry, idempotent, is_retry, wait_for_ready, .. } = options;
        self.number = self.number.saturating_add(1);
        self.reached += u32::from(class != Class::NotSent);
        // Who waits for nodes has all attempts left when one is there.
        let made = if *wait_for_ready { self.reached } else { self.number };
        self.may_go_round = retry.may_go_round(class, made, *wait_for_ready);
        self.may_come_back = made < retry.max_attempts;
        let goes_nowhere = !is_left && self.comes_back(options, now).is_none();
        if !class.is_free() && (*is_retry || goes_nowhere) {
            return Decision::GiveUp;
        }
        match retry.decide(class, self.reached, made as usize, *idempotent, budget, now) {
            // So many nodes, and none could be reached: more of them at once would be a flood.
            Decision::Retry(_) if class == Class::NotSent && self.tried.is_full() => {
                let wait = retry.wait_before(self.number);
                self.forget_tried(now + wait);
                Decision::Retry(wait)
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
        now: Instant,
    ) -> Decision {
        let CallOptions { retry, idempotent, .. } = options;
        self.number = self.number.saturating_add(1);
        let after = told(error);
        if self.number >= retry.max_attempts || after.is_some_and(|after| after > LONGEST_REST) {
            return Decision::GiveUp;
        }
        match retry.decide(
            error.class(),
            self.number,
            self.number as usize,
            *idempotent,
            budget,
            now,
        ) {
            Decision::Retry(_) => {
                Decision::Retry(after.map_or_else(|| retry.wait_before(self.number), spread))
            }
            Decision::GiveUp => Decision::GiveUp,
        }
    }

    /// Goes round when no node is left: to all but those that rest, or to the one that wants to be
    /// asked again first, whichever is sooner. Returns how long to wait before that; `None` when the
    /// deadline passes before, or there is nobody to go to. Of as many calls in a row, one returns
    /// that.
    pub(crate) fn begin_again(&mut self, options: &CallOptions, now: Instant) -> Option<Duration> {
        let wait = options.retry.wait_before(self.number);
        let others = self.may_go_round && self.tried.keys().any(|key| !self.rests(key, now + wait));
        match self.comes_back(options, now) {
            Some((index, at)) if !others || at < now + wait => {
                let (key, _) = self.resting.swap_remove(index);
                self.tried.remove(key);
                let told = at.saturating_duration_since(now);
                Some(in_time(options, spread(told), now).unwrap_or(told))
            }
            _ if others => {
                self.forget_tried(now + wait);
                in_time(options, wait, now)
            }
            _ => None,
        }
    }

    /// The node that wants to be asked again first, if that is soon enough, and when.
    fn comes_back(&self, options: &CallOptions, now: Instant) -> Option<(usize, Instant)> {
        let first = self.resting.iter().map(|(_, at)| *at).enumerate().min_by_key(|(_, at)| *at);
        let (index, at) = first.filter(|_| self.may_come_back)?;
        let told = at.saturating_duration_since(now);
        let is_soon = told <= LONGEST_REST && in_time(options, told, now).is_some();
        is_soon.then_some((index, at))
    }

    /// All nodes may be gone to again but those that rest then.
    fn forget_tried(&mut self, then: Instant) {
        self.tried = Tried::default();
        self.resting.retain(|(_, at)| *at > then);
        self.resting.iter().for_each(|(key, _)| self.tried.insert(*key));
    }

    fn rests(&self, key: u64, then: Instant) -> bool {
        self.resting.iter().any(|(resting, at)| *resting == key && *at > then)
    }
}

/// This wait, unless the deadline passes before.
pub(crate) fn in_time(options: &CallOptions, wait: Duration, now: Instant) -> Option<Duration> {
    let left = options.deadline.map(|at| at.saturating_duration_since(now));
    left.is_none_or(|left| wait < left).then_some(wait)
}

/// After how long a node that refused a call may have it.
fn told(error: &impl Classify) -> Option<Duration> {
    let may_come_back = matches!(error.class(), Class::Refused | Class::Overloaded);
    error.retry_after().filter(|_| may_come_back)
}

fn spread(told: Duration) -> Duration {
    told.mul_f64(1.0 + SPREAD * fastrand::f64())
}

const LONGEST_REST: Duration = RetryPolicy::LONGEST_REST;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A failure that says when to come back, perhaps.
    struct Told(Class, Option<Duration>);

    impl Classify for Told {
        fn class(&self) -> Class {
            self.0
        }

        fn retry_after(&self) -> Option<Duration> {
            self.1
        }
    }

    const CLASSES: [Class; 6] = [
        Class::NotSent,
        Class::Refused,
        Class::Overloaded,
        Class::MaybeExecuted,
        Class::Executed,
        Class::Unsent,
    ];

    proptest! {
        /// Whatever a few nodes say, and however long each attempt takes: no node is asked before it
        /// wants to be, all waits end before the deadline, no more attempts reach a server than the
        /// policy says, and the call ends.
        #[test]
        fn calls_keep_to_what_they_are_told(
            nodes in 1u64..5,
            says in proptest::collection::vec((0usize..6, 0u64..4_000, 0u64..300), 400),
            max_attempts in 1u32..=8,
            deadline in proptest::option::of(0u64..10_000),
            wait_for_ready in any::<bool>(),
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut options = CallOptions { wait_for_ready, idempotent: true, ..CallOptions::default() };
            options.retry.max_attempts = max_attempts;
            options.deadline = deadline.map(|millis| start + Duration::from_millis(millis));
            let (budget, mut so_far) = (Budget::new(1.0, 100, start), SoFar::default());
            let mut due = vec![start; nodes as usize + 1];
            let (mut reached, mut over) = (0, false);
            for (class, after, took) in says {
                let left = |tried: &Tried| (1..=nodes).find(|key| !tried.contains(*key));
                let mut rounds = 0;
                let key = loop {
                    if let Some(key) = left(&so_far.tried) {
                        break key;
                    }
                    let Some(wait) = so_far.begin_again(&options, now) else { break 0 };
                    now += wait;
                    prop_assert!(options.deadline.is_none_or(|at| now < at));
                    rounds += 1;
                    prop_assert!(rounds < 10);
                };
                if key == 0 {
                    over = true;
                    break;
                }
                prop_assert!(now >= due[key as usize], "asked too soon");
                so_far.tried.insert(key);
                now += Duration::from_millis(took);
                let error = Told(CLASSES[class], (after > 1_000).then(|| Duration::from_millis(after)));
                due[key as usize] = now + told(&error).unwrap_or_default();
                so_far.told(key, &error, now);
                reached += u32::from(error.0 != Class::NotSent);
                let is_left = left(&so_far.tried).is_some();
                match so_far.decide(error.0, &options, is_left, &budget, now) {
                    Decision::Retry(wait) if in_time(&options, wait, now).is_some() => now += wait,
                    _ => {
                        over = true;
                        break;
                    }
                }
            }
            prop_assert!(reached <= max_attempts, "{reached}");
            prop_assert!(over || wait_for_ready);
        }
    }
}
