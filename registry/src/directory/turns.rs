//! Calls about one key, one after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Whose turn it is, for each key that somebody has to do with.
///
/// Writers of one handle that got in each other's way would each read again and write again, and so
/// make the next one's guard fail: of many none would come to an end.
#[derive(Debug, Default)]
pub(super) struct Turns {
    of: Mutex<HashMap<String, Slot>>,
}

type Slot = Arc<tokio::sync::Mutex<()>>;

/// A turn, or a place in the line for one; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    key: &'a str,
    slot: Option<Slot>,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for the calls about this key that came before. Cancel-safe: a dropped call leaves the
    /// line.
    pub(super) async fn take<'a>(&'a self, key: &'a str) -> Turn<'a> {
        let slot = Slot::clone(self.lock().entry(key.to_owned()).or_default());
        let mut turn = Turn { turns: self, key, slot: Some(slot.clone()), held: None };
        turn.held = Some(slot.lock_owned().await);
        turn
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut slots = self.turns.lock();
        (self.held, self.slot) = (None, None);
        // Places are taken under the same lock, so nobody is about to come.
        if slots.get(self.key).is_some_and(|slot| Arc::strong_count(slot) == 1) {
            slots.remove(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// Of one key one is served at a time, of others meanwhile others; who leaves the line, or is done,
    /// leaves nothing behind.
    #[tokio::test]
    async fn one_at_a_time() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let other = turns.take("b").now_or_never();
        assert!(other.is_some());
        let mut second = Box::pin(turns.take("a"));
        let mut third = Box::pin(turns.take("a"));
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        drop(second);
        assert!((&mut third).now_or_never().is_none());
        drop(first);
        drop((third.await, other));
        assert!(turns.lock().is_empty());
    }
}
