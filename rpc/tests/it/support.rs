//! Servers with known methods, and peers that speak the protocol byte by byte.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use micro_rpc::{
    Channel, ChannelConfig, Code, Codec, Error, Limits, Listener, MemoryNetwork, Request, Response,
    Router, Server, ServerConfig, ServerHandle, Status,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Counts handlers of `test/hang` that have begun and that were dropped or have ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) begun: Arc<AtomicUsize>,
    pub(crate) over: Arc<AtomicUsize>,
}

impl Counts {
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    pub(crate) fn over(&self) -> usize {
        self.over.load(Ordering::SeqCst)
    }
}

struct Over(Arc<AtomicUsize>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// What `greet` takes, as the arguments of a generated service are.
#[derive(serde::Deserialize)]
struct Greet {
    name: String,
}

/// `echo`, `later` (echo after a while), `fail`, `panic`, `panic_later`, `hang`, `large` and
/// `greet`, which reads its arguments.
pub(crate) fn router(counts: &Counts) -> Router {
    let counts = counts.clone();
    Router::new()
        .route("test", "echo", |request: Request| async move { echo(request) })
        .route("test", "later", |request: Request| async move {
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            echo(request)
        })
        .route("test", "fail", |request: Request| async move {
            let status = Status::new(Code::NotFound, "no such thing");
            Err(status.with_details(request.codec, request.body))
        })
        .route("test", "panic", |_: Request| async move { panic!("on purpose") })
        .route("test", "panic_later", |_: Request| async move {
            tokio::task::yield_now().await;
            panic!("on purpose")
        })
        .route("test", "large", |request: Request| async move {
            Ok(Response::new(request.codec, vec![0; 100_000].into()))
        })
        .route("test", "greet", |request: Request| async move {
            match request.codec.decode_map::<Greet>(&request.body) {
                Ok(Greet { name }) => Ok(Response::new(request.codec, name.into())),
                Err(error) => Err(Status::new(Code::InvalidArgument, error.to_string())),
            }
        })
        .route("test", "hang", move |_: Request| {
            counts.begun.fetch_add(1, Ordering::SeqCst);
            let over = Over(Arc::clone(&counts.over));
            async move {
                let _over = over;
                pending().await
            }
        })
}

fn echo(request: Request) -> Result<Response, Status> {
    let mut response = Response::new(request.codec, request.body);
    response.metadata = request.metadata;
    Ok(response)
}

pub(crate) async fn tcp() -> Listener {
    Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// A server of [`router`] on a free TCP port.
pub(crate) async fn server() -> (ServerHandle, Counts) {
    server_with(Limits::default()).await
}

pub(crate) async fn server_with(limits: Limits) -> (ServerHandle, Counts) {
    let counts = Counts::default();
    let config = ServerConfig { limits, ..Default::default() };
    let server = Server::new(router(&counts)).unwrap().config(config);
    (server.start(vec![tcp().await]), counts)
}

pub(crate) fn channel(server: &ServerHandle) -> Channel {
    Channel::new(server.addresses()[0].clone(), patient())
}

/// A configuration for machines that do many other things.
pub(crate) fn patient() -> ChannelConfig {
    let patience = Duration::from_secs(20);
    ChannelConfig { connect_timeout: patience, keepalive_timeout: patience, ..Default::default() }
}

pub(crate) fn on(network: &MemoryNetwork, name: &str) -> Channel {
    let config = ChannelConfig { memory: Some(network.clone()), ..Default::default() };
    Channel::new(format!("memory:{name}").parse().unwrap(), config)
}

pub(crate) fn request(method: &'static str, body: impl Into<Bytes>) -> Request {
    Request::new("test", method, Codec::Json, body.into())
}

/// Asserts that the channel still answers, which is what one bad call must not change.
pub(crate) async fn assert_works(channel: &Channel) {
    let answer = channel.call(&request("echo", "still here")).await.unwrap();
    assert_eq!(answer.body, "still here");
}

pub(crate) async fn call(channel: &Channel, method: &'static str) -> Result<Response, Error> {
    channel.call(&request(method, "body")).await
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let patience = Duration::from_secs(20);
    assert!(tokio::time::timeout(patience, waiting).await.is_ok(), "never came true: {what}");
}

pub(crate) const PREFACE: [u8; 16] = *b"\xB5rpc\x01\x00\x00\x06\x00\x40\x00\x00\x00\x00\x04\x00";

/// A peer that writes and reads bytes as PROTOCOL.md has them, without this crate's code.
pub(crate) struct Raw<S = TcpStream>(pub(crate) S);

impl Raw {
    /// Connects and exchanges prefaces.
    pub(crate) async fn connect(server: &ServerHandle) -> Self {
        let mut raw = Self::silent(server).await;
        raw.send(&PREFACE).await;
        raw.preface().await;
        raw
    }

    /// Connects and says nothing.
    pub(crate) async fn silent(server: &ServerHandle) -> Self {
        Self(TcpStream::connect(server.addresses()[0].to_string()).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Reads the server's preface.
    pub(crate) async fn preface(&mut self) {
        let mut theirs = [0; 16];
        self.0.read_exact(&mut theirs).await.unwrap();
        assert_eq!(theirs[..5], PREFACE[..5]);
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads a frame: type, call id, payload.
    pub(crate) async fn frame(&mut self) -> (u8, u64, Vec<u8>) {
        let length = self.0.read_u32().await.unwrap();
        let (kind, _flags) = (self.0.read_u8().await.unwrap(), self.0.read_u8().await.unwrap());
        let id = self.0.read_u64().await.unwrap();
        let mut payload = vec![0; length as usize - 10];
        self.0.read_exact(&mut payload).await.unwrap();
        (kind, id, payload)
    }

    /// Reads until the peer closes; a reset is a close too.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let closed = self.0.read_to_end(&mut bytes);
        let patience = Duration::from_secs(20);
        let _ = tokio::time::timeout(patience, closed).await.expect("the peer closes");
        bytes
    }
}

pub(crate) fn frame(kind: u8, flags: u8, id: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (10 + payload.len() as u32).to_be_bytes().to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A request payload for a method of `test`, in JSON.
pub(crate) fn payload(method: &str, timeout_us: u64, body: &[u8]) -> Vec<u8> {
    let mut bytes = timeout_us.to_be_bytes().to_vec();
    bytes.extend([2, 0, 0, 1]);
    bytes.extend(b"\x04test");
    bytes.push(method.len() as u8);
    bytes.extend(method.bytes());
    bytes.extend([0, 0]);
    bytes.extend(body);
    bytes
}

pub(crate) const REQUEST: u8 = 1;
pub(crate) const RESPONSE: u8 = 2;
pub(crate) const CANCEL: u8 = 3;
pub(crate) const PING: u8 = 4;
pub(crate) const PONG: u8 = 5;
pub(crate) const GO_AWAY: u8 = 6;
