//! The engine of micro alone: raw bytes through one route, with its default limits.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use futures::FutureExt;
use micro_rpc::{
    Address, Channel, ChannelConfig, Codec, Listener, Request, Response, Router,
    Server as RpcServer,
};
use tokio_util::task::AbortOnDropHandle;

use super::{Caller, Contender, Server};

/// The engine alone.
#[derive(Debug)]
pub(crate) struct Rpc;

impl Contender for Rpc {
    type Caller = Channel;

    async fn serve(_: &Path) -> Result<Server> {
        let router = Router::new().route("bench", "echo", |request: Request| {
            std::future::ready(Ok(Response::new(request.codec, request.body))).boxed()
        });
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await?;
        let address = listener.local_address().to_string();
        let server = RpcServer::new(router)?.start(vec![listener]);
        let accepting = tokio::spawn(async move {
            // Owned by this task, so that it ends with it.
            let _server = server;
            std::future::pending::<()>().await;
        });
        Ok(Server { address, accepting: AbortOnDropHandle::new(accepting) })
    }

    async fn connect(address: &str) -> Result<Channel> {
        Ok(Channel::new(address.parse()?, ChannelConfig::default()))
    }
}

impl Caller for Channel {
    type Reply = Bytes;

    async fn call(&self, payload: &[u8]) -> Result<Bytes> {
        let body = Bytes::copy_from_slice(payload);
        let request = Request::new("bench", "echo", Codec::MessagePack, body);
        Ok(Channel::call(self, &request).await?.body)
    }
}
