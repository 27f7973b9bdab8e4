//! The facade: what users write, over a registry and a network inside the process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod architecture;
mod balancing;
mod calls;
mod contracts;
mod drain;
mod dynamic;
mod fragile;
mod groups;
mod health;
mod hooks;
mod hops;
mod hygiene;
mod layers;
mod lifecycle;
mod listeners;
mod macro_errors;
#[cfg(feature = "mdns")]
mod mdns;
mod methods;
mod mocks;
mod net;
#[cfg(feature = "http")]
mod observe;
#[cfg(feature = "otel")]
mod otel;
mod rpc_errors;
mod settings;
#[cfg(feature = "http")]
mod spans;
pub mod strict;
#[cfg(feature = "tarpc")]
mod tarpc;
#[cfg(all(feature = "http", feature = "telemetry"))]
mod telemetry;
mod tiers;
mod warnings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use micro::registry::MemoryRegistry;
use micro::rpc::MemoryNetwork;
use micro::{Client, ClientBuilder, Context, RpcError, RunningService, Service, Settings};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A contract with one method of each kind.
#[micro::service]
pub trait Shop {
    /// What a thing costs.
    #[rpc(idempotent)]
    async fn price(&self, thing: String) -> Result<u32, ShopError>;
    /// Waits for so long.
    async fn wait(&self, millis: u64) -> u64;
    /// Tells what the context says.
    async fn context(&self, cx: &Context, key: String) -> Seen;
    /// Asks another shop of the given name for what its context says.
    async fn ask(&self, service: String) -> Option<Seen>;
    /// Takes a list and an option, gives nothing.
    async fn stock(&self, things: Vec<String>, note: Option<String>);
    /// Fails where nobody expects it.
    async fn panic(&self);
}

/// Why a thing has no price.
#[derive(Debug, PartialEq, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum ShopError {
    /// It is not sold here.
    #[error("{thing} is not sold here")]
    #[rpc(code = not_found)]
    NotSold {
        /// What was asked for.
        thing: String,
    },
    /// The shop is closed.
    #[error("closed")]
    Closed,
}

/// What a handler saw of its context.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    node: String,
    has_deadline: bool,
    remaining_ms: u64,
    trace: String,
    value: Option<String>,
}

/// A shop that counts what it is asked.
#[derive(Clone, Default)]
struct Corner {
    node: String,
    calls: Arc<AtomicU32>,
    cancelled: Arc<AtomicU32>,
    client: Option<Client>,
}

/// Counts a handler that was dropped before its end.
struct Finishing<'a>(&'a AtomicU32, bool);

impl Drop for Finishing<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Shop for Corner {
    async fn price(&self, thing: String) -> Result<u32, ShopError> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match thing.as_str() {
            "tea" => Ok(3),
            "door" => Err(ShopError::Closed),
            _ => Err(ShopError::NotSold { thing }),
        }
    }

    async fn wait(&self, millis: u64) -> u64 {
        let mut finishing = Finishing(&self.cancelled, false);
        tokio::time::sleep(Duration::from_millis(millis)).await;
        finishing.1 = true;
        millis
    }

    async fn context(&self, cx: &Context, key: String) -> Seen {
        let remaining = cx.deadline().map(|at| at - tokio::time::Instant::now());
        Seen {
            node: self.node.clone(),
            has_deadline: remaining.is_some(),
            remaining_ms: remaining.unwrap_or_default().as_millis() as u64,
            trace: cx.trace().map(|trace| trace.trace_id().to_string()).unwrap_or_default(),
            value: cx.metadata().get(&key).map(str::to_owned),
        }
    }

    async fn ask(&self, service: String) -> Option<Seen> {
        ShopClient::named(self.client.as_ref()?, service).context("key").await.ok()
    }

    async fn stock(&self, _things: Vec<String>, _note: Option<String>) {}

    async fn panic(&self) {
        panic!("on purpose");
    }
}

/// A registry and a network inside the process, on which services are started.
#[derive(Clone, Default)]
struct Town {
    registry: MemoryRegistry,
    network: MemoryNetwork,
}

impl Town {
    fn service(&self, id: &str) -> Service {
        Service::new()
            .name("shop")
            .id(id)
            .address(format!("memory:{id}"))
            .settings(Settings::none())
            .registry(self.registry.clone())
            .memory_network(self.network.clone())
    }

    async fn open(&self, id: &str) -> (RunningService, Corner) {
        let shop = Corner { node: id.to_owned(), ..Corner::default() };
        let service = self.service(id).serve(ShopServer::new(shop.clone()));
        (registered(service).await, shop)
    }

    /// Asks a node over HTTP; returns the status and the body.
    async fn http(&self, id: &str, path: &str) -> (u16, String) {
        self.http_as(id, "shop", path).await
    }

    /// The same by another name of the host.
    async fn http_as(&self, id: &str, host: &str, path: &str) -> (u16, String) {
        self.send(id, &format!("GET {path}"), &[&format!("Host: {host}")], "").await
    }

    /// Sends a node a request over HTTP, with these headers and this body.
    async fn send(&self, id: &str, first: &str, headers: &[&str], body: &str) -> (u16, String) {
        let mut stream = self.network.connect(id).expect("it listens");
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let request = format!(
            "{first} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("it speaks HTTP");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("it has a status"), body.to_owned())
    }

    async fn client(&self) -> Client {
        Client::connect()
            .settings(Settings::none())
            .registry(self.registry.clone())
            .memory_network(self.network.clone())
            .await
            .expect("nothing about it is wrong")
    }
}

/// Starts a service and waits until it is registered.
async fn registered(service: Service) -> RunningService {
    let running = service.start().await.expect("nothing about it is wrong");
    let is_registered = |state: &micro::Registered| *state == micro::Registered::Yes;
    running.registered().wait_for(is_registered).await.expect("the registrar lives");
    running
}
