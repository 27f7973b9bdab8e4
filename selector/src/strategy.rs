//! How a node is picked.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Candidates, NodeStats};

/// Picks a node for one attempt.
///
/// One instance serves one service and is shared by all its callers, so it must be cheap and free
/// of locks.
pub trait Strategy: fmt::Debug + Send + Sync + 'static {
    /// The index of a node that [`Candidates::get`] gives, or `None` when it gives none.
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize>;
}

/// The strategies that have a name, and a place for one's own.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum StrategyKind {
    /// `least-loaded`, the default: [`LeastLoaded`].
    #[default]
    LeastLoaded,
    /// `round-robin`: [`RoundRobin`].
    RoundRobin,
    /// `random`: [`Random`].
    Random,
    /// One of the caller's; called once per service.
    Custom(Arc<dyn Fn() -> Box<dyn Strategy> + Send + Sync>),
}

impl StrategyKind {
    /// A fresh instance, for one service.
    pub fn build(&self) -> Box<dyn Strategy> {
        match self {
            Self::LeastLoaded => Box::new(LeastLoaded),
            Self::RoundRobin => Box::new(RoundRobin::default()),
            Self::Random => Box::new(Random),
            Self::Custom(build) => build(),
        }
    }
}

impl fmt::Display for StrategyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LeastLoaded => "least-loaded",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::Custom(_) => "custom",
        })
    }
}

impl fmt::Debug for StrategyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StrategyKind({self})")
    }
}

impl FromStr for StrategyKind {
    type Err = UnknownStrategy;

    fn from_str(name: &str) -> Result<Self, UnknownStrategy> {
        match name {
            "least-loaded" => Ok(Self::LeastLoaded),
            "round-robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            _ => Err(UnknownStrategy(name.to_owned())),
        }
    }
}

/// A name no strategy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("strategy {0:?} is unknown: expected least-loaded, round-robin or random")]
pub struct UnknownStrategy(String);

/// Each node in turn, by one counter all callers share. Ignores weights.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl Strategy for RoundRobin {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        if candidates.is_empty() {
            return None;
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % candidates.len();
        candidates.first_from(turn)
    }
}

/// Any node, all equally likely. Ignores weights.
#[derive(Debug)]
pub struct Random;

impl Strategy for Random {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        // A uniform start alone would favour the neighbour of a tried node; drawing again does not.
        for _ in 0..DRAWS {
            let index = draw(candidates)?;
            if candidates.get(index).is_some() {
                return Some(index);
            }
        }
        candidates.first_from(draw(candidates)?)
    }
}

/// The node with the fewest attempts in flight for its weight, out of up to five distinct ones
/// drawn at random.
///
/// Five choices rather than the textbook's two: with two, a pair of slow nodes is all a draw sees
/// often enough to hold up one call in a hundred.
#[derive(Debug)]
pub struct LeastLoaded;

/// How many distinct nodes [`LeastLoaded`] compares.
const CHOICES: usize = 5;

/// How often a random draw is repeated before scanning instead.
const DRAWS: usize = 16;

impl Strategy for LeastLoaded {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        let len = candidates.len();
        let start = draw(candidates)?;
        if len <= CHOICES {
            // From a random start, so that equally loaded nodes share.
            return least_loaded(candidates, (0..len).map(|step| (start + step) % len));
        }
        let (drawn, count) = distinct(candidates);
        least_loaded(candidates, drawn[..count].iter().copied())
            .or_else(|| candidates.first_from(start))
    }
}

fn least_loaded(
    candidates: &Candidates<'_>,
    indices: impl Iterator<Item = usize>,
) -> Option<usize> {
    let untried = indices.filter_map(|index| Some((index, load(candidates.get(index)?))));
    untried.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(index, _)| index)
}

/// The load this attempt would make, so that weights tell between idle nodes as well.
fn load(node: &NodeStats) -> f32 {
    (node.in_flight() + 1) as f32 / node.weight().max(1) as f32
}

/// Up to [`CHOICES`] distinct untried nodes, drawn at random.
fn distinct(candidates: &Candidates<'_>) -> ([usize; CHOICES], usize) {
    let (mut drawn, mut count) = ([0; CHOICES], 0);
    for _ in 0..DRAWS {
        let index = fastrand::usize(..candidates.len());
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

fn draw(candidates: &Candidates<'_>) -> Option<usize> {
    (!candidates.is_empty()).then(|| fastrand::usize(..candidates.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tried;
    use proptest::{prop_assert, prop_assert_eq, proptest};

    fn nodes(count: usize) -> Vec<Arc<NodeStats>> {
        (0..count).map(|_| Arc::new(NodeStats::new(100))).collect()
    }

    fn all() -> [Box<dyn Strategy>; 3] {
        [StrategyKind::LeastLoaded, StrategyKind::RoundRobin, StrategyKind::Random]
            .map(|kind| kind.build())
    }

    proptest! {
        /// No strategy picks a tried node while an untried one is there, or nothing then.
        #[test]
        fn never_a_tried_node(count in 0usize..12, tried in proptest::collection::vec(0usize..12, 0..8)) {
            let nodes = nodes(count);
            let mut set = Tried::default();
            for index in tried.iter().filter(|index| **index < count) {
                set.insert(nodes[*index].key());
            }
            let candidates = Candidates::new(&nodes, &set);
            let untried = nodes.iter().filter(|node| !set.contains(node.key())).count();
            for strategy in all() {
                match strategy.pick(&candidates) {
                    Some(index) => prop_assert!(candidates.get(index).is_some()),
                    None => prop_assert_eq!(untried, 0),
                }
            }
        }
    }

    /// Callers that share it go round together, without leaving a node out.
    #[test]
    fn round_robin_goes_round() {
        let nodes = nodes(3);
        let (strategy, tried) = (RoundRobin::default(), Tried::default());
        let picks: Vec<_> =
            (0..6).map(|_| strategy.pick(&Candidates::new(&nodes, &tried)).unwrap()).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    /// A loaded node is passed over, with few nodes and with many.
    #[test]
    fn least_loaded_avoids_the_loaded() {
        for count in [3, 50] {
            let nodes = nodes(count);
            let mut counts = vec![0u32; count];
            (0..100).for_each(|_| nodes[1].add_in_flight());
            for _ in 0..1_000 {
                let index = LeastLoaded.pick(&Candidates::new(&nodes, &Tried::default())).unwrap();
                counts[index] += 1;
            }
            assert_eq!(counts[1], 0, "{counts:?}");
            assert!(counts[0] > 0);
        }
    }

    /// A name nobody knows is an error that lists the known ones.
    #[test]
    fn unknown_names_are_refused() {
        let error = "ewwma".parse::<StrategyKind>().unwrap_err().to_string();
        assert!(error.contains("\"ewwma\"") && error.contains("round-robin"), "{error}");
        for known in ["least-loaded", "round-robin", "random"] {
            assert_eq!(known.parse::<StrategyKind>().unwrap().to_string(), known);
        }
    }
}
