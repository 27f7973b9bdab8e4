//! The directory of one namespace: where its files are, whether it is safe, writing into it.

use std::fs::{self, DirBuilder, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use micro_registry::{Error, ErrorKind};
use tempfile::NamedTempFile;
use uuid::Uuid;

use crate::error::{failed, invalid};
use crate::name::{self, Key};
use crate::{LocalConfig, clock};

/// The directory of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    root: PathBuf,
    path: PathBuf,
}

/// Which directory it is, should another one appear under the same path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    /// Numbers of inodes are used again; `None` where the file system does not know.
    created: Option<SystemTime>,
}

impl Directory {
    pub(crate) fn new(config: &LocalConfig) -> Self {
        // Without a trailing slash or dot, which would have symlinks followed.
        let root: PathBuf = config.directory.components().collect();
        let path = root.join(&config.namespace);
        Self { root, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn node(&self, key: &Key) -> PathBuf {
        self.path.join(key.node_file())
    }

    pub(crate) fn left(&self, key: &Key) -> PathBuf {
        self.path.join(key.left_file())
    }

    pub(crate) fn lock(&self, owner: Uuid) -> PathBuf {
        self.path.join(name::lock_file(owner))
    }

    /// Makes what is missing and checks that nobody else can reach in.
    pub(crate) fn ensure(&self) -> Result<Identity, Error> {
        if let Some(identity) = self.check()? {
            return Ok(identity);
        }
        self.make().map_err(|source| failed("create directory", &self.path, source))?;
        let vanished = || io::Error::from(io::ErrorKind::NotFound);
        self.check()?.ok_or_else(|| failed("find directory", &self.path, vanished()))
    }

    /// Makes what is missing, writes into it, and tells what can never succeed from what may heal.
    pub(crate) fn prove(&self) -> Result<(), Error> {
        for path in [&self.root, &self.path] {
            let found = fs::symlink_metadata(path).ok();
            if let Some((_, what)) = found.as_ref().and_then(wrong_with) {
                return Err(invalid(format!("local registry: {} {what}", path.display())));
            }
        }
        match self.make().and_then(|()| self.temporary()) {
            Err(error) if is_hopeless(error.kind()) || self.is_nowhere(&error) => {
                Err(invalid(format!(
                    "local registry: cannot write into {}: {error}; expected a directory of our own, \
                 or one we may make",
                    self.path.display()
                )))
            }
            _ => Ok(()),
        }
    }

    /// Checks that nobody else can reach in; `None` when it does not exist.
    pub(crate) fn check(&self) -> Result<Option<Identity>, Error> {
        if check_one(&self.root)?.is_none() {
            return Ok(None);
        }
        Ok(check_one(&self.path)?.map(|metadata| Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            created: metadata.created().ok(),
        }))
    }

    /// Writes a file so that others see it whole or not at all.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8], modified: Duration) -> Result<(), Error> {
        let write = || {
            let mut file = self.temporary()?;
            file.write_all(bytes)?;
            file.as_file().set_modified(clock::to_modified(modified))?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| failed("write", path, source))
    }

    /// Whether it has no place, as in `/proc`: what is not found though all that is missing is made,
    /// and not for being removed meanwhile, which would not happen twice.
    fn is_nowhere(&self, error: &io::Error) -> bool {
        let is_not_found = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        is_not_found(error) && self.make().is_err_and(|again| is_not_found(&again))
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)
    }

    /// A new file under a name nobody reads.
    pub(crate) fn temporary(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new().prefix(name::TEMPORARY).tempfile_in(&self.path)
    }
}

/// Removes a file that may be gone already.
pub(crate) fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, error)),
        _ => Ok(()),
    }
}

fn check_one(path: &Path) -> Result<Option<Metadata>, Error> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("look at directory", path, error)),
    };
    match wrong_with(&metadata) {
        None => Ok(Some(metadata)),
        Some((kind, what)) => {
            Err(Error::new(kind, format!("local registry: {} {what}", path.display())))
        }
    }
}

/// Whether it is the path that is wrong, rather than the state the system is in.
fn is_hopeless(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{
        InvalidFilename, InvalidInput, NotADirectory, PermissionDenied, ReadOnlyFilesystem,
    };
    matches!(
        kind,
        NotADirectory | PermissionDenied | ReadOnlyFilesystem | InvalidInput | InvalidFilename
    )
}

