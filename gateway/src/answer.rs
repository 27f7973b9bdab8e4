//! Which request goes where.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, HeaderValue, ORIGIN, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use micro::Client;
use micro::rpc::Status;
use micro::rpc::web::{Refusal, check_source};
use tokio::sync::{Notify, Semaphore, broadcast, watch};

use crate::body::{Body, Reply, reply, text};
use crate::catalogue::Services;
use crate::figures::{self, Figures};
use crate::openapi::Document;
use crate::{Access, Config, call, cors, events, look, page};

/// What all requests have in common.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) services: watch::Receiver<Arc<Services>>,
    pub(crate) events: broadcast::Sender<Bytes>,
    pub(crate) figures: Figures,
    document: Document,
    /// Those who listen to events leave room for those who call.
    pub(crate) listeners: Arc<Semaphore>,
    /// Tells a connection that rests that its place is wanted.
    pub(crate) wanted: Notify,
    /// Changes, by its end, when the gateway is to stop.
    pub(crate) stopping: watch::Receiver<()>,
}

impl State {
    pub(crate) fn new(
        config: Config,
        client: Client,
        services: watch::Receiver<Arc<Services>>,
        events: broadcast::Sender<Bytes>,
        stopping: watch::Receiver<()>,
    ) -> Self {
        let listeners = (config.max_connections / 4).clamp(1, Semaphore::MAX_PERMITS);
        let listeners = Arc::new(Semaphore::new(listeners));
        let (figures, document) = (Figures::default(), Document::default());
        let wanted = Notify::new();
        Self { config, client, services, events, figures, document, listeners, wanted, stopping }
    }

    /// One of a gateway for itself, in front of nothing, and what is to be held while it is used.
    #[cfg(test)]
    pub(crate) async fn alone() -> (Self, Held) {
        let client = Client::connect().settings(micro::Settings::none());
        let client = client.registry(micro::registry::MemoryRegistry::new()).await;
        let client = client.expect("nothing is in the way");
        let (services, seen) = watch::channel(Arc::default());
        let ((stop, stopping), (events, _)) = (watch::channel(()), broadcast::channel(1));
        let state = Self::new(Config::default(), client, seen, events, stopping);
        (state, (services, stop))
    }

    /// The services as they are now.
    pub(crate) fn services(&self) -> Arc<Services> {
        self.services.borrow().clone()
    }

    fn metrics(&self) -> String {
        self.figures.beside(&self.client.metrics())
    }

    fn is_stopping(&self) -> bool {
        self.stopping.has_changed().is_err()
    }
}

/// What says which services there are, and that it is to stop.
#[cfg(test)]
pub(crate) type Held = (watch::Sender<Arc<Services>>, watch::Sender<()>);

/// Answers a request.
pub(crate) async fn answer(request: Request<Incoming>, state: &Arc<State>) -> Reply {
    // Who sends both this and a length may have another request hidden in the body, for a proxy
    // that believed the length: what follows on this connection is never looked at.
    let is_last = request.headers().contains_key(TRANSFER_ENCODING);
    let origin = request.headers().get(ORIGIN).cloned();
    let refused = |refusal: Refusal| refusal.into_response().map(Body::from);
    let mut reply = route(request, state).await.unwrap_or_else(refused);
    state.figures.count(reply.status());
    let headers = reply.headers_mut();
    // What is there now, and was said to this caller, is for nobody else and for no other time.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    cors::expose(&state.config, origin.as_ref(), headers);
    if is_last {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

async fn route(request: Request<Incoming>, state: &Arc<State>) -> Result<Reply, Refusal> {
    let (head, body) = request.into_parts();
    let config = &state.config;
    check_source(&head.uri, &head.headers, &config.hosts, &config.origins)?;
    if cors::is_preflight(&head) {
        return Ok(cors::preflight(config, &head.headers));
    }
    if let Some(reply) = for_everybody(&head, state) {
        return to_look_at(&head, reply);
    }
    if let Err(status) = config.access.check(&head) {
        return Ok(denied(status, &config.access));
    }
    if !LOOKS.contains(&head.uri.path()) {
        return call::answer(&head, body, state).await;
    }
    config.access.check_rule(&head, None)?;
    let reply = match head.uri.path() {
        "/metrics" => reply(figures::TYPE, state.metrics()),
        "/services" => look::services(state),
        "/describe" => look::describe(head.uri.query(), state)?,
        "/events" => events::events(state)?,
        _ => reply("application/json", state.document.of(&state.services(), &config.access)),
    };
    to_look_at(&head, reply)
}

/// What is only looked at; every other path is a call's.
const LOOKS: [&str; 5] = ["/metrics", "/services", "/describe", "/events", "/openapi.json"];

/// What tells nothing about services.
fn for_everybody(head: &Parts, state: &State) -> Option<Reply> {
    match head.uri.path() {
        "/health/live" => Some(text(StatusCode::OK, "ok")),
        "/health/ready" => Some(ready(state)),
        path => page::file(path),
    }
}

fn ready(state: &State) -> Reply {
    if state.is_stopping() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "stopping");
    }
    if state.services.has_changed().is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the registry is gone");
    }
    match state.services().has_answered {
        true => text(StatusCode::OK, "ok"),
        false => text(StatusCode::SERVICE_UNAVAILABLE, "the registry has not answered yet"),
    }
}

/// What is only looked at takes no other verb.
fn to_look_at(head: &Parts, reply: Reply) -> Result<Reply, Refusal> {
    match head.method {
        Method::GET | Method::HEAD => Ok(reply),
        _ => Err(Refusal::method_not_allowed("GET", head.uri.path())),
    }
}

/// Browsers and programs are told what is asked of them, where HTTP has a name for it.
fn denied(status: Status, access: &Access) -> Reply {
    let mut reply = Refusal::from(status).into_response().map(Body::from);
    if matches!(access, Access::Bearer(_)) {
        reply.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    reply
}

#[cfg(test)]
mod tests {
    use micro::registry::{EmptyReason, Update};

    use super::*;
    use crate::catalogue::Catalogue;

    /// It is ready while it knows what there is, and not any more once nobody tells it.
    #[tokio::test]
    async fn readiness() {
        let (state, (services, _stop)) = State::alone().await;
        assert_eq!(ready(&state).status(), 503);
        let mut catalogue = Catalogue::new(Config::default());
        catalogue.apply(&[Update::reset(Vec::new(), EmptyReason::Unknown)]);
        services.send_replace(Arc::new(catalogue.services().clone()));
        assert_eq!(ready(&state).status(), 200);
        drop(services);
        assert_eq!(ready(&state).status(), 503);
    }
}
