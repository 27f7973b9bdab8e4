//! HTTP/1.1 on the same port: `curl` as a client, health and description.

mod guard;
mod reply;
mod stream;

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, timeout, timeout_at};

use self::reply::Refusal;
use self::stream::HttpStream;
use super::LINGER;
use super::call::{self, Call};
use super::places::Pulse;
use super::router::Route;
use super::shared::{Phase, Place, Running, Shared, stopping};
use crate::pipe::Pipe;
use crate::{Code, Codec, Peer, Request, Response, Status, TraceContext};

type Reply = hyper::Response<Full<Bytes>>;

/// Serves an HTTP connection until the client closes it, the server stops or needs the place.
pub(super) async fn serve(pipe: Pipe, peer: Peer, shared: Arc<Shared>, place: &mut Place) {
    let (stream, read) = pipe.into_parts();
    let caller = Caller { peer, pulse: Arc::clone(place.pulse()) };
    let service = service_fn(|request| {
        let (shared, caller) = (Arc::clone(&shared), caller.clone());
        Box::pin(async move { Ok::<_, Infallible>(reply(request, &caller, &shared).await) })
    });
    let stream = HttpStream::new(read, stream, shared.limits.stall_timeout);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.limits.stall_timeout)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut phases = shared.phases();
    let until = tokio::select! {
        _ = poll_fn(|cx| connection.poll_without_shutdown(cx)) => None,
        () = place.lost() => Some(Instant::now() + LINGER),
        until = stopping(&mut phases) => Some(until),
    };
    if let Some(until) = until {
        // The answer that is being made is still sent, and then the connection closes.
        Pin::new(&mut connection).graceful_shutdown();
        let ending = poll_fn(|cx| connection.poll_without_shutdown(cx));
        if timeout_at(until, ending).await.is_err() {
            return;
        }
    }
    connection.into_parts().io.into_inner().close().await;
}

/// Who calls, over which connection.
#[derive(Clone)]
struct Caller {
    peer: Peer,
    pulse: Arc<Pulse>,
}

/// Bytes buffered of a request's head, and of its body while it is read.
const MAX_HEADERS: usize = 64 * 1024;

async fn reply(request: hyper::Request<Incoming>, caller: &Caller, shared: &Arc<Shared>) -> Reply {
    // Who sends both this and a length may have another request hidden in the body, for a proxy
    // that believed the length: what follows on this connection is never looked at.
    let is_last = request.headers().contains_key(TRANSFER_ENCODING);
    let mut reply = match route(request, caller, shared).await {
        Ok(reply) => reply,
        Err(refusal) => refusal.into_reply(),
    };
    if is_last || !shared.is_serving() {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

async fn route(
    request: hyper::Request<Incoming>,
    caller: &Caller,
    shared: &Arc<Shared>,
) -> Result<Reply, Refusal> {
    guard::check(request.uri(), request.headers(), &shared.web.hosts)?;
    let path = request.uri().path().to_owned();
    let known = match path.as_str() {
        "/health/live" => reply::text(StatusCode::OK, "ok"),
        "/health/ready" => ready(shared),
        "/describe" => reply::json(StatusCode::OK, shared.web.describe.clone()),
        _ => return call(request, &path, caller, shared).await,
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
async fn call(
    request: hyper::Request<Incoming>,
    path: &str,
    caller: &Caller,
    shared: &Arc<Shared>,
) -> Result<Reply, Refusal> {
    let (route, method) = find(path, shared)?;
    if request.method() != Method::POST {
        return Err(Refusal::method_not_allowed("POST", path));
    }
    if shared.is_stopping() {
        return Err(call::draining().into());
    }
    let (head, body) = request.into_parts();
    let names = (route.contract.clone(), route.method(method));
    let mut call = Request::new(names.0, names.1, Codec::Json, Bytes::new());
    call.deadline = deadline(&head.headers)?;
    call.trace = trace(&head.headers);
    call.peer = Some(caller.peer);
    call.body = read_body(body, shared).await?;
    caller.pulse.beat(Instant::now());
    run(call, route, caller, shared).await
}

/// The route a path leads to, and the method it names.
fn find<'a>(path: &'a str, shared: &'a Shared) -> Result<(&'a Arc<Route>, &'a str), Refusal> {
    let names = path.strip_prefix('/').and_then(|names| names.split_once('/'));
    let Some((contract, method)) = names else { return Err(Refusal::not_found(path)) };
    let routes = &shared.routes;
    let unknown = || Refusal::unknown_method(&routes.unknown(contract, method));
    Ok((routes.find(contract, method).ok_or_else(unknown)?, method))
}

/// Runs the handler on the connection's task, which does nothing else meanwhile.
async fn run(
    request: Request,
    route: &Arc<Route>,
    caller: &Caller,
    shared: &Arc<Shared>,
) -> Result<Reply, Refusal> {
    if request.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Err(call::expired().refused().into());
    }
    let running = Running::new(shared, &caller.pulse);
    let mut phases = shared.phases();
    let outcome = tokio::select! {
        outcome = Call::new(route, request).finish() => outcome,
        () = grace_ended(&mut phases) => {
            shared.note_aborted(1);
            Err(call::aborted())
        }
    };
    drop(running);
    let Response { body, codec, .. } = match outcome {
        // It knows its methods better than the routes do.
        Err(status) if route.is_fallback() && status.code() == Code::Unimplemented => {
            return Err(Refusal::unknown_method(&status));
        }
        outcome => outcome?,
    };
    Ok(reply::json(StatusCode::OK, reply::to_json(codec, body)?))
}

async fn grace_ended(phases: &mut tokio::sync::watch::Receiver<Phase>) {
    let until = stopping(phases).await;
    // A little early, so that the answer gets out before the connection is dropped.
    tokio::time::sleep_until(until.checked_sub(FLUSH).unwrap_or(until)).await;
}

const FLUSH: Duration = Duration::from_millis(20);

/// Reads the body within the frame limit; none at all stands for a request without fields.
async fn read_body(body: Incoming, shared: &Shared) -> Result<Bytes, Refusal> {
    let limit = shared.limits.max_frame;
    if body.size_hint().lower() > limit as u64 {
        return Err(Refusal::too_large(limit));
    }
    let collected = timeout(shared.limits.stall_timeout, Limited::new(body, limit).collect()).await;
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

/// Reads `micro-timeout: 200ms`.
fn deadline(headers: &HeaderMap) -> Result<Option<Instant>, Refusal> {
    let Some(value) = headers.get("micro-timeout") else { return Ok(None) };
    let timeout = value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
        let message = "micro-timeout is a whole number with a unit, such as 200ms, 2s or 500us";
        Status::new(Code::InvalidArgument, message)
    })?;
    Ok(Some(Instant::now() + timeout))
}

/// A day is as good as for ever, and cannot overflow a clock.
fn parse_timeout(text: &str) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let number = number.parse().ok()?;
    let timeout = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        _ => return None,
    };
    Some(timeout.min(DAY))
}

/// A `traceparent` that cannot be read starts no trace, as the recommendation asks.
fn trace(headers: &HeaderMap) -> Option<TraceContext> {
    headers.get("traceparent")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A timeout needs its unit, and an absurd one does not overflow.
    #[test]
    fn timeouts() {
        assert_eq!(parse_timeout("200ms"), Some(Duration::from_millis(200)));
        assert_eq!(parse_timeout("2s"), Some(Duration::from_secs(2)));
        assert_eq!(parse_timeout("18446744073709551615s"), Some(Duration::from_secs(86_400)));
        for wrong in ["", "5", "ms", "-5s", "1.5s", "5 s", "99999999999999999999s"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }
}
