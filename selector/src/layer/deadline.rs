//! An end to each call: a moment that the request names, or so long after it began.

use std::fmt;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project::pin_project;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};
use tower::util::Oneshot;
use tower::{Layer, Service};

use super::Error;
use crate::{Class, Classify};

/// Ends calls at their deadline, and refuses those whose deadline has passed.
///
/// [Made](DeadlineLayer::new) with a closure it takes the deadline from the request: that of the caller, who waits no
/// longer. Made with a [time](DeadlineLayer::within) it gives
/// each call as much: tower's `Timeout`, with an error that
/// knows its [`Class`].
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use micro_selector::layer::DeadlineLayer;
/// use tokio::time::{Instant, sleep};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// let slow = service_fn(async |_: Instant| Ok::<_, Infallible>(sleep(Duration::from_secs(5)).await));
/// let by_request = DeadlineLayer::new(|until: &Instant| Some(*until)).layer(slow);
/// let soon = Instant::now() + Duration::from_secs(1);
/// assert!(by_request.clone().oneshot(soon).await.is_err());
/// assert!(by_request.oneshot(soon + Duration::from_secs(10)).await.is_ok());
///
/// let by_time = DeadlineLayer::within(Duration::from_secs(1)).layer(slow);
/// assert!(by_time.oneshot(Instant::now()).await.is_err());
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Deadline<S, D> {
    inner: S,
    until: D,
}

/// Makes [`Deadline`] of a service.
#[derive(Clone, Copy, Debug)]
pub struct DeadlineLayer<D> {
    until: D,
}

impl<D> DeadlineLayer<D> {
    /// Calls end when `until` says so of their request; `None` is never.
    pub fn new<Req>(until: D) -> Self
    where
        D: Fn(&Req) -> Option<Instant>,
    {
        Self { until }
    }
}

impl DeadlineLayer<Within> {
    /// Calls end so long after they began. There is no default.
    pub fn within(timeout: Duration) -> Self {
        Self { until: Within(timeout) }
    }
}

impl<S, D: Clone> Layer<S> for DeadlineLayer<D> {
    type Service = Deadline<S, D>;

    fn layer(&self, inner: S) -> Deadline<S, D> {
        Deadline { inner, until: self.until.clone() }
    }
}

/// When a call ends.
pub trait Until<Req> {
    /// The moment; `None` for never.
    fn until(&self, request: &Req, now: Instant) -> Option<Instant>;

    /// Whether it is the caller's, so that it says little of the service.
    fn is_callers(&self) -> bool;
}

impl<Req, F: Fn(&Req) -> Option<Instant>> Until<Req> for F {
    fn until(&self, request: &Req, _: Instant) -> Option<Instant> {
        self(request)
    }

    fn is_callers(&self) -> bool {
        true
    }
}

/// So long after the call began, whatever the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Within(Duration);

impl<Req> Until<Req> for Within {
    fn until(&self, _: &Req, now: Instant) -> Option<Instant> {
        now.checked_add(self.0)
    }

    fn is_callers(&self) -> bool {
        false
    }
}

impl<S, D, Req> Service<Req> for Deadline<S, D>
where
    S: Service<Req> + Clone,
    D: Until<Req>,
{
    type Response = S::Response;
    type Error = Error<Missed, S::Error>;
    type Future = ResponseFuture<S, Req>;

    /// Always ready; what is behind is waited for by the future, until the deadline.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let now = Instant::now();
        let until = self.until.until(&request, now);
        let has_passed = until.is_some_and(|until| until <= now);
        ResponseFuture {
            call: (!has_passed).then(|| Oneshot::new(self.inner.clone(), request)),
            end: until.filter(|_| !has_passed).map(sleep_until),
            is_callers: self.until.is_callers(),
        }
    }
}

/// The future of [`Deadline`]. The call behind it is dropped at the deadline.
#[pin_project]
#[must_use = "a future does nothing unless it is polled"]
pub struct ResponseFuture<S: Service<Req>, Req> {
    /// `None` when it was not begun, or is over.
    #[pin]
    call: Option<Oneshot<S, Req>>,
    #[pin]
    end: Option<Sleep>,
    is_callers: bool,
}

impl<S: Service<Req>, Req> Future for ResponseFuture<S, Req> {
    type Output = Result<S::Response, Error<Missed, S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(call) = this.call.as_mut().as_pin_mut() else {
            return Poll::Ready(Err(Error::Ended(Missed::Before)));
        };
        // First the call: an answer at the last moment is one.
        if let Poll::Ready(outcome) = call.poll(cx) {
            return Poll::Ready(outcome.map_err(Error::Inner));
        }
        // A call that used up the task's budget of polls must not put off its own end.
        match this.end.as_pin_mut().map(|end| pin!(unconstrained(end)).poll(cx)) {
            Some(Poll::Ready(())) => {
                this.call.set(None);
                let is_callers = *this.is_callers;
                Poll::Ready(Err(Error::Ended(Missed::During { is_callers })))
            }
            _ => Poll::Pending,
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ResponseFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = self.end.as_ref().map(Sleep::deadline);
        f.debug_struct("ResponseFuture").field("until", &until).finish_non_exhaustive()
    }
}

/// A call missed its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Missed {
    /// It had passed before, and nothing was sent.
    #[error("the deadline had passed already")]
    Before,
    /// It passed before there was an answer.
    #[error("the deadline passed before there was an answer")]
    During {
        /// Whether it was the caller's, rather than a time that all calls have.
        is_callers: bool,
    },
}

impl Classify for Missed {
    fn class(&self) -> Class {
        match self {
            Self::Before => Class::Unsent,
            Self::During { .. } => Class::MaybeExecuted,
        }
    }

    fn is_late(&self) -> bool {
        matches!(self, Self::Before | Self::During { is_callers: true })
    }
}
