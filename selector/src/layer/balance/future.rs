use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::FutureExt;
use futures::future::BoxFuture;
use pin_project::pin_project;
use tokio::time::Instant;
use tower::Service;
use tower::util::Oneshot;

use crate::failure::NothingToPick;
use crate::layer::round;
use crate::{CallOptions, Classify, Failure, Picked, Subscription};

/// The future of [`Balance`](super::Balance). It picks when it is first polled; dropped before it is
/// over, it says that the attempt was cancelled.
#[pin_project]
#[must_use = "a future does nothing unless it is polled"]
pub struct ResponseFuture<T: Service<Req>, Req> {
    subscription: Arc<Subscription<T>>,
    options: CallOptions,
    request: Option<Req>,
    #[pin]
    state: State<T, Req>,
}

#[pin_project(project = StateProjection)]
enum State<T: Service<Req>, Req> {
    Picking,
    /// Boxed, so that calls that find a node at once do not carry room for it.
    Waiting(BoxFuture<'static, Result<Picked<T>, NothingToPick>>),
    // In this order: the call is dropped before the node is told.
    Calling(#[pin] Oneshot<T, Req>, Option<Picked<T>>),
}

impl<T: Service<Req>, Req> ResponseFuture<T, Req> {
    pub(super) fn new(
        subscription: Arc<Subscription<T>>,
        options: CallOptions,
        request: Req,
    ) -> Self {
        Self { subscription, options, request: Some(request), state: State::Picking }
    }
}

impl<T, Req> Future for ResponseFuture<T, Req>
where
    T: Service<Req> + Clone + Send + Sync + 'static,
    T::Error: Classify,
{
    type Output = Result<T::Response, Failure<T::Error>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let picked = match this.state.as_mut().project() {
                StateProjection::Picking => match pick(this.subscription, this.options) {
                    Some(picked) => picked,
                    None => {
                        let wait = wait(this.subscription.clone(), this.options.clone());
                        this.state.set(State::Waiting(wait.boxed()));
                        continue;
                    }
                },
                StateProjection::Waiting(wait) => ready!(wait.poll_unpin(cx)),
                StateProjection::Calling(call, picked) => {
                    let outcome = ready!(round::behind(|| call.poll(cx)));
                    let picked = picked.take().expect("it is not polled after it has ended");
                    return Poll::Ready(this.subscription.conclude(picked, outcome));
                }
            };
            let picked = match picked {
                Ok(picked) => picked,
                Err(nothing) => return Poll::Ready(Err(nothing.into())),
            };
            this.subscription.count(picked.member(), round::is_retry());
            let is_left = |tried: &_| this.subscription.is_left(this.options, tried);
            round::goes_to(picked.member().stats().key(), is_left);
            let request = this.request.take().expect("a node is picked once");
            let call = Oneshot::new(picked.member().target().clone(), request);
            this.state.set(State::Calling(call, Some(picked)));
        }
    }
}

/// A node that the call has not tried, if there is nothing to wait for.
fn pick<T: Clone>(
    subscription: &Subscription<T>,
    options: &CallOptions,
) -> Option<Result<Picked<T>, NothingToPick>> {
    subscription.touch();
    let picked = subscription.pick_known(options, &round::tried(), Instant::now());
    if let Some(Err(_)) = picked {
        round::is_over();
    }
    picked
}

async fn wait<T: Clone>(
    subscription: Arc<Subscription<T>>,
    options: CallOptions,
) -> Result<Picked<T>, NothingToPick> {
    subscription.appear_in_time(&options).await
}

impl<T: Service<Req>, Req> fmt::Debug for ResponseFuture<T, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = match &self.state {
            State::Calling(_, Some(picked)) => Some(&picked.member().registration().node.id),
            _ => None,
        };
        f.debug_struct("ResponseFuture").field("node", &node).finish_non_exhaustive()
    }
}
