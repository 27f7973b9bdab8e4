//! Keeps the takings.

use std::sync::atomic::{AtomicU64, Ordering};

use bakery::{Till, TillServer};

#[derive(Default)]
struct Drawer {
    cents: AtomicU64,
}

impl Till for Drawer {
    async fn ring_up(&self, cents: u32) -> u64 {
        let cents = u64::from(cents);
        self.cents.fetch_add(cents, Ordering::Relaxed) + cents
    }
}

#[tokio::main]
async fn main() -> micro::Result<()> {
    bakery::log();
    micro::Service::new().serve(TillServer::new(Drawer::default())).run().await
}
