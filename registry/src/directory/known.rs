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
