//! Whether there is a network to speak in: the library that speaks goes on in silence without one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use if_addrs::Interface;
use micro_registry::Error;
use socket2::{Domain, Protocol, Socket, Type};

use crate::MdnsConfig;
use crate::error::unavailable;

/// The addresses of interfaces that are up and chosen.
///
/// # Errors
///
/// `Unavailable` when there is none.
pub(crate) fn interfaces(config: &MdnsConfig) -> Result<Vec<Interface>, Error> {
    let all = if_addrs::get_if_addrs()
        .map_err(|error| unavailable("cannot list network interfaces").with_source(error))?;
    let is_usable = |interface: &Interface| interface.is_oper_up() && !interface.is_p2p();
    let chosen = |interface: &Interface| config.selects(&interface.name, interface.ip());
    let chosen: Vec<_> = all.into_iter().filter(|i| is_usable(i) && chosen(i)).collect();
    match chosen.is_empty() {
        false => Ok(chosen),
        true => Err(unavailable(no_interface(config))),
    }
}

/// Proves that messages can be exchanged: that the port can be shared, and the group be joined on
/// one of the interfaces at least.
///
/// # Errors
///
/// `Unavailable`, saying what is in the way.
pub(crate) fn prove(config: &MdnsConfig) -> Result<(), Error> {
    let interfaces = interfaces(config)?;
    let mut failure = None;
    let mut has_joined = false;
    for (domain, any) in [(Domain::IPV4, V4_ANY), (Domain::IPV6, V6_ANY)] {
        let is_of = |i: &&Interface| i.ip().is_ipv4() == any.is_ipv4();
        let mut of_domain = interfaces.iter().filter(is_of).peekable();
        if of_domain.peek().is_none() {
            continue;
        }
        let socket = bind(domain, SocketAddr::new(any, config.port))
            .map_err(|error| port_taken(config.port, error))?;
        for interface in of_domain {
            match join(&socket, interface) {
                Ok(()) => has_joined = true,
                Err(error) => failure = failure.or(Some((interface.name.clone(), error))),
            }
        }
    }
    match failure.filter(|_| !has_joined) {
        None => Ok(()),
        Some((name, error)) => {
            let message = format!("interface {name} takes no multicast");
            Err(unavailable(message).with_source(error))
        }
    }
}

const V4_ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const V6_ANY: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The groups of multicast DNS, by RFC 6762.
const V4_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const V6_GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);

/// Shares the port, as everybody does who speaks multicast DNS.
fn bind(domain: Domain, address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn join(socket: &Socket, interface: &Interface) -> io::Result<()> {
    let index = interface.index.unwrap_or(0);
    let joined = match interface.ip() {
        IpAddr::V4(ip) => socket.join_multicast_v4(&V4_GROUP, &ip),
        IpAddr::V6(_) => socket.join_multicast_v6(&V6_GROUP, index),
    };
    match joined {
        // By another address of the interface.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(()),
        other => other,
    }
}

fn no_interface(config: &MdnsConfig) -> String {
    match &config.interfaces[..] {
        [] => "no network interface but the loopback is up; interface=lo reaches the processes of \
               this host"
            .to_owned(),
        chosen => format!("no network interface is up of those chosen: {}", chosen.join(", ")),
    }
}

fn port_taken(port: u16, error: io::Error) -> Error {
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("UDP port {port} is taken by a program that does not share it")
        }
        _ => format!("UDP port {port} cannot be used"),
    };
    unavailable(message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use micro_registry::ErrorKind;
    use std::net::UdpSocket;

    fn config(interface: &str, port: u16) -> MdnsConfig {
        let mut config = MdnsConfig::new();
        (config.interfaces, config.port) = (vec![interface.into()], port);
        config
    }

    /// A port that somebody keeps to himself is named, and one that is free will do.
    #[test]
    fn a_taken_port_is_told() {
        let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = prove(&config("127.0.0.1", port)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let told = error.chain();
        assert!(told.starts_with(&format!("UDP port {port} is taken by a program")), "{told}");
        drop(taken);
        prove(&config("127.0.0.1", port)).unwrap();
    }

    /// An interface that is not there is named.
    #[test]
    fn a_missing_interface_is_told() {
        let error = prove(&config("nosuch0", 15_353)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("of those chosen: nosuch0"), "{error}");
    }
}
