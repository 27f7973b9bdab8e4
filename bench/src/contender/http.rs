//! The same service called in JSON over HTTP/1.1: on its own port, and through the gateway.
//!
//! The client is hyper's. HTTP/1.1 has one call in flight on a connection, so the client keeps as
//! many connections as there are calls in flight, whatever the comparison says. The payload is a
//! text. The gateway runs in the service's process, so that the server's CPU time is of both; it
//! finds the service in the registry and calls it over the loopback, as always.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use micro::{Client, Settings};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::wide::Wide;
use super::{Caller, Contender, Idle, Place, Server, full};
use crate::child::PATIENCE;
use crate::payload::{Made, Payload};

/// The service's own port.
#[derive(Debug)]
pub(crate) struct Http;

impl Contender for Http {
    type Caller = HttpCaller;

    async fn serve(place: &Place) -> Result<Server> {
        let service = full::start(place).await?;
        let address = service.registration().node.address.clone();
        Ok(Server::keeping(address, service))
    }

    async fn connect(address: &str, _: usize) -> Result<Vec<HttpCaller>> {
        Ok(vec![HttpCaller::new(address)?])
    }

    async fn rest(address: &str, connections: usize) -> Result<Idle> {
        HttpCaller::new(address)?.rest(connections).await
    }
}

/// The gateway in front of it.
#[derive(Debug)]
pub(crate) struct Gateway;

impl Contender for Gateway {
    type Caller = HttpCaller;

    async fn serve(place: &Place) -> Result<Server> {
        let service = full::start(place).await?;
        let client = Client::connect()
            .settings(Settings::none())
            .registry(full::registry_in(&full::directory(place))?)
            .wait_for_ready(true)
            .await?;
        let mut config = micro_gateway::Config::default();
        config.listen.set_port(0);
        config.max_connections = config.max_connections.max(place.connections + 8);
        let gateway = micro_gateway::serve(config, client).await?;
        let address = gateway.address().to_string();
        answers(&address).await?;
        Ok(Server::keeping(address, (gateway, service)))
    }

    async fn connect(address: &str, connections: usize) -> Result<Vec<HttpCaller>> {
        Http::connect(address, connections).await
    }

    async fn rest(address: &str, connections: usize) -> Result<Idle> {
        Http::rest(address, connections).await
    }
}

/// Waits until the gateway has heard of the service.
async fn answers(address: &str) -> Result<()> {
    let payload = Made::for_caller::<HttpCaller>(Payload::Bytes(1));
    let caller = HttpCaller::new(address)?;
    let end = Instant::now() + PATIENCE / 2;
    while let Err(error) = payload.call(&caller).await {
        ensure!(Instant::now() < end, "the gateway does not answer: {error:#}");
        sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// Connections to one address; clones share them.
#[derive(Clone)]
pub(crate) struct HttpCaller(Arc<Pool>);

impl Caller for HttpCaller {
    type Reply = String;

    async fn call(&self, payload: &[u8]) -> Result<String> {
        #[derive(Serialize)]
        struct Arguments<'a> {
            text: &'a str,
        }
        let arguments = Arguments { text: std::str::from_utf8(payload)? };
        self.0.post("/bench/echo_text", &arguments).await
    }

    async fn call_wide(&self, wide: &Wide) -> Result<Wide> {
        #[derive(Serialize)]
        struct Arguments<'a> {
            wide: &'a Wide,
        }
        self.0.post("/bench/echo_wide", &Arguments { wide }).await
    }
}

impl HttpCaller {
    fn new(address: &str) -> Result<Self> {
        Ok(Self(Arc::new(Pool {
            host: HeaderValue::from_str(address)?,
            address: address.parse()?,
            resting: Mutex::default(),
            driving: Mutex::default(),
        })))
    }

    /// Opens connections, each of which makes one call.
    async fn rest(self, connections: usize) -> Result<Idle> {
        let mut used = Vec::with_capacity(connections);
        for _ in 0..connections {
            // It opens one for this call, as none rests.
            self.call(b"text").await?;
            used.extend(self.0.take());
        }
        Ok(Box::new((self, used)))
    }
}

type Connection = SendRequest<Full<Bytes>>;

struct Pool {
    address: SocketAddr,
    host: HeaderValue,
    /// Connections without a call.
    resting: Mutex<Vec<Connection>>,
    /// One task for each connection.
    driving: Mutex<JoinSet<()>>,
}

impl Pool {
    async fn post<A: DeserializeOwned>(
        &self,
        path: &'static str,
        arguments: &impl Serialize,
    ) -> Result<A> {
        let mut request = Request::new(Full::new(serde_json::to_vec(arguments)?.into()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = Uri::from_static(path);
        let headers = request.headers_mut();
        headers.insert(HOST, self.host.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut connection = match self.take() {
            Some(connection) => connection,
            None => self.open().await?,
        };
        connection.ready().await?;
        let answer = connection.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        self.resting.lock().expect("nothing panics under the lock").push(connection);
        ensure!(status == StatusCode::OK, "{status}: {}", String::from_utf8_lossy(&body));
        Ok(serde_json::from_slice(&body)?)
    }

    fn take(&self) -> Option<Connection> {
        self.resting.lock().expect("nothing panics under the lock").pop()
    }

    async fn open(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        self.driving.lock().expect("nothing panics under the lock").spawn(async {
            // What went wrong is told to whoever calls.
            let _ = connection.await;
        });
        Ok(sender)
    }
}
