//! Layers around calls: one's own, made with [`from_fn`], and tower's.
//!
//! A layer sees every [`Request`] on its way in and every [`Response`], or error, on its way out.
//! There are three places for one, and at each the layer that was added first sees the request
//! first:
//!
//! ```text
//!  caller                                                        server
//!
//!  ClientBuilder::layer          once per call                   Service::layer   once per request
//!    ┆ retries                                                     ┆ (deadline and drain come before)
//!    ClientBuilder::attempt_layer  once per attempt   ── wire ──▶  the handler
//!      ┆ connection
//! ```
//!
//! A call's deadline is that of its layers too: one that waits for too long is dropped, and the call
//! ends with `deadline_exceeded`.
//!
//! Whatever one layer puts into a request's `extensions` is there for the layers behind it, and a
//! handler finds it with [`Context::extension`](crate::Context::extension); extensions never
//! travel.
//!
//! # Errors
//!
//! Layers have one type of error, [`BoxError`], so that tower's fit as they are, and those of
//! [`selector::layer`](micro_selector::layer) below a `ServiceBuilder::map_err` of
//! [`into_boxed`](micro_selector::layer::Error::into_boxed). What callers see:
//!
//! | error | code |
//! |---|---|
//! | [`Status`] | its own |
//! | [`micro::Error`](crate::Error), [`rpc::Error`](micro_rpc::Error) | its own |
//! | `tower::timeout::error::Elapsed` | `deadline_exceeded`; on a server, interrupted: repeated if idempotent |
//! | `tower::load_shed::error::Overloaded` | `resource_exhausted`, refused: safe to repeat elsewhere |
//! | those of [`selector::layer`](micro_selector::layer) | `deadline_exceeded` as above, or refused if it had passed before; `resource_exhausted` of `LoadShed` and `Limit`, refused, and of `Throttle`, never repeated; `unavailable` of `Ejection`, refused |
//! | any other, on a server | `internal`; its text stays in the server's log |
//! | any other, on a client | `unknown`, with the error as its source |
//!
//! On a client a layer's error says nothing about execution, unless it is a [`Status`] that is
//! [refused](Status::refused): the request was not sent if the layers have not passed it on, and may
//! have been executed if they have. What an attempt's layers end unsent says nothing against the node
//! it was meant for. Once they have ended it with an error unsent, it stays unsent. An
//! error from behind the layers says itself what is known.
//!
//! # Examples
//!
//! ```
//! use micro::layer::{self, BoxError, Next};
//! use micro::rpc::{Code, Request, Response, Status};
//!
//! async fn authenticate(request: Request, next: Next) -> Result<Response, BoxError> {
//!     match request.metadata.get("token") {
//!         Some("secret") => next.run(request).await,
//!         _ => Err(Status::new(Code::Unauthenticated, "a token is missing").into()),
//!     }
//! }
//!
//! let service = micro::Service::new().layer(layer::from_fn(authenticate));
//! let client = micro::Client::connect().layer(tower::timeout::TimeoutLayer::new(
//!     std::time::Duration::from_secs(1),
//! ));
//! ```

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use micro_rpc::{Code, Request, Response, Status};
use micro_selector::layer::deadline::Missed;
use micro_selector::layer::ejection::Ejected;
use micro_selector::layer::limit::Overloaded;
use micro_selector::layer::load_shed::Full;
use micro_selector::layer::throttle::Throttled;
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt};

use crate::Error;

/// The error of every layer.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What lies behind a layer: the next one, and at the end the call itself.
#[derive(Clone)]
pub struct Next(BoxCloneSyncService<Request, Response, BoxError>);

impl Next {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Request, Response = Response> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        Self(BoxCloneSyncService::new(service.map_err(Into::into)))
    }

    /// Passes the request on, and waits until what is behind is ready for it.
    ///
    /// # Errors
    ///
    /// Whatever lies behind answers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what it passed the request to.
    pub async fn run(self, request: Request) -> Result<Response, BoxError> {
        self.0.oneshot(request).await
    }
}

impl Service<Request> for Next {
    type Response = Response;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response, BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        self.0.call(request)
    }
}

impl fmt::Debug for Next {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next").finish_non_exhaustive()
    }
}

/// A layer made of `async fn(Request, Next) -> Result<Response, BoxError>`.
///
/// It may change the request, answer itself, pass it on more than once or not at all, and change
/// what comes back.
pub fn from_fn<F, Fut>(function: F) -> FromFn<F>
where
    F: Fn(Request, Next) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<Response, BoxError>> + Send + 'static,
{
    FromFn(function)
}

/// The layer [`from_fn`] makes.
#[derive(Clone, Copy)]
pub struct FromFn<F>(F);

impl<F> fmt::Debug for FromFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFn").field("function", &std::any::type_name::<F>()).finish()
    }
}

impl<F: Clone> Layer<Next> for FromFn<F> {
    type Service = FromFnService<F>;

