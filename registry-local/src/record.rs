//! What stands in a node's file and in a tombstone.

use std::sync::Arc;
use std::time::Duration;

use micro_registry::{Error, ErrorKind, Registration, RemoveReason, encoding};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::error::invalid;
use crate::name::Key;

/// A node as stored: the registration, whose it is, and for how long each renewal counts.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NodeRecord {
    pub(crate) owner: Uuid,
    pub(crate) ttl: Duration,
    pub(crate) registration: Arc<Registration>,
}

impl NodeRecord {
    /// The bytes of its file, always the same for the same content.
    pub(crate) fn encode(
        owner: Uuid,
        ttl: Duration,
        registration: &Registration,
    ) -> Result<Vec<u8>, Error> {
        let record = serde_json::from_slice(&encoding::encode(registration)).map_err(internal)?;
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1);
        serde_json::to_vec(&NodeFile { owner: owner.to_string(), ttl_ms, record }).map_err(internal)
    }

    /// Reads a file found under the name of `key`.
    pub(crate) fn decode(bytes: &[u8], key: &Key) -> Result<Self, Error> {
        let file: NodeFile = serde_json::from_slice(bytes)
            .map_err(|source| invalid("node file does not parse").with_source(source))?;
        let owner = Uuid::parse_str(&file.owner)
            .map_err(|source| invalid("owner of a node file is no uuid").with_source(source))?;
        let registration = encoding::decode(file.record.get().as_bytes())?;
        let found = Key::of(&registration);
        if found != *key {
            let Key { service, id } = found;
            return Err(invalid(format!("node file is about another node, `{id}` of `{service}`")));
        }
        let ttl = Duration::from_millis(file.ttl_ms);
        Ok(Self { owner, ttl, registration: Arc::new(registration) })
    }
}

/// Why a node left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    pub(crate) epoch: u64,
    pub(crate) reason: Left,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Left {
    Deregistered,
    Expired,
}

impl Tombstone {
    pub(crate) fn encode(&self) -> Result<Vec<u8>, Error> {
        serde_json::to_vec(self).map_err(internal)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes)
            .map_err(|source| invalid("tombstone does not parse").with_source(source))
    }
}

impl From<Left> for RemoveReason {
    fn from(left: Left) -> Self {
        match left {
            Left::Deregistered => Self::Deregistered,
            Left::Expired => Self::Expired,
        }
    }
}

#[derive(Serialize, Deserialize)]
struct NodeFile {
    owner: String,
    ttl_ms: u64,
    record: Box<RawValue>,
}

fn internal(source: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "cannot encode a record").with_source(source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use micro_registry::Node;

    fn registration() -> Registration {
        Registration::new("greeter", "1.0.0", Node::new("a", "127.0.0.1:1"))
    }

    /// A record survives its file, which embeds the stored form as JSON, not as text.
    #[test]
    fn round_trip() {
        let registration = registration();
        let (owner, ttl) = (Uuid::now_v7(), Duration::from_secs(30));
        let bytes = NodeRecord::encode(owner, ttl, &registration).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(value["record"]["nodes"][0]["id"], "a");
        assert_eq!(value["ttl_ms"], 30_000);
        let decoded = NodeRecord::decode(&bytes, &Key::of(&registration)).unwrap();
        assert_eq!(decoded, NodeRecord { owner, ttl, registration: Arc::new(registration) });
    }

    /// What is damaged, or lies about who it is, is an error.
    #[test]
    fn refuses_what_is_damaged() {
        let bytes = NodeRecord::encode(Uuid::now_v7(), Duration::MAX, &registration()).unwrap();
        let other = Key { service: "greeter".into(), id: "b".into() };
        assert!(NodeRecord::decode(&bytes, &other).is_err());
        let key = Key::of(&registration());
        for bad in [&b""[..], b"{}", b"\xff", &bytes[..bytes.len() / 2]] {
            assert_eq!(NodeRecord::decode(bad, &key).unwrap_err().kind(), ErrorKind::Invalid);
        }
        assert!(Tombstone::decode(b"{}").is_err());
        let goodbye = serde_json::from_slice(&encoding::encode_goodbye(&registration())).unwrap();
        let file = NodeFile { owner: Uuid::now_v7().to_string(), ttl_ms: 1, record: goodbye };
        let error = NodeRecord::decode(&serde_json::to_vec(&file).unwrap(), &key).unwrap_err();
        assert!(error.to_string().contains("the node left"), "{error}");
    }
}
