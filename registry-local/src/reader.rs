//! Reading the directory: what is there, told to a [`Tracker`]. Blocks its thread.

use std::collections::BTreeSet;
use std::fs::{self, File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use micro_registry::{Error, Scope, Skipped, Update, View, validate};
use uuid::Uuid;

use crate::clock;
use crate::directory::Directory;
use crate::error::failed;
use crate::name::{Key, Name};
use crate::owner::{Liveness, probe, probe_closed};
use crate::record::{NodeRecord, Tombstone};
use crate::tracker::{Departure, Sighting, Stamp, Tracker};

/// Reads the files of a namespace. Clones share what they warned of.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) directory: Directory,
    skipped: Arc<Mutex<Skipped<PathBuf>>>,
}

/// What nobody needs any more, as far as a reader can tell without excluding writers.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    pub(crate) nodes: Vec<Key>,
    pub(crate) departures: Vec<Key>,
    pub(crate) locks: Vec<Uuid>,
    pub(crate) temporaries: Vec<PathBuf>,
}

impl Reader {
    pub(crate) fn new(directory: Directory) -> Self {
        Self { directory, skipped: Arc::default() }
    }

    /// The nodes in scope that are alive now; none when there is no directory.
    pub(crate) fn view(&self, scope: &Scope) -> Result<View, Error> {
        let mut tracker = Tracker::default();
        if self.directory.check()?.is_some() {
            self.look_everywhere(&mut tracker, scope)?;
        }
        Ok(tracker.view().clone())
    }

    /// Looks at every file in scope.
    pub(crate) fn look_everywhere(
        &self,
        tracker: &mut Tracker,
        scope: &Scope,
    ) -> Result<(Vec<Update>, Leftovers), Error> {
        let listing = self.list(scope)?;
        let mut keys = tracker.keys();
        keys.extend(listing.keys);
        for key in &keys {
            self.look_at(tracker, key);
        }
        let mut leftovers = Leftovers { temporaries: listing.temporaries, ..Leftovers::default() };
        let mut owners = tracker.retain_owners();
        owners.extend(listing.locks);
        for owner in owners {
            if self.look_at_owner(tracker, owner, probe) == Liveness::Free {
                leftovers.locks.push(owner);
            }
        }
        let now = clock::now();
        let updates = tracker.settle(&keys, now);
        leftovers.nodes = tracker.abandoned(now);
        leftovers.departures = tracker.old_departures(now);
        Ok((updates, leftovers))
    }

    /// Looks at these nodes, and at those whose owner's lock was closed.
    pub(crate) fn look(
        &self,
        tracker: &mut Tracker,
        mut keys: BTreeSet<Key>,
        closed: &BTreeSet<Uuid>,
    ) -> Vec<Update> {
        for owner in closed {
            self.look_at_owner(tracker, *owner, probe_closed);
            keys.extend(tracker.keys_of(*owner).cloned());
        }
        for key in &keys {
            self.look_at(tracker, key);
        }
        for owner in tracker.unproven_owners(&keys) {
            self.look_at_owner(tracker, owner, probe);
        }
        tracker.settle(&keys, clock::now())
    }

    /// A node's file; `None` when there is none.
    pub(crate) fn node(&self, key: &Key) -> Option<Sighting> {
        let decode = |bytes: &[u8]| NodeRecord::decode(bytes, key);
        let (metadata, record) = self.decoded(&self.directory.node(key), decode, NODE)?;
        Some(Sighting { stamp: stamp(&metadata), record })
    }

    /// A node's tombstone; `None` when there is none that can be read.
    pub(crate) fn departure(&self, key: &Key) -> Option<Departure> {
        let (metadata, tombstone) =
            self.decoded(&self.directory.left(key), Tombstone::decode, TOMBSTONE)?;
        Some(Departure { tombstone: tombstone?, at: stamp(&metadata).modified })
    }

