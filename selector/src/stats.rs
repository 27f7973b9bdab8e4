//! What is counted about a service, for those who watch it from outside.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What has happened to the calls of a service since it is watched; each only grows.
///
/// Read while calls go on, the counters need not match each other to the last one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Attempts that were given a node, retries among them.
    pub attempts: u64,
    /// Those of them that went to a node of the caller's own [zone](crate::SelectorConfig::zone);
    /// none when it has no zone.
    pub near: u64,
    /// Attempts after a call's first.
    pub retries: u64,
    /// Retries that were left out because the [budget](crate::Budget) was used up.
    pub over_budget: u64,
    /// Attempts that the [throttle](crate::Throttle) ended before they were sent.
    pub throttled: u64,
    /// How often a node was left out for its failures.
    pub ejections: u64,
}

/// What is counted here and nowhere else. On a call's path it is one addition.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    near: AtomicU64,
    elsewhere: AtomicU64,
    retries: AtomicU64,
}

impl Counters {
    #[inline]
    pub(crate) fn attempt(&self, is_near: bool, is_retry: bool) {
        let counter = if is_near { &self.near } else { &self.elsewhere };
        counter.fetch_add(1, Relaxed);
        if is_retry {
            self.retries.fetch_add(1, Relaxed);
        }
    }

    /// With nothing of what others count.
    pub(crate) fn read(&self) -> Stats {
        let near = self.near.load(Relaxed);
        let attempts = near + self.elsewhere.load(Relaxed);
        Stats { attempts, near, retries: self.retries.load(Relaxed), ..Stats::default() }
    }
}
