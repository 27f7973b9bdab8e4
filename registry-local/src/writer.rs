//! Writing nodes and taking them out. Blocks its thread.

use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use micro_registry::{Error, ErrorKind, Registration, Scope};

use crate::clock;
use crate::collect::{bury, collect};
use crate::directory::remove;
use crate::error::failed;
use crate::guard::{Guard, is_still_at};
use crate::name::Key;
use crate::owner::{Liveness, Owner, probe};
use crate::reader::Reader;
use crate::record::{Left, NodeRecord, Tombstone};
use crate::tracker::Tracker;

/// Writes the nodes of one registry handle; has its lock from the first of them on.
#[derive(Debug)]
pub(crate) struct Writer {
    reader: Reader,
    owner: Mutex<Option<Arc<Owner>>>,
    collected: Mutex<Option<Instant>>,
}

impl Writer {
    pub(crate) fn new(reader: Reader) -> Self {
        Self { reader, owner: Mutex::default(), collected: Mutex::default() }
    }

    /// Renews a node whose file already says all this; answers whether it did.
    ///
    /// Without the guard, so that a process stopped while holding it cannot make others' nodes
    /// expire. Should the file be replaced at the same moment, the old one is renewed, which
    /// nobody sees, and the answer is no.
    pub(crate) fn renew(&self, registration: &Registration, ttl: Duration) -> Result<bool, Error> {
        let in_place = self.owner().clone().filter(|owner| owner.is_in_place());
        let (Some(owner), Some(_)) = (in_place, self.reader.directory.check()?) else {
            return Ok(false);
        };
        let expected = NodeRecord::encode(owner.id, ttl, registration)?;
        let path = self.reader.directory.node(&Key::of(registration));
        let touch = || -> io::Result<bool> {
            let mut file = File::open(&path)?;
            let mut stored = Vec::with_capacity(expected.len() + 1);
            (&mut file).take(expected.len() as u64 + 1).read_to_end(&mut stored)?;
            if stored != expected {
                return Ok(false);
            }
            file.set_modified(clock::to_modified(clock::now()))?;
            Ok(is_still_at(&file, &path))
        };
        match touch() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            touched => touched.map_err(|source| failed("renew", &path, source)),
        }
    }

    /// Writes a node, unless a living one of a higher epoch stands in its place.
    pub(crate) fn put(
        &self,
        registration: &Registration,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<(), Error> {
        let directory = &self.reader.directory;
        let key = Key::of(registration);
        directory.ensure()?;
        {
            let _guard = Guard::acquire(directory, deadline)?;
            self.check_fence(&key, registration)?;
            let owner = self.ensure_owner()?;
            let bytes = NodeRecord::encode(owner.id, ttl, registration)?;
            directory.write(&directory.node(&key), &bytes, clock::now())?;
            remove(&directory.left(&key))?;
        }
        self.collect_now_and_then();
        Ok(())
    }

    /// Takes a node out if it is this instance of it.
    pub(crate) fn remove(
        &self,
        registration: &Registration,
        deadline: Instant,
    ) -> Result<(), Error> {
        let directory = &self.reader.directory;
        if directory.check()?.is_none() {
            return Ok(());
        }
        let guard = Guard::acquire(directory, deadline)?;
        let key = Key::of(registration);
        let stored = self.reader.node(&key).and_then(|sighting| sighting.record);
        if stored.is_none_or(|stored| !stored.registration.is_same_instance(registration)) {
            return Ok(());
        }
        let epoch = registration.node.epoch;
        bury(&guard, directory, &key, Tombstone { epoch, reason: Left::Deregistered })
    }

    /// Only the living fence.
    fn check_fence(&self, key: &Key, registration: &Registration) -> Result<(), Error> {
        let Some(sighting) = self.reader.node(key) else { return Ok(()) };
        let Some(record) = sighting.record else { return Ok(()) };
        let (stored, ours) = (record.registration.node.epoch, registration.node.epoch);
        let is_over = clock::now() >= sighting.stamp.modified.saturating_add(record.ttl);
        let lock = self.reader.directory.lock(record.owner);
        if stored <= ours || is_over || probe(&lock) != Liveness::Held {
            return Ok(());
        }
        let Key { service, id } = key;
        Err(Error::new(
            ErrorKind::Fenced,
            format!(
                "node `{id}` of `{service}` is registered with epoch {stored}, newer than {ours}"
            ),
        ))
    }

    /// The lock of this handle, made anew when others would not find it.
    fn ensure_owner(&self) -> Result<Arc<Owner>, Error> {
        let mut current = self.owner();
        if let Some(owner) = current.as_ref().filter(|owner| owner.is_in_place()) {
            return Ok(owner.clone());
        }
        let owner = Arc::new(Owner::create(&self.reader.directory)?);
        *current = Some(owner.clone());
        Ok(owner)
    }

    /// What the dead left is no reason to fail.
    fn collect_now_and_then(&self) {
        {
            let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
            if collected.is_some_and(|at| at.elapsed() < COLLECT_INTERVAL) {
                return;
            }
            *collected = Some(Instant::now());
        }
        match self.reader.look_everywhere(&mut Tracker::default(), &Scope::All) {
            Ok((_, leftovers)) => collect(&self.reader, &leftovers),
            Err(error) => tracing::debug!(%error, "cannot look for what dead processes left"),
        }
    }

    fn owner(&self) -> MutexGuard<'_, Option<Arc<Owner>>> {
        self.owner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often one who registers looks for leftovers.
const COLLECT_INTERVAL: Duration = Duration::from_secs(5);
