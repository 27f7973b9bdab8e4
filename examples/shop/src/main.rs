//! Three services that call each other, and a customer.
//!
//! Shows what travels along a chain of calls by itself (deadline, trace, the baggage `tenant`) and
//! how errors come back through it: typed, and as `micro::Error` by `?`.
//!
//! Run it, each in a terminal of its own and in any order:
//!
//! ```console
//! cargo run -p shop -- stock
//! cargo run -p shop -- orders
//! cargo run -p shop -- storefront
//! cargo run -p shop -- buy tea 2 --tenant acme
//! cargo run -p shop -- available tea
//! ```

mod services;

use std::time::Duration;

use clap::{Parser, Subcommand};
use micro::{Client, Service, Settings};
use shop::{
    OrdersClient, OrdersServer, StockClient, StockServer, StorefrontClient, StorefrontServer,
};

use crate::services::{Clerk, Counter, Shelf};

/// A shop of three services, or a customer of it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serves the stock
    Stock {
        /// How long counting takes, in milliseconds
        #[arg(long, default_value_t = 0)]
        delay_ms: u64,
    },
    /// Serves orders; calls the stock
    Orders,
    /// Serves customers; calls orders
    Storefront,
    /// Buys something
    Buy {
        thing: String,
        count: u32,
        #[arg(long, default_value = "acme")]
        tenant: String,
    },
    /// Asks how many can be bought
    Available { thing: String },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let settings = Settings::from_process()?;
    let telemetry = micro::telemetry::init(&settings)?;
    let client = Client::connect()
        .settings(settings.clone())
        // Whoever is called may start later: everybody can be started in any order.
        .wait_for_ready(true)
        // Long, since calls made for a customer end with the customer's own deadline.
        .timeout(Duration::from_secs(60))
        .await?;
    let service = Service::new().settings(settings).metrics_of(&client);
    match arguments.role {
        Role::Stock { delay_ms } => {
            let shelf = Shelf::new(Duration::from_millis(delay_ms));
            service.serve(StockServer::new(shelf)).run().await?;
        }
        Role::Orders => {
            let clerk = Clerk(StockClient::new(&client));
            service.serve(OrdersServer::new(clerk)).run().await?;
        }
        Role::Storefront => {
            let counter = Counter(OrdersClient::new(&client));
            service.serve(StorefrontServer::new(counter)).run().await?;
        }
        Role::Buy { thing, count, tenant } => {
            let storefront = StorefrontClient::new(&client);
            let receipt = storefront.buy(thing, count).metadata("baggage.tenant", &tenant).await?;
            println!("{} of {} for {}", receipt.count, receipt.thing, receipt.tenant);
        }
        Role::Available { thing } => {
            println!("{}", StorefrontClient::new(&client).available(thing).await?);
        }
    }
    telemetry.shutdown().await;
    Ok(())
}
