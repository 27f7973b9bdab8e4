//! Which files changed since somebody looked: conflated, so bounded by what there is.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::name::{Key, Name};

/// Where notifications are noted until they are taken.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    noted: Mutex<Noted>,
    wake: Notify,
}

/// What is to be looked at.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Noted {
    pub(crate) nodes: BTreeSet<Key>,
    /// Owners whose locks were closed by somebody who could write: most likely they died.
    pub(crate) closed: BTreeSet<Uuid>,
    /// Some notifications were lost, or are too many to tell apart.
    pub(crate) everything: bool,
    /// The directory itself was removed or renamed: no more notifications will come.
    pub(crate) lost: bool,
}

impl Changes {
    pub(crate) fn take(&self) -> Noted {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until something is noted. Cancel-safe.
    pub(crate) async fn noted(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{Notifier, notify};

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use notify::event::{AccessKind, AccessMode, ModifyKind};
    use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

    /// Notifies until it is dropped.
    pub(crate) type Notifier = RecommendedWatcher;

    /// Notes changes of a directory's files from now on.
    pub(crate) fn notify(
        directory: &Path,
        changes: Arc<Changes>,
    ) -> Result<Option<Notifier>, notify::Error> {
        let root = directory.to_owned();
        let mut notifier = notify::recommended_watcher(move |event| changes.note(event, &root))?;
        notifier.watch(directory, RecursiveMode::NonRecursive)?;
        Ok(Some(notifier))
    }

    impl Changes {
        fn note(&self, event: notify::Result<Event>, root: &Path) {
            let has_news = {
                let mut noted = self.lock();
                match &event {
                    Ok(event) if !event.need_rescan() => noted.take_in(event, root),
                    Ok(_) | Err(_) => noted.everything = true,
                }
                *noted != Noted::default()
            };
            if has_news {
                self.wake.notify_one();
            }
        }
    }

    impl Noted {
        /// Reading makes events, too, ours included: of those only the end of a writer counts.
        fn take_in(&mut self, event: &Event, root: &Path) {
            let closed = event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write));
            if matches!(event.kind, EventKind::Access(_)) && !closed {
                return;
            }
            for path in &event.paths {
                if path == root {
                    self.take_in_root(event);
                } else if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                    self.take_in_file(Name::parse(name), closed);
                }
            }
        }

        fn take_in_root(&mut self, event: &Event) {
            match event.kind {
                EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => self.lost = true,
                _ => self.everything = true,
            }
        }

        fn take_in_file(&mut self, name: Name, closed: bool) {
            match name {
                Name::Lock(owner) if closed => drop(self.closed.insert(owner)),
                Name::Node(key) | Name::Left(key) => drop(self.nodes.insert(key)),
                _ => {}
            }
            if self.nodes.len() + self.closed.len() > MAX_NOTED {
                self.nodes.clear();
                self.closed.clear();
                self.everything = true;
            }
        }
    }

    /// Beyond this many changes at once, looking at everything is cheaper.
    const MAX_NOTED: usize = 8_192;

    #[cfg(test)]
    mod tests {
        use super::*;
        use notify::event::{CreateKind, Flag, RemoveKind, RenameMode};

        fn after(kind: EventKind, name: &str) -> Noted {
            let changes = Changes::default();
            let event = Event::new(kind).add_path(Path::new("/r").join(name));
            changes.note(Ok(event), Path::new("/r"));
            changes.take()
        }

        fn access(kind: AccessKind) -> EventKind {
            EventKind::Access(kind)
        }

        /// A lock is looked at only when a writer closed it, which no probe does.
        #[test]
        fn probes_are_not_noted() {
            let owner = Uuid::now_v7();
            let lock = crate::name::lock_file(owner);
            assert_eq!(after(access(AccessKind::Open(AccessMode::Any)), &lock), Noted::default());
            assert_eq!(after(access(AccessKind::Close(AccessMode::Read)), &lock), Noted::default());
            assert_eq!(after(EventKind::Create(CreateKind::File), &lock), Noted::default());
            let closed = after(access(AccessKind::Close(AccessMode::Write)), &lock);
            assert_eq!(closed, Noted { closed: [owner].into(), ..Noted::default() });
        }

        /// Every change of a node is noted under its name, of other files none.
        #[test]
        fn nodes_are_noted() {
            let key = Key { service: "s".into(), id: "a".into() };
            let noted = Noted { nodes: [key].into(), ..Noted::default() };
            let renamed = EventKind::Modify(ModifyKind::Name(RenameMode::To));
            assert_eq!(after(renamed, "s@a.json"), noted);
            assert_eq!(after(EventKind::Remove(RemoveKind::File), "s@a.left"), noted);
            for other in [".guard", ".tmp-x", "README"] {
                assert_eq!(after(renamed, other), Noted::default());
            }
        }

        /// Lost notifications, too many of them, and the end of the directory are told apart.
        #[test]
        fn more_than_can_be_told() {
            assert!(after(EventKind::Remove(RemoveKind::Other), "").lost);
            let changes = Changes::default();
            let overflow = Event::new(EventKind::Other).set_flag(Flag::Rescan);
            changes.note(Ok(overflow), Path::new("/r"));
            assert!(changes.take().everything);
            let mut noted = Noted::default();
            for id in 0..=MAX_NOTED {
                let key = Key { service: "s".into(), id: id.to_string() };
                noted.take_in_file(Name::Node(key), false);
            }
            assert!(noted.everything && noted.nodes.is_empty());
            let mut noted = Noted::default();
            for _ in 0..=MAX_NOTED {
                noted.take_in_file(Name::Lock(Uuid::now_v7()), true);
            }
            assert!(noted.everything && noted.closed.is_empty());
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{Notifier, notify};

/// Elsewhere the end of a lock makes no notification, so one looks regularly anyway.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use super::*;
    use std::convert::Infallible;

    /// There is none.
    pub(crate) type Notifier = Infallible;

    /// Notes nothing.
    pub(crate) fn notify(
        _directory: &Path,
        _changes: Arc<Changes>,
    ) -> Result<Option<Notifier>, Infallible> {
        Ok(None)
    }
}
