//! A circuit around one service: it fails fast while the service does.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, Service};

use super::{Error, gate, round};
use crate::ejection::Ejection as Core;
use crate::node::PATIENCE;
use crate::peers::Peers;
use crate::{Class, Classify, EjectionPolicy};

/// Ends calls at once while the service behind it is ejected, but for one probe now and then.
///
/// The rules are those by which a [balancer](super::Balance) ejects its nodes, and which are not to
/// be put around those. By default, and as an [`EjectionPolicy`] says otherwise: 5 failures in a row, or fewer than 80 % of at least 10 calls answered over
/// the last 5 to 10 s (Envoy's outlier detection); out for 1 s × 2ⁿ up to 60 s, ± 25 %; the next
/// call then is the probe, whose answer takes the service in again (Finagle's `FailFast`).
///
/// Failures are what was [not sent](Class::NotSent) or [may have been
/// executed](Class::MaybeExecuted). What the service answers is none, be it an error, nor is a call
/// that its caller's [deadline](Classify::is_late) ended within 100 ms. A call that is dropped tells
/// nothing, so a time limit belongs behind this layer; nor does one that a layer behind this one
/// ends [by itself](Classify::is_local).
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use micro_selector::Class;
/// use micro_selector::layer::{Classified, EjectionLayer, Error};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// let dead = service_fn(async |_: ()| Err::<(), _>(Classified::new(Class::NotSent, "no route")));
/// let dead = EjectionLayer::new().layer(dead);
/// for _ in 0..5 {
///     assert!(matches!(dead.clone().oneshot(()).await, Err(Error::Inner(_))));
/// }
/// assert!(matches!(dead.oneshot(()).await, Err(Error::Ended(_))));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Ejection<S> {
    inner: S,
    circuit: Arc<Circuit>,
}

/// Makes [`Ejection`] of a service.
#[derive(Clone, Copy, Debug, Default)]
pub struct EjectionLayer {
    policy: EjectionPolicy,
}

impl EjectionLayer {
    /// By the default [policy](EjectionPolicy).
    pub fn new() -> Self {
        Self::default()
    }

    /// When to end calls, and for how long.
    #[must_use]
    pub fn policy(self, policy: EjectionPolicy) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for EjectionLayer {
    type Service = Ejection<S>;

    fn layer(&self, inner: S) -> Ejection<S> {
        Ejection { inner, circuit: Arc::new(Circuit::new(self.policy, Instant::now())) }
    }
}

impl<S> Ejection<S> {
    /// Whether calls end at once.
    pub fn is_ejected(&self) -> bool {
        self.circuit.core.is_out()
    }
}

impl<S, Req> Service<Req> for Ejection<S>
where
    S: Service<Req> + Clone,
    S::Error: Classify,
{
    type Response = S::Response;
    type Error = Error<Ejected, S::Error>;
    type Future = ResponseFuture<S, Req>;

    /// Always ready; what is behind is waited for by the future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::of(&self.inner, request, Circuit::enter(&self.circuit))
    }
}

/// The future of [`Ejection`].
pub type ResponseFuture<S, Req> = gate::ResponseFuture<S, Req, Watched, Ejected>;

/// What is known of the service.
struct Circuit {
    core: Core<EjectionPolicy>,
    /// Those of a service that stands alone.
    peers: Peers,
}

impl Circuit {
    fn new(policy: EjectionPolicy, now: Instant) -> Self {
        let peers = Peers::new(now);
        // At most half of a set is out, and the service may be.
        peers.resize(2);
        Self { core: Core::by(policy.clamped()), peers }
    }

    fn enter(circuit: &Arc<Self>) -> Result<Watched, Ejected> {
        let since = Instant::now();
        let is_probe = circuit.core.is_out();
        if is_probe && !circuit.core.begin_probe(circuit.peers.at(since)) {
            return Err(circuit.ejected(since));
        }
        Ok(Watched { circuit: Some(circuit.clone()), is_probe, since })
    }

    fn ejected(&self, now: Instant) -> Ejected {
        let now = self.peers.at(now);
        let rest = self.core.due().map(|due| Duration::from_nanos(due.since(now)));
        Ejected { rest: rest.unwrap_or_default(), is_alone: round::is_alone() }
    }

    fn answered(&self, is_probe: bool) {
        self.core.answered(is_probe, &self.peers, self.peers.at(Instant::now()));
    }

    fn failed(&self, is_probe: bool) {
        self.core.failed(is_probe, &self.peers, self.peers.at(Instant::now()));
    }

    fn told_nothing(&self, is_probe: bool) {
        if is_probe {
            self.core.probe_told_nothing(&self.peers, self.peers.at(Instant::now()));
        }
    }
}

impl fmt::Debug for Circuit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Circuit").field("is_ejected", &self.core.is_out()).finish_non_exhaustive()
    }
}

/// A call that is watched, as a probe perhaps. Dropped before it has ended, it tells nothing.
#[derive(Debug)]
pub struct Watched {
    /// `None` once it is over.
    circuit: Option<Arc<Circuit>>,
    is_probe: bool,
    since: Instant,
}

impl<E: Classify> gate::Pass<E> for Watched {
    fn end(mut self, outcome: Result<(), &E>) {
        let Some(circuit) = self.circuit.take() else { return };
        if outcome.is_err_and(Classify::is_local) {
            return circuit.told_nothing(self.is_probe);
        }
        match outcome.map_err(|error| (error.class(), error.is_late())) {
            Err((Class::NotSent | Class::MaybeExecuted, true))
                if self.since.elapsed() < PATIENCE =>
            {
                circuit.told_nothing(self.is_probe);
            }
            Err((Class::NotSent | Class::MaybeExecuted, _)) => circuit.failed(self.is_probe),
            Ok(()) | Err((Class::Executed, _)) => circuit.answered(self.is_probe),
            // It is there, and sent the call away for a reason of its own.
            Err(_) if self.is_probe => circuit.answered(true),
            Err(_) => {}
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(circuit) = self.circuit.take() {
            circuit.told_nothing(self.is_probe);
        }
    }
}

/// Nothing was sent: the service failed too often of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service fails too often to be called, and is probed in {rest:?}")]
#[non_exhaustive]
pub struct Ejected {
    /// How long until the next probe; zero while one is under way.
    pub rest: Duration,
    /// Retries around it have no other service to go to.
    is_alone: bool,
}

impl Classify for Ejected {
    /// Unsent where retries around it come here again; behind a balancer they go elsewhere.
    fn class(&self) -> Class {
        if self.is_alone { Class::Unsent } else { Class::NotSent }
    }
}
