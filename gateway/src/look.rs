//! What there is, for programs: the list of services, and what one of them serves.

use micro::Code;
use micro::registry::{Metadata, Node, Service};
use micro::rpc::Status;
use serde_json::{Value, json};

use crate::answer::State;
use crate::body::{Reply, reply};
use crate::catalogue::{Known, Services};
use crate::interface::{Interface, Method};

/// The services with their versions and nodes.
pub(crate) fn services(state: &State) -> Reply {
    reply("application/json", list(&state.services()).to_string())
}

/// What the versions of a service say about themselves, as nodes do at `/describe`.
///
/// # Errors
///
/// `not_found` for a service that has no nodes, and `invalid_argument` when none is named.
pub(crate) fn describe(query: Option<&str>, state: &State) -> Result<Reply, Status> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let Some((_, name)) = pairs.find(|(key, _)| key == "service") else {
        return Err(Status::new(Code::InvalidArgument, "say which one: /describe?service=NAME"));
    };
    let services = state.services();
    let known = services.get(&name).filter(|known| !known.versions.is_empty());
    let known = known.ok_or_else(|| {
        Status::new(Code::NotFound, format!("no node of service `{name}` is registered"))
    })?;
    let descriptions = serde_json::to_vec(&known.interface.descriptions);
    let descriptions =
        descriptions.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
    Ok(reply("application/json", descriptions))
}

/// The services there are.
pub(crate) fn list(services: &Services) -> Value {
    services.iter().map(|(name, known)| one(name, known)).collect()
}

fn one(name: &str, known: &Known) -> Value {
    let of = |known: &Service| version(&known.version, &known.metadata, &known.nodes);
    let versions: Vec<_> = known.versions.iter().map(of).collect();
    json!({ "name": name, "versions": versions, "methods": methods(&known.interface) })
}

/// The methods there are, without what they take.
pub(crate) fn methods(interface: &Interface) -> Value {
    let one = |method: &Method| json!({ "contract": &*method.contract, "name": &*method.name });
    interface.methods().map(one).collect()
}

/// A version, with these nodes of it.
pub(crate) fn version(version: &str, metadata: &Metadata, nodes: &[Node]) -> Value {
    let nodes: Vec<_> = nodes.iter().map(node).collect();
    json!({ "version": version, "metadata": metadata, "nodes": nodes })
}

fn node(node: &Node) -> Value {
    json!({
        "id": node.id,
        "address": node.address,
        "state": node.state,
        "weight": node.weight,
        "zone": node.zone,
        "started_ms": node.epoch,
        "metadata": node.metadata,
    })
}
