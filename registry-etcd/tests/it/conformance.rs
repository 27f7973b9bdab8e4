//! The registry contract, by the suite all backends are judged by.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use micro_registry::Registry;
use micro_registry_etcd::{EtcdConfig, EtcdUser};
use micro_registry_testkit::{Backend, Faults, Profile, Unsupported, suite};

use testbed::etcd::{self as server, Server};

/// The etcd registry keeps the contract; why a service is empty etcd does not remember.
#[tokio::test]
async fn keeps_the_contract() {
    if !server::is_there() {
        return;
    }
    let mut profile = Profile::default();
    profile.min_ttl = Duration::from_secs(2);
    profile.remembers = false;
    suite(async || Etcd(Server::start()), profile).await;
}

const PASSWORD: &str = "hunter2";

/// A server of its own, which asks for no user although one is configured.
struct Etcd(Server);

#[async_trait]
impl Backend for Etcd {
    async fn open(&self, namespace: &str) -> Arc<dyn Registry> {
        let mut config = EtcdConfig::new([self.0.address()]);
        config.namespace = namespace.to_owned();
        let (name, password) = ("ann".to_owned(), PASSWORD.to_owned());
        config.user = Some(EtcdUser { name, password });
        Arc::new(micro_registry_etcd::open(&config).unwrap())
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    async fn watches(&self) -> Option<usize> {
        Some(self.0.watches())
    }

    fn secret(&self) -> Option<&str> {
        Some(PASSWORD)
    }
}

#[async_trait]
impl Faults for Etcd {
    async fn interrupt(&self) -> Result<(), Unsupported> {
        self.0.kill();
        Ok(())
    }

    async fn hang(&self) -> Result<(), Unsupported> {
        self.0.pause();
        Ok(())
    }

    async fn restore(&self) -> Result<(), Unsupported> {
        self.0.restore();
        Ok(())
    }

    async fn lose_leases(&self) -> Result<(), Unsupported> {
        self.0.revoke_all();
        Ok(())
    }

    async fn corrupt(&self, service: &str, id: &str) -> Result<(), Unsupported> {
        self.0.put(&format!("/micro/default/{service}/{id}"), "{ half a rec");
        Ok(())
    }
}
