//! HTTP/1.1: `curl` as a client, health and description, on the same port or inside an application.

mod connection;
mod guard;
mod headers;
mod impatient;
mod mount;
mod page;
mod reply;
mod stream;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Body;
use hyper::{Method, StatusCode};
use tokio::time::{Instant, timeout};

pub(super) use self::connection::serve;
pub use self::guard::check_source;
pub use self::headers::{criticality, metadata, put_metadata, timeout as timeout_of, trace};
pub use self::impatient::{Impatient, rest};
pub(super) use self::mount::Mount;
pub use self::mount::{HttpBody, HttpService};
pub use self::page::{Asked, Page};
pub use self::reply::{Refusal, to_json};
use super::call::{self, Call};
use super::gate::{Gate, Running, Verdict};
use super::places::Pulse;
use super::rate::Rate;
use super::router::Route;
use super::shared::{Owing, Phase, Shared, stopping};
use super::stats::Noted;
use crate::{Code, Codec, Peer, Request, Response, Status};

type Reply = hyper::Response<Full<Bytes>>;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Who calls, over which connection, and which names of ours they may use.
#[derive(Clone)]
struct Caller {
    peer: Option<Peer>,
    pulse: Arc<Pulse>,
    hosts: Arc<[String]>,
    rate: Option<Arc<Rate>>,
}

/// Answers a request, whoever's server brought it.
async fn answer<B>(request: hyper::Request<B>, caller: &Caller, shared: &Arc<Shared>) -> Reply
where
    B: Body,
    B::Error: Into<BoxError>,
{
    route(request, caller, shared).await.unwrap_or_else(Refusal::into_reply)
}

async fn route<B>(
    request: hyper::Request<B>,
    caller: &Caller,
    shared: &Arc<Shared>,
) -> Result<Reply, Refusal>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    check_source(request.uri(), request.headers(), &caller.hosts, &[])?;
    let path = request.uri().path().to_owned();
    let known = match path.as_str() {
        "/health/live" => reply::text(StatusCode::OK, "ok"),
        "/health/ready" => ready(shared),
        "/describe" => reply::json(StatusCode::OK, shared.web.describe.clone()),
        _ => match shared.web.pages.iter().find(|page| page.is_at(&path)) {
            Some(_) => return page::answer(request, caller, shared).await,
            None => return call(request, &path, caller, shared).await,
        },
    };
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(known);
    }
    Err(Refusal::method_not_allowed("GET", &path))
}

fn ready(shared: &Shared) -> Reply {
    let verdict = match shared.is_serving() {
        true => (shared.web.ready)(),
        false => Err("draining".to_owned()),
    };
    match verdict {
        Ok(()) => reply::text(StatusCode::OK, "ok"),
        Err(reason) => reply::text(StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

/// Runs a method, through the same gates as a call over `micro/1`.
async fn call<B>(
    request: hyper::Request<B>,
    path: &str,
    caller: &Caller,
    shared: &Arc<Shared>,
) -> Result<Reply, Refusal>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let mut since = Instant::now();
    let called = find(request.method(), path, shared)
        .inspect_err(|refusal| shared.note_astray(refusal.code(), since.elapsed()))?;
    match open(request, &called, &mut since, caller, shared).await {
        Ok((request, verdict)) => {
            let noted = Noted::new(called.route, since);
            run(called.number, noted, request, verdict, caller, shared).await
        }
        Err(refusal) => {
            called.route.tally.note(Err(refusal.code()), since.elapsed());
            Err(refusal)
        }
    }
}

/// Reads a request and passes it through the gates; `since` becomes the time when it has been read.
async fn open<B>(
    request: hyper::Request<B>,
    called: &Called<'_>,
    since: &mut Instant,
    caller: &Caller,
    shared: &Arc<Shared>,
) -> Result<(Request, Verdict), Refusal>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if shared.is_stopping() {
        return Err(call::draining().into());
    }
    if let Some(rate) = &caller.rate {
        rate.check()?;
    }
    let (head, body) = request.into_parts();
    let names = (called.route.contract.clone(), called.route.name_of(called.method));
    let mut call = Request::new(names.0, names.1, Codec::Json, Bytes::new());
    call.deadline = headers::deadline(&head.headers)?;
    call.criticality = headers::criticality(&head.headers)?;
    call.trace = headers::trace(&head.headers);
    call.metadata = headers::metadata(&head.headers)?;
    call::check_metadata(&call.metadata, &shared.limits)?;
    call.peer = caller.peer;
    call.extensions = head.extensions;
    if let Some(refused) = shared.gate.sheds(call.criticality) {
        return Err(Status::from(refused).into());
    }
    let mut phases = shared.phases();
    let body = tokio::select! {
        body = read_body(body, shared, shared.limits.max_frame) => body?,
        () = grace_ended(&mut phases) => return Err(call::draining().into()),
    };
    // None at all stands for a request without fields.
    call.body = if body.is_empty() { Bytes::from_static(b"{}") } else { body };
    *since = Instant::now();
    caller.pulse.beat(*since);
    if call.deadline.is_some_and(|deadline| deadline <= *since) {
        return Err(call::expired().refused().into());
    }
    let verdict = Gate::admit(shared, called.number, call.criticality).map_err(Status::from)?;
    Ok((call, verdict))
}

/// The method that is called, and its route with the number of that among all.
struct Called<'a> {
    number: usize,
    route: &'a Arc<Route>,
    method: &'a str,
}

