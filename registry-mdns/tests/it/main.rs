//! The mDNS registry between handles, and between it and the network.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod conformance;

use std::net::UdpSocket;

use micro_registry_mdns::{MdnsConfig, MdnsRegistry};

/// A port of its own on the loopback: a network that no other test hears of.
fn config() -> MdnsConfig {
    let port = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let mut config = MdnsConfig::new();
    (config.port, config.interfaces) = (port, vec!["127.0.0.1".into()]);
    config
}

fn registry(config: &MdnsConfig) -> MdnsRegistry {
    MdnsRegistry::new(config.clone()).unwrap()
}
