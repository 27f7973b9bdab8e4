//! Whether a failed attempt is repeated.

use std::convert::Infallible;
use std::time::Duration;

use tokio::time::Instant;

use crate::{Budget, Invalid, Tried};

/// What a failed attempt means for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// The request never left: refused connection, queue closed before it was written.
    NotSent,
    /// The server says it did not execute it: draining, or expired in its queue.
    Refused,
    /// Refused because the server has too much to do already.
    Overloaded,
    /// It may have been executed: the connection broke after it was written.
    MaybeExecuted,
    /// It was executed, or is wrong: the answer is an error and would be again.
    Executed,
    /// Nothing was sent, and again it would not be: the deadline has passed, or the call is spared
    /// the service. It tells nothing about the node it was meant for.
    Unsent,
}

impl Class {
    /// Whether a repetition is free of budget: no server has done anything for the call, nor has too
    /// much to do.
    pub fn is_free(self) -> bool {
        matches!(self, Self::NotSent | Self::Refused)
    }
}

/// An error that knows its [`Class`].
pub trait Classify {
    /// What it means for the next attempt.
    fn class(&self) -> Class;

    /// Whether the caller's deadline ended the attempt, and not what the node did. Says little of
    /// the node when little time was left to it. Default `false`.
    fn is_late(&self) -> bool {
        false
    }

    /// Whether the attempt ended in this process, for a reason of its own, before the node heard of
    /// it: that says nothing about the node or its service. Default: whether it is
    /// [unsent](Class::Unsent).
    fn is_local(&self) -> bool {
        self.class() == Class::Unsent
    }

    /// After how long the node wants to be asked again. It counts with what was
    /// [refused](Class::Refused), or is [too much](Class::Overloaded), and only this call heeds it:
    /// other nodes are asked at once, and that one then, if there is no other and it is no longer than
    /// [`RetryPolicy::LONGEST_REST`]. Default: it does not say.
    fn retry_after(&self) -> Option<Duration> {
        None
    }
}

/// What cannot fail is of no class.
impl Classify for Infallible {
    fn class(&self) -> Class {
        match *self {}
    }
}

/// When to try again. See the fields; [`Default`] is what they name.
///
/// ```
/// # use micro_selector::RetryPolicy;
/// let policy = RetryPolicy::default().max_attempts(5);
/// assert_eq!(policy.max_attempts, 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// The most attempts of one call that reached a server, the first included:
    /// 1..=[`Tried::CAPACITY`], default 3. What could not be sent costs no server anything and is
    /// bounded by that capacity alone, so that a few dead nodes do not use a call's attempts up.
    /// With 1 nothing is tried again, not even that.
    ///
    /// Each attempt goes to another node. When none is left, and fewer attempts than this were made
    /// in all, those tried are tried again after a wait, if the last surely executed nothing, or those
    /// that [said when](Classify::retry_after), no sooner than then; what could not be sent, of a call that
    /// [waits for nodes](crate::CallOptions::wait_for_ready), until its deadline.
    pub max_attempts: u32,
    /// The longest wait before the first repetition of what may have been executed, or on a node
    /// tried before; it doubles with each. The wait is drawn between zero and it ("full jitter"). Default 25 ms.
    pub backoff: Duration,
    /// The longest such wait of all, [an hour](Self::LONGEST_BACKOFF) at most. Default 250 ms.
    pub max_backoff: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            backoff: Duration::from_millis(25),
            max_backoff: Duration::from_millis(250),
        }
    }
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try another node after this long.
    Retry(Duration),
    /// Report the failure.
    GiveUp,
}

impl RetryPolicy {
    /// A node that wants to be [asked again](Classify::retry_after) later than after this is not
    /// waited for, even by calls without a deadline: a minute.
    pub const LONGEST_REST: Duration = Duration::from_secs(60);
    /// The most that [`max_backoff`](field@Self::max_backoff) may be: an hour. More counts as that.
    pub const LONGEST_BACKOFF: Duration = Duration::from_secs(3_600);

    /// A policy that never tries again.
    pub fn none() -> Self {
        Self { max_attempts: 1, ..Self::default() }
    }

    /// Sets [`max_attempts`](field@Self::max_attempts).
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// Sets [`backoff`](field@Self::backoff).
    #[must_use]
    pub fn backoff(mut self, first: Duration) -> Self {
        self.backoff = first;
        self
    }

