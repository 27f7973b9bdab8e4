//! Which calls run, wait and are sent away when there is more to do than can be done.

use std::pin::pin;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::call;
use super::gradient::{Gradient, Window};
use super::latency::Ended;
use super::shared::Shared;
use crate::{Code, Criticality, Limits, Status};

/// Counts the calls of all connections. A call that is let in costs it two or three reads; what
/// allocates is on the way of calls that wait or are sent away.
pub(super) struct Gate {
    limit: AtomicUsize,
    running: AtomicUsize,
    /// Those that wait, by criticality, and whom they wait for.
    queues: [Queue; CLASSES],
    max_queued: usize,
    max_queue_time: Duration,
    measure: Option<Measure>,
    /// How long calls took lately, in microseconds.
    pace: AtomicU64,
}

#[derive(Default)]
struct Queue {
    length: AtomicUsize,
    turn: Notify,
}

/// What moves the limit.
struct Measure {
    /// The most that ran at once since `since`.
    peak: AtomicUsize,
    epoch: Instant,
    /// When the window ends, in microseconds since `epoch`.
    due: AtomicU64,
    /// Whoever ends a window has it; nobody waits for it.
    course: Mutex<Course>,
}

struct Course {
    gradient: Gradient,
    min: usize,
    /// Windows in a row in which few ran at once.
    calm: u32,
}

/// What becomes of a call.
pub(super) enum Verdict {
    Run,
    Wait(Waiting),
}

const CLASSES: usize = Criticality::ALL.len();
/// Of the places, how many percent each class of criticality may use, most important first.
const SHARES: [usize; CLASSES] = [100, 95, 75, 50];
/// The shortest and the longest window.
const WINDOW: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Fewer calls than this say nothing, and the window goes on.
const ENOUGH: u64 = 10;
/// After how many calm windows those that ended began in one.
const CALM: u32 = 2;

impl Gate {
    pub(super) fn new(limits: &Limits, now: Instant) -> Self {
        let gradient = Gradient::new(limits.min_running, limits.max_running);
        let course = Course { gradient, min: limits.min_running, calm: 0 };
        let measure = Measure {
            peak: AtomicUsize::new(0),
            epoch: now,
            due: AtomicU64::new(micros(WINDOW.0)),
            course: Mutex::new(course),
        };
        Self {
            limit: AtomicUsize::new(limits.max_running),
            running: AtomicUsize::new(0),
            queues: Default::default(),
            max_queued: limits.max_queued,
            max_queue_time: limits.max_queue_time,
            measure: limits.adaptive.then_some(measure),
            pace: AtomicU64::new(micros(WINDOW.0)),
        }
    }

    pub(super) fn queued(&self) -> usize {
        self.queues.iter().map(|queue| queue.length.load(Relaxed)).sum()
    }

    pub(super) fn running(&self) -> usize {
        self.running.load(Relaxed)
    }

    /// Says whether a call runs now, waits for its turn or, as the error, is sent away. Handlers
    /// that end at once are never among the running, so nothing is counted here: as many calls too
    /// many may begin as there are threads.
    pub(super) fn admit(shared: &Arc<Shared>, class: Criticality) -> Result<Verdict, Status> {
        let gate = &shared.gate;
        let is_queued = gate.queues[..=class as usize].iter().any(Queue::is_used);
        if !is_queued && gate.running.load(Relaxed) < gate.places(class) {
            return Ok(Verdict::Run);
        }
        match gate.queues[class as usize].enter(gate.room(class)) {
            true => Ok(Verdict::Wait(Waiting { shared: Arc::clone(shared), class })),
            false => Err(gate.overloaded()),
        }
    }

    /// A call runs.
    pub(super) fn begin(&self) {
        self.note_peak(self.running.fetch_add(1, SeqCst) + 1);
    }

    /// A call does not run any more.
    pub(super) fn end(&self) {
        self.running.fetch_sub(1, SeqCst);
        self.call_next();
    }

    /// Moves the limit if it is time. `count` and `take` look at the calls that ended.
    pub(super) fn measure(
        &self,
        now: Instant,
        count: impl Fn() -> u64,
        take: impl Fn(bool) -> Ended,
    ) {
        let Some(measure) = &self.measure else { return };
        let elapsed = micros(now.saturating_duration_since(measure.epoch));
        if elapsed < measure.due.load(Relaxed) {
            return;
        }
        let Ok(mut course) = measure.course.try_lock() else { return };
        if count() < ENOUGH {
            measure.due.store(elapsed + micros(WINDOW.0), Relaxed);
            return;
        }
        let peak = measure.peak.swap(self.running(), Relaxed);
        let ended = take(course.is_calm(peak));
        course.gradient.observe(Window { peak, spent: ended.spent, unloaded: ended.unloaded });
        self.limit.store(course.gradient.limit(), Relaxed);
        let pace = Duration::from_micros((ended.spent / ended.count.max(1) as f64) as u64);
        self.pace.store(micros(pace), Relaxed);
        // Long enough that most calls that end in a window began in it.
        measure.due.store(elapsed + micros((2 * pace).clamp(WINDOW.0, WINDOW.1)), Relaxed);
    }

