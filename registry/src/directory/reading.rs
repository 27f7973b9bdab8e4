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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Node;
    use crate::directory::Held;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    fn entry(key: &str, value: impl Into<Vec<u8>>, version: u64) -> Entry<()> {
        Entry { key: key.into(), value: value.into(), held: Held { version, lease: () } }
    }

    /// What a Go process wrote, under the key it writes, is a node like any other.
    #[test]
    fn reads_records_of_go_micro() {
        let reader = Reader::new("engine", "registry");
        let record = r#"{"name":"helloworld","version":"latest","metadata":null,
            "endpoints":[{"name":"Hello.Call","request":{"name":"Request","type":"Request",
            "values":null},"response":null,"metadata":{}}],
            "nodes":[{"id":"helloworld-1","address":"10.0.0.5:4321","metadata":{"protocol":"grpc"}}]}"#;
        // `/micro/registry/helloworld/helloworld-1`, of which the engine takes off its prefix.
        let entries = vec![entry("registry/helloworld/helloworld-1", record, 1)];
        let view = reader.view(&Listing { entries, revision: 1 });
        assert_eq!(view.service("helloworld")[0].nodes[0].address, "10.0.0.5:4321");
    }

    /// What does not parse, breaks a rule or is of another node than its key is left out, and nothing
    /// else is; of each version one is told once, a minute apart at least.
    #[tokio::test(start_paused = true)]
    async fn what_is_damaged_is_left_out_and_told_once() {
        let warnings = Warnings::default();
        // With a single one, a callsite asks only the thread that comes first, which may be another's.
        let _second = tracing::Dispatch::new(warnings.clone());
        let _guard = tracing::subscriber::set_default(warnings.clone());
        let reader = Reader::new("engine", "default");
        let good = Registration::new("shop", "1.0.0", Node::new("good", "127.0.0.1:1"));
        let mut invalid = good.clone();
        invalid.node.id = "invalid".into();
        invalid.node.address = "0.0.0.0:0".into();
        let listing = |version| Listing {
            entries: vec![
                entry("default/shop/half", "{ half a rec", version),
                entry("default/shop/invalid", encoding::encode(&invalid), 1),
                entry("default/shop/other", encoding::encode(&good), 1),
                entry("default/shop/good", encoding::encode(&good), 1),
            ],
            revision: version,
        };
        for (version, told) in [(1, 3), (1, 3), (2, 4)] {
            let view = reader.view(&listing(version));
            assert_eq!(view.iter().map(|node| &**node).collect::<Vec<_>>(), [&good]);
            assert_eq!(warnings.0.load(Ordering::SeqCst), told);
            tokio::time::advance(std::time::Duration::from_secs(60)).await;
        }
    }

    /// Counts what is logged.
    #[derive(Clone, Default)]
    struct Warnings(Arc<AtomicUsize>);

    impl Subscriber for Warnings {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn event(&self, _: &Event<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
}
