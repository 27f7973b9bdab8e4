//! Nodes in turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::DRAWS;
use crate::{Candidates, Strategy};

/// Each node in turn, by one counter all callers share; a newcomer is passed over most of the time at
/// first. Ignores weights.
#[derive(Debug, Default)]
pub struct RoundRobin {
    next: AtomicUsize,
}

impl Strategy for RoundRobin {
    fn pick(&self, candidates: &Candidates<'_>) -> Option<usize> {
        if candidates.is_empty() {
            return None;
        }
        let turn = || self.next.fetch_add(1, Ordering::Relaxed) % candidates.len();
        for _ in 0..DRAWS {
            let index = candidates.first_from(turn())?;
            if candidates.get(index).is_some_and(|node| candidates.takes_part(node)) {
                return Some(index);
            }
        }
        candidates.first_from(turn())
    }
}
