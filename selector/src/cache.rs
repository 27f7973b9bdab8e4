//! What is known of one service: a state machine over the watch's updates.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use micro_registry::{EmptyReason, Registration, RemoveReason, Update, View};
use tokio::time::Instant;

use crate::peers::Peers;
use crate::snapshot::Known;
use crate::{Filter, Member, NodeStats, Picker, Snapshot};

/// How long nodes outlive a registry that has forgotten everything.
pub(crate) const HOLD_ALL: Duration = Duration::from_secs(600);
/// How long those outlive it that it does not name although it names others: time for all of them
/// to renew.
pub(crate) const HOLD_SOME: Duration = Duration::from_secs(60);
/// How long after an outage expiries are doubted: what nobody could renew ends then, first of all
/// where the registry itself was halted and its clock was not.
const DOUBT: Duration = Duration::from_secs(30);

/// The nodes of one service as last known.
///
/// A registry that cannot be reached takes no node out, and neither does one that comes back with
/// less than was known: who is missing then, or expires soon after, is held for a while, and called
/// meanwhile, until the registry names it again or says that it left.
#[derive(Debug)]
pub struct Cache<T> {
    peers: Arc<Peers>,
    zone: Option<String>,
    filter: Filter,
    view: View,
    members: HashMap<String, Arc<Member<T>>>,
    answered: bool,
    /// The source cannot be reached.
    lost: bool,
    /// Since when it can be reached again.
    found: Option<Instant>,
    /// Nodes the source does not know at present.
    held: HashSet<String>,
    /// Until when; counts only while the source can be reached.
    held_until: Option<Instant>,
}

/// What an update did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is a new snapshot to publish.
    Changed,
    /// The registry forgot this many nodes, which are kept.
    Held(usize),
    /// There is nothing new.
    Nothing,
}

impl Change {
    fn when(changed: bool) -> Self {
        if changed { Self::Changed } else { Self::Nothing }
    }
}

impl<T: Clone> Cache<T> {
    /// An empty cache, for the nodes `picker` is to pick from.
    pub fn new(picker: &Picker) -> Self {
        Self {
            peers: picker.peers().clone(),
            zone: None,
            filter: Filter::default(),
            view: View::new(),
            members: HashMap::new(),
            answered: false,
            lost: false,
            found: None,
            held: HashSet::new(),
            held_until: None,
        }
    }

    /// The same for a caller in this zone, who calls nothing but what the filter allows.
    pub fn within(self, zone: Option<String>, filter: Filter) -> Self {
        Self { zone, filter, ..self }
    }

    /// Takes an update in.
    pub fn apply(&mut self, update: &Update, now: Instant) -> Change {
        match update {
            Update::Stale { .. } => {
                self.held_until = None;
                Change::when(!std::mem::replace(&mut self.lost, true))
            }
            Update::Reset { registrations, empty, .. } => self.reset(registrations, *empty, now),
            Update::Put(registration) => {
                let Registration { service, node, .. } = &**registration;
                if self.held.remove(&node.id)
                    && let Some(held) = self.view.node(service, &node.id).cloned()
                    && held.node.epoch > node.epoch
                {
                    // The source let go of it, so it fences nobody.
                    self.view.apply(&Update::remove(&held, RemoveReason::Expired));
                }
                Change::when(self.view.apply(update))
            }
            Update::Remove { service, id, epoch, reason: RemoveReason::Expired, .. }
                if self.is_doubtful(now) =>
            {
                // Of what came and left unread only the end may be told, so it may be of a later epoch.
                let known = self.view.node(service, id);
                if known.is_none_or(|known| known.node.epoch > *epoch) {
                    return Change::Nothing;
                }
                self.held_until = self.held_until.max(Some(now + HOLD_SOME));
                if self.held.insert(id.clone()) { Change::Held(1) } else { Change::Nothing }
            }
            Update::Remove { id, .. } => {
                self.held.remove(id);
                Change::when(self.view.apply(update))
            }
            _ => Change::when(self.view.apply(update)),
        }
    }

    /// Whether who expires now may just not have been able to renew.
    fn is_doubtful(&self, now: Instant) -> bool {
        self.found.is_some_and(|found| now < found + DOUBT)
    }

    /// Lets go of what was held long enough.
    pub fn tick(&mut self, now: Instant) -> Change {
        if self.held_until.is_none_or(|until| now < until) {
            return Change::Nothing;
        }
        self.held_until = None;
        let held = std::mem::take(&mut self.held);
        let kept = self.view.iter().filter(|r| !held.contains(&r.node.id)).cloned();
        self.view = kept.collect();
        Change::when(!held.is_empty())
    }

