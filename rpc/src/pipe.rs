//! A stream with frames coming in and bytes going out.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Mutex;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};

use crate::outbox::{Outbox, lock};
use crate::transport::Stream;
use crate::wire::Inbox;

/// A stream, the frames that were read from it, and the bytes being written to it.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Stream,
    pub(crate) inbox: Inbox,
    writing: BytesMut,
    /// Bytes read since the beginning.
    received: u64,
}

impl Pipe {
    pub(crate) fn new(stream: Stream, max_frame: usize) -> Self {
        Self { stream, inbox: Inbox::new(max_frame), writing: BytesMut::new(), received: 0 }
    }

    /// Reads once into the inbox; zero bytes mean that the peer has finished.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // The future holds no state between polls, so it can be made anew for each.
        let read = pin!(self.stream.read_buf(self.inbox.space()));
        let count = ready!(std::future::Future::poll(read, cx))?;
        self.inbox.filled(count);
        self.received += count as u64;
        Poll::Ready(Ok(count))
    }

    /// Reads once into the inbox, which is cancel-safe; zero bytes mean that the peer finished.
    pub(crate) async fn read(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Writes all that waits in the outbox, with as few writes as the stream allows.
    pub(crate) fn poll_flush<T: AsMut<Outbox>>(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Mutex<T>,
    ) -> Poll<io::Result<()>> {
        let mut count = 0;
        loop {
            lock(outbox).as_mut().exchange(count, &mut self.writing);
            if self.writing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            count = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.writing))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.writing.advance(count);
        }
    }

    /// Tells the peer that nothing more will be written.
    pub(crate) fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// Returns the number of bytes read since the beginning.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Gives the stream to another protocol, with what was read from it.
    #[cfg(feature = "http")]
    pub(crate) fn into_parts(self) -> (Stream, bytes::Bytes) {
        (self.stream, self.inbox.into_bytes())
    }
}
