//! At most so many calls at once; further ones end at once.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::{Error, gate};
use crate::{Class, Classify};

/// Lets at most so many calls run at once, and ends further ones as [`Full`].
///
/// It counts calls. tower's layer of this name asks the service behind it whether it is ready, and
/// a `Buffer` there that is busy for a moment is an overload to it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use std::convert::Infallible;
/// use micro_selector::layer::{Error, LoadShedLayer, load_shed::Full};
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// let greet = service_fn(async |name: &str| Ok::<_, Infallible>(format!("Hello, {name}!")));
/// let mut greet = LoadShedLayer::new(1).layer(greet);
/// let first = greet.call("Ann");
/// assert_eq!(greet.clone().oneshot("Bob").await, Err(Error::Ended(Full { limit: 1 })));
/// assert_eq!(first.await.unwrap(), "Hello, Ann!");
/// assert_eq!(greet.oneshot("Bob").await.unwrap(), "Hello, Bob!");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LoadShed<S> {
    inner: S,
    limit: usize,
    in_flight: Arc<AtomicUsize>,
}

/// Makes [`LoadShed`] of a service.
#[derive(Clone, Copy, Debug)]
pub struct LoadShedLayer {
    limit: usize,
}

impl LoadShedLayer {
    /// At most `limit` calls at once. There is no default: it is what the service can do at once,
    /// twice that perhaps.
    pub fn new(limit: usize) -> Self {
        Self { limit }
    }
}

impl<S> Layer<S> for LoadShedLayer {
    type Service = LoadShed<S>;

    fn layer(&self, inner: S) -> LoadShed<S> {
        LoadShed { inner, limit: self.limit, in_flight: Arc::default() }
    }
}

impl<S> LoadShed<S> {
    /// The calls under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    fn enter(&self) -> Result<Place, Full> {
        let next = |running| (running < self.limit).then_some(running + 1);
        match self.in_flight.fetch_update(Relaxed, Relaxed, next) {
            Ok(_) => Ok(Place(self.in_flight.clone())),
            Err(_) => Err(Full { limit: self.limit }),
        }
    }
}

impl<S: Service<Req> + Clone, Req> Service<Req> for LoadShed<S> {
    type Response = S::Response;
    type Error = Error<Full, S::Error>;
    type Future = ResponseFuture<S, Req>;

    /// Always ready; what is behind is waited for by the future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::of(&self.inner, request, self.enter())
    }
}

/// The future of [`LoadShed`].
pub type ResponseFuture<S, Req> = gate::ResponseFuture<S, Req, Place, Full>;

/// One of the places, given back on drop.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl<E> gate::Pass<E> for Place {
    fn end(self, _: Result<(), &E>) {}
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// So many calls run already. Nothing was sent, and another service may have a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{limit} calls are under way already")]
pub struct Full {
    /// So many may run at once.
    pub limit: usize,
}

impl Classify for Full {
    fn class(&self) -> Class {
        Class::Refused
    }
}