    /// When to [`tick`](Self::tick).
    pub fn held_until(&self) -> Option<Instant> {
        self.held_until
    }

    /// Whether what is known is what the source says.
    pub(crate) fn is_current(&self) -> bool {
        self.answered && !self.lost && self.held.is_empty()
    }

    /// The nodes that want traffic, with what was kept for those known before; `make` gives what to
    /// keep for a new one, or `None` when it cannot be called at all.
    ///
    /// Who comes after the first ones is a newcomer, and gets less than its share at first.
    pub fn snapshot(
        &mut self,
        make: impl Fn(&Registration) -> Option<T>,
        now: Instant,
    ) -> Snapshot<T> {
        let mut known = std::mem::take(&mut self.members);
        let are_first = known.is_empty();
        for registration in self.view.iter() {
            let id = &registration.node.id;
            let member = match known.get(id) {
                Some(member) if Arc::ptr_eq(member.registration(), registration) => {
                    known.remove(id)
                }
                Some(member) if is_same_target(member.registration(), registration) => {
                    let updated = member.updated(registration.clone());
                    known.remove(id);
                    Some(Arc::new(updated))
                }
                _ => make(registration).map(|target| {
                    let stats = NodeStats::new(&registration.node, &self.peers);
                    let stats = if are_first { stats } else { stats.joining(now) };
                    Arc::new(Member::new(registration.clone(), stats, target))
                }),
            };
            if let Some(member) = member {
                self.members.insert(id.clone(), member);
            }
        }
        known.values().for_each(|gone| gone.stats().retire());
        self.eligible(now)
    }

    fn eligible(&self, now: Instant) -> Snapshot<T> {
        let known = self.view.iter().filter_map(|r| self.members.get(&r.node.id).cloned());
        let (serving, resting): (Vec<_>, Vec<_>) =
            known.partition(|member| member.registration().node.is_eligible());
        let known = Known {
            registered: self.view.len(),
            serving: serving.len(),
            answered: self.answered,
            stale: self.lost || !self.held.is_empty(),
        };
        let (allowed, others): (Vec<_>, Vec<_>) =
            serving.into_iter().partition(|member| self.filter.allows(member));
        // Nobody can pick them, so nobody could probe them either.
        resting.iter().chain(&others).for_each(|member| member.stats().retire());
        allowed.iter().for_each(|member| member.stats().enter(now));
        self.peers.resize(allowed.len());
        let zone = self.zone.as_deref();
        let is_near =
            |m: &Member<T>| zone.is_some() && m.registration().node.zone.as_deref() == zone;
        Snapshot::new(allowed, known, is_near)
    }

    /// All that is known, in the registry's order.
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    fn reset(
        &mut self,
        registrations: &[Arc<Registration>],
        empty: Option<EmptyReason>,
        now: Instant,
    ) -> Change {
        let was_current = self.is_current();
        let mut next: View = registrations.iter().cloned().collect();
        let missing: Vec<_> = match self.is_believed(empty) {
            true => Vec::new(),
            false => {
                let known = self.view.iter().cloned();
                known.filter(|r| next.node(&r.service, &r.node.id).is_none()).collect()
            }
        };
        self.held = missing.iter().map(|r| r.node.id.clone()).collect();
        let hold = if next.is_empty() { HOLD_ALL } else { HOLD_SOME };
        self.held_until = (!missing.is_empty()).then(|| now + hold);
        for held in missing {
            next.apply(&Update::Put(held));
        }
        if self.lost {
            self.found = Some(now);
        }
        (self.lost, self.answered) = (false, true);
        let changed = next != self.view || !was_current;
        self.view = next;
        if self.held.is_empty() { Change::when(changed) } else { Change::Held(self.held.len()) }
    }

    /// Whether those a reset does not name have left, rather than been forgotten or unable to
    /// renew.
    fn is_believed(&self, empty: Option<EmptyReason>) -> bool {
        match empty {
            Some(EmptyReason::AllDeregistered) => true,
            Some(reason) => reason.is_certain() && !self.lost,
            None => !self.lost && self.held.is_empty(),
        }
    }
}

/// Whether what is kept for the one serves the other as well.
fn is_same_target(old: &Arc<Registration>, new: &Arc<Registration>) -> bool {
    old.is_same_instance(new) && old.node.address == new.node.address
}

#[cfg(test)]
mod tests {
    use super::*;
    use micro_registry::{Node, NodeState};

