//! The clock leases are counted by: since boot, the same for every process of a host, and not
//! moved by whoever sets the time. It stands still while the host is suspended, as its processes
//! do: waking up expires nobody who had no chance to renew.

use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

/// The time since boot.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// A time since boot as a file's modification time can carry it.
pub(crate) fn to_modified(since_boot: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH + since_boot
}

/// The reverse; zero for what is before 1970.
pub(crate) fn from_modified(modified: SystemTime) -> Duration {
    modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
