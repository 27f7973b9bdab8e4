//! Who owns nodes, and whether it lives: a lock the kernel lets go of when its process dies.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use micro_registry::Error;
use uuid::Uuid;

use crate::directory::Directory;
use crate::error::failed;
use crate::guard::is_still_at;

/// The lock of one registry handle, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Owner {
    pub(crate) id: Uuid,
    path: PathBuf,
    file: File,
}

impl Owner {
    /// Makes a new one. Its file has its name only once it is locked, so nobody takes it for dead.
    ///
    /// The descriptor must be writable: only then does its end tell watchers anything.
    pub(crate) fn create(directory: &Directory) -> Result<Self, Error> {
        let id = Uuid::now_v7();
        let path = directory.lock(id);
        let create = || {
            let file = directory.temporary()?;
            file.as_file().try_lock()?;
            Ok(file.persist_noclobber(&path)?)
        };
        let file = create().map_err(|source| failed("make lock file", &path, source))?;
        Ok(Self { id, path, file })
    }

    /// Whether others still find it; no, once the directory was removed.
    pub(crate) fn is_in_place(&self) -> bool {
        is_still_at(&self.file, &self.path)
    }
}

impl Drop for Owner {
    /// Unlocks rather than only closes: a process being forked right now shares the descriptor.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "cannot unlock the lock file of the local registry");
        }
    }
}

/// Whether somebody holds an owner's lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    Held,
    /// Its process died, or its registry was dropped.
    Free,
    /// There is no such file.
    Missing,
}

/// Looks whether a lock is held, disturbing nobody: read-only, as closing a writable descriptor
/// looks like a death to watchers, and shared, as exclusive probes would see each other.
pub(crate) fn probe(path: &Path) -> Liveness {
    match try_probe(path).or_else(|_| try_probe(path)) {
        Ok(liveness) => liveness,
        Err(error) => {
            // Seen again at every look, and harmless: the TTLs of its nodes go on counting.
            tracing::debug!(path = %path.display(), %error, "cannot tell whether an owner lives");
            Liveness::Held
        }
    }
}

/// Looks at a lock whose descriptor was just closed: the kernel tells of that before it lets go.
pub(crate) fn probe_closed(path: &Path) -> Liveness {
    for pause in [1, 4, 16] {
        match probe(path) {
            Liveness::Held => thread::sleep(Duration::from_millis(pause)),
            other => return other,
        }
    }
    probe(path)
}

fn try_probe(path: &Path) -> io::Result<Liveness> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Liveness::Missing),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Liveness::Free),
        Err(TryLockError::WouldBlock) => Ok(Liveness::Held),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalConfig;

    /// Held while it lives, free afterwards, missing when removed; and it knows the last itself.
    #[test]
    fn liveness() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(&LocalConfig::new(root.path().join("micro")));
        directory.ensure().unwrap();
        let owner = Owner::create(&directory).unwrap();
        let path = directory.lock(owner.id);
        assert_eq!(probe(&path), Liveness::Held);
        assert!(owner.is_in_place());
        std::fs::remove_file(&path).unwrap();
        assert!(!owner.is_in_place());
        assert_eq!(probe(&path), Liveness::Missing);

        let owner = Owner::create(&directory).unwrap();
        let path = directory.lock(owner.id);
        drop(owner);
        assert_eq!(probe_closed(&path), Liveness::Free);
    }
}
