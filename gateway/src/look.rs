//! What there is, for programs: the list of services, what one of them serves, and what happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use micro::Code;
use micro::registry::Service;
use micro::rpc::Status;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::answer::State;
use crate::body::{Body, Reply, reply};
use crate::catalogue::{Change, Known, Services};

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
    let descriptions = serde_json::to_vec(&known.descriptions);
    let descriptions =
        descriptions.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
    Ok(reply("application/json", descriptions))
}

/// What happens, as server-sent events: `services` is the list of all, at first and whenever the
/// reader was too slow for what happened meanwhile; `change` is one that happened, with what its
/// service is now.
///
/// # Errors
///
/// `resource_exhausted` when as many listen as may.
pub(crate) fn events(state: &Arc<State>) -> Result<Reply, Status> {
    let place = Arc::clone(&state.listeners).try_acquire_owned().map_err(|_| {
        Status::new(Code::ResourceExhausted, "so many listen already that no more may")
    })?;
    let changes = state.events.subscribe();
    let begin = event("services", &list(&state.services()));
    let mut quiet = interval(KEEP_ALIVE);
    quiet.set_missed_tick_behavior(MissedTickBehavior::Delay);
    quiet.reset();
    let listener = Listener { state: Arc::clone(state), changes, quiet, _place: place };
    let first = stream::once(async { begin });
    let rest = stream::unfold(listener, |mut listener| async {
        let next = listener.next().await?;
        Some((next, listener))
    });
    let mut answer = reply("text/event-stream", Bytes::new());
    *answer.body_mut() = Body::Stream(first.chain(rest).boxed());
    Ok(answer)
}

/// After how long without an event something is sent, so that nobody on the way gives up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Listener {
    state: Arc<State>,
    changes: Receiver<Change>,
    quiet: Interval,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The next thing to say; none once the gateway stops.
    async fn next(&mut self) -> Option<Bytes> {
        let Self { state, changes, quiet, .. } = self;
        let mut stopping = state.stopping.clone();
        tokio::select! {
            changed = changes.recv() => {
                quiet.reset();
                match changed {
                    Ok(change) => Some(event("change", &now(&change, &state.services()))),
                    Err(RecvError::Lagged(_)) => Some(event("services", &list(&state.services()))),
                    Err(RecvError::Closed) => None,
                }
            }
            _ = quiet.tick() => Some(Bytes::from_static(b": nothing happened\n\n")),
            _ = stopping.changed() => None,
        }
    }
}

/// JSON has no line breaks of its own, which would end the data.
fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// A change, and its service as it is by now.
fn now(change: &Change, services: &Services) -> Value {
    let known = services.get(&change.service).filter(|known| !known.versions.is_empty());
    let service = known.map(|known| one(&change.service, known));
    json!({ "change": change, "service": service })
}

fn list(services: &Services) -> Value {
    services.iter().map(|(name, known)| one(name, known)).collect()
}

fn one(name: &str, known: &Known) -> Value {
    let methods: Vec<_> = known
        .methods()
        .map(|method| json!({ "contract": &*method.contract, "name": &*method.name }))
        .collect();
    let versions: Vec<_> = known.versions.iter().map(version).collect();
    json!({ "name": name, "versions": versions, "methods": methods })
}

fn version(version: &Service) -> Value {
    let nodes: Vec<_> = version
        .nodes
        .iter()
        .map(|node| {
            json!({
                "id": node.id,
                "address": node.address,
                "state": node.state,
                "weight": node.weight,
                "zone": node.zone,
                "started_ms": node.epoch,
                "metadata": node.metadata,
            })
        })
        .collect();
    json!({ "version": version.version, "metadata": version.metadata, "nodes": nodes })
}
