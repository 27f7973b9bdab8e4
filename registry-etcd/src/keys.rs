//! Where our keys are in etcd, and what is read there.

use micro_registry::directory::{Change, Entry, Held, Keys};

use crate::Lease;
use crate::proto::{DELETE, Event, KeyValue};

/// What all our keys begin with: `/<prefix>/`.
#[derive(Clone, Debug)]
pub(crate) struct Root(String);

/// The keys from the first to before the end; without an end, the first alone.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    pub(crate) key: Vec<u8>,
    pub(crate) end: Vec<u8>,
}

impl Root {
    pub(crate) fn new(prefix: &str) -> Self {
        Self(format!("/{prefix}/"))
    }

    /// The key as etcd has it.
    pub(crate) fn key(&self, key: &str) -> Vec<u8> {
        format!("{}{key}", self.0).into_bytes()
    }

    pub(crate) fn range(&self, keys: &Keys) -> Range {
        match keys {
            Keys::One(key) => Range { key: self.key(key), end: vec![] },
            Keys::Below(prefix) => {
                let key = self.key(prefix);
                Range { end: after_all(&key), key }
            }
        }
    }

    /// What is stored there; `None` for what is not ours, or not text.
    pub(crate) fn entry(&self, kv: KeyValue) -> Option<Entry<Lease>> {
        let key = self.strip(kv.key)?;
        let held = Held { version: version(kv.mod_revision), lease: Lease(kv.lease) };
        Some(Entry { key, value: kv.value, held })
    }

    /// What happened; `None` as above.
    pub(crate) fn change(&self, event: Event) -> Option<Change<Lease>> {
        let kv = event.kv?;
        match event.kind {
            DELETE => {
                let revision = version(kv.mod_revision);
                Some(Change::Gone { key: self.strip(kv.key)?, revision })
            }
            _ => self.entry(kv).map(Change::Put),
        }
    }

    fn strip(&self, key: Vec<u8>) -> Option<String> {
        let key = String::from_utf8(key).ok()?;
        key.strip_prefix(&self.0).map(str::to_owned)
    }
}

/// Revisions of etcd begin at 1 and are never negative.
pub(crate) fn version(revision: i64) -> u64 {
    u64::try_from(revision).unwrap_or_default()
}

/// As above; no revision was ever that high, so the lack of one is not found.
pub(crate) fn revision(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

/// The first key that does not begin with this one, whose last byte is a slash.
fn after_all(key: &[u8]) -> Vec<u8> {
    let mut end = key.to_owned();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A range holds what begins with its text, and nothing of a longer name or another prefix.
    #[test]
    fn ranges() {
        let root = Root::new("a/b");
        let range = root.range(&Keys::Below("n/hello/".into()));
        let holds = |key: &str| (&range.key[..]..&range.end[..]).contains(&key.as_bytes());
        assert!(holds("/a/b/n/hello/1") && holds("/a/b/n/hello/~"));
        for other in ["/a/b/n/hello2/1", "/a/b/n/hell/1", "/a/b/n/hello", "n/hello/1"] {
            assert!(!holds(other), "{other}");
        }
        let one = root.range(&Keys::One("n/hello/1".into()));
        assert_eq!((one.key, one.end), (b"/a/b/n/hello/1".to_vec(), vec![]));
    }

    /// What somebody else wrote beside our keys, or below them in bytes that are no text, is left out.
    #[test]
    fn foreign_keys() {
        let root = Root::new("micro");
        let entry = |key: &[u8]| root.entry(KeyValue { key: key.into(), ..KeyValue::default() });
        assert_eq!(entry(b"/micro/n/s/1").unwrap().key, "n/s/1");
        assert!(entry(b"/other/n/s/1").is_none() && entry(b"/micro/\xff").is_none());
    }
}
