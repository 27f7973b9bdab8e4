//! A node that bounds its calls, in simulated time: what healthy ones refuse, and what an overloaded
//! one does.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::time::Duration;

use tokio::time::Instant;

use crate::{Config, End, Limiter};

/// Draws what a call is like, from the second it comes in.
type Work = dyn Fn(&mut fastrand::Rng, f64) -> Job;

/// A call: how many seconds it works, how it ends if nobody gives it up, and after how many seconds
/// its caller does.
#[derive(Clone, Copy)]
struct Job {
    works: f64,
    end: End,
    patience: f64,
}

impl Job {
    /// Of a caller who waits for the answer.
    fn answered(works: f64) -> Self {
        Self { works, end: End::Ended, patience: 1e6 }
    }
}

/// A node that works on so many calls at once, and what becomes of calls.
struct Node<'a> {
    limiter: Limiter,
    start: Instant,
    rng: fastrand::Rng,
    work: &'a Work,
    places: usize,
    /// Whether those come first of all that wait who came last.
    newest_first: bool,
    busy: usize,
    /// Those that wait, by when they came.
    line: BTreeSet<Call>,
    /// When calls end, or are given up where they wait.
    ends: BinaryHeap<Reverse<(Duration, Call, bool)>>,
    offered: Vec<u32>,
    refused: Vec<u32>,
    answered: Vec<u32>,
    /// The longest that one took which ended in each second.
    longest: Vec<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    came: Duration,
    works: Duration,
    until: Duration,
    fails: bool,
}

impl<'a> Node<'a> {
    fn new(seed: u64, places: usize, work: &'a Work) -> Self {
        Self {
            limiter: Limiter::new(&Config::default(), 1),
            start: Instant::now(),
            rng: fastrand::Rng::with_seed(seed),
            work,
            places,
            newest_first: false,
            busy: 0,
            line: BTreeSet::new(),
            ends: BinaryHeap::new(),
            offered: vec![],
            refused: vec![],
            answered: vec![],
            longest: vec![],
        }
    }

    /// Calls come at random, so many per second.
    fn run(&mut self, rates: impl Iterator<Item = f64>) {
        let mut now = self.offered.len() as f64;
        for rate in rates {
            let second = self.offered.len();
            self.offered.push(0);
            self.refused.push(0);
            self.answered.push(0);
            self.longest.push(Duration::ZERO);
            loop {
                now += -(1.0 - self.rng.f64()).ln() / rate;
                if now >= (second + 1) as f64 {
                    break;
                }
                self.end_until(Duration::from_secs_f64(now));
                self.offer(second, now);
            }
            now = (second + 1) as f64;
        }
    }

    fn offer(&mut self, second: usize, now: f64) {
        self.offered[second] += 1;
        if !self.limiter.try_begin(self.limiter.limit()) {
            self.refused[second] += 1;
            return;
        }
        let job = (self.work)(&mut self.rng, now);
        let came = Duration::from_secs_f64(now);
        let (works, fails) = (Duration::from_secs_f64(job.works), job.end == End::Failed);
        let call = Call { came, works, until: came + Duration::from_secs_f64(job.patience), fails };
        self.line.insert(call);
        self.ends.push(Reverse((call.until, call, false)));
        self.begin(came);
    }

    fn begin(&mut self, now: Duration) {
        while self.busy < self.places
            && let Some(call) =
                if self.newest_first { self.line.pop_last() } else { self.line.pop_first() }
        {
            self.busy += 1;
            self.ends.push(Reverse((call.until.min(now + call.works), call, true)));
        }
    }

    fn end_until(&mut self, until: Duration) {
        while let Some(Reverse((now, call, worked))) =
            self.ends.peek().copied().filter(|next| next.0.0 < until)
        {
            self.ends.pop();
            if worked {
                self.busy -= 1;
            } else if !self.line.remove(&call) {
                continue;
            }
            self.end(now, &call);
            self.begin(now);
        }
    }

    fn end(&mut self, now: Duration, call: &Call) {
        let second = now.as_secs() as usize;
        let end = match (now < call.until, call.fails) {
            (false, _) => End::GivenUp,
            (true, true) => End::Failed,
            (true, false) => End::Ended,
        };
        self.limiter.learn(0, self.start + call.came, end, self.start + now);
        self.limiter.release();
        self.answered[second] += u32::from(end == End::Ended);
        let longest = &mut self.longest[second];
        *longest = (now - call.came).max(*longest);
    }

    /// How many percent were refused from this second on.
    fn refused_from(&self, second: usize) -> f64 {
        let sum = |calls: &[u32]| calls[second..].iter().sum::<u32>();
        f64::from(sum(&self.refused)) / f64::from(sum(&self.offered)) * 100.0
    }
}

fn exponential(mean: f64) -> Box<Work> {
    Box::new(move |rng, _| Job::answered(-mean * (1.0 - rng.f64()).ln()))
}

/// So many percent take a time, the others another.
fn two_valued(percent: u8, time: f64, other: f64) -> Box<Work> {
    Box::new(move |rng, _| Job::answered(if rng.u8(..100) < percent { time } else { other }))
}

fn lognormal(mean: f64, variation: f64) -> Box<Work> {
    let variance = (1.0 + variation * variation).ln();
    Box::new(move |rng, _| {
        let (radius, angle) = ((1.0 - rng.f64()).ln(), std::f64::consts::TAU * rng.f64());
        let normal = (-2.0 * radius).sqrt() * angle.cos();
        Job::answered((mean.ln() - variance / 2.0 + variance.sqrt() * normal).exp())
    })
}

