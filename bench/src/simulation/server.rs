//! A node: workers, a bounded queue, and what goes wrong with it.

use std::collections::VecDeque;

use super::{MS, Nanos};

/// How a node behaves at present.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    /// It takes so many times as long as the call demands; 1.0 is healthy.
    Serving(f64),
    /// It takes as long as this, whatever the call demands.
    Stuck(Nanos),
    /// It fails every attempt at once.
    Failing,
    /// It accepts attempts and never answers.
    Hanging,
}

/// One node.
#[derive(Debug)]
pub struct Server {
    /// How it behaves.
    pub mood: Mood,
    workers: usize,
    busy: usize,
    waiting: VecDeque<(usize, Nanos)>,
    queue: usize,
    /// Work that refusals cost and that no worker has done yet.
    owed: f64,
}

/// What becomes of an attempt that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It is answered at that time.
    Done(Nanos),
    /// It waits for a worker.
    Waiting,
    /// It is refused as overloaded.
    Shed,
    /// It fails after that time.
    Failed(Nanos),
    /// Nobody will ever hear of it.
    Lost,
}

/// A refusal costs a worker this share of a mean call.
const SHED_COST: f64 = 0.1;
/// How long a failure takes that comes at once.
const FAST: Nanos = MS / 5;

impl Server {
    /// A healthy, idle node.
    pub fn new(workers: usize, queue: usize) -> Self {
        let (busy, waiting, owed) = (0, VecDeque::new(), 0.0);
        Self { mood: Mood::Serving(1.0), workers, busy, waiting, queue, owed }
    }

    /// An attempt arrives that demands so much work.
    pub fn arrive(&mut self, attempt: usize, demand: Nanos, mean: Nanos, now: Nanos) -> Arrival {
        match self.mood {
            Mood::Failing => Arrival::Failed(now + FAST),
            Mood::Hanging => Arrival::Lost,
            _ if self.busy < self.workers => Arrival::Done(self.start(demand, now)),
            _ if self.waiting.len() < self.queue => {
                self.waiting.push_back((attempt, demand));
                Arrival::Waiting
            }
            _ => {
                self.owed += SHED_COST * mean as f64;
                Arrival::Shed
            }
        }
    }

    /// A worker is done; returns the attempt it takes on, with when that is answered. Attempts that
    /// `is_over` says nobody waits for are passed over.
    pub fn next(&mut self, is_over: impl Fn(usize) -> bool, now: Nanos) -> Option<(usize, Nanos)> {
        self.busy -= 1;
        while let Some((attempt, demand)) = self.waiting.pop_front() {
            if !is_over(attempt) {
                return Some((attempt, self.start(demand, now)));
            }
        }
        None
    }

    /// When an attempt that arrives now would be answered, as far as that can be known.
    pub fn expected(&self, mean: Nanos) -> f64 {
        let each = match self.mood {
            Mood::Serving(slow) => mean as f64 * slow,
            Mood::Stuck(nanos) => nanos as f64,
            Mood::Failing | Mood::Hanging => return f64::INFINITY,
        };
        let before = (self.busy + self.waiting.len() + 1).saturating_sub(self.workers);
        each * (1.0 + before as f64 / self.workers as f64)
    }

    /// Attempts there, served or waiting.
    pub fn load(&self) -> usize {
        self.busy + self.waiting.len()
    }

    fn start(&mut self, demand: Nanos, now: Nanos) -> Nanos {
        self.busy += 1;
        let takes = match self.mood {
            Mood::Serving(slow) => demand as f64 * slow,
            Mood::Stuck(nanos) => nanos as f64,
            Mood::Failing | Mood::Hanging => demand as f64,
        };
        now + (takes + std::mem::take(&mut self.owed)) as Nanos
    }
}
