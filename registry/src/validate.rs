//! The one place that knows what may be registered.
//!
//! Every backend calls [`registration`] before any I/O, so that a name refused by one is refused by
//! all.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::Value;

use crate::{Endpoint, Error, ErrorKind, Metadata, Node, Registration, encoding};

/// The longest name of a service or a namespace, in bytes.
pub const MAX_NAME: usize = 128;
/// The longest node id, in bytes.
pub const MAX_ID: usize = 96;
/// The most metadata entries one map may have.
pub const MAX_METADATA_ENTRIES: usize = 64;
/// The longest metadata key, in bytes.
pub const MAX_METADATA_KEY: usize = 128;
/// All keys and values of one metadata map together, in bytes.
pub const MAX_METADATA_BYTES: usize = 8 * 1024;

/// The longest [stored form](crate::encoding) of a registration, in bytes: what every engine takes.
pub const MAX_RECORD_BYTES: usize = 1024 * 1024;
/// How deep the JSON Schema of an endpoint may nest; deeper records could be written, not read.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// The longest time a registration may live without renewal.
pub const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Checks a registration and its TTL.
///
/// # Errors
///
/// [`ErrorKind::Invalid`], naming the field, its value and what would be right.
pub fn registration(registration: &Registration, ttl: Duration) -> Result<(), Error> {
    if ttl.is_zero() || ttl > MAX_TTL {
        let ttl = if ttl.is_zero() { "0s".to_owned() } else { format!("{ttl:?}") };
        return Err(invalid("ttl", &ttl, "more than zero and at most a year"));
    }
    identity(registration)?;
    version(&registration.version)?;
    metadata("service metadata", &registration.metadata)?;
    for endpoint in registration.endpoints.as_slice() {
        metadata("endpoint metadata", &endpoint.metadata)?;
        schema(endpoint)?;
    }
    node(&registration.node)?;
    record(registration)
}

/// Checks what names a registration: service and node id, all that a removal needs.
///
/// # Errors
///
/// [`ErrorKind::Invalid`], naming the field, its value and what would be right.
pub fn identity(registration: &Registration) -> Result<(), Error> {
    service_name(&registration.service)?;
    node_id(&registration.node.id)
}

/// Checks the name of a service: `[a-z0-9._-]{1,128}`, and not only dots.
///
/// # Errors
///
/// [`ErrorKind::Invalid`].
pub fn service_name(name: &str) -> Result<(), Error> {
    name_like("service name", name)
}

/// Checks a namespace: the same form as a service name.
///
/// # Errors
///
/// [`ErrorKind::Invalid`].
pub fn namespace(name: &str) -> Result<(), Error> {
    name_like("namespace", name)
}

/// Checks a node id: `[A-Za-z0-9._-]{1,96}`, and not only dots.
///
/// # Errors
///
/// [`ErrorKind::Invalid`].
pub fn node_id(id: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if is_token(id, MAX_ID, allowed) {
        return Ok(());
    }
    Err(invalid("node id", id, "1 to 96 of A-Z a-z 0-9 . _ - (not only dots)"))
}

/// Checks an advertised address: `ip:port`, `host:port`, `unix:/path` or `memory:name`; neither an
/// unspecified address (`0.0.0.0`, `[::]`) nor port 0, which nobody could connect to.
///
/// # Errors
///
/// [`ErrorKind::Invalid`].
pub fn address(address: &str) -> Result<(), Error> {
    const EXPECTED: &str = "ip:port, host:port, unix:/path or memory:name";
    // People read addresses on terminals, which obey these.
    if address.contains(char::is_control) {
        return Err(invalid("address", address, "no control characters"));
    }
    if let Some(path) = address.strip_prefix("unix:") {
        let ok = path.starts_with('/') && path.len() > 1;
        return if ok { Ok(()) } else { Err(invalid("address", address, EXPECTED)) };
    }
    if let Some(name) = address.strip_prefix("memory:") {
        return if name.is_empty() { Err(invalid("address", address, EXPECTED)) } else { Ok(()) };
    }
    if let Ok(socket) = address.parse::<std::net::SocketAddr>() {
        if socket.ip().is_unspecified() {
            return Err(invalid("address", address, "an address others can connect to"));
        }
        if socket.port() == 0 {
            return Err(invalid("address", address, "a port greater than 0"));
        }
        return Ok(());
    }
    let host_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    match address.rsplit_once(':') {
        Some((host, port))
            if is_token(host, 253, host_allowed) && port.parse::<u16>().is_ok_and(|p| p > 0) =>
        {
            Ok(())
        }
        _ => Err(invalid("address", address, EXPECTED)),
    }
}

