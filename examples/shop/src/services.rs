//! What each service does, and calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use micro::{Code, Context};
use shop::{
    BuyError, OrderError, Orders, OrdersClient, Receipt, Stock, StockClient, StockError,
    Storefront, Taken,
};
use tokio::time::Instant;

/// The stock: things and how many there are.
pub(crate) struct Shelf {
    things: Mutex<BTreeMap<String, u32>>,
    delay: Duration,
}

impl Shelf {
    /// A shelf with ten of tea, where counting takes so long.
    pub(crate) fn new(delay: Duration) -> Self {
        Self { things: Mutex::new(BTreeMap::from([("tea".to_owned(), 10)])), delay }
    }
}

impl Stock for Shelf {
    async fn take(&self, cx: &Context, thing: String, count: u32) -> Result<Taken, StockError> {
        let tenant = cx.metadata().get("baggage.tenant").unwrap_or("nobody").to_owned();
        let remaining = cx.deadline().map(|at| at.saturating_duration_since(Instant::now()));
        // The log line belongs to the span `serve`, which names the trace.
        tracing::info!(
            thing,
            count,
            tenant,
            remaining_ms = remaining.map(|left| left.as_millis()),
            "taking"
        );
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        let left = things.entry(thing).or_default();
        *left = left.checked_sub(count).ok_or(StockError::TooFew { left: *left })?;
        Ok(Taken { tenant })
    }

    async fn count(&self, thing: String) -> Result<u32, micro::Error> {
        tracing::info!(thing, "counting");
        tokio::time::sleep(self.delay).await;
        let things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        let unknown = || micro::Error::new(Code::NotFound, format!("no shelf for {thing}"));
        things.get(&thing).copied().ok_or_else(unknown)
    }
}

/// Orders, which are taken out of the stock.
pub(crate) struct Clerk(pub(crate) StockClient);

impl Orders for Clerk {
    async fn place(&self, thing: String, count: u32) -> Result<Receipt, OrderError> {
        let Taken { tenant } = self.0.take(thing.clone(), count).await?;
        Ok(Receipt { tenant, thing, count })
    }

    async fn free(&self, thing: String) -> Result<u32, micro::Error> {
        Ok(self.0.count(thing).await?)
    }
}

/// The storefront, which places orders.
pub(crate) struct Counter(pub(crate) OrdersClient);

impl Storefront for Counter {
    async fn buy(&self, thing: String, count: u32) -> Result<Receipt, BuyError> {
        Ok(self.0.place(thing, count).await?)
    }

    async fn available(&self, thing: String) -> Result<u32, micro::Error> {
        Ok(self.0.free(thing).await?)
    }
}
