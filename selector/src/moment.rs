//! Time on the path of a pick: an instant as one number, so that it fits an atomic.

use std::time::Duration;

use tokio::time::Instant;

/// Nanoseconds since the instant a picker was made. Clocks that jump saturate at both ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    pub(crate) const START: Self = Self(0);

    #[inline]
    pub(crate) fn of(start: Instant, now: Instant) -> Self {
        Self::START.after(now.saturating_duration_since(start))
    }

    pub(crate) const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    #[inline]
    pub(crate) const fn nanos(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn after(self, wait: Duration) -> Self {
        let seconds = wait.as_secs().saturating_mul(1_000_000_000);
        Self(self.0.saturating_add(seconds).saturating_add(u64::from(wait.subsec_nanos())))
    }

    /// Nanoseconds from then until now; none when then is still to come.
    #[inline]
    pub(crate) const fn since(self, then: Self) -> u64 {
        self.0.saturating_sub(then.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clocks that run backwards or far ahead stay within what a number holds.
    #[test]
    fn jumps_saturate() {
        let start = Instant::now();
        let later = start + Duration::from_secs(1);
        assert_eq!(Moment::of(later, start), Moment::START);
        assert_eq!(Moment::of(start, later).nanos(), 1_000_000_000);
        assert_eq!(Moment::START.after(Duration::MAX).nanos(), u64::MAX);
        assert_eq!(Moment::START.since(Moment::of(start, later)), 0);
    }
}
