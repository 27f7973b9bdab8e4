//! What entries mean, and which mean nothing.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::layout::Layout;
use super::{Entry, Listing};
use crate::encoding::{self, Stored};
use crate::{Error, ErrorKind, Registration, Skipped, View, validate};

/// Reads the entries of a namespace, and warns of what it has to leave out.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) engine: String,
    pub(super) layout: Layout,
    skipped: Mutex<Skipped<String>>,
    start: Instant,
}

impl Reader {
    pub(super) fn new(engine: &str, namespace: &str) -> Self {
        Self {
            engine: engine.to_owned(),
            layout: Layout { namespace: namespace.to_owned() },
            skipped: Mutex::default(),
            start: Instant::now(),
        }
    }

    /// The nodes that are there.
    pub(super) fn view<L>(&self, listing: &Listing<L>) -> View {
        let nodes = listing.entries.iter().filter_map(|entry| match self.read(entry) {
            Some(Stored::Node(registration)) => Some(Arc::new(registration)),
            Some(Stored::Goodbye(_)) | None => None,
        });
        nodes.collect()
    }

    /// What an entry says; `None`, with a warning once per version, for what cannot be right.
    pub(super) fn read<L>(&self, entry: &Entry<L>) -> Option<Stored> {
        self.decode(entry).map_err(|error| self.skip(entry, &error)).ok()
    }

    fn decode<L>(&self, entry: &Entry<L>) -> Result<Stored, Error> {
        let stored = encoding::decode_stored(&entry.value)?;
        let (Stored::Node(found) | Stored::Goodbye(found)) = &stored;
        self.check_key(&entry.key, found)?;
        validate::registration(found, validate::MAX_TTL)?;
        Ok(stored)
    }

    fn check_key(&self, key: &str, found: &Registration) -> Result<(), Error> {
        let named = (&*found.service, &*found.node.id);
        if self.layout.parse(key) == Some(named) {
            return Ok(());
        }
        let message = format!("the record is of node `{}` of `{}`", named.1, named.0);
        Err(Error::new(ErrorKind::Invalid, message))
    }

    fn skip<L>(&self, entry: &Entry<L>, error: &Error) {
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        if skipped.is_news(&*entry.key, entry.held.version, self.start.elapsed()) {
            let (registry, key, why) = (&self.engine, &entry.key, error.chain());
            tracing::warn!(registry, key, why, expected = EXPECTED, "record is skipped");
        }
    }
}

const EXPECTED: &str =
    "what registering writes, named as the key; registering the node again mends it";
