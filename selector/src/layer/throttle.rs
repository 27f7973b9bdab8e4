//! Spares a service that is overloaded.

use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::Instant;
use tower::{Layer, Service};

use super::{Error, gate};
use crate::{Class, Classify, Throttle as Core, ThrottlePolicy};

/// Ends some calls before they are sent, while the service answers many as
/// [overloaded](Class::Overloaded).
///
/// How many, [`Throttle`](crate::Throttle) says. Inside of retries it counts
/// each attempt; the one that it ends ends the call.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use micro_selector::Class;
/// use micro_selector::layer::{Classified, Error, ThrottleLayer, throttle::Throttled};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// let busy = service_fn(async |_: ()| Err::<(), _>(Classified::new(Class::Overloaded, "busy")));
/// let busy = ThrottleLayer::new().layer(busy);
/// let mut spared = 0;
/// for _ in 0..1_000 {
///     spared += i32::from(busy.clone().oneshot(()).await == Err(Error::Ended(Throttled)));
/// }
/// assert!(spared > 500);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Throttle<S> {
    inner: S,
    core: Arc<Core>,
}

/// Makes [`Throttle`] of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThrottleLayer {
    policy: ThrottlePolicy,
}

impl ThrottleLayer {
    /// By the default [policy](ThrottlePolicy).
    pub fn new() -> Self {
        Self::default()
    }

    /// When to end calls.
    #[must_use]
    pub fn policy(self, policy: ThrottlePolicy) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for ThrottleLayer {
    type Service = Throttle<S>;

    fn layer(&self, inner: S) -> Throttle<S> {
        Throttle { inner, core: Arc::new(Core::by(&self.policy, Instant::now())) }
    }
}

impl<S> Throttle<S> {
    /// The share of calls that end here at present.
    pub fn refused_share(&self) -> f64 {
        self.core.refused_share(Instant::now())
    }

    fn enter(&self) -> Result<Sent, Throttled> {
        self.core.admit(Instant::now()).then(|| Sent(self.core.clone())).ok_or(Throttled)
    }
}

impl<S, Req> Service<Req> for Throttle<S>
where
    S: Service<Req> + Clone,
    S::Error: Classify,
{
    type Response = S::Response;
    type Error = Error<Throttled, S::Error>;
    type Future = ResponseFuture<S, Req>;

    /// Always ready; what is behind is waited for by the future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::of(&self.inner, request, self.enter())
    }
}

/// The future of [`Throttle`].
pub type ResponseFuture<S, Req> = gate::ResponseFuture<S, Req, Sent, Throttled>;

/// A call that was sent.
#[derive(Debug)]
pub struct Sent(Arc<Core>);

impl<E: Classify> gate::Pass<E> for Sent {
    fn end(self, outcome: Result<(), &E>) {
        if outcome.is_err_and(|error| error.class() == Class::Overloaded) {
            self.0.overloaded(Instant::now());
        }
    }
}

/// Nothing was sent: the service refuses so much that this call is spared it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not sent, since the service is overloaded")]
pub struct Throttled;

impl Classify for Throttled {
    /// Unsent, since it must not be repeated: the same service would be asked after all.
    fn class(&self) -> Class {
        Class::Unsent
    }
}
