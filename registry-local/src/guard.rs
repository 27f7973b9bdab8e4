//! The lock that makes a read-check-write atomic between processes.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use micro_registry::{Error, ErrorKind};

use crate::directory::Directory;
use crate::error::failed;
use crate::name::GUARD;

/// Held while one process reads, checks and writes; the others wait. Blocks its thread.
#[derive(Debug)]
pub(crate) struct Guard {
    file: File,
}

impl Guard {
    /// Waits for it, at most until `deadline`.
    pub(crate) fn acquire(directory: &Directory, deadline: Instant) -> Result<Self, Error> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(guard) = Self::try_acquire(directory)? {
                return Ok(guard);
            }
            if Instant::now() >= deadline {
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    format!(
                        "{} is held by another process, which may be stopped",
                        directory.path().join(GUARD).display()
                    ),
                ));
            }
            thread::sleep(pause.mul_f32(0.5 + fastrand::f32() / 2.0));
            pause = (pause * 2).min(Duration::from_millis(16));
        }
    }

    /// Takes it if nobody has it.
    pub(crate) fn try_acquire(directory: &Directory) -> Result<Option<Self>, Error> {
        let path = directory.path().join(GUARD);
        let file = open(&path).map_err(|source| failed("open", &path, source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(failed("lock", &path, source)),
        }
        // The directory may have been made anew meanwhile: a lock on the old file excludes nobody.
        Ok(is_still_at(&file, &path).then_some(Self { file }))
    }
}

impl Drop for Guard {
    /// Unlocks rather than only closes: a process being forked right now shares the descriptor.
    fn drop(&mut self) {
        if let Err(error) = self.file.unlock() {
            tracing::warn!(%error, "cannot unlock the guard of the local registry");
        }
    }
}

/// Whether this open file is what others find under the path.
pub(crate) fn is_still_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(open), Ok(found)) => (open.dev(), open.ino()) == (found.dev(), found.ino()),
        _ => false,
    }
}

/// Opened for reading once it exists, so that closing it tells watchers nothing.
fn open(path: &Path) -> io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            OpenOptions::new().append(true).create(true).open(path)
        }
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalConfig;

    /// One has it at a time, the wait is bounded, and a replaced file does not count.
    #[test]
    fn excludes() {
        let root = tempfile::tempdir().unwrap();
        let directory = Directory::new(&LocalConfig::new(root.path().join("micro")));
        directory.ensure().unwrap();
        let held = Guard::acquire(&directory, Instant::now()).unwrap();
        assert!(Guard::try_acquire(&directory).unwrap().is_none());
        let error = Guard::acquire(&directory, Instant::now()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        drop(held);
        assert!(Guard::try_acquire(&directory).unwrap().is_some());
    }
}
