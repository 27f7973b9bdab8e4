//! The nodes of a service at one moment.

use std::sync::Arc;

use crate::{Member, NodeStats};

/// The nodes of a service that want traffic, as last known. Immutable: a change makes a new one.
#[derive(Debug)]
pub struct Snapshot<T> {
    /// Beside `members`, index for index, so that strategies need not know `T`.
    stats: Box<[Arc<NodeStats>]>,
    members: Box<[Arc<Member<T>>]>,
    /// Running sums of the weights; empty when all weigh the same.
    sums: Box<[u32]>,
    /// So many of the first are in the caller's zone.
    near: usize,
    known: Known,
}

/// What is known about a service beside its nodes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// How many nodes are registered, whether they come into question or not.
    pub(crate) registered: usize,
    /// How many of them are serving.
    pub(crate) serving: usize,
    pub(crate) answered: bool,
    pub(crate) stale: bool,
}

impl<T> Snapshot<T> {
    /// A snapshot of nodes in their order, those for which `is_near` says so first.
    pub(crate) fn new(
        mut members: Vec<Arc<Member<T>>>,
        known: Known,
        is_near: impl Fn(&Member<T>) -> bool,
    ) -> Self {
        // Stable: without a zone the order is the registry's.
        members.sort_by_key(|member| !is_near(member));
        let near = members.partition_point(|member| is_near(member));
        let stats: Box<[_]> = members.iter().map(|member| member.stats().clone()).collect();
        Self { sums: sums(&stats), stats, members: members.into(), near, known }
    }

    /// The nodes that want traffic.
    pub fn members(&self) -> &[Arc<Member<T>>] {
        &self.members
    }

    /// How many nodes are registered, whether they want traffic or not.
    pub fn registered(&self) -> usize {
        self.known.registered
    }

    /// Whether the registry has told anything about this service yet.
    pub fn is_answered(&self) -> bool {
        self.known.answered
    }

    /// Whether the registry is out of reach, so that this is what it last said.
    pub fn is_stale(&self) -> bool {
        self.known.stale
    }

    pub(crate) fn serving(&self) -> usize {
        self.known.serving
    }

    pub(crate) fn stats(&self) -> &[Arc<NodeStats>] {
        &self.stats
    }

    pub(crate) fn sums(&self) -> &[u32] {
        &self.sums
    }

    pub(crate) fn near(&self) -> usize {
        self.near
    }
}

fn sums(nodes: &[Arc<NodeStats>]) -> Box<[u32]> {
    if nodes.windows(2).all(|pair| pair[0].weight() == pair[1].weight()) {
        return Box::default();
    }
    let add = |sum: &mut u32, node: &Arc<NodeStats>| {
        *sum = sum.saturating_add(node.weight());
        Some(*sum)
    };
    nodes.iter().scan(0, add).collect()
}
