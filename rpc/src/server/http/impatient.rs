//! A stream that does not wait for ever until its peer sends a request, or reads an answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::stall::{Owed, Stall};

/// How long a client may rest between two requests, of those that wait so long for anything else.
/// Proxies keep connections for up to 75 s; were the server the first to close, it would do so just
/// when a request is on its way.
pub fn rest(patience: Duration) -> Duration {
    Duration::from_secs(90).max(patience)
}

/// A stream of requests and answers that fails with [`TimedOut`](io::ErrorKind::TimedOut) once the
/// peer has hardly read for one to two times as long as it may, or a head has not come in that time:
/// the first from the beginning, others from their first byte on. Bodies may take as long as they do.
pub struct Impatient<S> {
    stream: S,
    is_answering: Box<dyn Fn() -> bool + Send + Sync>,
    /// Heads that have come so far, and whether another may be on its way.
    heads: u64,
    is_head: bool,
    sending: Stall,
    /// Bytes written so far.
    written: u64,
    reading: Stall,
}

impl<S> Impatient<S> {
    /// A stream whose peer may take so long. While a request is answered it is its body that comes,
    /// for which this does not wait: `is_answering` says so.
    pub fn new(
        stream: S,
        patience: Duration,
        is_answering: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            stream,
            is_answering: Box::new(is_answering),
            heads: 0,
            is_head: true,
            sending: Stall::new(patience),
            written: 0,
            reading: Stall::new(patience),
        }
    }

    /// Notes that something has come, or that there was nothing to read.
    fn read(&mut self, has_come: bool) {
        let is_answering = (self.is_answering)();
        if has_come && !is_answering && !self.is_head {
            self.heads += 1;
        }
        self.is_head = !is_answering && (self.is_head || has_come);
    }

    /// Whether the peer sends no more of a head.
    fn sends_nothing(&mut self, cx: &mut Context<'_>) -> bool {
        // How much of it has come does not matter: a head is smaller than what has to come in time.
        let frame = self.is_head.then_some((self.heads, 0));
        self.sending.has_come(cx, Owed { frame, reading: None })
    }

    /// Counts what was written, or fails when the peer reads nothing for too long.
    fn note(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        // What is written is an answer, so the head has come.
        self.is_head = false;
        match written {
            Poll::Ready(Ok(count)) => self.written += count as u64,
            Poll::Pending if self.reads_nothing(cx, true) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        written
    }

    /// Whether the peer reads too little of what waits to be written.
    fn reads_nothing(&mut self, cx: &mut Context<'_>, blocked: bool) -> bool {
        let reading = blocked.then_some(self.written);
        self.reading.has_come(cx, Owed { frame: None, reading })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.read(buffer.filled().len() > before);
        if read.is_pending() && self.sends_nothing(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when everything that was to be written is, and only then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        // Nothing is owed now; a timer that fires hears so, and what is written next begins a new
        // one.
        self.reads_nothing(cx, false);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> std::fmt::Debug for Impatient<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Impatient").field("written", &self.written).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{sleep, timeout};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Who reads nothing is given up, however much there is to write.
    #[tokio::test(start_paused = true)]
    async fn nobody_reads() {
        let (ours, _theirs) = duplex(16);
        let written = Impatient::new(ours, PATIENCE, || true).write_all(&[0; 64]).await;
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }

    /// Who reads slowly is waited for.
    #[tokio::test(start_paused = true)]
    async fn somebody_reads_slowly() {
        const PIECE: usize = 64 * 1024;
        let (ours, mut theirs) = duplex(PIECE);
        let mut impatient = Impatient::new(ours, PATIENCE, || true);
        let read = async {
            for _ in 0..8 {
                sleep(PATIENCE * 9 / 10).await;
                theirs.read_exact(&mut [0; PIECE]).await.expect("it comes");
            }
        };
        let whole = [0; 8 * PIECE];
        let (written, ()) = tokio::join!(impatient.write_all(&whole), read);
        written.expect("it was read");
    }

    /// The first head has to come in time, later ones once they have begun, and bodies as they like.
    #[tokio::test(start_paused = true)]
    async fn heads_come_in_time() {
        let (ours, mut theirs) = duplex(16);
        let is_answering = Arc::<AtomicBool>::default();
        let asked = is_answering.clone();
        let mut impatient = Impatient::new(ours, PATIENCE, move || asked.load(Relaxed));
        let mut byte = [0];
        theirs.write_all(b"a").await.expect("there is room");
        impatient.read_exact(&mut byte).await.expect("it has come");
        is_answering.store(true, Relaxed);
        assert!(timeout(PATIENCE * 9, impatient.read_exact(&mut byte)).await.is_err());
        impatient.write_all(b"a").await.expect("there is room");
        is_answering.store(false, Relaxed);
        assert!(timeout(PATIENCE * 9, impatient.read_exact(&mut byte)).await.is_err());
        theirs.write_all(b"a").await.expect("there is room");
        impatient.read_exact(&mut byte).await.expect("it has come");
        let read = timeout(PATIENCE * 3, impatient.read_exact(&mut byte)).await;
        let kind = read.expect("it fails").map_err(|error| error.kind());
        assert_eq!(kind, Err(io::ErrorKind::TimedOut));

        let (ours, _theirs) = duplex(16);
        let mut impatient = Impatient::new(ours, PATIENCE, || false);
        let read = timeout(PATIENCE * 3, impatient.read_exact(&mut byte)).await;
        assert!(read.expect("it fails").is_err());
    }
}
