//! What a gateway is told.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use http::header::HeaderName;
use micro::registry::validate;

use crate::Access;

/// What a gateway is told. [`Default`] listens on the loopback, for everybody on this host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Where it listens. Default: `127.0.0.1:8080`; port 0 is a free one.
    pub listen: SocketAddr,
    /// Whether other hosts may reach it. Without, an address that is not of the loopback is refused:
    /// behind it every service can be called. Default: `false`.
    pub remote: bool,
    /// Names with a dot by which callers may know it in `Host`, without a port. Addresses,
    /// `localhost` and names without a dot are always good. Default: none.
    pub hosts: Vec<String>,
    /// Origins whose pages may call, such as `https://shop.example`: browsers are told so (CORS).
    /// Default: none but its own.
    pub origins: Vec<String>,
    /// The services that can be called and seen. Default: `None`, all there are.
    pub services: Option<BTreeSet<String>>,
    /// Who may ask. Default: [`Access::Anybody`].
    pub access: Access,
    /// Headers that go along as metadata of their name, besides `authorization` and `micro-meta-*`.
    /// Default: none.
    pub forward: Vec<HeaderName>,
    /// How long calls may take that say nothing, of a day at most. Default: 10 s.
    pub timeout: Duration,
    /// How long a call may take at most, whatever it says; not less than `timeout`, of a day at most.
    /// Default: an hour.
    pub max_timeout: Duration,
    /// The longest body in bytes; 1 to 67 076 096. Default: 4 161 536, which with its head fits into
    /// what a service takes by default.
    pub max_body: usize,
    /// How many connections there may be at once; one at least. More wait until one closes. A quarter
    /// of them, one at least, may listen to `/events`. Default: 10 000.
    pub max_connections: usize,
    /// How long the head of a request may take, and its body, and how long nobody may read of an
    /// answer: who reads less than 64 KiB of one that waits is dropped after one to two times as
    /// long. Between two requests a caller may rest for 90 s, or for this time if it is longer. More
    /// than zero. Default: 10 s.
    pub stall_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 8080).into(),
            remote: false,
            hosts: Vec::new(),
            origins: Vec::new(),
            services: None,
            access: Access::default(),
            forward: Vec::new(),
            timeout: Duration::from_secs(10),
            max_timeout: Duration::from_secs(3600),
            max_body: 4 * 1024 * 1024 - HEAD,
            max_connections: 10_000,
            stall_timeout: Duration::from_secs(10),
        }
    }
}

/// More than the head of any request takes in a frame.
const HEAD: usize = 32 * 1024;
/// The longest frame there is.
const LONGEST: usize = 64 * 1024 * 1024;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Config {
    /// Checks that it makes sense.
    ///
    /// # Errors
    ///
    /// For the first value that does not, with what would be right.
    pub fn check(&self) -> Result<(), Invalid> {
        let Self { listen, remote, timeout, max_body, max_connections, stall_timeout, .. } = self;
        if !listen.ip().is_loopback() && !remote {
            return Err(Invalid::new("listen", listen, EXPOSED));
        }
        for (what, time) in [("timeout", timeout), ("stall_timeout", stall_timeout)] {
            if time.is_zero() || *time > DAY {
                return Err(Invalid::new(
                    what,
                    format!("{time:?}"),
                    "more than zero, a day at most",
                ));
            }
        }
        if self.max_timeout < *timeout || self.max_timeout > DAY {
            let value = format!("{:?}", self.max_timeout);
            return Err(Invalid::new("max_timeout", value, "`timeout` or more, a day at most"));
        }
        if !(1..=LONGEST - HEAD).contains(max_body) {
            return Err(Invalid::new("max_body", max_body, "1 to 67076096 bytes"));
        }
        if *max_connections == 0 {
            return Err(Invalid::new("max_connections", max_connections, "1 or more"));
        }
        self.check_names()
    }

    fn check_names(&self) -> Result<(), Invalid> {
        for origin in &self.origins {
            if !is_origin(origin) {
                return Err(Invalid::new("origins", format!("{origin:?}"), ORIGIN));
            }
        }
        for host in &self.hosts {
            if host.is_empty() || host.contains([':', '/', '*', '@']) {
                return Err(Invalid::new("hosts", format!("{host:?}"), HOST));
            }
        }
        for service in self.services.iter().flatten() {
            if validate::service_name(service).is_err() {
                return Err(Invalid::new("services", format!("{service:?}"), "names of services"));
            }
        }
        self.check_access()
    }

    fn check_access(&self) -> Result<(), Invalid> {
        let empty = match &self.access {
            Access::Bearer(values) | Access::Header { values, .. } => {
                values.is_empty() || values.iter().any(|value| value.trim().is_empty())
            }
            Access::Anybody | Access::Rule(_) => false,
        };
        if empty {
            let expected = "one token or value at least, and none that is empty";
            return Err(Invalid::new("access", format!("{:?}", self.access), expected));
        }
        match self.forward.iter().find(|name| !is_metadata_key(name)) {
            Some(name) => Err(Invalid::new("forward", format!("{name:?}"), FORWARD)),
            None => Ok(()),
        }
    }

    pub(crate) fn allows(&self, service: &str) -> bool {
        self.services.as_ref().is_none_or(|services| services.contains(service))
    }
}

