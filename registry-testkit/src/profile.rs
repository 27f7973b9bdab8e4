//! What a backend promises, where that may differ from one to the other.

use std::fmt;
use std::time::Duration;

use micro_registry::validate;

/// What is asked of a backend.
///
/// The default is the whole contract. A backend that cannot keep a part of it says so here; the
/// report then lists what it did not have to show.
///
/// ```
/// use micro_registry_testkit::{Fencing, Profile};
///
/// let mut multicast = Profile::default();
/// multicast.max_nodes = 200;
/// multicast.fencing = Fencing::Observed;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// How many nodes one service may have. The contract, and the default: 10 000.
    pub max_nodes: usize,
    /// How many watches one handle may have. The contract, and the default: 1 000.
    pub max_watches: usize,
    /// Who keeps a lower epoch out. Default [`Fencing::Strong`].
    pub fencing: Fencing,
    /// How long a change may take until everybody sees it, on the busiest machine the suite runs
    /// on: how long a case waits before it calls something missing. Default 10 s.
    pub settle: Duration,
    /// The smallest TTL the backend takes; the cases wait for it to pass. Default 1 s.
    pub min_ttl: Duration,
    /// The deadline of a call, as the handles were opened. Default 5 s.
    pub deadline: Duration,
    /// Whether anything can be registered; if not, the store holds the
    /// [`fixture`](crate::fixture). Default true.
    pub writes: bool,
    /// Whether nodes that are not renewed go. Default true.
    pub expiry: bool,
    /// Whether all services can be watched at once. Default true.
    pub watch_all: bool,
    /// Whether there are namespaces. Default true.
    pub namespaces: bool,
    /// Whether the backend can always tell why a node left; if not, `Unknown` will do. Default
    /// true.
    pub reasons: bool,
    /// Whether a handle that was not there when the last node of a service left can tell why the
    /// service is empty; if not, `Unknown` will do. Default true.
    pub remembers: bool,
    /// How many cases run at the same time; those on size run alone. Default 8.
    pub concurrency: usize,
    /// When a case is given up, in all. Default 3 min.
    pub limit: Duration,
    /// How long a record may be in its [stored form](micro_registry::encoding), its endpoints left
    /// out: what is longer may be refused, as `Invalid`. The contract, and the default: 1 MiB.
    pub max_record: usize,
}

/// Who keeps a node of a lower epoch from replacing its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fencing {
    /// The registry: the writer is told that it is `Fenced`.
    Strong,
    /// The readers: the writer may not be told, but nobody sees what it wrote.
    Observed,
    /// Nobody.
    None,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            max_nodes: 10_000,
            max_watches: 1_000,
            fencing: Fencing::Strong,
            settle: Duration::from_secs(10),
            min_ttl: Duration::from_secs(1),
            deadline: Duration::from_secs(5),
            writes: true,
            expiry: true,
            watch_all: true,
            namespaces: true,
            reasons: true,
            remembers: true,
            concurrency: 8,
            limit: Duration::from_secs(180),
            max_record: validate::MAX_RECORD_BYTES,
        }
    }
}

impl Profile {
    /// Where this asks for less than the contract, in words; empty for the whole contract.
    pub fn weaknesses(&self) -> Vec<String> {
        let contract = Self::default();
        let mut found = vec![];
        if self.max_nodes < contract.max_nodes {
            found.push(format!("{} nodes, not {}", self.max_nodes, contract.max_nodes));
        }
        if self.max_watches < contract.max_watches {
            found.push(format!("{} watches, not {}", self.max_watches, contract.max_watches));
        }
        match self.fencing {
            Fencing::Strong => {}
            Fencing::Observed => found.push("fencing by readers only".into()),
            Fencing::None => found.push("no fencing".into()),
        }
        if self.deadline > contract.deadline {
            found.push(format!("deadline {:?}, not {:?}", self.deadline, contract.deadline));
        }
        let absent = [
            (self.writes, "no writes"),
            (self.expiry, "no expiry"),
            (self.watch_all, "no watch of all services"),
            (self.namespaces, "no namespaces"),
            (self.reasons, "reasons may be unknown"),
            (self.remembers, "why a service is empty is not remembered"),
        ];
        if self.max_record < contract.max_record {
            found
                .push(format!("records of {} bytes, not {}", self.max_record, contract.max_record));
        }
        found.extend(absent.iter().filter(|(has, _)| !has).map(|(_, what)| (*what).to_owned()));
        found
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.weaknesses()[..] {
            [] => f.write_str("the whole contract"),
            weaknesses => write!(f, "weaker than the contract: {}", weaknesses.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever is weaker than the contract is said, and nothing of a profile that is not.
    #[test]
    fn weaknesses_are_said() {
        assert_eq!(Profile::default().to_string(), "the whole contract");
        let weak = Profile {
            max_nodes: 200,
            fencing: Fencing::Observed,
            expiry: false,
            remembers: false,
            max_record: 900,
            ..Profile::default()
        };
        let said = weak.to_string();
        for part in [
            "200 nodes, not 10000",
            "fencing by readers only",
            "records of 900 bytes, not 1048576",
            "no expiry",
            "not remembered",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }
}
