//! One call of a handler: its panics, its deadline and its first poll.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, Waker};

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::gate::Waiting;
use super::router::SLOW;
use super::stats::Noted;
use crate::{Code, Limits, Metadata, Request, Response, Status};

/// What a call ends with.
pub(super) type Outcome = Result<Response, Status>;

/// A handler that runs.
pub(super) struct Call {
    noted: Noted,
    future: BoxFuture<'static, Outcome>,
    deadline: Option<Instant>,
}

impl Call {
    pub(super) fn new(noted: Noted, request: Request) -> Self {
        let (deadline, future) = (request.deadline, noted.route.call(request));
        Self { noted, future, deadline }
    }

    /// Polls for the first time, on the connection's own task, unless the method is known to
    /// compute. Nobody is woken: a handler that waits is polled again when it is [finished](Self::finish).
    ///
    /// It is about the time that `now` says, which afterwards is the time again.
    pub(super) fn poll_first(&mut self, now: &mut Instant) -> Poll<Outcome> {
        if self.noted.route.spawns() {
            return Poll::Pending;
        }
        self.poll(&mut Context::from_waker(Waker::noop()), now)
    }

    /// Polls, and notes how long that took.
    fn poll(&mut self, cx: &mut Context<'_>, now: &mut Instant) -> Poll<Outcome> {
        let (route, start) = (&self.noted.route, *now);
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(cx)));
        *now = Instant::now();
        let all = self.noted.took(*now);
        // What took no longer with all that came before was quick itself, and mostly it did not.
        let took = if all <= SLOW { all } else { now.saturating_duration_since(start) };
        route.polled(took);
        let polled = polled.unwrap_or_else(|_| Poll::Ready(Err(route.panicked())));
        if let Poll::Ready(outcome) = &polled {
            self.noted.ended(outcome, all);
        }
        polled
    }

    /// Runs to the end, at most until the deadline.
    pub(super) async fn finish(mut self) -> Outcome {
        if self.noted.route.spawns() {
            // For the first time here, and measured, so that it is seen when it computes no longer.
            let mut now = Instant::now();
            let polled = poll_fn(|cx| Poll::Ready(self.poll(cx, &mut now))).await;
            if let Poll::Ready(outcome) = polled {
                return outcome;
            }
        }
        let Self { mut noted, future, deadline } = self;
        let caught = AssertUnwindSafe(future).catch_unwind();
        let ended = match deadline {
            Some(deadline) => timeout_at(deadline, caught).await,
            None => Ok(caught.await),
        };
        let outcome = match ended {
            Ok(outcome) => outcome.unwrap_or_else(|_| Err(noted.route.panicked())),
            Err(_) => Err(expired().interrupted()),
        };
        noted.ended_at(&outcome, Instant::now());
        outcome
    }
}

/// Runs a call once it is its turn.
pub(super) async fn queued(mut noted: Noted, request: Request, waiting: Box<Waiting>) -> Outcome {
    let mut running = match waiting.turn(request.deadline).await {
        Ok(running) => running,
        Err(status) => {
            let refused = Err(status);
            noted.ended_at(&refused, Instant::now());
            return refused;
        }
    };
    running.begins();
    let outcome = Call::new(noted, request).finish().await;
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
