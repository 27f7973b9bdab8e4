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
use crate::transport::Stream;

/// A stream that gives back what was read from it before it goes on, that is impatient, and that says
/// when the client has read its answers.
pub(super) struct HttpStream {
    read: Bytes,
    stream: Impatient<Stream>,
    pulse: Arc<Pulse>,
}

impl HttpStream {
    pub(super) fn new(read: Bytes, stream: Stream, pulse: Arc<Pulse>, patience: Duration) -> Self {
        let answering = Arc::clone(&pulse);
        let stream = Impatient::new(stream, patience, move || answering.running() > 0);
        Self { read, stream, pulse }
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
}

impl AsyncRead for HttpStream {
    /// Reads on, from what was read before first.
    fn poll_read(
        mut self: Pin<&mut Self>,
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
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
