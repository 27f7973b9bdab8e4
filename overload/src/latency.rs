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
///
/// A call that was given up would have taken no less, so its time alone makes an overload look
/// better than it is. What is compared is therefore what an *answer* takes: where every other call is
/// lost, each answer cost two. The same holds for what is normal, so that callers who always give up
/// many are no load.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// Calls that ended since the last [`take`](Self::take), and how long they took together.
    count: AtomicU64,
    spent: AtomicU64,
    /// Those that were answered, with the logarithms of their times.
    answered: Tally,
    /// Those that were given up, each as the part that it was of a call without load, at most 1, with
    /// the logarithms of how many times as long they were.
    lost: Tally,
    /// Those that ended in an error, with the same.
    failed: Tally,
    /// While nothing is known: since when calls teach, 0 before the first [`take`](Self::take), and
    /// those that began until when do.
    since: AtomicU64,
    until: AtomicU64,
    /// While nothing is known: by how many more were given up, and not soon, than answered.
    in_vain: AtomicU64,
    /// An answer without load, 0 while it is not known. Only `take` writes it.
    unloaded: AtomicU64,
}

/// In what circumstances calls ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Nothing waited for anything else.
    pub(crate) calm: bool,
    /// Calls of some kind took too long until now, many at once.
    pub(crate) congested: bool,
    /// The most that ran at once.
    pub(crate) peak: usize,
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
const LESSON: f64 = 10.0;
/// How many nanoseconds the first calls get to end, and how many times as long as those that have:
/// they are not all.
const PATIENCE: (f64, f64) = (5e8, 4.0);
/// The logarithm of how many times too long calls take of which most are given up, with nothing else
/// known: enough to halve the limit.
const HOPELESS: f64 = 2.0 * LN_2;
/// Counts and logarithms are in parts of this size.
const PARTS: f64 = (1_u64 << 20) as f64;

impl Latency {
    /// Notes a call that began so many nanoseconds after the limiter and took so long.
    pub(crate) fn note(&self, began: u64, took: Duration, end: End) {
        let took = nanos(took.min(LONGEST));
        self.count.fetch_add(1, Ordering::Relaxed);
        self.spent.fetch_add(took, Ordering::Relaxed);
        let unloaded = self.unloaded.load(Ordering::Relaxed);
        if unloaded == 0 {
            self.count_in_vain(took, end);
        }
        let late = || (ln(took) - ln(unloaded)).max(0.0);
        match end {
            _ if unloaded == 0 && !self.teaches(began) => {}
            End::Ended => self.answered.add(1.0, ln(took)),
            End::GivenUp => {
                self.lost.add((took as f64 / unloaded.max(FLOOR) as f64).min(1.0), late());
            }
            End::Failed => self.failed.add(1.0, late()),
        }
    }