/// Checks a zone: `[A-Za-z0-9._-]{1,128}`, and not only dots.
///
/// # Errors
///
/// [`ErrorKind::Invalid`].
pub fn zone(zone: &str) -> Result<(), Error> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if is_token(zone, MAX_NAME, allowed) {
        return Ok(());
    }
    Err(invalid("zone", zone, "1 to 128 of A-Z a-z 0-9 . _ - (not only dots)"))
}

/// Checks a version: `latest`, or a semantic version such as `1.4.2` or `2.0.0-rc.1+build.5`.
///
/// # Errors
///
/// [`ErrorKind::Invalid`].
pub fn version(version: &str) -> Result<(), Error> {
    if version == "latest" || is_semver(version) {
        return Ok(());
    }
    Err(invalid("version", version, "`latest` or a semantic version such as 1.4.2"))
}

/// The version as <https://semver.org> writes it, without leading zeros: `2026.1.5` for `2026.01.05`.
/// What is no version stays what it is.
///
/// ```
/// # use micro_registry::validate::plain_version;
/// assert_eq!(plain_version("2026.01.05-rc.01+007"), "2026.1.5-rc.1+007");
/// assert_eq!(plain_version("latest"), "latest");
/// ```
#[must_use]
pub fn plain_version(version: &str) -> Cow<'_, str> {
    let (rest, build) = version.split_at(version.find('+').unwrap_or(version.len()));
    let (core, pre) = rest.split_at(rest.find('-').unwrap_or(rest.len()));
    let has_zeros = |part: &str| part.len() > 1 && part.starts_with('0') && is_number(part);
    if !is_semver(version) || !core.split('.').chain(identifiers(pre)).any(has_zeros) {
        return version.into();
    }
    let pre_plain = identifiers(pre).map(plain_number).collect::<Vec<_>>().join(".");
    let core = core.split('.').map(plain_number).collect::<Vec<_>>().join(".");
    let dash = if pre.is_empty() { "" } else { "-" };
    format!("{core}{dash}{pre_plain}{build}").into()
}

/// Checks a metadata map against the limits; `what` names it in the error.
///
/// # Errors
///
/// [`ErrorKind::Invalid`].
pub fn metadata(what: &str, metadata: &Metadata) -> Result<(), Error> {
    if metadata.len() > MAX_METADATA_ENTRIES {
        let found = format!("{} entries", metadata.len());
        return Err(invalid(what, &found, "at most 64 entries"));
    }
    if let Some(key) = metadata.keys().find(|key| key.is_empty() || key.len() > MAX_METADATA_KEY) {
        return Err(invalid(&format!("{what} key"), key, "1 to 128 bytes"));
    }
    let bytes: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(invalid(what, &format!("{bytes} bytes"), "at most 8192 bytes in all"));
    }
    Ok(())
}

fn schema(endpoint: &Endpoint) -> Result<(), Error> {
    let mut schemas = endpoint.request.iter().chain(&endpoint.response).chain(&endpoint.error);
    if schemas.any(|schema| is_deeper(schema, MAX_SCHEMA_DEPTH)) {
        let what = "schema of endpoint";
        return Err(invalid(what, &endpoint.name, "JSON that nests at most 64 deep"));
    }
    Ok(())
}

