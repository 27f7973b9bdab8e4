//! What can be configured, and where the directory is when nobody says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use micro_registry::{DEFAULT_NAMESPACE, Error, RegistryUrl, validate};

use crate::error::invalid;

/// How a [`LocalRegistry`](crate::LocalRegistry) is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LocalConfig {
    /// Where the namespaces are, an absolute path; see [`default_directory`]. It is made, with mode
    /// 0700, when it does not exist.
    pub directory: PathBuf,
    /// The namespace, `[a-z0-9._-]{1,128}`; handles of different ones do not see each other.
    /// Default `default`.
    pub namespace: String,
    /// How often a watch looks at everything where changes are not notified. Default 1 s. Where
    /// they are, it is a safety net only and never more often than every 5 s. A watch of one node
    /// always looks at its file that often, and asks for no notifications.
    pub rescan_interval: Duration,
    /// Whether to ask the system for notifications of changes. Default true. Off: rescans only, for
    /// file systems without change notification.
    pub use_notify: bool,
}

impl LocalConfig {
    /// The defaults, in this directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            rescan_interval: Duration::from_secs(1),
            use_notify: true,
        }
    }

    /// What a URL says: `local:`, `local:/directory`, either with `?namespace=shop`.
    pub(crate) fn from_url(mut url: RegistryUrl, default_directory: &Path) -> Result<Self, Error> {
        const EXPECTED: &str = "expected local: or local:/directory, either with ?namespace=name";
        if url.scheme() != "local" || url.authority().is_some() {
            let what = if url.scheme() == "local" { "names a host" } else { "is not a local one" };
            return Err(invalid(format!("registry `{url}` {what}: {EXPECTED}")));
        }
        let directory = match url.path() {
            "" => default_directory.to_owned(),
            path => PathBuf::from(path),
        };
        let mut config = Self::new(directory);
        if let Some(namespace) = url.take("namespace") {
            config.namespace = namespace;
        }
        url.finish(&["namespace"])?;
        Ok(config)
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        validate::namespace(&self.namespace)?;
        if !self.directory.is_absolute() {
            return Err(invalid(format!(
                "directory {:?} of the local registry is invalid: expected an absolute path",
                self.directory
            )));
        }
        if self.rescan_interval.is_zero() {
            return Err(invalid("rescan interval 0s is invalid: expected, for example, 1s"));
        }
        Ok(())
    }
}

/// Where the registry is when nobody says: `micro` in the user's runtime directory (the value of
/// `XDG_RUNTIME_DIR`, which the caller reads), else `micro-<uid>` in the directory for temporary
/// files. Relative runtime directories are ignored, as their specification asks.
pub fn default_directory(xdg_runtime_dir: Option<&Path>, temp_dir: &Path) -> PathBuf {
    match xdg_runtime_dir.filter(|directory| directory.is_absolute()) {
        Some(directory) => directory.join("micro"),
        None => temp_dir.join(format!("micro-{}", rustix::process::geteuid().as_raw())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use micro_registry::ErrorKind;

    fn parse(url: &str) -> Result<LocalConfig, Error> {
        let config = LocalConfig::from_url(url.parse()?, Path::new("/default"))?;
        config.validate().map(|()| config)
    }

    /// Every documented form of a URL means what it says.
    #[test]
    fn urls() {
        let with = |directory: &str, namespace: &str| {
            let mut config = LocalConfig::new(directory);
            config.namespace = namespace.to_owned();
            config
        };
        assert_eq!(parse("local:").unwrap(), with("/default", "default"));
        assert_eq!(parse("local:/run/x").unwrap(), with("/run/x", "default"));
        assert_eq!(parse("local:?namespace=shop").unwrap(), with("/default", "shop"));
        assert_eq!(parse("local:/x?namespace=shop").unwrap(), with("/x", "shop"));
    }

    /// What is not understood is refused, with what would be right.
    #[test]
    fn urls_that_are_wrong() {
        for (bad, hint) in [
            ("local://host/x", "names a host: expected local:"),
            ("local:///x", "expected local: or local:/directory"),
            ("etcd:/x", "is not a local one"),
            ("local:relative", "expected an absolute path"),
            ("local:?namespace=No", "namespace \"No\""),
            ("local:?ttl=3", "expected namespace"),
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(hint), "{bad}: {error}");
        }
    }

    /// The runtime directory is preferred; without one the name carries the user.
    #[test]
    fn the_default_directory() {
        let run = Path::new("/run/user/7");
        assert_eq!(default_directory(Some(run), Path::new("/tmp")), run.join("micro"));
        let uid = rustix::process::geteuid().as_raw();
        for none in [None, Some(Path::new("")), Some(Path::new("run"))] {
            let directory = default_directory(none, Path::new("/tmp"));
            assert_eq!(directory, PathBuf::from(format!("/tmp/micro-{uid}")));
        }
    }
}
