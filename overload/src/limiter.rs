//! Counts the calls that run, measures how long they take and moves the limit.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use crate::gradient::{Gradient, Window};
use crate::latency::{Ended, Latency, Load, nanos};

/// Bounds how many calls run at once, by how long they take.
///
/// Calls are of kinds, numbered from 0: the methods of a server, say. Each kind is compared with
/// itself, so that a change in what is called does not look like a change of load.
///
/// Beginning and ending a call is a few atomic operations each. While calls are short, one in eight
/// of them is measured, which reads the clock.
#[derive(Debug)]
pub struct Limiter {
    limit: AtomicUsize,
    running: AtomicUsize,
    latencies: Box<[Latency]>,
    measure: Option<Measure>,
    /// How long calls took lately, in nanoseconds.
    pace: AtomicU64,
}

/// How a [`Limiter`] behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// The most calls at once, with which the limit begins: at least 1, default 65 536.
    pub max: usize,
    /// The fewest calls at once that the limit goes down to: at least 1, at most `max`, default 32.
    /// It is also as many as are taken for few: how long calls take while no more run is how long
    /// they should take. Where more run from the start, the first calls of all say it instead.
    pub min: usize,
    /// Whether the limit moves; without that it stays at `max`, and nothing is measured. Default
    /// `true`.
    ///
    /// It shrinks when more than `min` calls run at once and take more than twice as long as they do
    /// when few run, and more than 20 ms, for two windows of 100 ms to 1 s each. Compared are
    /// geometric means, to which rare long calls matter little.
    pub adaptive: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { max: 65_536, min: 32, adaptive: true }
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With an answer: what it took is what such a call takes.
    Ended,
    /// Given up by its caller, or at its deadline: an answer would have taken no less. So it counts as
    /// the part of a call that it was, and as a slow one if it was slow.
    GivenUp,
    /// With an error, which is often quicker than an answer: it counts if it was slow, and nobody
    /// learns from it how quick calls should be.
    Failed,
}

/// What moves the limit.
#[derive(Debug)]
struct Measure {
    /// The most that ran at once in this window.
    peak: AtomicUsize,
    epoch: Instant,
    /// When the window ends, in nanoseconds since `epoch`.
    due: AtomicU64,
    /// Whoever ends a window has it; nobody waits for it.
    course: Mutex<Course>,
}

#[derive(Debug)]
struct Course {
    gradient: Gradient,
    min: usize,
    /// Windows in a row in which few ran at once.
    calm: u32,
}

/// The shortest and the longest window.
const WINDOW: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Calls are short that take less than this many nanoseconds in the mean.
const SHORT: u64 = 1_000_000;
/// Of short calls one in so many is measured.
const SAMPLE: u8 = 8;
/// Fewer calls than this say nothing, and the window goes on.
const ENOUGH: u64 = 10;
/// After how many calm windows those that ended began in one.
const CALM: u32 = 2;

impl Limiter {
    /// Creates a limiter for so many kinds of calls. Values out of range are moved into it.
    #[must_use]
    pub fn new(config: &Config, kinds: usize) -> Self {
        let max = config.max.max(1);
        let min = config.min.clamp(1, max);
        Self {
            limit: AtomicUsize::new(max),
            running: AtomicUsize::new(0),
            latencies: (0..kinds).map(|_| Latency::default()).collect(),
            measure: config.adaptive.then(|| Measure::new(min, max)),
            pace: AtomicU64::new(nanos(WINDOW.0)),
        }
    }

