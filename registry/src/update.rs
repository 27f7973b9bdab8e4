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
    /// Everything there is now; whatever was known before is void.
    Reset {
        /// All registrations in scope, ordered by service and node id.
        registrations: Vec<Arc<Registration>>,
        /// Why there are none; `Some` exactly when `registrations` is empty.
        empty: Option<EmptyReason>,
    },
    /// A node joined or changed.
    Put(Arc<Registration>),
    /// A node left.
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
    /// [`Reset`](Update::Reset).
    Stale {
        /// Since when, by this host's clock; for people to read.
        since: SystemTime,
        /// What went wrong.
        cause: String,
    },
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
