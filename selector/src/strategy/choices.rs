//! The best of a few nodes drawn at random.

use fastrand::Rng;

use super::DRAWS;
use crate::{Candidates, NodeStats, Strategy};

/// The node whose answer is expected soonest, out of up to five distinct ones drawn at random: the
/// least product of its latency of late and the attempts that wait there.
///
/// Five choices rather than the textbook's two: with two, a pair of slow nodes is all a draw sees
/// often enough to hold up one call in a hundred. What an attempt is expected to take is a
/// peak-sensitive mean (Finagle's `PeakEwma`) with repairs for nodes that fail fast, hang, idle or
/// are new, of times in relation to what is normal for each [method](crate::CallOptions::method).
#[derive(Debug)]
pub struct Ewma;

/// The node with the fewest attempts in flight for its weight, out of up to five distinct ones
/// drawn at random.
#[derive(Debug)]
pub struct LeastLoaded;

/// How many distinct nodes are compared.
const CHOICES: usize = 5;
/// So many times its price a newcomer costs that is held back.
const HELD_BACK: f32 = 10.0;

impl Strategy for Ewma {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        best(candidates, |node| candidates.cost(node), candidates.least_cost())
    }
}

impl Strategy for LeastLoaded {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        // The load this attempt would make, so that one held back tells between idle nodes as well.
        best(candidates, |node| 1.0 + candidates.load(node), 1.0)
    }
}

/// The cheapest of the nodes drawn, none of which costs less than `least`.
fn best(
    candidates: &Candidates<'_>,
    price: impl Fn(&NodeStats) -> f32,
    least: f32,
) -> Option<usize> {
    let len = candidates.len();
    let mut random = Rng::new();
    // Of nodes that cost the same the first wins, which is drawn by weight.
    let start = candidates.draw_by(&mut random)?;
    let (mut best, mut best_price) = (None, f32::INFINITY);
    // Where many idle, one or two are looked at before there is none better.
    let is_best = |index: usize, node: &NodeStats| {
        // A newcomer that does not take part this time is still better than what is much dearer.
        let held_back = if candidates.takes_part(node) { 1.0 } else { HELD_BACK };
        let price = price(node) * held_back;
        if price < best_price {
            (best, best_price) = (Some(index), price);
        }
        price <= least
    };
    if len <= CHOICES {
        search(candidates, (start..len).chain(0..start), is_best);
    } else {
        let draws = (1..DRAWS).map_while(|_| candidates.draw_by(&mut random));
        search(candidates, std::iter::once(start).chain(draws), is_best);
    }
    best.or_else(|| candidates.first_from(start))
}

/// Looks at up to [`CHOICES`] distinct nodes the attempt may go to, or until one is the best.
#[inline]
fn search(
    candidates: &Candidates<'_>,
    indices: impl Iterator<Item = usize>,
    mut is_best: impl FnMut(usize, &NodeStats) -> bool,
) {
    // Those left are no index.
    let (mut seen, mut count) = ([usize::MAX; CHOICES], 0);
    for index in indices {
        let Some(node) = candidates.get(index).filter(|_| !seen.contains(&index)) else { continue };
        if is_best(index, node) || count + 1 == CHOICES {
            return;
        }
        seen[count] = index;
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use micro_registry::Node;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::moment::Moment;
    use crate::peers::Peers;

    proptest! {
        /// Whatever a few nodes cost, and wherever the attempt may go: the cheapest of them is
        /// picked, though the search ends with the first that costs no more than any can.
        #[test]
        fn the_cheapest_is_picked(
            nodes in proptest::collection::vec((1u32..4, any::<bool>()), 1..=CHOICES),
        ) {
            let peers = Arc::new(Peers::new(Instant::now()));
            let stats = |index| Arc::new(NodeStats::new(&Node::new(format!("{index}"), "a:1"), &peers));
            let stats: Vec<_> = (0..nodes.len()).map(stats).collect();
            let index = |node: &NodeStats| stats.iter().position(|it| it.key() == node.key());
            let cost = |node: &NodeStats| nodes[index(node).expect("it is one of them")].0 as f32;
            let candidates = Candidates {
                nodes: &stats,
                sums: &[],
                excluded: Some(&|index| nodes[index].1),
                key: None,
                median: 1.0,
                now: Moment::START,
            };
            let picked = best(&candidates, cost, 1.0).map(|index| nodes[index]);
            let allowed = nodes.iter().copied().filter(|(_, is_excluded)| !is_excluded);
            prop_assert_eq!(picked, allowed.min());
        }
    }
}