/// So many percent of the calls fail, after as long as the others take.
fn failing(percent: u8, work: Box<Work>) -> Box<Work> {
    Box::new(move |rng, now| {
        let fails = rng.u8(..100) < percent;
        Job { end: if fails { End::Failed } else { End::Ended }, ..work(rng, now) }
    })
}

/// So many percent of the callers wait no longer than this.
fn impatient(percent: u8, patience: f64, work: Box<Work>) -> Box<Work> {
    Box::new(move |rng, now| {
        let patience = if rng.u8(..100) < percent { patience } else { 1e6 };
        Job { patience, ..work(rng, now) }
    })
}

/// A healthy service whose calls vary in length refuses next to none of them, whether they came all
/// at once at its start or ever more.
#[test]
fn varied_calls_are_no_overload() {
    for (name, rate, work) in [
        ("exponential, 200 ms, few", 200.0, exponential(0.2)),
        ("exponential, 200 ms", 500.0, exponential(0.2)),
        ("exponential, 3 s", 50.0, exponential(3.0)),
        ("90 % 20 ms, 10 % 1 s", 400.0, two_valued(90, 0.02, 1.0)),
        ("99 % 30 ms, 1 % 5 s", 1000.0, two_valued(99, 0.03, 5.0)),
        ("lognormal, 200 ms", 400.0, lognormal(0.2, 1.0)),
        ("lognormal, 100 ms, skewed", 800.0, lognormal(0.1, 3.0)),
        ("of which half fail", 400.0, failing(50, exponential(0.2))),
        ("of which most fail", 400.0, failing(95, exponential(0.2))),
        ("of which a third is given up", 500.0, impatient(100, 0.2, exponential(0.2))),
        ("of which half are given up soon", 500.0, impatient(50, 0.02, exponential(0.2))),
        ("of which most are given up soon", 500.0, impatient(95, 0.001, exponential(0.2))),
        ("of which rare ones are given up", 1000.0, impatient(100, 1.0, two_valued(99, 0.03, 5.0))),
    ] {
        for ramp in [1.0, 10.0] {
            let rates = (1..=80).map(|second| rate * (f64::from(second) / ramp).min(1.0));
            let mut node = Node::new(7, usize::MAX, &*work);
            node.run(rates);
            assert!(node.refused_from(60) < 0.5, "{name}: {:?}", node.refused);
            assert!(node.refused_from(0) < 2.0, "{name}: {:?}", node.refused);
        }
    }
}

/// An overload is ended: the node does what it can, and soon no call takes much longer than it
/// should; afterwards nothing is refused. That holds for a node that was at work before, also if
/// much ran at all times, and for one that starts in the middle of it.
#[test]
fn overloads_are_ended() {
    for (name, before, soon) in
        [("calm", vec![200.0; 5], 5), ("busy", vec![800.0; 10], 5), ("cold", vec![], 13)]
    {
        for work in [two_valued(100, 0.1, 0.1), exponential(0.1)] {
            let mut node = Node::new(3, 100, &*work);
            let start = before.len();
            node.run(before.iter().copied());
            node.run([3000.0; 20].into_iter());
            node.run([800.0; 10].into_iter());
            let (refused, longest) = (&node.refused[start..], &node.longest[start..]);
            assert!(
                longest[soon..].iter().all(|longest| longest.as_millis() < 2000),
                "{name}: {longest:?}"
            );
            assert!(refused[soon..20].iter().all(|refused| *refused < 2500), "{name}: {refused:?}");
            assert!(refused[22..].iter().all(|refused| *refused == 0), "{name}: {refused:?}");
        }
    }
}

/// What fails quickly while something that it needs is away does not make what succeeds look slow
/// afterwards, whether much ran before or little.
#[test]
fn failing_quickly_is_not_what_is_normal() {
    for (rate, end, patience) in [
        (100.0, End::Failed, 1e6),
        (1000.0, End::Failed, 1e6),
        (100.0, End::Ended, 0.01),
        (1000.0, End::Ended, 0.01),
    ] {
        let work = move |_: &mut fastrand::Rng, now: f64| match now {
            20.0..30.0 => Job { end, patience, ..Job::answered(0.02) },
            _ => Job::answered(0.2),
        };
        let mut node = Node::new(1, usize::MAX, &work);
        node.run([rate; 25].into_iter().chain([1000.0; 20]));
        assert_eq!(node.refused_from(0), 0.0, "{:?}", node.refused);
    }
}

/// A node that has three times as much to do as it can answers most of what it can, though most
/// callers give up: whatever their deadline, who of those that wait comes first, and whether it was at
/// work before.
#[test]
fn overloads_of_which_most_is_given_up_are_ended() {
    for newest_first in [false, true] {
        for before in [vec![200.0; 5], vec![800.0; 10], vec![]] {
            for (patience, least) in [(0.13, 450), (0.3, 600), (1.0, 850), (5.0, 900)] {
                for work in [two_valued(100, 0.1, 0.1), exponential(0.1)] {
                    let work = impatient(100, patience, work);
                    let mut node = Node::new(3, 100, &*work);
                    node.newest_first = newest_first;
                    node.run(before.iter().copied().chain([3000.0; 20]));
                    let answered = &node.answered[before.len() + 8..];
                    let mean = answered.iter().sum::<u32>() / answered.len() as u32;
                    assert!(mean >= least, "{newest_first} {before:?} {patience}: {answered:?}");
                }
            }
        }
    }
}
