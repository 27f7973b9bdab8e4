//! A memory registry that breaks one promise on purpose.

mod flaw;
mod store;
mod watching;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use micro_registry::{
    Error, ErrorKind, MemoryRegistry, Registration, Registry, Scope, Service, ServiceSummary,
    Watch, validate,
};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub(crate) use flaw::Flaw;
pub(crate) use store::Mutants;
use store::{Key, Store, key};

const SECRET: &str = "open-sesame";
/// The deadline of a call.
pub(crate) const DEADLINE: Duration = Duration::from_millis(200);

/// How long a mutant does the wrong thing, where that takes time: long enough for others to see it.
const GAP: Duration = Duration::from_millis(30);

struct Mutant {
    flaw: Flaw,
    inner: MemoryRegistry,
    store: Arc<Store>,
    /// What this handle registered.
    own: Mutex<HashMap<Key, (Registration, Duration)>>,
    is_hanging: watch::Receiver<bool>,
    lock: Semaphore,
    tasks: Mutex<JoinSet<()>>,
}

#[async_trait]
impl Registry for Mutant {
    fn name(&self) -> &str {
        "mutant"
    }

    async fn register(&self, registration: &Registration, ttl: Duration) -> Result<(), Error> {
        self.reach().await?;
        self.pass_lock().await?;
        let done = self.put(registration, ttl).await;
        if done.is_ok() {
            self.store.note(registration);
            self.own.lock().unwrap().insert(key(registration), (registration.clone(), ttl));
        }
        self.failed(done)
    }

    async fn deregister(&self, registration: &Registration) -> Result<(), Error> {
        self.reach().await?;
        let stored = self.stored(registration).await;
        let goes = match &stored {
            Some(stored) if self.flaw == Flaw::DeregistersAnyEpoch => stored,
            _ => registration,
        };
        self.failed(self.inner.deregister(goes).await)?;
        self.own.lock().unwrap().remove(&key(registration));
        self.store.known.lock().unwrap().remove(&key(registration));
        if stored.is_none() && self.flaw == Flaw::ComplainsOfTheGone {
            return Err(Error::not_found(&registration.service));
        }
        Ok(())
    }

    async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
        self.reach().await?;
        let mut found = self.inner.get(service).await;
        let kind = found.as_ref().err().map(Error::kind);
        match self.flaw {
            Flaw::EmptyForUnknown if kind == Some(ErrorKind::NotFound) => return Ok(vec![]),
            Flaw::NotFoundWhenAway if kind == Some(ErrorKind::Unavailable) => {
                return Err(Error::not_found(service));
            }
            Flaw::MatchesPrefixes if kind != Some(ErrorKind::Invalid) => {
                found = self.all_that_begin(service).await;
            }
            Flaw::ReadsOnePage => {
                for service in found.iter_mut().flatten() {
                    service.nodes.truncate(100);
                }
            }
            _ => {}
        }
        self.failed(found)
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        self.reach().await?;
        match self.inner.list().await {
            Err(_) if self.flaw == Flaw::EmptyListWhenAway => Ok(vec![]),
            list => self.failed(list),
        }
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        let away = self.inner.list().await;
        if let (Err(error), Flaw::FailsToWatchWhenAway | Flaw::AsksFirst) = (away, self.flaw) {
            let valid = scope.validate().is_ok();
            if valid == (self.flaw == Flaw::FailsToWatchWhenAway) {
                return Err(error);
            }
        }
        let watch = self.failed(self.inner.watch(scope.clone()).await)?;
        match self.flaw {
            Flaw::LosesWhileOpening => self.watch_with_a_gap(scope, watch).await,
            Flaw::ReplaysHistory => Ok(self.replay(scope, watch)),
            _ => Ok(self.forward(scope, watch)),
        }
    }
}

impl Mutant {
    async fn put(&self, registration: &Registration, ttl: Duration) -> Result<(), Error> {
        let stored = self.stored(registration).await;
        let mut put = registration.clone();
        match (self.flaw, &stored) {
            (Flaw::OverlooksMetadata, Some(stored)) if differs_in_labels(stored, &put) => {
                put = stored.clone();
            }
            (Flaw::ReplacesOnRenewal, Some(_)) if self.has_registered(&put, Some(ttl)) => {
                self.inner.deregister(&put).await?;
                tokio::time::sleep(GAP).await;
            }
            (Flaw::AcceptsLowerEpochs, Some(stored)) if stored.node.epoch > put.node.epoch => {
                self.inner.deregister(stored).await?;
            }
            (Flaw::TrustsItsLeases, None) if self.has_registered(&put, None) => {
                return self.inner.list().await.map(drop);
            }
            (Flaw::LosesTheZone, _) => {
                put.node.zone.take_if(|zone| validate::zone(zone).is_ok());
            }
            (Flaw::TrimsWhatIsInvalid, _) => put.node.weight = put.node.weight.min(10_000),
            (Flaw::FencesForever, None) => self.fence_by_the_dead(&put)?,
            (Flaw::RenewsNeighbours, _) => self.renew_own().await,
            _ => {}
        }
        self.inner.register(&put, ttl).await
    }

