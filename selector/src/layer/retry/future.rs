use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use pin_project::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower::Service;
use tower::util::Oneshot;

use super::Failed;
use crate::attempts::SoFar;
use crate::layer::round::{self, Round};
use crate::{Budget, CallOptions, Classify, Decision};

/// The future of [`Retry`](super::Retry).
#[pin_project]
#[must_use = "a future does nothing unless it is polled"]
pub struct ResponseFuture<S: Service<Req>, Req> {
    #[pin]
    step: Step<S, Req>,
    call: Call<S, Req, S::Error>,
}

#[pin_project(project = StepProjection)]
enum Step<S: Service<Req>, Req> {
    Attempt(#[pin] round::Attempt<Oneshot<S, Req>>),
    Rest(#[pin] Sleep),
}

/// A call, between its attempts.
struct Call<S, Req, E> {
    service: S,
    request: Req,
    options: CallOptions,
    budget: Arc<Budget>,
    so_far: SoFar,
    failed: Vec<E>,
}

impl<S: Service<Req> + Clone, Req: Clone> ResponseFuture<S, Req> {
    pub(super) fn new(service: S, request: Req, options: CallOptions, budget: Arc<Budget>) -> Self {
        let (so_far, failed) = (SoFar::default(), Vec::new());
        let call = Call { service, request, options, budget, so_far, failed };
        Self { step: call.attempt(), call }
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req> + Clone,
    S::Error: Classify,
    Req: Clone,
{
    type Output = Result<S::Response, Failed<S::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let next = match this.step.as_mut().project() {
                StepProjection::Rest(rest) => {
                    ready!(rest.poll(cx));
                    this.call.attempt()
                }
                StepProjection::Attempt(mut attempt) => match ready!(attempt.as_mut().poll(cx)) {
                    Ok(response) => return Poll::Ready(Ok(response)),
                    Err(error) => match this.call.failed(error, round::ended(attempt)) {
                        Ok(next) => next,
                        Err(failed) => return Poll::Ready(Err(failed)),
                    },
                },
            };
            this.step.set(next);
        }
    }
}

impl<S: Service<Req> + Clone, Req: Clone> Call<S, Req, S::Error> {
    fn attempt(&self) -> Step<S, Req> {
        let attempt = Oneshot::new(self.service.clone(), self.request.clone());
        let is_retry = self.so_far.number > 0;
        Step::Attempt(round::attempt(self.so_far.tried.clone(), is_retry, attempt))
    }

    /// What to do after an attempt that failed so.
    fn failed(&mut self, error: S::Error, round: Round) -> Result<Step<S, Req>, Failed<S::Error>>
    where
        S::Error: Classify,
    {
        if round.is_over {
            return self.go_round(error);
        }
        let now = Instant::now();
        let Self { so_far, options, budget, .. } = self;
        so_far.tried = round.tried;
        if let Some(node) = round.node {
            so_far.told(node, &error, now);
        }
        let decision = match so_far.tried.is_empty() {
            true => so_far.decide_alone(&error, options, budget, now),
            false => so_far.decide(error.class(), options, !round.is_last, budget, now),
        };
        match decision {
            Decision::GiveUp => Err(self.give_up(error)),
            Decision::Retry(wait) => {
                self.failed.push(error);
                Ok(if wait.is_zero() { self.attempt() } else { Step::Rest(sleep(wait)) })
            }
        }
    }

    /// No node is left that was not tried: they are tried again after a wait, or the call ends with
    /// what the last of them said.
    fn go_round(&mut self, nobody: S::Error) -> Result<Step<S, Req>, Failed<S::Error>> {
        if let Some(wait) = self.so_far.begin_again(&self.options, Instant::now()) {
            return Ok(Step::Rest(sleep(wait)));
        }
        let last = self.failed.pop().unwrap_or(nobody);
        Err(self.give_up(last))
    }

    fn give_up(&mut self, last: S::Error) -> Failed<S::Error> {
        Failed::new(std::mem::take(&mut self.failed), last)
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ResponseFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let attempts = self.call.so_far.number;
        f.debug_struct("ResponseFuture").field("failed", &attempts).finish_non_exhaustive()
    }
}
