//! What can be configured, and how a URL says it.

use std::fmt;
use std::time::Duration;

use micro_registry::{DEFAULT_NAMESPACE, Error, ErrorKind, RegistryUrl, validate};

/// How an etcd registry is set up.
///
/// ```
/// use micro_registry_etcd::EtcdConfig;
///
/// let mut config = EtcdConfig::new(["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]);
/// config.namespace = "shop".into();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EtcdConfig {
    /// The members of the cluster, each `host`, `host:port` or `[v6]:port`; the port is 2379 when it is
    /// left out. The more of them are named, the more may fail.
    pub endpoints: Vec<String>,
    /// What all keys begin with: `/<prefix>/<namespace>/…`. Segments of `[A-Za-z0-9._-]+`, separated
    /// by `/`. Default `micro`.
    pub prefix: String,
    /// The namespace, `[a-z0-9._-]{1,128}`; handles of different ones do not see each other. That of
    /// go-micro's records is `registry`. Default `default`.
    pub namespace: String,
    /// Who we are, for an etcd with authentication. Default: nobody.
    pub user: Option<EtcdUser>,
    /// TLS, for all endpoints; `None`, the default, is plain text.
    pub tls: Option<EtcdTls>,
    /// When a call is given up, with all its repetitions at other endpoints; an hour at most. Default
    /// 5 s.
    pub deadline: Duration,
    /// When one request at one endpoint is given up for the next endpoint; more than zero, and less
    /// than [`deadline`](Self::deadline) if there is to be time for another. Default 1.5 s.
    pub request_timeout: Duration,
}

/// A user of etcd and the password. `Debug` does not show the latter.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdUser {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// What TLS needs beyond its defaults. `Debug` does not show the key.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EtcdTls {
    /// Certificates, in PEM, one of which must have signed the server's. Default: those the system
    /// trusts.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate and its key, in PEM, where the server asks for one. Default: none.
    pub identity: Option<EtcdIdentity>,
    /// The name the server's certificate must have. Default: the host of the endpoint.
    pub server_name: Option<String>,
}

/// A certificate and its private key. `Debug` does not show the latter.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdIdentity {
    /// The certificate, with those between it and the CA, in PEM.
    pub certificate: Vec<u8>,
    /// The private key, in PEM.
    pub key: Vec<u8>,
}

impl EtcdConfig {
    /// The defaults, for these endpoints.
    pub fn new<E: Into<String>>(endpoints: impl IntoIterator<Item = E>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            prefix: DEFAULT_PREFIX.to_owned(),
            namespace: DEFAULT_NAMESPACE.to_owned(),
            user: None,
            tls: None,
            deadline: Duration::from_secs(5),
            request_timeout: Duration::from_millis(1_500),
        }
    }

    /// What a URL says: `etcd://user:password@h1:2379,h2:2379/prefix?namespace=shop`.
    ///
    /// TLS is on with `tls=true`, or with any of `ca`, `cert` and `key`, which are files in PEM, and
    /// `server-name`. User and password are taken as they stand, without any escapes, and
    /// cannot contain `?`.
    ///
    /// Reads the files that the URL names.
    ///
    /// # Errors
    ///
    /// `Invalid`, saying what would be right: another scheme, no host, a trailing slash, an unknown
    /// query key, a file that cannot be read, and what [`Etcd::new`](crate::Etcd::new) refuses.
    pub fn from_url(mut url: RegistryUrl) -> Result<Self, Error> {
        if url.scheme() != "etcd" {
            return Err(invalid(format!("registry `{url}` is not an etcd one: {EXPECTED}")));
        }
        let authority = url.authority().filter(|authority| !authority.is_empty());
        let no_host = || invalid(format!("registry `{url}` names no host: {EXPECTED}"));
        let (user, hosts) = match authority.ok_or_else(no_host)?.rsplit_once('@') {
            Some((user, hosts)) => (Some(EtcdUser::parse(user)?), hosts),
            None => (None, authority.unwrap_or_default()),
        };
        let mut config = Self { user, ..Self::new(hosts.split(',')) };
        match url.path().strip_prefix('/') {
            None => {}
            Some(prefix) if prefix.is_empty() || prefix.ends_with('/') => {
                return Err(invalid(format!("registry `{url}` ends in a slash: {EXPECTED}")));
            }
            Some(prefix) => config.prefix = prefix.to_owned(),
        }
        if let Some(namespace) = url.take("namespace") {
            config.namespace = namespace;
        }
        config.tls = EtcdTls::take(&mut url)?;
        url.finish(&["namespace", "tls", "ca", "cert", "key", "server-name"])?;
        config.validate()?;
        Ok(config)
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        validate::namespace(&self.namespace)?;
        if self.endpoints.is_empty() {
            return Err(invalid("no endpoint of etcd is given: expected at least one host:port"));
        }
        self.addresses()?;
        if !self.prefix.split('/').all(is_segment) {
            return Err(invalid(format!(
                "prefix {:?} of the etcd registry is invalid: expected [A-Za-z0-9._-]+, or several \
                 of these with / between them",
                self.prefix
            )));
        }
        if self.deadline > MAX_DEADLINE {
            let deadline = self.deadline;
            return Err(invalid(format!(
                "deadline {deadline:?} is invalid: expected an hour or less"
            )));
        }
        if self.request_timeout.is_zero() || self.request_timeout > self.deadline {
            return Err(invalid(format!(
                "request timeout {:?} is invalid: expected more than zero, and not more than the \
                 deadline, {:?}",
                self.request_timeout, self.deadline
            )));
        }
        self.tls.as_ref().map_or(Ok(()), EtcdTls::validate)
    }

    /// The endpoints, each as `host:port`.
    pub(crate) fn addresses(&self) -> Result<Vec<String>, Error> {
        self.endpoints.iter().map(|endpoint| address(endpoint)).collect()
    }
}

