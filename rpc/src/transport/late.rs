//! Bytes on a slow way.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What was taken from a stream and is delivered later, in order: a piece that would arrive before
/// its predecessor waits for it.
#[derive(Debug, Default)]
pub(super) struct Late {
    /// When each piece arrives; an empty one is the end.
    pieces: VecDeque<(Instant, Bytes)>,
    /// Bytes in the pieces.
    held: usize,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Bytes that may be on the way; more wait in the stream.
const MAX_HELD: usize = 1024 * 1024;

impl Late {
    /// Reads what has arrived; what is still in the stream arrives after the delay.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        delay: Duration,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if delay.is_zero() && self.pieces.is_empty() {
            return Pin::new(stream).poll_read(cx, buffer);
        }
        loop {
            let taken = self.take_from(stream, delay, cx)?;
            let Some(&mut (at, ref mut piece)) = self.pieces.front_mut() else {
                ready!(taken);
                continue;
            };
            if at <= Instant::now() {
                let count = piece.len().min(buffer.remaining());
                buffer.put_slice(&piece[..count]);
                piece.advance(count);
                self.held -= count;
                if piece.is_empty() {
                    self.pieces.pop_front();
                }
                return Poll::Ready(Ok(()));
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            timer.as_mut().reset(at);
            ready!(timer.as_mut().poll(cx));
        }
    }

    /// Takes all there is, as far as there is room; pending when there may be more later.
    fn take_from<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        delay: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut space = [0; 8 * 1024];
        while self.held < MAX_HELD && !self.has_ended() {
            let mut read = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            let piece = Bytes::copy_from_slice(read.filled());
            self.held += piece.len();
            self.pieces.push_back((Instant::now() + delay, piece));
        }
        Poll::Ready(Ok(()))
    }

    fn has_ended(&self) -> bool {
        self.pieces.back().is_some_and(|(_, piece)| piece.is_empty())
    }
}
