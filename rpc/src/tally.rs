//! How the calls of one method ended, and how long they took.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::Code;

/// Counts the calls of one method by how they ended, with how long they took.
///
/// Noting a call takes two relaxed additions and no lock; the first one with a code allocates room
/// for all that end with it.
pub struct Tally {
    /// Success, then each code by its number.
    ends: [OnceLock<Box<Histogram>>; ENDS],
}

/// How long calls took that ended alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Durations {
    /// How many took at most as long as the bound of the same index in [`Tally::BOUNDS`] and longer
    /// than the one before; the last had no bound.
    pub buckets: [u64; Tally::BOUNDS.len() + 1],
    /// All of their times together.
    pub sum: Duration,
}

impl Tally {
    /// Up to which times calls are counted together: those that OpenTelemetry's conventions on
    /// `rpc.server.call.duration` advise, and five shorter ones, since the quickest of those is
    /// longer than most calls here take.
    pub const BOUNDS: [Duration; 19] = [
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(75),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_millis(750),
        Duration::from_secs(1),
        Duration::from_millis(2_500),
        Duration::from_secs(5),
        Duration::from_millis(7_500),
        Duration::from_secs(10),
    ];

    /// Creates a tally without calls.
    #[must_use]
    pub const fn new() -> Self {
        Self { ends: [const { OnceLock::new() }; ENDS] }
    }

    /// Notes a call that succeeded, or ended with this code, after so long.
    #[inline]
    pub fn note(&self, end: Result<(), Code>, took: Duration) {
        let number = end.map_or_else(|code| code as usize, |()| 0);
        self.ends[number].get_or_init(Box::default).note(took);
    }

    /// Returns how long the calls took that ended in each way, success first and no way twice; ways
    /// in which none has ended are left out.
    ///
    /// Read while calls go on, sum and buckets need not match each other to the last call.
    pub fn read(&self) -> impl Iterator<Item = (Result<(), Code>, Durations)> + '_ {
        self.ends.iter().zip(0u8..).filter_map(|(end, number)| {
            let end = end.get()?.read();
            Some((Code::from_u8(number).map_or(Ok(()), Err), end))
        })
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.read().map(|(end, took)| (end, took.count()))).finish()
    }
}

impl Durations {
    /// Returns how many calls they are of.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Success and the sixteen codes.
const ENDS: usize = 17;

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; Tally::BOUNDS.len() + 1],
    sum_nanos: AtomicU64,
}

impl Histogram {
    #[inline]
    fn note(&self, took: Duration) {
        let bucket = Tally::BOUNDS.iter().position(|bound| took <= *bound);
        self.buckets[bucket.unwrap_or(Tally::BOUNDS.len())].fetch_add(1, Relaxed);
        // Five hundred years of calls, after which it begins again, as counters may.
        self.sum_nanos.fetch_add(took.as_nanos() as u64, Relaxed);
    }

    fn read(&self) -> Durations {
        Durations {
            buckets: std::array::from_fn(|bucket| self.buckets[bucket].load(Relaxed)),
            sum: Duration::from_nanos(self.sum_nanos.load(Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each call is counted once, under how it ended, in the bucket whose bound it does not exceed.
    #[test]
    fn calls_are_counted_where_they_belong() {
        let tally = Tally::new();
        assert_eq!(tally.read().count(), 0);
        tally.note(Ok(()), Duration::ZERO);
        tally.note(Ok(()), Tally::BOUNDS[0]);
        tally.note(Ok(()), Tally::BOUNDS[0] + Duration::from_nanos(1));
        tally.note(Err(Code::Unauthenticated), Duration::from_secs(60));
        let read: Vec<_> = tally.read().collect();
        let [(Ok(()), good), (Err(Code::Unauthenticated), bad)] = &read[..] else {
            panic!("{read:?}")
        };
        assert_eq!((good.buckets[0], good.buckets[1], good.count()), (2, 1, 3));
        assert_eq!(good.sum, 2 * Tally::BOUNDS[0] + Duration::from_nanos(1));
        assert_eq!((bad.buckets[Tally::BOUNDS.len()], bad.count()), (1, 1));
    }

    /// Every code has its own count, and bounds grow.
    #[test]
    fn every_code_has_a_place() {
        let tally = Tally::new();
        for code in (1..=16).filter_map(Code::from_u8) {
            tally.note(Err(code), Duration::ZERO);
        }
        assert_eq!(tally.read().count(), 16);
        assert!(tally.read().all(|(end, took)| end.is_err() && took.count() == 1));
        assert!(Tally::BOUNDS.is_sorted_by(|a, b| a < b));
    }
}
