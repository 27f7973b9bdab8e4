//! Which files were left out and said so: pure, over what is found and when.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Remembers what was warned of, so that a file is warned of once per content, and never more often
/// than once a minute however often it is written.
#[derive(Debug, Default)]
pub(crate) struct Skipped(HashMap<PathBuf, Warning>);

#[derive(Debug)]
struct Warning {
    /// Of what is wrong and of what it is wrong with.
    content: u64,
    at: Duration,
}

impl Skipped {
    /// Whether to warn of a file whose content is wrong.
    pub(crate) fn is_news(&mut self, path: &Path, content: u64, now: Duration) -> bool {
        let is_recent = |warning: &Warning| now < warning.at.saturating_add(QUIET);
        match self.0.get(path) {
            Some(known) if known.content == content || is_recent(known) => return false,
            None if self.0.len() >= MAX_REMEMBERED => self.0.retain(|_, known| is_recent(known)),
            _ => {}
        }
        // So many at once are one fault, of which enough was said.
        let is_news = self.0.len() < MAX_REMEMBERED || self.0.contains_key(path);
        if is_news {
            self.0.insert(path.to_owned(), Warning { content, at: now });
        }
        is_news
    }
}

/// For how long nothing more is said of a file.
const QUIET: Duration = Duration::from_secs(60);
/// How many files are remembered.
const MAX_REMEMBERED: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::from_secs(1_000);

    /// A file is warned of once per content, another content counts after a minute at the earliest.
    #[test]
    fn once_per_content_and_minute() {
        let mut skipped = Skipped::default();
        let (one, two) = (Path::new("one"), Path::new("two"));
        assert!(skipped.is_news(one, 1, START));
        assert!(skipped.is_news(two, 1, START), "each file for itself");
        assert!(!skipped.is_news(one, 1, START + QUIET * 9), "the same content is no news");
        assert!(!skipped.is_news(two, 2, START + QUIET / 2), "not twice in a minute");
        assert!(skipped.is_news(two, 2, START + QUIET));
        assert!(!skipped.is_news(two, 3, START + QUIET), "the minute counts from the last warning");
    }

    /// However many files are wrong, memory and warnings are bounded.
    #[test]
    fn bounded() {
        let mut skipped = Skipped::default();
        let path = |index: usize| PathBuf::from(index.to_string());
        let mut warned = |from: usize, now| {
            (from..from + 5_000).filter(|index| skipped.is_news(&path(*index), 1, now)).count()
        };
        assert_eq!(warned(0, START), MAX_REMEMBERED);
        assert_eq!(warned(0, START), 0);
        assert_eq!(warned(9_000, START + QUIET), MAX_REMEMBERED);
        assert_eq!(skipped.0.len(), MAX_REMEMBERED);
    }
}
