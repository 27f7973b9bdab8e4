//! How long the calls of one kind take, now and without load.

use std::iter::Sum;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::limiter::End;

/// How long the calls of one kind take, in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// Calls that ended since the last [`take`](Self::take), and how long they took together.
    count: AtomicU64,
    spent: AtomicU64,
    /// A call without load, 0 while it is not known. Only `take` writes it.
    unloaded: AtomicU64,
}

/// The calls that ended in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ended {
    pub(crate) count: u64,
    /// How long they took together.
    pub(crate) spent: f64,
    /// How long they would have taken without load.
    pub(crate) unloaded: f64,
}

impl Ended {
    pub(crate) fn mean(&self) -> f64 {
        self.spent / self.count.max(1) as f64
    }
}

impl Sum for Ended {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            count: sum.count + one.count,
            spent: sum.spent + one.spent,
            unloaded: sum.unloaded + one.unloaded,
        })
    }
}

/// What is shorter is not worth shedding anything for, however much longer than usual it is.
const FLOOR: f64 = 10_000_000.0;
/// What took longer took as good as for ever, and no sum of such times overflows.
const LONGEST: Duration = Duration::from_secs(3600);
/// One time is worth a quarter of the estimate.
const WEIGHT: f64 = 0.25;

impl Latency {
    /// Notes a call. One that was given up would have taken longer, so it counts if it was slow
    /// already.
    pub(crate) fn note(&self, took: Duration, end: End) {
        let took = nanos(took.min(LONGEST));
        if end == End::GivenUp && took <= self.unloaded.load(Ordering::Relaxed) {
            return;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.spent.fetch_add(took, Ordering::Relaxed);
    }

    /// Returns how many calls have ended since the last [`take`](Self::take).
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes what was noted. While it was `calm` nothing waited for anything else, so it says how
    /// long calls take without load; otherwise only shorter calls do.
    pub(crate) fn take(&self, calm: bool) -> Ended {
        let count = self.count.swap(0, Ordering::Relaxed);
        // A call that is noted between these two is in one of them only, which is as good as noise.
        let spent = self.spent.swap(0, Ordering::Relaxed) as f64;
        if count == 0 {
            return Ended::default();
        }
        let known = self.unloaded.load(Ordering::Relaxed) as f64;
        let unloaded = learn(known, spent / count as f64, calm);
        self.unloaded.store(unloaded as u64, Ordering::Relaxed);
        Ended { count, spent, unloaded: count as f64 * unloaded.max(FLOOR) }
    }
}

fn learn(known: f64, mean: f64, calm: bool) -> f64 {
    match known {
        0.0 => mean.max(1.0),
        _ if calm || mean < known => (known + WEIGHT * (mean - known)).max(1.0),
        _ => known,
    }
}

/// Five hundred years of them fit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn take(latency: &Latency, took: Duration, calm: bool) -> f64 {
        (0..10).for_each(|_| latency.note(took, End::Ended));
        let ended = latency.take(calm);
        ended.spent / ended.unloaded
    }

    /// Latency under load is compared with that of calm times, however long the load lasts.
    #[test]
    fn remembers_calm_times() {
        let latency = Latency::default();
        assert_eq!(take(&latency, 100 * MS, true), 1.0);
        for _ in 0..100 {
            assert_eq!(take(&latency, 700 * MS, false), 7.0);
        }
    }

    /// A method that is slower for good is soon known to be so, once little runs at once.
    #[test]
    fn learns_in_calm_times() {
        let latency = Latency::default();
        take(&latency, 100 * MS, true);
        let ratios: Vec<_> = (0..10).map(|_| take(&latency, 700 * MS, true)).collect();
        assert!(ratios[0] > 2.0 && ratios[9] < 1.1, "{ratios:?}");
    }

    /// Calls of a few milliseconds are never slow; there is nothing to divide by without any.
    #[test]
    fn short_calls_are_never_slow() {
        let latency = Latency::default();
        assert_eq!(latency.take(true), Ended::default());
        take(&latency, MS / 100, true);
        assert!(take(&latency, 20 * MS, false) <= 2.0);
    }

    /// Calls that are given up early say nothing, those given up late that it is slow.
    #[test]
    fn calls_that_are_given_up() {
        let latency = Latency::default();
        take(&latency, 100 * MS, true);
        latency.note(MS, End::GivenUp);
        assert_eq!(latency.count(), 0);
        latency.note(500 * MS, End::GivenUp);
        assert_eq!(latency.take(false).spent, 500_000_000.0);
    }
}