fn is_deeper(value: &Value, depth: usize) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(values) => Box::new(values.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => return false,
    };
    depth == 0 || inner.any(|value| is_deeper(value, depth - 1))
}

/// What else is in it has its own limits; endpoints there may be as many as fit.
fn record(registration: &Registration) -> Result<(), Error> {
    let bytes = encoding::encode(registration).len();
    if bytes > MAX_RECORD_BYTES {
        let expected = "at most 1048576 bytes when stored: omit the endpoints or their schemas";
        return Err(invalid("registration", &format!("{bytes} bytes"), expected));
    }
    Ok(())
}

fn node(node: &Node) -> Result<(), Error> {
    address(&node.address)?;
    if node.weight > Node::MAX_WEIGHT {
        return Err(invalid("weight", &node.weight.to_string(), "0 to 10000"));
    }
    if let Some(name) = &node.zone {
        zone(name)?;
    }
    metadata("node metadata", &node.metadata)
}

fn name_like(what: &str, name: &str) -> Result<(), Error> {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if is_token(name, MAX_NAME, allowed) {
        return Ok(());
    }
    Err(invalid(what, name, "1 to 128 of a-z 0-9 . _ - (not only dots)"))
}

/// `.` and `..` are refused because names become parts of paths in more than one engine.
fn is_token(text: &str, max: usize, allowed: impl Fn(u8) -> bool) -> bool {
    (1..=max).contains(&text.len())
        && text.bytes().all(allowed)
        && text.bytes().any(|byte| byte != b'.')
}

/// The grammar of <https://semver.org> 2.0.0, without its rule on leading zeros.
fn is_semver(version: &str) -> bool {
    if version.len() > MAX_NAME {
        return false;
    }
    let (rest, build) = match version.split_once('+') {
        Some((rest, build)) => (rest, Some(build)),
        None => (version, None),
    };
    let (core, pre) = match rest.split_once('-') {
        Some((core, pre)) => (core, Some(pre)),
        None => (rest, None),
    };
    let mut numbers = core.split('.');
    let three_numbers = numbers.by_ref().take(3).filter(|n| n.parse::<u64>().is_ok()).count() == 3
        && numbers.next().is_none();
    three_numbers && [pre, build].into_iter().flatten().all(is_dotted_identifiers)
}

/// The identifiers of a pre-release, with its dash.
fn identifiers(pre: &str) -> impl Iterator<Item = &str> {
    pre.strip_prefix('-').into_iter().flat_map(|pre| pre.split('.'))
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|byte| byte.is_ascii_digit())
}

fn plain_number(part: &str) -> &str {
    match part.trim_start_matches('0') {
        _ if !is_number(part) => part,
        "" => "0",
        plain => plain,
    }
}

fn is_dotted_identifiers(text: &str) -> bool {
    text.split('.').all(|part| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    })
}

