//! A service with one method of each kind, and the program in the registry of its scene.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use micro::registry::Registry;
use micro::{Client, Context, Registered, RunningService, Service, Settings};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testbed::Scene;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The shop of the tests.
#[micro::service]
pub trait Shop {
    /// What so many of a thing cost.
    ///
    /// One if nobody says how many.
    #[rpc(idempotent)]
    async fn price(&self, thing: String, count: Option<u32>) -> Result<Price, ShopError>;
    /// Gives back what it is given.
    async fn echo(&self, cx: &Context, text: String, tags: Vec<String>, at: Place) -> Echo;
    /// Waits for so long.
    async fn wait(&self, millis: u64);
    /// Fails without a type.
    async fn break_down(&self) -> Result<(), micro::Error>;
    /// Fails where nobody expects it.
    async fn panic(&self);
    /// Hangs when it is called for the first time; how often it was called.
    #[rpc(idempotent)]
    async fn stall(&self) -> usize;
    /// The same, and nobody knows whether twice is once too often.
    async fn stall_once(&self) -> usize;
    /// So many letters.
    async fn letters(&self, count: usize) -> String;
}

/// What a thing costs.
#[derive(Debug, Serialize, Deserialize)]
pub struct Price {
    cents: u64,
    currency: Option<String>,
}

/// Where something is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a house.
    Here,
    /// Somewhere else.
    There {
        /// How far away.
        metres: f64,
    },
}

/// What came.
#[derive(Debug, Serialize, Deserialize)]
pub struct Echo {
    text: String,
    tags: Vec<String>,
    at: Place,
    metadata: BTreeMap<String, String>,
}

/// Why there is no price.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum ShopError {
    /// It is not sold here.
    #[error("{thing} is not sold here")]
    #[rpc(code = not_found)]
    NotSold {
        /// What was asked for.
        thing: String,
    },
    /// Nobody needs none.
    #[error("none of it costs nothing")]
    #[rpc(code = invalid_argument)]
    None,
}

/// The corner shop.
#[derive(Clone, Default)]
pub(crate) struct Corner {
    id: String,
    /// Which of its branches were to stall.
    pub(crate) stalls: Arc<Mutex<Vec<String>>>,
}

impl Shop for Corner {
    async fn price(&self, thing: String, count: Option<u32>) -> Result<Price, ShopError> {
        match (thing.as_str(), count.unwrap_or(1)) {
            (_, 0) => Err(ShopError::None),
            ("tea", count) => Ok(Price { cents: 300 * u64::from(count), currency: None }),
            _ => Err(ShopError::NotSold { thing }),
        }
    }

    async fn echo(&self, cx: &Context, text: String, tags: Vec<String>, at: Place) -> Echo {
        cx.reply_metadata("by", "corner").unwrap();
        let metadata = cx.metadata().iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Echo { text, tags, at, metadata }
    }

    async fn wait(&self, millis: u64) {
        tokio::time::sleep(Duration::from_millis(millis)).await;
    }

    async fn break_down(&self) -> Result<(), micro::Error> {
        Err(micro::Error::new(micro::Code::FailedPrecondition, "the till is open"))
    }

    async fn panic(&self) {
        panic!("on purpose");
    }

    async fn stall(&self) -> usize {
        let stalls = {
            let mut stalls = self.stalls.lock().unwrap();
            stalls.push(self.id.clone());
            stalls.len()
        };
        if stalls == 1 {
            std::future::pending::<()>().await;
        }
        stalls
    }

    async fn stall_once(&self) -> usize {
        self.stall().await
    }

    async fn letters(&self, count: usize) -> String {
        "x".repeat(count)
    }
}

/// A registry, and the program in it.
pub(crate) struct Town {
    pub(crate) scene: Scene,
    pub(crate) corner: Corner,
}

impl Town {
    pub(crate) fn new() -> Self {
        Self::over(Scene::new())
    }

    pub(crate) fn over(scene: Scene) -> Self {
        Self { scene, corner: Corner::default() }
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings::none().flag("registry", self.scene.url()).unwrap()
    }

    /// A shop under this id, in no hurry to be anywhere but in the registry.
    pub(crate) fn service(&self, id: &str) -> Service {
        let corner = Corner { id: id.to_owned(), ..self.corner.clone() };
        let service = Service::new().settings(self.settings()).id(id);
        service.drain_delay(Duration::ZERO).serve(ShopServer::new(corner))
    }

    /// The same, started and registered.
    pub(crate) async fn open(&self, id: &str) -> RunningService {
        registered(self.service(id)).await
    }

    /// A gateway in front of this service, or of all.
    pub(crate) async fn gateway(&self, services: Option<&str>) -> micro_gateway::Gateway {
        let mut config = micro_gateway::Config::default();
        config.listen.set_port(0);
        config.services = services.map(|name| [name.to_owned()].into());
        let client = Client::connect().settings(self.settings()).await.unwrap();
        micro_gateway::serve(config, client).await.unwrap()
    }

    pub(crate) async fn registry(&self) -> Arc<dyn Registry> {
        let client = Client::connect().settings(self.settings()).await.unwrap();
        client.registry().clone()
    }

    /// Runs the program to its end.
    pub(crate) async fn micro(&self, arguments: &[&str]) -> Ended {
        self.micro_with(arguments, "").await
    }

    /// The same with this on standard input.
    pub(crate) async fn micro_with(&self, arguments: &[&str], input: &str) -> Ended {
        let mut command = self.command(arguments);
        let input = input.to_owned();
        let run = move || {
            let mut child = command.spawn().unwrap();
            let mut stdin = child.stdin.take().unwrap();
            // It may end without having read it.
            let _ = stdin.write_all(input.as_bytes());
            drop(stdin);
            child.wait_with_output().unwrap()
        };
        let output = tokio::task::spawn_blocking(run).await.unwrap();
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(MICRO);
        command.args(arguments).env_clear().env("MICRO_REGISTRY", self.scene.url());
        // Where `micro new` finds what formats.
        for name in ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.current_dir(self.scene.directory());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

pub(crate) const MICRO: &str = env!("CARGO_BIN_EXE_micro");

/// Starts a service and waits until it is registered.
pub(crate) async fn registered(service: Service) -> RunningService {
    let running = service.start().await.unwrap();
    running.registered().wait_for(|state| *state == Registered::Yes).await.unwrap();
    running
}

/// What a run of the program left.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// What it printed, as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// That it went well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }
}

/// What a service answers to `curl`: the status, and the body as JSON.
pub(crate) async fn post(address: &str, path: &str, headers: &str, body: &str) -> (u16, Value) {
    let Answer { status, body, .. } = ask(address, "POST", path, headers, body).await;
    (status, body)
}

/// An answer over HTTP.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Of the headers those that are metadata, by their keys.
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) body: Value,
}

/// Asks as `curl` does.
pub(crate) async fn ask(
    address: &str,
    verb: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let request = format!(
        "{verb} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    // It may answer before it has read all of it.
    let _ = stream.write_all(body.as_bytes()).await;
    let mut answer = Vec::new();
    // It may reset what it did not read.
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let entry = |line: &str| {
        let (key, value) = line.strip_prefix("micro-meta-")?.split_once(": ")?;
        Some((key.to_owned(), value.to_owned()))
    };
    let metadata = head.lines().filter_map(entry).collect();
    let body = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body:?}"));
    Answer { status, metadata, body }
}