impl EtcdUser {
    fn parse(text: &str) -> Result<Self, Error> {
        match text.split_once(':') {
            Some((name, password)) if !name.is_empty() => {
                Ok(Self { name: name.to_owned(), password: password.to_owned() })
            }
            _ => Err(invalid("what stands before the @ is invalid: expected user:password")),
        }
    }
}

impl EtcdTls {
    /// Takes what is about TLS out of a URL; reads the files.
    fn take(url: &mut RegistryUrl) -> Result<Option<Self>, Error> {
        let wanted = match url.take("tls").as_deref() {
            None => None,
            Some("true") => Some(true),
            Some("false") => Some(false),
            Some(other) => {
                return Err(invalid(format!("tls={other} is invalid: expected true or false")));
            }
        };
        let (ca, cert, key) = (url.take("ca"), url.take("cert"), url.take("key"));
        let server_name = url.take("server-name");
        let implied = ca.is_some() || cert.is_some() || key.is_some() || server_name.is_some();
        match wanted {
            Some(false) if implied => {
                return Err(invalid(
                    "tls=false with ca, cert, key or server-name: expected one of \
                                    the two",
                ));
            }
            Some(false) => return Ok(None),
            None if !implied => return Ok(None),
            _ => {}
        }
        let identity = match (cert, key) {
            (None, None) => None,
            (Some(cert), Some(key)) => {
                let (certificate, key) = (read("cert", &cert)?, read("key", &key)?);
                Some(EtcdIdentity { certificate, key })
            }
            _ => return Err(invalid("cert and key belong together: expected both or none")),
        };
        let ca = ca.map(|ca| read("ca", &ca)).transpose()?;
        Ok(Some(Self { ca, identity, server_name }))
    }

    fn validate(&self) -> Result<(), Error> {
        let identity = self.identity.as_ref();
        for (what, pem, label) in [
            ("CA", self.ca.as_ref(), "CERTIFICATE-----"),
            ("client certificate", identity.map(|own| &own.certificate), "CERTIFICATE-----"),
            ("key of the client certificate", identity.map(|own| &own.key), "PRIVATE KEY-----"),
        ] {
            let Some(pem) = pem else { continue };
            if !pem.windows(label.len()).any(|part| part == label.as_bytes()) {
                let message = format!(
                    "the {what} for etcd is invalid: expected PEM, with a line \
                                       -----BEGIN … {label}"
                );
                return Err(invalid(message));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for EtcdUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdUser").field("name", &self.name).field("password", &Hidden).finish()
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls")
            .field("ca", &self.ca.as_ref().map(|_| "PEM"))
            .field("identity", &self.identity)
            .field("server_name", &self.server_name)
            .finish()
    }
}

impl fmt::Debug for EtcdIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdIdentity").field("certificate", &"PEM").field("key", &Hidden).finish()
    }
}

const DEFAULT_PREFIX: &str = "micro";
const DEFAULT_PORT: u16 = 2379;
const EXPECTED: &str = "expected etcd://host:port,host:port/prefix?namespace=name; port, prefix \
                        and namespace may be left out";

/// What stands in the place of a secret.
struct Hidden;

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// An endpoint with its port.
const MAX_DEADLINE: Duration = Duration::from_secs(3_600);

fn address(endpoint: &str) -> Result<String, Error> {
    let wrong = || {
        let hint = match endpoint.rsplit_once('@') {
            Some(_) => ", and the user apart from it",
            None if endpoint.contains("//") => ", without http:// or https://",
            None => "",
        };
        let expected = format!("expected host, host:port or [v6 address]:port{hint}");
        // What stands before an @ may be a password.
        let shown = endpoint.rsplit_once('@').map(|(_, host)| format!("***@{host}"));
        let shown = shown.as_deref().unwrap_or(endpoint);
        invalid(format!("endpoint {shown:?} of etcd is invalid: {expected}"))
    };
    let (host, port) = match endpoint.rsplit_once(':') {
        // The colon of `[::1]` is within the brackets.
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (endpoint, DEFAULT_PORT),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => is_segment(host),
    };
    if port == 0 || !is_host { Err(wrong()) } else { Ok(format!("{host}:{port}")) }
}

