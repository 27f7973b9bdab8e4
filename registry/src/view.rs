//! What is registered, as one consumer knows it: the only apply and the only diff.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Endpoints, Registration, RemoveReason, Service, ServiceSummary, Update};

/// A set of registrations, by service and node id.
///
/// Consumers [`apply`](View::apply) updates to it; backends that can only read everything compare
/// two of them with [`diff`](View::diff). Cloning copies the index, not the registrations.
///
/// Epochs fence: a registration never replaces one of a higher epoch, and a removal never removes
/// one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    services: BTreeMap<String, BTreeMap<String, Arc<Registration>>>,
}

impl View {
    /// A view that knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an update in and says whether anything changed.
    pub fn apply(&mut self, update: &Update) -> bool {
        match update {
            Update::Reset { registrations, .. } => {
                let next: Self = registrations.iter().cloned().collect();
                let changed = *self != next;
                *self = next;
                changed
            }
            Update::Put(registration) => self.put(registration.clone()),
            Update::Remove { service, id, epoch, .. } => self.remove(service, id, *epoch),
            Update::Stale { .. } => false,
        }
    }

    /// The updates that turn this view into `newer`; what left, or was replaced by a lower epoch, is
    /// said to have left for the reason `reason_of` gives.
    pub fn diff(
        &self,
        newer: &Self,
        reason_of: impl Fn(&Registration) -> RemoveReason,
    ) -> Vec<Update> {
        let puts = newer
            .iter()
            .filter(|new| self.node(&new.service, &new.node.id) != Some(new))
            .map(|new| Update::Put(new.clone()));
        // Without its removal a higher epoch would fence the lower one that took its place.
        let stays = |old: &Registration| {
            let new = newer.node(&old.service, &old.node.id);
            new.is_some_and(|new| new.node.epoch >= old.node.epoch)
        };
        let removes =
            self.iter().filter(|old| !stays(old)).map(|old| Update::remove(old, reason_of(old)));
        removes.chain(puts).collect()
    }

    /// One registration.
    pub fn node(&self, service: &str, id: &str) -> Option<&Arc<Registration>> {
        self.services.get(service)?.get(id)
    }

    /// All registrations, ordered by service and node id.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Registration>> {
        self.services.values().flat_map(BTreeMap::values)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// How many registrations there are.
    pub fn len(&self) -> usize {
        self.services.values().map(BTreeMap::len).sum()
    }

    /// Whether a service has any node.
    pub fn contains(&self, service: &str) -> bool {
        self.services.contains_key(service)
    }

    /// The nodes of a service grouped by version, in order of the version's text; empty when there
    /// is no such service.
    pub fn service(&self, name: &str) -> Vec<Service> {
        let mut versions: BTreeMap<&str, Vec<&Registration>> = BTreeMap::new();
        for registration in self.services.get(name).into_iter().flat_map(BTreeMap::values) {
            versions.entry(&registration.version).or_default().push(registration);
        }
        versions.into_values().map(|registrations| group(&registrations)).collect()
    }

    /// The services there are, ordered by name.
    pub fn list(&self) -> Vec<ServiceSummary> {
        let summary = |(name, nodes): (&String, &BTreeMap<String, Arc<Registration>>)| {
            let mut versions: Vec<String> = nodes.values().map(|r| r.version.clone()).collect();
            versions.sort();
            versions.dedup();
            ServiceSummary::new(name, versions, nodes.len())
        };
        self.services.iter().map(summary).collect()
    }

    fn put(&mut self, registration: Arc<Registration>) -> bool {
        let known = self.node(&registration.service, &registration.node.id);
        if known.is_some_and(|k| k.node.epoch > registration.node.epoch || *k == registration) {
            return false;
        }
        self.services
            .entry(registration.service.clone())
            .or_default()
            .insert(registration.node.id.clone(), registration);
        true
    }

