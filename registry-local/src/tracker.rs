//! What was seen in the directory, and which nodes are alive by it: pure, over what is seen and
//! when.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use micro_registry::{EmptyReason, Registration, RemoveReason, Scope, Update, View};
use uuid::Uuid;

use crate::name::Key;
use crate::owner::Liveness;
use crate::record::{NodeRecord, Tombstone};

/// Knows the files of a namespace and gives the view that follows from them.
///
/// Everything seen is handed in with the time since boot; nothing changes in the view until the
/// keys concerned are [settled](Self::settle).
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    nodes: BTreeMap<Key, Tracked>,
    owners: HashMap<Uuid, OwnerState>,
    departures: BTreeMap<Key, Departure>,
    /// When each visible node will cease to be, unless something is seen first.
    deadlines: BTreeSet<(Duration, Key)>,
    view: View,
}

/// A node's file, as found.
#[derive(Clone, Debug)]
pub(crate) struct Sighting {
    pub(crate) stamp: Stamp,
    /// `None` for what could not be read or understood.
    pub(crate) record: Option<NodeRecord>,
}

/// While it is the same, a file was neither replaced nor renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The time of the last renewal, since boot.
    pub(crate) modified: Duration,
    pub(crate) size: u64,
    pub(crate) inode: u64,
}

/// A tombstone, as found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    pub(crate) tombstone: Tombstone,
    /// When it was written, since boot.
    pub(crate) at: Duration,
}

impl Departure {
    /// Whether it told everybody; one from the future is from before the last boot.
    pub(crate) fn is_old(&self, now: Duration) -> bool {
        now.checked_sub(self.at).is_none_or(|age| age > TOMBSTONE_AGE)
    }
}

/// How long tombstones are kept.
pub(crate) const TOMBSTONE_AGE: Duration = Duration::from_secs(60);

impl Tracker {
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// Every node and every departure known.
    pub(crate) fn keys(&self) -> BTreeSet<Key> {
        self.nodes.keys().chain(self.departures.keys()).cloned().collect()
    }

    pub(crate) fn keys_of(&self, owner: Uuid) -> impl Iterator<Item = &Key> {
        self.nodes.iter().filter(move |(_, node)| node.owner() == Some(owner)).map(|(key, _)| key)
    }

    /// The stamp of a node's file when it was last seen; `None` when it was not there.
    pub(crate) fn stamp(&self, key: &Key) -> Option<Stamp> {
        let node = self.nodes.get(key).filter(|node| node.vanished.is_none())?;
        Some(node.sighting.stamp)
    }

    /// The owners of these nodes that are not known to live.
    pub(crate) fn unproven_owners(&self, keys: &BTreeSet<Key>) -> HashSet<Uuid> {
        let owners = keys.iter().filter_map(|key| self.nodes.get(key)?.owner());
        owners.filter(|id| self.owners.get(id) != Some(&OwnerState::Held)).collect()
    }

    /// The owners of all nodes; the others are forgotten.
    pub(crate) fn retain_owners(&mut self) -> HashSet<Uuid> {
        let owners: HashSet<_> = self.nodes.values().filter_map(Tracked::owner).collect();
        self.owners.retain(|id, _| owners.contains(id));
        owners
    }

