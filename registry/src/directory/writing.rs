//! Registering and deregistering: fences, guards, leases and goodbyes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::reading::Reader;
use super::turns::Turns;
use super::{Directory, Entry, Held, Keys, LeaseFor, Put, PutOutcome};
use crate::encoding::{self, Stored};
use crate::{Error, ErrorKind, Registration};

/// Writes nodes, and remembers how it left those it may have to renew.
///
/// What it remembers is only ever a shortcut: a key that is not as remembered is read again before
/// it is written. So nothing is wrong after a call that was dropped, or that timed out and happened
/// nevertheless.
#[derive(Debug)]
pub(super) struct Writer<L> {
    mine: Mutex<HashMap<String, Mine<L>>>,
    turns: Turns,
}

/// How a node of ours was left.
#[derive(Clone, Debug)]
struct Mine<L> {
    value: Vec<u8>,
    ttl: Duration,
    held: Held<L>,
    /// When it was renewed last, written included.
    renewed: Instant,
}

impl<L: Clone> Writer<L> {
    pub(super) fn new() -> Self {
        Self { mine: Mutex::default(), turns: Turns::default() }
    }

    /// How many nodes it may have to renew.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    pub(super) async fn register<D: Directory<Lease = L>>(
        &self,
        directory: &D,
        reader: &Reader,
        registration: &Registration,
        ttl: Duration,
    ) -> Result<(), Error> {
        let (key, value) = (reader.layout.key(registration), encoding::encode(registration));
        let _turn = self.turns.take(&key).await;
        let mine = self.lock().get(&key).cloned().filter(|mine| mine.ttl == ttl);
        if let Some(mine) = mine.as_ref().filter(|mine| mine.value == value)
            && directory.renew(&key, &mine.held).await?
        {
            if let Some(mine) = self.lock().get_mut(&key) {
                mine.renewed = Instant::now();
            }
            return Ok(());
        }
        let mut lease = mine.map(|mine| mine.held.lease);
        loop {
            let found = entry(directory, &key).await?;
            fence(reader, registration, found.as_ref()).inspect_err(|_| self.forget(&key))?;
            let put = Put {
                key: &key,
                value: &value,
                lease: lease.clone().map_or(LeaseFor::New(ttl), LeaseFor::Existing),
                expected: found.map(|entry| entry.held.version),
            };
            match directory.put(put).await? {
                PutOutcome::Stored(held) => {
                    let renewed = Instant::now();
                    let mine = Mine { value: value.clone(), ttl, held: held.clone(), renewed };
                    self.remember(key.clone(), mine);
                    if lease.is_none() || directory.renew(&key, &held).await? {
                        return Ok(());
                    }
                }
                PutOutcome::Conflict => {}
                PutOutcome::LeaseLost => lease = None,
            }
            // An engine that never waits would let the deadline pass unnoticed.
            tokio::task::yield_now().await;
        }
    }

    pub(super) async fn deregister<D: Directory<Lease = L>>(
        &self,
        directory: &D,
        reader: &Reader,
        registration: &Registration,
    ) -> Result<(), Error> {
        let key = reader.layout.key(registration);
        let _turn = self.turns.take(&key).await;
        self.forget(&key);
        while let Some(found) = entry(directory, &key).await? {
            let goodbye = match reader.read(&found) {
                Some(Stored::Node(node)) if node.is_same_instance(registration) => {
                    say_goodbye(directory, &node, found).await?
                }
                Some(Stored::Goodbye(node)) if node.is_same_instance(registration) => {
                    Some(found.held)
                }
                _ => return Ok(()),
            };
            if let Some(held) = goodbye {
                // Whoever took its place meanwhile is let be.
                return directory.remove(&key, &held).await.map(drop);
            }
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Nodes that nobody renewed within their TTL were given up, and are forgotten.
    fn remember(&self, key: String, mine: Mine<L>) {
        let (mut nodes, now) = (self.lock(), Instant::now());
        nodes.retain(|_, mine| now.duration_since(mine.renewed) <= mine.ttl);
        nodes.insert(key, mine);
    }

    fn forget(&self, key: &str) {
        self.lock().remove(key);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Mine<L>>> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn entry<D: Directory>(directory: &D, key: &str) -> Result<Option<Entry<D::Lease>>, Error> {
    let listing = directory.list(&Keys::One(key.to_owned())).await?;
    Ok(listing.entries.into_iter().find(|entry| entry.key == key))
}

/// Refuses to replace a newer epoch. Who said goodbye, or cannot be read, fences nobody.
fn fence<L>(
    reader: &Reader,
    registration: &Registration,
    found: Option<&Entry<L>>,
) -> Result<(), Error> {
    let Some(Stored::Node(stored)) = found.and_then(|entry| reader.read(entry)) else {
        return Ok(());
    };
    let (service, node) = (&registration.service, &registration.node);
    if stored.node.epoch <= node.epoch {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Fenced,
        format!(
            "node `{}` of `{service}` is registered with epoch {}, newer than {}",
            node.id, stored.node.epoch, node.epoch
        ),
    ))
}

/// Puts a goodbye in a node's place, for those who watch, and says how to remove it; `None` when the
/// node is not as it was read. One whose lease ends this moment goes without.
async fn say_goodbye<D: Directory>(
    directory: &D,
    node: &Registration,
    found: Entry<D::Lease>,
) -> Result<Option<Held<D::Lease>>, Error> {
    let put = Put {
        key: &found.key,
        value: &encoding::encode_goodbye(node),
        lease: LeaseFor::Existing(found.held.lease.clone()),
        expected: Some(found.held.version),
    };
    Ok(match directory.put(put).await? {
        PutOutcome::Stored(held) => Some(held),
        PutOutcome::LeaseLost => Some(found.held),
        PutOutcome::Conflict => None,
    })
}