    fn note_peak(&self, running: usize) {
        if let Some(measure) = &self.measure
            && running > measure.peak.load(Relaxed)
        {
            measure.peak.fetch_max(running, Relaxed);
        }
    }

    /// How many of a class may run.
    fn places(&self, class: Criticality) -> usize {
        share(self.limit.load(Relaxed), class)
    }

    /// How many of a class may wait.
    fn room(&self, class: Criticality) -> usize {
        share(self.max_queued.min(self.limit.load(Relaxed)), class)
    }

    /// Counts a call that waited among the running if there is a place.
    fn try_begin(&self, class: Criticality) -> bool {
        let places = self.places(class);
        let next = |running| (running < places).then_some(running + 1);
        let begun = self.running.fetch_update(SeqCst, SeqCst, next);
        begun.map(|before| self.note_peak(before + 1)).is_ok()
    }

    /// Tells the most important of those that wait and have a place, if there is one.
    fn call_next(&self) {
        let mut classes = Criticality::ALL.into_iter();
        let waiting = classes.find(|class| self.queues[*class as usize].is_used());
        if let Some(class) = waiting
            && self.running.load(SeqCst) < self.places(class)
        {
            self.queues[class as usize].turn.notify_one();
        }
    }

    /// The answer to a call that is sent away.
    fn overloaded(&self) -> Status {
        let message = "the server has too much to do";
        let pace = Duration::from_micros(self.pace.load(Relaxed));
        let wait = pace.clamp(Duration::from_millis(10), Duration::from_secs(1));
        Status::new(Code::ResourceExhausted, message).with_retry_after(wait).refused()
    }
}

impl Queue {
    fn is_used(&self) -> bool {
        self.length.load(SeqCst) > 0
    }

    fn enter(&self, room: usize) -> bool {
        let next = |length| (length < room).then_some(length + 1);
        self.length.fetch_update(SeqCst, SeqCst, next).is_ok()
    }
}

impl Course {
    /// Whether the calls that ended ran while few did, and so began after a rush, if there was one.
    fn is_calm(&mut self, peak: usize) -> bool {
        self.calm = if peak <= self.min { self.calm + 1 } else { 0 };
        self.calm >= CALM
    }
}

/// A place in the queue, given back on drop.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    class: Criticality,
}

impl Waiting {
    /// Waits for the call's turn, which the gate has counted as running then.
    pub(super) async fn turn(self, deadline: Option<Instant>) -> Result<(), Status> {
        let gate = &self.shared.gate;
        let patience = Instant::now() + gate.max_queue_time;
        let until = deadline.map_or(patience, |deadline| deadline.min(patience));
        loop {
            let mut turn = pin!(gate.queues[self.class as usize].turn.notified());
            // Heard from here on: who ends between the next two lines tells us.
            turn.as_mut().enable();
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Err(call::expired().refused());
            }
            if gate.try_begin(self.class) {
                return Ok(());
            }
            if timeout_at(until, turn).await.is_err() && until == patience {
                return Err(gate.overloaded());
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let gate = &self.shared.gate;
        gate.queues[self.class as usize].length.fetch_sub(1, SeqCst);
        // It may have been told of a place that it does not take, or there may be more of them.
        gate.call_next();
    }
}

/// What a class may use of so many places: at least one, if there are any.
fn share(places: usize, class: Criticality) -> usize {
    (places * SHARES[class as usize]).div_ceil(100)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::latency::Latency;
    use super::*;

    /// A method whose calls suddenly wait ten times as long for something outside costs its callers
    /// some refusals, and no more: with few of them at once the server learns that they do, and
    /// allows as many again.
    #[test]
    fn calls_that_wait_on_purpose_are_learned() {
        let (offered, min) = (500, 32);
        let mut course = Course { gradient: Gradient::new(min, 65_536), min, calm: 0 };
        let latency = Latency::default();
        let mut window = |took: Duration| {
            let peak = offered.min(course.gradient.limit());
            (0..peak).for_each(|_| latency.ended(took));
            let Ended { spent, unloaded, .. } = latency.take(course.is_calm(peak));
            course.gradient.observe(Window { peak, spent, unloaded });
            course.gradient.limit()
        };
        (0..10).for_each(|_| assert_eq!(window(Duration::from_millis(100)), 65_536));
        let limits: Vec<_> = (0..100).map(|_| window(Duration::from_secs(1))).collect();
        let shrunk = limits.iter().filter(|limit| **limit < offered).count();
        assert!(shrunk < 30 && limits.last() > Some(&offered), "{limits:?}");
    }

    /// Of any number of places, more important classes have at least as many, and each has one.
    #[test]
    fn shares_are_ordered() {
        for places in 1..1000 {
            let shares = Criticality::ALL.map(|class| share(places, class));
            assert!(shares.is_sorted_by(|more, less| more >= less), "{shares:?}");
            assert!(shares[0] == places && shares[CLASSES - 1] >= 1, "{shares:?}");
        }
    }
}
