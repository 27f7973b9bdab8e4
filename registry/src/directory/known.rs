//! What is known of some keys, and what changes of them mean: pure, over listings and changes.

use std::sync::Arc;

use super::reading::Reader;
use super::{Change, Entry, Listing};
use crate::encoding::Stored;
use crate::{EmptyReason, Registration, RemoveReason, Update, View};

/// The nodes under some keys, as of a listing and the changes since.
#[derive(Debug)]
pub(super) struct Known {
    view: View,
    /// Who is gone by a listing, of which those who watch are told by the change: it says why.
    withheld: View,
    /// The revision of the listing.
    listed: u64,
    /// The revision of the last change that was told, of which others may still come.
    changed: u64,
    /// Why the last one left since the first listing, of which none says why another is missing.
    last_left: Option<RemoveReason>,
}

impl Known {
    pub(super) fn new<L>(listing: &Listing<L>, reader: &Reader) -> Self {
        let view = reader.view(listing);
        Self { view, withheld: View::new(), listed: listing.revision, changed: 0, last_left: None }
    }

    pub(super) fn reset(&self) -> Update {
        Update::reset(self.view.iter().cloned().collect(), self.why_empty())
    }

    fn why_empty(&self) -> EmptyReason {
        self.last_left.map_or(EmptyReason::Unknown, EmptyReason::from_last)
    }

    /// What a later listing means, which may be ahead of the changes, or behind them. Who is missing
    /// in it is told of once the changes have come that far.
    pub(super) fn catch_up<L>(&mut self, listing: &Listing<L>, reader: &Reader) -> Vec<Update> {
        if listing.revision < self.changed.max(self.listed) {
            return vec![];
        }
        self.listed = listing.revision;
        let listed = reader.view(listing);
        let mut updates = vec![];
        for update in self.view.diff(&listed, |_| RemoveReason::Unknown) {
            match &update {
                Update::Put(registration) => self.settle(registration, &mut updates),
                Update::Remove { service, id, .. } => {
                    self.last_left = Some(RemoveReason::Unknown);
                    if listed.node(service, id).is_none() {
                        self.withhold(service, id);
                        continue;
                    }
                }
                _ => {}
            }
            updates.push(update);
        }
        self.view = listed;
        updates
    }

    fn withhold(&mut self, service: &str, id: &str) {
        if let Some(known) = self.view.node(service, id) {
            self.withheld.apply(&Update::Put(known.clone()));
        }
    }

    /// Who is back need not be told of as gone, unless its higher epoch would fence the lower one.
    fn settle(&mut self, back: &Registration, updates: &mut Vec<Update>) {
        let Some(known) = self.withheld.node(&back.service, &back.node.id) else { return };
        let (is_older, remove) =
            (known.node.epoch > back.node.epoch, Update::remove(known, RemoveReason::Unknown));
        self.withheld.apply(&remove);
        updates.extend(is_older.then_some(remove));
    }

    /// What a batch of changes means; those that a listing was ahead of say no more than why somebody
    /// left.
    pub(super) fn take_in<L>(&mut self, batch: &[Change<L>], reader: &Reader) -> Vec<Update> {
        let mut updates = vec![];
        for change in batch {
            if change.revision() <= self.listed {
                updates.extend(self.explain(change, reader));
                continue;
            }
            updates.extend(self.give_up_explaining());
            self.changed = change.revision();
            match change {
                Change::Put(entry) => self.put(entry, reader, &mut updates),
                Change::Gone { key, .. } => {
                    self.remove(key, RemoveReason::Expired, reader, &mut updates);
                }
            }
        }
        updates
    }

    /// Tells who left with this change and is withheld since a listing.
    fn explain<L>(&mut self, change: &Change<L>, reader: &Reader) -> Option<Update> {
        let (key, reason) = match change {
            Change::Gone { key, .. } => (key, RemoveReason::Expired),
            Change::Put(entry) => match reader.read(entry) {
                Some(Stored::Node(_)) => return None,
                Some(Stored::Goodbye(_)) => (&entry.key, RemoveReason::Deregistered),
                None => (&entry.key, RemoveReason::Unknown),
            },
        };
        let (service, id) = reader.layout.parse(key)?;
        let remove = Update::remove(self.withheld.node(service, id)?, reason);
        self.withheld.apply(&remove);
        self.last_left = Some(reason);
        Some(remove)
    }

