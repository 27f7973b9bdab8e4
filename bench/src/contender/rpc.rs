//! The engine of micro alone: raw bytes through one route, with its default limits.

use anyhow::Result;
use bytes::Bytes;
use futures::FutureExt;
use micro_rpc::{
    Address, Channel, ChannelConfig, Codec, Limits, Listener, Request, Response, Router,
    Server as RpcServer, ServerConfig,
};

use super::{Caller, Contender, Idle, Place, Server};

/// The engine alone.
#[derive(Debug)]
pub(crate) struct Rpc;

impl Contender for Rpc {
    type Caller = Channel;

    async fn serve(place: &Place) -> Result<Server> {
        let router = Router::new().route("bench", "echo", |request: Request| {
            std::future::ready(Ok(Response::new(request.codec, request.body))).boxed()
        });
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await?;
        let address = listener.local_address().to_string();
        let mut config = ServerConfig::default();
        make_room(&mut config.limits, place.connections);
        let server = RpcServer::new(router)?.config(config).start(vec![listener]);
        Ok(Server::keeping(address, server))
    }

    async fn connect(address: &str, connections: usize) -> Result<Vec<Channel>> {
        let config = ChannelConfig { connections, ..ChannelConfig::default() };
        Ok(vec![Channel::new(address.parse()?, config)])
    }

    async fn rest(address: &str, connections: usize) -> Result<Idle> {
        rest(address, connections, "echo").await
    }
}

impl Caller for Channel {
    type Reply = Bytes;
    const TYPED: bool = false;

    async fn call(&self, payload: &[u8]) -> Result<Bytes> {
        let body = Bytes::copy_from_slice(payload);
        let request = Request::new("bench", "echo", Codec::MessagePack, body);
        Ok(Channel::call(self, &request).await?.body)
    }
}

/// Opens connections, each of which makes one call, of a method that takes a text.
pub(super) async fn rest(address: &str, connections: usize, method: &'static str) -> Result<Idle> {
    let text = Bytes::from_static(br#"{"text": "a call, so that it is no connection alone"}"#);
    let request = Request::new("bench", method, Codec::Json, text);
    let mut idle = Vec::with_capacity(connections);
    for _ in 0..connections {
        let channel = Channel::new(address.parse()?, ChannelConfig::default());
        Channel::call(&channel, &request).await?;
        idle.push(channel);
    }
    Ok(Box::new(idle))
}

/// Lets in as many connections from this host, if that is more than the default.
pub(super) fn make_room(limits: &mut Limits, connections: usize) {
    // The measuring client has one too.
    let connections = connections + 8;
    limits.max_connections = limits.max_connections.max(connections);
    limits.max_connections_per_peer = limits.max_connections_per_peer.max(connections);
}
