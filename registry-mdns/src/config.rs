//! What can be configured.

use std::net::IpAddr;

use micro_registry::{DEFAULT_NAMESPACE, Error, RegistryUrl, validate};

use crate::error::invalid;

/// How an [`MdnsRegistry`](crate::MdnsRegistry) is set up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MdnsConfig {
    /// The namespace, `[a-z0-9._-]{1,128}`; handles of different ones do not see each other.
    /// Default `default`.
    pub namespace: String,
    /// The network interfaces to use, each by its name (`eth0`) or by one of its addresses, which
    /// also says which version of IP. Default none, which means all but the loopback: who has no
    /// network at all is told so, and names `lo` to reach the processes of one host.
    pub interfaces: Vec<String>,
    /// The UDP port everybody listens on. Default 5353, that of multicast DNS; another one is a
    /// network of its own, which other programs for multicast DNS do not see.
    pub port: u16,
}

impl MdnsConfig {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            namespace: DEFAULT_NAMESPACE.to_owned(),
            interfaces: Vec::new(),
            port: mdns_sd::MDNS_PORT,
        }
    }

    /// What a URL says: `mdns:`, with `?namespace=shop&interface=eth0,eth1&port=5353` or a part.
    pub(crate) fn from_url(mut url: RegistryUrl) -> Result<Self, Error> {
        const KEYS: [&str; 3] = ["namespace", "interface", "port"];
        if url.scheme() != "mdns" || url.authority().is_some() || !url.path().is_empty() {
            return Err(invalid(format!(
                "registry `{url}` is invalid: expected mdns: or mdns:?namespace=name&interface=eth0"
            )));
        }
        let mut config = Self::new();
        if let Some(namespace) = url.take(KEYS[0]) {
            config.namespace = namespace;
        }
        if let Some(interfaces) = url.take(KEYS[1]) {
            config.interfaces = interfaces.split(',').map(str::to_owned).collect();
        }
        if let Some(port) = url.take(KEYS[2]) {
            config.port = port.parse().map_err(|_| bad_port(&port))?;
        }
        url.finish(&KEYS)?;
        Ok(config)
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        validate::namespace(&self.namespace)?;
        if self.port == 0 {
            return Err(bad_port("0"));
        }
        let is_name = |name: &String| !name.is_empty() && !name.contains(char::is_whitespace);
        match self.interfaces.iter().find(|name| !is_name(name)) {
            Some(bad) => Err(invalid(format!(
                "interface {bad:?} is invalid: expected a name such as eth0, or an address"
            ))),
            None => Ok(()),
        }
    }

    /// Whether to use this address of an interface.
    pub(crate) fn selects(&self, name: &str, ip: IpAddr) -> bool {
        if self.interfaces.is_empty() {
            return !ip.is_loopback();
        }
        self.interfaces.iter().any(|chosen| chosen == name || chosen.parse() == Ok(ip))
    }
}

impl Default for MdnsConfig {
    fn default() -> Self {
        Self::new()
    }
}

fn bad_port(port: &str) -> Error {
    invalid(format!("port {port:?} of the mdns registry is invalid: expected 1 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use micro_registry::ErrorKind;

    fn parse(url: &str) -> Result<MdnsConfig, Error> {
        let config = MdnsConfig::from_url(url.parse()?)?;
        config.validate().map(|()| config)
    }

    /// Every documented form of a URL means what it says.
    #[test]
    fn urls() {
        assert_eq!(parse("mdns:").unwrap(), MdnsConfig::new());
        let all = parse("mdns:?namespace=shop&interface=eth0,10.0.0.1&port=15353").unwrap();
        assert_eq!((&*all.namespace, all.port), ("shop", 15_353));
        assert_eq!(all.interfaces, ["eth0", "10.0.0.1"]);
    }

    /// What is not understood is refused, with what would be right.
    #[test]
    fn urls_that_are_wrong() {
        for (bad, hint) in [
            ("mdns://host", "expected mdns:"),
            ("mdns:shop", "expected mdns:"),
            ("local:", "expected mdns:"),
            ("mdns:?port=0", "port \"0\""),
            ("mdns:?port=x", "expected 1 to 65535"),
            ("mdns:?interface=", "interface \"\""),
            ("mdns:?namespace=No", "namespace \"No\""),
            ("mdns:?ttl=3", "expected namespace, interface, port"),
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(hint), "{bad}: {error}");
        }
    }

    /// Without a choice it is everything but the loopback; a choice is by name or by address.
    #[test]
    fn interfaces() {
        let ip = |text: &str| text.parse().unwrap();
        let all = MdnsConfig::new();
        assert!(all.selects("eth0", ip("10.0.0.1")) && !all.selects("lo", ip("127.0.0.1")));
        let mut some = MdnsConfig::new();
        some.interfaces = vec!["lo".into(), "10.0.0.1".into()];
        assert!(some.selects("lo", ip("::1")) && some.selects("eth0", ip("10.0.0.1")));
        assert!(!some.selects("eth0", ip("fe80::1")) && !some.selects("eth1", ip("10.0.0.2")));
    }
}
