//! Three services of three nodes each and a gateway in front of them, in one process, to look at:
//! `cargo run -p micro-gateway --example town -- 8080`.

use std::collections::BTreeMap;
use std::time::Duration;

use micro::registry::MemoryRegistry;
use micro::{Client, Code, Error, RunningService, Service, Settings};
use serde::{Deserialize, Serialize};

/// Greets people.
#[micro::service]
pub trait Greeter {
    /// Greets someone by name.
    #[rpc(idempotent)]
    async fn hello(&self, name: String) -> String;
    /// How often somebody was greeted.
    #[rpc(idempotent)]
    async fn count(&self) -> u64;
}

/// Takes orders.
#[micro::service]
pub trait Orders {
    /// Orders so many of a thing.
    ///
    /// There are nine of each; who wants more gets none.
    async fn order(&self, order: Order, note: Option<String>) -> Result<Receipt, OrderError>;
    /// Finds orders by words in them.
    #[rpc(idempotent)]
    async fn find(&self, words: Vec<String>, limit: Option<u8>, open_only: bool) -> Vec<Receipt>;
    /// Takes an order back.
    async fn cancel(&self, number: u64) -> Result<(), Error>;
}

/// Knows what is on the shelf.
#[micro::service]
pub trait Stock {
    /// How many there are of each thing.
    #[rpc(idempotent)]
    async fn all(&self) -> BTreeMap<String, u32>;
    /// Puts things there; takes a while.
    async fn add(&self, things: BTreeMap<String, u32>) -> u32;
}

/// What somebody wants.
#[derive(Debug, Serialize, Deserialize)]
pub struct Order {
    thing: String,
    count: u32,
    speed: Speed,
}

/// How soon.
#[derive(Debug, Serialize, Deserialize)]
pub enum Speed {
    /// Some day.
    Slow,
    /// Today.
    Fast,
}

/// What was ordered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Receipt {
    number: u64,
    thing: String,
}

/// Why nothing was.
#[derive(Debug, thiserror::Error, micro::RpcError, Serialize, Deserialize)]
pub enum OrderError {
    /// There are not so many.
    #[error("only {left} left")]
    #[rpc(code = failed_precondition)]
    SoldOut {
        /// How many there are.
        left: u32,
    },
}

struct Town;

impl Greeter for Town {
    async fn hello(&self, name: String) -> String {
        format!("Hello, {name}!")
    }

    async fn count(&self) -> u64 {
        1
    }
}

impl Orders for Town {
    async fn order(&self, order: Order, _note: Option<String>) -> Result<Receipt, OrderError> {
        if order.count > 9 {
            return Err(OrderError::SoldOut { left: 9 });
        }
        Ok(Receipt { number: 1, thing: order.thing })
    }

    async fn find(&self, words: Vec<String>, limit: Option<u8>, _: bool) -> Vec<Receipt> {
        let words = words.into_iter().take(limit.unwrap_or(9).into());
        words.map(|thing| Receipt { number: 1, thing }).collect()
    }

    async fn cancel(&self, number: u64) -> Result<(), Error> {
        Err(Error::new(Code::NotFound, format!("no order {number}")))
    }
}

impl Stock for Town {
    async fn all(&self) -> BTreeMap<String, u32> {
        BTreeMap::from([("tea".to_owned(), 9), ("cups".to_owned(), 4)])
    }

    async fn add(&self, things: BTreeMap<String, u32>) -> u32 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        things.values().fold(0, |sum, more| sum.wrapping_add(*more))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).unwrap_or("8080".to_owned()).parse()?;
    let registry = MemoryRegistry::new();
    let mut running = Vec::new();
    for node in 1..=3 {
        running.push(start(&registry, "greeter", node, GreeterServer::new(Town)).await?);
        running.push(start(&registry, "orders", node, OrdersServer::new(Town)).await?);
        running.push(start(&registry, "stock", node, StockServer::new(Town)).await?);
    }
    let client = Client::connect().settings(Settings::none()).registry(registry.clone()).await?;
    let mut config = micro_gateway::Config::default();
    config.listen.set_port(port);
    let gateway = micro_gateway::serve(config, client).await?;
    println!("http://{}", gateway.address());
    micro::Signals::listen()?.next().await;
    gateway.shutdown().await;
    Ok(())
}

async fn start(
    registry: &MemoryRegistry,
    name: &str,
    node: usize,
    contract: impl Into<micro::Contract>,
) -> Result<RunningService, Error> {
    Service::new()
        .settings(Settings::none())
        .registry(registry.clone())
        .name(name)
        .id(format!("{name}-{node}"))
        .version(if node == 3 { "1.5.0" } else { "1.4.2" })
        .zone(["berlin", "paris"][node % 2])
        .address("127.0.0.1:0")
        .serve(contract)
        .start()
        .await
}
