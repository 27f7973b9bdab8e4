//! One clock for all processes of a host.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment, the same for all processes of the host.
pub type Nanos = u64;

/// A second.
pub const S: Nanos = 1_000_000_000;

/// The time now. `std::time::Instant` reads the same clock, but does not travel between processes.
///
/// # Panics
///
/// If the system has no monotonic clock.
pub fn now() -> Nanos {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("there is a monotonic clock");
    nanos(now.into())
}

/// A duration on this clock; beyond some 500 years it counts as that.
pub fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