    /// The node first: whoever removes one writes its tombstone before.
    fn look_at(&self, tracker: &mut Tracker, key: &Key) {
        let metadata = fs::symlink_metadata(self.directory.node(key)).ok();
        let now = metadata.as_ref().map(stamp);
        if now.is_some() && now == tracker.stamp(key) {
            return;
        }
        let found = self.node(key);
        if found.is_none() {
            tracker.see_departure(key, self.departure(key));
        }
        tracker.see_node(key, found, clock::now());
    }

    fn look_at_owner(
        &self,
        tracker: &mut Tracker,
        owner: Uuid,
        probe: fn(&Path) -> Liveness,
    ) -> Liveness {
        let liveness = probe(&self.directory.lock(owner));
        tracker.see_owner(owner, liveness, clock::now());
        liveness
    }

    /// A node's file has a name that is known; for anything else all names are read.
    fn list(&self, scope: &Scope) -> Result<Listing, Error> {
        if let Scope::Node { service, id, .. } = scope {
            let key = Key { service: service.clone(), id: id.clone() };
            return Ok(Listing { keys: [key].into(), ..Listing::default() });
        }
        let path = self.directory.path();
        let entries = fs::read_dir(path).map_err(|source| failed("list", path, source))?;
        let mut listing = Listing::default();
        for entry in entries {
            let entry = entry.map_err(|source| failed("list", path, source))?;
            let name = entry.file_name();
            match name.to_str().map_or(Name::Foreign, Name::parse) {
                Name::Node(key) | Name::Left(key) if scope.contains(&key.service, &key.id) => {
                    listing.keys.insert(key);
                }
                Name::Lock(owner) if *scope == Scope::All => listing.locks.push(owner),
                Name::Temporary => listing.temporaries.push(entry.path()),
                Name::Foreign => {
                    self.skip(&entry.path(), &[], "its name is not one of ours", NAMES);
                }
                _ => {}
            }
        }
        Ok(listing)
    }

    /// What a file says, with a warning when that is not what was `expected`; `None` when there is
    /// no such file.
    fn decoded<T>(
        &self,
        path: &Path,
        decode: impl FnOnce(&[u8]) -> Result<T, Error>,
        expected: &str,
    ) -> Option<(Metadata, Option<T>)> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let (metadata, bytes) = match read_regular(path, &metadata) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.skip(path, &[], &format!("cannot be read: {error}"), READABLE);
                return Some((metadata, None));
            }
        };
        let decoded =
            decode(&bytes).map_err(|error| self.skip(path, &bytes, &error.chain(), expected));
        Some((metadata, decoded.ok()))
    }

    /// Says that a file is left out, once per content.
    fn skip(&self, path: &Path, bytes: &[u8], why: &str, expected: &str) {
        let mut hasher = DefaultHasher::new();
        (why, bytes).hash(&mut hasher);
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        if skipped.is_news(path, hasher.finish(), clock::now()) {
            let path = path.display();
            tracing::warn!(%path, why, expected, "file in the local registry is skipped");
        }
    }
}

#[derive(Default)]
struct Listing {
    keys: BTreeSet<Key>,
    locks: Vec<Uuid>,
    temporaries: Vec<PathBuf>,
}

/// The largest file that is read: twice the longest record, which leaves room for what is around it.
const MAX_BYTES: u64 = 2 * validate::MAX_RECORD_BYTES as u64;

const NODE: &str = "what registering writes: {\"owner\", \"ttl_ms\", \"record\"}, \
    the record named as the file; registering the node again mends it";
const TOMBSTONE: &str = "{\"epoch\", \"reason\"}; it is of no use any more, remove it";
const READABLE: &str = "a regular file that its owner may read, of at most 2 MiB";
const NAMES: &str = "<service>@<node id>.json or .left, <uuid>.lock, .guard, .tmp-*; \
    other files belong elsewhere";

fn stamp(metadata: &Metadata) -> Stamp {
    let modified = metadata.modified().map(clock::from_modified).unwrap_or_default();
    Stamp { modified, size: metadata.size(), inode: metadata.ino() }
}

/// Opening what is no regular file could block for ever.
fn read_regular(path: &Path, found: &Metadata) -> io::Result<(Metadata, Vec<u8>)> {
    if !found.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too large"));
    }
    Ok((metadata, bytes))
}
