//! The mDNS registry between handles, between processes, and when its network suffers.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod avahi;
mod basics;
mod child;
mod conformance;
mod namespace;
mod outages;
mod processes;
mod strangers;

use std::net::UdpSocket;
use std::time::Duration;

use micro_registry::{Node, Registration, RemoveReason, Scope, Update, View, Watch};
use micro_registry_mdns::{MdnsConfig, MdnsRegistry};
use micro_registry_testkit::wait::{eventually, next, until};

const HOUR: Duration = Duration::from_secs(3_600);

/// A network on the loopback that no other test hears of. Two tests may be given one port, which
/// they share: the namespace keeps them apart.
fn config() -> MdnsConfig {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut config = MdnsConfig::new();
    (config.port, config.interfaces) = (port, vec!["127.0.0.1".into()]);
    config.namespace = format!("t{:x}", fastrand::u64(..));
    config
}

fn registry(config: &MdnsConfig) -> MdnsRegistry {
    MdnsRegistry::new(config.clone()).unwrap()
}

fn registration(service: &str, id: &str, epoch: u64) -> Registration {
    let mut node = Node::new(id, "127.0.0.1:7000");
    node.epoch = epoch;
    Registration::new(service, "1.0.0", node)
}

fn greeter() -> Scope {
    Scope::Service("greeter".into())
}

/// Reads until there is no node any more, and says why the last one left.
async fn until_gone(watch: &mut Watch, view: &mut View) -> RemoveReason {
    match until(watch, view, View::is_empty).await.last() {
        Some(Update::Remove { reason, .. }) => *reason,
        other => panic!("left by {other:?}"),
    }
}
