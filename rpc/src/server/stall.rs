//! Whether a peer that owes something still moves: a plain comparison of two moments.

/// What a peer owes at some moment, and how far it has come with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    /// In the middle of a frame: bytes received so far.
    pub(super) frame: Option<u64>,
    /// Not reading: bytes written so far.
    pub(super) reading: Option<u64>,
}

impl Owed {
    /// Whether anything is owed.
    pub(super) fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Whether something was owed before and has not moved since.
    pub(super) fn is_stuck_since(&self, before: &Self) -> bool {
        let stuck = |now: Option<u64>, before: Option<u64>| now.is_some() && now == before;
        stuck(self.frame, before.frame) || stuck(self.reading, before.reading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer is stuck when one of its debts has not moved, whatever the other did.
    #[test]
    fn movement_counts_per_debt() {
        let owed = |frame, reading| Owed { frame, reading };
        assert!(!owed(None, None).is_stuck_since(&owed(None, None)));
        assert!(!owed(Some(2), None).is_stuck_since(&owed(Some(1), None)));
        assert!(!owed(None, Some(1)).is_stuck_since(&owed(Some(1), None)));
        assert!(owed(Some(1), Some(9)).is_stuck_since(&owed(Some(1), Some(2))));
        assert!(owed(Some(3), Some(9)).is_stuck_since(&owed(Some(1), Some(9))));
    }
}
