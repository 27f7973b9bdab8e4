//! What all connections of a server share.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinError;
use tokio::time::Instant;

use super::gate::Gate;
use super::places::{Full, Given, Places, Pulse};
use super::rate::Rates;
use super::router::Routes;
use super::stats::{MethodStats, ServerStats};
use super::{ServerConfig, Web};
use crate::limits::Limits;
use crate::outbox::lock;
use crate::{Code, Peer, Tally};

/// What all connections of a server share.
pub(super) struct Shared {
    pub(super) routes: Routes,
    pub(super) limits: Limits,
    #[cfg_attr(not(feature = "http"), allow(dead_code, reason = "only HTTP asks"))]
    pub(super) web: Web,
    phase: watch::Sender<Phase>,
    places: Mutex<Places>,
    pub(super) gate: Gate,
    pub(super) rates: Rates,
    /// Of calls that led to no method.
    astray: Tally,
    aborted: AtomicUsize,
    told_about_tls: AtomicBool,
}

/// Where a server is in its life; it only moves downwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    /// Clients are told to go elsewhere; what comes nevertheless is served.
    Draining,
    /// No new calls and no new connections, and running calls end at this time.
    Stopping(Instant),
}

impl Shared {
    pub(super) fn new(routes: Routes, config: ServerConfig, web: Web) -> Self {
        let limits = config.limits.clamped();
        Self {
            gate: Gate::new(&limits, routes.len()),
            routes,
            places: Mutex::new(Places::new(&limits, Instant::now())),
            rates: Rates::new(limits.max_rate_per_peer),
            limits,
            web: Web { hosts: config.hosts.into(), ..web },
            astray: Tally::new(),
            phase: watch::Sender::new(Phase::Serving),
            aborted: AtomicUsize::new(0),
            told_about_tls: AtomicBool::new(false),
        }
    }

    /// Notes a call that led to no method, after so long.
    pub(super) fn note_astray(&self, code: Code, took: Duration) {
        self.astray.note(Err(code), took);
    }

    pub(super) fn stats(&self) -> ServerStats {
        let methods = self.routes.iter().map(|route| MethodStats::of(route));
        ServerStats {
            is_draining: !self.is_serving(),
            connections: lock(&self.places).len(),
            running: self.gate.running(),
            limit: self.gate.limit(),
            queued: self.gate.queued(),
            shed: self.gate.shed(),
            methods: methods.chain([MethodStats::astray(&self.astray)]).collect(),
        }
    }

    pub(super) fn enter(&self, next: Phase) {
        self.phase.send_if_modified(|phase| {
            let forward = !matches!((*phase, next), (Phase::Stopping(_), _)) && *phase != next;
            if forward {
                *phase = next;
            }
            forward
        });
    }

    /// Returns the phase now, and whatever it becomes.
    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn is_serving(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }

    #[cfg(feature = "http")]
    pub(super) fn is_stopping(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Stopping(_))
    }

    /// Takes a place for a connection, if need be that of an idle one. The receiver ends when the
    /// place was lost and others need the time that the connection has to leave.
    pub(super) fn admit(self: &Arc<Self>, peer: Peer) -> Option<(Place, oneshot::Receiver<()>)> {
        let ip = match peer {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix | Peer::Memory => None,
        };
        let now = Instant::now();
        let mut places = lock(&self.places);
        let full = places.full(ip);
        let is_news = full.is_some() && places.is_short(now);
        let given = places.take(ip, now);
        drop(places);
        if is_news {
            self.warn_about_shortage(full, peer);
        }
        let Given { id, pulse, stay, time } = given.ok()?;
        Some((Place { shared: Arc::clone(self), id, pulse, stay }, time))
    }

    fn warn_about_shortage(&self, full: Option<Full>, peer: Peer) {
        let (limit, places) = match full {
            Some(Full::Peer(_)) => {
                ("max_connections_per_peer", self.limits.max_connections_per_peer)
            }
            _ => ("max_connections", self.limits.max_connections),
        };
        let message = "all places for connections are taken: new ones take those of the idlest";
        tracing::warn!(%peer, limit, places, "{message}");
    }

    pub(super) fn aborted(&self) -> usize {
        self.aborted.load(Ordering::Relaxed)
    }

    /// Notes calls that the end of the grace period ended.
    pub(super) fn note_aborted(&self, count: usize) {
        self.aborted.fetch_add(count, Ordering::Relaxed);
    }

    /// Says once that TLS is not spoken here: a misconfigured client would fill the log.
    pub(super) fn warn_about_tls(&self, peer: Peer) {
        if !self.told_about_tls.swap(true, Ordering::Relaxed) {
            tracing::warn!(%peer, "a client speaks TLS, which this server does not");
        }
    }
}

/// Waits until the server stops; returns when running calls have to end.
pub(super) async fn stopping(phases: &mut watch::Receiver<Phase>) -> Instant {
    loop {
        if let Phase::Stopping(until) = *phases.borrow_and_update() {
            return until;
        }
        if phases.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A place among the connections, given back on drop.
pub(super) struct Place {
    shared: Arc<Shared>,
    id: u64,
    pulse: Arc<Pulse>,
    stay: oneshot::Receiver<()>,
}

impl Place {
    /// Waits until the place is needed for somebody else, which happens once.
    pub(super) async fn lost(&mut self) {
        // Nothing is ever sent: that the sender was dropped is the message.
        let _ = (&mut self.stay).await;
    }

    pub(super) fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if lock(&self.shared.places).give_back(self.id) {
            tracing::info!("there are places for connections again");
        }
    }
}

/// Keeps a connection from being idle while a call of it waits or runs, until dropped.
pub(super) struct Owing(Arc<Pulse>);

impl Owing {
    pub(super) fn new(pulse: &Arc<Pulse>) -> Self {
        pulse.began();
        Self(Arc::clone(pulse))
    }
}

impl Drop for Owing {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Reads a task's result: a panic in one is a bug of this crate, and must not pass in silence.
pub(super) fn report_panic<T>(ended: Result<T, JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the server panicked");
    }
}
