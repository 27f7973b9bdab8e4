//! How a node is picked from those that are fit.

mod chance;
mod choices;
mod rendezvous;
mod turns;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use chance::{Random, Weighted};
pub use choices::{Ewma, LeastLoaded};
pub use rendezvous::ConsistentHash;
pub use turns::RoundRobin;

use crate::Candidates;

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
    /// `ewma`, the default: [`Ewma`].
    #[default]
    Ewma,
    /// `least-loaded`: [`LeastLoaded`].
    LeastLoaded,
    /// `round-robin`: [`RoundRobin`].
    RoundRobin,
    /// `random`: [`Random`].
    Random,
    /// `weighted`: [`Weighted`].
    Weighted,
    /// `consistent-hash`: [`ConsistentHash`].
    ConsistentHash,
    /// One of the caller's; called once per service.
    Custom(Arc<dyn Fn() -> Box<dyn Strategy> + Send + Sync>),
}

impl StrategyKind {
    /// The names, in the order in which they are listed.
    pub const NAMES: [&'static str; 6] =
        ["ewma", "least-loaded", "round-robin", "random", "weighted", "consistent-hash"];

    /// A fresh instance, for one service.
    pub fn build(&self) -> Box<dyn Strategy> {
        match self {
            Self::Ewma => Box::new(Ewma),
            Self::LeastLoaded => Box::new(LeastLoaded),
            Self::RoundRobin => Box::new(RoundRobin::default()),
            Self::Random => Box::new(Random),
            Self::Weighted => Box::new(Weighted),
            Self::ConsistentHash => Box::new(ConsistentHash),
            Self::Custom(build) => build(),
        }
    }
}

impl fmt::Display for StrategyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ewma => "ewma",
            Self::LeastLoaded => "least-loaded",
            Self::RoundRobin => "round-robin",
            Self::Random => "random",
            Self::Weighted => "weighted",
            Self::ConsistentHash => "consistent-hash",
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
            "ewma" => Ok(Self::Ewma),
            "least-loaded" => Ok(Self::LeastLoaded),
            "round-robin" => Ok(Self::RoundRobin),
            "random" => Ok(Self::Random),
            "weighted" => Ok(Self::Weighted),
            "consistent-hash" => Ok(Self::ConsistentHash),
            _ => Err(UnknownStrategy(name.to_owned())),
        }
    }
}

/// A name no strategy has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "strategy {0:?} is unknown: expected ewma, least-loaded, round-robin, random, weighted or \
     consistent-hash"
)]
pub struct UnknownStrategy(String);

/// How often a random draw is repeated before scanning instead.
const DRAWS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// A name nobody knows is an error that lists the known ones, each of which is read and printed.
    #[test]
    fn unknown_names_are_refused() {
        let error = "ewwma".parse::<StrategyKind>().unwrap_err().to_string();
        assert!(error.contains("\"ewwma\""), "{error}");
        for known in StrategyKind::NAMES {
            assert_eq!(known.parse::<StrategyKind>().unwrap().to_string(), known);
            assert!(error.contains(known), "{error}");
        }
    }
}
