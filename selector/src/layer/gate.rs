//! What the layers have in common that let a call through or end it before it begins.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tower::Service;
use tower::util::Oneshot;

use super::Error;

/// What a call holds that was let through. Dropped before the call [ended](Self::end), it was
/// cancelled, or panicked.
pub trait Pass<E>: Sized {
    /// The call has ended.
    fn end(self, outcome: Result<(), &E>);
}

/// The future of a call that was let through, or ended by the layer at once.
///
/// It waits itself until what is behind the layer is ready.
#[pin_project]
#[must_use = "a future does nothing unless it is polled"]
pub struct ResponseFuture<S: Service<Req>, Req, P, R> {
    #[pin]
    state: State<S, Req, P, R>,
}

#[pin_project(project = StateProjection)]
enum State<S: Service<Req>, Req, P, R> {
    Ended(Option<R>),
    // In this order: the call is dropped before its place is given back.
    Running(#[pin] Oneshot<S, Req>, Option<P>),
}

impl<S: Service<Req> + Clone, Req, P, R> ResponseFuture<S, Req, P, R> {
    /// Makes the call with a clone of `service`, unless there is a reason not to.
    pub(super) fn of(service: &S, request: Req, pass: Result<P, R>) -> Self {
        let state = match pass {
            Ok(pass) => State::Running(Oneshot::new(service.clone(), request), Some(pass)),
            Err(reason) => State::Ended(Some(reason)),
        };
        Self { state }
    }
}

impl<S: Service<Req>, Req, P: Pass<S::Error>, R> Future for ResponseFuture<S, Req, P, R> {
    type Output = Result<S::Response, Error<R, S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Ended(reason) => {
                let reason = reason.take().expect("it is not polled after it has ended");
                Poll::Ready(Err(Error::Ended(reason)))
            }
            StateProjection::Running(call, pass) => {
                let outcome = ready!(call.poll(cx));
                if let Some(pass) = pass.take() {
                    pass.end(outcome.as_ref().map(|_| ()));
                }
                Poll::Ready(outcome.map_err(Error::Inner))
            }
        }
    }
}

impl<S: Service<Req>, Req, P, R> fmt::Debug for ResponseFuture<S, Req, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_running = matches!(self.state, State::Running(..));
        f.debug_struct("ResponseFuture").field("is_running", &is_running).finish_non_exhaustive()
    }
}
