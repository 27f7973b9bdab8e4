//! Why services have no nodes any more, remembered.

use std::collections::HashMap;

use crate::{EmptyReason, Scope, View};

/// Why the last node of each service left: the reason of an empty [`Reset`](crate::Update::Reset),
/// for backends that see nodes leave.
///
/// When it knows of 1 024 services it forgets them all, which costs certainty and nothing else: they
/// count as never seen then.
#[derive(Clone, Debug, Default)]
pub struct Emptied {
    reasons: HashMap<String, EmptyReason>,
}

impl Emptied {
    /// Nothing was seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers why a service has no nodes any more.
    pub fn remember(&mut self, service: &str, why: EmptyReason) {
        if self.reasons.len() >= MAX_REMEMBERED {
            self.reasons.clear();
        }
        self.reasons.insert(service.to_owned(), why);
    }

    /// Whether it is remembered why a service has, or once had, no nodes.
    pub fn contains(&self, service: &str) -> bool {
        self.reasons.contains_key(service)
    }

    /// Why there is nothing in scope, when `view` is all there is.
    pub fn why(&self, scope: &Scope, view: &View) -> EmptyReason {
        match scope {
            Scope::Service(name) => {
                self.reasons.get(name).copied().unwrap_or(EmptyReason::NeverSeen)
            }
            // Who else left the service is no word of this node.
            Scope::Node { service, .. } => {
                let was_seen = view.contains(service) || self.contains(service);
                if was_seen { EmptyReason::Unknown } else { EmptyReason::NeverSeen }
            }
            Scope::All if self.reasons.is_empty() => EmptyReason::NeverSeen,
            Scope::All => EmptyReason::Unknown,
        }
    }
}

const MAX_REMEMBERED: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Node, Registration};
    use std::sync::Arc;

    /// A service is empty for the reason its last node left for; of one node, or of everything, that
    /// says only that something was seen.
    #[test]
    fn each_scope_has_its_reason() {
        let there = Registration::new("there", "1.0.0", Node::new("a", "127.0.0.1:1"));
        let view: View = [Arc::new(there)].into_iter().collect();
        let of = |name: &str| Scope::Service(name.into());
        let node = |name: &str| Scope::Node { service: name.into(), id: "b".into() };
        let mut emptied = Emptied::new();
        assert_eq!(emptied.why(&Scope::All, &view), EmptyReason::NeverSeen);
        emptied.remember("left", EmptyReason::AllDeregistered);
        for (scope, why) in [
            (of("left"), EmptyReason::AllDeregistered),
            (of("unheard"), EmptyReason::NeverSeen),
            (node("left"), EmptyReason::Unknown),
            (node("there"), EmptyReason::Unknown),
            (node("unheard"), EmptyReason::NeverSeen),
            (Scope::All, EmptyReason::Unknown),
        ] {
            assert_eq!(emptied.why(&scope, &view), why, "{scope:?}");
        }
    }

    /// However many services come and go, it stays small, and knows the last of them.
    #[test]
    fn it_is_bounded() {
        let mut emptied = Emptied::new();
        for round in 0..3 * MAX_REMEMBERED {
            emptied.remember(&format!("s{round}"), EmptyReason::AllExpired);
            assert!(emptied.reasons.len() <= MAX_REMEMBERED);
            assert!(emptied.contains(&format!("s{round}")));
        }
    }
}
