//! The nodes of a service at one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use micro_registry::Registration;

use crate::{Candidates, Strategy, Tried};

/// The nodes of a service that want traffic, as last known. Immutable: a change makes a new one.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// Beside `members`, index for index, so that strategies need not know `T`.
    stats: Box<[Arc<NodeStats>]>,
    members: Box<[Arc<Member<T>>]>,
    registered: usize,
    answered: bool,
    stale: bool,
}

impl<T> Snapshot<T> {
    pub(crate) fn new(
        members: Vec<Arc<Member<T>>>,
        registered: usize,
        answered: bool,
        stale: bool,
    ) -> Self {
        let stats = members.iter().map(|member| member.stats.clone()).collect();
        Self { stats, members: members.into(), registered, answered, stale }
    }

    /// The nodes that want traffic.
    pub fn members(&self) -> &[Arc<Member<T>>] {
        &self.members
    }

    /// How many nodes are registered, whether they want traffic or not.
    pub fn registered(&self) -> usize {
        self.registered
    }

    /// Whether the registry has told anything about this service yet.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether the registry is out of reach, so that this is what it last said.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// The node the strategy picks among those not tried, counted as in flight until what is
    /// returned is dropped; one to avoid only when there is no other. It does not hold on to the
    /// snapshot.
    pub(crate) fn pick(
        &self,
        strategy: &dyn Strategy,
        tried: &Tried,
        avoid: &Avoid<T>,
    ) -> Option<Picked<T>> {
        let all = || Candidates::new(&self.stats, tried);
        let avoid = |index: usize| self.members.get(index).is_some_and(|m| avoid(&m.target));
        let index = strategy.pick(&all().avoiding(&avoid)).or_else(|| strategy.pick(&all()))?;
        Some(Picked::new(self.members.get(index)?.clone()))
    }
}

/// Whether a node is to be avoided at present, by what is kept for it.
pub(crate) type Avoid<T> = dyn Fn(&T) -> bool + Send + Sync;

/// A node picked for one attempt.
#[derive(Debug)]
pub(crate) struct Picked<T>(Arc<Member<T>>);

impl<T> Picked<T> {
    fn new(member: Arc<Member<T>>) -> Self {
        member.stats.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(member)
    }

    pub(crate) fn member(&self) -> &Member<T> {
        &self.0
    }
}

impl<T> Drop for Picked<T> {
    fn drop(&mut self) {
        self.0.stats.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One node as the selector keeps it.
#[derive(Debug)]
pub struct Member<T> {
    registration: Arc<Registration>,
    stats: Arc<NodeStats>,
    target: T,
}

impl<T> Member<T> {
    pub(crate) fn new(registration: Arc<Registration>, target: T) -> Self {
        let stats = Arc::new(NodeStats::new(registration.node.weight));
        Self { registration, stats, target }
    }

    /// What the node announced.
    pub fn registration(&self) -> &Arc<Registration> {
        &self.registration
    }

    /// What is counted about it.
    pub fn stats(&self) -> &NodeStats {
        &self.stats
    }

    /// What is kept for it.
    pub fn target(&self) -> &T {
        &self.target
    }

    /// The same node with changed particulars; what is kept and counted goes on.
    pub(crate) fn updated(&self, registration: Arc<Registration>) -> Self
    where
        T: Clone,
    {
        self.stats.weight.store(u32::from(registration.node.weight), Ordering::Relaxed);
        Self { registration, stats: self.stats.clone(), target: self.target.clone() }
    }
}

/// What strategies know about a node. On cache lines of its own, since every call writes to it.
#[derive(Debug)]
#[repr(align(128))]
pub struct NodeStats {
    key: u64,
    in_flight: AtomicU32,
    weight: AtomicU32,
}

impl NodeStats {
    /// A node of this weight with nothing in flight.
    pub fn new(weight: u16) -> Self {
        /// Identity only, no behaviour: two nodes never share a key.
        static NEXT_KEY: AtomicU64 = AtomicU64::new(1);
        Self {
            key: NEXT_KEY.fetch_add(1, Ordering::Relaxed),
            in_flight: AtomicU32::new(0),
            weight: AtomicU32::new(u32::from(weight)),
        }
    }

    /// Tells this node from every other in the process.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// Counts an attempt that never ends.
    #[cfg(test)]
    pub(crate) fn add_in_flight(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// The attempts under way, from this process.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Its share of traffic relative to its neighbours, as registered.
    pub fn weight(&self) -> u32 {
        self.weight.load(Ordering::Relaxed)
    }
}
