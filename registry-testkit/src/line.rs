//! The contract, line by line.

use std::fmt;

/// A line of the contract every registry keeps.
///
/// The numbers are stable: reports, documentation and discussions refer to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Line {
    /// 1: `register` is an idempotent upsert, and the only heartbeat.
    Register = 1,
    /// 2: who is not renewed goes, for `get` and for watchers.
    Expiry,
    /// 3: `deregister` removes exactly this node with this epoch.
    Deregister,
    /// 4: a lower epoch is refused.
    Fence,
    /// 5: unknown is `NotFound`, unreachable is `Unavailable`.
    Lookup,
    /// 6: a watch begins with a `Reset`, then every change and no other.
    Watch,
    /// 7: a watch outlives outages.
    Outage,
    /// 8: removals and empty resets say why.
    Reason,
    /// 9: slow consumers get state, not history.
    SlowConsumer,
    /// 10: what is dropped stops.
    Drop,
    /// 11: names match whole.
    Names,
    /// 12: calls honour a deadline and may be cancelled.
    Deadline,
    /// 13: errors are typed, secrets are not shown.
    Errors,
    /// 14: ten thousand nodes in one service work.
    Scale,
}

impl Line {
    /// All of them, in order.
    pub const ALL: [Self; 14] = [
        Self::Register,
        Self::Expiry,
        Self::Deregister,
        Self::Fence,
        Self::Lookup,
        Self::Watch,
        Self::Outage,
        Self::Reason,
        Self::SlowConsumer,
        Self::Drop,
        Self::Names,
        Self::Deadline,
        Self::Errors,
        Self::Scale,
    ];

    /// Its number, from 1.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// What it promises.
    pub fn text(self) -> &'static str {
        match self {
            Self::Register => "register is an idempotent upsert with a TTL, and the only heartbeat",
            Self::Expiry => {
                "a node that is not renewed leaves get and watchers at most ttl + ttl/2 + 1 s later"
            }
            Self::Deregister => {
                "deregister removes exactly this node with this epoch, and is Ok when it is gone"
            }
            Self::Fence => "register with a lower epoch than the stored one is refused as Fenced",
            Self::Lookup => {
                "unknown is NotFound, unreachable is Unavailable, and neither is an empty list"
            }
            Self::Watch => {
                "a watch opens always, begins with a Reset, then no change is lost and none is older"
            }
            Self::Outage => {
                "a watch outlives an outage: Stale once, never an end, then a fresh Reset"
            }
            Self::Reason => "a removal carries its reason, and an empty Reset says why it is empty",
            Self::SlowConsumer => "a slow consumer gets state, not history, and holds nobody up",
            Self::Drop => "dropping a watch, or a handle, stops everything that fed it",
            Self::Names => "a name, an id or a namespace never matches a longer or another one",
            Self::Deadline => "every call ends within its deadline, and may be cancelled",
            Self::Errors => "errors are typed, invalid input is refused, and no secret is shown",
            Self::Scale => "ten thousand nodes in one service and a thousand watches work",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "contract line {} ({})", self.number(), self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines are numbered as the contract numbers them, without a gap.
    #[test]
    fn numbered_in_order() {
        let numbers: Vec<u8> = Line::ALL.iter().map(|line| line.number()).collect();
        assert_eq!(numbers, (1..=14).collect::<Vec<_>>());
    }
}
