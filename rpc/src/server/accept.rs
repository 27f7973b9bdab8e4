//! The task of one listener, which owns the connections that came through it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::episode::Episode;
use super::session::{self, Fate};
use super::shared::{Place, Shared, report_panic, stopping};
use crate::limits::Limits;
use crate::pipe::Pipe;
use crate::transport::Stream;
use crate::wire::Preface;
use crate::{Listener, Peer};

/// How long to wait after an accept that failed for want of file descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until the server stops, and then waits for them to end.
pub(super) async fn accept(mut listener: Listener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    let mut phases = shared.phases();
    let mut shortage = Episode::default();
    loop {
        tokio::select! {
            biased;
            _ = stopping(&mut phases) => break,
            Some(ended) = connections.join_next() => report_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    if shortage.ended() {
                        tracing::info!("connections can be accepted again");
                    }
                    admit(stream, &shared, &mut connections);
                }
                Err(error) if concerns_one_connection(&error) => {
                    tracing::debug!(%error, "a connection was gone before it was accepted");
                }
                Err(error) => {
                    if shortage.happened(Instant::now()) {
                        tracing::warn!(%error, "cannot accept connections");
                    }
                    sleep(PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

/// Whether a failed accept says something about the connection that was to be accepted rather than
/// about this process, so that the next may be fine. accept(2) passes on what the network reported.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted,
        NetworkDown, NetworkUnreachable, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkDown
            | NetworkUnreachable
            | PermissionDenied
            | TimedOut
    )
}

fn admit(stream: Stream, shared: &Arc<Shared>, connections: &mut JoinSet<()>) {
    // A peer that is gone already has no address.
    let Some(peer) = stream.peer() else { return };
    match shared.admit(peer) {
        Some((mut place, time)) => {
            let shared = Arc::clone(shared);
            connections.spawn(async move {
                tokio::select! {
                    // In this order who leaves says so, even if there is no time to wait for anything.
                    biased;
                    () = serve(stream, peer, shared, &mut place) => {}
                    _ = time => tracing::debug!(%peer, "closed a connection: too many are leaving"),
                }
            });
        }
        None => tracing::debug!(%peer, "closed a connection: all others are busy"),
    }
}

/// Serves one connection in the protocol that its first byte begins.
async fn serve(stream: Stream, peer: Peer, shared: Arc<Shared>, place: &mut Place) {
    let mut phases = shared.phases();
    let mut pipe = Pipe::new(stream, shared.limits.max_frame);
    let first = tokio::select! {
        _ = stopping(&mut phases) => return,
        () = place.lost() => return,
        first = first_byte(&mut pipe, &shared.limits) => first,
    };
    match first {
        Some(byte) if byte == Preface::MAGIC[0] => {
            let fate = session::serve(pipe, peer, &shared, place).await;
            if let Fate::Fault(reason) = fate {
                tracing::debug!(%peer, reason, "closed a connection");
            }
        }
        #[cfg(feature = "http")]
        Some(b'A'..=b'Z') => super::http::serve(pipe, peer, shared, place).await,
        Some(TLS_HANDSHAKE) => shared.warn_about_tls(peer),
        Some(byte) => tracing::debug!(%peer, byte, "closed a connection of unknown protocol"),
        None => {}
    }
}

/// The first byte of a TLS connection.
const TLS_HANDSHAKE: u8 = 0x16;

/// Reads until there is a first byte, and leaves it in the inbox.
async fn first_byte(pipe: &mut Pipe, limits: &Limits) -> Option<u8> {
    let read = timeout(limits.stall_timeout, pipe.read()).await;
    matches!(read, Ok(Ok(1..))).then(|| pipe.inbox.first())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Want of descriptors or memory makes the server wait; a connection that failed does not.
    #[test]
    fn errors_of_accept() {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, OutOfMemory};
        for kind in [ConnectionAborted, ConnectionReset] {
            assert!(concerns_one_connection(&kind.into()), "{kind:?}");
        }
        let (nfile, mfile) = (23, 24);
        for error in [nfile, mfile].map(io::Error::from_raw_os_error) {
            assert!(!concerns_one_connection(&error), "{error}");
        }
        assert!(!concerns_one_connection(&OutOfMemory.into()));
    }
}
