//! Nodes in turn.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Candidates, Strategy};

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
