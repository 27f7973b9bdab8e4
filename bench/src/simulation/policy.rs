//! What is compared: ours, three textbook policies, and an oracle.

use std::fmt;
use std::time::Duration;

use micro::registry::{EmptyReason, Node, Registration, Update};
use micro::selector::{
    Budget, Cache, CallOptions, Class, Decision, Picked, Picker, RetryPolicy, Snapshot,
    StrategyKind, Throttle, Tried,
};
use serde::Serialize;
use tokio::time::Instant;

use super::server::Server;
use super::{Nanos, S};

/// A policy by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The default of this crate's clients.
    Micro,
    /// The same, not told which method is called.
    Unaware,
    /// Ours with the strategy `least-loaded`.
    Fewest,
    /// Each node in turn.
    RoundRobin,
    /// The node with fewer attempts in flight, of two.
    LeastLoaded,
    /// The cheaper one by Finagle's `PeakEwma` as published, of two.
    PeakEwma,
    /// Knows the state of every node.
    Oracle,
}

impl Policy {
    /// Those to print; the oracle is what they are measured by.
    pub const COMPARED: [Self; 4] =
        [Self::Micro, Self::RoundRobin, Self::LeastLoaded, Self::PeakEwma];

    /// Why it misses a goal, where that is known.
    pub fn weakness(self, goal: &str) -> Option<&'static str> {
        Some(match (self, goal) {
            (Self::Unaware, "G15") => "a long call makes its node look slow",
            (Self::Fewest, "G15") => "a slow node has to be loaded before it is seen",
            (Self::RoundRobin | Self::LeastLoaded | Self::PeakEwma, "G9") => "spares nobody",
            (Self::RoundRobin, _) => "looks at nothing",
            (Self::LeastLoaded | Self::PeakEwma, "G2") => "two choices",
            (Self::LeastLoaded, "G5") => "a node that fails is soon idle",
            (Self::PeakEwma, "G5") => "a node that fails looks quick",
            _ => return None,
        })
    }

    /// A client of so many nodes that goes by it.
    pub fn client(self, nodes: usize) -> Client {
        let micro = |strategy: StrategyKind, knows_methods| {
            Client::Micro(Box::new(Micro::new(nodes, &strategy, knows_methods)))
        };
        match self {
            Self::Micro => micro(StrategyKind::Ewma, true),
            Self::Fewest => micro(StrategyKind::LeastLoaded, true),
            Self::Unaware => micro(StrategyKind::Ewma, false),
            Self::RoundRobin => Client::Textbook(Textbook::new(Rule::RoundRobin, nodes)),
            Self::LeastLoaded => Client::Textbook(Textbook::new(Rule::LeastLoaded, nodes)),
            Self::PeakEwma => Client::Textbook(Textbook::new(Rule::PeakEwma, nodes)),
            Self::Oracle => Client::Textbook(Textbook::new(Rule::Oracle, nodes)),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Micro => "micro",
            Self::Fewest => "least-loaded, of five",
            Self::Unaware => "ewma, no methods",
            Self::RoundRobin => "round-robin",
            Self::LeastLoaded => "least-loaded",
            Self::PeakEwma => "peak-ewma",
            Self::Oracle => "oracle",
        })
    }
}

/// A process that calls.
#[derive(Debug)]
pub enum Client {
    /// With our code.
    Micro(Box<Micro>),
    /// With a textbook policy, and the same retries without budget.
    Textbook(Textbook),
}

/// An attempt under way, as its client keeps it.
#[derive(Debug)]
pub enum Attempt {
    /// Of ours; what it holds is the node's number.
    Micro(Picked<usize>),
    /// Of a textbook policy: the node, and when it began.
    Textbook(usize, Nanos),
}

impl Attempt {
    /// The node it went to.
    pub fn node(&self) -> usize {
        match self {
            Self::Micro(picked) => *picked.member().target(),
            Self::Textbook(node, _) => *node,
        }
    }
}

/// What one call remembers from one attempt to the next.
#[derive(Clone, Debug, Default)]
pub struct Course {
    keys: Tried,
    nodes: Vec<usize>,
    attempts: u32,
}