    fn cache_of<T: Clone>() -> Cache<T> {
        Cache::new(&Picker::new(&Default::default(), Instant::now()))
    }

    fn registration(id: &str) -> Arc<Registration> {
        Arc::new(Registration::new("s", "1.0.0", Node::new(id, "127.0.0.1:1")))
    }

    fn reset(ids: &[&str], reason: EmptyReason) -> Update {
        Update::reset(ids.iter().map(|id| registration(id)).collect(), reason)
    }

    fn ids(cache: &mut Cache<u32>) -> Vec<String> {
        let snapshot = cache.snapshot(|_| Some(0), Instant::now());
        snapshot.members().iter().map(|m| m.registration().node.id.clone()).collect()
    }

    /// A registry that forgot everything takes no node out; one that knows they left does.
    #[test]
    fn forgotten_nodes_are_held_and_left_ones_are_not() {
        let now = Instant::now();
        for reason in [EmptyReason::NeverSeen, EmptyReason::Unknown] {
            let mut cache = cache_of();
            cache.apply(&reset(&["a", "b"], reason), now);
            assert_eq!(cache.apply(&reset(&[], reason), now), Change::Held(2));
            assert_eq!(ids(&mut cache), ["a", "b"]);
            // One comes back; the other is let go when nobody names it again.
            cache.apply(&Update::Put(registration("a")), now);
            assert_eq!(cache.tick(now + HOLD_ALL / 2), Change::Nothing);
            assert_eq!(cache.tick(now + HOLD_ALL), Change::Changed);
            assert_eq!(ids(&mut cache), ["a"]);
        }
        for reason in [EmptyReason::AllDeregistered, EmptyReason::AllExpired] {
            let mut cache = cache_of();
            cache.apply(&reset(&["a"], reason), now);
            assert_eq!(cache.apply(&reset(&[], reason), now), Change::Changed);
            assert!(ids(&mut cache).is_empty());
        }
    }

    /// After an outage, in which nobody could renew, what the registry does not name yet is held;
    /// in quiet times a reset is believed.
    #[test]
    fn a_registry_that_returns_with_less_is_not_believed_at_once() {
        let now = Instant::now();
        let stale = Update::stale(std::time::SystemTime::UNIX_EPOCH, "gone");
        let mut cache = cache_of();
        cache.apply(&reset(&["a", "b", "c"], EmptyReason::Unknown), now);
        cache.apply(&stale, now);
        assert_eq!(cache.apply(&reset(&["a"], EmptyReason::Unknown), now), Change::Held(2));
        assert_eq!(ids(&mut cache), ["a", "b", "c"]);
        cache.apply(&Update::Put(registration("b")), now);
        // The clock of the hold stands while the source is away again, and starts afresh.
        cache.apply(&stale, now);
        assert_eq!(cache.tick(now + HOLD_ALL), Change::Nothing);
        assert_eq!(cache.apply(&reset(&[], EmptyReason::AllExpired), now), Change::Held(3));
        assert_eq!(cache.apply(&reset(&["a", "b"], EmptyReason::Unknown), now), Change::Held(1));
        assert_eq!(cache.tick(now + HOLD_SOME), Change::Changed);
        assert_eq!(ids(&mut cache), ["a", "b"]);
        assert!(cache.is_current());
        assert_eq!(cache.apply(&reset(&["b"], EmptyReason::Unknown), now), Change::Changed);
        assert_eq!(ids(&mut cache), ["b"]);
    }

    /// Who expires right after an outage is held; who says goodbye is not, nor who expires later.
    #[test]
    fn expiries_right_after_an_outage_are_doubted() {
        let now = Instant::now();
        let expired = |id| Update::remove(&registration(id), RemoveReason::Expired);
        let mut cache = cache_of::<u32>();
        let all = reset(&["a", "b", "c", "d"], EmptyReason::Unknown);
        cache.apply(&all, now);
        cache.apply(&Update::stale(std::time::SystemTime::UNIX_EPOCH, "halted"), now);
        cache.apply(&all, now);
        assert_eq!(cache.apply(&expired("a"), now), Change::Held(1));
        assert_eq!(cache.apply(&expired("a"), now), Change::Nothing);
        assert_eq!(cache.apply(&expired("b"), now), Change::Held(1));
        let goodbye = Update::remove(&registration("c"), RemoveReason::Deregistered);
        assert_eq!(cache.apply(&goodbye, now), Change::Changed);
        cache.apply(&Update::Put(registration("b")), now);
        assert_eq!(ids(&mut cache), ["a", "b", "d"]);
        assert_eq!(cache.apply(&expired("d"), now + DOUBT), Change::Changed);
        assert_eq!(cache.tick(now + HOLD_SOME), Change::Changed);
        assert_eq!(ids(&mut cache), ["b"]);
        assert!(cache.is_current());
    }

