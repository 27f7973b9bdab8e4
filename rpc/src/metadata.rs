//! Small key-value pairs that travel beside a body.

use std::fmt;
use std::time::Duration;

/// Key-value pairs that travel beside a body, in the order they were inserted.
///
/// Keys are `[a-z0-9._-]{1,128}`; values are any UTF-8. A set holds at most [`Metadata::MAX_ENTRIES`]
/// pairs and [`Metadata::MAX_BYTES`] as encoded, so it always fits in a frame. An empty one does not
/// allocate. Values may be secrets, so `Debug` shows the keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    entries: Vec<(Box<str>, Box<str>)>,
    bytes: usize,
}

impl Metadata {
    /// The most bytes a set takes on the wire: 16 KiB, counting three bytes of lengths per pair.
    pub const MAX_BYTES: usize = 16 * 1024;
    /// The most pairs in a set.
    pub const MAX_ENTRIES: usize = 128;

    /// Creates an empty set, without allocating.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new(), bytes: 0 }
    }

    /// Sets `key` to `value`, in place of an earlier value.
    ///
    /// # Errors
    ///
    /// When the key is malformed or the set would be too large; nothing is changed then.
    pub fn insert(&mut self, key: &str, value: &str) -> Result<(), InvalidMetadata> {
        check_key(key)?;
        let old = self.position(key);
        let freed = old.map_or(0, |at| entry_len(&self.entries[at].0, &self.entries[at].1));
        let bytes = self.bytes - freed + entry_len(key, value);
        let count = self.entries.len() + usize::from(old.is_none());
        if bytes > Self::MAX_BYTES || count > Self::MAX_ENTRIES {
            return Err(InvalidMetadata::TooLarge { bytes, count });
        }
        match old {
            Some(at) => self.entries[at].1 = value.into(),
            None => self.entries.push((key.into(), value.into())),
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Returns the value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.position(key).map(|at| &*self.entries[at].1)
    }

    /// Removes `key` and returns the value it had.
    pub fn remove(&mut self, key: &str) -> Option<Box<str>> {
        let (key, value) = self.entries.remove(self.position(key)?);
        self.bytes -= entry_len(&key, &value);
        Some(value)
    }

    /// Iterates over the pairs, in the order they were inserted.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Returns the number of pairs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all pairs as encoded, at most [`Metadata::MAX_BYTES`].
    pub(crate) fn encoded_len(&self) -> usize {
        self.bytes
    }

    /// Says when to come back; left out where there is no room for it.
    pub(crate) fn set_retry_after(&mut self, wait: Duration) {
        let millis = u64::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let _ = self.insert(RETRY_AFTER, &millis.to_string());
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.get(RETRY_AFTER)?.parse().ok().map(Duration::from_millis)
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.entries.iter().position(|entry| *entry.0 == *key)
    }
}

/// After how many milliseconds a retry may be of use.
pub(crate) const RETRY_AFTER: &str = "retry-after-ms";

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|(key, _)| key)).finish()
    }
}

/// Metadata that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMetadata {
    /// The key has a form that is not allowed.
    #[error("metadata key `{}` is not 1 to 128 of a-z, 0-9, `.`, `_`, `-`", .0.escape_debug())]
    Key(String),
    /// The set would not fit.
    #[error(
        "metadata of {count} pairs and {bytes} bytes is more than {} pairs or {} bytes",
        Metadata::MAX_ENTRIES,
        Metadata::MAX_BYTES
    )]
    TooLarge {
        /// Bytes the set would have as encoded.
        bytes: usize,
        /// Pairs the set would have.
        count: usize,
    },
}

fn check_key(key: &str) -> Result<(), InvalidMetadata> {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    if (1..=128).contains(&key.len()) && key.bytes().all(allowed) {
        return Ok(());
    }
    Err(InvalidMetadata::Key(key.chars().take(128).collect()))
}

/// One length byte, the key, two length bytes, the value.
fn entry_len(key: &str, value: &str) -> usize {
    3 + key.len() + value.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The byte count follows every insert, replacement and removal, so the limit is exact.
    #[test]
    fn counts_bytes() {
        let mut metadata = Metadata::new();
        metadata.insert("a", "12").unwrap();
        metadata.insert("a", "1").unwrap();
        metadata.insert("b", "").unwrap();
        assert_eq!(metadata.encoded_len(), 5 + 4);
        assert_eq!(metadata.remove("a").as_deref(), Some("1"));
        assert_eq!((metadata.encoded_len(), metadata.get("a")), (4, None));
    }

    /// A time to wait is as long as was said, rounded up to milliseconds, and one that is too long
    /// the longest there is.
    #[test]
    fn times_to_wait() {
        let mut metadata = Metadata::new();
        let longest = Duration::from_millis(u64::MAX);
        for (wait, said) in [
            (Duration::from_nanos(1), Duration::from_millis(1)),
            (longest, longest),
            (Duration::MAX, longest),
        ] {
            metadata.set_retry_after(wait);
            assert_eq!(metadata.retry_after(), Some(said));
        }
    }

    /// A set that would not fit in its limit refuses the pair and stays as it was.
    #[test]
    fn refuses_what_does_not_fit() {
        let mut metadata = Metadata::new();
        let fits = "x".repeat(Metadata::MAX_BYTES - 4);
        metadata.insert("a", &fits).unwrap();
        assert!(metadata.insert("b", "").is_err());
        assert!(metadata.insert("a", &(fits + "x")).is_err());
        assert_eq!(metadata.encoded_len(), Metadata::MAX_BYTES);
        for key in ["", "A", "a b", &"k".repeat(129)] {
            assert!(matches!(metadata.insert(key, ""), Err(InvalidMetadata::Key(_))), "{key}");
        }
    }

    /// A key that is refused cannot forge a line where the error is printed.
    #[test]
    fn names_keys_in_one_line() {
        let error = Metadata::new().insert("a\nb\u{1b}[2J", "").unwrap_err().to_string();
        assert!(error.contains("`a\\nb") && !error.contains(char::is_control), "{error}");
    }
}
