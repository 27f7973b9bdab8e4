//! What a server answers over HTTP, inside a web application that has a server of its own.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use http_body_util::Full;
use hyper::body::{Body, Frame, SizeHint};
use hyper::{Request, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout_at};

use super::reply::Refusal;
use super::{BoxError, Caller, Reply, answer};
use crate::server::places::Pulse;
use crate::server::shared::Shared;
use crate::server::{LINGER, call};
use crate::{Code, Peer, Status};

/// What a server answers over HTTP on its own port, as a [`tower::Service`] that a web application
/// mounts among its routes.
///
/// The same holds as on the port: limits, deadlines, metadata, drain, and which hosts and origins
/// are accepted. It answers at most [`max_connections`](crate::Limits::max_connections) requests at
/// once. It owns nothing: once the server has stopped, or was dropped, it answers 503.
///
/// The handler gets the extensions of the HTTP request as its own, so what the application's layers
/// found out about the caller reaches it. A [`Peer`] among them is the caller's address; there is
/// none otherwise, and [`max_rate_per_peer`](crate::Limits::max_rate_per_peer) bounds nobody then.
#[derive(Clone)]
#[must_use = "it answers where it is mounted"]
pub struct HttpService {
    mount: Weak<Mount>,
    hosts: Arc<[String]>,
}

impl HttpService {
    pub(in crate::server) fn new(mount: &Arc<Mount>) -> Self {
        Self { mount: Arc::downgrade(mount), hosts: Arc::clone(&mount.shared.web.hosts) }
    }

    /// Adds names, without a port, that callers may use for the application in `Host`, besides IP
    /// addresses, `localhost`, names without a dot and those of the server.
    ///
    /// A request that names another host is answered 403: see
    /// [`ServerConfig::hosts`](crate::ServerConfig::hosts).
    pub fn hosts<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter().map(Into::into);
        self.hosts = self.hosts.iter().cloned().chain(names).collect();
        self
    }

    /// Lets a request in, unless the server is gone or answers too many already.
    fn admit<B>(&self, request: &Request<B>) -> Result<Visit, Status> {
        let mount = self.mount.upgrade().ok_or_else(call::draining)?;
        let peer = request.extensions().get::<Peer>().copied();
        let too_many = |_| Status::new(Code::ResourceExhausted, "too many requests at once");
        let place = Arc::clone(&mount.places).try_acquire_owned();
        Ok(Visit {
            _place: place.map_err(too_many).map_err(Status::refused)?,
            shared: Arc::clone(&mount.shared),
            caller: Caller {
                peer,
                rate: mount.shared.rates.of(peer),
                pulse: Arc::clone(&mount.pulse),
                hosts: Arc::clone(&self.hosts),
            },
            stay: mount.requests.subscribe(),
        })
    }
}

impl<B> tower::Service<Request<B>> for HttpService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<HttpBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let admitted = self.admit(&request);
        Box::pin(async move {
            let reply = match admitted {
                Ok(visit) => visit.answer(request).await,
                Err(status) => Refusal::from(status).into_reply(),
            };
            Ok(reply.map(HttpBody))
        })
    }
}

impl fmt::Debug for HttpService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpService").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// The body of what an [`HttpService`] answers: all of it, at once.
#[derive(Debug)]
pub struct HttpBody(Full<Bytes>);

impl Body for HttpBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The server's side of all [`HttpService`]s: they end with it.
pub(in crate::server) struct Mount {
    shared: Arc<Shared>,
    /// Of no connection of the server's, so nobody asks it who is idle.
    pulse: Arc<Pulse>,
    /// Those for requests that are answered at once.
    places: Arc<Semaphore>,
    /// Each request that was let in has a receiver.
    requests: watch::Sender<()>,
}

impl Mount {
    pub(in crate::server) fn new(shared: &Arc<Shared>) -> Arc<Self> {
        let places = shared.limits.max_connections.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            shared: Arc::clone(shared),
            places: Arc::new(Semaphore::new(places)),
            pulse: Arc::new(Pulse::new(Instant::now())),
            requests: watch::Sender::new(()),
        })
    }

    /// Waits until no request is being answered. The server stops already: a request that was let in
    /// before is waited for, and one that comes now sees that and refuses itself.
    ///
    /// Calls end themselves when the grace period does, as soon as the application polls them; that
    /// of an application which does not is given up a little later, and ends with the mount.
    pub(in crate::server) async fn finish(&self, until: Instant) {
        if timeout_at(until + LINGER, self.requests.closed()).await.is_err() {
            self.shared.note_aborted(self.pulse.running());
        }
    }
}

/// A request that was let in.
struct Visit {
    _place: OwnedSemaphorePermit,
    shared: Arc<Shared>,
    caller: Caller,
    stay: watch::Receiver<()>,
}

impl Visit {
    async fn answer<B>(mut self, request: Request<B>) -> Reply
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        tokio::select! {
            // In this order a request that comes too late says that it was not executed.
            biased;
            reply = answer(request, &self.caller, &self.shared) => reply,
            // Nothing is ever sent: that the sender was dropped is the message.
            _ = self.stay.changed() => Refusal::from(call::aborted()).into_reply(),
        }
    }
}