    /// What expires meanwhile does not shorten the time for which others are held.
    #[test]
    fn a_hold_is_not_shortened() {
        let now = Instant::now();
        let mut cache = cache_of::<u32>();
        cache.apply(&reset(&["a"], EmptyReason::Unknown), now);
        cache.apply(&Update::stale(std::time::SystemTime::UNIX_EPOCH, "wiped"), now);
        assert_eq!(cache.apply(&reset(&[], EmptyReason::Unknown), now), Change::Held(1));
        cache.apply(&Update::Put(registration("b")), now);
        // A later epoch came and expired before anybody read of it.
        let mut later = Registration::clone(&registration("b"));
        later.node.epoch = 1;
        assert_eq!(
            cache.apply(&Update::remove(&later, RemoveReason::Expired), now),
            Change::Held(1)
        );
        assert_eq!(cache.tick(now + HOLD_SOME), Change::Nothing);
        assert_eq!(ids(&mut cache), ["a", "b"]);
        assert_eq!(cache.tick(now + HOLD_ALL), Change::Changed);
    }

    /// A node that is held fences nobody: an older epoch that the registry names takes its place.
    #[test]
    fn a_held_node_gives_way() {
        let now = Instant::now();
        let mut newer = Registration::clone(&registration("a"));
        newer.node.epoch = 9;
        let mut cache = cache_of::<u32>();
        cache.apply(&Update::reset(vec![Arc::new(newer)], EmptyReason::Unknown), now);
        assert_eq!(cache.apply(&reset(&[], EmptyReason::Unknown), now), Change::Held(1));
        assert_eq!(cache.apply(&Update::Put(registration("a")), now), Change::Changed);
        assert_eq!(cache.view().node("s", "a"), Some(&registration("a")));
    }

    /// An empty answer at the start is an answer.
    #[test]
    fn an_empty_start_is_an_answer() {
        let mut cache = cache_of::<u32>();
        assert!(!cache.snapshot(|_| None, Instant::now()).is_answered());
        let change = cache.apply(&reset(&[], EmptyReason::NeverSeen), Instant::now());
        assert_eq!(change, Change::Changed);
        assert!(cache.snapshot(|_| None, Instant::now()).is_answered());
    }

    /// Only serving nodes of some weight are picked from; what is kept for a node outlives changes
    /// of its state, and ends with a restart.
    #[test]
    fn keeps_targets_across_changes() {
        let now = Instant::now();
        let made = std::cell::Cell::new(0);
        let make = |_: &Registration| {
            made.set(made.get() + 1);
            Some(made.get())
        };
        let with = |state, epoch| {
            let mut changed = Registration::clone(&registration("a"));
            changed.node.state = state;
            changed.node.epoch = epoch;
            Update::Put(Arc::new(changed))
        };
        let mut cache = cache_of();
        cache.apply(&reset(&["a"], EmptyReason::Unknown), now);
        assert_eq!(*cache.snapshot(make, now).members()[0].target(), 1);
        cache.apply(&with(NodeState::Draining, 0), now);
        let draining = cache.snapshot(make, now);
        assert_eq!((draining.members().len(), draining.registered()), (0, 1));
        cache.apply(&with(NodeState::Serving, 0), now);
        assert_eq!(*cache.snapshot(make, now).members()[0].target(), 1);
        cache.apply(&with(NodeState::Serving, 1), now);
        assert_eq!(*cache.snapshot(make, now).members()[0].target(), 2);
    }

    /// Losing the source is told once and takes nothing out.
    #[test]
    fn stale_keeps_everything() {
        let now = Instant::now();
        let stale = Update::stale(std::time::SystemTime::UNIX_EPOCH, "gone");
        let mut cache = cache_of();
        cache.apply(&reset(&["a"], EmptyReason::Unknown), now);
        assert_eq!(cache.apply(&stale, now), Change::Changed);
        assert_eq!(cache.apply(&stale, now), Change::Nothing);
        assert!(cache.snapshot(|_| Some(0), Instant::now()).is_stale());
        assert_eq!(ids(&mut cache), ["a"]);
        let removal = Update::remove(&registration("a"), RemoveReason::Expired);
        assert_eq!(cache.apply(&removal, now), Change::Changed);
        assert!(ids(&mut cache).is_empty());
    }
}
