//! A call: from a request to a service, and back.

use std::net::IpAddr;

use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::request::Parts;
use http::{Method as Verb, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use micro::dynamic::{Encoded, arguments};
use micro::rpc::web::{self, Refusal};
use micro::rpc::{Codec, Metadata, Status};
use micro::{Code, Error, Filter, Phase, Reply as Replied};
use tokio::time::{Instant, timeout};

use crate::Config;
use crate::access::token;
use crate::answer::State;
use crate::body::{Reply, reply};
use crate::interface::Method;
use crate::target::resolve;

/// Makes the call that a request is, and answers it.
pub(crate) async fn answer(head: &Parts, body: Incoming, state: &State) -> Result<Reply, Refusal> {
    let until = until(head, state)?;
    let (path, method) = resolve(head, until, state).await?;
    let is_listed = method.endpoint.is_some();
    let body = match head.method {
        Verb::POST => read(body, state).await?,
        Verb::GET if method.idempotent => from_query(head, &method)?,
        Verb::GET if method.endpoint.is_none() && is_undescribed(path.service, state) => {
            let message = undescribed(path.service);
            return Err(Status::new(Code::Unavailable, message).into());
        }
        _ => return Err(wrong_verb(&method, head)),
    };
    if until <= Instant::now() {
        return Err(Status::new(Code::DeadlineExceeded, LATE).into());
    }
    let Method { contract, name, idempotent, .. } = method;
    let body = Encoded::new(Codec::Json, body);
    let mut call = state.client.call_encoded(path.service, contract, name, body);
    call = call.timeout(until - Instant::now()).idempotent(idempotent);
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
    if let Some(filter) = filter(&head.headers, path.service, state)? {
        call = call.filter(filter);
    }
    let replied = call.encoded_reply().await;
    let replied = replied.map_err(|error| refusal(&error, is_listed, path.service, state))?;
    answered(replied)
}

const LATE: &str = "the deadline passed before the call could begin";

/// When the call ends, the time included for which it waits and is read.
fn until(head: &Parts, state: &State) -> Result<Instant, Refusal> {
    let Config { timeout, max_timeout, .. } = state.config;
    let timeout = web::timeout(&head.headers)?.unwrap_or(timeout);
    Ok(Instant::now() + timeout.min(max_timeout))
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
    from_elsewhere(head)?;
    let Some(endpoint) = &method.endpoint else { return Err(wrong_verb(method, head)) };
    let query = head.uri.query().unwrap_or_default();
    let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
    let arguments = arguments(endpoint, pairs).map_err(|error| error.to_status())?;
    let encoded = Codec::Json.encode(&arguments);
    Ok(encoded.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?)
}

/// Refuses what a page of a foreign site makes a browser get, an image for example, of which it does
/// not send the origin. Browsers say where such a request comes from over `https` and to the
/// loopback; elsewhere it has to have something that a page cannot add.
fn from_elsewhere(head: &Parts) -> Result<(), Refusal> {
    let headers = &head.headers;
    // With an origin it was checked already.
    if headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let message = match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"cross-site" | b"same-site") => "pages of other sites may not call this server",
        None if !is_loopback(head) && !is_no_page(headers) => UNKNOWN_SOURCE,
        _ => return Ok(()),
    };
    Err(Status::new(Code::PermissionDenied, message).into())
}

const UNKNOWN_SOURCE: &str = "a GET that may be of any page is not answered: use POST, or send a \
                              header such as micro-timeout or a bearer token";

/// Whether the host is one to which browsers say which page asks. Only HTTP/1.0 names none, which
/// browsers do not speak.
fn is_loopback(head: &Parts) -> bool {
    let named = head.headers.get(HOST).and_then(|host| host.to_str().ok()?.parse().ok());
    let Some(host) = head.uri.authority().cloned().or(named) else {
        return !head.headers.contains_key(HOST);
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let is_address = name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    is_address || name.eq_ignore_ascii_case("localhost")
}

/// Whether it has what browsers add for no page: passwords they know they send of their own accord.
fn is_no_page(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with("micro-")) || token(headers).is_some()
}

/// What goes along: what does on a service's own port, and the headers that are to be forwarded.
fn metadata(headers: &HeaderMap, state: &State) -> Result<Metadata, Refusal> {
    let mut metadata = web::metadata(headers)?;
    if state.config.access.takes_authorization() {
        metadata.remove("authorization");
    }
    for name in &state.config.forward {
        // A proxy in front sees to the header, and callers write `micro-meta-*` as they like.
        metadata.remove(name.as_str());
        let Some(value) = only(headers, name)? else { continue };
        let inserted = metadata.insert(name.as_str(), value);
        inserted.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    }
    Ok(metadata)
}

/// The value of a header that may come once at most, for who reads another of two is deceived.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Status> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| std::str::from_utf8(value.as_bytes()));
    match (first, values.next()) {
        (None, _) => Ok(None),
        (Some(Ok(value)), None) => Ok(Some(value)),
        _ => {
            let message = format!("the `{name}` header comes twice, or cannot be read");
            Err(Status::new(Code::InvalidArgument, message))
        }
    }
}

/// Which versions come into question, by the header `micro-version`. One that nobody has registered
/// is the caller's mistake, as a service is that nobody has; one that wants no traffic now is not.
fn filter(headers: &HeaderMap, service: &str, state: &State) -> Result<Option<Filter>, Refusal> {
    let Some(version) = headers.get("micro-version") else { return Ok(None) };
    let version = version.to_str().unwrap_or_default();
    let filter = Filter::default().version(version);
    let filter = filter.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    let services = state.services();
    let registered: Vec<_> = services.get(service).iter().flat_map(|known| known.names()).collect();
    // Of a service that has left nobody knows its versions, and the call says that it has.
    if registered.is_empty() || registered.iter().any(|one| filter.allows_version(one)) {
        return Ok(Some(filter));
    }
    let registered = registered.join(", ");
    let message =
        format!("no node of service `{service}` has version `{version}`: there is {registered}");
    Err(Status::new(Code::NotFound, message).into())
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

/// The error of a call; an unknown method is one of the path. Where nodes are is told to the log
/// alone.
fn refusal(error: &Error, is_listed: bool, service: &str, state: &State) -> Refusal {
    if error.attempts() > 1 || error.phase() == Phase::Connect {
        // Callers set the pace.
        tracing::debug!(%error, "a call failed");
    }
    let status = error.to_status();
    if error.code() != Code::Unimplemented || is_listed {
        return status.into();
    }
    let message = match is_undescribed(service, state) {
        true => format!("{}; {}", status.message(), undescribed(service)),
        false => format!("{}; GET /openapi.json lists what there is", status.message()),
    };
    Refusal::new(StatusCode::NOT_FOUND, Status::new(error.code(), message))
}

fn is_undescribed(service: &str, state: &State) -> bool {
    state.services().get(service).is_some_and(|known| !known.is_described)
}

fn undescribed(service: &str) -> String {
    format!(
        "no node of `{service}` says what it serves: call it with POST /{service}/contract/method"
    )
}

fn wrong_verb(method: &Method, head: &Parts) -> Refusal {
    let allowed = if method.idempotent { "GET, POST" } else { "POST" };
    Refusal::method_not_allowed(allowed, head.uri.path())
}