    /// Returns how many calls may run at once now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Returns how many calls run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running.load(SeqCst)
    }

    /// Returns how long a call took lately, in the mean: when a place may be free again.
    #[must_use]
    pub fn pace(&self) -> Duration {
        Duration::from_nanos(self.pace.load(Relaxed))
    }

    /// Takes a place for a call of this kind, unless there is none.
    ///
    /// # Panics
    ///
    /// When there is no such kind.
    #[must_use = "dropped, it gives the place back"]
    pub fn try_acquire(self: &Arc<Self>, kind: usize) -> Option<Permit> {
        assert!(kind < self.latencies.len(), "calls of {} kinds, not {kind}", self.latencies.len());
        let begun = self.try_begin(self.limit());
        begun.then(|| Permit::new(Arc::clone(self), kind))
    }

    /// Counts a call among those that run if fewer than so many do, which may be a share of the
    /// [`limit`](Self::limit). It is counted out by [`end`](Self::end) or
    /// [`release`](Self::release).
    #[must_use = "what has not begun must not run"]
    pub fn try_begin(&self, places: usize) -> bool {
        let next = |running| (running < places).then_some(running + 1);
        let begun = self.running.fetch_update(SeqCst, SeqCst, next);
        begun.map(|before| self.note_peak(before + 1)).is_ok()
    }

    /// Counts a call among those that run, whatever the limit, as for one that was found to be
    /// worth counting only after it began. It is counted out as after
    /// [`try_begin`](Self::try_begin).
    pub fn begin(&self) {
        self.note_peak(self.running.fetch_add(1, SeqCst) + 1);
    }

    /// Counts a call out, learns from how long it ran, and moves the limit if it is time. Once for
    /// each call that began, as with [`release`](Self::release).
    ///
    /// # Panics
    ///
    /// When there is no such kind; the call is counted out all the same.
    pub fn end(&self, kind: usize, since: Instant, end: End) {
        self.release();
        if self.measure.is_some() && self.is_sampled() {
            self.learn(kind, since, end, Instant::now());
        }
    }

    /// Learns from a call that ends now.
    pub(crate) fn learn(&self, kind: usize, since: Instant, end: End, now: Instant) {
        let Some(measure) = &self.measure else { return };
        let began = nanos(since.saturating_duration_since(measure.epoch));
        self.latencies[kind].note(began, now.saturating_duration_since(since), end);
        self.measure(measure, nanos(now.saturating_duration_since(measure.epoch)));
    }

    /// Counts a call out that never ran, or from which nothing can be learned. Where none has begun
    /// there is nothing to count.
    pub fn release(&self) {
        let _ = self.running.fetch_update(SeqCst, SeqCst, |running| running.checked_sub(1));
    }

    /// Of short calls there are so many that some say as much as all, for which looking at the clock
    /// would be much of what they cost.
    fn is_sampled(&self) -> bool {
        self.pace.load(Relaxed) >= SHORT || fastrand::u8(..).is_multiple_of(SAMPLE)
    }

    fn note_peak(&self, running: usize) {
        if let Some(measure) = &self.measure
            && running > measure.peak.load(Relaxed)
        {
            measure.peak.fetch_max(running, Relaxed);
        }
    }

    /// Ends the window if it is time.
    fn measure(&self, measure: &Measure, elapsed: u64) {
        if elapsed < measure.due.load(Relaxed) {
            return;
        }
        let Ok(mut course) = measure.course.try_lock() else { return };
        // Somebody else may have ended the window since.
        if elapsed < measure.due.load(Relaxed) {
            return;
        }
        let mut wait = WINDOW.0;
        if self.latencies.iter().map(Latency::count).sum::<u64>() >= ENOUGH {
            let peak = measure.peak.swap(self.running(), Relaxed);
            let load = course.load(peak);
            let ended: Ended =
                self.latencies.iter().map(|latency| latency.take(load, elapsed)).sum();
            course.gradient.observe(Window { peak, spent: ended.loaded, unloaded: ended.unloaded });
            self.limit.store(course.gradient.limit(), Relaxed);
            let pace = Duration::from_nanos(ended.mean() as u64);
            self.pace.store(nanos(pace), Relaxed);
            // Long enough that most calls that end in a window began in it.
            wait = pace.saturating_mul(2).clamp(WINDOW.0, WINDOW.1);
        }
        measure.due.store(elapsed.saturating_add(nanos(wait)), Relaxed);
    }
}

impl Measure {
    fn new(min: usize, max: usize) -> Self {
        Self {
            peak: AtomicUsize::new(0),
            epoch: Instant::now(),
            due: AtomicU64::new(nanos(WINDOW.0)),
            course: Mutex::new(Course { gradient: Gradient::new(min, max), min, calm: 0 }),
        }
    }
}

impl Course {
    /// Says how the calls ran that ended. It was calm if few did, and they began after a rush, if
    /// there was one.
    fn load(&mut self, peak: usize) -> Load {
        self.calm = if peak <= self.min { self.calm + 1 } else { 0 };
        Load { calm: self.calm >= CALM, congested: self.gradient.is_congested(), peak }
    }
}

/// A place that a call has, given back by [`finish`](Self::finish) or on drop.
#[derive(Debug)]
#[must_use = "dropped, it gives the place back"]
pub struct Permit {
    limiter: Arc<Limiter>,
    kind: usize,
    since: Instant,
    end: End,
}

impl Permit {
    fn new(limiter: Arc<Limiter>, kind: usize) -> Self {
        Self { limiter, kind, since: Instant::now(), end: End::GivenUp }
    }

    /// Says that the call was answered; dropped without that, it was given up.
    pub fn finish(mut self) {
        self.end = End::Ended;
    }