impl Client {
    /// A call begins.
    pub fn begin(&self) {
        if let Self::Micro(micro) = self {
            micro.budget.deposit();
        }
    }

    /// The next attempt of a call; `None` when it is not to be made.
    pub fn attempt(
        &mut self,
        course: &mut Course,
        method: usize,
        servers: &[Server],
        now: Nanos,
    ) -> Option<Attempt> {
        match self {
            Self::Micro(micro) => micro.attempt(course, method, now).map(Attempt::Micro),
            Self::Textbook(textbook) => {
                let node = textbook.pick(&course.nodes, servers, now)?;
                course.nodes.push(node);
                Some(Attempt::Textbook(node, now))
            }
        }
    }

    /// An attempt has ended; returns how long to wait before the next one, if there is to be one.
    pub fn finish(
        &mut self,
        attempt: Attempt,
        outcome: Result<(), Class>,
        course: &mut Course,
        idempotent: bool,
        now: Nanos,
    ) -> Option<Nanos> {
        match (self, attempt) {
            (Self::Micro(micro), Attempt::Micro(picked)) => {
                micro.finish(picked, outcome, course, idempotent, now)
            }
            (Self::Textbook(textbook), Attempt::Textbook(node, began)) => {
                textbook.finish(node, began, now);
                let class = outcome.err()?;
                let may = idempotent || class != Class::MaybeExecuted;
                (may && course.nodes.len() < 3).then_some(0)
            }
            _ => unreachable!("a client gets its own attempts back"),
        }
    }

    /// A node joins.
    pub fn join(&mut self, node: usize, now: Nanos) {
        match self {
            Self::Micro(micro) => micro.join(node, now),
            Self::Textbook(textbook) => textbook.nodes.push(Known::default()),
        }
    }
}

/// Ours: what `Subscription::call` consists of, without its waiting.
#[derive(Debug)]
pub struct Micro {
    start: Instant,
    picker: Picker,
    cache: Cache<usize>,
    snapshot: Snapshot<usize>,
    options: CallOptions,
    retry: RetryPolicy,
    budget: Budget,
    throttle: Throttle,
    knows_methods: bool,
}

impl Micro {
    fn new(nodes: usize, strategy: &StrategyKind, knows_methods: bool) -> Self {
        let start = Instant::now();
        let picker = Picker::new(strategy, start);
        let mut cache = Cache::new(&picker);
        let nodes = (0..nodes).map(|node| registration(node).into()).collect();
        cache.apply(&Update::reset(nodes, EmptyReason::Unknown), start);
        let snapshot = cache.snapshot(number, start);
        Self {
            start,
            picker,
            cache,
            snapshot,
            options: CallOptions::default(),
            retry: RetryPolicy::default(),
            budget: Budget::new(0.2, 10, start),
            throttle: Throttle::new(start),
            knows_methods,
        }
    }

    fn at(&self, now: Nanos) -> Instant {
        self.start + Duration::from_nanos(now)
    }

    fn attempt(&mut self, course: &mut Course, method: usize, now: Nanos) -> Option<Picked<usize>> {
        let now = self.at(now);
        self.options.method = self.knows_methods.then_some(method as u64 + 1);
        if !self.throttle.admit(now) {
            return None;
        }
        let avoid = |_: &usize| false;
        let picked = self.picker.pick(&self.snapshot, &self.options, &course.keys, &avoid, now)?;
        course.keys.insert(picked.member().stats().key());
        course.nodes.push(*picked.member().target());
        Some(picked)
    }

    fn finish(
        &mut self,
        picked: Picked<usize>,
        outcome: Result<(), Class>,
        course: &mut Course,
        idempotent: bool,
        now: Nanos,
    ) -> Option<Nanos> {
        let now = self.at(now);
        picked.finish(outcome, now);
        let class = outcome.err()?;
        if class == Class::Overloaded {
            self.throttle.overloaded(now);
        }
        course.attempts += u32::from(class != Class::NotSent);
        let tried = course.nodes.len();
        match self.retry.decide(class, course.attempts, tried, idempotent, &self.budget, now) {
            Decision::Retry(wait) => Some(wait.as_nanos() as Nanos),
            Decision::GiveUp => None,
        }
    }

