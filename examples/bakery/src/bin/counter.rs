//! Takes orders: has them baked, and paid for.

use bakery::{Counter, CounterServer, KitchenClient, Sale, TillClient};

struct Clerk {
    kitchen: KitchenClient,
    till: TillClient,
}

impl Counter for Clerk {
    async fn order(&self, kind: String) -> Result<Sale, micro::Error> {
        let piece = self.kitchen.bake(kind).idempotent(true).await?;
        let takings = self.till.ring_up(250).await?;
        Ok(Sale { piece, takings })
    }
}

#[tokio::main]
async fn main() -> micro::Result<()> {
    bakery::log();
    let client = micro::Client::connect().await?;
    let clerk = Clerk { kitchen: KitchenClient::new(&client), till: TillClient::new(&client) };
    micro::Service::new().serve(CounterServer::new(clerk)).run().await
}
