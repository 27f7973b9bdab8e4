//! What makes no sense is refused when a service or client is built, with advice.

use super::*;

async fn refusal(service: Service) -> String {
    match service.start().await {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

/// Every bad value is named with where it came from and what would be right.
#[tokio::test]
async fn bad_values_are_refused() {
    let town = Town::default();
    let flag = |key: &str, value: &str| {
        let settings = Settings::none().flag(key, value).unwrap();
        town.service("a").settings(settings).serve(ShopServer::new(Corner::default()))
    };
    let shop = || town.service("a").serve(ShopServer::new(Corner::default()));
    let secs = Duration::from_secs;
    let cases = [
        (flag("name", "Shop"), "name \"Shop\" from flag --name is invalid", "a-z"),
        (shop().name("a b"), "name from code", "a-z"),
        (shop().version("one"), "version from code", "1.4.2"),
        (shop().id("a/b"), "node id \"a/b\"", "A-Z"),
        (flag("address", "nowhere"), "\"nowhere\" from flag --address", "port"),
        (
            flag("advertise", "0.0.0.0:7"),
            "advertise \"0.0.0.0:7\" from flag --advertise",
            "connect",
        ),
        (flag("register_ttl", "soon"), "\"soon\" from flag --register-ttl", "30s"),
        (
            shop().register_ttl(secs(5)).register_interval(secs(3)),
            "register_ttl 5s from code is less than twice register_interval 3s from code",
            "expected 6s or more",
        ),
        (
            flag("register_interval", "20s"),
            "register_ttl 30s from default",
            "flag --register-interval",
        ),
        (shop().register_interval(Duration::ZERO), "register_interval 0s from code", "more"),
        (shop().weight(10_001), "weight \"10001\"", "10000"),
        (flag("registry", "etcd://h:1"), "`etcd:` from flag --registry", "compiled in are"),
        (Service::new().settings(Settings::none()), "nothing to serve", ".serve("),
        (shop().serve(ShopServer::new(Corner::default())), "contract `shop`", "two handlers"),
    ];
    for (service, named, advised) in cases {
        let error = refusal(service).await;
        assert!(error.contains(named), "{error:?} does not name {named:?}");
        assert!(error.contains(advised), "{error:?} does not advise {advised:?}");
    }
}

/// The order of setters does not matter, and settings stand above them.
#[tokio::test]
async fn settings_stand_above_setters() {
    let town = Town::default();
    let settings = Settings::none().flag("name", "flag").unwrap();
    let service = Service::new()
        .serve(ShopServer::new(Corner::default()))
        .memory_network(town.network.clone())
        .settings(settings)
        .registry(town.registry.clone())
        .address("memory:x")
        .name("code");
    let running = registered(service).await;
    assert_eq!(running.registration().service, "flag");
}

/// A service without a name takes its only contract's.
#[tokio::test]
async fn the_contract_names_the_service() {
    let service = Service::new()
        .settings(Settings::none())
        .registry(MemoryRegistry::new())
        .serve(ShopServer::new(Corner::default()));
    let running = registered(service).await;
    assert_eq!(running.registration().service, "shop");
    assert!(running.registration().node.address.starts_with("127.0.0.1:"));
}

/// A client is built with the same care.
#[tokio::test]
async fn bad_clients_are_refused() {
    let client = || Client::connect().settings(Settings::none());
    let strategy = Settings::none().flag("selector", "ewwma").unwrap();
    for (builder, expected) in [
        (client().connections_per_node(0), "connections_per_node 0"),
        (client().timeout(Duration::ZERO), "timeout 0s"),
        (client().settings(strategy), "\"ewwma\" from flag --selector"),
    ] {
        let error = builder.await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}