    fn join(&mut self, node: usize, now: Nanos) {
        let now = self.at(now);
        self.cache.apply(&Update::Put(registration(node).into()), now);
        self.snapshot = self.cache.snapshot(number, now);
    }
}

fn registration(node: usize) -> Registration {
    Registration::new("simulated", "1.0.0", Node::new(format!("n{node:04}"), "127.0.0.1:1"))
}

fn number(registration: &Registration) -> Option<usize> {
    registration.node.id.trim_start_matches('n').parse().ok()
}

/// A policy out of a textbook: no health, no budget.
#[derive(Debug)]
pub struct Textbook {
    rule: Rule,
    nodes: Vec<Known>,
    turn: usize,
}

#[derive(Clone, Copy, Debug)]
enum Rule {
    RoundRobin,
    LeastLoaded,
    PeakEwma,
    Oracle,
}

/// What a client knows of a node.
#[derive(Clone, Debug, Default)]
struct Known {
    in_flight: u32,
    cost: f64,
    at: Nanos,
}

impl Textbook {
    fn new(rule: Rule, nodes: usize) -> Self {
        Self { rule, nodes: vec![Known::default(); nodes], turn: fastrand::usize(..nodes) }
    }

    fn pick(&mut self, tried: &[usize], servers: &[Server], now: Nanos) -> Option<usize> {
        let len = self.nodes.len();
        if tried.len() >= len {
            return None;
        }
        let picked = match self.rule {
            Rule::RoundRobin => loop {
                self.turn = (self.turn + 1) % len;
                if !tried.contains(&self.turn) {
                    break self.turn;
                }
            },
            Rule::LeastLoaded => {
                let (a, b) = two(len, tried);
                if self.nodes[b].in_flight < self.nodes[a].in_flight { b } else { a }
            }
            Rule::PeakEwma => {
                let (a, b) = two(len, tried);
                if self.nodes[b].cost(now) < self.nodes[a].cost(now) { b } else { a }
            }
            Rule::Oracle => best(servers, tried)?,
        };
        self.nodes[picked].in_flight += 1;
        Some(picked)
    }

    fn finish(&mut self, node: usize, began: Nanos, now: Nanos) {
        self.nodes[node].in_flight -= 1;
        self.nodes[node].observe((now - began) as f64, now);
    }
}

impl Known {
    /// Finagle's: an idle node's cost decays to nothing, one without history is dear.
    fn cost(&mut self, now: Nanos) -> f64 {
        self.observe(0.0, now);
        match (self.cost, self.in_flight) {
            (0.0, 1..) => 1e15 + f64::from(self.in_flight),
            (cost, in_flight) => cost * f64::from(in_flight + 1),
        }
    }

    fn observe(&mut self, took: f64, now: Nanos) {
        let weight = (-((now - self.at) as f64) / (10.0 * S as f64)).exp();
        self.at = now;
        self.cost =
            if took > self.cost { took } else { self.cost * weight + took * (1.0 - weight) };
    }
}

/// Two distinct nodes, which may be the same when only one is untried.
fn two(len: usize, tried: &[usize]) -> (usize, usize) {
    let draw = |not: &dyn Fn(usize) -> bool| loop {
        let node = fastrand::usize(..len);
        if !not(node) {
            break node;
        }
    };
    let first = draw(&|node| tried.contains(&node));
    if tried.len() + 1 >= len {
        return (first, first);
    }
    (first, draw(&|node| node == first || tried.contains(&node)))
}

/// The node that answers soonest; of several any.
fn best(servers: &[Server], tried: &[usize]) -> Option<usize> {
    let start = fastrand::usize(..servers.len());
    let all = (0..servers.len()).map(|step| (start + step) % servers.len());
    let untried = all.filter(|node| !tried.contains(node));
    let expected = |node: &usize| (servers[*node].expected(S), servers[*node].load());
    untried.min_by(|a, b| expected(a).partial_cmp(&expected(b)).expect("no time is NaN"))
}
