//! The registries that are open: one handle each, for all who name the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};

use micro_registry::{DEFAULT_NAMESPACE, Registry};

/// What was opened, by URL and namespace.
#[derive(Default)]
pub(crate) struct Opened {
    handles: BTreeMap<Key, Weak<dyn Registry>>,
    kept: Vec<Arc<dyn Registry>>,
}

type Key = (String, String);

/// For how long a handle stays open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasts {
    /// It closes with the last of them.
    #[cfg_attr(
        not(any(feature = "etcd", feature = "local", feature = "mdns")),
        expect(dead_code, reason = "without a backend nothing closes")
    )]
    ForItsUsers,
    /// Nothing else keeps what is in it.
    ForTheSettings,
}

impl Opened {
    /// The handle of this URL and namespace, if it is open.
    pub(crate) fn find(&self, url: &str, namespace: Option<&str>) -> Option<Arc<dyn Registry>> {
        self.handles.get(&key(url, namespace))?.upgrade()
    }

    /// The handle of this URL and namespace from now on, which is another one if that was opened
    /// meanwhile.
    pub(crate) fn share(
        &mut self,
        url: &str,
        namespace: Option<&str>,
        new: Arc<dyn Registry>,
        lasts: Lasts,
    ) -> Arc<dyn Registry> {
        if let Some(open) = self.find(url, namespace) {
            return open;
        }
        self.handles.retain(|_, handle| handle.strong_count() > 0);
        self.handles.insert(key(url, namespace), Arc::downgrade(&new));
        if lasts == Lasts::ForTheSettings {
            self.kept.push(new.clone());
        }
        new
    }
}

/// Without the URLs, which may hold passwords.
impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("handles", &self.handles.len()).finish_non_exhaustive()
    }
}

fn key(url: &str, namespace: Option<&str>) -> Key {
    (url.to_owned(), namespace.unwrap_or(DEFAULT_NAMESPACE).to_owned())
}
