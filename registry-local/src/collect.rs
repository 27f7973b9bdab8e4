//! Removing what the dead left behind.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use micro_registry::Error;

use crate::clock;
use crate::directory::{Directory, remove};
use crate::guard::Guard;
use crate::name::Key;
use crate::owner::{Liveness, probe};
use crate::reader::{Leftovers, Reader};
use crate::record::{Left, Tombstone};
use crate::tracker::is_long_expired;

/// Removes these leftovers, each after a second look, as long as no writer is at work: the next
/// collector does it otherwise. Nodes go before their owners' locks, so that a node without a lock
/// is a dead one for everybody. A failure harms nobody: leftovers are dead, and stay so.
pub(crate) fn collect(reader: &Reader, leftovers: &Leftovers) {
    if let Err(error) = try_collect(reader, leftovers) {
        tracing::debug!(%error, "cannot collect what dead processes left");
    }
}

/// Removes a node, saying why first. The guard proves that no writer is at work.
pub(crate) fn bury(
    _guard: &Guard,
    directory: &Directory,
    key: &Key,
    tombstone: Tombstone,
) -> Result<(), Error> {
    directory.write(&directory.left(key), &tombstone.encode()?, clock::now())?;
    remove(&directory.node(key))
}

fn try_collect(reader: &Reader, leftovers: &Leftovers) -> Result<(), Error> {
    if leftovers.is_empty() {
        return Ok(());
    }
    let Some(guard) = Guard::try_acquire(&reader.directory)? else { return Ok(()) };
    for key in &leftovers.nodes {
        collect_node(&guard, reader, key)?;
    }
    for key in &leftovers.departures {
        if reader.departure(key).is_none_or(|departure| departure.is_old(clock::now())) {
            remove(&reader.directory.left(key))?;
        }
    }
    for owner in &leftovers.locks {
        let path = reader.directory.lock(*owner);
        if probe(&path) == Liveness::Free {
            remove(&path)?;
        }
    }
    for path in leftovers.temporaries.iter().filter(|path| is_old(path)) {
        remove(path)?;
    }
    Ok(())
}

impl Leftovers {
    fn is_empty(&self) -> bool {
        self.nodes.is_empty()
            && self.departures.is_empty()
            && self.locks.is_empty()
            && !self.temporaries.iter().any(|path| is_old(path))
    }
}

fn collect_node(guard: &Guard, reader: &Reader, key: &Key) -> Result<(), Error> {
    let Some(sighting) = reader.node(key) else { return Ok(()) };
    let Some(record) = sighting.record else { return Ok(()) };
    let is_dead = match probe(&reader.directory.lock(record.owner)) {
        Liveness::Held => is_long_expired(record.ttl, sighting.stamp.modified, clock::now()),
        Liveness::Free | Liveness::Missing => true,
    };
    if !is_dead {
        return Ok(());
    }
    let epoch = record.registration.node.epoch;
    bury(guard, &reader.directory, key, Tombstone { epoch, reason: Left::Expired })
}

/// By the time of the last change of its inode, which nobody sets: a file being written has a
/// modification time that means something else.
fn is_old(path: &Path) -> bool {
    let Ok(metadata) = path.symlink_metadata() else { return false };
    let changed = Duration::from_secs(metadata.ctime().try_into().unwrap_or_default());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(changed) > TEMPORARY_AGE
}

/// For how long a file may be in the making.
const TEMPORARY_AGE: Duration = Duration::from_secs(60);
