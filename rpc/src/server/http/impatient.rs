//! A stream that does not wait for ever until its peer reads.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::stall::{Owed, Stall};

/// A stream whose writes fail with [`TimedOut`](io::ErrorKind::TimedOut) once the peer has hardly
/// read for one to two times as long as it may. Its reads wait as long as they do.
pub struct Impatient<S> {
    stream: S,
    /// Bytes written so far.
    written: u64,
    stall: Stall,
}

impl<S> Impatient<S> {
    /// A stream whose peer may read nothing for so long.
    pub fn new(stream: S, patience: Duration) -> Self {
        Self { stream, written: 0, stall: Stall::new(patience) }
    }

    /// Counts what was written, or fails when the peer reads nothing for too long.
    fn note(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Ok(count)) => self.written += count as u64,
            Poll::Pending if self.is_stalled(cx, true) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            _ => {}
        }
        written
    }

    /// Whether the peer reads too little of what waits to be written.
    fn is_stalled(&mut self, cx: &mut Context<'_>, blocked: bool) -> bool {
        let reading = blocked.then_some(self.written);
        self.stall.has_come(cx, Owed { frame: None, reading })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
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
        self.is_stalled(cx, false);
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::sleep;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// Who reads nothing is given up, however much there is to write.
    #[tokio::test(start_paused = true)]
    async fn nobody_reads() {
        let (ours, _theirs) = duplex(16);
        let written = Impatient::new(ours, PATIENCE).write_all(&[0; 64]).await;
        assert_eq!(written.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
    }

    /// Who reads slowly is waited for.
    #[tokio::test(start_paused = true)]
    async fn somebody_reads_slowly() {
        const PIECE: usize = 64 * 1024;
        let (ours, mut theirs) = duplex(PIECE);
        let mut impatient = Impatient::new(ours, PATIENCE);
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
}
