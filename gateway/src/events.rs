//! What happens, as server-sent events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use micro::Code;
use micro::registry::{Registration, RemoveReason};
use micro::rpc::Status;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::answer::State;
use crate::body::{Body, Reply, reply};
use crate::catalogue::{Change, Services};
use crate::look::{list, methods, version};

/// Answers with what happens: `services` is the list of all, at first and whenever the reader was too
/// slow for what happened meanwhile, or much happened at once; `change` is what happened to a node, with what it is now;
/// `methods` are those of a service, once they are known and whenever something about them changes.
///
/// # Errors
///
/// `resource_exhausted` when as many listen as may.
pub(crate) fn events(state: &Arc<State>) -> Result<Reply, Status> {
    let place = Arc::clone(&state.listeners).try_acquire_owned().map_err(|_| {
        Status::new(Code::ResourceExhausted, "so many listen already that no more may")
    })?;
    let changes = state.events.subscribe();
    let begin = all(&state.services());
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

/// All there is.
pub(crate) fn all(services: &Services) -> Bytes {
    event("services", &list(services))
}

/// What those who listen are told of a change: no more than what changed, once for all of them.
pub(crate) fn told(change: &Change) -> Bytes {
    match change {
        Change::Joined(node) => event("change", &now("joined", node)),
        Change::Changed(node) => event("change", &now("changed", node)),
        Change::Left { service, node, reason } => {
            let reason = words(*reason);
            let left =
                json!({ "what": "left", "service": service, "node": node, "reason": reason });
            event("change", &left)
        }
        Change::Described { service, interface } => {
            event("methods", &json!({ "service": &**service, "methods": methods(interface) }))
        }
    }
}

/// What a node is now, as the list of services would have it that had no other.
fn now(what: &str, registration: &Registration) -> Value {
    let Registration { service, node, metadata, .. } = registration;
    let now = version(&registration.version, metadata, std::slice::from_ref(node));
    json!({ "what": what, "service": service, "node": node.id, "now": now })
}

fn words(reason: RemoveReason) -> &'static str {
    match reason {
        RemoveReason::Deregistered => "said goodbye",
        RemoveReason::Expired => "died or was not renewed",
        RemoveReason::Fenced => "a newer one took its place",
        RemoveReason::Policy => "taken out by a rule",
        _ => "nobody knows why",
    }
}

/// JSON has no line breaks of its own, which would end the data.
fn event(name: &str, data: &Value) -> Bytes {
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// After how long without an event something is sent, so that nobody on the way gives up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

struct Listener {
    state: Arc<State>,
    changes: Receiver<Bytes>,
    quiet: Interval,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// The next thing to say; none once the gateway stops.
    async fn next(&mut self) -> Option<Bytes> {
        let Self { state, changes, quiet, .. } = self;
        let mut stopping = state.stopping.clone();
        tokio::select! {
            change = changes.recv() => {
                quiet.reset();
                match change {
                    Ok(change) => Some(change),
                    Err(RecvError::Lagged(_)) => {
                        // What waits is in the list already.
                        *changes = changes.resubscribe();
                        Some(all(&state.services()))
                    }
                    Err(RecvError::Closed) => None,
                }
            }
            _ = quiet.tick() => Some(Bytes::from_static(b": nothing happened\n\n")),
            _ = stopping.changed() => None,
        }
    }
}
