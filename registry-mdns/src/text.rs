//! What stands in a TXT record: pure, over its entries.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use micro_registry::{
    DEFAULT_NAMESPACE, Endpoints, Error, Node, Registration, RemoveReason, encoding, validate,
};

use crate::error::invalid;

/// The entries of a TXT record, in order.
pub(crate) type Text = Vec<(String, Vec<u8>)>;

/// How many bytes a TXT record may have: with the names around it that is one Ethernet frame.
pub(crate) const MAX_TEXT: usize = 1_300;

/// A node of a service, whatever its epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub(crate) service: String,
    pub(crate) id: String,
}

impl Key {
    pub(crate) fn of(registration: &Registration) -> Self {
        Self { service: registration.service.clone(), id: registration.node.id.clone() }
    }
}

/// What somebody says about a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Announcement {
    pub(crate) key: Key,
    pub(crate) epoch: u64,
    /// Grows with everything said about this node, renewals included; 0 for who does not count.
    pub(crate) stamp: u64,
    pub(crate) says: Says,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Says {
    /// It is there, for so long unless it is said again; `None` for as long as the record lives.
    Here(Arc<Registration>, Option<Duration>),
    Left(RemoveReason),
}

impl Announcement {
    /// That a node is there. Its endpoints are left out when they do not fit.
    ///
    /// # Errors
    ///
    /// `Invalid` for a registration that does not fit without them either.
    pub(crate) fn here(
        namespace: &str,
        registration: &Registration,
        ttl: Duration,
        stamp: u64,
    ) -> Result<(Self, Text), Error> {
        let mut registration = registration.clone();
        let mut text = text_of(namespace, &registration, ttl, stamp);
        if size(&text) > MAX_TEXT {
            registration.endpoints = Endpoints::Omitted;
            text = text_of(namespace, &registration, ttl, stamp);
        }
        let bytes = size(&text);
        if bytes > MAX_TEXT {
            return Err(invalid(format!(
                "registration of `{}` has {bytes} bytes without its endpoints: mDNS carries at \
                 most {MAX_TEXT}, shorten its metadata",
                registration.node.id
            )));
        }
        let (key, epoch) = (Key::of(&registration), registration.node.epoch);
        let says = Says::Here(Arc::new(registration), Some(ttl));
        Ok((Self { key, epoch, stamp, says }, text))
    }

    /// That a node left.
    pub(crate) fn left(
        namespace: &str,
        key: Key,
        epoch: u64,
        reason: RemoveReason,
        stamp: u64,
    ) -> (Self, Text) {
        let word = match reason {
            RemoveReason::Expired => EXPIRED,
            _ => DEREGISTERED,
        };
        let mut text = head(namespace, &key.service, stamp);
        text.push(entry("id", &key.id));
        text.push(entry("epoch", epoch));
        text.push(entry("left", word));
        (Self { key, epoch, stamp, says: Says::Left(reason) }, text)
    }

    /// Reads what was found under the name of an instance; `None` when it is of another namespace.
    ///
    /// # Errors
    ///
    /// `Invalid` for what is incomplete, damaged, or breaks a rule of the model.
    pub(crate) fn read(namespace: &str, found: &Found) -> Result<Option<Self>, Error> {
        let text = Entries::new(&found.text);
        if text.get("ns").unwrap_or(DEFAULT_NAMESPACE) != namespace {
            return Ok(None);
        }
        if text.get("txtvers").is_some_and(|version| version != VERSION) {
            return Err(invalid("its TXT record is of an unknown version"));
        }
        if let Some(word) = text.get("left") {
            return read_left(&text, word).map(Some);
        }
        match text.get("stamp").or(text.get("parts")) {
            Some(_) => read_here(&text).map(Some),
            None => read_plain(&text, found).map(Some),
        }
    }
}

/// An instance as it was found in the network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    /// The name, without the type of the service.
    pub(crate) label: String,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) port: u16,
    pub(crate) text: Text,
}

const VERSION: &str = "1";
const DEREGISTERED: &str = "deregistered";
const EXPIRED: &str = "expired";

/// What one entry may have: its length is one byte.
const MAX_ENTRY: usize = 255;

fn text_of(namespace: &str, registration: &Registration, ttl: Duration, stamp: u64) -> Text {
    let record = encoding::encode(registration);
    // Room for the longest key, `r4294967295=`.
    let parts = record.chunks(MAX_ENTRY - 12);
    let mut text = head(namespace, &registration.service, stamp);
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
    text.push(entry("ttl", ttl_ms));
    text.push(entry("parts", parts.len()));
    text.extend(parts.enumerate().map(|(index, part)| (format!("r{index}"), part.to_vec())));
    text
}

