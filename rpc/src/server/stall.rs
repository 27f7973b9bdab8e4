//! Whether a peer that owes something moves on fast enough: a plain comparison of two moments, and
//! the timer between them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// Watches a peer for the task of its connection, which says what is owed whenever it runs.
pub(super) struct Stall {
    patience: Duration,
    /// Runs since something was owed, which is kept with it.
    since: Option<(Pin<Box<Sleep>>, Owed)>,
}

impl Stall {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, since: None }
    }

    /// Whether the peer has owed something for too long and hardly moved. The clock is only looked
    /// at when the timer fires, so a peer has between one and two timeouts.
    pub(super) fn has_come(&mut self, cx: &mut Context<'_>, now: Owed) -> bool {
        loop {
            let Some((timer, before)) = &mut self.since else {
                if !now.is_any() {
                    return false;
                }
                self.since = Some((Box::pin(sleep(self.patience)), now));
                continue;
            };
            if timer.as_mut().poll(cx) == Poll::Pending {
                return false;
            }
            if now.is_stuck_since(before) {
                return true;
            }
            self.since = None;
        }
    }
}

/// What a peer owes at some moment, and how far it has come with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owed {
    /// In the middle of a frame: which one, and bytes received so far.
    pub(super) frame: Option<(u64, u64)>,
    /// Not reading: bytes written so far.
    pub(super) reading: Option<u64>,
}

/// Bytes that a peer has to send of one frame, or read, in each stall timeout. Without it a byte
/// now and then would hold a frame's memory for as long as the peer likes.
const MIN_PROGRESS: u64 = 64 * 1024;

impl Owed {
    /// Whether anything is owed.
    fn is_any(&self) -> bool {
        *self != Self::default()
    }

    /// Whether something was owed before, still is and has hardly moved since.
    fn is_stuck_since(&self, before: &Self) -> bool {
        let crawls = |now: u64, before: u64| now - before < MIN_PROGRESS;
        let sending = matches!(
            (self.frame, before.frame),
            (Some((frame, now)), Some((same, before))) if frame == same && crawls(now, before)
        );
        let reading = matches!(
            (self.reading, before.reading),
            (Some(now), Some(before)) if crawls(now, before)
        );
        sending || reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENOUGH: u64 = MIN_PROGRESS;

    fn sending(frame: u64, received: u64) -> Owed {
        Owed { frame: Some((frame, received)), reading: None }
    }

    fn reading(written: u64) -> Owed {
        Owed { frame: None, reading: Some(written) }
    }

    /// A frame that drips is stuck; another frame, or one that flows, is not.
    #[test]
    fn frames_have_to_flow() {
        assert!(sending(7, 1).is_stuck_since(&sending(7, 1)));
        assert!(sending(7, ENOUGH).is_stuck_since(&sending(7, 1)));
        assert!(!sending(7, ENOUGH + 1).is_stuck_since(&sending(7, 1)));
        assert!(!sending(8, 2).is_stuck_since(&sending(7, 1)));
        assert!(!Owed::default().is_stuck_since(&sending(7, 1)));
    }

    /// A peer is stuck when one of its debts is, whatever the other did.
    #[test]
    fn progress_counts_per_debt() {
        assert!(reading(5).is_stuck_since(&reading(1)));
        assert!(!reading(ENOUGH).is_stuck_since(&reading(0)));
        assert!(!reading(0).is_stuck_since(&sending(1, 0)));
        let both = |received, written| Owed { reading: Some(written), ..sending(1, received) };
        assert!(both(ENOUGH, 1).is_stuck_since(&both(0, 0)));
        assert!(both(1, ENOUGH).is_stuck_since(&both(0, 0)));
        assert!(!both(ENOUGH, ENOUGH).is_stuck_since(&both(0, 0)));
        assert!(!Owed::default().is_any() && reading(0).is_any());
    }
}
