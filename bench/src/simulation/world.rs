//! Clients that call, and the events of their calls.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use micro::selector::Class;

use super::policy::{Attempt, Client, Course, Policy};
use super::server::{Arrival, Mood, Server};
use super::{MS, Nanos, S};

/// What a scenario consists of.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// How many nodes there are at the start.
    pub nodes: usize,
    /// How many processes call; calls are spread over them at random.
    pub clients: usize,
    /// Calls each node can work on at once.
    pub workers: usize,
    /// Calls that wait at a node at most; more are refused as overloaded.
    pub queue: usize,
    /// The methods that are called: the share of each among the calls, which add up to one, and the
    /// mean of what one demands, exponentially distributed.
    pub methods: Vec<(f64, Nanos)>,
    /// When a call is given up.
    pub deadline: Option<Nanos>,
    /// Whether calls may be repeated after they may have been executed.
    pub idempotent: bool,
    /// How long calls are made.
    pub length: Nanos,
    /// What happens when.
    pub script: Vec<(Nanos, Act)>,
}

/// What happens at some time.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// A node changes how it behaves.
    Mood(usize, Mood),
    /// So many calls arrive per second from now on.
    Rate(f64),
    /// A node joins.
    Join,
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 10,
            clients: 20,
            workers: 16,
            queue: usize::MAX,
            methods: vec![(1.0, 10 * MS)],
            deadline: None,
            idempotent: true,
            length: 25 * S,
            script: Vec::new(),
        }
    }
}

impl Scenario {
    /// Calls per second that a healthy node serves.
    pub fn capacity(&self) -> f64 {
        self.workers as f64 * S as f64 / self.mean() as f64
    }

    /// What a call demands in the mean over all methods.
    pub fn mean(&self) -> Nanos {
        self.methods.iter().map(|(share, mean)| share * *mean as f64).sum::<f64>() as Nanos
    }

    /// One of the methods, as often as each is called.
    fn method(&self, rng: &mut fastrand::Rng) -> usize {
        let last = self.methods.len() - 1;
        // Nothing is drawn where there is no choice, so that what else is drawn stays the same.
        let mut drawn = if last > 0 { rng.f64() } else { 0.0 };
        let is_it = |(share, _): &(f64, Nanos)| {
            drawn -= share;
            drawn < 0.0
        };
        self.methods.iter().position(is_it).unwrap_or(last)
    }
}

/// One call that ended.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Which method was called, by its place in the scenario.
    pub method: usize,
    /// When it was made.
    pub at: Nanos,
    /// How long it took.
    pub took: Nanos,
    /// Whether it was answered.
    pub is_ok: bool,
}

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// When it was sent.
    pub at: Nanos,
    /// By whom.
    pub client: usize,
    /// To which node.
    pub node: usize,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// Calls in the order in which they ended.
    pub calls: Vec<Call>,
    /// Attempts in the order in which they were sent.
    pub sent: Vec<Sent>,
}

impl Record {
    /// The calls of one method alone.
    pub fn of_method(mut self, method: usize) -> Self {
        self.calls.retain(|call| call.method == method);
        self
    }
}

/// Plays a scenario with clients of one policy.
pub fn play(scenario: &Scenario, policy: Policy, seed: u64) -> Record {
    // What the policies draw, and what the scenario does, which is the same for all of them.
    fastrand::seed(seed);
    let mut world = World {
        scenario,
        demand: fastrand::Rng::with_seed(!seed),
        servers: (0..scenario.nodes).map(|_| scenario.server()).collect(),
        clients: (0..scenario.clients).map(|_| policy.client(scenario.nodes)).collect(),
        events: BinaryHeap::new(),
        calls: Vec::new(),
        rate: 0.0,
        next_call: u64::MAX,
        record: Record::default(),
    };
    world.play();
    world.record
}

impl Scenario {
    fn server(&self) -> Server {
        Server::new(self.workers, self.queue)
    }
}

struct World<'a> {
    scenario: &'a Scenario,
    demand: fastrand::Rng,
    servers: Vec<Server>,
    clients: Vec<Client>,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    calls: Vec<Open>,
    rate: f64,
    next_call: Nanos,
    record: Record,
}

/// A call as long as the simulation runs.
struct Open {
    client: usize,
    method: usize,
    at: Nanos,
    demand: Nanos,
    course: Course,
    attempt: Option<Attempt>,
    /// Counts attempts, so that events of earlier ones are told apart.
    turn: u32,
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A worker of this node is done with an attempt of this call.
    Served { node: usize, call: usize, turn: u32 },
    /// An attempt of this call failed.
    Failed { call: usize, turn: u32 },
    /// The call is to be tried again.
    Again { call: usize },
    /// The call's deadline.
    Deadline { call: usize },
    /// The script goes on.
    Act { index: usize },
}

