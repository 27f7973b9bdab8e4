//! What was heard in the network, and which nodes there are by it: pure, over what is heard and
//! when.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use micro_registry::{Emptied, EmptyReason, Registration, RemoveReason, Scope, Update, View};
use tokio::time::Instant;

use crate::claim::{Claim, EXCUSED};
use crate::text::{Announcement, Key, Says};

/// Knows what each instance said last, and gives the view that follows from it.
///
/// Of what is said about one epoch of a node the latest counts, whoever said it; of the epochs that
/// are there the highest does.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    claims: HashMap<String, Claim>,
    of_node: BTreeMap<Key, BTreeSet<String>>,
    /// When each claim that counts will cease to, unless something is heard first.
    due: BTreeSet<(Instant, String)>,
    view: View,
    /// When a network interface was lost last.
    interface_lost: Option<Instant>,
    emptied: Emptied,
}

/// How many instances are known at most: a network that floods us costs no more.
pub(crate) const MAX_CLAIMS: usize = 4_096;

impl Tracker {
    pub(crate) fn view(&self) -> &View {
        &self.view
    }

    /// The highest stamp heard about a node.
    pub(crate) fn stamp(&self, key: &Key) -> u64 {
        self.claims_of(key).map(|claim| claim.said.stamp).max().unwrap_or(0)
    }

    /// Whether the last word on this epoch of a node is that it left, or a higher one is there.
    pub(crate) fn is_over(&self, key: &Key, epoch: u64) -> bool {
        let is_higher = |known: &Arc<Registration>| known.node.epoch > epoch;
        self.view.node(&key.service, &key.id).is_some_and(is_higher)
            || self.last_word(key, epoch).is_some_and(|claim| !claim.is_here())
    }

    /// Whether further instances are ignored.
    pub(crate) fn is_full(&self) -> bool {
        self.claims.len() >= MAX_CLAIMS
    }

    /// When there is something to do without being told.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// An instance said something. The same again counts for nothing: it may come out of a cache.
    pub(crate) fn hear(&mut self, instance: &str, said: Announcement, now: Instant) -> Vec<Update> {
        let key = said.key.clone();
        let reason = match said.says {
            Says::Left(reason) => reason,
            Says::Here(..) => RemoveReason::Unknown,
        };
        let mut updates = vec![];
        if let Some(known) = self.claims.get_mut(instance) {
            known.confirm();
            if !known.is_news(&said) {
                self.set_timer(instance);
                return updates;
            }
            let other = (known.said.key != key).then(|| known.said.key.clone());
            self.forget(instance);
            updates.extend(other.into_iter().flat_map(|key| self.settle(&key, reason)));
        } else if self.is_full() {
            return updates;
        }
        self.claims.insert(instance.to_owned(), Claim::new(said, now));
        self.of_node.entry(key.clone()).or_default().insert(instance.to_owned());
        self.set_timer(instance);
        updates.extend(self.settle(&key, reason));
        self.remember_goodbye(&key, reason);
        updates
    }

    /// An instance is there no more, and did not say so. A moment later it will have left, unless
    /// it is heard again or vanished with a network interface.
    pub(crate) fn vanish(&mut self, instance: &str, now: Instant) {
        let is_excused = self.interface_lost.is_some_and(|at| now < at + EXCUSED);
        match self.claims.get_mut(instance) {
            Some(claim) if claim.counts && claim.is_here() => {
                claim.vanish(now, is_excused);
                self.set_timer(instance);
            }
            _ => self.forget(instance),
        }
    }

    /// A network interface went away: who vanished with it, or will in a moment, may be there as
    /// before.
    pub(crate) fn lose_interface(&mut self, now: Instant) {
        self.interface_lost = Some(now);
        self.excuse(now);
    }

    /// What an instance of ours said counts no more, as nobody says it any longer.
    pub(crate) fn retire(&mut self, instance: &str) -> Vec<Update> {
        let Some(claim) = self.claims.get_mut(instance) else { return vec![] };
        claim.counts = false;
        let key = claim.said.key.clone();
        self.set_timer(instance);
        self.settle(&key, RemoveReason::Unknown)
    }

