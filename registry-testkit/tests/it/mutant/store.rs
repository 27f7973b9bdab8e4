//! Stores whose handles are mutants.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use micro_registry::{Registration, Registry, Scope};
use micro_registry_testkit::{Backend, Faults, Unsupported};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::{Flaw, Mutant, SECRET};
use crate::backends::Memory;

/// A store whose handles have the flaw.
pub(crate) struct Mutants {
    flaw: Flaw,
    memory: Memory,
    stores: Mutex<HashMap<String, Arc<Store>>>,
    is_hanging: watch::Sender<bool>,
    leaked: Mutex<JoinSet<()>>,
}

impl Mutants {
    pub(crate) fn new(flaw: Flaw) -> Self {
        Self {
            flaw,
            memory: Memory::default(),
            stores: Mutex::default(),
            is_hanging: watch::Sender::new(false),
            leaked: Mutex::default(),
        }
    }
}

#[async_trait]
impl Backend for Mutants {
    async fn open(&self, namespace: &str) -> Arc<dyn Registry> {
        let namespace = if self.flaw == Flaw::MixesNamespaces { "one" } else { namespace };
        if self.flaw == Flaw::LeaksTheHandle {
            self.leaked.lock().unwrap().spawn(std::future::pending());
        }
        let store = self.stores.lock().unwrap().entry(namespace.to_owned()).or_default().clone();
        Arc::new(Mutant {
            flaw: self.flaw,
            inner: self.memory.namespace(namespace),
            store,
            own: Mutex::default(),
            missed: Mutex::default(),
            is_hanging: self.is_hanging.subscribe(),
            lock: Semaphore::new(1),
            tasks: Mutex::default(),
        })
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    async fn watches(&self) -> Option<usize> {
        let stores = self.stores.lock().unwrap();
        Some(stores.values().map(|store| Arc::strong_count(&store.watches) - 1).sum())
    }

    fn secret(&self) -> Option<&str> {
        Some(SECRET)
    }
}

#[async_trait]
impl Faults for Mutants {
    async fn interrupt(&self) -> Result<(), Unsupported> {
        self.memory.interrupt().await
    }

    async fn hang(&self) -> Result<(), Unsupported> {
        self.is_hanging.send_replace(true);
        Ok(())
    }

    async fn restore(&self) -> Result<(), Unsupported> {
        self.is_hanging.send_replace(false);
        self.memory.restore().await
    }

    async fn lose_leases(&self) -> Result<(), Unsupported> {
        let stores = self.stores.lock().unwrap().clone();
        for (namespace, store) in stores {
            for node in store.all_known() {
                self.memory.namespace(&namespace).deregister(&node.now).await.unwrap();
            }
        }
        Ok(())
    }

    async fn corrupt(&self, service: &str, id: &str) -> Result<(), Unsupported> {
        let stores = self.stores.lock().unwrap().clone();
        for (namespace, store) in stores {
            let is_it = |known: &Known| known.now.service == service && known.now.node.id == id;
            for node in store.all_known().into_iter().filter(is_it) {
                store.corrupt.lock().unwrap().insert(key(&node.now));
                self.memory.namespace(&namespace).deregister(&node.now).await.unwrap();
            }
        }
        Ok(())
    }
}

/// What all handles on a store share, beside what is in it.
#[derive(Default)]
pub(super) struct Store {
    known: Mutex<HashMap<Key, Known>>,
    /// The services that ever were.
    seen: Mutex<HashSet<String>>,
    corrupt: Mutex<HashSet<Key>>,
    resets: Mutex<HashMap<Scope, Vec<Arc<Registration>>>>,
    /// Cloned for each watch.
    pub(super) watches: Arc<()>,
}

pub(super) type Key = (String, String);

/// A node that was registered, and nobody said goodbye to.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) first: Registration,
    pub(super) now: Registration,
    pub(super) writes: usize,
}

impl Store {
    pub(super) fn known(&self, key: &Key) -> Option<Known> {
        self.known.lock().unwrap().get(key).cloned()
    }

    pub(super) fn note(&self, registration: &Registration) {
        let mut known = self.known.lock().unwrap();
        let (first, now) = (registration.clone(), registration.clone());
        let entry =
            known.entry(key(registration)).or_insert_with(|| Known { first, now, writes: 0 });
        entry.now = registration.clone();
        entry.writes += 1;
        self.corrupt.lock().unwrap().remove(&key(registration));
        self.seen.lock().unwrap().insert(registration.service.clone());
    }

    pub(super) fn has_seen(&self, service: &str) -> bool {
        self.seen.lock().unwrap().contains(service)
    }

    pub(super) fn all_known(&self) -> Vec<Known> {
        self.known.lock().unwrap().values().cloned().collect()
    }

    pub(super) fn forget(&self, registration: &Registration) {
        self.known.lock().unwrap().remove(&key(registration));
    }

    pub(super) fn is_corrupt(&self, service: &str) -> bool {
        self.corrupt.lock().unwrap().iter().any(|(name, _)| name == service)
    }

    /// Puts what was told first of a scope in the place of what is told now.
    pub(super) fn keep_first(&self, scope: &Scope, reset: &mut Vec<Arc<Registration>>) {
        if !reset.is_empty() {
            let mut resets = self.resets.lock().unwrap();
            reset.clone_from(resets.entry(scope.clone()).or_insert_with(|| reset.clone()));
        }
    }
}

pub(super) fn key(registration: &Registration) -> Key {
    (registration.service.clone(), registration.node.id.clone())
}