    /// When the next node ceases to be.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Nodes whose time is over, as far as was seen.
    pub(crate) fn due(&self, now: Duration) -> Vec<Key> {
        let due = self.deadlines.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, key)| key.clone()).collect()
    }

    /// A node's file was found, or was not.
    ///
    /// One that is gone without a tombstone was removed by force, perhaps with all the directory,
    /// which is an outage and no departure: for a moment it counts as before.
    pub(crate) fn see_node(&mut self, key: &Key, found: Option<Sighting>, now: Duration) {
        match found {
            Some(sighting) => {
                self.departures.remove(key);
                let renewed = sighting.stamp.modified.min(now);
                let timer = self.nodes.remove(key).and_then(|known| known.timer);
                let node = Tracked { sighting, renewed, vanished: None, timer };
                self.nodes.insert(key.clone(), node);
            }
            None if self.departures.contains_key(key) => self.forget(key),
            None => {
                if let Some(node) = self.nodes.get_mut(key) {
                    node.vanished.get_or_insert(now);
                }
            }
        }
    }

    /// A tombstone was found, or was not.
    pub(crate) fn see_departure(&mut self, key: &Key, found: Option<Departure>) {
        match found {
            Some(departure) => drop(self.departures.insert(key.clone(), departure)),
            None => drop(self.departures.remove(key)),
        }
    }

    /// An owner's lock was looked at. One that lived and has no file now may be an outage, too.
    pub(crate) fn see_owner(&mut self, owner: Uuid, liveness: Liveness, now: Duration) {
        let next = match (liveness, self.owners.get(&owner)) {
            (Liveness::Held, _) => OwnerState::Held,
            (Liveness::Missing, Some(OwnerState::Held)) => OwnerState::Missing { since: now },
            (Liveness::Missing, Some(missing @ OwnerState::Missing { .. })) => *missing,
            _ => OwnerState::Free,
        };
        self.owners.insert(owner, next);
    }

    /// Brings the view up to date in these nodes and says what changed.
    pub(crate) fn settle(&mut self, keys: &BTreeSet<Key>, now: Duration) -> Vec<Update> {
        let known = keys.iter().filter_map(|key| self.view.node(&key.service, &key.id));
        let before: View = known.cloned().collect();
        let alive = keys.iter().filter_map(|key| self.visible(key, now));
        let after: View = alive.collect();
        let updates = before.diff(&after, |gone| self.why_gone(gone));
        for update in &updates {
            self.view.apply(update);
        }
        for key in keys {
            self.set_timer(key, now);
        }
        updates
    }

    /// Everything in scope; `forgetful` when what there was before is not known.
    pub(crate) fn reset(&self, scope: &Scope, forgetful: bool) -> Update {
        let in_scope =
            self.view.iter().filter(|known| scope.contains(&known.service, &known.node.id));
        let registrations: Vec<_> = in_scope.cloned().collect();
        let why = match registrations.is_empty() && !forgetful {
            true => self.why_empty(scope),
            false => EmptyReason::Unknown,
        };
        Update::reset(registrations, why)
    }

    /// Nodes whose files nobody will need again: their owner is dead, or was silent for ten TTLs.
    pub(crate) fn abandoned(&self, now: Duration) -> Vec<Key> {
        let is_abandoned = |node: &Tracked| {
            let Some(record) = &node.sighting.record else { return false };
            match self.owners.get(&record.owner) {
                Some(OwnerState::Held) => is_long_expired(record.ttl, node.renewed, now),
                Some(OwnerState::Missing { since }) => now >= since.saturating_add(GRACE),
                Some(OwnerState::Free) => true,
                None => false,
            }
        };
        let nodes = self.nodes.iter().filter(|(_, n)| n.vanished.is_none() && is_abandoned(n));
        nodes.map(|(key, _)| key.clone()).collect()
    }

    /// Departures everybody was told of.
    pub(crate) fn old_departures(&self, now: Duration) -> Vec<Key> {
        let old = self.departures.iter().filter(|(_, departure)| departure.is_old(now));
        old.map(|(key, _)| key.clone()).collect()
    }

    fn visible(&self, key: &Key, now: Duration) -> Option<Arc<Registration>> {
        let node = self.nodes.get(key)?;
        let record = node.sighting.record.as_ref()?;
        (now < self.ends(node)?).then(|| record.registration.clone())
    }

    /// When a node ceases to be; `None` when it is not alive at all.
    fn ends(&self, node: &Tracked) -> Option<Duration> {
        let record = node.sighting.record.as_ref()?;
        let lease = node.renewed.saturating_add(record.ttl);
        let file = node.vanished.map_or(Duration::MAX, |since| since.saturating_add(GRACE));
        let owner = match self.owners.get(&record.owner)? {
            OwnerState::Held => Duration::MAX,
            OwnerState::Missing { since } => since.saturating_add(GRACE),
            OwnerState::Free => return None,
        };
        Some(lease.min(file).min(owner))
    }

    fn why_gone(&self, gone: &Registration) -> RemoveReason {
        let key = Key::of(gone);
        let departure = self.departures.get(&key);
        if let Some(left) = departure.filter(|d| d.tombstone.epoch >= gone.node.epoch) {
            return left.tombstone.reason.into();
        }
        let Some(node) = self.nodes.get(&key) else { return RemoveReason::Unknown };
        let owner = node.owner().and_then(|owner| self.owners.get(&owner));
        match owner {
            Some(OwnerState::Free) => RemoveReason::Expired,
            Some(_) if node.vanished.is_none() => RemoveReason::Expired,
            _ => RemoveReason::Unknown,
        }
    }

    fn why_empty(&self, scope: &Scope) -> EmptyReason {
        let departures =
            self.departures.iter().filter(|(key, _)| scope.contains(&key.service, &key.id));
        if let Some((_, last)) = departures.max_by_key(|(_, departure)| departure.at) {
            return EmptyReason::from_last(last.tombstone.reason.into());
        }
        let dead = |(key, node): (&Key, &Tracked)| {
            scope.contains(&key.service, &key.id) && node.sighting.record.is_some()
        };
        match self.nodes.iter().any(dead) {
            true => EmptyReason::AllExpired,
            false => EmptyReason::NeverSeen,
        }
    }

    /// Notes when to look at a node again; one that vanished and is not visible is forgotten.
    fn set_timer(&mut self, key: &Key, now: Duration) {
        let Some(node) = self.nodes.get(key) else { return };
        let ends = self.ends(node).filter(|ends| now < *ends);
        if node.vanished.is_some() && ends.is_none() {
            return self.forget(key);
        }
        if node.timer == ends {
            return;
        }
        if let Some(timer) = node.timer {
            self.deadlines.remove(&(timer, key.clone()));
        }
        if let Some(ends) = ends {
            self.deadlines.insert((ends, key.clone()));
        }
        if let Some(node) = self.nodes.get_mut(key) {
            node.timer = ends;
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(timer) = self.nodes.remove(key).and_then(|node| node.timer) {
            self.deadlines.remove(&(timer, key.clone()));
        }
    }
}

