//! What is known of some keys, and what changes of them mean: pure, over listings and changes.

use std::sync::Arc;

use super::reading::Reader;
use super::{Change, Entry};
use crate::encoding::Stored;
use crate::{EmptyReason, Registration, RemoveReason, Update, View};

/// The nodes under some keys, as of a listing and the changes since.
#[derive(Debug)]
pub(super) struct Known {
    view: View,
    /// Why the last one left since the listing, of which none says why another is missing.
    last_left: Option<RemoveReason>,
}

impl Known {
    pub(super) fn new(view: View) -> Self {
        Self { view, last_left: None }
    }

    pub(super) fn reset(&self) -> Update {
        let why_empty = self.last_left.map_or(EmptyReason::Unknown, EmptyReason::from_last);
        Update::reset(self.view.iter().cloned().collect(), why_empty)
    }

    /// What a batch of changes means.
    pub(super) fn take_in<L>(&mut self, batch: &[Change<L>], reader: &Reader) -> Vec<Update> {
        let mut updates = vec![];
        for change in batch {
            match change {
                Change::Put(entry) => self.put(entry, reader, &mut updates),
                Change::Gone { key } => {
                    self.remove(key, RemoveReason::Expired, reader, &mut updates);
                }
            }
        }
        updates
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
    use crate::directory::{Held, Listing};
    use crate::{Node, encoding};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn entry(id: u8, epoch: u64, form: u8) -> Entry<()> {
        let mut node = Node::new(format!("n{id}"), "127.0.0.1:1");
        node.epoch = epoch;
        let registration = Registration::new("shop", "1.0.0", node);
        let value = match form {
            0 => b"{".to_vec(),
            1 => encoding::encode_goodbye(&registration),
            _ => encoding::encode(&registration),
        };
        Entry { key: format!("default/shop/n{id}"), value, held: Held { version: 1, lease: () } }
    }

    fn any_change() -> impl Strategy<Value = Change<()>> {
        (0u8..4, 0u64..3, 0u8..5).prop_map(|(id, epoch, form)| match entry(id, epoch, form) {
            Entry { key, .. } if form == 4 => Change::Gone { key },
            entry => Change::Put(entry),
        })
    }

    proptest! {
        /// Who applies what is told knows what the engine holds, whatever happened to its keys.
        #[test]
        fn what_is_told_is_what_is_there(changes in proptest::collection::vec(any_change(), 0..40)) {
            let reader = Reader::new("engine", "default");
            let (mut known, mut told) = (Known::new(View::new()), View::new());
            let mut held = BTreeMap::new();
            for change in changes {
                for update in known.take_in(std::slice::from_ref(&change), &reader) {
                    prop_assert!(told.apply(&update), "{update:?} changes nothing");
                }
                match change {
                    Change::Put(entry) => drop(held.insert(entry.key.clone(), entry)),
                    Change::Gone { key } => drop(held.remove(&key)),
                }
                let entries = held.values().cloned().collect();
                let there = reader.view(&Listing { entries, revision: 1 });
                prop_assert_eq!(&told, &there);
            }
        }
    }
}
