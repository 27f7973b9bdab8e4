//! Following one directory for as long as it is the same. Blocks its thread.

use std::sync::Arc;
use std::time::Duration;

use micro_registry::{Error, ErrorKind, Scope, Update};

use crate::changes::{Changes, Notifier, notify};
use crate::clock;
use crate::collect::collect;
use crate::directory::Identity;
use crate::reader::Reader;
use crate::tracker::Tracker;

/// How to follow a directory, and what of it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) reader: Reader,
    pub(crate) scope: Scope,
    pub(crate) rescan_interval: Duration,
    pub(crate) use_notify: bool,
}

impl Plan {
    /// The same for a watch of this scope: for one node by its file now and then, as each renewal of
    /// anybody wakes who is notified; otherwise for everything.
    pub(crate) fn of(&self, watched: &Scope) -> Self {
        match watched {
            Scope::Node { .. } => {
                Self { scope: watched.clone(), use_notify: false, ..self.clone() }
            }
            _ => Self { scope: Scope::All, ..self.clone() },
        }
    }
}

/// A directory that is followed; ends with the first error.
#[derive(Debug)]
pub(crate) struct Session {
    reader: Reader,
    scope: Scope,
    identity: Identity,
    tracker: Tracker,
    changes: Arc<Changes>,
    /// Why there are no notifications although they were asked for.
    pub(crate) unnotified: Option<String>,
    /// Notifies for as long as it is kept.
    _notifier: Option<Notifier>,
    rescan_interval: Duration,
    rescan_at: Duration,
}

impl Session {
    /// Makes the directory if there is none, and looks at everything. Notifications come first, so
    /// that no change falls in between.
    pub(crate) fn open(plan: &Plan) -> Result<Self, Error> {
        let reader = plan.reader.clone();
        let identity = reader.directory.ensure()?;
        let changes = Arc::new(Changes::default());
        let (notifier, unnotified) = match plan.use_notify {
            true => match notify(reader.directory.path(), changes.clone()) {
                Ok(notifier) => (notifier, None),
                Err(error) => (None, Some(error.to_string())),
            },
            false => (None, None),
        };
        let rescan_interval = match notifier.is_some() {
            true => plan.rescan_interval.max(SAFETY_NET),
            false => plan.rescan_interval,
        };
        let mut session = Self {
            reader,
            scope: plan.scope.clone(),
            identity,
            tracker: Tracker::default(),
            changes,
            unnotified,
            _notifier: notifier,
            rescan_interval,
            rescan_at: Duration::ZERO,
        };
        session.step()?;
        Ok(session)
    }

    pub(crate) fn tracker(&self) -> &Tracker {
        &self.tracker
    }

    pub(crate) fn changes(&self) -> Arc<Changes> {
        self.changes.clone()
    }

    /// When to take the next step at the latest, since boot.
    pub(crate) fn wake_at(&self) -> Duration {
        self.tracker.next_deadline().map_or(self.rescan_at, |due| due.min(self.rescan_at))
    }

    /// Looks at what changed and at what is due, and says what that means.
    pub(crate) fn step(&mut self) -> Result<Vec<Update>, Error> {
        let mut noted = self.changes.take();
        self.check_identity(noted.lost)?;
        let now = clock::now();
        noted.nodes.extend(self.tracker.due(now));
        let mut updates = self.reader.look(&mut self.tracker, noted.nodes, &noted.closed);
        if noted.everything || now >= self.rescan_at {
            updates.extend(self.rescan()?);
        }
        Ok(updates)
    }

    /// Looks at everything: for who knows more than was noted so far.
    pub(crate) fn look_again(&mut self) -> Result<Vec<Update>, Error> {
        self.rescan_at = Duration::ZERO;
        self.step()
    }

    fn rescan(&mut self) -> Result<Vec<Update>, Error> {
        let (updates, leftovers) = self.reader.look_everywhere(&mut self.tracker, &self.scope)?;
        collect(&self.reader, &leftovers);
        self.rescan_at = clock::now() + self.rescan_interval;
        Ok(updates)
    }

    /// A directory that was replaced is another one, and the notifications are of the old.
    fn check_identity(&self, lost: bool) -> Result<(), Error> {
        let path = self.reader.directory.path().display();
        let what = match self.reader.directory.check()? {
            None => "was removed",
            Some(identity) if lost || identity != self.identity => "was replaced by another",
            Some(_) => return Ok(()),
        };
        Err(Error::new(ErrorKind::Unavailable, format!("directory {path} {what}")))
    }
}

/// How often to look at everything although changes are notified.
const SAFETY_NET: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::LocalConfig;
    use crate::directory::Directory;
    use crate::name::Key;
    use crate::writer::Writer;
    use micro_registry::{Node, Registration, RemoveReason};
    use std::thread;
    use std::time::Instant;

    /// Who was stopped for longer than a TTL looks again before it takes anybody for dead; what
    /// nobody renewed meanwhile is.
    #[test]
    fn being_stopped_evicts_nobody_else() {
        let root = tempfile::tempdir().unwrap();
        let reader = Reader::new(Directory::new(&LocalConfig::new(root.path().join("micro"))));
        let writer = Writer::new(reader.clone());
        let node = |id| Registration::new("greeter", "1.0.0", Node::new(id, "127.0.0.1:1"));
        let (renewed, silent) = (node("renewed"), node("silent"));
        let ttl = Duration::from_secs(2);
        let put = |node| writer.put(node, ttl, Instant::now() + ttl).unwrap();
        put(&renewed);
        put(&silent);
        // Without notifications, as they would have been lost in a long stop.
        let hour = Duration::from_secs(3_600);
        let plan = Plan { reader, scope: Scope::All, rescan_interval: hour, use_notify: false };
        let mut session = Session::open(&plan).unwrap();
        assert_eq!(session.tracker().view().len(), 2);
        thread::sleep(ttl);
        put(&renewed);
        let updates = session.step().unwrap();
        assert_eq!(updates, [Update::remove(&silent, RemoveReason::Expired)]);
    }

    /// Of one node its file is all that is looked at, without notifications; whatever became of it is
    /// told nevertheless.
    #[test]
    fn a_node_is_followed_alone() {
        let root = tempfile::tempdir().unwrap();
        let reader = Reader::new(Directory::new(&LocalConfig::new(root.path().join("micro"))));
        let writer = Writer::new(reader.clone());
        let node = |id| Registration::new("greeter", "1.0.0", Node::new(id, "127.0.0.1:1"));
        let hour = Duration::from_secs(3_600);
        let put = |node: &Registration| writer.put(node, hour, Instant::now() + hour).unwrap();
        let (watched, neighbour) = (node("watched"), node("neighbour"));
        put(&watched);
        put(&neighbour);
        let moment = Duration::from_millis(1);
        let plan = Plan { reader, scope: Scope::All, rescan_interval: moment, use_notify: true };
        let mut session = Session::open(&plan.of(&Scope::node(&watched))).unwrap();
        assert!(session._notifier.is_none() && session.unnotified.is_none());
        put(&neighbour);
        thread::sleep(moment);
        assert!(session.step().unwrap().is_empty());
        assert_eq!(session.tracker().keys(), [Key::of(&watched)].into());
        writer.remove(&watched, Instant::now() + hour).unwrap();
        thread::sleep(moment);
        let gone = Update::remove(&watched, RemoveReason::Deregistered);
        assert_eq!(session.step().unwrap(), [gone]);
    }
}
