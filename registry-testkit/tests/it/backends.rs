//! The backends of the registry crate keep the contract.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use micro_registry::directory::DirectoryRegistry;
use micro_registry::{MemoryRegistry, Registry, StaticRegistry};
use micro_registry_testkit::{Backend, Faults, Fencing, Profile, Unsupported, fixture, suite};

use crate::engine::Engine;

/// One registry per namespace.
#[derive(Default)]
pub(crate) struct Memory {
    namespaces: Mutex<HashMap<String, MemoryRegistry>>,
}

impl Memory {
    pub(crate) fn namespace(&self, name: &str) -> MemoryRegistry {
        self.namespaces.lock().unwrap().entry(name.to_owned()).or_default().clone()
    }
}

#[async_trait]
impl Backend for Memory {
    async fn open(&self, namespace: &str) -> Arc<dyn Registry> {
        Arc::new(self.namespace(namespace))
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }
}

#[async_trait]
impl Faults for Memory {
    async fn interrupt(&self) -> Result<(), Unsupported> {
        let namespaces = self.namespaces.lock().unwrap();
        namespaces.values().for_each(|registry| registry.interrupt("by the test"));
        Ok(())
    }

    async fn restore(&self) -> Result<(), Unsupported> {
        self.namespaces.lock().unwrap().values().for_each(MemoryRegistry::restore);
        Ok(())
    }
}

struct Fixed;

#[async_trait]
impl Backend for Fixed {
    async fn open(&self, _namespace: &str) -> Arc<dyn Registry> {
        Arc::new(StaticRegistry::new(fixture()).unwrap())
    }
}

struct Leased(Engine);

#[async_trait]
impl Backend for Leased {
    async fn open(&self, namespace: &str) -> Arc<dyn Registry> {
        Arc::new(DirectoryRegistry::new(self.0.clone(), namespace).unwrap())
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    async fn watches(&self) -> Option<usize> {
        Some(self.0.follows())
    }
}

#[async_trait]
impl Faults for Leased {
    async fn interrupt(&self) -> Result<(), Unsupported> {
        self.0.interrupt();
        Ok(())
    }

    async fn hang(&self) -> Result<(), Unsupported> {
        self.0.hang();
        Ok(())
    }

    async fn restore(&self) -> Result<(), Unsupported> {
        self.0.restore();
        Ok(())
    }

    async fn lose_leases(&self) -> Result<(), Unsupported> {
        self.0.lose_leases();
        Ok(())
    }

    async fn corrupt(&self, service: &str, id: &str) -> Result<(), Unsupported> {
        self.0.write(&format!("default/{service}/{id}"), b"{ half a rec");
        Ok(())
    }
}

/// The memory registry keeps the whole contract.
#[tokio::test]
async fn memory() {
    let mut profile = Profile::default();
    profile.min_ttl = Duration::from_millis(400);
    suite(async || Memory::default(), profile).await;
}

/// The static registry keeps what there is of the contract without writes.
#[tokio::test]
async fn fixed() {
    let mut profile = Profile::default();
    profile.writes = false;
    profile.expiry = false;
    profile.namespaces = false;
    profile.fencing = Fencing::None;
    suite(async || Fixed, profile).await;
}

/// A registry over an engine of leased keys keeps the contract, save that the engine remembers nothing
/// of who left.
#[tokio::test]
async fn directory() {
    let mut profile = Profile::default();
    profile.min_ttl = Duration::from_millis(400);
    profile.remembers = false;
    suite(async || Leased(Engine::default()), profile).await;
}
