//! Where a node listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a node listens.
///
/// The text form is `host:port` (an IPv6 host in brackets), `unix:/path` or `memory:name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A TCP port.
    Tcp {
        /// An IP address, without brackets, or a name to resolve when connecting.
        host: String,
        /// The port; 0 asks for a free one, and only a listener can do that.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
    /// A name in a [`MemoryNetwork`](crate::MemoryNetwork).
    Memory(String),
}

impl Address {
    /// Returns the address of a TCP port of a host.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp { host: host.into(), port }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::tcp(address.ip().to_string(), address.port())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Memory(name) => write!(f, "memory:{name}"),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let parsed = match text.split_once(':') {
            Some(("unix", path)) => (!path.is_empty()).then(|| Self::Unix(path.into())),
            Some(("memory", name)) => (!name.is_empty()).then(|| Self::Memory(name.into())),
            _ => parse_tcp(text),
        };
        parsed.ok_or_else(|| InvalidAddress(text.to_owned()))
    }
}

fn parse_tcp(text: &str) -> Option<Address> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok()?;
    if let Some(inner) = host.strip_prefix('[') {
        let host = inner.strip_suffix(']')?;
        return host.parse::<std::net::Ipv6Addr>().is_ok().then(|| Address::tcp(host, port));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!host.is_empty() && host.chars().all(plain)).then(|| Address::tcp(host, port))
}

/// A text that is not an [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address; write `host:port`, `[ipv6]:port`, `unix:/path/to/socket` or `memory:name`"
)]
pub struct InvalidAddress(String);

#[cfg(test)]
mod tests {
    use super::*;

    /// What displays parses back to the same address.
    #[test]
    fn round_trips() {
        for text in ["127.0.0.1:80", "[::1]:8080", "node-1.example:1", "unix:/run/a b", "memory:x"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        let socket: SocketAddr = "[::1]:7".parse().unwrap();
        assert_eq!(Address::from(socket).to_string(), "[::1]:7");
    }

    /// A wrong address is named, with the forms that would be right.
    #[test]
    fn errors_say_what_is_right() {
        for text in
            ["", "localhost", ":1", "::1:80", "[::1:80", "a:70000", "unix:", "memory:", "a b:1"]
        {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("host:port"), "{error}");
        }
    }
}