impl World<'_> {
    fn play(&mut self) {
        for (index, (at, _)) in self.scenario.script.iter().enumerate() {
            self.at(*at, Event::Act { index });
        }
        loop {
            let due = self.events.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            if self.next_call < due {
                if self.next_call > self.scenario.length {
                    self.next_call = u64::MAX;
                    continue;
                }
                self.call(self.next_call);
                continue;
            }
            let Some(Reverse((now, _, event))) = self.events.pop() else { return };
            self.happens(event, now);
        }
    }

    fn happens(&mut self, event: Event, now: Nanos) {
        match event {
            Event::Served { node, call, turn } => {
                let calls = &self.calls;
                if let Some((next, done)) = self.servers[node].next(|call| calls[call].is_over, now)
                {
                    let turn = self.calls[next].turn;
                    self.at(done, Event::Served { node, call: next, turn });
                }
                self.ended(call, turn, Ok(()), now);
            }
            Event::Failed { call, turn } => {
                self.ended(call, turn, Err(Class::MaybeExecuted), now);
            }
            Event::Again { call } => self.attempt(call, now),
            Event::Deadline { call } => self.expire(call, now),
            Event::Act { index } => self.act(self.scenario.script[index].1, now),
        }
    }

    fn act(&mut self, act: Act, now: Nanos) {
        match act {
            Act::Mood(node, mood) => self.servers[node].mood = mood,
            Act::Rate(rate) => {
                self.rate = rate;
                self.next_call = now + self.gap();
            }
            Act::Join => {
                let node = self.servers.len();
                self.servers.push(self.scenario.server());
                self.clients.iter_mut().for_each(|client| client.join(node, now));
            }
        }
    }

    fn call(&mut self, now: Nanos) {
        self.next_call = now + self.gap();
        let client = self.demand.usize(..self.clients.len());
        let method = self.scenario.method(&mut self.demand);
        let (_, mean) = self.scenario.methods[method];
        let demand = (exponential(&mut self.demand) * mean as f64) as Nanos;
        let call = self.calls.len();
        self.calls.push(Open {
            client,
            method,
            at: now,
            demand,
            course: Course::default(),
            attempt: None,
            turn: 0,
            is_over: false,
        });
        self.clients[client].begin();
        if let Some(deadline) = self.scenario.deadline {
            self.at(now + deadline, Event::Deadline { call });
        }
        self.attempt(call, now);
    }

    fn attempt(&mut self, call: usize, now: Nanos) {
        let open = &mut self.calls[call];
        if open.is_over {
            return;
        }
        let client = &mut self.clients[open.client];
        let Some(attempt) = client.attempt(&mut open.course, open.method, &self.servers, now)
        else {
            return self.over(call, false, now);
        };
        let node = attempt.node();
        open.attempt = Some(attempt);
        open.turn += 1;
        let (turn, demand, client) = (open.turn, open.demand, open.client);
        self.record.sent.push(Sent { at: now, client, node });
        match self.servers[node].arrive(call, demand, self.scenario.mean(), now) {
            Arrival::Done(at) => self.at(at, Event::Served { node, call, turn }),
            Arrival::Failed(at) => self.at(at, Event::Failed { call, turn }),
            Arrival::Shed => self.ended(call, turn, Err(Class::Overloaded), now),
            Arrival::Waiting | Arrival::Lost => {}
        }
    }

    fn ended(&mut self, call: usize, turn: u32, outcome: Result<(), Class>, now: Nanos) {
        let open = &mut self.calls[call];
        if open.turn != turn || open.is_over {
            return;
        }
        let Some(attempt) = open.attempt.take() else { return };
        let idempotent = self.scenario.idempotent;
        let client = &mut self.clients[open.client];
        match client.finish(attempt, outcome, &mut open.course, idempotent, now) {
            Some(wait) => self.at(now + wait, Event::Again { call }),
            None => self.over(call, outcome.is_ok(), now),
        }
    }

    fn expire(&mut self, call: usize, now: Nanos) {
        let open = &mut self.calls[call];
        if open.is_over {
            return;
        }
        if let Some(attempt) = open.attempt.take() {
            let client = &mut self.clients[open.client];
            // Whether to try again does not matter any more.
            client.finish(attempt, Err(Class::MaybeExecuted), &mut open.course, false, now);
        }
        self.over(call, false, now);
    }

    fn over(&mut self, call: usize, is_ok: bool, now: Nanos) {
        let open = &mut self.calls[call];
        open.is_over = true;
        self.record.calls.push(Call {
            method: open.method,
            at: open.at,
            took: now - open.at,
            is_ok,
        });
    }

    fn at(&mut self, at: Nanos, event: Event) {
        let order = self.record.sent.len() as u64;
        self.events.push(Reverse((at, order, event)));
    }

    fn gap(&mut self) -> Nanos {
        (exponential(&mut self.demand) * S as f64 / self.rate) as Nanos
    }
}

fn exponential(rng: &mut fastrand::Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}
