//! When to connect again: a plain structure over events and the time.

use std::time::Duration;

use tokio::time::Instant;

/// What the connections of one channel learned about their node.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    retry_at: Option<Instant>,
    reason: String,
    draining_until: Option<Instant>,
}

/// Why no connection is attempted now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BackingOff {
    pub(super) reason: String,
    pub(super) next_try: Duration,
}

const FIRST: Duration = Duration::from_millis(100);
const FACTOR: f64 = 1.6;
const LONGEST: Duration = Duration::from_secs(10);
/// Two delays of the same length spread over this share of it, so that clients do not come at once.
const JITTER: f64 = 0.2;
/// How long a go-away is believed before a call may see for itself.
const DRAIN_HOLD: Duration = Duration::from_secs(1);

impl Health {
    /// Whether a connection may be attempted.
    pub(super) fn may_connect(&self, now: Instant) -> Result<(), BackingOff> {
        match self.retry_at {
            Some(at) if at > now => {
                Err(BackingOff { reason: self.reason.clone(), next_try: at - now })
            }
            _ => Ok(()),
        }
    }

    /// A connection could not be made, or was of no use.
    pub(super) fn failed(&mut self, now: Instant, reason: String) {
        self.retry_at = Some(now + delay(self.failures));
        self.failures = self.failures.saturating_add(1);
        self.reason = reason;
    }

    /// The node answered something: it is up.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// The node said go-away, `used` telling whether it accepted a call on that connection before.
    pub(super) fn told_to_go(&mut self, now: Instant, used: bool) {
        if !used {
            self.failed(now, "the node is draining".into());
        }
        let hold = now + DRAIN_HOLD;
        self.draining_until = Some(self.retry_at.map_or(hold, |retry| retry.max(hold)));
    }

    /// Whether the node said, not long ago, that it wants no new calls.
    pub(super) fn is_draining(&self, now: Instant) -> bool {
        self.draining_until.is_some_and(|until| until > now)
    }
}

/// 100 ms × 1.6ⁿ, at most 10 s, ± 20 %.
fn delay(failures: u32) -> Duration {
    let exponent = i32::try_from(failures.min(20)).unwrap_or(20);
    let base = FIRST.mul_f64(FACTOR.powi(exponent)).min(LONGEST);
    base.mul_f64(1.0 + JITTER * (2.0 * fastrand::f64() - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Delays grow from 100 ms to 10 s, within their jitter, and never further.
    #[test]
    fn delays_grow_and_end() {
        for (failures, ms) in
            [(0, 100.0), (1, 160.0), (5, 1048.6), (10, 10_000.0), (u32::MAX, 10_000.0)]
        {
            let delay = delay(failures).as_secs_f64() * 1000.0;
            assert!((0.79 * ms..1.21 * ms).contains(&delay), "{failures}: {delay}");
        }
    }

    /// After a failure no connection is attempted for a while; an answer ends that.
    #[test]
    fn backs_off_until_answered() {
        let now = Instant::now();
        let mut health = Health::default();
        assert_eq!(health.may_connect(now), Ok(()));
        health.failed(now, "refused".into());
        assert_eq!(health.may_connect(now).unwrap_err().reason, "refused");
        assert_eq!(health.may_connect(now + Duration::from_millis(121)), Ok(()));
        health.answered();
        assert_eq!(health.may_connect(now), Ok(()));
    }

    /// A go-away on a used connection lets a new one be tried at once; on an unused one it does not.
    #[test]
    fn go_away() {
        let now = Instant::now();
        let mut health = Health::default();
        health.told_to_go(now, true);
        assert!(health.is_draining(now) && health.may_connect(now).is_ok());
        health.told_to_go(now, false);
        assert!(health.may_connect(now).is_err());
        assert!(!health.is_draining(now + 2 * DRAIN_HOLD));
    }
}
