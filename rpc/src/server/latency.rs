//! How long the calls of one method take, now and without load.

use std::iter::Sum;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How long the calls of a method take, in microseconds. A method has its own, so that a change in
/// which methods are called does not look like a change of load.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Calls that ended since the last [`take`](Self::take), and how long they took together.
    count: AtomicU64,
    spent: AtomicU64,
    /// A call without load, 0 while it is not known. Only `take` writes it.
    unloaded: AtomicU64,
}

/// The calls that ended in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Ended {
    pub(super) count: u64,
    /// How long they took together.
    pub(super) spent: f64,
    /// How long they would have taken without load.
    pub(super) unloaded: f64,
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
const FLOOR: f64 = 10_000.0;
/// One time is worth a quarter of the estimate.
const WEIGHT: f64 = 0.25;

impl Latency {
    /// Notes a call that ended by itself or at its deadline.
    pub(super) fn ended(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.spent.fetch_add(micros(took), Ordering::Relaxed);
    }

    /// Notes a call that was given up after this long: had it ended, it would have taken longer, so
    /// it counts if it was slow already.
    pub(super) fn given_up(&self, after: Duration) {
        if micros(after) > self.unloaded.load(Ordering::Relaxed) {
            self.ended(after);
        }
    }

    /// Returns how many calls have ended since the last [`take`](Self::take).
    pub(super) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes what was noted. While it was `calm` nothing waited for anything else, so it says how
    /// long calls take without load; otherwise only shorter calls do.
    pub(super) fn take(&self, calm: bool) -> Ended {
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn take(latency: &Latency, took: Duration, calm: bool) -> f64 {
        (0..10).for_each(|_| latency.ended(took));
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
        latency.given_up(MS);
        assert_eq!(latency.count(), 0);
        latency.given_up(500 * MS);
        assert_eq!(latency.take(false).spent, 500_000.0);
    }
}
