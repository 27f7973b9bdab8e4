//! What a watch delivers.

use std::sync::Arc;
use std::time::SystemTime;

use crate::Registration;

/// One change of what is registered, within the scope of a watch.
///
/// The first data of every watch is a [`Reset`](Update::Reset); applying all updates in order to a
/// [`View`](crate::View) gives what is registered now.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Update {
    /// Everything there is now; whatever was known before is void. Made by [`Update::reset`].
    #[non_exhaustive]
    Reset {
        /// All registrations in scope, ordered by service and node id.
        registrations: Vec<Arc<Registration>>,
        /// Why there are none; `Some` exactly when `registrations` is empty.
        empty: Option<EmptyReason>,
    },
    /// A node joined or changed.
    Put(Arc<Registration>),
    /// A node left. Made by [`Update::remove`].
    #[non_exhaustive]
    Remove {
        /// Its service.
        service: String,
        /// Its id.
        id: String,
        /// The epoch that left; a node with a higher epoch stays.
        epoch: u64,
        /// Why it left.
        reason: RemoveReason,
    },
    /// The source cannot be reached: what was delivered so far is as it was then, until the next
    /// [`Reset`](Update::Reset). Made by [`Update::stale`].
    #[non_exhaustive]
    Stale {
        /// Since when, by this host's clock; for people to read.
        since: SystemTime,
        /// What went wrong.
        cause: String,
    },
}

impl Update {
    /// Everything there is now, ordered by service and node id; `why_empty` counts only when there
    /// is nothing.
    pub fn reset(registrations: Vec<Arc<Registration>>, why_empty: EmptyReason) -> Self {
        let empty = registrations.is_empty().then_some(why_empty);
        Self::Reset { registrations, empty }
    }

    /// The removal of exactly this registration.
    pub fn remove(registration: &Registration, reason: RemoveReason) -> Self {
        Self::Remove {
            service: registration.service.clone(),
            id: registration.node.id.clone(),
            epoch: registration.node.epoch,
            reason,
        }
    }

    /// The source cannot be reached since then, because of `cause`.
    pub fn stale(since: SystemTime, cause: impl Into<String>) -> Self {
        Self::Stale { since, cause: cause.into() }
    }
}

/// Why a node left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RemoveReason {
    /// It said goodbye.
    Deregistered,
    /// Its owner died, or nobody renewed it within its TTL.
    Expired,
    /// A newer epoch took its place elsewhere.
    Fenced,
    /// A rule took it out.
    Policy,
    /// The engine cannot tell.
    Unknown,
}

/// Why a [`Reset`](Update::Reset) is empty, as far as the backend can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EmptyReason {
    /// The last nodes said goodbye.
    AllDeregistered,
    /// The last nodes died or were not renewed.
    AllExpired,
    /// Nothing was ever registered, as far as the backend remembers.
    NeverSeen,
    /// The backend cannot tell.
    Unknown,
}

impl EmptyReason {
    /// Whether the source vouches that the nodes are gone, rather than merely not knowing any.
    pub fn is_certain(self) -> bool {
        matches!(self, Self::AllDeregistered | Self::AllExpired)
    }

    /// Why there is nothing once the last node left for this reason.
    pub fn from_last(reason: RemoveReason) -> Self {
        match reason {
            RemoveReason::Deregistered => Self::AllDeregistered,
            RemoveReason::Expired => Self::AllExpired,
            RemoveReason::Fenced | RemoveReason::Policy | RemoveReason::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;

    /// A reset says why it is empty exactly when it is.
    #[test]
    fn only_an_empty_reset_has_a_reason() {
        let why = |update| match update {
            Update::Reset { empty, .. } => empty,
            other => panic!("{other:?}"),
        };
        let one = Arc::new(Registration::new("s", "1.0.0", Node::new("a", "127.0.0.1:1")));
        assert_eq!(why(Update::reset(vec![], EmptyReason::Unknown)), Some(EmptyReason::Unknown));
        assert_eq!(why(Update::reset(vec![one], EmptyReason::Unknown)), None);
    }
}
