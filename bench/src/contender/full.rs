//! What users of micro get: a service that registers itself, and a generated client that finds it,
//! with the defaults of both: deadline, trace, retries, selection, one connection per node.
//!
//! The registry is `local:` in the server's scratch directory, whose path is this contender's address. The
//! payload is a `ByteBuf`, which serde encodes as bytes; a `Vec<u8>` would be a list of numbers.

use std::path::Path;

use anyhow::Result;
use micro::registry::Registry;
use micro::{Client, Service, Settings};
use micro_registry_local::{LocalConfig, LocalRegistry};
use serde_bytes::ByteBuf;
use tokio_util::task::AbortOnDropHandle;

use super::{Caller, Contender, Server};

/// Echoes.
#[micro::service]
pub(crate) trait Bench {
    /// Gives the payload back.
    async fn echo(&self, payload: ByteBuf) -> ByteBuf;
}

struct Echo;

impl Bench for Echo {
    async fn echo(&self, payload: ByteBuf) -> ByteBuf {
        payload
    }
}

/// The whole of micro.
#[derive(Debug)]
pub(crate) struct Full;

impl Contender for Full {
    type Caller = BenchClient;

    async fn serve(scratch: &Path) -> Result<Server> {
        let registry = scratch.join("registry");
        serve(registry_in(&registry)?, registry.to_string_lossy().into_owned()).await
    }

    async fn connect(address: &str) -> Result<BenchClient> {
        connect(registry_in(Path::new(address))?).await
    }
}

async fn serve(registry: impl Registry, address: String) -> Result<Server> {
    let service = Service::new()
        .settings(Settings::none())
        .registry(registry)
        .serve(BenchServer::new(Echo))
        .start()
        .await?;
    let accepting = tokio::spawn(async move {
        // Owned by this task, so that it ends with it.
        let _service = service;
        std::future::pending::<()>().await;
    });
    Ok(Server { address, accepting: AbortOnDropHandle::new(accepting) })
}

async fn connect(registry: impl Registry) -> Result<BenchClient> {
    let client = Client::connect()
        .settings(Settings::none())
        .registry(registry)
        .wait_for_ready(true)
        .await?;
    Ok(BenchClient::new(&client))
}

impl Caller for BenchClient {
    type Reply = ByteBuf;

    async fn call(&self, payload: &[u8]) -> Result<ByteBuf> {
        Ok(self.echo(ByteBuf::from(payload)).await?)
    }
}

fn registry_in(directory: &Path) -> Result<LocalRegistry> {
    Ok(LocalRegistry::new(LocalConfig::new(directory))?)
}
