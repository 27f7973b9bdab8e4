//! How long the calls of one kind take, now and without load.

use std::f64::consts::LN_2;
use std::iter::Sum;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::limiter::End;

/// How long the calls of one kind take, in nanoseconds.
///
/// Times are compared by their geometric mean: where one call in a hundred takes a hundred times as
/// long as the others, it says how long the others take, and hardly depends on how many of the rare
/// ones a window happens to have.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// Calls that ended since the last [`take`](Self::take), and how long they took together.
    count: AtomicU64,
    spent: AtomicU64,
    /// Of those that were given up, the logarithms of how many times as long as without load.
    late: AtomicU64,
    /// Of those that were answered, of which alone can be learned how long they should take.
    answered: AtomicU64,
    logs: AtomicU64,
    /// While nothing is known: since when calls teach, 0 before the first [`take`](Self::take), and
    /// those that began until when do.
    since: AtomicU64,
    until: AtomicU64,
    /// A call without load, 0 while it is not known. Only `take` writes it.
    unloaded: AtomicU64,
}

/// The calls that ended in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ended {
    pub(crate) count: u64,
    /// How long they took together.
    pub(crate) spent: f64,
    /// How long they would have taken without load, and how long they took in relation to that.
    pub(crate) unloaded: f64,
    pub(crate) loaded: f64,
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
            loaded: sum.loaded + one.loaded,
        })
    }
}

/// What is shorter is not worth shedding anything for, however much longer than usual it is.
const FLOOR: u64 = 10_000_000;
/// What took longer took as good as for ever, and no sum of such times overflows.
const LONGEST: Duration = Duration::from_secs(3600);
/// What is known is worth as much as so many calls.
const MEMORY: f64 = 100.0;
/// Of what is known wrongly, as it seems while much else runs, so much is corrected per window: a
/// minute in which everything was at hand must not make the next one look slow.
const DOUBT: f64 = 0.002;
/// Fewer calls than this may be quick by chance.
const MANY: f64 = 50.0;
/// From fewer calls nothing is known.
const LESSON: u64 = 10;
/// How many nanoseconds the first calls get to end, and how many times as long as those that have:
/// they are not all.
const PATIENCE: (f64, f64) = (5e8, 4.0);
/// Logarithms are counted in parts of this size.
const PARTS: f64 = (1_u64 << 20) as f64;

