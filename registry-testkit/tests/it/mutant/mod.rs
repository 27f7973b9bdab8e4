//! A memory registry that breaks one promise on purpose.

mod flaw;
mod reading;
mod store;
mod watching;
mod writing;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use micro_registry::{
    Error, ErrorKind, MemoryRegistry, Registration, Registry, Scope, Service, ServiceSummary, Watch,
};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub(crate) use flaw::Flaw;
pub(crate) use store::Mutants;
use store::{Key, Store, key};

/// The deadline of a call.
pub(crate) const DEADLINE: Duration = Duration::from_millis(200);

const SECRET: &str = "open-sesame";
/// How long a mutant does the wrong thing, where that takes time: long enough for others to see it.
const GAP: Duration = Duration::from_millis(30);

struct Mutant {
    flaw: Flaw,
    inner: MemoryRegistry,
    store: Arc<Store>,
    /// What this handle registered.
    own: Mutex<HashMap<Key, (Registration, Duration)>>,
    /// The services it looked for in vain.
    missed: Mutex<HashSet<String>>,
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
        let done = self.remove(registration).await;
        if done.is_ok() {
            self.own.lock().unwrap().remove(&key(registration));
            self.store.forget(registration);
        }
        self.failed(done)
    }

    async fn get(&self, service: &str) -> Result<Vec<Service>, Error> {
        self.reach().await?;
        self.failed(self.read(service).await)
    }

    async fn list(&self) -> Result<Vec<ServiceSummary>, Error> {
        self.reach().await?;
        self.failed(self.read_all().await)
    }

    async fn watch(&self, scope: Scope) -> Result<Watch, Error> {
        let away = self.inner.list().await;
        if let (Err(error), Flaw::FailsToWatchWhenAway | Flaw::AsksFirst) = (away, self.flaw) {
            let valid = scope.validate().is_ok();
            if valid == (self.flaw == Flaw::FailsToWatchWhenAway) {
                return Err(error);
            }
        }
        let follows_all = self.flaw == Flaw::FollowsTheNeighbours && scope.validate().is_ok();
        let scope = match scope {
            Scope::Node { service, .. } if follows_all => Scope::Service(service),
            scope => scope,
        };
        let watch = self.failed(self.inner.watch(scope.clone()).await)?;
        match self.flaw {
            Flaw::LosesWhileOpening => self.watch_with_a_gap(scope, watch).await,
            _ => Ok(self.forward(scope, watch)),
        }
    }
}

impl Mutant {
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
        match self.flaw {
            Flaw::ShowsNothing => Ok(()),
            Flaw::ShowsItsSecret => f.debug_tuple("Mutant").field(&SECRET).finish(),
            _ => f.debug_struct("Mutant").finish_non_exhaustive(),
        }
    }
}