    /// Says that the call ended in an error.
    pub fn fail(mut self) {
        self.end = End::Failed;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.end(self.kind, self.since, self.end);
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tokio::time::advance;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn limiter(config: &Config) -> Arc<Limiter> {
        Arc::new(Limiter::new(config, 2))
    }

    /// Runs as many of the offered calls at once as are allowed, each for so long; returns how many.
    async fn round(limiter: &Arc<Limiter>, kind: usize, offered: usize, takes: Duration) -> usize {
        let permits: Vec<_> = (0..offered).map_while(|_| limiter.try_acquire(kind)).collect();
        advance(takes).await;
        let ran = permits.len();
        permits.into_iter().for_each(Permit::finish);
        ran
    }

    /// There are as many places as the limit says, and each comes back once, whether its call ended
    /// or was given up.
    #[tokio::test(start_paused = true)]
    async fn places_come_back() {
        let limiter = limiter(&Config { max: 2, ..Config::default() });
        let (first, second) = (limiter.try_acquire(0).unwrap(), limiter.try_acquire(1).unwrap());
        assert!(limiter.try_acquire(0).is_none() && limiter.running() == 2);
        first.finish();
        assert_eq!(limiter.running(), 1);
        drop(second);
        assert_eq!(limiter.running(), 0);
    }

    /// A kind that there is not takes no place, also where it is seen only at the end; and what never
    /// began frees none.
    #[test]
    fn what_makes_no_sense_leaves_the_count_right() {
        let limiter = limiter(&Config { max: 2, ..Config::default() });
        let attempt = |call: &dyn Fn()| catch_unwind(AssertUnwindSafe(call)).is_err();
        assert!(attempt(&|| drop(limiter.try_acquire(2))));
        limiter.begin();
        assert!(attempt(&|| limiter.end(2, Instant::now(), End::Ended)));
        assert_eq!(limiter.running(), 0);
        limiter.release();
        assert!(limiter.running() == 0 && limiter.try_begin(1));
    }

    /// A share of the places may be full while another has room, and what has begun already is
    /// counted whatever the limit.
    #[test]
    fn shares_of_the_places() {
        let limiter = limiter(&Config { max: 4, ..Config::default() });
        assert!(limiter.try_begin(2) && limiter.try_begin(2));
        assert!(!limiter.try_begin(2) && limiter.try_begin(4));
        (0..5).for_each(|_| limiter.begin());
        assert_eq!(limiter.running(), 8);
        (0..8).for_each(|_| limiter.release());
        assert!(limiter.running() == 0 && limiter.try_begin(1));
    }

    /// Calls that take ten times as long with many at once get fewer places, and all of them again
    /// once they do not; without `adaptive` nothing moves.
    #[tokio::test(start_paused = true)]
    async fn follows_latency() {
        for adaptive in [true, false] {
            let limiter = limiter(&Config { max: 1000, adaptive, ..Config::default() });
            for _ in 0..10 {
                round(&limiter, 0, 20, 100 * MS).await;
            }
            for _ in 0..20 {
                // What runs beyond a hundred waits for the others.
                let many = limiter.limit().min(1000);
                round(&limiter, 0, 1000, 100 * MS * (many as u32).div_ceil(100)).await;
            }
            assert_eq!(limiter.limit() < 400, adaptive, "{}", limiter.limit());
            for _ in 0..200 {
                round(&limiter, 0, 20, 100 * MS).await;
            }
            assert_eq!(limiter.limit(), 1000);
        }
    }

    /// Calls so short that only some of them are measured are followed as well, from the moment when
    /// they are short no more.
    #[tokio::test(start_paused = true)]
    async fn follows_short_calls() {
        let limiter = limiter(&Config { max: 1000, ..Config::default() });
        for _ in 0..2000 {
            round(&limiter, 0, 20, MS / 10).await;
        }
        assert!(limiter.pace() < MS);
        for _ in 0..30 {
            round(&limiter, 0, 1000, 200 * MS).await;
        }
        assert!(limiter.limit() < 400, "{}", limiter.limit());
    }

    /// Another mix of calls is no overload: each kind is compared with itself.
    #[tokio::test(start_paused = true)]
    async fn kinds_are_apart() {
        let limiter = limiter(&Config { max: 1000, ..Config::default() });
        for _ in 0..10 {
            round(&limiter, 0, 20, 100 * MS).await;
            round(&limiter, 1, 20, 1000 * MS).await;
        }
        for _ in 0..20 {
            assert_eq!(round(&limiter, 0, 500, 100 * MS).await, 500);
        }
        for _ in 0..20 {
            assert_eq!(round(&limiter, 1, 500, 1000 * MS).await, 500);
        }
    }

    /// A method whose calls suddenly wait ten times as long for something outside costs its callers
    /// some refusals, and no more: with few of them at once the limiter learns that they do, and
    /// allows as many again.
    #[tokio::test(start_paused = true)]
    async fn calls_that_wait_on_purpose_are_learned() {
        let limiter = limiter(&Config::default());
        for _ in 0..10 {
            assert_eq!(round(&limiter, 0, 500, 100 * MS).await, 500);
        }
        let mut ran = Vec::new();
        for _ in 0..100 {
            ran.push(round(&limiter, 0, 500, 1000 * MS).await);
        }
        let shrunk = ran.iter().filter(|ran| **ran < 500).count();
        assert!(shrunk > 0 && shrunk < 30 && ran.last() == Some(&500), "{ran:?}");
    }

    /// How long calls took is what others may wait for.
    #[tokio::test(start_paused = true)]
    async fn tells_its_pace() {
        let limiter = limiter(&Config::default());
        round(&limiter, 0, 20, 300 * MS).await;
        round(&limiter, 0, 20, 300 * MS).await;
        assert_eq!(limiter.pace(), 300 * MS);
    }
}
