//! Who is compared: one file per contender behind the [`Contender`] and [`Caller`] traits.
//!
//! A new contender is a file here, a variant of [`Name`] and an arm of `Name::play`.

use std::{any::Any, fmt, path::PathBuf, sync::Arc};

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::{payload, role::Role};
use wide::Wide;

mod full;
mod http;
mod raw;
mod rpc;
mod tarpc;
mod tonic;
#[cfg(feature = "volo")]
mod volo;
pub mod wide;

/// An engine that can echo over TCP.
pub trait Contender {
    /// Its client.
    type Caller: Caller;

    /// Binds a free port of the loopback interface and serves echo on it.
    fn serve(place: &Place) -> impl Future<Output = Result<Server>> + Send;

    /// Opens so many connections to a server of the same contender, whose address this is; a caller
    /// has one of them, or spreads its calls over all of them.
    fn connect(
        address: &str,
        connections: usize,
    ) -> impl Future<Output = Result<Vec<Self::Caller>>> + Send;

    /// Opens so many connections that rest after one call each, until they are dropped.
    fn rest(address: &str, connections: usize) -> impl Future<Output = Result<Idle>> + Send {
        async move {
            let callers = Self::connect(address, connections).await?;
            for caller in &callers {
                caller.call(&payload::bytes(64)).await?;
            }
            Ok(Box::new(callers) as Idle)
        }
    }
}

/// Connections that nobody uses.
pub type Idle = Box<dyn Any + Send>;

/// One or more connections, shared by many concurrent calls.
pub trait Caller: Clone + Send + Sync + 'static {
    /// The echoed payload, as the contender hands it to its user.
    type Reply: AsRef<[u8]> + Send;

    /// Whether it has types; without, as many bytes stand for a struct.
    const TYPED: bool = true;

    /// Sends `payload`, which is a text, and waits for its echo.
    fn call(&self, payload: &[u8]) -> impl Future<Output = Result<Self::Reply>> + Send;

    /// Sends a struct and waits for its echo, if it has types.
    fn call_wide(&self, _: &Wide) -> impl Future<Output = Result<Wide>> + Send {
        async { bail!("there are no types") }
    }
}

/// Where and for what a server is started.
#[derive(Debug)]
pub struct Place {
    /// An empty directory for this server alone, removed once it has ended.
    pub scratch: PathBuf,
    /// How many connections it has to take at least.
    pub connections: usize,
}

/// A running server; dropping it stops accepting and ends what the accept task owns.
#[derive(Debug)]
#[must_use]
pub struct Server {
    /// Where it is found, in words its own client understands.
    pub address: String,
    /// Accepts connections.
    pub accepting: AbortOnDropHandle<()>,
}

impl Server {
    /// A server that runs as long as `running` is not dropped.
    fn keeping(address: String, running: impl Send + 'static) -> Self {
        let accepting = tokio::spawn(async move {
            // Owned by this task, so that it ends with it.
            let _running = running;
            std::future::pending::<()>().await;
        });
        Self { address, accepting: AbortOnDropHandle::new(accepting) }
    }

    /// A server that runs `serve` for each connection to a free port of the loopback interface.
    async fn accepting<F, Fut>(serve: F) -> Result<Self>
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future + Send + 'static,
        Fut::Output: Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        });
        Ok(Self { address, accepting: AbortOnDropHandle::new(accepting) })
    }
}

/// The contenders by name, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// A multiplexed, batched echo without any RPC: the limit.
    Raw,
    /// The engine of micro alone: no registry, no selection, no types.
    Rpc,
    /// What users of micro get: a generated client that finds its service in a registry.
    Full,
    /// The same service in JSON over HTTP/1.1, on its own port.
    Http,
    /// The same through the gateway.
    Gateway,
    /// tarpc as its documentation shows it.
    Tarpc,
    /// tarpc as fast as it can be made.
    TarpcBest,
    /// tonic as its documentation shows it, with prost.
    Tonic,
    /// volo-thrift with calls that share a connection.
    #[cfg(feature = "volo")]
    Volo,
    /// volo-thrift with a pool of connections.
    #[cfg(feature = "volo")]
    VoloPool,
}

impl Name {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// Whether it is HTTP with JSON, which is no engine's peer.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Gateway)
    }

    /// Makes so many calls with client and server on this thread.
    ///
    /// # Errors
    ///
    /// The first call that fails.
    pub fn call_in_process(self, payload: usize, in_flight: u32, calls: u32) -> Result<()> {
        match self {
            Self::Raw => in_process::<raw::Raw>(payload, in_flight, calls),
            Self::Rpc => in_process::<rpc::Rpc>(payload, in_flight, calls),
            Self::Full => in_process::<full::Full>(payload, in_flight, calls),
            Self::Http => in_process::<http::Http>(payload, in_flight, calls),
            Self::Gateway => in_process::<http::Gateway>(payload, in_flight, calls),
            Self::Tarpc => in_process::<tarpc::Tarpc>(payload, in_flight, calls),
            Self::TarpcBest => in_process::<tarpc::TarpcBest>(payload, in_flight, calls),
            Self::Tonic => in_process::<tonic::Tonic>(payload, in_flight, calls),
            #[cfg(feature = "volo")]
            Self::Volo => in_process::<volo::Volo>(payload, in_flight, calls),
            #[cfg(feature = "volo")]
            Self::VoloPool => in_process::<volo::VoloPool>(payload, in_flight, calls),
        }
    }

    /// Plays `role` with the named contender.
    pub(crate) fn play(self, role: Role) -> Result<()> {
        match self {
            Self::Raw => role.play_as::<raw::Raw>(),
            Self::Rpc => role.play_as::<rpc::Rpc>(),
            Self::Full => role.play_as::<full::Full>(),
            Self::Http => role.play_as::<http::Http>(),
            Self::Gateway => role.play_as::<http::Gateway>(),
            Self::Tarpc => role.play_as::<tarpc::Tarpc>(),
            Self::TarpcBest => role.play_as::<tarpc::TarpcBest>(),
            Self::Tonic => role.play_as::<tonic::Tonic>(),
            #[cfg(feature = "volo")]
            Self::Volo => role.play_as::<volo::Volo>(),
            #[cfg(feature = "volo")]
            Self::VoloPool => role.play_as::<volo::VoloPool>(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value().expect("no contender is skipped by clap");
        f.pad(value.get_name())
    }
}

fn in_process<C: Contender>(payload: usize, in_flight: u32, calls: u32) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scratch = tempfile::tempdir()?;
    let place = Place { scratch: scratch.path().to_owned(), connections: 1 };
    let payload: Arc<[u8]> = payload::bytes(payload).into();
    runtime.block_on(async {
        let server = C::serve(&place).await?;
        let caller = C::connect(&server.address, 1).await?.swap_remove(0);
        let mut callers = JoinSet::new();
        for _ in 0..in_flight {
            let (caller, payload) = (caller.clone(), payload.clone());
            callers.spawn(async move {
                for _ in 0..calls / in_flight {
                    caller.call(&payload).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = callers.join_next().await {
            ended??;
        }
        Ok(())
    })
}
