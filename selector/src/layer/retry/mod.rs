//! Tries again, elsewhere and within a budget.

mod error;
mod future;
mod layer;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

pub use error::Failed;
pub use future::ResponseFuture;
pub use layer::RetryLayer;

use crate::{Budget, CallOptions, Classify, RetryPolicy};

/// Tries again what failed, by the [class](crate::Class) of the failure, a [policy](RetryPolicy) and
/// a [budget](Budget).
///
/// | failure | tried again |
/// |---|---|
/// | `NotSent`, `Refused` | yes |
/// | `Overloaded` | within the budget |
/// | `MaybeExecuted` | idempotent requests, within the budget |
/// | `Executed`, `Unsent` | never |
///
/// Over a [`Balance`](super::Balance), whatever layers are between, no attempt goes to a node that
/// was tried while there is another, and what surely was not executed goes to the next one at once.
/// The two find each other by the task they run in: a `Buffer` between them, or whatever else moves
/// a call to another task, parts them. Over any other service each further attempt waits first
/// ("full jitter"), and each counts as one of [`RetryPolicy::max_attempts`](field@RetryPolicy::max_attempts).
///
/// Each attempt has a clone of the request, and of the service.
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use micro_selector::Class;
/// use micro_selector::layer::{Classified, RetryLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// static ASKED: AtomicU32 = AtomicU32::new(0);
/// let flaky = service_fn(async |name: &str| match ASKED.fetch_add(1, Ordering::Relaxed) {
///     0 => Err(Classified::new(Class::MaybeExecuted, "reset")),
///     _ => Ok(format!("Hello, {name}!")),
/// });
/// // Greeting twice does no harm.
/// let greet = RetryLayer::new(|_| true).layer(flaky);
/// assert_eq!(greet.oneshot("Ann").await.unwrap(), "Hello, Ann!");
/// # }
/// ```
pub struct Retry<S, I> {
    inner: S,
    is_idempotent: I,
    policy: RetryPolicy,
    budget: Arc<Budget>,
}

impl<S, I, Req> Service<Req> for Retry<S, I>
where
    S: Service<Req> + Clone,
    S::Error: Classify,
    I: Fn(&Req) -> bool,
    Req: Clone,
{
    type Response = S::Response;
    type Error = Failed<S::Error>;
    type Future = ResponseFuture<S, Req>;

    /// Always ready; what is behind is waited for by each attempt.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        self.budget.deposit();
        let options = CallOptions {
            idempotent: (self.is_idempotent)(&request),
            retry: self.policy.clone(),
            ..CallOptions::default()
        };
        ResponseFuture::new(self.inner.clone(), request, options, self.budget.clone())
    }
}

impl<S: Clone, I: Clone> Clone for Retry<S, I> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            is_idempotent: self.is_idempotent.clone(),
            policy: self.policy.clone(),
            budget: self.budget.clone(),
        }
    }
}

impl<S: fmt::Debug, I> fmt::Debug for Retry<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("inner", &self.inner)
            .field("policy", &self.policy)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}
