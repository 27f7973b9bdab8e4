//! How to test a service: with a mock of what it calls, and with nodes that die, hang and come late.
//!
//! Run it: `cargo test -p testing`. It takes no time, opens no port and writes no file: registry and
//! network are in memory, and time is tokio's, paused. Waiting for a minute is free.

use std::time::Duration;

use micro::test::{Net, Node};
use micro::{CallError, Code, Result, Service};
use testing::{
    Checkout, CheckoutClient, CheckoutError, CheckoutServer, MockPrices, PriceError, PricesClient,
    PricesServer, Till,
};

/// The generated mock answers as it is told and notes what it was asked; a fake of one's own is an
/// implementation like any other.
fn tea_shop() -> MockPrices {
    MockPrices::new().on_price(|thing| match thing.as_str() {
        "tea" => Ok(350),
        _ => Err(PriceError::NotSold { thing }),
    })
}

/// Starts the service under test; what it calls is up to each test.
async fn checkout(net: &Net) -> Result<(Node, CheckoutClient)> {
    let till = Till::new(PricesClient::new(&net.client()));
    let node = net.serve("checkout", CheckoutServer::new(till)).await?;
    Ok((node, CheckoutClient::new(&net.client())))
}

async fn prices(net: &Net, id: &str) -> Result<Node> {
    net.start(Service::new().id(id).serve(PricesServer::new(tea_shop()))).await
}

fn basket(things: &[&str]) -> Vec<String> {
    things.iter().map(|&thing| thing.to_owned()).collect()
}

/// Logic alone needs no service: the implementation is a struct, its method an async function.
#[tokio::test(start_paused = true)]
async fn an_empty_basket_costs_nothing() {
    let nobody = PricesClient::new(&Net::new().client());
    assert_eq!(Till::new(nobody).total(Vec::new()).await, Ok(0));
}

/// Each thing is asked for once.
#[tokio::test(start_paused = true)]
async fn adds_up() -> Result<()> {
    let (net, tea_shop) = (Net::new(), tea_shop());
    let _prices = net.serve("prices", PricesServer::new(tea_shop.clone())).await?;
    let (_node, checkout) = checkout(&net).await?;
    assert_eq!(checkout.total(basket(&["tea", "tea"])).await?, 700);
    assert_eq!(tea_shop.calls_of_price(), ["tea", "tea"]);
    Ok(())
}

/// An error comes typed, and as what callers of this service understand.
#[tokio::test(start_paused = true)]
async fn says_what_cannot_be_bought() -> Result<()> {
    let net = Net::new();
    let _prices = prices(&net, "a").await?;
    let (_node, checkout) = checkout(&net).await?;
    let answer = checkout.total(basket(&["tea", "a unicorn"])).await;
    let Err(CallError::App(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(error, CheckoutError::Impossible("a unicorn is not sold".to_owned()));
    Ok(())
}

/// Customers do not notice that a node is killed, or that the registry is away.
#[tokio::test(start_paused = true)]
async fn survives_a_node_and_the_registry() -> Result<()> {
    let net = Net::new();
    let (a, _b) = (prices(&net, "a").await?, prices(&net, "b").await?);
    let (_node, checkout) = checkout(&net).await?;
    checkout.total(basket(&["tea"])).await?;
    net.registry_down();
    a.kill();
    for _ in 0..20 {
        assert_eq!(checkout.total(basket(&["tea"])).await?, 350);
    }
    Ok(())
}

/// A node that hangs costs the wait until its silence is noticed, not the sale.
#[tokio::test(start_paused = true)]
async fn survives_a_node_that_hangs() -> Result<()> {
    let net = Net::new();
    let (a, _b) = (prices(&net, "a").await?, prices(&net, "b").await?);
    let (_node, checkout) = checkout(&net).await?;
    checkout.total(basket(&["tea"])).await?;
    a.hang();
    for _ in 0..20 {
        assert_eq!(checkout.total(basket(&["tea"])).await?, 350);
    }
    Ok(())
}

/// When nobody can be reached, the customer is told why in time, and is served once that is over.
#[tokio::test(start_paused = true)]
async fn says_that_there_are_no_prices() -> Result<()> {
    let net = Net::new();
    let prices = prices(&net, "only").await?;
    let (_node, checkout) = checkout(&net).await?;
    prices.cut_off();
    let answer = checkout.total(basket(&["tea"])).await;
    let Err(CallError::App(CheckoutError::NoPrices(why))) = answer else { panic!("{answer:?}") };
    assert!(why.contains("prices/price of prices: unavailable (connect, node only"), "{why}");
    prices.heal();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(checkout.total(basket(&["tea"])).await?, 350);
    Ok(())
}

/// What is late is given up at the customer's deadline, down to the last service.
#[tokio::test(start_paused = true)]
async fn keeps_the_deadline() -> Result<()> {
    let net = Net::new();
    let prices = prices(&net, "only").await?;
    let (_node, checkout) = checkout(&net).await?;
    prices.slow_down(Duration::from_millis(400));
    let call = checkout.total(basket(&["tea", "tea", "tea"])).timeout(Duration::from_secs(1));
    let Err(CallError::Rpc(error)) = call.await else { panic!("it takes more than a second") };
    assert_eq!(error.code(), Code::DeadlineExceeded);
    Ok(())
}