    fn count_in_vain(&self, took: u64, end: End) {
        let next = |in_vain: u64| match end {
            End::Ended => in_vain.checked_sub(1),
            End::GivenUp if took >= 2 * FLOOR => Some(in_vain + 1),
            _ => None,
        };
        let _ = self.in_vain.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    fn teaches(&self, began: u64) -> bool {
        self.since.load(Ordering::Relaxed) == 0 || began <= self.until.load(Ordering::Relaxed)
    }

    /// Returns how many calls have ended since the last [`take`](Self::take).
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes what was noted until now. While it was calm nothing waited for anything else, so it
    /// says how long calls take without load; otherwise the first calls of all do, and what is much
    /// quicker than it should be says a little.
    pub(crate) fn take(&self, load: Load, now: u64) -> Ended {
        let count = self.count.swap(0, Ordering::Relaxed);
        // A call that is noted between these is in some of them only, which is as good as noise.
        let spent = self.spent.swap(0, Ordering::Relaxed) as f64;
        let log = match self.unloaded.load(Ordering::Relaxed) {
            0 => self.begin_learning(load, now),
            known => self.compare(ln(known), load.calm),
        };
        let unloaded = count as f64 * self.unloaded.load(Ordering::Relaxed).max(FLOOR) as f64;
        Ended { count, spent, unloaded, loaded: unloaded * log.exp() }
    }

    /// Returns the logarithm of how many times as long as without load calls took.
    fn compare(&self, known: f64, calm: bool) -> f64 {
        let noted = self.take_noted();
        let slower = noted.slower(known);
        let weight = match calm {
            true => noted.answered / (noted.answered + MEMORY),
            false if noted.answered >= MANY && slower < -LN_2 => DOUBT,
            false => 0.0,
        };
        let learned = known + slower * weight;
        self.unloaded.store(learned.exp() as u64, Ordering::Relaxed);
        slower.max(noted.slower_with_failures(known)) - slower * weight
    }

    /// At the start there may be many calls at once. Those that began first waited the least for
    /// others, and they teach once they have had time to end, the slow ones too. Those that begin
    /// while others take too long already, or of which most are lost, teach nothing.
    fn begin_learning(&self, load: Load, now: u64) -> f64 {
        let is_hopeless = !load.calm && self.is_hopeless(load.peak);
        if is_hopeless || load.congested {
            self.begin_again(now);
            return if is_hopeless { HOPELESS } else { 0.0 };
        }
        let answered = self.answered.calls();
        let since = self.since.load(Ordering::Relaxed);
        // Nobody has had an answer of this kind yet: its first calls are still to come.
        if answered == 0.0 && since == 0 {
            self.take_noted();
            return 0.0;
        }
        let mean = (self.answered.logs() / answered.max(1.0)).exp();
        let passed = now.saturating_sub(since) as f64;
        let had_time = since > 0 && passed >= PATIENCE.0.max(PATIENCE.1 * mean);
        if had_time && answered >= LESSON {
            let unloaded = self.take_noted().settled();
            self.unloaded.store(unloaded.exp() as u64, Ordering::Relaxed);
        } else if had_time || since == 0 {
            self.since.store(now.max(1), Ordering::Relaxed);
            self.until.store(now, Ordering::Relaxed);
        }
        if load.calm {
            self.until.store(u64::MAX, Ordering::Relaxed);
        } else {
            self.until.fetch_min(now, Ordering::Relaxed);
        }
        0.0
    }

    /// Whether more were lost than run at once: those that are still to end would not make up for
    /// it. What is more than that is forgotten, so that better times are noticed.
    fn is_hopeless(&self, peak: usize) -> bool {
        let many = (peak as u64).max(LESSON as u64);
        self.in_vain.fetch_min(many, Ordering::Relaxed) >= many
    }

    /// Those teach that begin from now on, until the next [`take`](Self::take).
    fn begin_again(&self, now: u64) {
        self.take_noted();
        self.since.store(now.max(1), Ordering::Relaxed);
        self.until.store(u64::MAX, Ordering::Relaxed);
    }

    fn take_noted(&self) -> Noted {
        let (answered, logs) = self.answered.take();
        let (lost, late) = self.lost.take();
        let (failed, failed_late) = self.failed.take();
        Noted { answered, logs, lost, late, failed, failed_late }
    }
}

/// How many calls, and the sum of logarithms of their times.
#[derive(Debug, Default)]
struct Tally {
    calls: AtomicU64,
    logs: AtomicU64,
}

impl Tally {
    fn add(&self, calls: f64, log: f64) {
        self.calls.fetch_add((calls * PARTS) as u64, Ordering::Relaxed);
        self.logs.fetch_add((log * PARTS) as u64, Ordering::Relaxed);
    }

    fn calls(&self) -> f64 {
        self.calls.load(Ordering::Relaxed) as f64 / PARTS
    }

    fn logs(&self) -> f64 {
        self.logs.load(Ordering::Relaxed) as f64 / PARTS
    }

    fn take(&self) -> (f64, f64) {
        let parts = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed) as f64 / PARTS;
        (parts(&self.calls), parts(&self.logs))
    }
}

/// What was noted in some time, as in [`Latency`].
#[derive(Clone, Copy, Debug)]
struct Noted {
    answered: f64,
    logs: f64,
    lost: f64,
    late: f64,
    failed: f64,
    failed_late: f64,
}

impl Noted {
    /// The logarithm of how many times as long as `known` an answer took. Calls that were given up
    /// soon are a small part of one, so they neither hide those that took long nor add to them.
    fn slower(&self, known: f64) -> f64 {
        let calls = self.answered + self.lost;
        let longer = (self.logs - self.answered * known + self.late) / calls.max(1.0);
        longer + (calls / self.answered.max(1.0)).max(1.0).ln()
    }

    /// The same with errors, which say something if they are slow. That they are quick says nothing.
    fn slower_with_failures(&self, known: f64) -> f64 {
        let calls = self.answered + self.lost;
        let longer = self.logs - self.answered * known + self.late + self.failed_late;
        longer / (calls + self.failed).max(1.0) + (calls / self.answered.max(1.0)).max(1.0).ln()
    }

    /// The logarithm of the time than which these calls are not slower, where nothing was known when
    /// they were noted. Those that were given up count by their mean.
    fn settled(&self) -> f64 {
        let each = ln(FLOOR) + self.late / self.lost.max(1.0);
        (0..ROUNDS).fold(self.logs / self.answered.max(1.0), |known, _| {
            let lost = self.lost * (each - known).exp().min(1.0);
            let late = lost * (each - known).max(0.0);
            known + Self { lost, late, ..*self }.slower(known) / 2.0
        })
    }
}

