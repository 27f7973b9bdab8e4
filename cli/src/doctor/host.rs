//! What is to be said about this host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use micro::registry;
use micro::{Service, Settings};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::{CONFIGURATION, End, Report};
use crate::duration;
use crate::failure::Failure;

/// Clocks that differ by less are as good as equal.
pub(super) const SKEW: Duration = Duration::from_secs(2);

impl Report {
    /// What this program can do.
    pub(super) fn features(&mut self) {
        let schemes = schemes();
        let version = env!("CARGO_PKG_VERSION");
        self.ok("features", format!("micro {version} opens the registries {schemes}"));
    }

    /// Whether a service with these settings starts, whatever its registry.
    pub(super) async fn settings(&mut self, settings: &Settings) {
        let elsewhere = settings.clone().flag("registry", "memory:");
        let checked = async { Service::new().name("doctor").settings(elsewhere?).check().await };
        match checked.await {
            Ok(()) => self.ok("configuration", "the values make sense to a service"),
            Err(error) => {
                self.fault("configuration", End::Usage, Failure::from(error), CONFIGURATION);
            }
        }
    }

    /// Whether what is sent to a group comes back, which only the registry `mdns:` needs.
    pub(super) async fn multicast(&mut self, is_needed: bool) {
        let advice = "an interface has to be up and to carry multicast; containers need the host's \
            network, and a firewall has to let UDP port 5353 through";
        match (echo().await, is_needed) {
            (Ok(()), _) => self.ok("multicast", "works within this host"),
            (Err(why), true) => self.fault("multicast", End::Unavailable, why, advice),
            (Err(why), false) => {
                self.ok("multicast", format!("does not work here, and only mdns: needs it: {why}"));
            }
        }
    }

    /// Where others would find a service that is started here.
    pub(super) fn advertised(&mut self, settings: &Settings, is_one_host: bool) {
        match settings.advertised(is_one_host) {
            Ok((address, why)) => {
                let message = format!("a service started here is found at {address}: {why}");
                if is_ones_own(&address) && !is_one_host {
                    let advice = "only this host finds it there: MICRO_ADVERTISE=host says better";
                    return self.warn("advertise", message, advice);
                }
                self.ok("advertise", message);
            }
            Err(error) => {
                self.fault("advertise", End::Usage, error, CONFIGURATION);
            }
        }
    }

    /// Whether nodes were started in what this host takes for the future.
    pub(super) fn clock(&mut self, known: &[registry::Service]) {
        let now = unix_now();
        let nodes = known.iter().flat_map(|service| &service.nodes);
        let ahead = nodes.filter_map(|node| Duration::from_millis(node.epoch).checked_sub(now));
        match ahead.max().filter(|ahead| *ahead > SKEW) {
            Some(ahead) => {
                let ahead = duration::text(ahead);
                let message = format!("a node says that it starts in {ahead}");
                let advice = "set the clocks of both hosts, by NTP: which of two nodes of one id is \
                    the newer one is told by their clocks";
                self.warn("clock", message, advice);
            }
            None => self.ok("clock", "no node was started in the future"),
        }
    }
}

/// The registries that this program can open.
pub(super) fn schemes() -> String {
    let schemes = micro::schemes().map(|scheme| format!("{scheme}:"));
    schemes.collect::<Vec<_>>().join(", ")
}

/// Whether a host means whoever uses it.
pub(super) fn is_ones_own(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

/// The time since 1970 by this host's clock.
pub(super) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Sends something to a group of which this host is the only member.
async fn echo() -> Result<(), String> {
    // For organisations' own use, by RFC 2365.
    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 105);
    const PATIENCE: Duration = Duration::from_secs(1);
    let told = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let socket = UdpSocket::bind("0.0.0.0:0").await.map_err(told("no port"))?;
    socket.join_multicast_v4(GROUP, Ipv4Addr::UNSPECIFIED).map_err(told("cannot join a group"))?;
    socket.set_multicast_loop_v4(true).map_err(told("cannot loop"))?;
    let port = socket.local_addr().map_err(told("no address"))?.port();
    let group = SocketAddr::from((GROUP, port));
    socket.send_to(b"micro", group).await.map_err(told("cannot send to a group"))?;
    let mut heard = [0; 16];
    match timeout(PATIENCE, socket.recv_from(&mut heard)).await {
        Ok(heard) => heard.map(drop).map_err(told("cannot receive")),
        Err(_) => Err("what is sent to a group does not come back".to_owned()),
    }
}
