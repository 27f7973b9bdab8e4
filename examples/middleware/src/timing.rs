//! A layer of one's own.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use micro::rpc::{Request, Response};
use tokio::time::Instant;

/// A layer as tower means it, for either side: tells how long each call took.
#[derive(Clone, Debug)]
pub struct Timing<F> {
    report: F,
}

impl<F: Fn(&str, Duration) + Clone> Timing<F> {
    /// Reports the name of each method and how long it took.
    pub fn new(report: F) -> Self {
        Self { report }
    }
}

impl<S, F: Clone> tower::Layer<S> for Timing<F> {
    type Service = Timed<S, F>;

    fn layer(&self, inner: S) -> Timed<S, F> {
        Timed { inner, report: self.report.clone() }
    }
}

/// The service [`Timing`] makes of another.
#[derive(Clone, Debug)]
pub struct Timed<S, F> {
    inner: S,
    report: F,
}

impl<S, F> tower::Service<Request> for Timed<S, F>
where
    S: tower::Service<Request, Response = Response>,
    S::Future: Send + 'static,
    F: Fn(&str, Duration) + Clone + Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (method, report) = (request.method.clone(), self.report.clone());
        let start = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            report(&method, start.elapsed());
            answer
        })
    }
}
