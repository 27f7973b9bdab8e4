//! `micro::test`: what callers see when a node dies, hangs, is cut off or slow, and when the registry
//! is away.

use std::sync::atomic::AtomicUsize;

use micro::layer::{self, Next};
use micro::registry::{ErrorKind, Registry};
use micro::rpc::{Address, ChannelConfig, Execution, Request};
use micro::test::{Net, Node};
use micro::{CallError, Code, Error, Phase};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::*;

const TTL: Duration = Duration::from_secs(30);
/// After a second of silence a client pings, and two seconds later it gives up.
const KEEPALIVE: Duration = Duration::from_secs(3);
/// Longer than a node that was unreachable is left alone, and as good as for ever.
const PATIENCE: Duration = Duration::from_secs(3_600);

async fn open(net: &Net, id: &str) -> Node {
    let corner = Corner { node: id.to_owned(), ..Corner::default() };
    let service = Service::new().name("shop").id(id).serve(ShopServer::new(corner));
    net.start(service).await.expect("nothing about it is wrong")
}

fn shop(net: &Net) -> ShopClient {
    ShopClient::named(&net.client(), "shop")
}

/// Which node answers a call that must not be repeated.
async fn who_answers(shop: &ShopClient) -> Result<String, Error> {
    Ok(shop.context("key").await?.node)
}

async fn listed(net: &Net) -> Vec<String> {
    match net.registry().get("shop").await {
        Ok(services) => services.into_iter().flat_map(|s| s.nodes).map(|node| node.id).collect(),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound);
            Vec::new()
        }
    }
}

async fn until_listed(net: &Net, ids: &[&str]) {
    let look = async {
        while listed(net).await != ids {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("never are there just {ids:?}"));
}

async fn until_answered_by(shop: &ShopClient, id: &str) {
    let call = async {
        while who_answers(shop).await.ok().as_deref() != Some(id) {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(PATIENCE, call).await.unwrap_or_else(|_| panic!("{id} never answers"));
}

/// Once a node is killed no call fails that was not under way there; the registry lists it until
/// its TTL ends.
#[tokio::test(start_paused = true)]
async fn after_a_kill_others_answer() {
    let net = Net::new();
    let a = open(&net, "a").await;
    let shop = shop(&net);
    assert_eq!(who_answers(&shop).await.expect("there is one"), "a");
    let under_way = tokio::spawn(shop.wait(1_000).into_future());
    sleep(Duration::from_millis(1)).await;
    let _b = open(&net, "b").await;

    a.kill();
    for _ in 0..50 {
        assert_eq!(who_answers(&shop).await.expect("it was never sent to a"), "b");
    }
    let Err(CallError::Rpc(error)) = under_way.await.expect("no panic") else { panic!() };
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::MaybeExecuted));
    assert_eq!(error.node(), Some(("a", "memory:node-1")));
    assert_eq!(listed(&net).await, ["a", "b"]);
    sleep(TTL).await;
    assert_eq!(listed(&net).await, ["b"]);
}

/// A node that hangs is found dead by its silence, and what may be repeated is answered elsewhere
/// without the caller's noticing more than the wait.
#[tokio::test(start_paused = true)]
async fn calls_to_a_node_that_hangs_are_answered_elsewhere() {
    let net = Net::new();
    let a = open(&net, "a").await;
    let shop = shop(&net);
    who_answers(&shop).await.expect("it serves");
    a.hang();
    let start = Instant::now();
    let repeated = tokio::spawn(shop.price("tea").into_future());
    let once = tokio::spawn(shop.price("tea").idempotent(false).into_future());
    let hurried = shop.price("tea").timeout(Duration::from_millis(500)).await;
    let Err(CallError::Rpc(error)) = hurried else { panic!("{hurried:?}") };
    assert_eq!((error.code(), error.phase()), (Code::DeadlineExceeded, Phase::Wait));
    assert_eq!(start.elapsed(), Duration::from_millis(500));

    let _b = open(&net, "b").await;
    assert_eq!(repeated.await.expect("no panic").expect("b answers"), 3);
    let Err(CallError::Rpc(error)) = once.await.expect("no panic") else { panic!() };
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::MaybeExecuted));
    assert!(error.to_string().contains("the node is silent"), "{error}");
    // From here on nothing is sent to it: it does not answer who connects.
    for _ in 0..50 {
        assert_eq!(who_answers(&shop).await.expect("it was never sent to a"), "b");
    }
    assert!(start.elapsed() >= KEEPALIVE);
}

