//! A byte stream as HTTP needs it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy, sink};
use tokio::time::timeout;

use crate::server::LINGER;
use crate::server::places::Pulse;
use crate::server::stall::{Owed, Stall};
use crate::transport::Stream;

/// A stream that gives back what was read from it before it goes on, that fails when the client stops
/// in the middle of a head or does not read its answers, and that says when it has.
pub(super) struct HttpStream {
    read: Bytes,
    stream: Stream,
    pulse: Arc<Pulse>,
    /// Heads that have begun so far, and whether the last may still be on its way.
    heads: u64,
    is_head: bool,
    /// Bytes written so far, and whether more wait for the client to read.
    written: u64,
    is_blocked: bool,
    stall: Stall,
}

impl HttpStream {
    pub(super) fn new(read: Bytes, stream: Stream, pulse: Arc<Pulse>, patience: Duration) -> Self {
        let (stall, heads, written) = (Stall::new(patience), 0, 0);
        Self { read, stream, pulse, heads, is_head: false, written, is_blocked: false, stall }
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

    /// Whether the client sends no more of a head, or reads too little of what waits to be written.
    fn is_stalled(&mut self, cx: &mut Context<'_>) -> bool {
        // How much of it has come does not matter: a head is smaller than what has to come in time.
        let frame = self.is_head.then_some((self.heads, 0));
        let reading = self.is_blocked.then_some(self.written);
        self.stall.has_come(cx, Owed { frame, reading })
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
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.is_blocked = written.is_pending();
        match written {
            Poll::Ready(Ok(count)) => self.written += count as u64,
            Poll::Pending if self.is_stalled(cx) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        written
    }

    /// Called when everything that was to be written is, and only then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.pulse.owes(false);
        // No answer is owed now; a timer that fires hears so, and the next answer begins a new one.
        self.is_blocked = false;
        self.is_stalled(cx);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