fn is_segment(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

fn read(what: &str, path: &str) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| {
        invalid(format!("file {path:?} of `{what}` cannot be read: {source}")).with_source(source)
    })
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<EtcdConfig, Error> {
        EtcdConfig::from_url(url.parse()?)
    }

    /// Every documented form of a URL means what it says.
    #[test]
    fn urls() {
        let config = parse("etcd://ann:s/e@c:r:et@h1,h2:1,[::1]:7/a/b?namespace=shop").unwrap();
        assert_eq!(config.addresses().unwrap(), ["h1:2379", "h2:1", "[::1]:7"]);
        assert_eq!((&*config.prefix, &*config.namespace), ("a/b", "shop"));
        let user = config.user.unwrap();
        assert_eq!((&*user.name, &*user.password), ("ann", "s/e@c:r:et"));
        assert_eq!(parse("etcd://h").unwrap(), EtcdConfig::new(["h"]));
        assert_eq!(parse("etcd://[::1]").unwrap().addresses().unwrap(), ["[::1]:2379"]);
        assert_eq!(parse("etcd://h?tls=true").unwrap().tls, Some(EtcdTls::default()));
        assert_eq!(parse("etcd://h?tls=false").unwrap().tls, None);
        let named = EtcdTls { server_name: Some("etcd".into()), ..EtcdTls::default() };
        assert_eq!(parse("etcd://h?server-name=etcd").unwrap().tls, Some(named));
    }

    /// What is not understood is refused, with what would be right.
    #[test]
    fn urls_that_are_wrong() {
        for (bad, hint) in [
            ("local:/x", "is not an etcd one: expected etcd://host:port"),
            ("etcd:", "names no host"),
            ("etcd:///micro", "names no host"),
            ("etcd://h/", "ends in a slash"),
            ("etcd://h/micro/", "ends in a slash"),
            ("etcd://h//micro", "prefix \"/micro\""),
            ("etcd://h/mi cro", "prefix \"mi cro\""),
            ("etcd://h:x", "expected host, host:port"),
            ("etcd://h:0", "expected host, host:port"),
            ("etcd://h:", "expected host, host:port"),
            ("etcd://h,", "endpoint \"\""),
            ("etcd://::1", "[v6 address]:port"),
            ("etcd://ann@h", "expected user:password"),
            ("etcd://h?namespace=No", "namespace \"No\""),
            ("etcd://h?tls=yes", "expected true or false"),
            ("etcd://h?tls=false&server-name=x", "expected one of the two"),
            ("etcd://h?ca=/no/such", "file \"/no/such\" of `ca` cannot be read"),
            ("etcd://h?cert=/dev/null", "expected both or none"),
            ("etcd://h?ca=/dev/null", "expected PEM"),
            ("etcd://h?ttl=3", "expected namespace, tls, ca"),
        ] {
            let error = parse(bad).expect_err(bad);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(hint), "{bad}: {error}");
        }
        let with_scheme = EtcdConfig::new(["http://h:2379"]).validate().unwrap_err();
        assert!(with_scheme.to_string().contains("without http://"), "{with_scheme}");
        let with_user = EtcdConfig::new(["http://ann:hunter2@h:2379"]).validate().unwrap_err();
        let expected = "endpoint \"***@h:2379\" of etcd is invalid";
        assert!(with_user.to_string().starts_with(expected), "{with_user}");
    }

    /// Neither password nor key is ever printed.
    #[test]
    fn never_shows_a_secret() {
        let mut config = parse("etcd://ann:hunter2@h").unwrap();
        let identity = EtcdIdentity { certificate: b"hunter2".into(), key: b"hunter2".into() };
        config.tls = Some(EtcdTls { identity: Some(identity), ..EtcdTls::default() });
        let shown = format!("{config:?}");
        assert!(shown.contains("ann") && !shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("104, 117"), "{shown}");
        let error = parse("etcd://hunter2@h").unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    /// Times that leave no time are refused.
    #[test]
    fn times() {
        let mut config = EtcdConfig::new(["h"]);
        config.request_timeout = Duration::from_secs(6);
        assert!(config.validate().unwrap_err().to_string().contains("deadline"));
        config.request_timeout = Duration::ZERO;
        assert!(config.validate().is_err());
        config = EtcdConfig::new(["h"]);
        config.deadline = Duration::MAX;
        assert!(config.validate().unwrap_err().to_string().contains("an hour or less"));
    }
}