fn invalid(what: &str, value: &str, expected: &str) -> Error {
    let shown: String = value.chars().take(160).collect();
    Error::new(ErrorKind::Invalid, format!("{what} {shown:?} is invalid: expected {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn valid() -> Registration {
        Registration::new("greeter", "1.2.3", Node::new("a", "127.0.0.1:1"))
    }

    /// Every rule of the model refuses what breaks it and names the value.
    #[test]
    fn refuses_what_breaks_a_rule() {
        type Break = Box<dyn Fn(&mut Registration)>;
        let cases: Vec<(Break, &str)> = vec![
            (Box::new(|r| r.service = String::new()), "service name \"\""),
            (Box::new(|r| r.service = "Greeter".into()), "service name \"Greeter\""),
            (Box::new(|r| r.service = "..".into()), "service name \"..\""),
            (Box::new(|r| r.service = "a/b".into()), "service name \"a/b\""),
            (Box::new(|r| r.service = "x".repeat(129)), "service name"),
            (Box::new(|r| r.version = "one".into()), "version \"one\""),
            (Box::new(|r| r.version = "1.2".into()), "version \"1.2\""),
            (Box::new(|r| r.version = "1.2.3-".into()), "version \"1.2.3-\""),
            (Box::new(|r| r.node.id = "a@b".into()), "node id \"a@b\""),
            (Box::new(|r| r.node.id = "x".repeat(97)), "node id"),
            (Box::new(|r| r.node.address = "0.0.0.0:80".into()), "address \"0.0.0.0:80\""),
            (Box::new(|r| r.node.address = "[::]:80".into()), "address \"[::]:80\""),
            (Box::new(|r| r.node.address = "host".into()), "address \"host\""),
            (Box::new(|r| r.node.address = "host:0".into()), "address \"host:0\""),
            (Box::new(|r| r.node.address = "1.2.3.4:0".into()), "address \"1.2.3.4:0\""),
            (Box::new(|r| r.node.address = "http://h:1".into()), "address \"http://h:1\""),
            (Box::new(|r| r.node.address = "unix:relative".into()), "address"),
            (Box::new(|r| r.node.address = "unix:/x\x1b[2J".into()), "no control characters"),
            (Box::new(|r| r.node.address = "memory:a\u{9b}".into()), "no control characters"),
            (Box::new(|r| r.node.weight = 10_001), "weight \"10001\""),
            (Box::new(|r| r.node.zone = Some("a b".into())), "zone \"a b\""),
            (Box::new(|r| drop(r.metadata.insert("k".into(), "v".repeat(8192)))), "8193 bytes"),
            (Box::new(|r| drop(r.metadata.insert("k".repeat(129), String::new()))), "key"),
            (
                Box::new(|r| r.metadata = (0..65).map(|i| (i.to_string(), "".into())).collect()),
                "65 entries",
            ),
        ];
        for (break_it, named) in cases {
            let mut broken = valid();
            break_it(&mut broken);
            let error = registration(&broken, Duration::from_secs(1)).expect_err(named);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(named), "{error} does not name {named}");
        }
        assert!(registration(&valid(), Duration::ZERO).is_err());
        assert!(registration(&valid(), Duration::MAX).is_err());
    }

    /// What is stored is read again: a record that is too long or nests too deep is refused, and one
    /// at both limits survives.
    #[test]
    fn what_cannot_be_read_again_is_refused() {
        let nested = |depth| (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let check = |registered: &Registration| registration(registered, Duration::from_secs(1));
        let with = |depth, doc: usize| {
            let mut endpoint = Endpoint::new("greeter", "hello");
            (endpoint.request, endpoint.doc) = (Some(nested(depth)), "x".repeat(doc));
            let mut registered = valid();
            registered.endpoints = crate::Endpoints::Listed(vec![endpoint]);
            registered
        };
        let room = MAX_RECORD_BYTES - encoding::encode(&with(MAX_SCHEMA_DEPTH, 1)).len() + 1;
        let at_limit = with(MAX_SCHEMA_DEPTH, room);
        check(&at_limit).unwrap();
        assert_eq!(encoding::decode(&encoding::encode(&at_limit)).unwrap(), at_limit);
        for (beyond, named) in [
            (with(MAX_SCHEMA_DEPTH, room + 1), "registration \"1048577 bytes\""),
            (with(MAX_SCHEMA_DEPTH + 1, 1), "schema of endpoint \"hello\""),
        ] {
            let error = check(&beyond).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    /// What stands exactly at a limit is accepted.
    #[test]
    fn accepts_the_limits() {
        let mut at_limit = valid();
        at_limit.service = "x".repeat(128);
        at_limit.node.id = "x".repeat(96);
        at_limit.node.weight = 10_000;
        at_limit.version = "2.0.0-rc.1+build.5".into();
        at_limit.metadata.insert("k".into(), "v".repeat(8191));
        registration(&at_limit, Duration::from_millis(1)).unwrap();
        for good in ["[::1]:80", "host-1.local:65535", "unix:/run/x.sock", "memory:a"] {
            address(good).unwrap();
        }
    }
}
