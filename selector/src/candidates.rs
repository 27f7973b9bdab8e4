//! What a strategy chooses from.

use std::fmt;
use std::sync::Arc;

use fastrand::Rng;

use crate::NodeStats;
use crate::moment::Moment;

/// The nodes of a snapshot, and which of them this attempt may go to.
///
/// Only nodes that want traffic are among them. Looking at them takes no lock and allocates
/// nothing.
#[derive(Clone, Copy)]
pub struct Candidates<'a> {
    pub(crate) nodes: &'a [Arc<NodeStats>],
    pub(crate) sums: &'a [u32],
    /// `None`: it may go to all of them, as most may.
    pub(crate) excluded: Option<&'a dyn Fn(usize) -> bool>,
    pub(crate) key: Option<u64>,
    pub(crate) median: f32,
    pub(crate) now: Moment,
}

impl<'a> Candidates<'a> {
    /// How many nodes there are, with those that this attempt may not go to.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node at `index`, if the attempt may go there: the call has not tried it, and it is fit.
    ///
    /// # Panics
    ///
    /// When `index` is not below [`len`](Self::len).
    #[inline]
    pub fn get(&self, index: usize) -> Option<&'a NodeStats> {
        let node = &*self.nodes[index];
        (!self.excluded.is_some_and(|excluded| excluded(index))).then_some(node)
    }

    /// The first node at `start` or after it that the attempt may go to, going round once.
    pub fn first_from(&self, start: usize) -> Option<usize> {
        let len = self.len();
        (0..len).map(|step| (start + step) % len).find(|index| self.get(*index).is_some())
    }

    /// A node drawn at random, each as likely as it weighs; the attempt may not go to all of them.
    /// `None` when there is no node.
    pub fn draw(&self) -> Option<usize> {
        self.draw_by(&mut Rng::new())
    }

    /// The same by a generator at hand, for those who draw several.
    #[inline]
    pub(crate) fn draw_by(&self, random: &mut Rng) -> Option<usize> {
        match self.sums.get(..self.len()).and_then(<[u32]>::last) {
            Some(all @ 1..) => {
                let drawn = random.u32(..*all);
                Some(self.sums[..self.len()].partition_point(|sum| *sum <= drawn))
            }
            _ => (!self.is_empty()).then(|| random.usize(..self.len())),
        }
    }

    /// What the call goes by in consistent hashing.
    pub fn key(&self) -> Option<u64> {
        self.key
    }

    /// The attempts in flight at a node, in proportion to its weight and to the part of its share
    /// that a newcomer gets.
    #[inline]
    pub fn load(&self, node: &NodeStats) -> f32 {
        let in_flight = node.in_flight() as f32;
        let part = node.part(self.now);
        if self.sums.is_empty() && part == 1.0 {
            return in_flight;
        }
        in_flight * self.mean_weight() / (node.weight().max(1) as f32 * part)
    }

    /// What an attempt on a node is expected to cost: how long one takes there, times those that
    /// wait for it already.
    #[inline]
    pub fn cost(&self, node: &NodeStats) -> f32 {
        // Who is better than normal is not better still: else the luckiest estimate draws all.
        if node.cost().is_idle_and_normal(self.median) {
            return self.median;
        }
        let latency = node.expected(self.median, self.now);
        latency.max(self.median) * (1.0 + self.load(node))
    }

    /// What no node costs less than: an idle one that is no slower than normal costs just that.
    #[inline]
    pub(crate) fn least_cost(&self) -> f32 {
        self.median
    }

    /// Draws whether a newcomer takes part this time: for all others it is sure.
    pub(crate) fn takes_part(&self, node: &NodeStats) -> bool {
        let part = node.part(self.now);
        part == 1.0 || fastrand::f32() < part
    }

    fn mean_weight(&self) -> f32 {
        match self.sums.get(..self.len()).and_then(<[u32]>::last) {
            Some(all) => *all as f32 / self.len() as f32,
            None => self.nodes.first().map_or(1.0, |node| node.weight().max(1) as f32),
        }
    }
}

impl fmt::Debug for Candidates<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let may_go = (0..self.len()).filter_map(|index| self.get(index));
        f.debug_list().entries(may_go).finish()
    }
}

/// The nodes a call has tried, by [key](NodeStats::key).
///
/// Holds [`CAPACITY`](Self::CAPACITY) of them in place; a call makes fewer attempts than that.
#[derive(Clone, Debug)]
pub struct Tried {
    keys: [u64; Self::CAPACITY],
    len: usize,
}

impl Default for Tried {
    fn default() -> Self {
        Self::NONE
    }
}

impl Tried {
    /// None yet.
    pub const NONE: Self = Self { keys: [0; Self::CAPACITY], len: 0 };
    /// The most nodes a call can exclude, and so the most attempts it can make.
    pub const CAPACITY: usize = 8;

    /// Adds a node; beyond the capacity the oldest is forgotten.
    pub fn insert(&mut self, key: u64) {
        self.keys[self.len % Self::CAPACITY] = key;
        self.len += 1;
    }

    /// Takes a node out.
    pub(crate) fn remove(&mut self, key: u64) {
        for tried in self.keys.iter_mut().filter(|tried| **tried == key) {
            // No node has it.
            *tried = 0;
        }
    }

    /// Those that it remembers.
    pub(crate) fn keys(&self) -> impl Iterator<Item = u64> {
        self.keys[..self.len.min(Self::CAPACITY)].iter().copied().filter(|key| *key != 0)
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether another one would make it forget the oldest.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= Self::CAPACITY
    }

    /// Whether a node was tried.
    #[inline]
    pub fn contains(&self, key: u64) -> bool {
        self.keys[..self.len.min(Self::CAPACITY)].contains(&key)
    }
}