fn head(namespace: &str, service: &str, stamp: u64) -> Text {
    let stamp = stamp.to_string();
    let head = [("txtvers", VERSION), ("ns", namespace), ("service", service), ("stamp", &*stamp)];
    head.map(|(key, value)| entry(key, value)).into()
}

fn entry(key: &str, value: impl ToString) -> (String, Vec<u8>) {
    (key.to_owned(), value.to_string().into_bytes())
}

/// Each entry has its length before it and `=` in it.
fn size(text: &Text) -> usize {
    text.iter().map(|(key, value)| key.len() + value.len() + 2).sum()
}

/// The entries by key, of which the first counts, as DNS-SD has it.
struct Entries<'a>(BTreeMap<String, &'a [u8]>);

impl<'a> Entries<'a> {
    fn new(text: &'a Text) -> Self {
        let mut entries = BTreeMap::new();
        for (key, value) in text {
            entries.entry(key.to_ascii_lowercase()).or_insert(&value[..]);
        }
        Self(entries)
    }

    fn get(&self, key: &str) -> Option<&'a str> {
        std::str::from_utf8(self.0.get(key)?).ok()
    }

    fn required(&self, key: &str) -> Result<&'a str, Error> {
        self.get(key).ok_or_else(|| invalid(format!("its TXT record lacks `{key}`")))
    }

    fn number(&self, key: &str) -> Result<u64, Error> {
        let value = self.required(key)?;
        value.parse().map_err(|_| invalid(format!("`{key}` of its TXT record is no number")))
    }

    /// The parts of the stored form, all of them.
    fn record(&self) -> Result<Vec<u8>, Error> {
        let mut record = vec![];
        for index in 0..self.number("parts")? {
            let part = self.0.get(&format!("r{index}"));
            let part = part.ok_or_else(|| invalid("its TXT record is incomplete"))?;
            record.extend_from_slice(part);
        }
        Ok(record)
    }
}

fn read_here(text: &Entries<'_>) -> Result<Announcement, Error> {
    let registration = encoding::decode(&text.record()?)?;
    let ttl = Duration::from_millis(text.number("ttl")?);
    validate::registration(&registration, ttl)?;
    if registration.service != text.required("service")? {
        return Err(invalid("its TXT record is about two services"));
    }
    Ok(Announcement {
        key: Key::of(&registration),
        epoch: registration.node.epoch,
        stamp: text.number("stamp")?,
        says: Says::Here(Arc::new(registration), Some(ttl)),
    })
}

fn read_left(text: &Entries<'_>, word: &str) -> Result<Announcement, Error> {
    let key = Key { service: text.required("service")?.into(), id: text.required("id")?.into() };
    validate::service_name(&key.service)?;
    validate::node_id(&key.id)?;
    let reason = match word {
        EXPIRED => RemoveReason::Expired,
        _ => RemoveReason::Deregistered,
    };
    let (epoch, stamp) = (text.number("epoch")?, text.number("stamp")?);
    Ok(Announcement { key, epoch, stamp, says: Says::Left(reason) })
}

/// What a program that knows only DNS-SD announces: `service` says which, the rest has defaults.
fn read_plain(text: &Entries<'_>, found: &Found) -> Result<Announcement, Error> {
    let id = text.get("id").map_or_else(|| as_id(&found.label), str::to_owned);
    let address = match text.get("address") {
        Some(address) => address.to_owned(),
        None => address_of(found).ok_or_else(|| invalid("it has no address"))?,
    };
    let version = text.get("version").unwrap_or("latest");
    let service = text.required("service")?;
    let registration = Registration::new(service, version, Node::new(id, address));
    validate::registration(&registration, validate::MAX_TTL)?;
    Ok(Announcement {
        key: Key::of(&registration),
        epoch: 0,
        stamp: 0,
        says: Says::Here(Arc::new(registration), None),
    })
}

fn as_id(label: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let id = label.chars().map(|c| if allowed(c) { c } else { '-' });
    id.take(validate::MAX_ID).collect()
}

