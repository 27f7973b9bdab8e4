//! Orders a piece every half second.

use std::time::Duration;

use bakery::CounterClient;

#[tokio::main]
async fn main() -> micro::Result<()> {
    bakery::log();
    let kind = std::env::args().nth(1).unwrap_or_else(|| "bread".to_owned());
    let client = micro::Client::connect().wait_for_ready(true).await?;
    let counter = CounterClient::new(&client);
    loop {
        match counter.order(kind.as_str()).await {
            Ok(sale) => println!("{}, takings {}", sale.piece, sale.takings),
            Err(error) => println!("no {kind}: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