fn wrong_with(metadata: &Metadata) -> Option<(ErrorKind, String)> {
    let me = rustix::process::geteuid().as_raw();
    let mode = metadata.mode() & 0o777;
    if metadata.is_symlink() {
        let what = "is a symbolic link: expected a directory, name the link's target instead";
        return Some((ErrorKind::Denied, what.into()));
    }
    if !metadata.is_dir() {
        return Some((
            ErrorKind::Unavailable,
            "is not a directory: expected one of mode 0700".into(),
        ));
    }
    if metadata.uid() != me {
        let what = format!("belongs to user {}: expected one of our own, {me}", metadata.uid());
        return Some((ErrorKind::Denied, what));
    }
    if mode & 0o077 != 0 {
        let what = format!("is open to other users (mode {mode:04o}): expected 0700, see chmod");
        return Some((ErrorKind::Denied, what));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn in_root(root: &Path) -> Directory {
        Directory::new(&LocalConfig::new(root))
    }

    /// What is missing is made, for us alone.
    #[test]
    fn makes_a_private_directory() {
        let base = tempfile::tempdir().unwrap();
        let directory = in_root(&base.path().join("a/micro"));
        assert_eq!(directory.check().unwrap(), None);
        let identity = directory.ensure().unwrap();
        assert_eq!(directory.ensure().unwrap(), identity);
        assert_eq!(fs::metadata(directory.path()).unwrap().mode() & 0o777, 0o700);
    }

    /// What others could reach into is refused, saying what is wrong and what would be right.
    #[test]
    fn refuses_what_is_not_private() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("open");
        in_root(&open).ensure().unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        let error = in_root(&open).ensure().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied);
        assert!(error.to_string().contains("(mode 0755): expected 0700"), "{error}");
        assert!(error.to_string().contains("open"), "{error}");

        let private = base.path().join("private");
        in_root(&private).ensure().unwrap();
        symlink(&private, base.path().join("link")).unwrap();
        for link in ["link", "link/", "link/."] {
            let error = in_root(&base.path().join(link)).ensure().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Denied);
            assert!(error.to_string().contains("is a symbolic link"), "{error}");
        }
    }

    /// What can never be our directory is told apart from what may heal, with what would be right.
    #[test]
    fn proves_that_it_can_work() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| in_root(&base.path().join(name));
        for good in ["micro", "micro", "a/b"] {
            at(good).prove().unwrap();
        }
        assert_eq!(fs::read_dir(at("micro").path()).unwrap().count(), 0, "it leaves nothing");
        fs::write(base.path().join("file"), "x").unwrap();
        symlink(base.path().join("micro"), base.path().join("link")).unwrap();
        fs::write(base.path().join("a/b/shop"), "x").unwrap();
        let mut shop = LocalConfig::new(base.path().join("a/b"));
        shop.namespace = "shop".to_owned();
        for (bad, hint) in [
            (at("file/micro"), "Not a directory (os error 20); expected a directory of our own"),
            (at("file"), "file is not a directory: expected one of mode 0700"),
            (at("link"), "link is a symbolic link"),
            (at(&"x".repeat(300)), "File name too long"),
            (at("nul\0"), "unexpected NUL byte"),
            (Directory::new(&shop), "shop is not a directory"),
        ] {
            let error = bad.prove().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains(hint), "{error}");
        }
        #[cfg(target_os = "linux")]
        {
            let error = in_root(Path::new("/proc/micro")).prove().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
            assert!(error.to_string().contains("cannot write into /proc/micro"), "{error}");
        }
        fs::set_permissions(base.path().join("a/b"), fs::Permissions::from_mode(0o750)).unwrap();
        assert!(at("a/b").prove().unwrap_err().to_string().contains("(mode 0750): expected 0700"));
        // What only the system can say, and says to nobody with all rights.
        for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
            assert!(is_hopeless(kind));
        }
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::NotFound, io::ErrorKind::Other] {
            assert!(!is_hopeless(kind));
        }
    }

    /// A file in its place makes it unavailable.
    #[test]
    fn a_file_is_no_directory() {
        let base = tempfile::tempdir().unwrap();
        let root = base.path().join("micro");
        fs::write(&root, "x").unwrap();
        assert_eq!(in_root(&root).ensure().unwrap_err().kind(), ErrorKind::Unavailable);
        fs::remove_file(&root).unwrap();
        in_root(&root).ensure().unwrap();
    }
}
