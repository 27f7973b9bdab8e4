//! The registry contract, by the suite all backends are judged by.

use std::sync::Arc;

use async_trait::async_trait;
use micro_registry::Registry;
use micro_registry_mdns::MdnsConfig;
use micro_registry_testkit::{Backend, Fencing, Profile, suite};

use crate::{config, registry};

/// On the loopback the registry keeps the contract, as far as multicast DNS can.
#[tokio::test]
async fn keeps_the_contract() {
    suite(async || Loopback(config()), profile()).await;
}

/// What multicast DNS keeps of the contract.
pub(crate) fn profile() -> Profile {
    let mut profile = Profile::default();
    profile.max_nodes = 200;
    profile.fencing = Fencing::Observed;
    profile.max_record = 900;
    profile
}

struct Loopback(MdnsConfig);

#[async_trait]
impl Backend for Loopback {
    async fn open(&self, namespace: &str) -> Arc<dyn Registry> {
        let mut config = self.0.clone();
        config.namespace = format!("{}-{namespace}", self.0.namespace);
        Arc::new(registry(&config))
    }
}
