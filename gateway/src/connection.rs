//! One connection.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::{State, answer};
use crate::stall::Stall;

/// Answers its requests until it closes, or until the gateway stops and the answer that is being made
/// is written. The place is free again then.
pub(crate) async fn serve(stream: TcpStream, place: OwnedSemaphorePermit, state: Arc<State>) {
    let _place = place;
    let _connected = state.figures.connected();
    // It only costs time if it cannot be set.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        async move { Ok::<_, Infallible>(answer(request, &state).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.config.stall_timeout)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(Stall::new(stream, state.config.stall_timeout)), service);
    let mut connection = pin!(connection);
    let mut stopping = state.stopping.clone();
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Bytes buffered of a request's head, and of its body while it is read.
const MAX_HEADERS: usize = 64 * 1024;
