//! Who is compared: one file per contender behind the [`Contender`] and [`Caller`] traits.
//!
//! A new contender is a file here, a variant of [`Name`] and an arm of `Name::play`.

use std::{fmt, path::Path, sync::Arc};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::process::Role;

mod full;
mod raw;
mod rpc;
mod tarpc;

/// An engine that can echo over TCP.
pub trait Contender {
    /// Its client: one connection.
    type Caller: Caller;

    /// Binds a free port of the loopback interface and serves echo on it.
    ///
    /// `scratch` is an empty directory for this server alone, removed once it has ended.
    fn serve(scratch: &Path) -> impl Future<Output = Result<Server>> + Send;

    /// Opens one connection to a server of the same contender; `address` is that server's.
    fn connect(address: &str) -> impl Future<Output = Result<Self::Caller>> + Send;
}

/// One connection, shared by many concurrent calls.
pub trait Caller: Clone + Send + Sync + 'static {
    /// The echoed payload, as the contender hands it to its user.
    type Reply: AsRef<[u8]> + Send;

    /// Sends `payload` and waits for its echo.
    fn call(&self, payload: &[u8]) -> impl Future<Output = Result<Self::Reply>> + Send;
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

/// The contenders by name, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Name {
    /// A multiplexed, batched echo without any RPC: the limit.
    Raw,
    /// The engine of micro alone: no registry, no selection, no types.
    Rpc,
    /// What users of micro get: a generated client that finds its service in a registry.
    Full,
    /// tarpc as its documentation shows it.
    Tarpc,
}

impl Name {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
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
            Self::Tarpc => in_process::<tarpc::Tarpc>(payload, in_flight, calls),
        }
    }

    /// Plays `role` with the named contender.
    pub(crate) fn play(self, role: Role) -> Result<()> {
        match self {
            Self::Raw => role.play_as::<raw::Raw>(),
            Self::Rpc => role.play_as::<rpc::Rpc>(),
            Self::Full => role.play_as::<full::Full>(),
            Self::Tarpc => role.play_as::<tarpc::Tarpc>(),
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
    let payload: Arc<[u8]> = (0..payload).map(|byte| byte as u8).collect();
    runtime.block_on(async {
        let server = C::serve(scratch.path()).await?;
        let caller = C::connect(&server.address).await?;
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
