//! A connection on the server's own port.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::{Instant, timeout_at};

use super::impatient::rest;
use super::stream::HttpStream;
use super::{Caller, Reply, answer};
use crate::Peer;
use crate::pipe::Pipe;
use crate::server::LINGER;
use crate::server::places::Pulse;
use crate::server::shared::{Place, Shared, stopping};

/// Serves an HTTP connection until the client closes it, the server stops or needs the place.
pub(in crate::server) async fn serve(
    pipe: Pipe,
    peer: Peer,
    shared: Arc<Shared>,
    place: &mut Place,
) {
    let (stream, read) = pipe.into_parts();
    let hosts = Arc::clone(&shared.web.hosts);
    let (pulse, rate) = (Arc::clone(place.pulse()), shared.rates.of(Some(peer)));
    let caller = Caller { peer: Some(peer), pulse, hosts, rate };
    let service = service_fn(|request| {
        let (shared, caller) = (Arc::clone(&shared), caller.clone());
        let answering = Answering::new(&caller.pulse);
        Box::pin(async move {
            let _answering = answering;
            Ok::<_, Infallible>(reply(request, &caller, &shared).await)
        })
    });
    let pulse = Arc::clone(place.pulse());
    let stream = HttpStream::new(read, stream, pulse, shared.limits.stall_timeout);
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // From the answer before; the stream sees to it that a head which has begun comes in time.
        .header_read_timeout(rest(shared.limits.stall_timeout))
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

/// Keeps a connection from being idle from the head of a request on, while its body comes and until
/// its answer is written, which [`HttpStream`] notes: hyper takes the answer, which is whole, in the
/// same poll that made it.
struct Answering(Arc<Pulse>);

impl Answering {
    fn new(pulse: &Arc<Pulse>) -> Self {
        pulse.began();
        Self(Arc::clone(pulse))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.owes(true);
        self.0.ended();
    }
}

/// Bytes buffered of a request's head, and of its body while it is read.
const MAX_HEADERS: usize = 64 * 1024;

async fn reply(request: hyper::Request<Incoming>, caller: &Caller, shared: &Arc<Shared>) -> Reply {
    // Who sends both this and a length may have another request hidden in the body, for a proxy
    // that believed the length: what follows on this connection is never looked at.
    let is_last = request.headers().contains_key(TRANSFER_ENCODING);
    let mut reply = answer(request, caller, shared).await;
    if is_last || !shared.is_serving() {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}
