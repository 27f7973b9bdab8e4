//! What is called: the engine alone, and what users get. Both echo bytes.
//!
//! No bytes at all are a question: which task answers it.

use std::any::Any;
use std::fmt;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use clap::ValueEnum;
use futures::FutureExt;
use micro::registry::MemoryRegistry;
use micro::{Client, Service, Settings};
use micro_rpc::{
    Address, Channel, ChannelConfig, Codec, Limits, Listener, Request, Response, Router,
    Server as RpcServer, ServerConfig,
};
use serde::Serialize;
use serde_bytes::ByteBuf;

/// Which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Name {
    /// The engine alone: a channel, a server with one route, raw bytes.
    Rpc,
    /// What users get: a generated client of a service that it finds. With default settings, but for
    /// those that go by how long things take.
    Full,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rpc => "rpc",
            Self::Full => "full",
        })
    }
}

/// A client of a server in the same process.
pub(crate) trait Contender: Clone + Send + 'static {
    /// What comes back.
    type Answer: AsRef<[u8]> + Send;

    /// Starts both; the server runs until it is dropped.
    async fn start() -> Result<(Self, Box<dyn Any>)>;

    /// Has the payload echoed, or is told a task if there is none.
    fn call(&self, payload: &[u8]) -> impl Future<Output = Result<Self::Answer>> + Send;
}

impl Contender for Channel {
    type Answer = Bytes;

    async fn start() -> Result<(Self, Box<dyn Any>)> {
        let router = Router::new().route("bench", "echo", |request: Request| {
            let body = if request.body.is_empty() { task().into() } else { request.body };
            std::future::ready(Ok(Response::new(request.codec, body))).boxed()
        });
        let listener = Listener::bind(&Address::tcp("127.0.0.1", 0)).await?;
        let address = listener.local_address().to_string().parse()?;
        let config = ServerConfig { limits: limits(), ..ServerConfig::default() };
        let server = RpcServer::new(router)?.config(config).start(vec![listener]);
        let config = ChannelConfig { connect_timeout: PATIENCE, ..ChannelConfig::default() };
        Ok((Self::new(address, config), Box::new(server)))
    }

    async fn call(&self, payload: &[u8]) -> Result<Bytes> {
        let body = Bytes::copy_from_slice(payload);
        let request = Request::new("bench", "echo", Codec::MessagePack, body);
        Ok(Channel::call(self, &request).await?.body)
    }
}

/// Echoes.
#[micro::service]
pub(crate) trait Bench {
    /// Gives the payload back, or tells its task.
    async fn echo(&self, payload: ByteBuf) -> ByteBuf;
}

struct Echo;

impl Bench for Echo {
    async fn echo(&self, payload: ByteBuf) -> ByteBuf {
        if payload.is_empty() { ByteBuf::from(task()) } else { payload }
    }
}

impl Contender for BenchClient {
    type Answer = ByteBuf;

    async fn start() -> Result<(Self, Box<dyn Any>)> {
        let registry = MemoryRegistry::default();
        let service = Service::new()
            .settings(Settings::none())
            .registry(registry.clone())
            .address("127.0.0.1:0")
            .limits(limits())
            .serve(BenchServer::new(Echo))
            .start()
            .await?;
        let client = Client::connect().settings(Settings::none()).registry(registry);
        let client = client.wait_for_ready(true).timeout(PATIENCE).await?;
        Ok((Self::new(&client), Box::new(service)))
    }

    async fn call(&self, payload: &[u8]) -> Result<ByteBuf> {
        Ok(self.echo(ByteBuf::from(payload)).await?)
    }
}

/// How long connecting and calls may take: under callgrind everything does, the first time more so.
const PATIENCE: Duration = Duration::from_secs(60);

/// The defaults, but for the limit that follows latency, which under callgrind says nothing.
fn limits() -> Limits {
    Limits { adaptive: false, ..Limits::default() }
}

/// The task that runs this, in words.
fn task() -> String {
    tokio::task::try_id().map_or_else(String::new, |id| id.to_string())
}
