//! The selector as a [`tower::Service`].

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tower::{Service, ServiceExt};

use crate::{Attempt, CallOptions, Classify, Failure, Subscription};

/// What [`Balance`] must know about requests it otherwise knows nothing of.
pub trait Policy<Req>: Clone + Send + Sync + 'static {
    /// How this call is made.
    fn options(&self, request: &Req) -> CallOptions;

    /// The request of one attempt, numbered from 0.
    fn attempt(&self, request: &Req, number: u32) -> Req;
}

/// A `tower::Service` over all nodes of a service.
///
/// It picks inside `call`, when it knows the request, so it is always ready and needs no buffer;
/// each attempt goes to a node not tried yet. `T` is the service kept per node, a clone of which
/// makes the attempt.
#[derive(Debug)]
pub struct Balance<T, P> {
    subscription: Arc<Subscription<T>>,
    policy: P,
}

impl<T, P> Balance<T, P> {
    /// Balances over the nodes of a subscription.
    pub fn new(subscription: Arc<Subscription<T>>, policy: P) -> Self {
        Self { subscription, policy }
    }
}

impl<T, P: Clone> Clone for Balance<T, P> {
    fn clone(&self) -> Self {
        Self { subscription: self.subscription.clone(), policy: self.policy.clone() }
    }
}

impl<T, P, Req> Service<Req> for Balance<T, P>
where
    T: Service<Req> + Clone + Send + Sync + 'static,
    T::Error: Classify + Send,
    T::Response: Send,
    T::Future: Send,
    P: Policy<Req>,
    Req: Send + Sync + 'static,
{
    type Response = T::Response;
    type Error = Failure<T::Error>;
    type Future = BoxFuture<'static, Result<T::Response, Failure<T::Error>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let Self { subscription, policy } = self.clone();
        Box::pin(async move {
            let options = policy.options(&request);
            let answered = subscription.call(&options, &mut Attempts { policy, request }).await?;
            Ok(answered.response)
        })
    }
}

/// The attempts of one request.
struct Attempts<P, Req> {
    policy: P,
    request: Req,
}

impl<T, P, Req> Attempt<T> for Attempts<P, Req>
where
    T: Service<Req> + Clone + Send + Sync,
    T::Error: Classify + Send,
    T::Response: Send,
    T::Future: Send,
    P: Policy<Req>,
    Req: Send + Sync,
{
    type Response = T::Response;
    type Error = T::Error;

    async fn make(&mut self, node: &T, number: u32) -> Result<T::Response, T::Error> {
        node.clone().oneshot(self.policy.attempt(&self.request, number)).await
    }
}