/// What is called with this verb at this path.
fn find<'a>(verb: &Method, path: &'a str, shared: &'a Shared) -> Result<Called<'a>, Refusal> {
    let names = path.strip_prefix('/').and_then(|names| names.split_once('/'));
    let Some((contract, method)) = names else { return Err(Refusal::not_found(path)) };
    let routes = &shared.routes;
    let unknown = || Refusal::unknown_method(&routes.unknown(contract, method));
    let (number, route) = routes.find(contract, method).ok_or_else(unknown)?;
    if verb != Method::POST {
        return Err(Refusal::method_not_allowed("POST", path));
    }
    Ok(Called { number, route, method })
}

/// Runs the handler on the connection's task, which does nothing else meanwhile.
async fn run(
    number: usize,
    noted: Noted,
    request: Request,
    verdict: Verdict,
    caller: &Caller,
    shared: &Arc<Shared>,
) -> Result<Reply, Refusal> {
    let _owing = Owing::new(&caller.pulse);
    let is_fallback = noted.route.is_fallback();
    let mut phases = shared.phases();
    let outcome = tokio::select! {
        // First, for it knows whether the call began.
        biased;
        outcome = outcome(number, noted, request, verdict, shared) => outcome,
        () = grace_ended(&mut phases) => {
            shared.note_aborted(1);
            Err(call::aborted())
        }
    };
    let Response { body, codec, metadata } = match outcome {
        // It knows its methods better than the routes do.
        Err(status) if is_fallback && status.code() == Code::Unimplemented => {
            return Err(Refusal::unknown_method(&status));
        }
        outcome => outcome?,
    };
    let mut reply = reply::json(StatusCode::OK, to_json(codec, body)?);
    headers::put_metadata(reply.headers_mut(), &metadata);
    Ok(reply)
}

async fn outcome(
    number: usize,
    noted: Noted,
    request: Request,
    verdict: Verdict,
    shared: &Arc<Shared>,
) -> call::Outcome {
    if let Verdict::Wait(waiting) = verdict {
        return call::queued(noted, request, waiting).await;
    }
    let (since, mut call) = (Instant::now(), Call::new(noted, request));
    if let Poll::Ready(outcome) = call.poll_first(&mut since.clone()) {
        return outcome;
    }
    let running = Running::new(shared, number, since);
    let outcome = call.finish().await;
    running.ended(&outcome);
    outcome
}

async fn grace_ended(phases: &mut tokio::sync::watch::Receiver<Phase>) {
    let until = stopping(phases).await;
    // A little early, so that the answer gets out before the connection is dropped.
    tokio::time::sleep_until(until.checked_sub(FLUSH).unwrap_or(until)).await;
}

const FLUSH: Duration = Duration::from_millis(20);

/// Reads a body of at most so many bytes.
async fn read_body<B>(body: B, shared: &Shared, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(Refusal::too_large(limit));
    }
    let collected = timeout(shared.limits.stall_timeout, Limited::new(body, limit).collect()).await;
    match collected {
        Err(_) => Err(Refusal::too_slow()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::too_large(limit)),
        Ok(Err(error)) => Err(Status::new(Code::InvalidArgument, error.to_string()).into()),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}
