//! How a service ends, and how it lives with a registry that does not do its part.

use futures::StreamExt;
use micro::Registered;
use micro::registry::{Node, NodeState, Registration, Registry, Scope, Update};
use micro::rpc::{Channel, ChannelConfig, Codec, Request};
use tokio::time::{Instant, sleep};

use super::*;
use crate::fragile::Fragile;
use crate::warnings::Warnings;

const SECOND: Duration = Duration::from_secs(1);

/// A service of this town in a registry that can be broken.
fn fragile(town: &Town) -> (Fragile, Service) {
    let registry = Fragile::around(&town.registry);
    let service = town.service("a").registry(registry.clone());
    (registry, service.serve(ShopServer::new(Corner::default())))
}

/// Asks for a price over a connection of its own.
async fn price(town: &Town) -> Result<Vec<u8>, micro::rpc::Error> {
    let config = ChannelConfig { memory: Some(town.network.clone()), ..ChannelConfig::default() };
    let channel = Channel::new("memory:a".parse().unwrap(), config);
    let request = Request::new("shop", "price", Codec::Json, br#"{"thing":"tea"}"#[..].into());
    channel.call(&request).await.map(|answer| answer.body.to_vec())
}

/// Once registry and clients are told, calls are served for as long as the delay, and no longer;
/// it is not ready meanwhile.
#[tokio::test(start_paused = true)]
async fn calls_are_served_while_the_news_gets_around() {
    let town = Town::default();
    let service = town.service("a").drain_delay(5 * SECOND);
    let service = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let mut watch = town.registry.watch(Scope::Service("shop".into())).await.unwrap();
    assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
    let begin = Instant::now();
    let stopping = tokio::spawn(service.shutdown());
    let Some(Update::Put(draining)) = watch.next().await else { panic!() };
    assert_eq!(draining.node.state, NodeState::Draining);
    while begin.elapsed() < 5 * SECOND {
        assert_eq!(price(&town).await.expect("it is served"), b"3");
        let (status, body) = town.http("a", "/health/ready").await;
        assert_eq!((status, body.trim_end()), (503, "draining"));
        sleep(SECOND / 2).await;
    }
    assert!(matches!(watch.next().await, Some(Update::Remove { .. })));
    assert!(price(&town).await.is_err());
    stopping.await.unwrap();
}

/// Clients that found a service before a newer process took its id are served while they leave.
#[tokio::test(start_paused = true)]
async fn a_fenced_service_serves_out_its_clients() {
    let town = Town::default();
    let service = town.service("a").drain_delay(5 * SECOND);
    let service = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let mut newer = Registration::new("shop", "1.0.0", Node::new("a", "memory:newer"));
    newer.node.epoch = u64::MAX;
    town.registry.register(&newer, 3_600 * SECOND).await.unwrap();
    let fenced = |state: &Registered| matches!(state, Registered::Fenced { .. });
    service.registered().wait_for(fenced).await.unwrap();
    let begin = Instant::now();
    let stopping = tokio::spawn(service.shutdown());
    while begin.elapsed() < 4 * SECOND {
        assert_eq!(price(&town).await.expect("it is served"), b"3");
        sleep(SECOND / 2).await;
    }
    stopping.await.unwrap();
}

/// What nobody can have seen in the registry needs no time to be forgotten.
#[tokio::test(start_paused = true)]
async fn what_was_never_registered_ends_at_once() {
    let town = Town::default();
    let (registry, service) = fragile(&town);
    registry.fail(true);
    let service = service.drain_delay(300 * SECOND).start().await.unwrap();
    let failed = |state: &Registered| matches!(state, Registered::Retrying { .. });
    service.registered().wait_for(failed).await.unwrap();
    let begin = Instant::now();
    service.shutdown().await;
    assert!(begin.elapsed() < 60 * SECOND, "{:?}", begin.elapsed());
}

/// A registry that hangs is waited for beside the drain, not before it, and not for long.
#[tokio::test(start_paused = true)]
async fn a_registry_that_hangs_does_not_hold_up_the_end() {
    let town = Town::default();
    let (registry, service) = fragile(&town);
    let service = registered(service.drain_delay(2 * SECOND)).await;
    registry.hang(true);
    let begin = Instant::now();
    service.shutdown().await;
    // Twice two seconds for the removal.
    assert!((6 * SECOND..7 * SECOND).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

/// A service can be told to stop before its registry has ever answered.
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_the_registry() {
    let town = Town::default();
    for hangs in [true, false] {
        let (registry, service) = fragile(&town);
        registry.hang(hangs);
        registry.fail(true);
        let begin = Instant::now();
        service.serve_until(sleep(SECOND)).await.unwrap();
        assert!(begin.elapsed() < 10 * SECOND, "{:?}", begin.elapsed());
        assert!(town.network.connect("a").is_err());
    }
}

/// A registry that fails is reported with the cause, and one that hangs, once or for long, does not
/// stop the registrar.
#[tokio::test(start_paused = true)]
async fn the_registrar_outlives_every_failure() {
    let town = Town::default();
    let (registry, service) = fragile(&town);
    let service = registered(service).await;
    let mut state = service.registered();
    let mut cause = async || match &*state.wait_for(|s| *s != Registered::Yes).await.unwrap() {
        Registered::Retrying { cause, .. } => cause.clone(),
        other => panic!("{other:?}"),
    };
    registry.fail(true);
    assert_eq!(cause().await, "cannot write: the disk is full");
    registry.fail(false);
    service.registered().wait_for(|state| *state == Registered::Yes).await.unwrap();
    registry.hang(true);
    assert_eq!(cause().await, "the registry did not answer within 15s");
    sleep(600 * SECOND).await;
    registry.hang(false);
    service.registered().wait_for(|state| *state == Registered::Yes).await.unwrap();
    assert!(town.registry.get("shop").await.is_ok());
}

/// A registry that panics, or whose error does, is reported once and tried again; the end goes on.
#[tokio::test(start_paused = true)]
async fn the_registrar_outlives_panics() {
    let town = Town::default();
    let (registry, service) = fragile(&town);
    let stopped = Arc::new(AtomicU32::new(0));
    let stops = stopped.clone();
    let service = registered(service.after_stop(async move || {
        stops.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }))
    .await;
    let warnings = Warnings::new();
    for break_it in [Fragile::panic, Fragile::mumble] {
        break_it(&registry, true);
        let mut state = service.registered();
        match &*state.wait_for(|state| *state != Registered::Yes).await.expect("it lives") {
            Registered::Retrying { was_registered: true, cause, .. } => {
                assert_eq!(cause, "the registry panicked");
            }
            other => panic!("{other:?}"),
        }
        sleep(600 * SECOND).await;
        break_it(&registry, false);
        service.registered().wait_for(|state| *state == Registered::Yes).await.unwrap();
        assert!(town.registry.get("shop").await.is_ok());
    }
    let lines = warnings.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    registry.panic(true);
    service.shutdown().await;
    assert_eq!(stopped.load(Ordering::Relaxed), 1);
}

/// A newer owner of the node's id is not fought: the service is not ready, asks once per TTL, and
/// takes over when that lease has ended.
#[tokio::test(start_paused = true)]
async fn a_fenced_service_waits_for_its_turn() {
    let town = Town::default();
    let mut newer = Registration::new("shop", "1.0.0", Node::new("a", "memory:newer"));
    newer.node.epoch = u64::MAX;
    let renew = async || town.registry.register(&newer, 30 * SECOND).await.unwrap();
    renew().await;
    let (registry, service) = fragile(&town);
    let service = service.start().await.unwrap();
    let fenced = |state: &Registered| matches!(state, Registered::Fenced { .. });
    service.registered().wait_for(fenced).await.unwrap();
    let (status, body) = town.http("a", "/health/ready").await;
    assert!(status == 503 && body.starts_with("fenced: "), "{status} {body}");
    for _ in 0..60 {
        renew().await;
        sleep(10 * SECOND).await;
        assert_eq!(town.registry.get("shop").await.unwrap()[0].nodes[0].epoch, u64::MAX);
    }
    // 600 s are 20 TTLs, each up to a tenth shorter, and 60 intervals.
    assert!((20..=24).contains(&registry.registered()), "{}", registry.registered());
    service.registered().wait_for(|state| *state == Registered::Yes).await.unwrap();
    assert_ne!(town.registry.get("shop").await.unwrap()[0].nodes[0].epoch, u64::MAX);
}

/// A registry that is away at the start, and later for a minute under load, fails no call; the nodes
/// are back in it afterwards, though their TTL was over.
#[tokio::test(start_paused = true)]
async fn an_outage_of_the_registry_fails_no_call() {
    let town = Town::default();
    town.registry.interrupt("away at the start");
    let start = |id| town.service(id).serve(ShopServer::new(Corner::default())).start();
    let (a, b) = (start("a").await.unwrap(), start("b").await.unwrap());
    let shop = ShopClient::named(&town.client().await, "shop");
    let first = shop.price("tea").wait_for_ready(true).timeout(120 * SECOND);
    let first = tokio::spawn(first.into_future());
    sleep(10 * SECOND).await;
    town.registry.restore();
    assert_eq!(first.await.unwrap().unwrap(), 3, "it waits for the registry");
    let load = async |period: Duration| {
        let end = Instant::now() + period;
        while Instant::now() < end {
            shop.price("tea").idempotent(false).await.expect("the nodes are known");
            sleep(SECOND / 20).await;
        }
    };
    load(20 * SECOND).await;
    town.registry.interrupt("away again");
    load(60 * SECOND).await;
    town.registry.restore();
    load(20 * SECOND).await;
    for service in [&a, &b] {
        assert_eq!(*service.registered().borrow(), Registered::Yes);
    }
    assert_eq!(town.registry.get("shop").await.unwrap()[0].nodes.len(), 2);
}

/// Connected clients go elsewhere as soon as a node announces its end, whatever the registry says;
/// one that has nobody else goes on calling it.
#[tokio::test(start_paused = true)]
async fn clients_leave_before_the_registry_tells_them() {
    let town = Town::default();
    let (leaving, staying) = (Corner::default(), Corner::default());
    let first = town.service("a").drain_delay(60 * SECOND);
    let first = registered(first.serve(ShopServer::new(leaving.clone()))).await;
    let second = registered(town.service("b").serve(ShopServer::new(staying.clone()))).await;
    let shop = ShopClient::new(&town.client().await);
    let counts = || (leaving.calls.load(Ordering::Relaxed), staying.calls.load(Ordering::Relaxed));
    while counts().0 == 0 || counts().1 == 0 {
        shop.price("tea").await.expect("both serve");
    }
    town.registry.interrupt("nobody hears of it");
    let _stopping = tokio::spawn(first.shutdown());
    sleep(SECOND).await;
    let before = counts();
    for _ in 0..100 {
        shop.price("tea").await.expect("one of them serves");
    }
    assert_eq!(counts(), (before.0, before.1 + 100));

    let _ending = tokio::spawn(second.shutdown());
    sleep(SECOND).await;
    for _ in 0..100 {
        shop.price("tea").await.expect("both serve still");
    }
    assert_eq!(counts().0 + counts().1, before.0 + before.1 + 200);
}
