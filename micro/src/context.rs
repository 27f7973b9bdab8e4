//! What a handler knows of the call it serves.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use micro_rpc::{Criticality, InvalidMetadata, Metadata, Peer, Request, TraceContext};
use tokio::time::Instant;

tokio::task_local! {
    static CURRENT: Context;
}

/// What a handler knows of the call it serves: how long there is, who asks, and with what.
///
/// A method gets it by taking `cx: &micro::Context` as its first parameter. Calls made while it
/// serves inherit the deadline, the trace, the criticality, the baggage and the mark of a
/// [retry](Self::is_retry) by themselves, as long as they are made on the handler's own task. What is spawned starts afresh, unless it is wrapped
/// in [`scope`](Self::scope) or its calls are given the [context](crate::Call::context).
#[derive(Clone, Debug)]
pub struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Without its body, which is not kept for as long as somebody holds on to the context.
    request: Request,
    reply: Mutex<Metadata>,
}

impl Context {
    /// Metadata whose key begins so is sent on by every call that is made while the call it came
    /// with is served: `baggage.tenant`.
    pub const BAGGAGE: &str = "baggage.";

    /// When the caller stops waiting; the handler is dropped then.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.request.deadline
    }

    /// What the caller sent along.
    pub fn metadata(&self) -> &Metadata {
        &self.0.request.metadata
    }

    /// The other end of the connection.
    pub fn peer(&self) -> Option<&Peer> {
        self.0.request.peer.as_ref()
    }

    /// The trace the call belongs to.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.request.trace.as_ref()
    }

    /// How often the caller has tried before: 0 for the first attempt.
    pub fn attempt(&self) -> u8 {
        self.0.request.attempt
    }

    /// Whether it, or a call further up on whose behalf it is made, was tried before on a node that
    /// may have executed it or had too much to do.
    ///
    /// Calls made while it is served are marked likewise, and tried again only after what was surely
    /// not executed: otherwise each service on the way would multiply the attempts.
    pub fn is_retry(&self) -> bool {
        self.0.request.no_retry
    }

    /// How much the call matters.
    pub fn criticality(&self) -> Criticality {
        self.0.request.criticality
    }

    /// What a [layer](crate::layer) of this server put into the request's extensions.
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.request.extensions.get()
    }

    /// Sends an entry along with the answer, whether that is a value or an error.
    ///
    /// # Errors
    ///
    /// When the key is malformed or there is no room left; nothing is changed then.
    pub fn reply_metadata(&self, key: &str, value: &str) -> Result<(), InvalidMetadata> {
        self.0.reply.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value)
    }

    /// The context of the call being served on this task, if there is one.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// Makes this the current context of whatever the future does, as for
    /// `tokio::spawn(cx.scope(work))`.
    pub fn scope<F: Future>(&self, future: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.clone(), future)
    }

    /// The context of a request that is going to be served, and the request's body.
    pub(crate) fn of(mut request: Request) -> (Self, Bytes) {
        let body = std::mem::take(&mut request.body);
        (Self(Arc::new(Inner { request, reply: Mutex::default() })), body)
    }

    /// What is served, without its body.
    pub(crate) fn request(&self) -> &Request {
        &self.0.request
    }

    pub(crate) fn take_reply(&self) -> Metadata {
        std::mem::take(&mut *self.0.reply.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn baggage(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.request.metadata.iter().filter(|(key, _)| key.starts_with(Self::BAGGAGE))
    }
}
