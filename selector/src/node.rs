//! A node as the selector keeps it, and what is counted about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use micro_registry::{Node, Registration, validate};
use semver::Version;
use tokio::time::Instant;

use crate::cost::{Cost, Sample};
use crate::ejection::Ejection;
use crate::hash;
use crate::methods::Method;
use crate::moment::Moment;
use crate::peers::Peers;
use crate::retry::Class;

/// One node as the selector keeps it.
#[derive(Debug)]
pub struct Member<T> {
    registration: Arc<Registration>,
    version: Option<Version>,
    stats: Arc<NodeStats>,
    target: T,
}

impl<T> Member<T> {
    pub(crate) fn new(registration: Arc<Registration>, stats: NodeStats, target: T) -> Self {
        let version = read_version(&registration.version);
        Self { registration, version, stats: Arc::new(stats), target }
    }

    /// What the node announced.
    pub fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// What is counted about it.
    pub fn stats(&self) -> &Arc<NodeStats> {
        &self.stats
    }

    /// What is kept for it.
    pub fn target(&self) -> &T {
        &self.target
    }

    /// Its version, if that is a semantic one.
    pub(crate) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// The same node with changed particulars; what is kept and counted goes on.
    pub(crate) fn updated(&self, registration: Arc<Registration>) -> Self
    where
        T: Clone,
    {
        self.stats.weight.store(u32::from(registration.node.weight), Relaxed);
        let version = read_version(&registration.version);
        Self { registration, version, stats: self.stats.clone(), target: self.target.clone() }
    }
}

/// The version, if that is a semantic one; leading zeros are allowed, as they are in a registry.
pub(crate) fn read_version(version: &str) -> Option<Version> {
    Version::parse(&validate::plain_version(version)).ok()
}

/// What strategies know about a node. On cache lines of its own, since every call writes to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct NodeStats {
    cost: Cost,
    ejection: Ejection,
    weight: AtomicU32,
    /// Since when it is a newcomer; zero when it is none.
    joined: AtomicU64,
    key: u64,
    hash: u64,
    peers: Arc<Peers>,
}

/// How long a newcomer gets less than its share. Envoy's and the SRE book's advice; ours are both
/// figures.
const SLOW_START: Duration = Duration::from_secs(10);
/// The part of its share it starts with.
const FIRST_PART: f32 = 0.1;

/// An attempt that the caller's deadline ended sooner than after so many medians says nothing
/// against its node.
const IN_TIME: f32 = 10.0;
/// Nor does one that took less than this, as calls within calls do that inherit a rest of time. Ours:
/// longer, and nodes that hang are never ejected by callers with short deadlines.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

impl NodeStats {
    /// A node with nothing in flight, of which nothing is known.
    pub(crate) fn new(node: &Node, peers: &Arc<Peers>) -> Self {
        /// Identity only, no behaviour: two nodes never share a key.
        static NEXT_KEY: AtomicU64 = AtomicU64::new(1);
        Self {
            cost: Cost::new(),
            ejection: Ejection::new(),
            weight: AtomicU32::new(u32::from(node.weight)),
            joined: AtomicU64::new(0),
            key: NEXT_KEY.fetch_add(1, Relaxed),
            hash: hash::of(node.id.as_bytes()),
            peers: peers.clone(),
        }
    }