const EXPOSED: &str = "an address of the loopback, or `remote`: whoever reaches it may call every \
                       service, so say that other hosts are to reach it";
const ORIGIN: &str =
    "a scheme, a host and perhaps a port, as browsers write it: https://shop.example";
const HOST: &str = "a name without a port, such as api.shop.example";
const FORWARD: &str = "a header of a-z, 0-9, `.`, `_`, `-` that says something about the caller";

/// As browsers write it: lower case, without a path; `null` and `*` name nobody.
fn is_origin(text: &str) -> bool {
    let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_good = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b':' | b'[' | b']');
    authority.is_some_and(|authority| !authority.is_empty() && authority.bytes().all(is_good))
}

fn is_metadata_key(name: &HeaderName) -> bool {
    let allowed = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let name = name.as_str();
    // What is about the connection, or is read already, is nothing to pass on.
    const OURS: [&str; 6] = [
        "authorization",
        "connection",
        "content-length",
        "host",
        "traceparent",
        "transfer-encoding",
    ];
    name.len() <= 128 && name.bytes().all(allowed) && !OURS.contains(&name)
}

/// A value that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value} is invalid: expected {expected}")]
pub struct Invalid {
    what: &'static str,
    value: String,
    expected: &'static str,
}

impl Invalid {
    fn new(what: &'static str, value: impl ToString, expected: &'static str) -> Self {
        Self { what, value: value.to_string(), expected }
    }

    /// Which field it is.
    #[must_use]
    pub fn field(&self) -> &'static str {
        self.what
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each value that makes no sense is refused under its own name.
    #[test]
    fn what_makes_no_sense() {
        type Change = fn(&mut Config);
        let wrong: [(&str, Change); 16] = [
            ("listen", |config| config.listen = ([0, 0, 0, 0], 80).into()),
            ("listen", |config| config.listen = ([10, 0, 0, 1], 80).into()),
            ("timeout", |config| config.timeout = Duration::ZERO),
            ("timeout", |config| config.timeout = Duration::MAX),
            ("stall_timeout", |config| config.stall_timeout = Duration::ZERO),
            ("max_timeout", |config| config.max_timeout = Duration::from_secs(9)),
            ("max_timeout", |config| config.max_timeout = Duration::MAX),
            ("max_body", |config| config.max_body = 0),
            ("max_body", |config| config.max_body = LONGEST),
            ("max_connections", |config| config.max_connections = 0),
            ("origins", |config| config.origins = vec!["*".into()]),
            ("origins", |config| config.origins = vec!["https://shop.example/".into()]),
            ("hosts", |config| config.hosts = vec!["shop.example:80".into()]),
            ("services", |config| config.services = Some([String::from("a b")].into())),
            ("access", |config| config.access = Access::Bearer(Vec::new())),
            ("forward", |config| config.forward = vec![http::header::HOST]),
        ];
        for (field, change) in wrong {
            let mut config = Config::default();
            assert_eq!(config.check(), Ok(()));
            change(&mut config);
            assert_eq!(config.check().map_err(|invalid| invalid.field()), Err(field));
        }
    }

    /// Other hosts are let in when that is said, and the loopback needs no word.
    #[test]
    fn where_to_listen() {
        let mut config = Config { listen: ([0, 0, 0, 0], 80).into(), ..Config::default() };
        let message = config.check().expect_err("it was not said").to_string();
        assert!(message.contains("0.0.0.0:80") && message.contains("`remote`"), "{message}");
        config.remote = true;
        assert_eq!(config.check(), Ok(()));
        let loopback = Config { listen: "[::1]:0".parse().expect("one"), ..Config::default() };
        assert_eq!(loopback.check(), Ok(()));
    }
}
