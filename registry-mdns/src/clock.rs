//! What time it is, by two clocks.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) now: Instant,
    /// Since 1970, by this host's clock.
    pub(crate) wall_ms: u64,
}

impl Clock {
    pub(crate) fn read() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Self { now: Instant::now(), wall_ms }
    }

    /// Whether nobody who turns every second had a turn in between: the process was stopped, or the
    /// host slept, in which only the wall clock goes on.
    pub(crate) fn is_long_after(self, last: Self) -> bool {
        let wall = Duration::from_millis(self.wall_ms.saturating_sub(last.wall_ms));
        self.now.duration_since(last.now).max(wall) > STOPPED
    }
}

/// Who did not get a turn for so long may not have heard of renewals.
const STOPPED: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that was stopped and a host that slept are noticed, by the clock that went on.
    #[test]
    fn stops_are_noticed() {
        let last = Clock { now: Instant::now(), wall_ms: 5_000 };
        let then = |now, wall_ms| Clock { now: last.now + now, wall_ms };
        let second = Duration::from_secs(1);
        assert!(!then(second, 6_000).is_long_after(last));
        assert!(!then(second, 1_000).is_long_after(last), "a wall clock may be set back");
        assert!(then(second * 4, 6_000).is_long_after(last));
        assert!(then(second, 9_000).is_long_after(last));
    }
}