    fn remove(&mut self, service: &str, id: &str, epoch: u64) -> bool {
        if self.node(service, id).is_none_or(|known| known.node.epoch > epoch) {
            return false;
        }
        if let Some(nodes) = self.services.get_mut(service) {
            nodes.remove(id);
            if nodes.is_empty() {
                self.services.remove(service);
            }
        }
        true
    }
}

impl FromIterator<Arc<Registration>> for View {
    fn from_iter<I: IntoIterator<Item = Arc<Registration>>>(registrations: I) -> Self {
        let mut view = Self::new();
        for registration in registrations {
            view.put(registration);
        }
        view
    }
}

/// Registrations of one version, of which there is at least one.
fn group(registrations: &[&Registration]) -> Service {
    let newest = registrations.iter().max_by_key(|r| r.node.epoch);
    Service {
        name: newest.map(|r| r.service.clone()).unwrap_or_default(),
        version: newest.map(|r| r.version.clone()).unwrap_or_default(),
        metadata: newest.map(|r| r.metadata.clone()).unwrap_or_default(),
        endpoints: newest.map_or_else(Endpoints::default, |r| r.endpoints.clone()),
        nodes: registrations.iter().map(|r| r.node.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;
    use proptest::prelude::*;

    fn registration(service: u8, id: u8, epoch: u64, weight: u16) -> Arc<Registration> {
        let mut node = Node::new(format!("n{id}"), "127.0.0.1:1");
        node.epoch = epoch;
        node.weight = weight;
        Arc::new(Registration::new(format!("s{service}"), "1.0.0", node))
    }

    fn any_view() -> impl Strategy<Value = View> {
        let one = (0u8..3, 0u8..6, 0u64..3, 0u16..3)
            .prop_map(|(service, id, epoch, weight)| registration(service, id, epoch, weight));
        proptest::collection::vec(one, 0..12).prop_map(View::from_iter)
    }

    proptest! {
        /// Applying the difference of two views to the first gives the second, also where a node of
        /// the second is older.
        #[test]
        fn diff_then_apply_gives_the_newer_view(old in any_view(), new in any_view()) {
            let mut view = old.clone();
            for update in old.diff(&new, |_| RemoveReason::Unknown) {
                view.apply(&update);
            }
            prop_assert_eq!(view, new);
        }

        /// The difference of a view to itself is nothing.
        #[test]
        fn diff_of_equals_is_empty(view in any_view()) {
            prop_assert!(view.diff(&view.clone(), |_| RemoveReason::Unknown).is_empty());
        }
    }

    /// A registration or removal of a lower epoch changes nothing.
    #[test]
    fn a_lower_epoch_changes_nothing() {
        let current = registration(0, 0, 5, 100);
        let mut view: View = [current.clone()].into_iter().collect();
        assert!(!view.apply(&Update::Put(registration(0, 0, 4, 1))));
        assert!(!view.apply(&Update::remove(&registration(0, 0, 4, 1), RemoveReason::Expired)));
        assert_eq!(view.node("s0", "n0"), Some(&current));
        assert!(view.apply(&Update::remove(&current, RemoveReason::Expired)));
        assert!(view.is_empty());
    }

    /// Nodes are grouped by version, and the newest epoch speaks for its version.
    #[test]
    fn groups_by_version() {
        let with = |id: &str, version: &str, epoch| {
            let mut node = Node::new(id, "127.0.0.1:1");
            node.epoch = epoch;
            let mut r = Registration::new("s", version, node);
            r.metadata.insert("from".into(), id.into());
            Arc::new(r)
        };
        let view: View = [with("a", "1.0.0", 1), with("b", "1.0.0", 2), with("c", "2.0.0", 1)]
            .into_iter()
            .collect();
        let services = view.service("s");
        assert_eq!(services.len(), 2);
        assert_eq!(services[0].nodes.len(), 2);
        assert_eq!(services[0].metadata["from"], "b");
        assert_eq!(view.list()[0].versions, ["1.0.0", "2.0.0"]);
        assert!(view.service("unknown").is_empty());
    }
}
