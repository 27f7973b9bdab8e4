//! A call: from a request to a service, and back.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method as Verb, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use micro::dynamic::{Encoded, arguments};
use micro::rpc::web::{self, Refusal};
use micro::rpc::{Codec, Metadata, Status};
use micro::{Code, Error, Filter, Reply as Replied};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::State;
use crate::body::{Reply, reply};
use crate::catalogue::{Found, Known, Method};

/// Makes the call that a request is, and answers it.
pub(crate) async fn answer(head: &Parts, body: Incoming, state: &State) -> Result<Reply, Refusal> {
    let path = head.uri.path();
    let path = Path::of(path).ok_or_else(|| nothing_at(path))?;
    let timeout = web::timeout(&head.headers)?.unwrap_or(state.config.timeout);
    let method = find(&path, Instant::now() + timeout, state).await?;
    let is_listed = method.endpoint.is_some();
    let body = match head.method {
        Verb::POST => read(body, state).await?,
        Verb::GET if method.idempotent => from_query(head, &method)?,
        _ => return Err(wrong_verb(&method, head)),
    };
    let Method { contract, name, idempotent, .. } = method;
    let body = Encoded::new(Codec::Json, body);
    let mut call = state.client.call_encoded(path.service, contract, name, body);
    call = call.timeout(timeout).idempotent(idempotent);
    call = call.criticality(web::criticality(&head.headers)?);
    for (key, value) in metadata(&head.headers, state)?.iter() {
        call = call.metadata(key, value);
    }
    if !is_listed {
        call = call.unlisted();
    }
    if let Some(trace) = web::trace(&head.headers) {
        call = call.trace(trace);
    }
    if let Some(filter) = filter(&head.headers)? {
        call = call.filter(filter);
    }
    let replied = call.encoded_reply().await.map_err(|error| refusal(&error, is_listed))?;
    answered(replied)
}

/// What a call's path names.
#[derive(Debug, PartialEq)]
struct Path<'a> {
    service: &'a str,
    contract: Option<&'a str>,
    method: &'a str,
}

impl<'a> Path<'a> {
    /// `/service/method` or `/service/contract/method`.
    fn of(path: &'a str) -> Option<Self> {
        let (service, rest) = path.strip_prefix('/')?.split_once('/')?;
        let (contract, method) = match rest.split_once('/') {
            Some((contract, method)) => (Some(contract), method),
            None => (None, rest),
        };
        let is_complete = !service.is_empty() && !method.is_empty() && !method.contains('/');
        is_complete.then_some(Self { service, contract, method })
    }
}

/// The method that is meant. Waits for the registry's first word, and for that of a node whose
/// registration leaves its methods out, no longer than the call may take.
async fn find(path: &Path<'_>, until: Instant, state: &State) -> Result<Method, Refusal> {
    if !state.config.allows(path.service) {
        return Err(no_service(path.service));
    }
    let now = state.services();
    if let Some(known) = now.get(path.service).filter(|known| is_enough(known, path)) {
        return look_up(known, path);
    }
    let mut services = state.services.clone();
    let clear = services.wait_for(|services| match services.get(path.service) {
        Some(known) => is_enough(known, path),
        None => services.has_answered,
    });
    let late = "the registry did not answer before the deadline";
    let services = match timeout_at(until, clear).await {
        Err(_) => return Err(Status::new(Code::DeadlineExceeded, late).into()),
        Ok(Err(_)) => return Err(Status::new(Code::Unavailable, "the registry is gone").into()),
        Ok(Ok(services)) => services.clone(),
    };
    let known = services.get(path.service).ok_or_else(|| no_service(path.service))?;
    look_up(known, path)
}

/// Whether the method can be told from what is known.
fn is_enough(known: &Known, path: &Path<'_>) -> bool {
    known.is_described
        || matches!(find_in(known, path), Found::Method(Method { endpoint: Some(_), .. }))
}

fn find_in(known: &Known, path: &Path<'_>) -> Found {
    known.find(path.service, path.contract, path.method)
}

fn look_up(known: &Known, path: &Path<'_>) -> Result<Method, Refusal> {
    let Path { service, method, .. } = path;
    match find_in(known, path) {
        Found::Method(method) => Ok(method),
        Found::Several(contracts) => {
            let paths: Vec<_> =
                contracts.iter().map(|one| format!("/{service}/{one}/{method}")).collect();
            let paths = paths.join(" or ");
            let message = format!("several contracts of `{service}` have `{method}`: call {paths}");
            Err(Status::new(Code::InvalidArgument, message).into())
        }
        Found::Nothing => {
            let message = format!(
                "service `{service}` has no method `{method}`; GET /openapi.json lists all"
            );
            let status = Status::new(Code::Unimplemented, message);
            Err(Refusal::new(StatusCode::NOT_FOUND, status))
        }
    }
}

