//! The shop as processes: what travels along a chain of calls, and what comes back when its leaf
//! fails.

use std::time::Duration;

use micro::{CallError, Client, Code, Phase, Settings};
use shop::{BuyError, Receipt, StorefrontClient};
use testbed::{PATIENCE, Process, Scene, eventually};

const SHOP: &str = env!("CARGO_BIN_EXE_shop");

/// The two services in the middle, to be kept until the end of the test.
fn middle(scene: &Scene) -> [Process; 2] {
    ["storefront", "orders"].map(|role| scene.run(SHOP, role, &[role]))
}

/// A stock that has registered, and who it is: id and address.
async fn stock(scene: &Scene, name: &str, delay_ms: &str) -> (Process, [String; 2]) {
    let process = scene.run(SHOP, name, &["stock", "--delay-ms", delay_ms]);
    let line = logged(&process, &["\"registered\"", "\"service\":\"stock\""]).await;
    let node = [field(&line, "node"), field(&line, "address")];
    (process, node)
}

/// Waits for a line in the process's log that has all of these, and returns it.
async fn logged(process: &Process, parts: &[&str]) -> String {
    eventually(&format!("{parts:?} in the log"), async || {
        let log = process.stderr();
        let line = log.lines().find(|line| parts.iter().all(|part| line.contains(part)));
        line.map(str::to_owned)
    })
    .await
}

/// The value of a field in a line of a log.
fn field(line: &str, key: &str) -> String {
    let (_, value) = line.split_once(&format!("\"{key}\":")).expect("the field is there");
    value.split([',', '}']).next().unwrap_or_default().trim_matches('"').to_owned()
}

async fn storefront(scene: &Scene) -> StorefrontClient {
    let settings = Settings::none().flag("registry", scene.url()).expect("a key there is");
    let client = Client::connect().settings(settings).wait_for_ready(true).timeout(PATIENCE);
    StorefrontClient::new(&client.await.expect("nothing about it is wrong"))
}

/// Baggage, deadline and trace of the first call reach the last service.
#[tokio::test]
async fn what_travels() {
    travels(&Scene::new()).await;
}

/// The same over multicast DNS.
#[tokio::test]
async fn what_travels_over_multicast_dns() {
    travels(&Scene::over_multicast_dns()).await;
}

/// The same over etcd.
#[cfg(feature = "etcd")]
#[tokio::test]
async fn what_travels_over_etcd() {
    if testbed::etcd::is_there() {
        let server = testbed::etcd::Server::start();
        travels(&Scene::over(format!("etcd://{}", server.address()))).await;
    }
}

async fn travels(scene: &Scene) {
    let (_middle, (leaf, _)) = (middle(scene), stock(scene, "stock", "0").await);
    let timeout = Duration::from_secs(30);
    let call = storefront(scene).await.buy("tea", 2).timeout(timeout);
    let receipt = call.metadata("baggage.tenant", "acme").await.expect("there is tea");
    let expected = Receipt { tenant: "acme".to_owned(), thing: "tea".to_owned(), count: 2 };
    assert_eq!(receipt, expected);
    let line =
        logged(&leaf, &["taking", "\"tenant\":\"acme\"", "\"method\":\"take\"", "\"trace\":"])
            .await;
    let remaining: u128 = field(&line, "remaining_ms").parse().expect("a number");
    // It is the customer's: the services in the middle set a minute.
    assert!(remaining <= timeout.as_millis(), "{line}");
}

/// The leaf's own error is each service's own error on its way up.
#[tokio::test]
async fn a_typed_error_through_two_hops() {
    let scene = Scene::new();
    let (_middle, _leaf) = (middle(&scene), stock(&scene, "stock", "0").await);
    let answer = storefront(&scene).await.buy("tea", 11).await;
    let Err(CallError::App(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(error, BuyError::SoldOut { left: 10 });
}

/// An error of the leaf without a type tells its code and its words.
#[tokio::test]
async fn an_untyped_error_through_two_hops() {
    let scene = Scene::new();
    let (_middle, (_leaf, [id, _])) = (middle(&scene), stock(&scene, "stock", "0").await);
    let answer = storefront(&scene).await.available("unicorn").await;
    let Err(CallError::Rpc(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(error.code(), Code::NotFound);
    let text = error.to_string();
    for part in ["storefront/available of", "orders/free of", "stock/count of", &id, "no shelf"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

/// When the leaf's nodes die one after the other, the first caller's error names the leaf's contract
/// and method, its last node but not where that was, how far the call got, how often it was tried, and
/// the trace that the leaf's nodes have in their logs.
#[tokio::test]
async fn a_failure_at_the_leaf_is_told_at_the_top() {
    let scene = Scene::new();
    let _middle = middle(&scene);
    let one = stock(&scene, "stock-1", FOREVER_MS).await;
    let other = stock(&scene, "stock-2", FOREVER_MS).await;
    let call = storefront(&scene).await.available("tea").idempotent(false);
    let asking = tokio::spawn(call.into_future());

    // Which of them is asked first is up to chance.
    let is_asked = |stock: &(Process, [String; 2])| stock.0.stderr().contains("counting");
    let any = async || (is_asked(&one) || is_asked(&other)).then_some(());
    eventually("one of them counts", any).await;
    let (first, last) = if is_asked(&one) { (one, other) } else { (other, one) };
    let trace = trace_in(&first.0).await;
    drop(first.0);
    assert_eq!(trace_in(&last.0).await, trace, "the second attempt belongs to the same trace");
    let [id, address] = last.1;
    drop(last.0);

    let answer = asking.await.expect("no panic");
    let Err(CallError::Rpc(error)) = answer else { panic!("{answer:?}") };
    assert_eq!((error.code(), error.phase()), (Code::Unavailable, Phase::Wait));
    assert_eq!(error.trace_id().expect("every call has one").to_string(), trace);
    let leaf =
        format!("stock/count of stock: unavailable (wait, node {id}, 2 attempts, trace {trace})");
    assert!(error.to_string().contains(&leaf), "{leaf} is missing: {error}");
    assert!(!error.to_string().contains(&address), "where it is was told: {error}");
}

/// Counting takes so long that it does not end.
const FOREVER_MS: &str = "3600000";

/// The trace of the call that this stock counts for.
async fn trace_in(stock: &Process) -> String {
    field(&logged(stock, &["counting", "\"method\":\"count\"", "\"trace\":"]).await, "trace")
}

/// The customer's program prints what it bought, and why it could not.
#[tokio::test]
async fn the_customer_is_a_program() {
    let scene = Scene::new();
    let (_middle, _leaf) = (middle(&scene), stock(&scene, "stock", "0").await);
    let buy = customer(&scene, &["buy", "tea", "3", "--tenant", "globex"]).await;
    assert_eq!(buy.stdout(), "3 of tea for globex\n");
    let greedy = customer(&scene, &["buy", "tea", "8"]).await;
    assert_eq!(greedy.stdout(), "");
    assert!(greedy.stderr().contains("only 7 left"), "{}", greedy.stderr());
    let curious = customer(&scene, &["available", "tea"]).await;
    assert_eq!(curious.stdout(), "7\n");
}

/// A customer who is done.
async fn customer(scene: &Scene, wants: &[&str]) -> Process {
    let mut customer = scene.run(SHOP, &wants.join("-"), wants);
    customer.ended().await;
    customer
}
