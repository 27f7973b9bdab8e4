//! What users of micro get: a service that registers itself, and a generated client that finds it,
//! with the defaults of both: deadline, trace, retries, selection, one connection per node.
//!
//! The registry is `local:` in the server's scratch directory; this contender's address is the node's
//! and that path. The payload is a `ByteBuf`, which serde encodes as bytes; a `Vec<u8>` would be a
//! list of numbers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use micro::rpc::Limits;
use micro::{Client, RunningService, Service, Settings};
use micro_registry_local::{LocalConfig, LocalRegistry};
use serde_bytes::ByteBuf;

use super::wide::Wide;
use super::{Caller, Contender, Idle, Place, Server, rpc};

/// Echoes.
#[micro::service]
pub(crate) trait Bench {
    /// Gives the payload back.
    async fn echo(&self, payload: ByteBuf) -> ByteBuf;

    /// Gives a text back, which JSON can say.
    async fn echo_text(&self, text: String) -> String;

    /// Gives a struct of many fields back.
    async fn echo_wide(&self, wide: Wide) -> Wide;
}

struct Echo;

impl Bench for Echo {
    async fn echo(&self, payload: ByteBuf) -> ByteBuf {
        payload
    }

    async fn echo_text(&self, text: String) -> String {
        text
    }

    async fn echo_wide(&self, wide: Wide) -> Wide {
        wide
    }
}

/// The whole of micro.
#[derive(Debug)]
pub(crate) struct Full;

impl Contender for Full {
    type Caller = BenchClient;

    async fn serve(place: &Place) -> Result<Server> {
        let service = start(place).await?;
        let address =
            format!("{} {}", service.registration().node.address, directory(place).display());
        Ok(Server::keeping(address, service))
    }

    async fn connect(address: &str, connections: usize) -> Result<Vec<BenchClient>> {
        let (_, directory) = address.split_once(' ').context("no path in the address")?;
        let client = Client::connect()
            .settings(Settings::none())
            .registry(registry_in(Path::new(directory))?)
            .connections_per_node(connections)
            .wait_for_ready(true)
            .await?;
        Ok(vec![BenchClient::new(&client)])
    }

    /// A thousand clients would be a thousand watches of the registry, so these are the engine's.
    async fn rest(address: &str, connections: usize) -> Result<Idle> {
        let (node, _) = address.split_once(' ').context("no path in the address")?;
        rpc::rest(node, connections, "echo_text").await
    }
}

impl Caller for BenchClient {
    type Reply = ByteBuf;

    async fn call(&self, payload: &[u8]) -> Result<ByteBuf> {
        Ok(self.echo(ByteBuf::from(payload)).await?)
    }

    async fn call_wide(&self, wide: &Wide) -> Result<Wide> {
        Ok(self.echo_wide(wide.clone()).await?)
    }
}

/// Starts the service, which registers itself.
pub(super) async fn start(place: &Place) -> Result<RunningService> {
    let mut limits = Limits::default();
    rpc::make_room(&mut limits, place.connections);
    let service = Service::new()
        .settings(Settings::none())
        .registry(registry_in(&directory(place))?)
        .limits(limits)
        .serve(BenchServer::new(Echo));
    Ok(service.start().await?)
}

/// The registry that a service started at this place is in.
pub(super) fn registry_in(directory: &Path) -> Result<LocalRegistry> {
    Ok(LocalRegistry::new(LocalConfig::new(directory))?)
}

/// Where that registry is.
pub(super) fn directory(place: &Place) -> PathBuf {
    place.scratch.join("registry")
}
