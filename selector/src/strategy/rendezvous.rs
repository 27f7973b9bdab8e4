//! The same node for the same key.

use crate::hash::mix;
use crate::{Candidates, NodeStats, Strategy};

/// The same node for the same [key](crate::CallOptions::key), for as long as it is fit and not
/// overloaded; when nodes come or go, only the keys of those move.
///
/// Rendezvous hashing, by Thaler and Ravishankar, with weights as by Schindelhauer and Schomaker.
/// A node with more than four attempts in flight, and more than 1.25 times the mean, is passed over for the key's
/// next one: consistent hashing with bounded loads, by Mirrokni, Thorup and Zadimoghaddam. A call
/// without a key goes by one drawn at random. Looks at every node.
#[derive(Debug)]
pub struct ConsistentHash;

/// So many times the mean load a node takes.
const BOUND: f32 = 1.25;
/// So much it takes in any case: with little to do, a second call at once would leave its node.
const FLOOR: f32 = 4.0;

impl Strategy for ConsistentHash {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let key = candidates.key().unwrap_or_else(|| fastrand::u64(..));
        let bound = bound(candidates);
        let (mut best, mut highest) = (None, (false, f32::NEG_INFINITY));
        for index in 0..candidates.len() {
            let Some(node) = candidates.get(index) else { continue };
            let has_room = candidates.load(node) < bound;
            let rank = (has_room, score(node, key));
            if best.is_none() || rank > highest {
                (best, highest) = (Some(index), rank);
            }
        }
        best
    }
}

/// What a node may have in flight for its weight, with the attempt that is to be placed.
fn bound(candidates: &Candidates<'_>) -> f32 {
    let fit = (0..candidates.len()).filter_map(|index| candidates.get(index));
    let (all, count) =
        fit.fold((1, 0u32), |(all, count), node| (all + node.in_flight(), count + 1));
    (BOUND * all as f32 / count as f32).ceil().max(FLOOR)
}

/// Of two nodes the one with the higher score gets the key, as often as it weighs.
fn score(node: &NodeStats, key: u64) -> f32 {
    // A number in (0, 1), from bits that a float holds exactly.
    let drawn = ((mix(key ^ node.hash()) >> 41) as f32 + 0.5) / (1u64 << 23) as f32;
    -(node.weight() as f32) / drawn.ln()
}