/// The address most peers can reach: version 4 first, the loopback last, link-local ones never.
fn address_of(found: &Found) -> Option<String> {
    let is_link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let reachable = found.addresses.iter().filter(|ip| !is_link_local(ip));
    let best = reachable.min_by_key(|ip| (ip.is_loopback(), ip.is_ipv6(), **ip))?;
    Some(SocketAddr::new(*best, found.port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use micro_registry::{Endpoint, ErrorKind, NodeState};

    const TTL: Duration = Duration::from_secs(30);

    fn registration() -> Registration {
        let mut node = Node::new("a", "127.0.0.1:7000");
        (node.epoch, node.state, node.zone) = (7, NodeState::Draining, Some("z".into()));
        let mut registration = Registration::new("greeter", "1.0.0", node);
        registration.metadata.insert("team".into(), "väst = \"1\"\n".into());
        registration
    }

    fn found(text: Text) -> Found {
        let addresses = ["fe80::1", "::1", "127.0.0.1", "fd00::1", "10.0.0.7"];
        let addresses = addresses.map(|ip| ip.parse().unwrap()).into();
        Found { label: "Till 1".into(), addresses, port: 7_000, text }
    }

    fn read(text: Text) -> Result<Option<Announcement>, Error> {
        Announcement::read("shop", &found(text))
    }

    /// What is written is read again, and only in its namespace.
    #[test]
    fn round_trip() {
        let (said, text) = Announcement::here("shop", &registration(), TTL, 9).unwrap();
        assert_eq!(said.says, Says::Here(Arc::new(registration()), Some(TTL)));
        assert_eq!(read(text.clone()).unwrap(), Some(said));
        assert_eq!(Announcement::read("shop2", &found(text)).unwrap(), None);
        for reason in [RemoveReason::Deregistered, RemoveReason::Expired] {
            let key = Key::of(&registration());
            let (said, text) = Announcement::left("shop", key, 7, reason, 10);
            assert_eq!(read(text).unwrap(), Some(said));
        }
    }

    /// Endpoints are carried when they fit, else they are said to be omitted; what does not fit
    /// without them is refused.
    #[test]
    fn never_longer_than_a_frame() {
        let with = |doc: usize, label: usize| {
            let mut endpoint = Endpoint::new("greeter", "hello");
            endpoint.doc = "x".repeat(doc);
            let mut registration = registration();
            registration.endpoints = Endpoints::Listed(vec![endpoint]);
            registration.metadata.insert("long".into(), "x".repeat(label));
            Announcement::here("shop", &registration, TTL, u64::MAX).map(|(said, text)| {
                assert!(size(&text) <= MAX_TEXT, "{}", size(&text));
                assert!(text.iter().all(|(key, value)| key.len() + 1 + value.len() <= MAX_ENTRY));
                assert_eq!(read(text).unwrap().as_ref(), Some(&said));
                match said.says {
                    Says::Here(registration, _) => registration.endpoints.clone(),
                    Says::Left(_) => unreachable!("it is there"),
                }
            })
        };
        assert_eq!(with(400, 0).unwrap().as_slice().len(), 1);
        assert_eq!(with(1_000, 0).unwrap(), Endpoints::Omitted);
        let error = with(0, 1_300).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("at most 1300"), "{error}");
    }

    /// Whatever is missing or damaged is an error: neither a panic nor a guess.
    #[test]
    fn refuses_what_is_damaged() {
        let (_, whole) = Announcement::here("shop", &registration(), TTL, 9).unwrap();
        for missing in 0..whole.len() {
            let key = whole[missing].0.clone();
            let mut text = whole.clone();
            text.remove(missing);
            if key == "ns" {
                assert_eq!(read(text).unwrap(), None);
            } else if key != "txtvers" {
                assert_eq!(read(text).unwrap_err().kind(), ErrorKind::Invalid, "{key}");
            }
        }
        let with = |key: &str, value: &[u8]| {
            let mut text = whole.clone();
            text.retain(|(known, _)| known != key);
            text.push((key.to_owned(), value.to_vec()));
            read(text)
        };
        for (key, value) in [
            ("txtvers", &b"2"[..]),
            ("service", b"other"),
            ("ttl", b"0"),
            ("ttl", b"-1"),
            ("ttl", b"18446744073709551615"),
            ("stamp", b"x"),
            ("parts", b"18446744073709551615"),
            ("r0", b"\xff"),
            ("left", b"deregistered"),
        ] {
            assert_eq!(with(key, value).unwrap_err().kind(), ErrorKind::Invalid, "{key}");
        }
        assert!(read(vec![entry("ns", "shop")]).is_err());
        assert!(Announcement::read(DEFAULT_NAMESPACE, &Found::default()).is_err());
    }

    /// A program that knows only DNS-SD names a service, and its address is that of its host.
    #[test]
    fn plain_announcements() {
        let plain = |more: &[(&str, &str)]| {
            let mut text = vec![entry("ns", "shop"), entry("service", "till")];
            text.extend(more.iter().map(|(key, value)| entry(key, value)));
            match read(text)?.map(|said| said.says) {
                Some(Says::Here(registration, None)) => Ok::<_, Error>((*registration).clone()),
                other => panic!("{other:?}"),
            }
        };
        let expected = Registration::new("till", "latest", Node::new("Till-1", "10.0.0.7:7000"));
        assert_eq!(plain(&[]).unwrap(), expected);
        let named = plain(&[("ID", "b"), ("version", "1.2.0"), ("address", "h.local:1")]).unwrap();
        let expected = Registration::new("till", "1.2.0", Node::new("b", "h.local:1"));
        assert_eq!(named, expected);
        assert!(plain(&[("id", "a/b")]).is_err() && plain(&[("address", "x")]).is_err());
    }
}