/// Reads the body; none at all stands for no arguments.
async fn read(body: Incoming, state: &State) -> Result<Bytes, Refusal> {
    let limit = state.config.max_body;
    if body.size_hint().lower() > limit as u64 {
        return Err(Refusal::too_large(limit));
    }
    let collected = timeout(state.config.stall_timeout, Limited::new(body, limit).collect()).await;
    match collected {
        Err(_) => Err(Refusal::too_slow()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::too_large(limit)),
        Ok(Err(error)) => Err(Status::new(Code::InvalidArgument, error.to_string()).into()),
        Ok(Ok(body)) => match body.to_bytes() {
            empty if empty.is_empty() => Ok(Bytes::from_static(b"{}")),
            bytes => Ok(bytes),
        },
    }
}

/// The arguments in a query, as the method's schema says what they are.
fn from_query(head: &Parts, method: &Method) -> Result<Bytes, Refusal> {
    from_elsewhere(&head.headers)?;
    let Some(endpoint) = &method.endpoint else { return Err(wrong_verb(method, head)) };
    let query = head.uri.query().unwrap_or_default();
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
    let arguments = arguments(endpoint, pairs).map_err(|error| error.to_status())?;
    let encoded = Codec::Json.encode(&arguments);
    Ok(encoded.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?)
}

/// Refuses what a page of a foreign site makes a browser get, an image for example, of which it does
/// not send the origin.
fn from_elsewhere(headers: &HeaderMap) -> Result<(), Refusal> {
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    // With an origin it was checked already.
    let is_known = headers.contains_key(http::header::ORIGIN);
    match site {
        Some(b"cross-site" | b"same-site") if !is_known => {
            let message = "pages of other sites may not call this server";
            Err(Status::new(Code::PermissionDenied, message).into())
        }
        _ => Ok(()),
    }
}

/// What goes along: what does on a service's own port, and the headers that are to be forwarded.
fn metadata(headers: &HeaderMap, state: &State) -> Result<Metadata, Refusal> {
    let mut metadata = web::metadata(headers)?;
    if state.config.access.takes_authorization() {
        metadata.remove("authorization");
    }
    for name in &state.config.forward {
        let Some(value) = headers.get(name) else { continue };
        let invalid = |why: String| Status::new(Code::InvalidArgument, why);
        let value = std::str::from_utf8(value.as_bytes())
            .map_err(|_| invalid(format!("the `{name}` header cannot be read")))?;
        metadata.insert(name.as_str(), value).map_err(|error| invalid(error.to_string()))?;
    }
    Ok(metadata)
}

/// Which versions come into question, by the header `micro-version`.
fn filter(headers: &HeaderMap) -> Result<Option<Filter>, Refusal> {
    let Some(version) = headers.get("micro-version") else { return Ok(None) };
    let filter = Filter::default().version(version.to_str().unwrap_or_default());
    let filter = filter.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    Ok(Some(filter))
}

fn answered(replied: Replied<Encoded>) -> Result<Reply, Refusal> {
    let Encoded { codec, body, .. } = replied.value;
    let mut answer = reply("application/json", web::to_json(codec, body)?);
    let headers = answer.headers_mut();
    web::put_metadata(headers, &replied.metadata);
    let node = replied.node.and_then(|node| HeaderValue::from_str(&node.node.id).ok());
    if let Some(node) = node {
        headers.insert(NODE, node);
    }
    if replied.attempts > 1 {
        headers.insert(ATTEMPTS, replied.attempts.into());
    }
    Ok(answer)
}

/// The id of the node that answered.
const NODE: HeaderName = HeaderName::from_static("micro-node");
/// How many attempts there were, if more than one.
const ATTEMPTS: HeaderName = HeaderName::from_static("micro-attempts");

/// The error of a call; an unknown method is one of the path.
fn refusal(error: &Error, is_listed: bool) -> Refusal {
    if error.code() == Code::Unimplemented && !is_listed {
        let message = format!("{}; GET /openapi.json lists what there is", error.message());
        return Refusal::new(StatusCode::NOT_FOUND, Status::new(error.code(), message));
    }
    error.to_status().into()
}

fn nothing_at(path: &str) -> Refusal {
    let message = format!(
        "nothing at `{path}`; call a method with POST /service/method, or see GET /openapi.json"
    );
    Status::new(Code::NotFound, message).into()
}

fn no_service(service: &str) -> Refusal {
    let message = format!("no node of service `{service}` is registered");
    Status::new(Code::NotFound, message).into()
}

fn wrong_verb(method: &Method, head: &Parts) -> Refusal {
    let allowed = if method.idempotent { "GET, POST" } else { "POST" };
    Refusal::method_not_allowed(allowed, head.uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two names are a service and its method, three have the contract between them.
    #[test]
    fn paths() {
        let path = |service, contract, method| Some(Path { service, contract, method });
        assert_eq!(Path::of("/a/b"), path("a", None, "b"));
        assert_eq!(Path::of("/a/b/c"), path("a", Some("b"), "c"));
        assert_eq!(Path::of("/a//c"), path("a", Some(""), "c"));
        for other in ["", "/", "/a", "/a/", "//b", "/a/b/", "/a/b/c/d", "a/b"] {
            assert_eq!(Path::of(other), None, "{other}");
        }
    }
}
