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
use micro::rpc::web::{self, Impatient};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;

use crate::answer::{State, answer};

/// Answers its requests until it closes, its client does not read, somebody wants its place while it
/// rests, or the gateway stops and the answer that is being made is written. The place is free again
/// then.
pub(crate) async fn serve<S>(stream: S, place: OwnedSemaphorePermit, state: Arc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _place = place;
    let _connected = state.figures.connected();
    let patience = state.config.stall_timeout;
    let is_answering = Arc::<AtomicBool>::default();
    let rest = Rest::default();
    let service = service_fn(|request| {
        let state = Arc::clone(&state);
        let (answering, work) = (Answering::new(&is_answering), rest.end());
        async move {
            let _answering = answering;
            Ok::<_, Infallible>(answer(request, &state).await.map(|body| body.holding(work)))
        }
    });
    let answering = Arc::clone(&is_answering);
    let stream = Impatient::new(stream, patience, move || answering.load(Relaxed));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // From the answer before; the stream sees to it that a head which has begun comes in time.
        .header_read_timeout(web::rest(patience))
        .max_buf_size(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut stopping = state.stopping.clone();
    let ended = tokio::select! {
        // First, lest a request that is there already is taken for a rest.
        biased;
        ended = connection.as_mut() => Some(ended),
        () = wanted(&rest, &state.wanted) => {
            connection.as_mut().graceful_shutdown();
            finish(connection, &is_answering, patience).await
        }
        _ = stopping.changed() => {
            connection.as_mut().graceful_shutdown();
            finish(connection, &is_answering, patience).await
        }
    };
    if let Some(Err(error)) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Ends when the place of the connection is wanted while it rests. Whoever rests longest is told first.
async fn wanted(rest: &Rest, wanted: &Notify) {
    let mut waiting = None;
    // Rests begin and end while the connection is polled, and this is after that.
    poll_fn(|cx| match rest.is_now() {
        true => waiting.get_or_insert_with(|| Box::pin(wanted.notified())).as_mut().poll(cx),
        false => {
            // If it was told just now, the next one is.
            waiting = None;
            Poll::Pending
        }
    })
    .await;
}

/// The time between two requests: before the first there is none, and no answer is being made or
/// sent piece by piece.
#[derive(Default)]
struct Rest {
    work: Arc<()>,
    has_worked: AtomicBool,
}

impl Rest {
    /// Ends it, until what this returns is dropped.
    fn end(&self) -> Arc<()> {
        self.has_worked.store(true, Relaxed);
        Arc::clone(&self.work)
    }

    fn is_now(&self) -> bool {
        self.has_worked.load(Relaxed) && Arc::strong_count(&self.work) == 1
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::sync::Semaphore;
    use tokio::time::sleep;

    use super::*;

    async fn ask(stream: &mut DuplexStream) {
        stream
            .write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .expect("it is read");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            answer.push(stream.read_u8().await.expect("it is answered"));
        }
    }

    /// Who calls may rest between calls for longer than proxies keep connections, though not for
    /// ever, not before the first, and not in the middle of a head.
    #[tokio::test(start_paused = true)]
    async fn pauses() {
        let (state, _held) = State::alone().await;
        let state = Arc::new(state);
        let mut tasks = tokio::task::JoinSet::new();
        let mut connect = || {
            let (ours, theirs) = duplex(4096);
            let place = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("it is free");
            tasks.spawn(serve(theirs, place, Arc::clone(&state)));
            ours
        };
        let mut rests = connect();
        for _ in 0..3 {
            ask(&mut rests).await;
            sleep(Duration::from_secs(80)).await;
        }
        for begun in [&b""[..], b"GET /health/li"] {
            let mut stops = connect();
            stops.write_all(begun).await.expect("it is read");
            let ended = timeout(Duration::from_secs(30), stops.read_to_end(&mut Vec::new())).await;
            ended.expect("it is given up").expect("it ends");
        }
        let rest = timeout(Duration::from_secs(60), rests.read_to_end(&mut Vec::new())).await;
        rest.expect("it is given up").expect("it ends");
    }
}