    /// Tells this node from every other in the process.
    #[inline]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Tells the node by its id, the same in every process: what consistent hashing goes by.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The attempts under way, from this process.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.cost.in_flight()
    }

    /// Its share of traffic relative to its neighbours, as registered.
    pub fn weight(&self) -> u32 {
        self.weight.load(Relaxed)
    }

    /// Whether it failed too often of late, so that it gets probes only.
    pub fn is_ejected(&self) -> bool {
        self.ejection.is_out()
    }

    /// How long attempts are expected to take, from those of late; `None` when nothing is known.
    pub fn latency(&self) -> Option<Duration> {
        self.cost.measured().map(|nanos| Duration::from_nanos(nanos as u64))
    }

    /// The same as a newcomer, which gets less than its share at first.
    pub(crate) fn joining(self, now: Instant) -> Self {
        self.join(self.peers.at(now));
        self
    }

    #[inline]
    pub(crate) fn cost(&self) -> &Cost {
        &self.cost
    }

    /// How long an attempt is expected to take if the node had nothing else to do, in nanoseconds.
    #[inline]
    pub(crate) fn expected(&self, median: f32, now: Moment) -> f32 {
        self.cost.latency(median, self.ejection.failures(), now)
    }

    /// The part of its share a newcomer gets: 0.1 to 1.
    #[inline]
    pub(crate) fn part(&self, now: Moment) -> f32 {
        let joined = self.joined.load(Relaxed);
        if joined == 0 {
            return 1.0;
        }
        let grown = now.since(Moment::from_nanos(joined)) as f32 / SLOW_START.as_nanos() as f32;
        if grown >= 1.0 {
            self.joined.store(0, Relaxed);
        }
        (FIRST_PART + (1.0 - FIRST_PART) * grown).min(1.0)
    }

    /// When it wants its probe.
    pub(crate) fn probe_due(&self) -> Option<Moment> {
        self.ejection.due()
    }

    pub(crate) fn begin_probe(&self, now: Moment) -> bool {
        self.ejection.begin_probe(now)
    }

    /// An attempt begins.
    #[inline]
    pub(crate) fn begin(&self, begun: &Begun) {
        self.cost.begin(begun, self.ejection.failures());
    }

    /// An attempt has ended; the class is that of its failure.
    #[inline]
    pub(crate) fn end(&self, begun: Begun, outcome: Result<(), Class>, now: Instant) {
        if outcome == Err(Class::Unsent) {
            return self.cancel(begun, now);
        }
        let now = self.peers.at(now);
        let sample = match outcome {
            Ok(()) | Err(Class::Executed) => Sample::Answered,
            Err(Class::MaybeExecuted | Class::NotSent) => Sample::Failed,
            Err(_) => Sample::Spared,
        };
        self.end_cost(sample, &begun, now);
        match outcome {
            Ok(()) | Err(Class::Executed) => self.answered(begun.is_probe, now),
            Err(Class::MaybeExecuted) => self.ejection.failed(begun.is_probe, &self.peers, now),
            // A probe must tell: a node that cannot be reached is not fit.
            Err(Class::NotSent) if begun.is_probe => self.ejection.failed(true, &self.peers, now),
            // It is there, and sent the attempt away for a reason of its own.
            Err(_) if begun.is_probe => self.answered(true, now),
            Err(_) => {}
        }
    }

    /// The caller's deadline ended the attempt.
    pub(crate) fn expire(&self, begun: Begun, class: Class, now: Instant) {
        let patience = (IN_TIME * begun.normal()).max(PATIENCE.as_nanos() as f32);
        let was_short = (self.peers.at(now).since(begun.at) as f32) < patience;
        match class {
            Class::NotSent | Class::MaybeExecuted if was_short => self.cancel(begun, now),
            _ => self.end(begun, Err(class), now),
        }
    }

    /// Nobody waits for the attempt any more.
    pub(crate) fn cancel(&self, begun: Begun, now: Instant) {
        let now = self.peers.at(now);
        self.end_cost(Sample::Cancelled, &begun, now);
        if begun.is_probe {
            self.ejection.probe_told_nothing(&self.peers, now);
        }
    }

    /// The node has left, or wants no traffic: it holds no place among the ejected.
    pub(crate) fn retire(&self) {
        self.ejection.retire(&self.peers);
    }

    /// The node wants traffic. If it did not before, it begins anew, as a newcomer.
    pub(crate) fn enter(&self, now: Instant) {
        let now = self.peers.at(now);
        if self.ejection.enter(now) {
            self.cost.forget();
            self.join(now);
        }
    }

    #[inline]
    fn end_cost(&self, sample: Sample, begun: &Begun, now: Moment) {
        if sample == Sample::Answered {
            self.peers.methods.answered(begun.method, now.since(begun.at) as f32);
        }
        self.cost.end(sample, begun, now);
    }

    #[inline]
    fn answered(&self, is_probe: bool, now: Moment) {
        if self.ejection.answered(is_probe, &self.peers, now) {
            self.cost.forget();
            self.join(now);
        }
    }

    fn join(&self, now: Moment) {
        self.joined.store(now.nanos().max(1), Relaxed);
    }
}

/// What is known of an attempt since it began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begun {
    pub(crate) at: Moment,
    /// What was normal then.
    pub(crate) median: f32,
    pub(crate) method: Method,
    pub(crate) is_probe: bool,
}

impl Begun {
    /// How long such an attempt takes on most nodes, in nanoseconds.
    pub(crate) fn normal(&self) -> f32 {
        self.median * self.method.length.unwrap_or(1.0)
    }
}