/// A node that hangs does not renew, leaves the registry and comes back by itself.
#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_leaves_and_returns() {
    let net = Net::new();
    let (a, _b) = (open(&net, "a").await, open(&net, "b").await);
    a.hang();
    sleep(TTL).await;
    assert_eq!(listed(&net).await, ["b"]);
    a.resume();
    until_listed(&net, &["a", "b"]).await;
    until_answered_by(&shop(&net), "a").await;
}

/// What a node that hangs was sent is answered when it goes on, if the caller still waits.
#[tokio::test(start_paused = true)]
async fn a_short_hang_only_delays() {
    let net = Net::new();
    let a = open(&net, "a").await;
    let shop = shop(&net);
    who_answers(&shop).await.expect("it serves");
    a.hang();
    let start = Instant::now();
    let call = tokio::spawn(shop.price("tea").idempotent(false).into_future());
    sleep(Duration::from_secs(2)).await;
    a.resume();
    assert_eq!(call.await.expect("no panic").expect("it goes on"), 3);
    assert_eq!(start.elapsed(), Duration::from_secs(2));
}

/// Killing a node that hangs is heard at once, as the system closes its sockets.
#[tokio::test(start_paused = true)]
async fn the_death_of_a_node_that_hangs_is_heard() {
    let net = Net::new();
    let a = open(&net, "a").await;
    let shop = shop(&net);
    who_answers(&shop).await.expect("it serves");
    a.hang();
    let start = Instant::now();
    let call = tokio::spawn(shop.wait(1).into_future());
    sleep(Duration::from_millis(1)).await;
    a.kill();
    call.await.expect("no panic").expect_err("nobody is left");
    assert_eq!(start.elapsed(), Duration::from_millis(1));
}

/// A node that is cut off stays in the registry, gets no call, connected before or not, and serves
/// again once the network heals.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_cut_off() {
    let net = Net::new();
    let a = open(&net, "a").await;
    let (connected, fresh) = (shop(&net), shop(&net));
    who_answers(&connected).await.expect("it serves");
    a.cut_off();
    sleep(3 * TTL).await;
    assert_eq!(listed(&net).await, ["a"]);

    let error = who_answers(&connected).await.expect_err("it is cut off");
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    let start = Instant::now();
    let error = who_answers(&fresh).await.expect_err("it is cut off");
    assert_eq!((error.phase(), error.execution()), (Phase::Connect, Execution::NotSent));
    assert!(error.to_string().contains("no answer in time"), "{error}");
    // It tries again, which does not take as long: two waits at most.
    let (took, patience) = (start.elapsed(), ChannelConfig::default().connect_timeout);
    assert!((patience..patience + Duration::from_millis(76)).contains(&took), "{took:?}");

    let _b = open(&net, "b").await;
    for shop in [&connected, &fresh] {
        assert_eq!(who_answers(shop).await.expect("it was never sent to a"), "b");
    }
    a.heal();
    for shop in [&connected, &fresh] {
        until_answered_by(shop, "a").await;
    }
}

/// A node that cannot be reached is tried only to see whether it is back, which is ever more seldom.
#[tokio::test(start_paused = true)]
async fn a_node_out_of_reach_is_left_alone() {
    let net = Net::new();
    let (a, _b) = (open(&net, "a").await, open(&net, "b").await);
    let address = a.service().registration().node.address.clone();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    let count = layer::from_fn(move |request: Request, next: Next| {
        let is_to_it = request.extensions.get::<Address>().map(ToString::to_string);
        counted.fetch_add(usize::from(is_to_it.as_ref() == Some(&address)), Ordering::Relaxed);
        next.run(request)
    });
    let client = net.connect().attempt_layer(count).await.expect("nothing is wrong");
    let shop = ShopClient::named(&client, "shop");
    for _ in 0..50 {
        who_answers(&shop).await.expect("both serve");
    }
    a.cut_off();
    // Its connection is given up, and the first backoffs are short.
    for _ in 0..100 {
        shop.price("tea").await.expect("b serves");
        sleep(Duration::from_millis(100)).await;
    }
    let before = attempts.load(Ordering::Relaxed);
    for _ in 0..200 {
        shop.price("tea").await.expect("b serves");
        sleep(Duration::from_millis(100)).await;
    }
    let later = attempts.load(Ordering::Relaxed) - before;
    assert!(later <= 20, "{later} of 200 calls");
}

