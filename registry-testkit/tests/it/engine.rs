//! An engine of leased keys in memory, which can be hurt in every way a real one is.

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use micro_registry::directory::{
    Change, Changes, Directory, Entry, Held, Keys, LeaseFor, Listing, Put, PutOutcome,
};
use micro_registry::{Error, ErrorKind};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A handle on it; clones share what is stored.
#[derive(Clone, Debug, Default)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    restored: Notify,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry<u64>>,
    leases: HashMap<u64, (Duration, Instant)>,
    last_lease: u64,
    revision: u64,
    history: Vec<Change<u64>>,
    forgotten: u64,
    followers: Vec<Follower>,
    fault: Fault,
    next_put: Option<NextPut>,
    expiry: Option<JoinHandle<()>>,
    lets_others_in: bool,
    /// What followers are not told yet, while they lag.
    withheld: Option<Vec<Change<u64>>>,
    holds_next_list: bool,
}

#[derive(Debug)]
struct Follower {
    keys: Keys,
    after: u64,
    sender: mpsc::UnboundedSender<Result<Vec<Change<u64>>, Error>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Fault {
    #[default]
    None,
    Interrupted,
    Hung,
}

/// What becomes of the next put.
#[derive(Debug)]
pub(crate) enum NextPut {
    /// Somebody else writes this under the key first.
    TooLate(Vec<u8>),
    /// It happens, and its answer gets lost.
    LosesItsAnswer,
    /// It happens, and is never answered.
    IsNeverAnswered,
}

impl Engine {
    pub(crate) fn interrupt(&self) {
        let mut state = self.lock();
        state.fault = Fault::Interrupted;
        state.break_follows();
    }

    pub(crate) fn hang(&self) {
        self.lock().fault = Fault::Hung;
    }

    pub(crate) fn restore(&self) {
        self.lock().fault = Fault::None;
        self.shared.restored.notify_waiters();
    }

    /// Somebody revokes all leases.
    pub(crate) fn lose_leases(&self) {
        let mut state = self.lock();
        let leases: Vec<_> = state.leases.keys().copied().collect();
        leases.into_iter().for_each(|lease| state.end_lease(lease));
    }

    /// Somebody removes a key by hand.
    pub(crate) fn delete(&self, key: &str) {
        self.lock().delete(key);
    }

    /// Somebody writes by hand, under no lease of anybody's.
    pub(crate) fn write(&self, key: &str, value: &[u8]) {
        self.lock().write(key, value.to_vec(), 0);
    }

    /// It no longer remembers what changed.
    pub(crate) fn compact(&self) {
        let mut state = self.lock();
        state.history.clear();
        state.forgotten = state.revision;
        state.break_follows();
    }

    /// It comes back with nothing in it.
    pub(crate) fn empty(&self) {
        let mut state = self.lock();
        state.break_follows();
        let expiry = state.expiry.take();
        *state = State { expiry, ..State::default() };
    }

    /// Between a call and what it does others may come in, as with every real one.
    pub(crate) fn let_others_in(&self) {
        self.lock().lets_others_in = true;
    }

    pub(crate) fn hurt_next_put(&self, what: NextPut) {
        self.lock().next_put = Some(what);
    }

    /// Whether who follows is told of changes later, which all listings show at once.
    pub(crate) fn lag(&self, lags: bool) {
        let mut state = self.lock();
        let withheld = std::mem::replace(&mut state.withheld, lags.then(Vec::new));
        withheld.iter().flatten().for_each(|change| state.tell(change));
    }

    /// The next listing is answered when it is [restored](Self::restore), as of before.
    pub(crate) fn hold_next_list(&self) {
        self.lock().holds_next_list = true;
    }

    pub(crate) fn has_held_a_list(&self) -> bool {
        !self.lock().holds_next_list
    }

    /// How many follow it.
    pub(crate) fn follows(&self) -> usize {
        self.lock().followers.iter().filter(|follower| !follower.sender.is_closed()).count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    pub(crate) fn leases(&self) -> usize {
        self.lock().leases.len()
    }

    /// What was written under a key, as long as it is remembered.
    pub(crate) fn writes(&self, key: &str) -> Vec<String> {
        let of_key = |change: &Change<u64>| match change {
            Change::Put(entry) if entry.key == key => {
                Some(String::from_utf8_lossy(&entry.value).into_owned())
            }
            _ => None,
        };
        self.lock().history.iter().filter_map(of_key).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    /// The state, as soon as it answers.
    async fn reach(&self) -> Result<MutexGuard<'_, State>, Error> {
        if self.lock().lets_others_in {
            tokio::task::yield_now().await;
        }
        loop {
            let restored = self.shared.restored.notified();
            let fault = self.lock().fault;
            match fault {
                Fault::None => {
                    let mut state = self.lock();
                    state.expire();
                    return Ok(state);
                }
                Fault::Interrupted => return Err(lost()),
                Fault::Hung => restored.await,
            }
        }
    }
}

#[async_trait]
impl Directory for Engine {
    type Lease = u64;

    fn name(&self) -> &str {
        "engine"
    }

    async fn put(&self, put: Put<'_, u64>) -> Result<PutOutcome<u64>, Error> {
        let hurt = {
            let mut state = self.reach().await?;
            if state.expiry.is_none() {
                state.expiry = Some(tokio::spawn(expire(Arc::downgrade(&self.shared))));
            }
            let hurt = state.next_put.take();
            if let Some(NextPut::TooLate(value)) = &hurt {
                state.write(put.key, value.clone(), 0);
            }
            let outcome = state.put(&put);
            match hurt {
                Some(hurt @ (NextPut::LosesItsAnswer | NextPut::IsNeverAnswered)) => hurt,
                Some(NextPut::TooLate(_)) | None => return Ok(outcome),
            }
        };
        if matches!(hurt, NextPut::IsNeverAnswered) {
            pending::<()>().await;
        }
        Err(lost())
    }

