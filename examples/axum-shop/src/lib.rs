//! A shop on the web, in an axum application with pages of its own: its contract is served to
//! browsers among the pages, and to other services on a port of its own.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::map_request;
use axum::response::Html;
use axum::routing::get;
use micro::rpc::{HttpService, Peer};
use micro::{Code, Context, Error};
use serde::{Deserialize, Serialize};

/// Somebody else's service, which the shop calls.
#[micro::service]
pub trait Prices {
    /// What one of a thing costs, in cents.
    #[rpc(idempotent, timeout = "2s")]
    async fn price(&self, thing: String) -> Result<u32, Error>;
}

/// What the shop serves: to its own pages, to `curl`, and to other services.
#[micro::service]
pub trait Catalogue {
    /// Offers a thing, for now.
    #[rpc(idempotent)]
    async fn offer(&self, cx: &Context, thing: String) -> Result<Offer, Error>;
}

/// What can be bought.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    /// The thing.
    pub thing: String,
    /// What one of it costs.
    pub cents: u32,
}

/// The shop, for its pages and for its contract.
#[derive(Clone, Debug)]
pub struct Shop {
    prices: PricesClient,
}

impl Shop {
    /// A shop that asks there for prices.
    #[must_use]
    pub fn new(prices: PricesClient) -> Self {
        Self { prices }
    }

    async fn cents(&self, thing: &str) -> Result<u32, Error> {
        Ok(self.prices.price(thing).await?)
    }
}

impl Catalogue for Shop {
    async fn offer(&self, cx: &Context, thing: String) -> Result<Offer, Error> {
        tracing::info!(thing, peer = ?cx.peer(), "asked for an offer");
        Ok(Offer { cents: self.cents(&thing).await?, thing })
    }
}

/// The application: a page, and what the service answers over HTTP.
pub fn application(shop: Shop, service: HttpService) -> Router {
    let api = Router::new().nest_service("/api", service).layer(map_request(with_peer));
    Router::new().route("/", get(page)).with_state(shop).merge(api)
}

/// Lets the contract know who calls: the connection is the application's.
async fn with_peer(ConnectInfo(address): ConnectInfo<SocketAddr>, mut request: Request) -> Request {
    request.extensions_mut().insert(Peer::Tcp(address));
    request
}

async fn page(State(shop): State<Shop>) -> Html<String> {
    let tea = match shop.cents("tea").await {
        Ok(cents) => format!("{cents} cents"),
        Err(error) => {
            tracing::warn!(%error, "a page without a price");
            "ask again later".to_owned()
        }
    };
    Html(PAGE.replace("{tea}", &tea))
}

const PAGE: &str = r#"<!DOCTYPE html>
<title>Tea</title>
<p>A cup of tea: {tea}.
<p><button onclick="ask()">And now?</button> <output></output>
<script>
async function ask() {
    const answer = await fetch("/api/catalogue/offer", { method: "POST", body: '{"thing":"tea"}' });
    document.querySelector("output").textContent = await answer.text();
}
</script>
"#;

/// Prices that never change.
#[derive(Clone, Copy, Debug)]
pub struct FixedPrices;

impl Prices for FixedPrices {
    async fn price(&self, thing: String) -> Result<u32, Error> {
        match thing.as_str() {
            "tea" => Ok(350),
            _ => Err(Error::new(Code::NotFound, format!("{thing} is not sold"))),
        }
    }
}

/// The code in the guide compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/src/how-to/web.md")]
struct Guide;