/// Two faults of one node are ended one by one.
#[tokio::test(start_paused = true)]
async fn faults_do_not_end_each_other() {
    let net = Net::new();
    let a = open(&net, "a").await;
    a.hang();
    a.cut_off();
    a.resume();
    who_answers(&shop(&net)).await.expect_err("it is cut off still");
    a.heal();
    who_answers(&shop(&net)).await.expect("nothing is wrong any more");
}

/// A slow node answers late by just that much, and is avoided by those who may choose.
#[tokio::test(start_paused = true)]
async fn a_slow_node() {
    let net = Net::new();
    let a = open(&net, "a").await;
    let shop = shop(&net);
    who_answers(&shop).await.expect("it serves");
    let latency = Duration::from_millis(300);
    a.slow_down(latency);
    let start = Instant::now();
    who_answers(&shop).await.expect("it is late, no more");
    assert_eq!(start.elapsed(), latency);
    let Err(CallError::Rpc(error)) = shop.price("tea").timeout(latency / 2).await else { panic!() };
    assert_eq!(error.code(), Code::DeadlineExceeded);

    let b = open(&net, "b").await;
    let mut calls = JoinSet::new();
    for _ in 0..100 {
        let shop = shop.clone();
        calls.spawn(async move { who_answers(&shop).await });
        sleep(latency / 100).await;
    }
    let answers = calls.join_all().await;
    let by_a = answers.iter().filter(|answer| matches!(answer, Ok(node) if node == "a")).count();
    assert!(by_a < 20, "{by_a} of 100 calls went to the slow node");
    drop(b);
    a.slow_down(Duration::ZERO);
    let start = Instant::now();
    until_answered_by(&shop, "a").await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// While the registry is down calls go on, for longer than any TTL; who starts meanwhile serves, and
/// is found when it is back.
#[tokio::test(start_paused = true)]
async fn a_registry_that_is_down() {
    let net = Net::new();
    let _a = open(&net, "a").await;
    let shop = shop(&net);
    who_answers(&shop).await.expect("it serves");
    net.registry_down();
    let b = open(&net, "b").await;
    assert!(matches!(&*b.service().registered().borrow(), micro::Registered::Retrying { .. }));
    for _ in 0..100 {
        assert_eq!(who_answers(&shop).await.expect("it is known"), "a");
        sleep(TTL / 10).await;
    }
    net.registry_up();
    until_listed(&net, &["a", "b"]).await;
    until_answered_by(&shop, "b").await;
}

/// A node that shuts down leaves the registry at once and fails no call.
#[tokio::test(start_paused = true)]
async fn a_node_that_shuts_down() {
    let net = Net::new();
    let a = open(&net, "a").await;
    let shop = shop(&net);
    let under_way = tokio::spawn(shop.wait(1_000).into_future());
    sleep(Duration::from_millis(1)).await;
    let _b = open(&net, "b").await;
    a.shutdown().await;
    assert_eq!(listed(&net).await, ["b"]);
    assert_eq!(under_way.await.expect("no panic").expect("it was let finish"), 1_000);
    assert_eq!(who_answers(&shop).await.expect("b is there"), "b");
}

/// Nets know nothing of each other, and where a service listens and registers is the net's to say.
#[tokio::test(start_paused = true)]
async fn nets_are_apart() {
    let (one, other) = (Net::new(), Net::new());
    let corner = || ShopServer::new(Corner { node: "own".to_owned(), ..Corner::default() });
    let elsewhere = MemoryRegistry::new();
    let service = Service::new().address("unix:/nowhere/x.sock").advertise("10.0.0.1:1");
    let service = service.registry(elsewhere.clone()).serve(corner());
    let _node = one.start(service).await.expect("what it says there does not count");
    let _other = open(&other, "b").await;
    assert_eq!(who_answers(&shop(&one)).await.expect("it is here"), "own");
    assert_eq!(who_answers(&shop(&other)).await.expect("it is here"), "b");
    assert!(elsewhere.list().await.expect("memory does not fail").is_empty());
}

/// A client with options of its own is a client of the net as well.
#[tokio::test(start_paused = true)]
async fn clients_may_have_options() {
    let net = Net::new();
    let _a = net.serve("shop", ShopServer::new(Corner::default())).await.expect("a good name");
    let builder = net.connect().timeout(Duration::from_secs(1)).channel(ChannelConfig::default());
    let shop = ShopClient::named(&builder.await.expect("good options"), "shop");
    let Err(CallError::Rpc(error)) = shop.wait(5_000).await else { panic!() };
    assert_eq!(error.code(), Code::DeadlineExceeded);
}
