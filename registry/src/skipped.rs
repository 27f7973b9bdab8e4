//! Which records were left out and said so: pure, over what is found and when.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Remembers what was warned of, so that a record is warned of once per content, and never more often
/// than once a minute however often it is written.
#[derive(Debug)]
pub struct Skipped<K>(HashMap<K, Warning>);

#[derive(Debug)]
struct Warning {
    /// Of what is wrong and of what it is wrong with.
    content: u64,
    at: Duration,
}

impl<K: Hash + Eq> Skipped<K> {
    /// Whether to warn of a record whose content, told apart by a number, is wrong; `now` is by any
    /// clock that does not go back.
    pub fn is_news<Q>(&mut self, key: &Q, content: u64, now: Duration) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let is_recent = |warning: &Warning| now < warning.at.saturating_add(QUIET);
        match self.0.get(key) {
            Some(known) if known.content == content || is_recent(known) => return false,
            None if self.0.len() >= MAX_REMEMBERED => self.0.retain(|_, known| is_recent(known)),
            _ => {}
        }
        // So many at once are one fault, of which enough was said.
        let is_news = self.0.len() < MAX_REMEMBERED || self.0.contains_key(key);
        if is_news {
            self.0.insert(key.to_owned(), Warning { content, at: now });
        }
        is_news
    }
}

impl<K> Default for Skipped<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// For how long nothing more is said of a record.
const QUIET: Duration = Duration::from_secs(60);
/// How many records are remembered.
const MAX_REMEMBERED: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    /// A record is warned of once per content, another content counts after a minute at the earliest.
    #[test]
    fn once_per_content_and_minute() {
        let mut skipped = Skipped::<String>::default();
        let (one, two) = ("one", "two");
        assert!(skipped.is_news(one, 1, START));
        assert!(skipped.is_news(two, 1, START), "each record for itself");
        assert!(!skipped.is_news(one, 1, START + QUIET * 9), "the same content is no news");
        assert!(!skipped.is_news(two, 2, START + QUIET / 2), "not twice in a minute");
        assert!(skipped.is_news(two, 2, START + QUIET));
        assert!(!skipped.is_news(two, 3, START + QUIET), "the minute counts from the last warning");
    }

    /// However many records are wrong, memory and warnings are bounded.
    #[test]
    fn bounded() {
        let mut skipped = Skipped::<usize>::default();
        let mut warned = |from: usize, now| {
            (from..from + 5_000).filter(|index| skipped.is_news(index, 1, now)).count()
        };
        assert_eq!(warned(0, START), MAX_REMEMBERED);
        assert_eq!(warned(0, START), 0);
        assert_eq!(warned(9_000, START + QUIET), MAX_REMEMBERED);
        assert_eq!(skipped.0.len(), MAX_REMEMBERED);
    }
}
