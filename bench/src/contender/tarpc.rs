//! tarpc, as its documentation shows it and as fast as it can be made.
//!
//! As documented: the TCP transport with bincode, default configurations, one spawned task per
//! request. Nagle's algorithm stays on, as `tarpc::serde_transport::tcp` leaves it.
//!
//! At its best: bytes that serde does not take for a list of numbers, no Nagle, and the requests of a
//! connection in one task, so that answers which are ready together are written together. bincode
//! stays.

use std::net::SocketAddr;

use anyhow::Result;
use futures::StreamExt;
use serde_bytes::ByteBuf;
use tarpc::{
    client, context,
    serde_transport::new as transport,
    server::{BaseChannel, Channel},
    tokio_serde::formats::Bincode,
    tokio_util::codec::LengthDelimitedCodec,
};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::wide::Wide;
use super::{Caller, Contender, Place, Server};

#[tarpc::service]
pub(crate) trait Echo {
    async fn echo(payload: Vec<u8>) -> Vec<u8>;
    async fn echo_bytes(payload: ByteBuf) -> ByteBuf;
    // In a box, since requests of all methods are one enum, and would be as long as the longest.
    async fn echo_wide(wide: Box<Wide>) -> Box<Wide>;
}

/// tarpc as documented.
#[derive(Debug)]
pub(crate) struct Tarpc;

impl Contender for Tarpc {
    type Caller = EchoClient;

    async fn serve(_: &Place) -> Result<Server> {
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

    async fn connect(address: &str, connections: usize) -> Result<Vec<EchoClient>> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let connect = tarpc::serde_transport::tcp::connect(address, Bincode::default);
            clients.push(EchoClient::new(client::Config::default(), connect.await?).spawn());
        }
        Ok(clients)
    }
}

impl Caller for EchoClient {
    type Reply = Vec<u8>;

    async fn call(&self, payload: &[u8]) -> Result<Vec<u8>> {
        Ok(self.echo(context::current(), payload.to_vec()).await?)
    }

    async fn call_wide(&self, wide: &Wide) -> Result<Wide> {
        Ok(*self.echo_wide(context::current(), Box::new(wide.clone())).await?)
    }
}

/// tarpc at its best.
#[derive(Debug)]
pub(crate) struct TarpcBest;

impl Contender for TarpcBest {
    type Caller = BestCaller;

    async fn serve(_: &Place) -> Result<Server> {
        Server::accepting(serve_in_one_task).await
    }

    async fn connect(address: &str, connections: usize) -> Result<Vec<BestCaller>> {
        let address: SocketAddr = address.parse()?;
        let mut callers = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let framed = LengthDelimitedCodec::builder().new_framed(stream);
            let transport = transport(framed, Bincode::default());
            let client = EchoClient::new(client::Config::default(), transport).spawn();
            callers.push(BestCaller(client));
        }
        Ok(callers)
    }
}

#[derive(Clone)]
pub(crate) struct BestCaller(EchoClient);

impl Caller for BestCaller {
    type Reply = ByteBuf;

    async fn call(&self, payload: &[u8]) -> Result<ByteBuf> {
        Ok(self.0.echo_bytes(context::current(), ByteBuf::from(payload)).await?)
    }

    async fn call_wide(&self, wide: &Wide) -> Result<Wide> {
        self.0.call_wide(wide).await
    }
}

async fn serve_in_one_task(stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let framed = LengthDelimitedCodec::builder().new_framed(stream);
    let channel = BaseChannel::with_defaults(transport(framed, Bincode::default()));
    let requests = channel.execute(EchoServer.serve());
    requests.for_each_concurrent(None, |response| response).await;
    Ok(())
}

#[derive(Clone)]
struct EchoServer;

impl Echo for EchoServer {
    async fn echo(self, _: context::Context, payload: Vec<u8>) -> Vec<u8> {
        payload
    }

    async fn echo_bytes(self, _: context::Context, payload: ByteBuf) -> ByteBuf {
        payload
    }

    async fn echo_wide(self, _: context::Context, wide: Box<Wide>) -> Box<Wide> {
        wide
    }
}
