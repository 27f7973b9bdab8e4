//! The etcd registry against real etcd servers, whole and hurt.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod access;
mod cluster;
mod conformance;
mod engine;
mod faults;
mod foreign;
mod leaks;
mod proxy;

use micro_registry::{Node, Registration, Scope};
use micro_registry_etcd::{Etcd, EtcdConfig, EtcdRegistry};
use micro_registry_testkit::wait::{eventually, next, soon, until};
use testbed::etcd::Server;

fn etcd(server: &Server) -> Etcd {
    Etcd::new(&EtcdConfig::new([server.address()])).unwrap()
}

fn open(endpoints: &[String]) -> EtcdRegistry {
    micro_registry_etcd::open(&EtcdConfig::new(endpoints)).unwrap()
}

/// A node of `shop`.
fn node(id: &str, weight: u16) -> Registration {
    let mut node = Node::new(id, "127.0.0.1:7000");
    node.weight = weight;
    Registration::new("shop", "1.0.0", node)
}

fn service() -> Scope {
    Scope::Service("shop".into())
}
