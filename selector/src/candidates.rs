//! What a strategy chooses from.

use std::fmt;
use std::sync::Arc;

use crate::NodeStats;

/// The nodes of a snapshot, and which of them this attempt may go to.
///
/// Only nodes that want traffic are among them. Looking at them takes no lock and allocates
/// nothing.
pub struct Candidates<'a> {
    nodes: &'a [Arc<NodeStats>],
    tried: &'a Tried,
    /// By index; while there are others.
    avoid: Option<&'a dyn Fn(usize) -> bool>,
}

impl<'a> Candidates<'a> {
    /// The nodes, less those tried.
    pub fn new(nodes: &'a [Arc<NodeStats>], tried: &'a Tried) -> Self {
        Self { nodes, tried, avoid: None }
    }

    /// The same, less those to avoid.
    pub(crate) fn avoiding(self, avoid: &'a dyn Fn(usize) -> bool) -> Self {
        Self { avoid: Some(avoid), ..self }
    }

    /// How many nodes there are, with those that this attempt may not go to.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node at `index`, if the attempt may go there: the call has not tried it.
    ///
    /// # Panics
    ///
    /// When `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> Option<&'a NodeStats> {
        let node = &self.nodes[index];
        let excluded =
            self.tried.contains(node.key()) || self.avoid.is_some_and(|avoid| avoid(index));
        (!excluded).then_some(node)
    }

    /// The first node at `start` or after it that the attempt may go to, going round once.
    pub fn first_from(&self, start: usize) -> Option<usize> {
        let len = self.len();
        (0..len).map(|step| (start + step) % len).find(|index| self.get(*index).is_some())
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

    /// Whether a node was tried.
    pub fn contains(&self, key: u64) -> bool {
        self.keys[..self.len.min(Self::CAPACITY)].contains(&key)
    }
}
