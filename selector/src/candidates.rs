//! What a strategy chooses from.

use std::sync::Arc;

use crate::NodeStats;

/// The nodes of a snapshot, and which of them this call has tried.
///
/// Only nodes that want traffic are among them. Looking at them takes no lock and allocates
/// nothing.
#[derive(Debug)]
pub struct Candidates<'a> {
    nodes: &'a [Arc<NodeStats>],
    tried: &'a Tried,
}

impl<'a> Candidates<'a> {
    /// The nodes, less those tried.
    pub fn new(nodes: &'a [Arc<NodeStats>], tried: &'a Tried) -> Self {
        Self { nodes, tried }
    }

    /// How many nodes there are, tried ones included.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node at `index`, unless this call has tried it.
    ///
    /// # Panics
    ///
    /// When `index` is not below [`len`](Self::len).
    pub fn untried(&self, index: usize) -> Option<&'a NodeStats> {
        let node = &self.nodes[index];
        (!self.tried.contains(node.key())).then_some(node)
    }

    /// The first untried node at `start` or after it, going round once.
    pub fn first_untried_from(&self, start: usize) -> Option<usize> {
        let len = self.len();
        (0..len).map(|step| (start + step) % len).find(|index| self.untried(*index).is_some())
    }
}

/// The nodes a call has tried, by [key](NodeStats::key).
///
/// Holds [`CAPACITY`](Self::CAPACITY) of them in place; a call makes fewer attempts than that.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    keys: [u64; Self::CAPACITY],
    len: usize,
}

impl Tried {
    /// The most nodes a call can exclude, and so the most attempts it can make.
    pub const CAPACITY: usize = 8;

    /// Adds a node; beyond the capacity the oldest is forgotten.
    pub fn insert(&mut self, key: u64) {
        self.keys[self.len % Self::CAPACITY] = key;
        self.len += 1;
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether one more would make it forget the oldest.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= Self::CAPACITY
    }

    /// Whether a node was tried.
    pub fn contains(&self, key: u64) -> bool {
        self.keys[..self.len.min(Self::CAPACITY)].contains(&key)
    }
}
