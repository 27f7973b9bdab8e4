//! The best of a few nodes drawn at random.

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
        least(candidates, |node| candidates.cost(node))
    }
}

impl Strategy for LeastLoaded {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        // The load this attempt would make, so that one held back tells between idle nodes as well.
        least(candidates, |node| 1.0 + candidates.load(node))
    }
}

fn least(candidates: &Candidates<'_>, price: impl Fn(&NodeStats) -> f32) -> Option<usize> {
    let len = candidates.len();
    // Of nodes that cost the same the first wins, which is drawn by weight.
    let start = candidates.draw()?;
    if len <= CHOICES {
        cheapest(candidates, (0..len).map(|step| (start + step) % len), price)
    } else {
        let (drawn, count) = distinct(candidates, start);
        cheapest(candidates, drawn[..count].iter().copied(), price)
    }
    .or_else(|| candidates.first_from(start))
}

fn cheapest(
    candidates: &Candidates<'_>,
    indices: impl Iterator<Item = usize>,
    price: impl Fn(&NodeStats) -> f32,
) -> Option<usize> {
    let mut best = None;
    let mut least = f32::INFINITY;
    for index in indices {
        let Some(node) = candidates.get(index) else { continue };
        // A newcomer that does not take part this time is still better than what is much dearer.
        let price = price(node) * if candidates.takes_part(node) { 1.0 } else { HELD_BACK };
        if price < least {
            (best, least) = (Some(index), price);
        }
    }
    best
}

/// Up to [`CHOICES`] distinct nodes the attempt may go to, drawn by weight.
fn distinct(candidates: &Candidates<'_>, start: usize) -> ([usize; CHOICES], usize) {
    let (mut drawn, mut count) = ([0; CHOICES], 0);
    let draws = (1..DRAWS).map_while(|_| candidates.draw());
    for index in std::iter::once(start).chain(draws) {
        if !drawn[..count].contains(&index) && candidates.get(index).is_some() {
            drawn[count] = index;
            count += 1;
            if count == CHOICES {
                break;
            }
        }
    }
    (drawn, count)
}