impl Latency {
    /// Notes a call that began so many nanoseconds after the limiter and took so long. Of one that
    /// was given up it is only known that it would not have been quicker than that.
    pub(crate) fn note(&self, began: u64, took: Duration, end: End) {
        let took = nanos(took.min(LONGEST));
        self.count.fetch_add(1, Ordering::Relaxed);
        self.spent.fetch_add(took, Ordering::Relaxed);
        let unloaded = self.unloaded.load(Ordering::Relaxed);
        match end {
            End::Ended if unloaded > 0 || self.teaches(began) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.logs.fetch_add(log(took), Ordering::Relaxed);
            }
            End::GivenUp if unloaded > 0 => {
                let late = log(took).saturating_sub(log(unloaded));
                self.late.fetch_add(late, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn teaches(&self, began: u64) -> bool {
        self.since.load(Ordering::Relaxed) == 0 || began <= self.until.load(Ordering::Relaxed)
    }

    /// Returns how many calls have ended since the last [`take`](Self::take).
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes what was noted until now. While it was `calm` nothing waited for anything else, so it
    /// says how long calls take without load; otherwise the first calls of all do, and what is much
    /// quicker than it should be says a little.
    pub(crate) fn take(&self, calm: bool, now: u64) -> Ended {
        let count = self.count.swap(0, Ordering::Relaxed);
        // A call that is noted between these is in some of them only, which is as good as noise.
        let spent = self.spent.swap(0, Ordering::Relaxed) as f64;
        let late = self.late.swap(0, Ordering::Relaxed) as f64 / PARTS;
        let log = match self.unloaded.load(Ordering::Relaxed) {
            0 => self.begin_learning(calm, now),
            known => self.compare(ln(known), late, count, calm),
        };
        let unloaded = count as f64 * self.unloaded.load(Ordering::Relaxed).max(FLOOR) as f64;
        Ended { count, spent, unloaded, loaded: unloaded * log.exp() }
    }

    /// Returns the logarithm of how many times as long as without load calls took.
    fn compare(&self, known: f64, late: f64, count: u64, calm: bool) -> f64 {
        let (answered, logs) = self.take_answered();
        let slower = logs - answered * known;
        let weight = match calm {
            true => 1.0 / (answered + MEMORY),
            false if answered >= MANY && slower < -answered * LN_2 => DOUBT / answered,
            false => 0.0,
        };
        let learned = known + slower * weight;
        self.unloaded.store(learned.exp() as u64, Ordering::Relaxed);
        (logs - answered * learned + late) / count.max(1) as f64
    }

    /// At the start there may be many calls at once. Those that began first waited the least for
    /// others, and they teach once they have had time to end, the slow ones too.
    fn begin_learning(&self, calm: bool, now: u64) -> f64 {
        let answered = self.answered.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        // Nobody has called this kind yet: its first calls are still to come.
        if answered == 0 && since == 0 {
            return 0.0;
        }
        let logs = self.logs.load(Ordering::Relaxed) as f64 / PARTS;
        let mean = (logs / answered.max(1) as f64).exp();
        let passed = now.saturating_sub(since) as f64;
        let had_time = since > 0 && passed >= PATIENCE.0.max(PATIENCE.1 * mean);
        if had_time && answered >= LESSON {
            self.take_answered();
            self.unloaded.store(mean as u64, Ordering::Relaxed);
        } else if had_time || since == 0 {
            self.since.store(now.max(1), Ordering::Relaxed);
            self.until.store(now, Ordering::Relaxed);
        }
        if calm {
            self.until.store(u64::MAX, Ordering::Relaxed);
        } else {
            self.until.fetch_min(now, Ordering::Relaxed);
        }
        0.0
    }

    fn take_answered(&self) -> (f64, f64) {
        let answered = self.answered.swap(0, Ordering::Relaxed) as f64;
        (answered, self.logs.swap(0, Ordering::Relaxed) as f64 / PARTS)
    }
}

/// The logarithm of a time, in parts, without what makes no difference.
fn log(nanos: u64) -> u64 {
    (ln(nanos) * PARTS) as u64
}

fn ln(nanos: u64) -> f64 {
    (nanos.max(FLOOR) as f64).ln()
}

/// Five hundred years of them fit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Calls of one kind, in rounds of a second.
    #[derive(Default)]
    struct Rounds {
        latency: Latency,
        now: u64,
    }

    impl Rounds {
        /// Of which 100 ms are known to be right.
        fn known() -> Self {
            let mut rounds = Self::default();
            rounds.repeat(3, 100, 100 * MS, true);
            assert_eq!(rounds.latency.unloaded.load(Ordering::Relaxed) / 1_000_000, 99);
            rounds
        }

        fn note(&self, calls: u32, took: Duration, end: End) {
            (0..calls).for_each(|_| self.latency.note(self.now + 1, took, end));
        }

        /// Returns how many times as long as without load everything took that was noted.
        fn take(&mut self, calm: bool) -> f64 {
            self.now += 1_000_000_000;
            let ended = self.latency.take(calm, self.now);
            ended.loaded / ended.unloaded
        }

        fn round(&mut self, calls: u32, took: Duration, calm: bool) -> f64 {
            self.note(calls, took, End::Ended);
            self.take(calm)
        }

        fn repeat(&mut self, rounds: u32, calls: u32, took: Duration, calm: bool) {
            for _ in 0..rounds {
                self.round(calls, took, calm);
            }
        }
    }

    fn about(is: f64, should: f64) -> bool {
        (is / should - 1.0).abs() < 0.01
    }

    /// Latency under load is compared with that of calm times, however long the load lasts.
    #[test]
    fn remembers_calm_times() {
        let mut rounds = Rounds::known();
        for _ in 0..100 {
            assert!(about(rounds.round(10, 700 * MS, false), 7.0));
        }
    }

    /// A method that is slower for good is soon known to be so, once little runs at once.
    #[test]
    fn learns_in_calm_times() {
        let mut rounds = Rounds::known();
        let ratios: Vec<_> = (0..10).map(|_| rounds.round(50, 700 * MS, true)).collect();
        assert!(ratios[0] > 2.0 && ratios[9] < 1.1, "{ratios:?}");
    }

    /// What is quicker than ever while much else runs is believed slowly, and only if it is much
    /// quicker: when it is as slow as before, that is no overload.
    #[test]
    fn doubts_slowly() {
        let mut rounds = Rounds::known();
        rounds.repeat(100, 100, 60 * MS, false);
        assert!(about(rounds.round(10, 100 * MS, false), 1.0));
        rounds.repeat(60, 100, 10 * MS, false);
        assert!(rounds.round(10, 100 * MS, false) < 1.5);
        rounds.repeat(10_000, 100, 10 * MS, false);
        assert!(rounds.round(10, 100 * MS, false) > 4.0);
    }

    /// Where everything begins at once, the calls that came first teach, when they have had time to
    /// end, and not those that waited for them.
    #[test]
    fn the_first_calls_teach() {
        let mut rounds = Rounds::default();
        rounds.round(20, 100 * MS, false);
        rounds.note(20, 200 * MS, End::Ended);
        assert_eq!(rounds.take(false), 1.0);
        assert!(about(rounds.round(10, 1000 * MS, false), 10.0));
    }

    /// Of a method that nobody called for a while the first calls teach like any; and who is late with
    /// ending a window does no harm.
    #[test]
    fn calls_that_come_late_teach_too() {
        let mut rounds = Rounds::default();
        rounds.repeat(3, 0, MS, false);
        rounds.round(20, 100 * MS, false);
        rounds.latency.take(false, 1);
        rounds.note(20, 200 * MS, End::Ended);
        assert_eq!(rounds.take(false), 1.0);
        assert!(about(rounds.round(10, 1000 * MS, false), 10.0));
    }

    /// Calls of a few milliseconds are never slow; there is nothing to divide by without any.
    #[test]
    fn short_calls_are_never_slow() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.latency.take(true, 1), Ended::default());
        rounds.repeat(3, 100, MS / 100, true);
        let ratio = rounds.round(10, 20 * MS, false);
        assert!(ratio > 1.9 && ratio < 2.01, "{ratio}");
    }

    /// Calls that are given up say that it is slow if they are slow; that they are quick says
    /// nothing, neither now nor for later, and before anything is known they say nothing at all.
    #[test]
    fn calls_that_are_given_up() {
        let mut rounds = Rounds::default();
        for _ in 0..5 {
            rounds.note(50, 5000 * MS, End::GivenUp);
            assert_eq!(rounds.take(true), 1.0);
        }
        let mut rounds = Rounds::known();
        for _ in 0..5 {
            rounds.note(50, MS, End::GivenUp);
            assert!(about(rounds.take(true), 1.0));
        }
        rounds.note(50, 500 * MS, End::GivenUp);
        assert!(about(rounds.take(false), 5.0));
    }
}
