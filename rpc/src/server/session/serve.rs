//! How a connection begins and ends: prefaces, and what is said last.

use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::BufMut;
use tokio::time::timeout;

use super::Session;
use crate::Peer;
use crate::outbox::Outbox;
use crate::pipe::Pipe;
use crate::server::LINGER;
use crate::server::shared::{Place, Shared, stopping};
use crate::wire::{Preface, WireError};

/// How a connection ended.
pub(in crate::server) enum Fate {
    /// As it should: by the client, or because the server stopped.
    Over,
    /// For this reason.
    Fault(String),
}

/// Serves a connection until the client closes it, breaks the protocol or the server stops.
pub(in crate::server) async fn serve(
    mut pipe: Pipe,
    peer: Peer,
    shared: &Arc<Shared>,
    place: &mut Place,
) -> Fate {
    let mut phases = shared.phases();
    let greeted = tokio::select! {
        _ = stopping(&mut phases) => return Fate::Over,
        () = place.lost() => return Fate::Over,
        greeted = timeout(shared.limits.stall_timeout, greet(&mut pipe)) => greeted,
    };
    let mut session = match greeted {
        Err(_) => return Fault::Stalled.into(),
        Ok(Err(Fault::Wire(error))) => return refuse(pipe, shared, error).await,
        Ok(Err(fault)) => return fault.into(),
        Ok(Ok(theirs)) => Session::new(pipe, peer, Arc::clone(shared), place, &theirs),
    };
    let ended = session.run(place).await;
    session.end(ended).await
}

/// Reads the client's preface.
async fn greet(pipe: &mut Pipe) -> Result<Preface, Fault> {
    loop {
        if let Some(bytes) = pipe.inbox.take() {
            return Ok(Preface::decode(&bytes)?);
        }
        if pipe.read().await? == 0 {
            return Err(Fault::Gone);
        }
    }
}

/// Answers a preface that cannot be spoken with our own, so that the client can say why.
async fn refuse(mut pipe: Pipe, shared: &Shared, error: WireError) -> Fate {
    let mut outbox = Outbox::default();
    if matches!(error, WireError::Version(_)) {
        outbox.push(|out| out.put_slice(&Preface::ours(&shared.limits).encode()));
    }
    close(&mut pipe, &Mutex::new(outbox)).await;
    Fault::Wire(error).into()
}

/// Writes what is left, then waits for the peer to close: closing first, with bytes of the peer
/// unread, would make the operating system throw our last answers away.
pub(super) async fn close<T: AsMut<Outbox>>(pipe: &mut Pipe, outbox: &Mutex<T>) {
    let closing = async {
        poll_fn(|cx| pipe.poll_flush(cx, outbox)).await?;
        poll_fn(|cx| pipe.poll_finish(cx)).await?;
        while pipe.read().await? > 0 {
            pipe.inbox.clear();
        }
        io::Result::Ok(())
    };
    // Either way the connection ends here, and the peer had its time.
    let _ = timeout(LINGER, closing).await;
}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the client closed it")]
    Gone,
    #[error("the client stalled")]
    Stalled,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl From<Fault> for Fate {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Gone => Self::Over,
            fault => Self::Fault(fault.to_string()),
        }
    }
}
