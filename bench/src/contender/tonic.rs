//! tonic with prost, as its documentation shows it: the router with one service, a channel whose
//! clones share a connection, default configurations.
//!
//! The messages are derived and the service is written here in the shape that tonic's generator
//! gives it, so that no `protoc` is needed.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Result;
use bytes::Bytes;
use http::{Request as HttpRequest, Response as HttpResponse, uri::PathAndQuery};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::body::Body;
use tonic::client::Grpc as ClientGrpc;
use tonic::codec::Codec;
use tonic::server::{Grpc as ServerGrpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server as TonicServer};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use super::wide::Wide;
use super::{Caller, Contender, Place, Server};

/// tonic as documented.
#[derive(Debug)]
pub(crate) struct Tonic;

impl Contender for Tonic {
    type Caller = TonicCaller;

    async fn serve(_: &Place) -> Result<Server> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let serving = TonicServer::builder().add_service(EchoServer).serve_with_incoming(incoming);
        let accepting = tokio::spawn(async move {
            if let Err(error) = serving.await {
                eprintln!("tonic's server ended: {error}");
            }
        });
        Ok(Server { address, accepting: AbortOnDropHandle::new(accepting) })
    }

    async fn connect(address: &str, connections: usize) -> Result<Vec<TonicCaller>> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let mut callers = Vec::with_capacity(connections);
        for _ in 0..connections {
            callers.push(TonicCaller(ClientGrpc::new(endpoint.connect().await?)));
        }
        Ok(callers)
    }
}

#[derive(Clone)]
pub(crate) struct TonicCaller(ClientGrpc<Channel>);

impl Caller for TonicCaller {
    type Reply = Bytes;

    async fn call(&self, payload: &[u8]) -> Result<Bytes> {
        let payload = Payload { bytes: Bytes::copy_from_slice(payload) };
        let answer: Payload = self.unary(ECHO, payload).await?;
        Ok(answer.bytes)
    }

    async fn call_wide(&self, wide: &Wide) -> Result<Wide> {
        self.unary(ECHO_WIDE, wide.clone()).await
    }
}

impl TonicCaller {
    async fn unary<M>(&self, path: &'static str, message: M) -> Result<M>
    where
        M: prost::Message + Default + 'static,
    {
        let mut client = self.0.clone();
        client.ready().await?;
        let codec = ProstCodec::<M, M>::default();
        let path = PathAndQuery::from_static(path);
        Ok(client.unary(Request::new(message), path, codec).await?.into_inner())
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = 1)]
    bytes: Bytes,
}

/// The service; its methods are told apart by their paths.
#[derive(Clone)]
struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "bench.Echo";
}

impl tower::Service<HttpRequest<Body>> for EchoServer {
    type Response = HttpResponse<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: HttpRequest<Body>) -> Answering {
        match request.uri().path() {
            ECHO => answer(ProstCodec::<Payload, Payload>::default(), request),
            ECHO_WIDE => answer(ProstCodec::<Wide, Wide>::default(), request),
            _ => Box::pin(ready(Ok(Status::unimplemented("no such method").into_http()))),
        }
    }
}

type Answering = Pin<Box<dyn Future<Output = Result<HttpResponse<Body>, Infallible>> + Send>>;

fn answer<C, M>(codec: C, request: HttpRequest<Body>) -> Answering
where
    C: Codec<Encode = M, Decode = M> + Send + 'static,
    M: Send + Sync + 'static,
{
    Box::pin(async move { Ok(ServerGrpc::new(codec).unary(Echo, request).await) })
}

/// Gives any message back.
struct Echo;

impl<M: Send + 'static> UnaryService<M> for Echo {
    type Response = M;
    type Future = Pin<Box<dyn Future<Output = Result<Response<M>, Status>> + Send>>;

    fn call(&mut self, request: Request<M>) -> Self::Future {
        Box::pin(ready(Ok(Response::new(request.into_inner()))))
    }
}

const ECHO: &str = "/bench.Echo/Echo";
const ECHO_WIDE: &str = "/bench.Echo/EchoWide";
