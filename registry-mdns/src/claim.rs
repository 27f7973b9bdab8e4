//! What one instance said last, and for how long that counts.

use std::time::Duration;

use micro_registry::RemoveReason;
use tokio::time::Instant;

use crate::text::{Announcement, Says};

/// What an instance said last.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) said: Announcement,
    heard: Instant,
    /// Whether it is in force: its time is not over, and nobody said otherwise later.
    pub(crate) counts: bool,
    /// Since when the instance is not there any more.
    pub(crate) vanished: Option<Instant>,
    /// Whether it vanished with a network interface, which says nothing about its node.
    is_excused: bool,
    /// Whether it was heard since everything is heard anew.
    pub(crate) is_confirmed: bool,
    /// Its entry among the deadlines.
    pub(crate) timer: Option<Instant>,
}

impl Claim {
    pub(crate) fn new(said: Announcement, now: Instant) -> Self {
        Self {
            said,
            heard: now,
            counts: true,
            vanished: None,
            is_excused: false,
            is_confirmed: true,
            timer: None,
        }
    }

    /// The instance is there, whatever it says.
    pub(crate) fn confirm(&mut self) {
        (self.is_confirmed, self.vanished, self.is_excused) = (true, None, false);
    }

    /// The instance is there no more; excused when a network interface went away.
    pub(crate) fn vanish(&mut self, now: Instant, is_excused: bool) {
        self.vanished.get_or_insert(now);
        self.is_excused |= is_excused;
    }

    pub(crate) fn is_here(&self) -> bool {
        matches!(self.said.says, Says::Here(..))
    }

    /// Who does not count has news when it says something else.
    pub(crate) fn is_news(&self, said: &Announcement) -> bool {
        let counts = self.said.stamp > 0 || said.stamp > 0;
        if counts { said.stamp > self.said.stamp } else { *said != self.said }
    }

    pub(crate) fn ends(&self) -> Option<Instant> {
        if !self.counts {
            return None;
        }
        let lease = self.lease();
        let patience = match (self.is_excused, lease) {
            (false, _) => Some(GRACE),
            (true, None) => Some(RECORD_LIFE),
            (true, Some(_)) => None,
        };
        let gone = self.vanished.zip(patience).map(|(at, patience)| at + patience);
        lease.into_iter().chain(gone).min()
    }

    /// Why it counts no more, once its time is over. Who vanished later than a record lives may have
    /// said goodbye, too: a record that is not renewed is asked for again, which is no news.
    pub(crate) fn why_over(&self) -> RemoveReason {
        match self.vanished {
            Some(at) if !self.is_excused && at.duration_since(self.heard) < RECORD_LIFE => {
                RemoveReason::Deregistered
            }
            _ if self.lease() == self.ends() => RemoveReason::Expired,
            _ => RemoveReason::Unknown,
        }
    }

    /// Until when it counts by its own word.
    fn lease(&self) -> Option<Instant> {
        let ttl = match self.said.says {
            Says::Here(_, ttl) => ttl,
            Says::Left(_) => Some(LEFT_COUNTS),
        };
        ttl.map(|ttl| self.heard + ttl)
    }
}

/// For how long an instance that vanished without a word counts as before: its last word, or the
/// news that a network interface went away, may be on its way.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// How long after the loss of a network interface whoever vanishes did so with it: the daemon looks
/// every second, at moments of its own.
pub(crate) const EXCUSED: Duration = Duration::from_secs(2);

/// Records outlive their last word by at least this long, so who vanishes sooner said goodbye; and
/// who vanished with an interface, and has no lease, is heard again within it or not at all.
pub(crate) const RECORD_LIFE: Duration = Duration::from_secs(110);

/// For how long it counts that a node left, should nobody take the word back.
const LEFT_COUNTS: Duration = Duration::from_secs(60);
