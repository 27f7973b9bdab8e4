//! Who is compared: one file per contender behind the [`Contender`] and [`Caller`] traits.
//!
//! A new contender is a file here, a variant of [`Name`] and an arm of `Name::play`.

use std::{fmt, path::Path};

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;
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