/// Whether an owner that lives was silent about a node for so long that its file may go.
pub(crate) fn is_long_expired(ttl: Duration, renewed: Duration, now: Duration) -> bool {
    now >= renewed.saturating_add(ttl.saturating_mul(10))
}

/// For how long what vanished without a word counts as before.
const GRACE: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Tracked {
    sighting: Sighting,
    /// The time of the last renewal; never later than it was seen, whatever the file says.
    renewed: Duration,
    /// Since when its file is gone without a tombstone.
    vanished: Option<Duration>,
    /// Its entry among the deadlines.
    timer: Option<Duration>,
}

impl Tracked {
    fn owner(&self) -> Option<Uuid> {
        self.sighting.record.as_ref().map(|record| record.owner)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnerState {
    Held,
    Free,
    /// Its lock was held and then had no file any more.
    Missing {
        since: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Left;
    use micro_registry::Node;

    const OWNER: Uuid = Uuid::from_u128(1);
    const TTL: Duration = Duration::from_secs(30);
    const START: Duration = Duration::from_secs(1_000);

    fn key() -> Key {
        Key { service: "greeter".into(), id: "a".into() }
    }

    fn registration(epoch: u64) -> Arc<Registration> {
        let mut node = Node::new("a", "127.0.0.1:1");
        node.epoch = epoch;
        Arc::new(Registration::new("greeter", "1.0.0", node))
    }

    fn sighting(epoch: u64, modified: Duration) -> Option<Sighting> {
        let record = NodeRecord { owner: OWNER, ttl: TTL, registration: registration(epoch) };
        Some(Sighting { stamp: Stamp { modified, size: 1, inode: epoch }, record: Some(record) })
    }

    fn departure(reason: Left) -> Option<Departure> {
        Some(Departure { tombstone: Tombstone { epoch: 1, reason }, at: START })
    }

    fn settle(tracker: &mut Tracker, now: Duration) -> Vec<Update> {
        tracker.settle(&[key()].into(), now)
    }

    /// A tracker that knows one living node of epoch 1.
    fn with_node() -> Tracker {
        let mut tracker = Tracker::default();
        tracker.see_node(&key(), sighting(1, START), START);
        tracker.see_owner(OWNER, Liveness::Held, START);
        assert_eq!(settle(&mut tracker, START), [Update::Put(registration(1))]);
        tracker
    }

    fn removed(reason: RemoveReason) -> Vec<Update> {
        vec![Update::remove(&registration(1), reason)]
    }

    /// A node ends with its TTL, a renewal moves that and is no change.
    #[test]
    fn the_lease_counts_from_the_last_renewal() {
        let mut tracker = with_node();
        assert_eq!(tracker.next_deadline(), Some(START + TTL));
        let later = START + Duration::from_secs(20);
        tracker.see_node(&key(), sighting(1, later), later);
        assert!(settle(&mut tracker, later).is_empty());
        assert_eq!(tracker.next_deadline(), Some(later + TTL));
        assert!(settle(&mut tracker, START + TTL).is_empty());
        assert_eq!(tracker.due(later + TTL), [key()]);
        assert_eq!(settle(&mut tracker, later + TTL), removed(RemoveReason::Expired));
        assert_eq!(tracker.next_deadline(), None);
    }

    /// A time of renewal that has not come yet gives no longer lease.
    #[test]
    fn a_renewal_from_the_future_counts_from_now() {
        let mut tracker = with_node();
        tracker.see_node(&key(), sighting(1, Duration::from_secs(1 << 40)), START);
        settle(&mut tracker, START);
        assert_eq!(tracker.next_deadline(), Some(START + TTL));
    }

    /// With its owner a node is gone at once, and comes back to the same owner only by its renewal.
    #[test]
    fn a_dead_owner_ends_its_nodes() {
        let mut tracker = with_node();
        tracker.see_owner(OWNER, Liveness::Free, START);
        assert_eq!(tracker.keys_of(OWNER).collect::<Vec<_>>(), [&key()]);
        assert_eq!(settle(&mut tracker, START), removed(RemoveReason::Expired));
        assert_eq!(tracker.abandoned(START), [key()]);
    }

    /// A tombstone says why.
    #[test]
    fn a_tombstone_gives_the_reason() {
        for (left, reason, empty) in [
            (Left::Deregistered, RemoveReason::Deregistered, EmptyReason::AllDeregistered),
            (Left::Expired, RemoveReason::Expired, EmptyReason::AllExpired),
        ] {
            let mut tracker = with_node();
            tracker.see_departure(&key(), departure(left));
            tracker.see_node(&key(), None, START);
            assert_eq!(settle(&mut tracker, START), removed(reason));
            let reset = |tracker: &Tracker, forgetful| tracker.reset(&Scope::All, forgetful);
            let expected = |empty| Update::reset(vec![], empty);
            assert_eq!(reset(&tracker, false), expected(empty));
            assert_eq!(reset(&tracker, true), expected(EmptyReason::Unknown));
            assert_eq!(reset(&Tracker::default(), false), expected(EmptyReason::NeverSeen));
        }
    }

    /// What vanishes without a word stays for a moment, in which it may turn out to be an outage;
    /// then it left for a reason nobody knows.
    #[test]
    fn vanishing_is_not_leaving() {
        let mut tracker = with_node();
        tracker.see_node(&key(), None, START);
        tracker.see_owner(OWNER, Liveness::Missing, START);
        assert!(settle(&mut tracker, START).is_empty());
        assert_eq!(tracker.next_deadline(), Some(START + GRACE));
        assert_eq!(settle(&mut tracker, START + GRACE), removed(RemoveReason::Unknown));
        assert!(tracker.keys().is_empty());
    }

    /// A file that comes back in time was never gone.
    #[test]
    fn coming_back_in_time_is_no_change() {
        let mut tracker = with_node();
        tracker.see_node(&key(), None, START);
        assert!(settle(&mut tracker, START).is_empty());
        tracker.see_node(&key(), sighting(1, START), START);
        assert!(settle(&mut tracker, START + GRACE).is_empty());
        assert_eq!(tracker.next_deadline(), Some(START + TTL));
    }

    /// A lower epoch in the place of a dead node is seen, although views fence.
    #[test]
    fn a_lower_epoch_after_a_dead_one_is_seen() {
        let mut tracker = with_node();
        tracker.see_node(&key(), sighting(0, START), START);
        let [remove] = <[_; 1]>::try_from(removed(RemoveReason::Expired)).unwrap();
        assert_eq!(settle(&mut tracker, START), [remove, Update::Put(registration(0))]);
        assert_eq!(tracker.view().len(), 1);
    }

    /// The file of a silent owner stays for ten TTLs, then it may go.
    #[test]
    fn a_silent_owner_is_kept_for_a_while() {
        let tracker = with_node();
        assert!(tracker.abandoned(START + TTL * 9).is_empty());
        assert_eq!(tracker.abandoned(START + TTL * 10), [key()]);
    }
}
