//! Which address others are told.

use std::net::IpAddr;

use micro_rpc::Address;

use crate::Result;
use crate::settings::{Resolved, expectation};

/// An address to announce, and why this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Advertised {
    pub(crate) address: Address,
    pub(crate) reason: String,
}

/// Chooses what to announce for a bound address: what was configured, the bound address itself when
/// it names a host, else the first interface that is not the loopback, else the loopback.
///
/// An unspecified address (`0.0.0.0`, `[::]`) is never announced: nobody could connect to it.
pub(crate) fn choose(
    bound: &Address,
    configured: Option<Resolved<String>>,
    interfaces: &[IpAddr],
) -> Result<Advertised> {
    if let Some(configured) = configured {
        let address = configured_address(&configured.value, bound)
            .map_err(|why| configured.invalid("advertise", &why))?;
        return Ok(Advertised { address, reason: format!("configured by {}", configured.origin) });
    }
    let Address::Tcp { host, port } = bound else { return Ok(as_bound(bound)) };
    let Some(ip) = host.parse::<IpAddr>().ok().filter(IpAddr::is_unspecified) else {
        return Ok(as_bound(bound));
    };
    let same_family = |candidate: &&IpAddr| ip.is_ipv6() || candidate.is_ipv4();
    let reachable = |candidate: &&IpAddr| !candidate.is_loopback() && !is_link_local(candidate);
    // With `[::]` both families are bound; most networks route the older one everywhere.
    let mut candidates: Vec<_> = interfaces.iter().filter(same_family).filter(reachable).collect();
    candidates.sort_by_key(|candidate| candidate.is_ipv6());
    let (ip, reason) = match candidates.first() {
        Some(ip) => (**ip, "first interface that is not the loopback"),
        None => (IpAddr::from([127, 0, 0, 1]), "no interface but the loopback"),
    };
    let address = Address::tcp(ip.to_string(), *port);
    Ok(Advertised { address, reason: format!("bound to {bound}; {reason}") })
}

/// The addresses of this host's interfaces; none when the system does not tell.
pub(crate) fn interfaces() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.into_iter().map(|interface| interface.ip()).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot list the network interfaces");
            Vec::new()
        }
    }
}

fn as_bound(bound: &Address) -> Advertised {
    Advertised { address: bound.clone(), reason: "the address it is bound to".to_owned() }
}

/// A whole address, or a host that gets the bound port.
fn configured_address(value: &str, bound: &Address) -> std::result::Result<Address, String> {
    const EXPECTED: &str = "expected host:port, a host alone, [ipv6]:port or unix:/path";
    let address = match (value.parse(), bound) {
        (Ok(address), _) => Some(address),
        (Err(_), Address::Tcp { port, .. }) => with_port(value, *port),
        (Err(_), _) => None,
    };
    let address = address.ok_or(EXPECTED)?;
    micro_registry::validate::address(&address.to_string()).map_err(|why| expectation(&why))?;
    Ok(address)
}

fn with_port(host: &str, port: u16) -> Option<Address> {
    let text = match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    text.parse().ok()
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Origin;

    fn chosen(bound: &str, configured: Option<&str>, interfaces: &[&str]) -> Result<String> {
        let configured =
            configured.map(|value| Resolved { value: value.to_owned(), origin: Origin::Code });
        let interfaces: Vec<IpAddr> = interfaces.iter().map(|ip| ip.parse().unwrap()).collect();
        let bound = bound.parse().unwrap();
        choose(&bound, configured, &interfaces).map(|advertised| advertised.address.to_string())
    }

    /// What is configured wins; a bound address speaks for itself; an unspecified one never does.
    #[test]
    fn chooses_in_the_documented_order() {
        let both = ["127.0.0.1", "169.254.1.1", "fd00::1", "10.0.0.5", "10.0.0.6"];
        let cases: &[(&str, Option<&str>, &[&str], &str)] = &[
            ("0.0.0.0:7", Some("1.2.3.4:9"), &both, "1.2.3.4:9"),
            ("0.0.0.0:7", Some("shop.example"), &both, "shop.example:7"),
            ("0.0.0.0:7", Some("fd00::2"), &both, "[fd00::2]:7"),
            ("127.0.0.1:7", None, &both, "127.0.0.1:7"),
            ("0.0.0.0:7", None, &both, "10.0.0.5:7"),
            ("[::]:7", None, &both, "10.0.0.5:7"),
            ("[::]:7", None, &["::1", "fd00::1"], "[fd00::1]:7"),
            ("0.0.0.0:7", None, &["127.0.0.1", "fd00::1"], "127.0.0.1:7"),
            ("0.0.0.0:7", None, &[], "127.0.0.1:7"),
            ("unix:/run/x.sock", None, &both, "unix:/run/x.sock"),
        ];
        for (bound, configured, interfaces, expected) in cases {
            assert_eq!(&chosen(bound, *configured, interfaces).unwrap(), expected);
        }
    }

    /// An address nobody could connect to is refused, with its origin.
    #[test]
    fn refuses_what_nobody_could_reach() {
        for bad in ["0.0.0.0", "0.0.0.0:7", "1.2.3.4:0", "a b", ""] {
            let error = chosen("0.0.0.0:7", Some(bad), &[]).unwrap_err().to_string();
            let named = format!("advertise {bad:?} from code is invalid: expected ");
            assert!(error.starts_with(&named) && error.matches("invalid").count() == 1, "{error}");
        }
    }
}
