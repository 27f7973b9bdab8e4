//! Reading the directory: what is there, told to a [`Tracker`]. Blocks its thread.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use micro_registry::{Error, Scope, Update, View};
use uuid::Uuid;

use crate::clock;
use crate::directory::{Directory, failed};
use crate::name::{Key, Name};
use crate::owner::{Liveness, probe, probe_closed};
use crate::record::{NodeRecord, Tombstone};
use crate::tracker::{Departure, Sighting, Stamp, Tracker};

/// Reads the files of a namespace. Clones share what they warned of.
#[derive(Clone, Debug)]
pub(crate) struct Reader {
    pub(crate) directory: Directory,
    skipped: Arc<Mutex<HashMap<PathBuf, Duration>>>,
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
        let path = self.directory.node(key);
        let (metadata, bytes) = self.read(&path)?;
        let stamp = stamp(&metadata);
        let decoded = bytes.and_then(|bytes| NodeRecord::decode(&bytes, key));
        let record = decoded.map_err(|error| self.skip(&path, stamp.modified, &error)).ok();
        Some(Sighting { stamp, record })
    }

    /// A node's tombstone; `None` when there is none that can be read.
    pub(crate) fn departure(&self, key: &Key) -> Option<Departure> {
        let path = self.directory.left(key);
        let (metadata, bytes) = self.read(&path)?;
        let at = stamp(&metadata).modified;
        let decoded = bytes.and_then(|bytes| Tombstone::decode(&bytes));
        let tombstone = decoded.map_err(|error| self.skip(&path, at, &error)).ok()?;
        Some(Departure { tombstone, at })
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

    fn list(&self, scope: &Scope) -> Result<Listing, Error> {
        let path = self.directory.path();
        let entries = fs::read_dir(path).map_err(|source| failed("list", path, source))?;
        let mut listing = Listing::default();
        for entry in entries {
            let entry = entry.map_err(|source| failed("list", path, source))?;
            let name = entry.file_name();
            match name.to_str().map_or(Name::Foreign, Name::parse) {
                Name::Node(key) | Name::Left(key) if scope.contains(&key.service) => {
                    listing.keys.insert(key);
                }
                Name::Lock(owner) if *scope == Scope::All => listing.locks.push(owner),
                Name::Temporary => listing.temporaries.push(entry.path()),
                Name::Foreign => self.skip_foreign(&entry.path()),
                _ => {}
            }
        }
        Ok(listing)
    }

    /// What a file holds, or why that cannot be told; `None` when there is no such file.
    fn read(&self, path: &Path) -> Option<(Metadata, Result<Vec<u8>, Error>)> {
        let metadata = fs::symlink_metadata(path).ok()?;
        match read_regular(path, &metadata) {
            Ok((metadata, bytes)) => Some((metadata, Ok(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some((metadata, Err(failed("read", path, error)))),
        }
    }

    fn skip_foreign(&self, path: &Path) {
        let modified = fs::symlink_metadata(path).map(|metadata| stamp(&metadata).modified);
        self.skip(path, modified.unwrap_or_default(), &"its name is not one of ours");
    }

    /// Says once per content that a file is left out.
    fn skip(&self, path: &Path, modified: Duration, why: &dyn std::fmt::Display) {
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        if skipped.len() >= MAX_REMEMBERED {
            skipped.clear();
        }
        if skipped.insert(path.to_owned(), modified) != Some(modified) {
            tracing::warn!(path = %path.display(), %why, "file in the local registry is skipped");
        }
    }
}

#[derive(Default)]
struct Listing {
    keys: BTreeSet<Key>,
    locks: Vec<Uuid>,
    temporaries: Vec<PathBuf>,
}

/// How many skipped files are remembered, to warn of each but once.
const MAX_REMEMBERED: usize = 1_024;
/// The largest file that is read: more than any registration has.
const MAX_BYTES: u64 = 8 << 20;

fn stamp(metadata: &Metadata) -> Stamp {
    let modified = metadata.modified().map(clock::from_modified).unwrap_or_default();
    Stamp { modified, size: metadata.size(), inode: metadata.ino() }
}

/// Opening what is no regular file could block for ever.
fn read_regular(path: &Path, found: &Metadata) -> io::Result<(Metadata, Vec<u8>)> {
    if !found.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("too large"));
    }
    Ok((metadata, bytes))
}
