//! Stores whose handles are mutants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use micro_registry::{Registration, Registry};
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
            let known: Vec<_> = store.known.lock().unwrap().values().cloned().collect();
            for node in known {
                self.memory.namespace(&namespace).deregister(&node.now).await.unwrap();
            }
        }
        Ok(())
    }
}

/// What all handles on a store share, beside what is in it.
#[derive(Default)]
pub(super) struct Store {
    pub(super) known: Mutex<HashMap<Key, Known>>,
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
    }
}

pub(super) fn key(registration: &Registration) -> Key {
    (registration.service.clone(), registration.node.id.clone())
}