/// Each comes twice as near, at least.
const ROUNDS: u32 = 20;

/// The logarithm of a time, without what makes no difference.
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
            let ended = self.latency.take(load(calm), self.now);
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

    fn load(calm: bool) -> Load {
        Load { calm, congested: false, peak: 1000 }
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
        rounds.latency.take(load(false), 1);
        rounds.note(20, 200 * MS, End::Ended);
        assert_eq!(rounds.take(false), 1.0);
        assert!(about(rounds.round(10, 1000 * MS, false), 10.0));
    }

    /// Calls of a few milliseconds are never slow; there is nothing to divide by without any.
    #[test]
    fn short_calls_are_never_slow() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.latency.take(load(true), 1), Ended::default());
        rounds.repeat(3, 100, MS / 100, true);
        let ratio = rounds.round(10, 20 * MS, false);
        assert!(ratio > 1.9 && ratio < 2.01, "{ratio}");
    }

    /// Calls that are given up say that it is slow if they are slow; that they are quick says
    /// nothing, neither now nor for later, however many they are.
    #[test]
    fn calls_that_are_given_up() {
        let mut rounds = Rounds::known();
        for _ in 0..5 {
            rounds.note(100, MS / 100, End::GivenUp);
            assert!(about(rounds.round(10, 100 * MS, true), 1.0));
        }
        rounds.note(100, MS / 100, End::GivenUp);
        assert!(about(rounds.round(10, 500 * MS, false), 5.0));
        rounds.note(50, 500 * MS, End::GivenUp);
        assert!(rounds.take(false) > 5.0);
    }

    /// An answer costs what is spent on those who do not get theirs: with two of three calls lost, it
    /// takes three times as long as it should, however quick it is. Where that is so in calm times it
    /// is normal.
    #[test]
    fn losses_are_counted_by_the_answer() {
        let lose = |rounds: &mut Rounds, calm| {
            rounds.note(20, 100 * MS, End::GivenUp);
            rounds.round(10, 100 * MS, calm)
        };
        let mut rounds = Rounds::known();
        assert!(about(lose(&mut rounds, false), 3.0));
        for _ in 0..100 {
            lose(&mut rounds, true);
        }
        assert!(about(lose(&mut rounds, false), 1.0));
    }

    /// What is normal from the start includes what was always lost.
    #[test]
    fn losses_from_the_start_are_normal() {
        let mut rounds = Rounds::default();
        for _ in 0..5 {
            rounds.note(10, 150 * MS, End::GivenUp);
            rounds.round(20, 100 * MS, true);
        }
        rounds.note(10, 150 * MS, End::GivenUp);
        assert!(about(rounds.round(20, 100 * MS, false), 1.0));
    }

    /// Before anything is known, many that are given up and hardly an answer are an overload, of
    /// which nothing is learned; those that are given up at once say nothing, nor do few of them, or
    /// where as many are answered.
    #[test]
    fn nothing_but_losses_is_an_overload() {
        for (calls, answered, took, is_overload) in [
            (600, 20, 300 * MS, true),
            (600, 600, 300 * MS, false),
            (600, 0, MS, false),
            (90, 0, MS, false),
        ] {
            let mut rounds = Rounds::default();
            let mut ratio = 0.0;
            for _ in 0..5 {
                rounds.note(calls, took, End::GivenUp);
                ratio = rounds.round(answered, 200 * MS, false);
            }
            assert_eq!(ratio > 2.0, is_overload, "{calls} {answered} {took:?}: {ratio}");
            let knows = rounds.latency.unloaded.load(Ordering::Relaxed) > 0;
            assert_eq!(knows, answered == 600);
        }
    }

    /// What is called for the first time while other calls take too long teaches nothing until they
    /// do not.
    #[test]
    fn nothing_is_learned_in_an_overload() {
        let mut rounds = Rounds::default();
        for _ in 0..5 {
            rounds.note(100, 1000 * MS, End::Ended);
            rounds.now += 1_000_000_000;
            rounds.latency.take(Load { congested: true, ..load(false) }, rounds.now);
        }
        rounds.repeat(3, 100, 100 * MS, false);
        assert!(about(rounds.round(10, 1000 * MS, false), 10.0));
    }

    /// Errors that come quickly hide no overload, however many they are, and those that take long
    /// are one.
    #[test]
    fn errors() {
        let mut rounds = Rounds::known();
        rounds.note(500, MS, End::Failed);
        assert!(about(rounds.round(50, 500 * MS, false), 5.0));
        rounds.note(500, MS, End::Failed);
        assert!(about(rounds.take(false), 1.0));
        rounds.note(50, 500 * MS, End::Failed);
        assert!(about(rounds.take(false), 5.0));
    }
}
