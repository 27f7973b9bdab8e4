//! The nouns: what one process announces, and what a lookup answers.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Free-form labels: at most 64 entries, keys of at most 128 bytes, 8 KiB in all.
pub type Metadata = BTreeMap<String, String>;

/// What one process announces and what is stored: one node of one service.
///
/// Made by [`new`](Self::new); what else there is to say is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The name the service is looked up by: `[a-z0-9._-]{1,128}`.
    pub service: String,
    /// A semantic version, or `latest`.
    pub version: String,
    /// Labels of the service, the same on all its nodes of one version.
    pub metadata: Metadata,
    /// The RPC methods this node serves.
    pub endpoints: Endpoints,
    /// The running instance.
    pub node: Node,
}

impl Registration {
    /// A registration without metadata or endpoints.
    pub fn new(service: impl Into<String>, version: impl Into<String>, node: Node) -> Self {
        Self {
            service: service.into(),
            version: version.into(),
            metadata: Metadata::new(),
            endpoints: Endpoints::default(),
            node,
        }
    }

    /// Whether both describe the same start of the same node, whatever else changed.
    pub fn is_same_instance(&self, other: &Self) -> bool {
        self.service == other.service
            && self.node.id == other.node.id
            && self.node.epoch == other.node.epoch
    }
}

/// The RPC methods of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoints {
    /// They are part of the registration.
    Listed(Vec<Endpoint>),
    /// They did not fit where they are stored; the node itself tells them on demand.
    Omitted,
}

impl Endpoints {
    /// The endpoints, empty when they are [omitted](Endpoints::Omitted).
    pub fn as_slice(&self) -> &[Endpoint] {
        match self {
            Self::Listed(endpoints) => endpoints,
            Self::Omitted => &[],
        }
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// One RPC method.
///
/// Made by [`new`](Self::new); what else there is to say is assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Endpoint {
    /// The contract (a Rust trait) the method belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub contract: String,
    /// The method's name.
    pub name: String,
    /// JSON Schema of the arguments; `None` means *any*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<serde_json::Value>,
    /// JSON Schema of the answer; `None` means *any*.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<serde_json::Value>,
    /// JSON Schema of the method's own error; `None` when it has none, or nobody says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<serde_json::Value>,
    /// Whether a call that may have been executed may be repeated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub idempotent: bool,
    /// What the method does, from its doc comment.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub doc: String,
    /// Labels of the method.
    #[serde(
        default,
        deserialize_with = "crate::encoding::null_is_default",
        skip_serializing_if = "Metadata::is_empty"
    )]
    pub metadata: Metadata,
}

impl Endpoint {
    /// A method without schemas, documentation or labels, which is not idempotent.
    pub fn new(contract: impl Into<String>, name: impl Into<String>) -> Self {
        Self { contract: contract.into(), name: name.into(), ..Self::default() }
    }
}

/// One running instance.
///
/// Made by [`new`](Self::new); what else there is to say is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Unique per process start: `[A-Za-z0-9._-]{1,96}`.
    pub id: String,
    /// Where it is reached: `ip:port`, `host:port`, `unix:/path` or `memory:name`.
    pub address: String,
    /// Grows with every restart under the same id: unix milliseconds at start. Default 0.
    pub epoch: u64,
    /// Whether it wants traffic. Default [`NodeState::Serving`].
    pub state: NodeState,
    /// Share of traffic relative to its neighbours: 0..=10 000, default 100; 0 gets none.
    pub weight: u16,
    /// The failure domain it runs in, for callers that prefer their own.
    pub zone: Option<String>,
    /// Labels of this node alone.
    pub metadata: Metadata,
}

impl Node {
    /// The weight of a node nobody weighed.
    pub const DEFAULT_WEIGHT: u16 = 100;
    /// The largest weight a node may have.
    pub const MAX_WEIGHT: u16 = 10_000;

    /// A serving node of default weight, epoch 0 and no labels.
    pub fn new(id: impl Into<String>, address: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            address: address.into(),
            epoch: 0,
            state: NodeState::Serving,
            weight: Self::DEFAULT_WEIGHT,
            zone: None,
            metadata: Metadata::new(),
        }
    }

    /// Whether it gets new traffic: it is serving and has weight.
    pub fn is_eligible(&self) -> bool {
        self.state == NodeState::Serving && self.weight > 0
    }
}

/// Whether a node wants traffic. Only [`Serving`](NodeState::Serving) gets new calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NodeState {
    /// Listening, not ready yet.
    Starting,
    /// Ready for calls.
    #[default]
    Serving,
    /// Its health check fails.
    NotServing,
    /// Finishing what it accepted, about to leave.
    Draining,
}

impl fmt::Display for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::NotServing => "not_serving",
            Self::Draining => "draining",
        })
    }
}

/// What [`get`](crate::Registry::get) answers: the nodes of one version of a service.
///
/// A [`View`](crate::View) groups registrations into these.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// The version all these nodes run.
    pub version: String,
    /// Labels of the service; where nodes disagree, those of the newest epoch.
    pub metadata: Metadata,
    /// Its methods; where nodes disagree, those of the newest epoch.
    pub endpoints: Endpoints,
    /// Its nodes, ordered by id.
    pub nodes: Vec<Node>,
}

impl Service {
    /// A version of a service without metadata, endpoints or nodes.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            metadata: Metadata::new(),
            endpoints: Endpoints::default(),
            nodes: Vec::new(),
        }
    }
}

/// One line of [`list`](crate::Registry::list).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceSummary {
    /// The service's name.
    pub name: String,
    /// The versions present, in order.
    pub versions: Vec<String>,
    /// How many nodes there are in all.
    pub nodes: usize,
}

impl ServiceSummary {
    /// A service of these versions, in order, with so many nodes in all.
    pub fn new(name: impl Into<String>, versions: Vec<String>, nodes: usize) -> Self {
        Self { name: name.into(), versions, nodes }
    }
}