    /// Tells who is still withheld when the changes are past the listing: an engine left one out.
    fn give_up_explaining(&mut self) -> Vec<Update> {
        let withheld = std::mem::take(&mut self.withheld);
        withheld.iter().map(|gone| Update::remove(gone, RemoveReason::Unknown)).collect()
    }

    fn put<L>(&mut self, entry: &Entry<L>, reader: &Reader, updates: &mut Vec<Update>) {
        let registration = match reader.read(entry) {
            Some(Stored::Node(registration)) => registration,
            Some(Stored::Goodbye(_)) => {
                return self.remove(&entry.key, RemoveReason::Deregistered, reader, updates);
            }
            None => return self.remove(&entry.key, RemoveReason::Unknown, reader, updates),
        };
        if self.is_older(&registration) {
            // Without its removal a higher epoch would fence the lower one that took its place.
            self.remove(&entry.key, RemoveReason::Unknown, reader, updates);
        }
        let put = Update::Put(Arc::new(registration));
        if self.view.apply(&put) {
            updates.push(put);
        }
    }

    fn is_older(&self, registration: &Registration) -> bool {
        let known = self.view.node(&registration.service, &registration.node.id);
        known.is_some_and(|known| known.node.epoch > registration.node.epoch)
    }

    fn remove(
        &mut self,
        key: &str,
        reason: RemoveReason,
        reader: &Reader,
        updates: &mut Vec<Update>,
    ) {
        let Some((service, id)) = reader.layout.parse(key) else { return };
        let Some(known) = self.view.node(service, id) else { return };
        let remove = Update::remove(known, reason);
        self.view.apply(&remove);
        self.last_left = Some(reason);
        updates.push(remove);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Held;
    use crate::{Node, encoding};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// What happens to an engine and to what is known of it.
    #[derive(Clone, Debug)]
    enum Event {
        /// A key is written, or goes; at the same revision as the change before, where that can be.
        Change { id: u8, epoch: u64, form: u8, is_together: bool },
        /// So many changes are told.
        Tell(usize),
        /// A listing is answered.
        List,
        /// The last listing arrives.
        CatchUp,
    }

    /// The changes of an engine, and what it held after each.
    struct Engine {
        reader: Reader,
        changes: Vec<Change<()>>,
        listings: Vec<Listing<()>>,
        is_listed: bool,
    }

    impl Engine {
        fn new() -> Self {
            let reader = Reader::new("engine", "default");
            let listings = vec![Listing { entries: vec![], revision: 0 }];
            Self { reader, changes: vec![], listings, is_listed: true }
        }

        fn now(&self) -> usize {
            self.changes.len()
        }

        fn change(&mut self, id: u8, epoch: u64, form: u8, is_together: bool) {
            let last = &self.listings[self.now()];
            let is_new = self.is_listed || !is_together;
            let revision = last.revision + u64::from(is_new);
            let change = change(id, epoch, form, revision);
            let by_key = |entry: &Entry<()>| (entry.key.clone(), entry.clone());
            let mut entries: BTreeMap<_, _> = last.entries.iter().map(by_key).collect();
            match &change {
                Change::Put(entry) => drop(entries.insert(entry.key.clone(), entry.clone())),
                Change::Gone { key, .. } => drop(entries.remove(key)),
            }
            self.listings.push(Listing { entries: entries.into_values().collect(), revision });
            self.changes.push(change);
            self.is_listed = false;
        }
    }

    fn change(id: u8, epoch: u64, form: u8, revision: u64) -> Change<()> {
        let mut node = Node::new(format!("n{id}"), "127.0.0.1:1");
        node.epoch = epoch;
        let registration = Registration::new("shop", "1.0.0", node);
        let key = format!("default/shop/n{id}");
        let value = match form {
            0 => b"{".to_vec(),
            1 => encoding::encode_goodbye(&registration),
            2 => return Change::Gone { key, revision },
            _ => encoding::encode(&registration),
        };
        Change::Put(Entry { key, value, held: Held { version: revision, lease: () } })
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (0u8..4, 0u64..3, 0u8..5, any::<bool>()).prop_map(
                |(id, epoch, form, is_together)| Event::Change { id, epoch, form, is_together }
            ),
            2 => (0usize..4).prop_map(Event::Tell),
            1 => Just(Event::List),
            1 => Just(Event::CatchUp),
        ]
    }

