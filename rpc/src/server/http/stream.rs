//! A byte stream as HTTP needs it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy, sink};
use tokio::time::timeout;

use super::impatient::Impatient;
use crate::server::LINGER;
use crate::server::places::Pulse;
use crate::server::stall::{Owed, Stall};
use crate::transport::Stream;

/// A stream that gives back what was read from it before it goes on, that fails when the client stops
/// in the middle of a head or does not read its answers, and that says when it has.
pub(super) struct HttpStream {
    read: Bytes,
    stream: Impatient<Stream>,
    pulse: Arc<Pulse>,
    /// Heads that have begun so far, and whether the last may still be on its way.
    heads: u64,
    is_head: bool,
    stall: Stall,
}

impl HttpStream {
    pub(super) fn new(read: Bytes, stream: Stream, pulse: Arc<Pulse>, patience: Duration) -> Self {
        let (stream, stall) = (Impatient::new(stream, patience), Stall::new(patience));
        Self { read, stream, pulse, heads: 0, is_head: false, stall }
    }

    /// Says that nothing follows, then waits for the client to close: closing first, with a body
    /// unread, would make the operating system throw the answer away.
    pub(super) async fn close(mut self) {
        let closing = async {
            self.shutdown().await?;
            copy(&mut self, &mut sink()).await
        };
        // Either way the connection ends here, and the client had its time.
        let _ = timeout(LINGER, closing).await;
    }

    /// Reads on, from what was read before first.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buffer);
        }
        let count = self.read.len().min(buffer.remaining());
        buffer.put_slice(&self.read[..count]);
        self.read.advance(count);
        Poll::Ready(Ok(()))
    }

    /// Whether the client sends no more of a head.
    fn is_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        // How much of it has come does not matter: a head is smaller than what has to come in time.
        let frame = self.is_head.then_some((self.heads, 0));
        self.stall.has_come(cx, Owed { frame, reading: None })
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.poll_next(cx, buffer);
        let (has_come, is_answering) = (buffer.filled().len() > before, self.pulse.running() > 0);
        if has_come && !is_answering && !self.is_head {
            self.heads += 1;
        }
        // While a request is answered it is its body that comes, which has a timeout of its own.
        self.is_head = !is_answering && (self.is_head || has_come);
        if read.is_pending() && self.is_stalled(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What is written is an answer, so the head has come.
        self.is_head = false;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    /// Called when everything that was to be written is, and only then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.pulse.owes(false);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
