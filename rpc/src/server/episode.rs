//! What of a fault that recurs is worth a line in the log: a plain structure over events and time.

use std::time::Duration;

use tokio::time::Instant;

/// A fault that begins, recurs and ends. The log hears of its beginning and of its end, and of
/// episodes that follow each other closely only of the first.
#[derive(Debug, Default)]
pub(super) struct Episode {
    stage: Stage,
    /// When the log heard of a beginning.
    told: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Over,
    Told,
    Untold,
}

/// The least time between two lines on the beginning of an episode.
const QUIET: Duration = Duration::from_secs(60);

impl Episode {
    /// It happened; returns whether to say so.
    pub(super) fn happened(&mut self, now: Instant) -> bool {
        if self.stage != Stage::Over {
            return false;
        }
        let quiet = self.told.is_some_and(|told| now < told + QUIET);
        self.stage = if quiet { Stage::Untold } else { Stage::Told };
        if !quiet {
            self.told = Some(now);
        }
        !quiet
    }

    /// It does not happen any more; returns whether to say so.
    pub(super) fn ended(&mut self) -> bool {
        std::mem::take(&mut self.stage) == Stage::Told
    }

    /// Whether it has happened and not ended.
    pub(super) fn is_on(&self) -> bool {
        self.stage != Stage::Over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One line when it begins and one when it ends, however often it happens in between.
    #[test]
    fn tells_beginning_and_end() {
        let now = Instant::now();
        let mut episode = Episode::default();
        assert!(!episode.ended(), "it never began");
        assert!(episode.happened(now) && episode.is_on());
        assert!(!episode.happened(now) && !episode.happened(now + 10 * QUIET));
        assert!(episode.ended() && !episode.is_on());
        assert!(!episode.ended());
    }

    /// Episodes that follow each other within a minute are told of once.
    #[test]
    fn is_quiet_for_a_minute() {
        let now = Instant::now();
        let mut episode = Episode::default();
        assert!(episode.happened(now) && episode.ended());
        assert!(!episode.happened(now + QUIET / 2) && !episode.ended());
        assert!(episode.happened(now + QUIET) && episode.ended());
    }
}
