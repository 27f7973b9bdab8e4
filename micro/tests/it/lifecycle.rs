//! A service from its start to its last answer.

use super::*;
use micro::Registered;
use micro::registry::{ErrorKind, NodeState, Registry, Scope, Update};
use micro::rpc::{Channel, ChannelConfig, Codec, Request};

use futures::StreamExt;

/// What is registered is what was built: name, version, labels and every endpoint.
#[tokio::test(start_paused = true)]
async fn registers_what_it_is() {
    let town = Town::default();
    let service = town.service("a").version("1.2.3").metadata("team", "tea").zone("z1").weight(7);
    let _service = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let services = town.registry.get("shop").await.unwrap();
    assert_eq!(services[0].version, "1.2.3");
    assert_eq!(services[0].metadata["team"], "tea");
    let node = &services[0].nodes[0];
    assert_eq!((node.address.as_str(), node.weight), ("memory:a", 7));
    assert_eq!(node.zone.as_deref(), Some("z1"));
    assert!(node.epoch > 0);
    let price = services[0].endpoints.as_slice().iter().find(|e| e.name == "price").unwrap();
    assert!(price.idempotent && price.contract == "shop");
    assert_eq!(price.doc, "What a thing costs.");
}

/// Shutting down lets running calls finish, fails none that come meanwhile while another node is
/// there, and takes the node out as deregistered, after it was seen draining.
#[tokio::test(start_paused = true)]
async fn shuts_down_in_good_order() {
    let town = Town::default();
    let (a, _) = town.open("a").await;
    let shop = ShopClient::named(&town.client().await, "shop");
    let slow = tokio::spawn(shop.wait(3_000).into_future());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (_b, _) = town.open("b").await;

    let mut watch = town.registry.watch(Scope::Service("shop".into())).await.unwrap();
    assert!(matches!(watch.next().await, Some(Update::Reset { .. })));
    let stopping = tokio::spawn(a.shutdown());
    let Some(Update::Put(draining)) = watch.next().await else { panic!() };
    assert_eq!((draining.node.id.as_str(), draining.node.state), ("a", NodeState::Draining));
    for _ in 0..100 {
        assert_eq!(shop.context("key").await.unwrap().node, "b");
    }
    assert_eq!(slow.await.unwrap().unwrap(), 3_000, "what was accepted finishes");
    stopping.await.unwrap();
    let nodes = &town.registry.get("shop").await.unwrap()[0].nodes;
    assert_eq!(nodes.len(), 1);
}

/// A call that outlives the shutdown timeout is ended, and the node leaves all the same.
#[tokio::test(start_paused = true)]
async fn shutdown_is_bounded() {
    let town = Town::default();
    let shop = Corner::default();
    let service = town.service("a").shutdown_timeout(Duration::from_secs(1));
    let service = registered(service.serve(ShopServer::new(shop.clone()))).await;
    let client = ShopClient::named(&town.client().await, "shop");
    let stuck =
        tokio::spawn(client.wait(3_600_000).timeout(Duration::from_secs(7_200)).into_future());
    tokio::time::sleep(Duration::from_millis(100)).await;
    service.shutdown().await;
    assert!(stuck.await.unwrap().is_err());
    assert_eq!(shop.cancelled.load(Ordering::Relaxed), 1);
    assert_eq!(town.registry.get("shop").await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A registry that is down at the start delays the registration, never the serving.
#[tokio::test(start_paused = true)]
async fn serves_before_it_is_registered() {
    let town = Town::default();
    town.registry.interrupt("down");
    let service = town.service("a").serve(ShopServer::new(Corner::default()));
    let service = service.start().await.unwrap();
    let config = ChannelConfig { memory: Some(town.network.clone()), ..ChannelConfig::default() };
    let channel = Channel::new("memory:a".parse().unwrap(), config);
    let body = br#"{"thing":"tea"}"#[..].into();
    let request = Request::new("shop", "price", Codec::Json, body);
    assert_eq!(&channel.call(&request).await.unwrap().body[..], b"3");
    town.registry.restore();
    service.registered().wait_for(|state| *state == Registered::Yes).await.unwrap();
}

/// Dropping a service closes it and leaves its registration to the TTL.
#[tokio::test(start_paused = true)]
async fn dropping_is_a_crash() {
    let town = Town::default();
    let (a, _) = town.open("a").await;
    drop(a);
    town.registry.get("shop").await.expect("the TTL is not over");
    tokio::time::sleep(Duration::from_secs(46)).await;
    assert_eq!(town.registry.get("shop").await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// A service finds others with a client of its own registry.
#[tokio::test(start_paused = true)]
async fn a_service_gives_its_client() {
    let town = Town::default();
    let (a, _) = town.open("a").await;
    let client = a.client().unwrap();
    assert_eq!(ShopClient::named(&client, "shop").price("tea").await.unwrap(), 3);
}

/// Serving ends when the future does.
#[tokio::test(start_paused = true)]
async fn serves_until_told() {
    let town = Town::default();
    let service = town.service("a").serve(ShopServer::new(Corner::default()));
    service.serve_until(tokio::time::sleep(Duration::from_secs(5))).await.unwrap();
    assert!(town.registry.get("shop").await.is_err());
}

/// What is wrong with a service is found before any hook runs and anything listens.
#[tokio::test(start_paused = true)]
async fn mistakes_are_found_before_anything_happens() {
    let shop = || ShopServer::new(Corner::default());
    let town = Town::default();
    let large = "x".repeat(9 * 1024);
    let mistakes: [fn(Service, &str) -> Service; 2] =
        [|service, _| service.weight(20_000), |service, large| service.metadata("key", large)];
    let wrong = mistakes.map(|mistake| mistake(town.service("a"), &large).serve(shop()));
    let twice = town.service("a").serve(shop()).serve(shop());
    for (service, expected) in
        wrong.into_iter().chain([twice]).zip(["weight", "service metadata", "shop"])
    {
        let begun = Arc::new(AtomicU32::new(0));
        let begins = begun.clone();
        let service = service.before_start(async move || {
            begins.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let error = service.start().await.unwrap_err();
        assert_eq!(error.code(), micro::Code::InvalidArgument, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(begun.load(Ordering::Relaxed), 0, "{error}");
    }
}

/// Services whose local directory is removed under them are found again long before the next renewal.
#[cfg(feature = "local")]
#[tokio::test]
async fn a_removed_directory_costs_a_moment() {
    use micro_registry_local::{LocalConfig, LocalRegistry};
    let root = tempfile::tempdir().unwrap();
    let open = || LocalRegistry::new(LocalConfig::new(root.path().join("micro"))).unwrap();
    let hour = Duration::from_secs(3_600);
    let town = Town::default();
    let mut services = vec![];
    for id in ["a", "b"] {
        let service = town.service(id).registry(open());
        let service = service.register_ttl(2 * hour).register_interval(hour);
        services.push(registered(service.serve(ShopServer::new(Corner::default()))).await);
    }
    let registry = open();
    let are_found = async || {
        let patience = Duration::from_secs(60);
        let found = async {
            let count = |services: Vec<micro::registry::Service>| services[0].nodes.len();
            while registry.get("shop").await.map(count).unwrap_or(0) < services.len() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(patience, found).await.expect("both are found");
    };
    are_found().await;
    std::fs::remove_dir_all(root.path().join("micro/default")).unwrap();
    are_found().await;
}