    async fn renew(&self, key: &str, held: &Held<u64>) -> Result<bool, Error> {
        let mut state = self.reach().await?;
        Ok(state.is_held(key, held) && state.renew(held.lease))
    }

    async fn remove(&self, key: &str, held: &Held<u64>) -> Result<bool, Error> {
        let mut state = self.reach().await?;
        let is_held = state.is_held(key, held);
        if is_held {
            state.delete(key);
            state.leases.remove(&held.lease);
        }
        Ok(is_held)
    }

    async fn list(&self, keys: &Keys) -> Result<Listing<u64>, Error> {
        let (listing, is_held, restored) = {
            let mut state = self.reach().await?;
            let is_held = std::mem::take(&mut state.holds_next_list);
            (state.list(keys), is_held, self.shared.restored.notified())
        };
        if is_held {
            restored.await;
        }
        Ok(listing)
    }

    async fn follow(&self, keys: &Keys, after: u64) -> Result<Changes<u64>, Error> {
        let mut state = self.reach().await?;
        if after < state.forgotten || after > state.revision {
            return Err(lost());
        }
        let (sender, mut changes) = mpsc::unbounded_channel();
        state.followers.retain(|follower| !follower.sender.is_closed());
        let follower = Follower { keys: keys.clone(), after, sender };
        let withheld = state.withheld.iter().flatten().count();
        let told = &state.history[..state.history.len().saturating_sub(withheld)];
        told.iter().for_each(|change| follower.tell(change));
        state.followers.push(follower);
        Ok(futures::stream::poll_fn(move |cx| changes.poll_recv(cx)).boxed())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(expiry) = self.state.get_mut().unwrap().expiry.take() {
            expiry.abort();
        }
    }
}

impl State {
    fn put(&mut self, put: &Put<'_, u64>) -> PutOutcome<u64> {
        let version = self.entries.get(put.key).map(|entry| entry.held.version);
        let lease = match put.lease {
            LeaseFor::Existing(lease) if !self.leases.contains_key(&lease) => {
                return PutOutcome::LeaseLost;
            }
            _ if version != put.expected => return PutOutcome::Conflict,
            LeaseFor::Existing(lease) => lease,
            LeaseFor::New(ttl) => {
                self.last_lease += 1;
                self.leases.insert(self.last_lease, (ttl, Instant::now() + ttl));
                self.last_lease
            }
        };
        PutOutcome::Stored(self.write(put.key, put.value.to_vec(), lease))
    }

    fn write(&mut self, key: &str, value: Vec<u8>, lease: u64) -> Held<u64> {
        self.revision += 1;
        let held = Held { version: self.revision, lease };
        let entry = Entry { key: key.to_owned(), value, held: held.clone() };
        self.entries.insert(key.to_owned(), entry.clone());
        self.publish(Change::Put(entry));
        held
    }

    fn delete(&mut self, key: &str) {
        if self.entries.remove(key).is_some() {
            self.revision += 1;
            self.publish(Change::Gone { key: key.to_owned(), revision: self.revision });
        }
    }

    fn list(&self, keys: &Keys) -> Listing<u64> {
        let entries = match keys {
            Keys::One(key) => self.entries.get(key).cloned().into_iter().collect(),
            Keys::Below(prefix) => {
                let from = self.entries.range(prefix.clone()..);
                let below = from.take_while(|(key, _)| key.starts_with(prefix));
                below.map(|(_, entry)| entry.clone()).collect()
            }
        };
        Listing { entries, revision: self.revision }
    }

    fn is_held(&self, key: &str, held: &Held<u64>) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.held.version == held.version)
    }

    fn renew(&mut self, lease: u64) -> bool {
        let Some((ttl, expires)) = self.leases.get_mut(&lease) else { return false };
        *expires = Instant::now() + *ttl;
        true
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let due = self.leases.iter().filter(|(_, (_, expires))| *expires <= now);
        let due: Vec<_> = due.map(|(lease, _)| *lease).collect();
        due.into_iter().for_each(|lease| self.end_lease(lease));
    }

    fn end_lease(&mut self, lease: u64) {
        self.leases.remove(&lease);
        let of_lease = self.entries.values().filter(|entry| entry.held.lease == lease);
        let keys: Vec<_> = of_lease.map(|entry| entry.key.clone()).collect();
        keys.iter().for_each(|key| self.delete(key));
    }

    fn publish(&mut self, change: Change<u64>) {
        match &mut self.withheld {
            Some(withheld) => withheld.push(change.clone()),
            None => self.tell(&change),
        }
        self.history.push(change);
    }

    fn tell(&self, change: &Change<u64>) {
        self.followers.iter().for_each(|follower| follower.tell(change));
    }

    fn break_follows(&mut self) {
        for follower in self.followers.drain(..) {
            let _ = follower.sender.send(Err(lost()));
        }
    }
}

impl Follower {
    fn tell(&self, change: &Change<u64>) {
        let (Change::Put(Entry { key, .. }) | Change::Gone { key, .. }) = change;
        let is_followed = match &self.keys {
            Keys::One(one) => key == one,
            Keys::Below(prefix) => key.starts_with(prefix),
        };
        if is_followed && change.revision() > self.after {
            let _ = self.sender.send(Ok(vec![change.clone()]));
        }
    }
}

/// Ends with the engine, which aborts it.
async fn expire(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        shared.state.lock().unwrap().expire();
        drop(shared);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the engine is lost, by the test")
}
