//! One connection.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use micro::rpc::web::Impatient;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use crate::answer::{State, answer};

/// Answers its requests until it closes, its client does not read, or the gateway stops and the answer
/// that is being made is written. The place is free again then.
pub(crate) async fn serve(stream: TcpStream, place: OwnedSemaphorePermit, state: Arc<State>) {
    let _place = place;
    let _connected = state.figures.connected();
    // It only costs time if it cannot be set.
    let _ = stream.set_nodelay(true);
    let patience = state.config.stall_timeout;
    let is_answering = Arc::<AtomicBool>::default();
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        let answering = Answering::new(&is_answering);
        async move {
            let _answering = answering;
            Ok::<_, Infallible>(answer(request, &state).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(Impatient::new(stream, patience)), service);
    let mut connection = pin!(connection);
    let mut stopping = state.stopping.clone();
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            finish(connection, &is_answering, patience).await
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Waits for the answer that is being made, and so long for it to be read; `None` if it is not.
async fn finish<C: Future>(
    mut connection: Pin<&mut C>,
    is_answering: &AtomicBool,
    patience: Duration,
) -> Option<C::Output> {
    loop {
        // Answers are made while the connection is polled, so nothing else has to wake this.
        let answered = poll_fn(|cx| match connection.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if is_answering.load(Relaxed) => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(ended) = answered.await {
            return Some(ended);
        }
        match timeout(patience, connection.as_mut()).await {
            Ok(ended) => return Some(ended),
            // The head of a last request may have been on its way.
            Err(_) if is_answering.load(Relaxed) => {}
            Err(_) => return None,
        }
    }
}

/// Marks an answer as being made as long as it lives.
struct Answering(Arc<AtomicBool>);

impl Answering {
    fn new(is_answering: &Arc<AtomicBool>) -> Self {
        is_answering.store(true, Relaxed);
        Self(Arc::clone(is_answering))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.store(false, Relaxed);
    }
}

/// Bytes buffered of a request's head, and of its body while it is read.
const MAX_HEADERS: usize = 64 * 1024;
