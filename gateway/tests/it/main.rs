//! A gateway in front of services, as callers see it: over sockets of this host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod browser;
mod calls;
mod failover;
mod http;
mod lifecycle;
mod look;
mod page;
mod trace;

use std::collections::BTreeMap;
use std::time::Duration;

use micro::layer;
use micro::registry::MemoryRegistry;
use micro::rpc::{Limits, Request, Status};
use micro::{Client, Code, Context, Error, RunningService, Service, Settings};
use micro_gateway::{Config, Gateway, serve};
use serde::{Deserialize, Serialize};

use self::http::{Answer, Asked};

/// A contract with one method of each kind.
#[micro::service]
pub trait Shop {
    /// What a thing costs.
    #[rpc(idempotent)]
    async fn price(&self, thing: String) -> Result<u32, ShopError>;
    /// Finds things.
    #[rpc(idempotent)]
    async fn find(&self, words: Vec<String>, limit: Option<u32>) -> Vec<String>;
    /// Orders so many of a thing.
    async fn order(&self, thing: String, count: u32) -> Result<Order, ShopError>;
    /// Waits for so long.
    async fn wait(&self, millis: u64) -> u64;
    /// Tells what came along.
    async fn seen(&self, cx: &Context, keys: Vec<String>) -> Seen;
    /// Says no, and something beside that.
    async fn refuse(&self, cx: &Context) -> Result<(), Error>;
    /// Has no such thing.
    async fn missing(&self) -> Result<(), Error>;
    /// Fails where nobody expects it.
    async fn panic(&self);
}

/// Why a thing has no price.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum ShopError {
    /// It is not sold here.
    #[error("{thing} is not sold here")]
    #[rpc(code = not_found)]
    NotSold {
        /// What was asked for.
        thing: String,
    },
    /// There are not so many.
    #[error("only {left} left")]
    #[rpc(code = failed_precondition)]
    SoldOut {
        /// How many there are.
        left: u32,
    },
}

/// What was ordered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    thing: String,
    count: u32,
}

/// What came along with a call.
#[derive(Debug, Serialize, Deserialize)]
pub struct Seen {
    node: String,
    trace: String,
    entries: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Corner(String);

impl Shop for Corner {
    async fn price(&self, thing: String) -> Result<u32, ShopError> {
        if thing == "tea" { Ok(3) } else { Err(ShopError::NotSold { thing }) }
    }

    async fn find(&self, words: Vec<String>, limit: Option<u32>) -> Vec<String> {
        words.into_iter().take(limit.unwrap_or(9) as usize).collect()
    }

    async fn order(&self, thing: String, count: u32) -> Result<Order, ShopError> {
        if count > 9 { Err(ShopError::SoldOut { left: 9 }) } else { Ok(Order { thing, count }) }
    }

    async fn wait(&self, millis: u64) -> u64 {
        tokio::time::sleep(Duration::from_millis(millis)).await;
        millis
    }

    async fn seen(&self, cx: &Context, keys: Vec<String>) -> Seen {
        cx.reply_metadata("shop", "corner").unwrap();
        let value = |key: String| Some((key.clone(), cx.metadata().get(&key)?.to_owned()));
        let entries = keys.into_iter().filter_map(value).collect();
        let trace = cx.trace().map(|trace| trace.trace_id().to_string());
        Seen { node: self.0.clone(), trace: trace.unwrap_or_default(), entries }
    }

    async fn refuse(&self, cx: &Context) -> Result<(), Error> {
        cx.reply_metadata("hint", "later").unwrap();
        Err(Error::new(Code::Aborted, "not now"))
    }

    async fn missing(&self) -> Result<(), Error> {
        Err(Error::new(Code::Unimplemented, "not yet"))
    }

    async fn panic(&self) {
        panic!("on purpose");
    }
}

/// A registry inside the process, services that register there, and a gateway in front of them.
#[derive(Clone, Default)]
struct Town {
    registry: MemoryRegistry,
}

/// The longest body that a shop takes, and the gateway in front of it.
const MAX_BODY: usize = 64 * 1024;

impl Town {
    fn service(&self, id: &str) -> Service {
        Service::new()
            .name("shop")
            .id(id)
            .address("127.0.0.1:0")
            .settings(Settings::none())
            .registry(self.registry.clone())
    }

    async fn open(&self, id: &str) -> RunningService {
        let limits = Limits { max_frame: MAX_BODY, ..Limits::default() };
        let service = self.service(id).limits(limits).layer(layer::from_fn(overloaded));
        registered(service.serve(ShopServer::new(Corner(id.to_owned())))).await
    }

    async fn client(&self) -> Client {
        let client = Client::connect().settings(Settings::none()).registry(self.registry.clone());
        client.await.unwrap()
    }

    async fn gateway(&self) -> Gateway {
        self.gateway_with(|_| ()).await
    }

    /// A gateway that knows what the registry has.
    async fn gateway_with(&self, change: impl FnOnce(&mut Config)) -> Gateway {
        let gateway = serve(config(change), self.client().await).await.unwrap();
        ready(&gateway).await;
        gateway
    }
}

/// A configuration for a free port.
fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.listen.set_port(0);
    config.max_body = MAX_BODY;
    change(&mut config);
    config
}

async fn ready(gateway: &Gateway) {
    let ready = async || (get(gateway, "/health/ready").await.status == 200).then_some(());
    testbed::eventually("the gateway is ready", ready).await;
}

async fn get(gateway: &Gateway, target: &str) -> Answer {
    Asked::get(target).of(gateway.address()).await
}

async fn post(gateway: &Gateway, target: &str, body: &str) -> Answer {
    Asked::post(target, body).of(gateway.address()).await
}

/// Starts a service and waits until it is registered.
async fn registered(service: Service) -> RunningService {
    let running = service.start().await.unwrap();
    let is_registered = |state: &micro::Registered| *state == micro::Registered::Yes;
    running.registered().wait_for(is_registered).await.unwrap();
    running
}

/// Has too much to do for those who say so.
async fn overloaded(
    request: Request,
    next: layer::Next,
) -> Result<micro::rpc::Response, micro::BoxError> {
    if request.metadata.get("overloaded").is_none() {
        return next.run(request).await;
    }
    let status = Status::new(Code::ResourceExhausted, "too much to do");
    Err(status.refused().with_retry_after(Duration::from_millis(5_200)).into())
}
