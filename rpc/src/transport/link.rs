//! The way to one name of a memory network, and the streams on it.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use super::late::Late;
use crate::outbox::lock;

/// Bytes a pipe holds in each direction.
const PIPE: usize = 64 * 1024;

/// The way to one name: what is wrong with it, for all of its connections.
#[derive(Debug, Default)]
pub(super) struct Link(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    conditions: Conditions,
    /// Whoever reads from a stream of this link and has to look at it again.
    readers: Vec<Weak<AtomicWaker>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    silent: bool,
    delay: Duration,
    /// How many there were; a stream that is older than the last one is broken.
    crashes: u64,
}

impl Link {
    pub(super) fn set_silent(&self, silent: bool) {
        self.change(|conditions| conditions.silent = silent);
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.change(|conditions| conditions.delay = delay);
    }

    pub(super) fn crash(&self) {
        self.change(|conditions| conditions.crashes += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Conditions)) {
        let mut state = lock(&self.0);
        change(&mut state.conditions);
        let readers: Vec<_> = state.readers.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        readers.iter().for_each(|reader| reader.wake());
    }

    fn conditions(&self) -> Conditions {
        lock(&self.0).conditions
    }

    fn add_reader(&self) -> Arc<AtomicWaker> {
        let reader = Arc::default();
        let mut state = lock(&self.0);
        state.readers.retain(|reader| reader.strong_count() > 0);
        state.readers.push(Arc::downgrade(&reader));
        reader
    }
}

/// One end of a connection in a [`MemoryNetwork`](crate::MemoryNetwork).
#[derive(Debug)]
pub struct MemoryStream {
    pipe: DuplexStream,
    link: Arc<Link>,
    reader: Arc<AtomicWaker>,
    /// The crashes before it.
    born: u64,
    /// What is on its way to the end that connected.
    late: Option<Late>,
}

impl MemoryStream {
    /// Both ends of a connection: of who connects, and of who listens.
    pub(super) fn pair(link: &Arc<Link>) -> (Self, Self) {
        let (near, far) = tokio::io::duplex(PIPE);
        let near = Self { late: Some(Late::default()), ..Self::new(near, link) };
        (near, Self::new(far, link))
    }

    fn new(pipe: DuplexStream, link: &Arc<Link>) -> Self {
        let born = link.conditions().crashes;
        Self { pipe, link: Arc::clone(link), reader: link.add_reader(), born, late: None }
    }

    fn check(&self, conditions: Conditions) -> io::Result<()> {
        let whole = conditions.crashes == self.born;
        if whole { Ok(()) } else { Err(io::ErrorKind::ConnectionReset.into()) }
    }
}

impl AsyncRead for MemoryStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // First, so that no change between the look and the wait is missed.
        this.reader.register(cx.waker());
        let conditions = this.link.conditions();
        if conditions.silent {
            return Poll::Pending;
        }
        this.check(conditions)?;
        match &mut this.late {
            Some(late) => late.poll_read(&mut this.pipe, conditions.delay, cx, buffer),
            None => Pin::new(&mut this.pipe).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for MemoryStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let conditions = this.link.conditions();
        // In silence nothing is known of the other end: writes fill the pipe, as they fill the
        // socket's buffer.
        if !conditions.silent {
            this.check(conditions)?;
        }
        Pin::new(&mut this.pipe).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_shutdown(cx)
    }
}
