//! One call of a handler: its panics, its deadline and its first poll.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant as Clock;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::gate::Waiting;
use super::router::Route;
use crate::{Code, Limits, Metadata, Request, Response, Status};

/// What a call ends with.
pub(super) type Outcome = Result<Response, Status>;

/// A handler that runs.
pub(super) struct Call {
    route: Arc<Route>,
    future: BoxFuture<'static, Outcome>,
    deadline: Option<Instant>,
}

impl Call {
    pub(super) fn new(route: &Arc<Route>, request: Request) -> Self {
        let deadline = request.deadline;
        Self { route: Arc::clone(route), future: route.call(request), deadline }
    }

    /// Polls for the first time, on the connection's own task, unless the method is known to
    /// compute. Nobody is woken: a handler that waits is polled again when it is [finished](Self::finish).
    pub(super) fn poll_first(&mut self) -> Poll<Outcome> {
        if self.route.spawns() {
            return Poll::Pending;
        }
        let start = Clock::now();
        let mut cx = Context::from_waker(Waker::noop());
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(&mut cx)));
        self.route.polled(start.elapsed());
        polled.unwrap_or_else(|_| Poll::Ready(Err(self.route.panicked())))
    }

    /// Runs to the end, at most until the deadline.
    pub(super) async fn finish(self) -> Outcome {
        let Self { route, future, deadline } = self;
        let caught = AssertUnwindSafe(future).catch_unwind();
        let ended = match deadline {
            Some(deadline) => match timeout_at(deadline, caught).await {
                Ok(ended) => ended,
                Err(_) => return Err(expired().interrupted()),
            },
            None => caught.await,
        };
        ended.unwrap_or_else(|_| Err(route.panicked()))
    }
}

/// Runs a call once it is its turn.
pub(super) async fn queued(route: &Arc<Route>, request: Request, waiting: Box<Waiting>) -> Outcome {
    let mut running = waiting.turn(request.deadline).await?;
    running.begins();
    let outcome = Call::new(route, request).finish().await;
    running.ended(&outcome);
    outcome
}

/// Refuses more metadata than a server wants with a request.
pub(super) fn check_metadata(metadata: &Metadata, limits: &Limits) -> Result<(), Status> {
    let (bytes, limit) = (metadata.encoded_len(), limits.max_metadata);
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("metadata of {bytes} bytes is more than {limit}");
    Err(Status::new(Code::ResourceExhausted, message).refused())
}

/// The answer to a call whose deadline has passed.
pub(super) fn expired() -> Status {
    Status::new(Code::DeadlineExceeded, "the deadline passed at the server")
}

/// The answer to a call that comes while the server drains.
pub(super) fn draining() -> Status {
    Status::new(Code::Unavailable, "the server is draining").refused()
}

/// The answer to a call that the end of the grace period ended.
pub(super) fn aborted() -> Status {
    Status::new(Code::Unavailable, "the server stopped before the call ended").interrupted()
}