    /// Those with a short lease: who is written at this moment has a long one.
    async fn renew_own(&self) {
        let own: Vec<_> = self.own.lock().unwrap().values().cloned().collect();
        for (registration, ttl) in own.into_iter().filter(|(_, ttl)| ttl.as_secs() < 60) {
            let _ = self.inner.register(&registration, ttl).await;
        }
    }

    /// Whether it did so, for this time if one is given.
    fn has_registered(&self, registration: &Registration, for_ttl: Option<Duration>) -> bool {
        let own = self.own.lock().unwrap();
        let known = own.get(&key(registration));
        known.is_some_and(|(own, ttl)| own == registration && for_ttl.is_none_or(|t| t == *ttl))
    }

    fn fence_by_the_dead(&self, registration: &Registration) -> Result<(), Error> {
        let dead = self.store.known(&key(registration));
        match dead.is_some_and(|dead| dead.now.node.epoch > registration.node.epoch) {
            true => Err(Error::new(ErrorKind::Fenced, "by the dead")),
            false => Ok(()),
        }
    }

    async fn stored(&self, registration: &Registration) -> Option<Registration> {
        let services = self.inner.get(&registration.service).await.ok()?;
        let is_it = |id: &str| id == registration.node.id;
        let service = services.into_iter().find(|s| s.nodes.iter().any(|n| is_it(&n.id)))?;
        let known = self.store.known(&key(registration));
        let mut stored = known.map_or_else(|| registration.clone(), |known| known.now);
        stored.node = service.nodes.into_iter().find(|node| is_it(&node.id))?;
        Some(stored)
    }

    async fn all_that_begin(&self, part: &str) -> Result<Vec<Service>, Error> {
        let mut found = vec![];
        for summary in self.inner.list().await? {
            if summary.name.starts_with(part) {
                found.extend(self.inner.get(&summary.name).await?);
            }
        }
        if found.is_empty() { Err(Error::not_found(part)) } else { Ok(found) }
    }

    /// Waits while the store hangs, until the deadline.
    async fn reach(&self) -> Result<(), Error> {
        let mut is_hanging = self.is_hanging.clone();
        let goes_on = async { is_hanging.wait_for(|hangs| !hangs).await.is_ok() };
        if self.flaw == Flaw::IgnoresItsDeadline {
            goes_on.await;
            return Ok(());
        }
        let late = |_| Error::new(ErrorKind::Unavailable, "mutant did not answer in time");
        tokio::time::timeout(DEADLINE, goes_on).await.map_err(late)?;
        match self.inner.list().await {
            Err(error) if self.flaw == Flaw::AsksFirst => Err(error),
            _ => Ok(()),
        }
    }

    /// Holds the lock for a moment, as one who writes does.
    async fn pass_lock(&self) -> Result<(), Error> {
        if self.flaw == Flaw::LosesItsLock {
            let late = |_| Error::new(ErrorKind::Unavailable, "mutant is locked");
            // Much longer than it is ever held.
            let patience = DEADLINE * 10;
            let permit = tokio::time::timeout(patience, self.lock.acquire()).await.map_err(late)?;
            permit.unwrap().forget();
            tokio::task::yield_now().await;
            self.lock.add_permits(1);
        }
        Ok(())
    }

    fn failed<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| match self.flaw {
            Flaw::ShowsItsSecretInErrors => Error::new(error.kind(), "mutant at open-sesame@host"),
            Flaw::MistypesInvalid if error.kind() == ErrorKind::Invalid => {
                Error::new(ErrorKind::Internal, error.to_string())
            }
            _ => error,
        })
    }
}

fn differs_in_labels(stored: &Registration, other: &Registration) -> bool {
    let mut same = other.clone();
    same.metadata = stored.metadata.clone();
    same.endpoints = stored.endpoints.clone();
    same.node.metadata = stored.node.metadata.clone();
    *stored == same && stored != other
}

impl Drop for Mutant {
    fn drop(&mut self) {
        if self.flaw != Flaw::OutlivesItsProcess {
            return;
        }
        for (registration, _) in self.own.lock().unwrap().values() {
            let hour = Duration::from_secs(3_600);
            // Never pending.
            let _ = self.inner.register(registration, hour).now_or_never();
        }
    }
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = if self.flaw == Flaw::ShowsItsSecret { SECRET } else { "…" };
        f.debug_struct("Mutant").field("password", &shown).finish_non_exhaustive()
    }
}