    /// Takes out whose time is over.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Update> {
        let mut updates = vec![];
        while let Some((_, instance)) = self.due.first().filter(|(at, _)| *at <= now).cloned() {
            updates.extend(self.end(&instance));
        }
        updates
    }

    /// From here on everything is heard anew; what is not is forgotten at the end.
    pub(crate) fn begin_again(&mut self, now: Instant) {
        for claim in self.claims.values_mut() {
            claim.is_confirmed = false;
        }
        self.excuse(now);
    }

    /// What was not heard since is there no more; nobody knows why.
    pub(crate) fn end_again(&mut self, is_ours: impl Fn(&str) -> bool) {
        let is_lost = |(instance, claim): &(&String, &Claim)| {
            !claim.is_confirmed && !is_ours(instance.as_str())
        };
        let lost = self.claims.iter().filter(is_lost).map(|(instance, _)| instance.clone());
        for instance in lost.collect::<Vec<_>>() {
            let key = self.claims.get(&instance).map(|claim| claim.said.key.clone());
            self.forget(&instance);
            if let Some(key) = key {
                self.settle(&key, RemoveReason::Unknown);
            }
        }
    }

    /// Everything in scope.
    pub(crate) fn reset(&self, scope: &Scope) -> Update {
        let in_scope = self.view.iter().filter(|r| scope.contains(&r.service, &r.node.id));
        Update::reset(in_scope.cloned().collect(), self.emptied.why(scope, &self.view))
    }

    /// Nobody left merely because he vanished a moment ago.
    fn excuse(&mut self, now: Instant) {
        let vanished = self.claims.iter().filter(|(_, claim)| claim.vanished.is_some());
        for instance in vanished.map(|(instance, _)| instance.clone()).collect::<Vec<_>>() {
            if let Some(claim) = self.claims.get_mut(&instance) {
                claim.vanish(now, true);
            }
            self.set_timer(&instance);
        }
    }

    fn claims_of(&self, key: &Key) -> impl Iterator<Item = &Claim> {
        let instances = self.of_node.get(key).into_iter().flatten();
        instances.filter_map(|instance| self.claims.get(instance))
    }

    fn last_word(&self, key: &Key, epoch: u64) -> Option<&Claim> {
        let counting = self.claims_of(key).filter(|c| c.counts && c.said.epoch == epoch);
        counting.max_by_key(|claim| (claim.said.stamp, !claim.is_here()))
    }

    /// The node as it is there.
    fn visible(&self, key: &Key) -> Option<Arc<Registration>> {
        let epochs: BTreeSet<u64> = self.claims_of(key).map(|claim| claim.said.epoch).collect();
        epochs.into_iter().rev().find_map(|epoch| match &self.last_word(key, epoch)?.said.says {
            Says::Here(registration, _) => Some(registration.clone()),
            Says::Left(_) => None,
        })
    }

    /// Brings the view up to date in one node; if it left, it did for this reason.
    fn settle(&mut self, key: &Key, reason: RemoveReason) -> Vec<Update> {
        self.silence(key);
        let before: View = self.view.node(&key.service, &key.id).cloned().into_iter().collect();
        let after: View = self.visible(key).into_iter().collect();
        let updates = before.diff(&after, |_| reason);
        for update in &updates {
            self.view.apply(update);
        }
        let was_there = !before.is_empty() && !self.view.contains(&key.service);
        if was_there {
            self.emptied.remember(&key.service, EmptyReason::from_last(reason));
        }
        updates
    }

    /// What was said before a goodbye counts no more, also once the goodbye is forgotten.
    fn silence(&mut self, key: &Key) {
        let left = self.claims_of(key).filter(|claim| claim.counts && !claim.is_here());
        let left: Vec<_> = left.map(|claim| (claim.said.epoch, claim.said.stamp)).collect();
        let instances = self.of_node.get(key).cloned().unwrap_or_default();
        for instance in &instances {
            if let Some(claim) = self.claims.get_mut(instance)
                && claim.is_here()
                && left.iter().any(|(e, s)| claim.said.epoch == *e && claim.said.stamp <= *s)
            {
                claim.counts = false;
                self.set_timer(instance);
            }
        }
    }

    /// The goodbye of a node that was never seen says something, too.
    fn remember_goodbye(&mut self, key: &Key, reason: RemoveReason) {
        let why = EmptyReason::from_last(reason);
        let is_known = self.view.contains(&key.service) || self.emptied.contains(&key.service);
        if why.is_certain() && !is_known {
            self.emptied.remember(&key.service, why);
        }
    }

    /// The time of a claim is over.
    fn end(&mut self, instance: &str) -> Vec<Update> {
        let Some(claim) = self.claims.get_mut(instance) else { return vec![] };
        let key = claim.said.key.clone();
        let reason = claim.why_over();
        claim.counts = false;
        match claim.vanished {
            Some(_) => self.forget(instance),
            // Kept with its stamp: what a cache says of the dead is not to bring them back.
            None => self.set_timer(instance),
        }
        self.settle(&key, reason)
    }

    fn set_timer(&mut self, instance: &str) {
        let Some(claim) = self.claims.get_mut(instance) else { return };
        let timer = claim.ends();
        let before = std::mem::replace(&mut claim.timer, timer);
        if before == timer {
            return;
        }
        if let Some(before) = before {
            self.due.remove(&(before, instance.to_owned()));
        }
        if let Some(at) = timer {
            self.due.insert((at, instance.to_owned()));
        }
    }

    fn forget(&mut self, instance: &str) {
        let Some(claim) = self.claims.remove(instance) else { return };
        if let Some(at) = claim.timer {
            self.due.remove(&(at, instance.to_owned()));
        }
        let key = claim.said.key;
        if let Some(instances) = self.of_node.get_mut(&key) {
            instances.remove(instance);
            if instances.is_empty() {
                self.of_node.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claim::{GRACE, RECORD_LIFE};
    use micro_registry::Node;
    use std::time::Duration;

    const TTL: Duration = Duration::from_secs(30);

    fn registration(id: &str, epoch: u64) -> Arc<Registration> {
        let mut node = Node::new(id, "127.0.0.1:1");
        node.epoch = epoch;
        Arc::new(Registration::new("greeter", "1.0.0", node))
    }

    fn here(id: &str, epoch: u64, stamp: u64) -> Announcement {
        let registration = registration(id, epoch);
        let says = Says::Here(registration.clone(), Some(TTL));
        Announcement { key: Key::of(&registration), epoch, stamp, says }
    }

    fn left(epoch: u64, stamp: u64) -> Announcement {
        let says = Says::Left(RemoveReason::Deregistered);
        Announcement { says, ..here("a", epoch, stamp) }
    }

    fn put(epoch: u64) -> Vec<Update> {
        vec![Update::Put(registration("a", epoch))]
    }

    fn removed(epoch: u64, reason: RemoveReason) -> Vec<Update> {
        vec![Update::remove(&registration("a", epoch), reason)]
    }

    /// A tracker that heard of node `a` in epoch 1, by the stamp 5, from instance `x`.
    fn with_node() -> (Tracker, Instant) {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        assert_eq!(tracker.hear("x", here("a", 1, 5), start), put(1));
        (tracker, start)
    }

    fn why_empty(tracker: &Tracker) -> EmptyReason {
        match tracker.reset(&Scope::Service("greeter".into())) {
            Update::Reset { empty: Some(why), .. } => why,
            other => panic!("{other:?}"),
        }
    }

    /// A node ends with its TTL; only a higher stamp renews it, which is no change.
    #[test]
    fn the_lease_counts_from_the_last_renewal() {
        let (mut tracker, start) = with_node();
        assert_eq!(tracker.next_deadline(), Some(start + TTL));
        assert!(tracker.hear("x", here("a", 1, 5), start + TTL / 2).is_empty());
        assert_eq!(tracker.next_deadline(), Some(start + TTL), "out of a cache");
        assert!(tracker.hear("x", here("a", 1, 6), start + TTL / 2).is_empty());
        assert!(tracker.tick(start + TTL).is_empty());
        let over = start + TTL / 2 + TTL;
        assert_eq!(tracker.tick(over), removed(1, RemoveReason::Expired));
        assert_eq!(why_empty(&tracker), EmptyReason::AllExpired);
        assert!(tracker.hear("x", here("a", 1, 6), over).is_empty(), "a cache revives nobody");
        assert_eq!(tracker.hear("x", here("a", 1, 7), over), put(1), "a renewal does");
    }

    /// Who says so left at once, and is not seen again by what was said before.
    #[test]
    fn a_goodbye_is_at_once() {
        let (mut tracker, start) = with_node();
        let gone = tracker.hear("x", left(1, 6), start);
        assert_eq!(gone, removed(1, RemoveReason::Deregistered));
        assert_eq!(why_empty(&tracker), EmptyReason::AllDeregistered);
        assert!(tracker.hear("x", here("a", 1, 5), start).is_empty());
        tracker.vanish("x", start);
        assert!(tracker.claims.is_empty() && tracker.of_node.is_empty() && tracker.due.is_empty());
    }

    /// Anybody may say that a node left; the later word counts, and the goodbye of one epoch is of
    /// no concern to another.
    #[test]
    fn the_last_word_counts() {
        let (mut tracker, start) = with_node();
        assert!(tracker.hear("y", left(1, 4), start).is_empty(), "said before");
        assert!(tracker.hear("y", left(2, 9), start).is_empty(), "about another epoch");
        assert!(!tracker.is_over(&here("a", 1, 0).key, 1));
        let gone = tracker.hear("y", left(1, 10), start);
        assert_eq!(gone, removed(1, RemoveReason::Deregistered));
        assert!(tracker.is_over(&here("a", 1, 0).key, 1));
        tracker.vanish("y", start);
        assert!(tracker.hear("x", here("a", 1, 5), start).is_empty(), "still gone");
        assert_eq!(tracker.hear("x", here("a", 1, 11), start), put(1), "and back");
    }

    /// Epochs fence: a lower one is not seen while a higher is there, and is afterwards.
    #[test]
    fn the_highest_epoch_counts() {
        let (mut tracker, start) = with_node();
        assert!(tracker.hear("y", here("a", 0, 99), start + TTL / 2).is_empty());
        assert!(tracker.is_over(&here("a", 0, 0).key, 0));
        let follows = tracker.tick(start + TTL);
        assert_eq!(follows, [removed(1, RemoveReason::Expired), put(0)].concat());
        assert_eq!(tracker.hear("x", here("a", 2, 7), start + TTL), put(2));
    }

    /// Who vanishes without a word left a moment later, by a goodbye if its record had life left;
    /// nobody knows why if it had not, or expired if his lease is over just then.
    #[test]
    fn vanishing_is_leaving_after_a_moment() {
        for (lease, after, reason) in [
            (Some(TTL * 100), Duration::from_secs(5), RemoveReason::Deregistered),
            (Some(TTL * 100), RECORD_LIFE, RemoveReason::Unknown),
            (Some(RECORD_LIFE + GRACE), RECORD_LIFE, RemoveReason::Expired),
            (None, Duration::from_secs(5), RemoveReason::Deregistered),
            (None, RECORD_LIFE, RemoveReason::Unknown),
        ] {
            let (mut tracker, start) = (Tracker::default(), Instant::now());
            let says = Says::Here(registration("a", 1), lease);
            tracker.hear("x", Announcement { says, ..here("a", 1, 5) }, start);
            tracker.vanish("x", start + after);
            assert!(tracker.tick(start + after).is_empty());
            assert_eq!(tracker.tick(start + after + GRACE), removed(1, reason));
            assert!(tracker.claims.is_empty());
        }
    }

    /// Who is heard again in time was never gone.
    #[test]
    fn vanishing_may_be_taken_back() {
        let (mut tracker, start) = with_node();
        tracker.vanish("x", start);
        tracker.hear("x", here("a", 1, 5), start);
        assert!(tracker.tick(start + GRACE).is_empty());
        assert_eq!(tracker.next_deadline(), Some(start + TTL));
    }

    /// Who vanishes with an interface is there until his lease is over, whether the loss is noticed
    /// before he vanishes or after, and leaves nothing behind.
    #[test]
    fn vanishing_with_an_interface_is_no_goodbye() {
        let moment = Duration::from_millis(400);
        for (lost, vanished) in [(moment, Duration::ZERO), (Duration::ZERO, moment * 3)] {
            let (mut tracker, start) = with_node();
            if lost < vanished {
                tracker.lose_interface(start + lost);
                tracker.vanish("x", start + vanished);
            } else {
                tracker.vanish("x", start + vanished);
                tracker.lose_interface(start + lost);
            }
            assert!(tracker.tick(start + TTL - moment).is_empty());
            assert_eq!(tracker.tick(start + TTL), removed(1, RemoveReason::Expired));
            assert!(tracker.claims.is_empty() && tracker.of_node.is_empty());
        }
    }

    /// A goodbye is one again a while after an interface was lost, and after the instance was heard
    /// again.
    #[test]
    fn an_interface_excuses_once() {
        let (mut tracker, start) = with_node();
        tracker.lose_interface(start);
        tracker.vanish("x", start);
        tracker.hear("x", here("a", 1, 5), start);
        tracker.vanish("x", start + EXCUSED);
        let gone = tracker.tick(start + EXCUSED + GRACE);
        assert_eq!(gone, removed(1, RemoveReason::Deregistered));
    }

    /// After everything was heard anew, what was not is gone for a reason nobody knows; ours stays.
    #[test]
    fn hearing_anew() {
        let (mut tracker, start) = with_node();
        tracker.hear("y", here("b", 1, 5), start);
        tracker.hear("z", here("c", 1, 5), start);
        tracker.begin_again(start);
        tracker.hear("y", here("b", 1, 5), start);
        tracker.end_again(|instance| instance == "z");
        let ids: Vec<_> = tracker.view().iter().map(|r| &*r.node.id).collect();
        assert_eq!(ids, ["b", "c"]);
        tracker.begin_again(start);
        tracker.end_again(|_| false);
        assert_eq!(why_empty(&tracker), EmptyReason::Unknown);
        assert!(tracker.due.is_empty() && tracker.of_node.is_empty());
    }

    /// A record without stamps stays for as long as it is there, and changes with what it says.
    #[test]
    fn records_without_a_lease() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let plain = |version: &str| {
            let mut changed = (*registration("a", 0)).clone();
            changed.version = version.into();
            let says = Says::Here(Arc::new(changed.clone()), None);
            (Announcement { key: Key::of(&changed), epoch: 0, stamp: 0, says }, changed)
        };
        for version in ["1.0.0", "2.0.0"] {
            let (said, changed) = plain(version);
            let updates = tracker.hear("x", said.clone(), start);
            assert_eq!(updates, [Update::Put(Arc::new(changed))]);
            assert!(tracker.hear("x", said, start).is_empty());
        }
        assert_eq!(tracker.next_deadline(), None);
        tracker.vanish("x", start + TTL);
        assert_eq!(tracker.tick(start + TTL + GRACE).len(), 1);
    }

    /// Who vanished with an interface, has no lease and is not heard again is not there for ever.
    #[test]
    fn records_without_a_lease_that_vanish_with_an_interface() {
        let (mut tracker, start) = (Tracker::default(), Instant::now());
        let plain =
            Announcement { says: Says::Here(registration("a", 0), None), ..here("a", 0, 0) };
        tracker.hear("x", plain.clone(), start);
        tracker.vanish("x", start);
        tracker.lose_interface(start);
        assert_eq!(tracker.next_deadline(), Some(start + RECORD_LIFE));
        tracker.hear("x", plain, start);
        assert_eq!(tracker.next_deadline(), None);
        tracker.vanish("x", start);
        assert_eq!(tracker.tick(start + RECORD_LIFE), removed(0, RemoveReason::Unknown));
        assert!(tracker.claims.is_empty());
    }

    /// An instance that speaks of another node than before takes the first one back.
    #[test]
    fn an_instance_is_one_node() {
        let (mut tracker, start) = with_node();
        let updates = tracker.hear("x", here("b", 1, 6), start);
        let expected = [removed(1, RemoveReason::Unknown), vec![Update::Put(registration("b", 1))]];
        assert_eq!(updates, expected.concat());
    }

    /// A network that invents instances costs a bounded amount, and those known go on.
    #[test]
    fn bounded() {
        let (mut tracker, start) = with_node();
        for index in 0..MAX_CLAIMS * 2 {
            tracker.hear(&format!("i{index}"), here(&format!("n{index}"), 1, 5), start);
        }
        assert_eq!(tracker.claims.len(), MAX_CLAIMS);
        assert!(tracker.hear("x", here("a", 1, 6), start + TTL / 2).is_empty());
        let updates = tracker.tick(start + TTL);
        assert_eq!((updates.len(), tracker.view().len()), (MAX_CLAIMS - 1, 1));
    }
}
