//! What a handler knows of the call it serves.

use std::sync::Arc;

use micro_rpc::{Metadata, Peer, Request, TraceContext};
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Context;
}

/// What a handler knows of the call it serves: how long there is, who asks, and with what.
///
/// A method gets it by taking `cx: &micro::Context` as its first parameter. Calls made while it
/// serves inherit the deadline and the trace by themselves, as long as they are made on the
/// handler's own task: what is spawned starts afresh.
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    deadline: Option<Instant>,
    metadata: Metadata,
    peer: Option<Peer>,
    trace: Option<TraceContext>,
    attempt: u8,
}

impl Context {
    /// When the caller stops waiting; the handler is dropped then.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.deadline
    }

    /// What the caller sent along.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// The other end of the connection.
    pub fn peer(&self) -> Option<&Peer> {
        self.0.peer.as_ref()
    }

    /// The trace the call belongs to.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.trace.as_ref()
    }

    /// How often the caller has tried before: 0 for the first attempt.
    pub fn attempt(&self) -> u8 {
        self.0.attempt
    }

    /// The context of the call being served on this task, if there is one.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Takes what is for the handler out of the request.
    pub(crate) fn take_from(request: &mut Request) -> Self {
        Self(Arc::new(Inner {
            deadline: request.deadline,
            metadata: std::mem::take(&mut request.metadata),
            peer: request.peer.take(),
            trace: request.trace,
            attempt: request.attempt,
        }))
    }

    /// Makes this the current context of whatever the future does.
    pub(crate) fn scope<F: Future>(self, future: F) -> impl Future<Output = F::Output> {
        CURRENT.scope(self, future)
    }
}
