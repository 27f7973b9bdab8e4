//! The stored form of a registration, the same in every engine that keeps bytes.
//!
//! A JSON *service* with exactly one node, in the field names go-micro writes, so that its readers
//! understand our records and we understand its. Our own fields stand beside them and are optional;
//! fields we do not know are ignored.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Endpoint, Endpoints, Error, ErrorKind, Metadata, Node, NodeState, Registration};

/// Encodes a registration.
pub fn encode(registration: &Registration) -> Vec<u8> {
    to_bytes(&Record::from(registration))
}

/// Encodes the goodbye of a registration: what stands in its place for the moment before it is
/// removed, so that who watches knows that it left by itself.
pub fn encode_goodbye(registration: &Registration) -> Vec<u8> {
    to_bytes(&Record { left: true, ..Record::from(registration) })
}

/// Decodes a registration, where nobody says [goodbye](encode_goodbye).
///
/// # Errors
///
/// `Invalid` for what is not JSON of that form, has not exactly one node, or is a goodbye.
pub fn decode(bytes: &[u8]) -> Result<Registration, Error> {
    match decode_stored(bytes)? {
        Stored::Node(registration) => Ok(registration),
        Stored::Goodbye(_) => {
            Err(Error::new(ErrorKind::Invalid, "stored record says that the node left"))
        }
    }
}

/// Decodes what stands for a node, where a goodbye is one of the possibilities.
///
/// # Errors
///
/// `Invalid` for what is not JSON of that form, or has not exactly one node.
pub fn decode_stored(bytes: &[u8]) -> Result<Stored, Error> {
    let record: Record = serde_json::from_slice(bytes).map_err(|source| {
        Error::new(ErrorKind::Invalid, "stored record does not parse").with_source(source)
    })?;
    let stored = if record.left { Stored::Goodbye } else { Stored::Node };
    Registration::try_from(record).map(stored)
}

/// What stands for a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is there.
    Node(Registration),
    /// It left by itself, and will be removed.
    Goodbye(Registration),
}

#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    version: String,
    #[serde(default, deserialize_with = "null_is_default")]
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_is_default")]
    endpoints: Vec<Endpoint>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    endpoints_omitted: bool,
    nodes: Vec<NodeRecord>,
    #[serde(
        default,
        deserialize_with = "null_is_default",
        skip_serializing_if = "std::ops::Not::not"
    )]
    left: bool,
}

fn to_bytes(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings, numbers and JSON values always encode")
}

#[derive(Serialize, Deserialize)]
struct NodeRecord {
    id: String,
    address: String,
    #[serde(default, deserialize_with = "null_is_default")]
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_is_default")]
    epoch: u64,
    #[serde(default, deserialize_with = "state")]
    state: NodeState,
    #[serde(default = "default_weight")]
    weight: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

impl From<&Registration> for Record {
    fn from(registration: &Registration) -> Self {
        let node = registration.node.clone();
        Self {
            name: registration.service.clone(),
            version: registration.version.clone(),
            metadata: registration.metadata.clone(),
            endpoints: registration.endpoints.as_slice().to_vec(),
            endpoints_omitted: registration.endpoints == Endpoints::Omitted,
            nodes: vec![NodeRecord {
                id: node.id,
                address: node.address,
                metadata: node.metadata,
                epoch: node.epoch,
                state: node.state,
                weight: node.weight,
                zone: node.zone,
            }],
            left: false,
        }
    }
}

impl TryFrom<Record> for Registration {
    type Error = Error;

    fn try_from(record: Record) -> Result<Self, Error> {
        let found = record.nodes.len();
        let [node] = <[NodeRecord; 1]>::try_from(record.nodes).map_err(|_| {
            let message = format!("stored record has {found} nodes: expected one");
            Error::new(ErrorKind::Invalid, message)
        })?;
        let endpoints = match record.endpoints_omitted {
            true => Endpoints::Omitted,
            false => Endpoints::Listed(record.endpoints),
        };
        Ok(Self {
            service: record.name,
            version: record.version,
            metadata: record.metadata,
            endpoints,
            node: Node {
                id: node.id,
                address: node.address,
                epoch: node.epoch,
                state: node.state,
                weight: node.weight,
                zone: node.zone,
                metadata: node.metadata,
            },
        })
    }
}

/// A state of a newer version is one we cannot call in.
fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NodeState, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(NodeState::deserialize(value).unwrap_or(NodeState::NotServing))
}

fn default_weight() -> u16 {
    Node::DEFAULT_WEIGHT
}

/// Go writes an absent map or list as `null`.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field survives encoding, the omission of endpoints included.
    #[test]
    fn round_trip() {
        let mut registration = Registration::new("s", "1.0.0", Node::new("a", "127.0.0.1:1"));
        registration.metadata.insert("k".into(), "v".into());
        registration.node.epoch = 7;
        registration.node.state = NodeState::Draining;
        registration.node.weight = 0;
        registration.node.zone = Some("z".into());
        registration.endpoints = Endpoints::Listed(vec![Endpoint {
            contract: "greeter".into(),
            name: "hello".into(),
            idempotent: true,
            ..Endpoint::default()
        }]);
        assert_eq!(decode(&encode(&registration)).unwrap(), registration);
        registration.endpoints = Endpoints::Omitted;
        assert_eq!(decode(&encode(&registration)).unwrap(), registration);
    }

    /// A goodbye is told from a node, and is what the node was; who does not expect one gets none.
    #[test]
    fn goodbyes() {
        let registration = Registration::new("s", "1.0.0", Node::new("a", "127.0.0.1:1"));
        let stored = decode_stored(&encode(&registration)).unwrap();
        assert_eq!(stored, Stored::Node(registration.clone()));
        let goodbye = encode_goodbye(&registration);
        assert_eq!(decode_stored(&goodbye).unwrap(), Stored::Goodbye(registration));
        let error = decode(&goodbye).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains("the node left"), "{error}");
    }

    /// A record as a Go process writes it is readable, its unknown fields and nulls included.
    #[test]
    fn reads_what_go_writes() {
        let go = r#"{"name":"helloworld","version":"latest","metadata":null,"extra":1,
            "endpoints":[{"name":"Hello.Call","request":{"name":"Request","type":"Request",
            "values":null},"response":null,"metadata":{}}],
            "nodes":[{"id":"helloworld-1","address":"10.0.0.5:4321","metadata":{"protocol":"grpc"}}]}"#;
        let registration = decode(go.as_bytes()).unwrap();
        assert_eq!(registration.node.address, "10.0.0.5:4321");
        assert_eq!(registration.node.weight, Node::DEFAULT_WEIGHT);
        assert!(registration.node.is_eligible());
        assert_eq!(registration.endpoints.as_slice()[0].name, "Hello.Call");
    }

    /// A state this version does not know makes a node that is not called, not an invisible one.
    #[test]
    fn unknown_states_are_not_serving() {
        let record = r#"{"name":"s","version":null,"endpoints":[{"name":"m","metadata":null}],
            "nodes":[{"id":"a","address":"h:1","state":"sleepwalking"}]}"#;
        assert_eq!(decode(record.as_bytes()).unwrap().node.state, NodeState::NotServing);
    }

    /// What is damaged is an error, not a panic and not a guess.
    #[test]
    fn refuses_what_is_damaged() {
        for bad in ["", "{", "[]", r#"{"name":"x","nodes":[]}"#, r#"{"nodes":[{}]}"#] {
            assert_eq!(decode(bad.as_bytes()).unwrap_err().kind(), ErrorKind::Invalid, "{bad}");
        }
    }
}
