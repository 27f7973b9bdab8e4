//! A network interface that goes away and comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use micro_registry::{ErrorKind, Registry, RemoveReason, View};
use micro_registry_mdns::MdnsConfig;
use micro_registry_testkit::{Backend, Faults, Suite, Unsupported};

use crate::conformance::profile;
use crate::namespace::{add_interface, run, set_up, sh};
use crate::{HOUR, greeter, registration, registry, until, until_gone};

/// What the contract says about outages holds when the interface goes away and comes back.
#[test]
fn an_interface_that_goes_away() {
    run("outages::keeps_the_contract_through_outages", &[]);
}

/// Who is reached over one of two interfaces does not say goodbye when that goes away: it is there
/// until its TTL is over.
#[test]
fn one_interface_of_two() {
    run("outages::the_other_interface_goes_on", &[]);
}

/// A call says that there is no network at once, however long ago the task looked.
#[test]
fn calls_look_for_themselves() {
    run("outages::the_next_call_fails", &[]);
}

#[tokio::test]
#[ignore = "in namespaces of its own, from `calls_look_for_themselves`"]
async fn the_next_call_fails() {
    add_interface("wire", "10.77.1.1/24");
    let mut config = MdnsConfig::new();
    config.interfaces = vec!["wire".into()];
    let registry = registry(&config);
    registry.register(&registration("greeter", "a", 1), HOUR).await.unwrap();
    assert_eq!(registry.list().await.unwrap().len(), 1);
    // Nothing else runs on this runtime meanwhile.
    sh("ip link set wire down");
    let error = registry.get("greeter").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("of those chosen: wire"), "{error}");
}

#[tokio::test]
#[ignore = "in namespaces of its own, from `an_interface_that_goes_away`"]
async fn keeps_the_contract_through_outages() {
    for cases in ["outage", "unreachable", "needs_no_store"] {
        let report = Suite::new(profile()).only(cases).run(async || Wire::new()).await;
        println!("{report}");
        assert!(report.is_kept());
        assert!(!report.to_string().contains(" skipped  "), "{report}");
    }
}

#[tokio::test]
#[ignore = "in namespaces of its own, from `one_interface_of_two`"]
async fn the_other_interface_goes_on() {
    add_interface("left", "10.77.1.1/24");
    add_interface("right", "10.77.2.1/24");
    let on = |interfaces: &[&str]| {
        let mut config = MdnsConfig::new();
        config.interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
        registry(&config)
    };
    let (owner, reader) = (on(&["left"]), on(&["left", "right"]));
    let (mut watch, mut view) = (reader.watch(greeter()).await.unwrap(), View::new());
    owner.register(&registration("greeter", "a", 1), crate::child::TTL * 2).await.unwrap();
    until(&mut watch, &mut view, |view| view.len() == 1).await;
    sh("ip link set left down");
    assert_eq!(until_gone(&mut watch, &mut view).await, RemoveReason::Expired);
}

/// A pair of interfaces for each store; the stores share nothing else either.
struct Wire(MdnsConfig);

impl Wire {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let index = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut config = crate::config();
        config.interfaces = vec![format!("wire{index}")];
        add_interface(&config.interfaces[0], &format!("10.77.{index}.1/24"));
        Self(config)
    }
}

#[async_trait]
impl Backend for Wire {
    async fn open(&self, namespace: &str) -> Arc<dyn Registry> {
        let mut config = self.0.clone();
        config.namespace = format!("{}-{namespace}", self.0.namespace);
        Arc::new(registry(&config))
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }
}

#[async_trait]
impl Faults for Wire {
    async fn interrupt(&self) -> Result<(), Unsupported> {
        sh(&format!("ip link set {} down", self.0.interfaces[0]));
        Ok(())
    }

    async fn restore(&self) -> Result<(), Unsupported> {
        set_up(&self.0.interfaces[0]);
        Ok(())
    }
}
