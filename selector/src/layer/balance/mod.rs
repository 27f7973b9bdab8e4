//! Balances over nodes, named by a registry or by a stream of changes.

mod future;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::Stream;
use tower::Service;
use tower::discover::Change;

pub use future::ResponseFuture;

use crate::{CallOptions, Classify, Failure, StrategyKind, Subscription};

/// A service over nodes: each call goes to the one that is picked for it.
///
/// It picks when its future is first polled, by the request and from an immutable snapshot: it is
/// always ready, needs no `Buffer`, and waits for no lock; only whoever takes in what a stream of
/// changes has to say holds one meanwhile. `T` is the service kept per node, a clone of which
/// makes the call; clones of the balancer share nodes and what is known of them.
///
/// Nodes that fail are ejected and probed, those that hang come last, newcomers start slowly: see
/// [`Picker`](crate::Picker). It makes one attempt; [`Retry`](super::Retry) around it makes further
/// ones, on other nodes.
///
/// While nobody has named any node, calls wait, until their
/// [deadline](field@CallOptions::deadline) if they have one.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::convert::Infallible;
/// use futures::stream;
/// use micro_selector::StrategyKind;
/// use micro_selector::layer::Balance;
/// use tower::discover::Change;
/// use tower::{ServiceExt, service_fn};
///
/// let node = |id| {
///     service_fn(move |name: &'static str| async move {
///         Ok::<_, Infallible>(format!("{name} at {id}"))
///     })
/// };
/// // Any stream will do: what watches a DNS name, a file, Kubernetes.
/// let changes = ["a", "b"].map(|id| Ok::<_, Infallible>(Change::Insert(id, node(id))));
/// let greet = Balance::discover(stream::iter(changes), &StrategyKind::default());
/// let answer = greet.oneshot("Ann").await.unwrap();
/// assert!(answer == "Ann at a" || answer == "Ann at b");
/// # }
/// ```
pub struct Balance<T, O = CallOptions> {
    subscription: Arc<Subscription<T>>,
    options: O,
}

impl<T> Balance<T> {
    /// Balances over the nodes of a subscription, of a registry's for example.
    ///
    /// Of the selector's settings, [`throttle`](field@crate::SelectorConfig::throttle) and
    /// [`budget`](field@crate::SelectorConfig::budget) do nothing here: those are for
    /// [`Subscription::call`]. A [`ThrottleLayer`](super::ThrottleLayer) and a
    /// [`RetryLayer`](super::RetryLayer) around it have their own, unless the latter is given the
    /// [budget](Subscription::budget) of the subscription.
    pub fn new(subscription: Arc<Subscription<T>>) -> Self {
        Self { subscription, options: CallOptions::default() }
    }
}

impl<T: Clone + Send + 'static> Balance<T> {
    /// Balances over the nodes that a stream of changes names, what tower calls `Discover`:
    /// [`Subscription::discover`] says how it is heard.
    pub fn discover<K, E>(
        changes: impl Stream<Item = Result<Change<K, T>, E>> + Send + 'static,
        strategy: &StrategyKind,
    ) -> Self
    where
        K: fmt::Display,
        E: fmt::Display,
    {
        Self::new(Subscription::discover(changes, strategy))
    }
}

impl<T, O> Balance<T, O> {
    /// How calls are made: [`CallOptions`] for all, or a closure `Fn(&Req) -> CallOptions`.
    /// Of the options [`retry`](field@CallOptions::retry) and [`is_retry`](field@CallOptions::is_retry)
    /// have no meaning here, and [`idempotent`](field@CallOptions::idempotent) only says how soon the
    /// call may be a probe.
    #[must_use]
    pub fn options<P>(self, options: P) -> Balance<T, P> {
        Balance { subscription: self.subscription, options }
    }

    /// Which method a request calls: the [hash](crate::hash) of its name, by a closure. Long methods
    /// and short ones are told apart by it; see [`CallOptions::method`](field@CallOptions::method).
    ///
    /// Set after the [options](Self::options), whose other values stay as they are.
    #[must_use]
    pub fn method_of<Req, M>(self, method: M) -> Balance<T, MethodOf<O, M>>
    where
        M: Fn(&Req) -> u64,
    {
        let options = MethodOf { options: self.options, method };
        Balance { subscription: self.subscription, options }
    }

    /// What it balances over, to look at.
    pub fn subscription(&self) -> &Arc<Subscription<T>> {
        &self.subscription
    }
}

/// How a call is made, by its request.
pub trait OptionsOf<Req> {
    /// The options of a call.
    fn options_of(&self, request: &Req) -> CallOptions;
}

impl<Req> OptionsOf<Req> for CallOptions {
    fn options_of(&self, _: &Req) -> CallOptions {
        self.clone()
    }
}

impl<Req, F: Fn(&Req) -> CallOptions> OptionsOf<Req> for F {
    fn options_of(&self, request: &Req) -> CallOptions {
        self(request)
    }
}

/// Options with the method that a request calls: see [`Balance::method_of`].
#[derive(Clone)]
pub struct MethodOf<O, M> {
    options: O,
    method: M,
}

impl<Req, O: OptionsOf<Req>, M: Fn(&Req) -> u64> OptionsOf<Req> for MethodOf<O, M> {
    fn options_of(&self, request: &Req) -> CallOptions {
        let mut options = self.options.options_of(request);
        options.method = Some((self.method)(request));
        options
    }
}

impl<O: fmt::Debug, M> fmt::Debug for MethodOf<O, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MethodOf").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<T, O, Req> Service<Req> for Balance<T, O>
where
    T: Service<Req> + Clone + Send + Sync + 'static,
    T::Error: Classify,
    O: OptionsOf<Req>,
{
    type Response = T::Response;
    type Error = Failure<T::Error>;
    type Future = ResponseFuture<T, Req>;

    /// Always ready; a node is waited for by the future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let options = self.options.options_of(&request);
        ResponseFuture::new(self.subscription.clone(), options, request)
    }
}

impl<T, O: Clone> Clone for Balance<T, O> {
    fn clone(&self) -> Self {
        Self { subscription: self.subscription.clone(), options: self.options.clone() }
    }
}

impl<T, O> fmt::Debug for Balance<T, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balance").field("subscription", &self.subscription).finish_non_exhaustive()
    }
}