    proptest! {
        /// Who comes now knows what the engine held after the last change that was told or listed,
        /// whichever is the later, whatever happened to its keys. Who applies what is told knows the
        /// same, and besides only those who are gone by a listing and whose removal is still to be
        /// told: no listing takes anybody out but who makes room for a lower epoch.
        #[test]
        fn what_is_told_is_what_is_there(events in proptest::collection::vec(any_event(), 0..60)) {
            let mut engine = Engine::new();
            let mut known = Known::new(&engine.listings[0], &engine.reader);
            let (mut told, mut listed, mut caught_up) = (0, 0, 0);
            let mut view = View::new();
            for event in events {
                let is_listing = matches!(event, Event::CatchUp);
                let updates = match event {
                    Event::Change { id, epoch, form, is_together } => {
                        engine.change(id, epoch, form, is_together);
                        vec![]
                    }
                    Event::Tell(count) => {
                        let until = engine.now().min(told + count);
                        let batch = &engine.changes[told..until];
                        told = until;
                        known.take_in(batch, &engine.reader)
                    }
                    Event::List => {
                        (listed, engine.is_listed) = (engine.now(), true);
                        vec![]
                    }
                    Event::CatchUp => {
                        caught_up = listed;
                        known.catch_up(&engine.listings[listed], &engine.reader)
                    }
                };
                for (at, update) in updates.iter().enumerate() {
                    prop_assert!(is_known(&view, update) || view.apply(update), "{update:?}");
                    if is_listing && let Update::Remove { id, .. } = update {
                        let is_put = |u: &_| matches!(u, Update::Put(r) if r.node.id == *id);
                        prop_assert!(updates[at..].iter().any(is_put), "{update:?}");
                    }
                }
                let there = engine.reader.view(&engine.listings[told.max(caught_up)]);
                let all = there.iter().cloned().collect();
                prop_assert_eq!(known.reset(), Update::reset(all, known.why_empty()));
                for update in view.diff(&there, |_| RemoveReason::Unknown) {
                    let ahead = &engine.changes[told..caught_up.max(told)];
                    prop_assert!(is_to_come(&update, ahead, &engine.reader), "{update:?}");
                }
            }
        }
    }

    /// Whether an update says what is known.
    fn is_known(view: &View, update: &Update) -> bool {
        let Update::Put(put) = update else { return false };
        view.node(&put.service, &put.node.id) == Some(put)
    }

    /// Whether it is of a node that these changes will take out.
    fn is_to_come(update: &Update, changes: &[Change<()>], reader: &Reader) -> bool {
        let Update::Remove { id, .. } = update else { return false };
        changes.iter().any(|change| match change {
            Change::Gone { key, .. } => key.ends_with(id),
            Change::Put(entry) => {
                entry.key.ends_with(id) && !matches!(reader.read(entry), Some(Stored::Node(_)))
            }
        })
    }

    /// A listing knows nobody's reason to leave: who comes then learns of none, and who watches
    /// learns it from the change.
    #[test]
    fn a_listing_knows_no_reasons() {
        let mut engine = Engine::new();
        engine.change(0, 0, 4, false);
        engine.change(0, 0, 2, false);
        let mut known = Known::new(&engine.listings[1], &engine.reader);
        assert!(known.catch_up(&engine.listings[2], &engine.reader).is_empty());
        assert_eq!(known.reset(), Update::reset(vec![], EmptyReason::Unknown));
        let updates = known.take_in(&engine.changes, &engine.reader);
        let reason = RemoveReason::Expired;
        assert!(matches!(updates[..], [Update::Remove { reason: said, .. }] if said == reason));
        assert_eq!(known.reset(), Update::reset(vec![], EmptyReason::AllExpired));
        assert!(known.take_in(&engine.changes, &engine.reader).is_empty());
    }

    /// Who is gone by a listing, and of whom no change tells, has left as well.
    #[test]
    fn an_engine_may_leave_a_change_out() {
        let mut engine = Engine::new();
        engine.change(0, 0, 4, false);
        engine.change(0, 0, 2, false);
        let mut known = Known::new(&engine.listings[1], &engine.reader);
        assert!(known.catch_up(&engine.listings[2], &engine.reader).is_empty());
        engine.change(1, 0, 4, false);
        let updates = known.take_in(&engine.changes[2..], &engine.reader);
        let reason = RemoveReason::Unknown;
        assert!(
            matches!(&updates[..], [Update::Remove { reason: said, .. }, _] if *said == reason)
        );
    }
}