    /// Sets [`max_backoff`](field@Self::max_backoff).
    #[must_use]
    pub fn max_backoff(mut self, longest: Duration) -> Self {
        self.max_backoff = longest;
        self
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    ///
    /// For attempts and waits out of their range, and for a first wait that is longer than the
    /// longest.
    pub fn check(&self) -> Result<(), Invalid> {
        let most = Tried::CAPACITY as u32;
        if !(1..=most).contains(&self.max_attempts) {
            let expected = format!("1, which is never to try again, to {most}");
            return Err(Invalid::new("max_attempts", self.max_attempts.to_string(), expected));
        }
        if self.backoff > self.max_backoff {
            let expected = format!("at most max_backoff, which is {:?}", self.max_backoff);
            return Err(Invalid::new("backoff", format!("{:?}", self.backoff), expected));
        }
        if self.max_backoff > Self::LONGEST_BACKOFF {
            let expected = format!("at most {:?}", Self::LONGEST_BACKOFF);
            return Err(Invalid::new("max_backoff", format!("{:?}", self.max_backoff), expected));
        }
        Ok(())
    }

    /// Decides after a failure of `class`, when `attempts` have reached a server and `tried` nodes
    /// were tried in all.
    ///
    /// What the server is known not to have executed is repeated at once; only an overloaded one is
    /// spared by the budget. What may have been executed is repeated for idempotent calls alone.
    pub fn decide(
        &self,
        class: Class,
        attempts: u32,
        tried: usize,
        idempotent: bool,
        budget: &Budget,
        now: Instant,
    ) -> Decision {
        let used_up = tried >= Tried::CAPACITY || self.max_attempts <= 1;
        if used_up || (class != Class::NotSent && attempts >= self.max_attempts) {
            return Decision::GiveUp;
        }
        match class {
            Class::NotSent | Class::Refused => Decision::Retry(Duration::ZERO),
            Class::Overloaded if budget.withdraw(now) => Decision::Retry(Duration::ZERO),
            Class::MaybeExecuted if idempotent && budget.withdraw(now) => {
                Decision::Retry(self.wait_before(attempts))
            }
            _ => Decision::GiveUp,
        }
    }

    /// Whether the nodes that a call has tried are tried again, after a wait, when none is left:
    /// after what was surely not executed alone, and what was not sent at all and waits for a node as
    /// long as there is time.
    pub(crate) fn may_go_round(&self, class: Class, tried: u32, wait_for_ready: bool) -> bool {
        match class {
            Class::NotSent if wait_for_ready => self.max_attempts > 1,
            Class::NotSent | Class::Refused => tried < self.max_attempts,
            _ => false,
        }
    }

    /// The wait before the repetition after so many attempts.
    pub(crate) fn wait_before(&self, attempts: u32) -> Duration {
        let factor = 1u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
        let most = self.max_backoff.min(Self::LONGEST_BACKOFF);
        let longest = self.backoff.saturating_mul(factor).min(most);
        longest.mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of RESILIENCE: what is repeated, by class and idempotence.
    #[test]
    fn decides_by_class() {
        let now = Instant::now();
        let budget = Budget::new(0.0, 10, now);
        let policy = RetryPolicy::default();
        let retried = |class, idempotent| {
            matches!(policy.decide(class, 1, 1, idempotent, &budget, now), Decision::Retry(_))
        };
        for idempotent in [false, true] {
            assert!(retried(Class::NotSent, idempotent));
            assert!(retried(Class::Refused, idempotent));
            assert!(retried(Class::Overloaded, idempotent));
            assert!(!retried(Class::Executed, idempotent));
            assert!(!retried(Class::Unsent, idempotent));
        }
        assert!(retried(Class::MaybeExecuted, true));
        assert!(!retried(Class::MaybeExecuted, false));
    }

    /// With the budget spent, only what costs the servers nothing is repeated.
    #[test]
    fn the_budget_limits_what_costs() {
        let now = Instant::now();
        let budget = Budget::new(0.0, 0, now);
        let decide = |class| RetryPolicy::default().decide(class, 1, 1, true, &budget, now);
        assert_eq!(decide(Class::MaybeExecuted), Decision::GiveUp);
        assert_eq!(decide(Class::Overloaded), Decision::GiveUp);
        assert_eq!(decide(Class::NotSent), Decision::Retry(Duration::ZERO));
    }

    /// The last attempt is the last, whatever the class, and waits stay within their bounds.
    #[test]
    fn attempts_and_waits_are_bounded() {
        let now = Instant::now();
        let budget = Budget::new(1.0, 10, now);
        let policy = RetryPolicy::default().max_attempts(100);
        for attempts in 1..7 {
            match policy.decide(
                Class::MaybeExecuted,
                attempts,
                attempts as usize,
                true,
                &budget,
                now,
            ) {
                Decision::Retry(wait) => assert!(wait <= policy.max_backoff),
                Decision::GiveUp => panic!("gave up after {attempts}"),
            }
        }
        let decide = |policy: &RetryPolicy, class, attempts, tried| {
            policy.decide(class, attempts, tried, true, &budget, now)
        };
        let policy = RetryPolicy::default();
        assert_eq!(decide(&policy, Class::Refused, 3, 3), Decision::GiveUp);
        assert_eq!(decide(&policy, Class::NotSent, 0, 7), Decision::Retry(Duration::ZERO));
        assert_eq!(decide(&policy, Class::NotSent, 0, 8), Decision::GiveUp);
        assert_eq!(decide(&RetryPolicy::none(), Class::NotSent, 0, 1), Decision::GiveUp);
    }
}
