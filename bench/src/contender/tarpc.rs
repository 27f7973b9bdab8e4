//! tarpc as its documentation shows it: the TCP transport with bincode, default configurations,
//! one spawned task per request.
//!
//! The defaults (1000 requests in flight, queues of 100) are not reached by 64 calls in flight.
//! Nagle's algorithm stays on, as `tarpc::serde_transport::tcp` leaves it.

use std::path::Path;

use anyhow::Result;
use futures::StreamExt;
use tarpc::{
    client, context,
    server::{BaseChannel, Channel},
    tokio_serde::formats::Bincode,
};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::{Caller, Contender, Server};

#[tarpc::service]
pub(crate) trait Echo {
    async fn echo(payload: Vec<u8>) -> Vec<u8>;
}

/// tarpc as documented.
#[derive(Debug)]
pub(crate) struct Tarpc;

impl Contender for Tarpc {
    type Caller = EchoClient;

    async fn serve(_: &Path) -> Result<Server> {
        let listen = tarpc::serde_transport::tcp::listen("127.0.0.1:0", Bincode::default);
        let mut incoming = listen.await?;
        let address = incoming.local_addr().to_string();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Some(Ok(transport)) = incoming.next().await {
                let channel = BaseChannel::with_defaults(transport);
                connections.spawn(channel.execute(EchoServer.serve()).for_each(
                    |response| async move {
                        tokio::spawn(response);
                    },
                ));
            }
        });
        Ok(Server { address, accepting: AbortOnDropHandle::new(accepting) })
    }

    async fn connect(address: &str) -> Result<EchoClient> {
        let transport = tarpc::serde_transport::tcp::connect(address, Bincode::default).await?;
        Ok(EchoClient::new(client::Config::default(), transport).spawn())
    }
}

impl Caller for EchoClient {
    type Reply = Vec<u8>;

    async fn call(&self, payload: &[u8]) -> Result<Vec<u8>> {
        Ok(self.echo(context::current(), payload.to_vec()).await?)
    }
}

#[derive(Clone)]
struct EchoServer;

impl Echo for EchoServer {
    async fn echo(self, _: context::Context, payload: Vec<u8>) -> Vec<u8> {
        payload
    }
}
