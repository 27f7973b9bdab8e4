//! A gateway from its first connection to its last answer.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use micro::Client;
use micro::registry::Scope;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::answer::State;
use crate::{Config, Invalid, connection, follow};

/// Listens, and answers until it is told to stop, with calls that this client makes.
///
/// # Errors
///
/// When the configuration makes no sense, or the address cannot be listened on. That the registry
/// cannot be reached is none: it is waited for.
///
/// # Cancel safety
///
/// Dropping the future leaves nothing behind.
pub async fn serve(config: Config, client: Client) -> Result<Gateway, Error> {
    config.check()?;
    let listen = config.listen;
    let failed = |source| Error::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let updates = client.registry().watch(Scope::All).await.map_err(Error::Registry)?;
    let (stop, stopping) = watch::channel(());
    let (follower, services, events) = follow::new(updates, &config, client.clone());
    let state = Arc::new(State::new(config, client, services, events, stopping));
    let mut tasks = JoinSet::new();
    tasks.spawn(run(listener, state, follower));
    Ok(Gateway { address, stop, tasks })
}

/// A gateway while it runs. Dropping it ends it at once: calls that run are given up.
#[derive(Debug)]
#[must_use = "dropping it ends the gateway"]
pub struct Gateway {
    address: SocketAddr,
    /// Dropped to say that it is to stop.
    stop: watch::Sender<()>,
    /// The one that owns all others.
    tasks: JoinSet<()>,
}

impl Gateway {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, and waits for the calls that run, which end with their deadlines, and
    /// then for [`Config::stall_timeout`] until the answers are read. Who wants to wait less puts a
    /// timeout around it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up what still runs.
    pub async fn shutdown(self) {
        let Self { stop, mut tasks, .. } = self;
        drop(stop);
        while let Some(ended) = tasks.join_next().await {
            log(ended);
        }
    }
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What it was told makes no sense.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The registry does not tell what there is.
    #[error("the registry cannot be watched")]
    Registry(#[source] micro::registry::Error),
}

/// Runs until everybody who was let in has left.
async fn run(listener: TcpListener, state: Arc<State>, follower: follow::Follower) {
    let places = Arc::new(Semaphore::new(state.config.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut follows = JoinSet::new();
    follows.spawn(follower.run());
    let mut connections = JoinSet::new();
    let mut stopping = state.stopping.clone();
    {
        // Kept from round to round, since somebody may be in it who waits for a place.
        let next = || accept(&listener, &places, &state.wanted);
        let mut newcomer = pin!(next());
        loop {
            tokio::select! {
                (stream, place) = newcomer.as_mut() => {
                    connections.spawn(connection::serve(stream, place, Arc::clone(&state)));
                    newcomer.set(next());
                }
                Some(ended) = connections.join_next() => log(ended),
                Some(ended) = follows.join_next() => log(ended),
                _ = stopping.changed() => break,
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        log(ended);
    }
}

/// The next connection, and a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    wanted: &Notify,
) -> (TcpStream, OwnedSemaphorePermit) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // It only costs time if it cannot be set.
                let _ = stream.set_nodelay(true);
                return (stream, place(places, wanted).await);
            }
            // Too many open files, for example, which gets better or not, but not at once.
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A place that is free, or else the next that is given back: a connection that rests gives its own,
/// so that those that do nothing lock nobody out.
async fn place(places: &Arc<Semaphore>, wanted: &Notify) -> OwnedSemaphorePermit {
    if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        return place;
    }
    wanted.notify_one();
    let place = Arc::clone(places).acquire_owned().await.expect("it is never closed");
    // If none rested and another left, nobody has to go any more.
    let _ = wanted.notified().now_or_never();
    place
}

fn log(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of the gateway panicked");
    }
}
