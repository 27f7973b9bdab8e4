//! At most as many calls at once as the service answers in reasonable time.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub use micro_overload::Config;
use micro_overload::{Limiter, Permit};
use tower::{Layer, Service};

use super::{Error, gate};
use crate::{Class, Classify};

/// Ends calls at once that the service would make slow, by how long others take.
///
/// It begins with as many calls at once as its [`Config`] allows, allows fewer while calls take much
/// longer than they do when few run, and more again as soon as they do not: a
/// [`LoadShed`](super::LoadShed) that finds its number itself. All calls are of one kind to it; what
/// is sometimes quick and sometimes slow by nature is better limited apart. A call whose future is
/// dropped was given up, which says more of an overload than an error: put deadlines around this
/// layer, not into it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::convert::Infallible;
/// use micro_selector::layer::{LimitLayer, limit::Config};
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// let greet = service_fn(async |name: &str| Ok::<_, Infallible>(format!("Hello, {name}!")));
/// let mut greet = LimitLayer::new(&Config { max: 1, ..Config::default() }).layer(greet);
/// let first = greet.call("Ann");
/// assert!(greet.clone().oneshot("Bob").await.is_err());
/// assert_eq!(first.await.unwrap(), "Hello, Ann!");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Limit<S> {
    inner: S,
    limiter: Arc<Limiter>,
}

/// Makes [`Limit`] of a service.
#[derive(Clone, Debug, Default)]
pub struct LimitLayer {
    config: Config,
}

impl LimitLayer {
    /// Limits by this configuration; values out of range count as the nearest that is in it.
    pub fn new(config: &Config) -> Self {
        Self { config: config.clone() }
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit { inner, limiter: Arc::new(Limiter::new(&self.config, 1)) }
    }
}

impl<S> Limit<S> {
    /// How many calls may be under way at present.
    pub fn limit(&self) -> usize {
        self.limiter.limit()
    }

    /// The calls under way.
    pub fn in_flight(&self) -> usize {
        self.limiter.running()
    }

    fn enter(&self) -> Result<Permit, Overloaded> {
        let overloaded = || Overloaded {
            limit: self.limiter.limit(),
            retry_after: self.limiter.pace().clamp(RETRY.0, RETRY.1),
        };
        self.limiter.try_acquire(0).ok_or_else(overloaded)
    }
}

/// The soonest and the latest that a call is told to come back.
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

impl<S: Service<Req> + Clone, Req> Service<Req> for Limit<S> {
    type Response = S::Response;
    type Error = Error<Overloaded, S::Error>;
    type Future = ResponseFuture<S, Req>;

    /// Always ready; what is behind is waited for by the future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::of(&self.inner, request, self.enter())
    }
}

/// The future of [`Limit`].
pub type ResponseFuture<S, Req> = gate::ResponseFuture<S, Req, Permit, Overloaded>;

/// Dropped without an answer, it says that one would have taken no less.
impl<E> gate::Pass<E> for Permit {
    fn end(self, result: Result<(), &E>) {
        match result {
            Ok(()) => self.finish(),
            Err(_) => self.fail(),
        }
    }
}

/// So many calls run that another would make all of them slow. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} calls are under way already, which is all that the service can do")]
#[non_exhaustive]
pub struct Overloaded {
    /// So many may run at once at present.
    pub limit: usize,
    /// When a place may be free again.
    pub retry_after: Duration,
}

impl Classify for Overloaded {
    fn class(&self) -> Class {
        Class::Overloaded
    }

    fn retry_after(&self) -> Option<Duration> {
        Some(self.retry_after)
    }
}