    fn layer(&self, next: Next) -> FromFnService<F> {
        FromFnService { function: self.0.clone(), next }
    }
}

/// The service [`FromFn`] makes of what lies behind it.
#[derive(Clone)]
pub struct FromFnService<F> {
    function: F,
    next: Next,
}

impl<F> fmt::Debug for FromFnService<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromFnService").finish_non_exhaustive()
    }
}

impl<F, Fut> Service<Request> for FromFnService<F>
where
    F: Fn(Request, Next) -> Fut,
    Fut: Future<Output = Result<Response, BoxError>>,
{
    type Response = Response;
    type Error = BoxError;
    type Future = Fut;

    /// Always ready: what lies behind is waited for by [`Next::run`].
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Fut {
        (self.function)(request, self.next.clone())
    }
}

/// Layers in the order they were added, the outermost first.
#[derive(Clone, Default)]
pub(crate) struct Layers(Vec<Arc<dyn Fn(Next) -> Next + Send + Sync>>);

impl Layers {
    pub(crate) fn push<L>(&mut self, layer: L)
    where
        L: Layer<Next> + Send + Sync + 'static,
        L::Service: Service<Request, Response = Response> + Clone + Send + Sync + 'static,
        <L::Service as Service<Request>>::Error: Into<BoxError>,
        <L::Service as Service<Request>>::Future: Send + 'static,
    {
        self.0.push(Arc::new(move |next| Next::new(layer.layer(next))));
    }

    /// Puts them around a service; `None` when there are none, so that nobody pays for that.
    pub(crate) fn around<S>(&self, service: S) -> Option<Next>
    where
        S: Service<Request, Response = Response> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
    {
        if self.0.is_empty() {
            return None;
        }
        Some(self.0.iter().rev().fold(Next::new(service), |next, layer| layer(next)))
    }
}

impl fmt::Debug for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} layers", self.0.len())
    }
}

/// How a layer's error ends a request: what each of the three places says of it begins here.
#[derive(Debug)]
pub(crate) enum Ended {
    /// As the framework's error says.
    Error(Error),
    /// As the engine's error says.
    Engine(micro_rpc::Error),
    /// As a status says, a layer's own or one that stands for an error of tower's.
    Status(Status),
    /// As nobody but this process understands.
    Other(BoxError),
}

impl From<BoxError> for Ended {
    fn from(error: BoxError) -> Self {
        let error = match error.downcast::<Error>() {
            Ok(error) => return Self::Error(*error),
            Err(other) => other,
        };
        let error = match error.downcast::<micro_rpc::Error>() {
            Ok(error) => return Self::Engine(*error),
            Err(other) => other,
        };
        match error.downcast::<Status>() {
            Ok(status) => Self::Status(*status),
            Err(other) => {
                let known = of_tower(&other).or_else(|| of_selector(&other));
                known.map_or_else(|| Self::Other(other), Self::Status)
            }
        }
    }
}

/// What the errors of tower's own layers stand for.
fn of_tower(error: &BoxError) -> Option<Status> {
    if error.is::<tower::timeout::error::Elapsed>() {
        return Some(Status::new(Code::DeadlineExceeded, error.to_string()).interrupted());
    }
    error
        .is::<tower::load_shed::error::Overloaded>()
        .then(|| Status::new(Code::ResourceExhausted, error.to_string()).refused())
}

/// What the errors of the selector's layers stand for.
fn of_selector(error: &BoxError) -> Option<Status> {
    let status = |code| Status::new(code, error.to_string());
    if let Some(missed) = error.downcast_ref::<Missed>() {
        let status = status(Code::DeadlineExceeded);
        return Some(match missed {
            Missed::Before => status.refused(),
            _ => status.interrupted(),
        });
    }
    if let Some(Overloaded { retry_after, .. }) = error.downcast_ref() {
        return Some(status(Code::ResourceExhausted).with_retry_after(*retry_after).refused());
    }
    if error.is::<Full>() {
        return Some(status(Code::ResourceExhausted).refused());
    }
    if error.is::<Ejected>() {
        return Some(status(Code::Unavailable).refused());
    }
    // Not refused: then it would be repeated, and the service is to be spared.
    error.is::<Throttled>().then(|| status(Code::ResourceExhausted))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the selector's layers, a spared call is not refused, since that would repeat it; one that
    /// came too late is, and one that was cut off is not.
    #[test]
    fn what_the_selectors_layers_end() {
        for (error, code, is_refused) in [
            (BoxError::from(Throttled), Code::ResourceExhausted, false),
            (Full { limit: 1 }.into(), Code::ResourceExhausted, true),
            (Missed::Before.into(), Code::DeadlineExceeded, true),
            (Missed::During { is_callers: true }.into(), Code::DeadlineExceeded, false),
        ] {
            let words = error.to_string();
            let Ended::Status(status) = Ended::from(error) else { panic!("{words}") };
            assert_eq!((status.code(), status.is_refused()), (code, is_refused), "{words}");
            assert_eq!(status.message(), words);
        }
    }
}
