//! The shop as processes: what travels along a chain of calls, and what comes back when its leaf
//! fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod processes;

use std::time::Duration;

use micro::{CallError, Client, Code, Phase, Settings};
use shop::{BuyError, Receipt, StorefrontClient};

use crate::processes::{PATIENCE, Process, Scene};

/// The two services in the middle, to be kept until the end of the test.
fn middle(scene: &Scene) -> [Process; 2] {
    [scene.run("storefront", &["storefront"]), scene.run("orders", &["orders"])]
}

/// A stock that has registered, and who it is: id and address.
fn stock(scene: &Scene, name: &str, delay: &str) -> (Process, [String; 2]) {
    let process = scene.run(name, &["stock", "--delay-ms", delay]);
    let line = process.logged(&["registered", "service=\"stock\""]);
    let field = |key: &str| {
        let (_, value) = line.split_once(&format!(" {key}=")).unwrap();
        value.split_whitespace().next().unwrap().trim_matches('"').to_owned()
    };
    let node = [field("node"), field("address")];
    (process, node)
}

async fn storefront(scene: &Scene) -> StorefrontClient {
    let settings = Settings::none().flag("registry", scene.url()).unwrap();
    let client = Client::connect().settings(settings).wait_for_ready(true).timeout(PATIENCE);
    StorefrontClient::new(&client.await.unwrap())
}

/// Baggage, deadline and trace of the first call reach the last service.
#[tokio::test(flavor = "multi_thread")]
async fn what_travels() {
    let scene = Scene::new();
    let (_middle, (leaf, _)) = (middle(&scene), stock(&scene, "stock", "0"));
    let timeout = Duration::from_secs(30);
    let call = storefront(&scene).await.buy("tea", 2).timeout(timeout);
    let receipt = call.metadata("baggage.tenant", "acme").await.unwrap();
    let expected = Receipt { tenant: "acme".to_owned(), thing: "tea".to_owned(), count: 2 };
    assert_eq!(receipt, expected);
    let line = leaf.logged(&["taking", "tenant=\"acme\"", "method=\"take\"", "trace="]);
    let (_, remaining) = line.split_once("remaining_ms=").unwrap();
    let remaining: u128 = remaining.split_whitespace().next().unwrap().parse().unwrap();
    // It is the customer's: the services in the middle set a minute.
    assert!(remaining <= timeout.as_millis(), "{line}");
}

/// The leaf's own error is each service's own error on its way up.
#[tokio::test(flavor = "multi_thread")]
async fn a_typed_error_through_two_hops() {
    let scene = Scene::new();
    let (_middle, _leaf) = (middle(&scene), stock(&scene, "stock", "0"));
    let answer = storefront(&scene).await.buy("tea", 11).await;
    let Err(CallError::App(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(error, BuyError::SoldOut { left: 10 });
}

/// An error of the leaf without a type tells its code and its words.
#[tokio::test(flavor = "multi_thread")]
async fn an_untyped_error_through_two_hops() {
    let scene = Scene::new();
    let (_middle, (_leaf, [id, _])) = (middle(&scene), stock(&scene, "stock", "0"));
    let answer = storefront(&scene).await.available("unicorn").await;
    let Err(CallError::Rpc(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(error.code(), Code::NotFound);
    let text = error.to_string();
    for part in ["storefront/available of", "orders/free of", "stock/count of", &id, "no shelf"] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
}

/// When the leaf's nodes die one after the other, the first caller's error names the leaf's contract
/// and method, its last node, how far the call got, how often it was tried, and the trace that the
/// leaf's nodes have in their logs.
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_the_leaf_is_told_at_the_top() {
    let scene = Scene::new();
    let _middle = middle(&scene);
    let (one, other) = (stock(&scene, "stock-1", "3600000"), stock(&scene, "stock-2", "3600000"));
    let call = storefront(&scene).await.available("tea").idempotent(false);
    let asking = tokio::spawn(call.into_future());

    // Which of them is asked first is up to chance.
    let is_asked = |stock: &(Process, [String; 2])| stock.0.stderr().contains("counting");
    while !is_asked(&one) && !is_asked(&other) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (first, last) = if is_asked(&one) { (one, other) } else { (other, one) };
    let trace = trace_in(&first.0);
    drop(first.0);
    assert_eq!(trace_in(&last.0), trace, "the second attempt belongs to the same trace");
    let [id, address] = last.1;
    drop(last.0);

    let answer = asking.await.unwrap();
    let Err(CallError::Rpc(error)) = answer else { panic!("{answer:?}") };
    assert_eq!((error.code(), error.phase()), (Code::Unavailable, Phase::Wait));
    assert_eq!(error.trace_id().unwrap().to_string(), trace);
    let leaf = format!(
        "stock/count of stock: unavailable (wait, node {id} at {address}, 2 attempts, trace {trace})"
    );
    assert!(error.to_string().contains(&leaf), "{leaf} is missing: {error}");
}

/// The trace of the call that this stock counts for.
fn trace_in(stock: &Process) -> String {
    let line = stock.logged(&["counting", "method=\"count\"", "trace="]);
    let (_, trace) = line.split_once("trace=").unwrap();
    trace.chars().take_while(char::is_ascii_hexdigit).collect()
}

/// The customer's program prints what it bought, and why it could not.
#[test]
fn the_customer_is_a_program() {
    let scene = Scene::new();
    let (_middle, _leaf) = (middle(&scene), stock(&scene, "stock", "0"));
    let mut buy = scene.run("buy", &["buy", "tea", "3", "--tenant", "globex"]);
    assert_eq!(buy.ended(), (true, "3 of tea for globex\n".to_owned()));
    let mut greedy = scene.run("greedy", &["buy", "tea", "8"]);
    assert_eq!(greedy.ended(), (false, String::new()));
    assert!(greedy.stderr().contains("only 7 left"), "{}", greedy.stderr());
    let mut available = scene.run("available", &["available", "tea"]);
    assert_eq!(available.ended(), (true, "7\n".to_owned()));
}
