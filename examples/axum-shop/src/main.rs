//! A web shop, and the service that knows its prices.
//!
//! Run it, each in a terminal of its own and in any order:
//!
//! ```console
//! cargo run -p axum-shop -- prices
//! cargo run -p axum-shop -- web
//! ```
//!
//! Then open the address it prints, or `curl -d '{"thing":"tea"}' 127.0.0.1:8080/api/catalogue/offer`.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use anyhow::bail;
use axum_shop::{CatalogueServer, FixedPrices, PricesClient, PricesServer, Shop, application};
use clap::Parser;
use micro::{Client, Service, Settings, Signals};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// A web shop, or its prices.
#[derive(Parser)]
#[command(version)]
enum Role {
    /// Serves prices
    Prices,
    /// Serves the shop
    Web {
        /// Where browsers find it
        #[arg(long, default_value = "127.0.0.1:8080")]
        listen: SocketAddr,
        /// A name browsers use for it, such as shop.example
        #[arg(long)]
        host: Option<String>,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let role = Role::parse();
    let settings = Settings::from_process()?;
    let telemetry = micro::telemetry::init(&settings)?;
    match role {
        Role::Prices => {
            let service = Service::new().settings(settings);
            service.serve(PricesServer::new(FixedPrices)).run().await?;
        }
        Role::Web { listen, host } => web(settings, listen, host).await?,
    }
    telemetry.shutdown().await;
    Ok(())
}

async fn web(settings: Settings, listen: SocketAddr, host: Option<String>) -> anyhow::Result<()> {
    // Before anything registers: an address that is taken then ends nothing but this.
    let listener = TcpListener::bind(listen).await?;
    let client = Client::connect().settings(settings.clone()).wait_for_ready(true).await?;
    let shop = Shop::new(PricesClient::new(&client));
    let service =
        Service::new().settings(settings).serve(CatalogueServer::new(shop.clone())).start().await?;
    let application = application(shop, service.http().hosts(host));
    println!("http://{}", listener.local_addr()?);
    let stopped = service.run();
    let (stop, told) = oneshot::channel::<()>();
    let application = application.into_make_service_with_connect_info::<SocketAddr>();
    let pages = axum::serve(listener, application).with_graceful_shutdown(async {
        let _ = told.await;
    });
    let mut pages = pin!(pages.into_future());
    // First the service stops, while its calls are still brought here; a forced end is an error.
    tokio::select! {
        served = &mut pages => return Ok(served?),
        stopped = stopped => stopped?,
    }
    // Then the pages do, which a browser that neither asks nor goes would keep from ending.
    drop(stop);
    let mut signals = Signals::listen()?;
    tokio::select! {
        served = &mut pages => Ok(served?),
        () = sleep(LAST_PAGES) => bail!("forced to end: pages were still open after {LAST_PAGES:?}"),
        _ = signals.next() => bail!("forced to end by a second signal"),
    }
}

/// How long pages that were asked for may take once the service has stopped.
const LAST_PAGES: Duration = Duration::from_secs(5);
