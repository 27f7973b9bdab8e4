//! What makes no sense is refused when a service or client is built, with advice.

use micro::registry::Registry;
use micro::rpc::Limits;

use super::*;
use crate::fragile::Fragile;
use crate::warnings::Warnings;

async fn refusal(service: Service) -> String {
    match service.start().await {
        Ok(_) => panic!("it started"),
        Err(error) => error.to_string(),
    }
}

/// A check refuses what a start would, in its words, and lets pass what is right; nothing begins.
#[tokio::test]
async fn a_check_is_a_start_that_begins_nothing() {
    let town = Town::default();
    let with = |ttl: &str| {
        let settings = Settings::none().flag("register_ttl", ttl).unwrap();
        let service = town.service("a").before_start(async || panic!("it begins"));
        service.settings(settings).serve(ShopServer::new(Corner::default()))
    };
    let error = with("soon").check().await.unwrap_err().to_string();
    assert_eq!(error, refusal(with("soon")).await);
    with("30s").check().await.unwrap();
    assert!(town.registry.list().await.unwrap().is_empty());
}

/// What is read and ignored is told by a start, though a check came before.
#[tokio::test]
async fn a_check_takes_no_warnings() {
    let town = Town::default();
    let variable = [("MICRO_NONSENSE".into(), "1".into())];
    let settings = Settings::from_parts(None, variable).unwrap();
    let shop = || town.service("a").serve(ShopServer::new(Corner::default()));
    let warnings = Warnings::new();
    shop().settings(settings.clone()).check().await.unwrap();
    assert_eq!(warnings.lines(), [""; 0]);
    let _shop = shop().settings(settings).start().await.unwrap();
    assert!(warnings.lines()[0].contains("MICRO_NONSENSE"), "{:?}", warnings.lines());
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
        (flag("name", "Shop"), "name \"Shop\" from flag --name", "expected 1 to 128 of a-z"),
        (shop().name("a b"), "name \"a b\" from code", "expected 1 to 128 of a-z"),
        (shop().version("one"), "version \"one\" from code", "expected `latest` or a semantic"),
        (shop().id("a/b"), "id \"a/b\" from code", "expected 1 to 96 of A-Z"),
        (flag("zone", "z 1"), "zone \"z 1\" from flag --zone", "expected 1 to 128 of A-Z"),
        (shop().zone("z 1"), "zone \"z 1\" from code", "expected 1 to 128 of A-Z"),
        (
            flag("address", "nowhere"),
            "address \"nowhere\" from flag --address",
            "expected host:port, [ipv6]:port, unix:/path or memory:name",
        ),
        (
            flag("advertise", "0.0.0.0:7"),
            "advertise \"0.0.0.0:7\" from flag --advertise",
            "expected an address others can connect to",
        ),
        (
            flag("register_ttl", "soon"),
            "register_ttl \"soon\" from flag --register-ttl",
            "expected a number and a unit (us, ms, s, m or h)",
        ),
        (
            flag("register_ttl", "9000h"),
            "register_ttl 32400000s from flag --register-ttl",
            "expected a year, 8760h, or less",
        ),
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
        (
            shop().register_interval(Duration::from_micros(99_999)),
            "register_interval 99.999ms from code",
            "expected 100ms or more",
        ),
        (
            flag("selector", "consistent-hash"),
            "selector consistent-hash from flag --selector",
            "expected hash_by with the metadata key",
        ),
        (flag("throttle", "1 over 1s"), "throttle \"1 over 1s\" from flag --throttle", "than 1"),
        (flag("selector", "ewwma"), "selector \"ewwma\" from flag --selector", "round-robin"),
        (
            flag("drain_delay", "-1s"),
            "drain_delay \"-1s\" from flag --drain-delay",
            "expected a number and a unit",
        ),
        (
            flag("drain_delay", "6m"),
            "drain_delay 360s from flag --drain-delay",
            "expected 5m or less",
        ),
        (
            flag("max_running", "0"),
            "max_running \"0\" from flag --max-running",
            "expected a number, 1 to 65536",
        ),
        (shop().drain_delay(secs(301)), "drain_delay 301s from code", "expected 5m or less"),
        (shop().register_interval(Duration::ZERO), "register_interval 0s from code", "100ms"),
        (
            flag("address", "unix:relative.sock"),
            "address \"unix:relative.sock\" from flag --address",
            "unix:/path",
        ),
        (flag("hosts", "a.example,"), "hosts \"a.example,\" from flag --hosts", "expected names"),
        (shop().hosts(["a.example:80"]), "hosts \"a.example:80\" from code", "without a port"),
        (flag("namespace", "No"), "namespace \"No\" from flag --namespace", "expected 1 to 128"),
        (shop().weight(10_001), "weight \"10001\"", "10000"),
        (flag("registry", "consul://h:1"), "`consul:` from flag --registry", "compiled in are"),
        (Service::new().settings(Settings::none()), "nothing to serve", ".serve("),
        (shop().serve(ShopServer::new(Corner::default())), "contract `shop`", "two handlers"),
    ];
    for (service, named, advised) in cases {
        let error = refusal(service).await;
        assert!(error.contains(named), "{error:?} does not name {named:?}");
        assert!(error.contains(advised), "{error:?} does not advise {advised:?}");
        assert!(error.matches(" is invalid").count() <= 1, "{error:?} repeats itself");
    }
}

/// An address that is taken is named with its origin, and what the system says once.
#[tokio::test]
async fn a_taken_address_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let settings = Settings::none().flag("address", &address).unwrap();
    let service = Service::new().registry(MemoryRegistry::new()).settings(settings);
    let error = service.serve(ShopServer::new(Corner::default())).start().await.unwrap_err();
    let expected = format!("cannot listen on address \"{address}\" from flag --address");
    assert_eq!(error.to_string(), expected);
    assert_eq!(format!("{error:?}").matches("in use").count(), 1, "{error:?}");
}

/// What surrounds a registry of one host says so itself, and the service keeps to the loopback;
/// one that reaches further is served on every interface.
#[tokio::test]
async fn a_registry_of_one_host_is_served_on_the_loopback() {
    for (is_one_host, expected) in [(true, true), (false, false)] {
        let mut registry = Fragile::default();
        registry.is_one_host = is_one_host;
        let service = Service::new().settings(Settings::none()).registry(registry);
        let running = registered(service.serve(ShopServer::new(Corner::default()))).await;
        let address = &running.registration().node.address;
        let port: u16 = address.rsplit_once(':').unwrap().1.parse().unwrap();
        // Only where every interface is bound does it answer on another address of the loopback.
        let elsewhere = tokio::net::TcpStream::connect(("127.0.0.2", port)).await;
        assert_eq!(elsewhere.is_err(), expected, "{address}: {elsewhere:?}");
    }
}

/// By which names browsers and proxies may call it is told in code, or better in the settings.
#[tokio::test(start_paused = true)]
async fn hosts_are_believed() {
    let town = Town::default();
    let flags = Settings::none().flag("hosts", "Flag.example, b.example").unwrap();
    let service = |id: &str| {
        town.service(id).serve(ShopServer::new(Corner::default())).hosts(["code.example"])
    };
    let _code = registered(service("a").hosts([String::from("more.example")])).await;
    let _flag = registered(service("b").settings(flags)).await;
    for (id, host, expected) in [
        ("a", "code.example", 200),
        ("a", "more.example:80", 200),
        ("a", "flag.example", 403),
        ("b", "flag.example", 200),
        ("b", "b.example", 200),
        ("b", "code.example", 403),
    ] {
        assert_eq!(town.http_as(id, host, "/health/live").await.0, expected, "{id} as {host}");
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

/// A service explains what code says, unless something above it does, and shows no password.
#[tokio::test]
async fn a_service_explains_itself() {
    let settings = Settings::none().flag("version", "2.0.0").unwrap();
    let settings = settings.flag("registry", "etcd://u:hunter2@h:1").unwrap();
    let service = Service::new()
        .settings(settings)
        .registry(MemoryRegistry::new())
        .version("1.0.0")
        .register_ttl(Duration::from_secs(60))
        .limits(Limits { max_running: 200, ..Limits::default() })
        .serve(ShopServer::new(Corner::default()));
    let text = service.explain().unwrap().to_string();
    let lines: Vec<_> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [
        "registry etcd://***@h:1 flag --registry",
        "name shop default",
        "version 2.0.0 flag --version",
        "register_ttl 60s code",
        "register_interval 10s default",
        "max_running 200 code",
        "max_queue_time 100ms default",
    ] {
        let words: Vec<_> = line.split(' ').collect();
        assert!(lines.contains(&words), "{line:?} is not in\n{text}");
    }
}

/// A variable nobody knows is warned of when something is built, which is when there is a log, and
/// once for all that have the same settings.
#[tokio::test(start_paused = true)]
async fn unknown_variables_are_warned_of_once() {
    let town = Town::default();
    let variable = [("MICRO_NAMSPACE".into(), "x".into())];
    let unheard = Warnings::new();
    let settings = Settings::from_parts(None, variable).unwrap();
    assert!(unheard.lines().is_empty(), "{:?}", unheard.lines());
    drop(unheard);

    let warnings = Warnings::new();
    let service = |id: &str| town.service(id).name(id).serve(ShopServer::new(Corner::default()));
    let group = micro::Group::new().settings(settings.clone());
    let group = group.service(service("a").settings(settings.clone())).service(service("b"));
    let _running = group.start().await.unwrap();
    Client::connect().registry(town.registry.clone()).settings(settings).await.unwrap();
    let warned = warnings.lines();
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert!(warned[0].contains("did you mean MICRO_NAMESPACE?"), "{warned:?}");
}

/// Services of one group and a client find each other in `memory:` if they have the same settings.
#[tokio::test]
async fn memory_is_one_registry_for_the_same_settings() {
    let settings = Settings::none().flag("registry", "memory:").unwrap();
    let shop = |name: &str| Service::new().name(name).serve(ShopServer::new(Corner::default()));
    let group = micro::Group::new().settings(settings.clone());
    let _running = group.service(shop("a")).service(shop("b")).start().await.unwrap();
    let client = Client::connect().settings(settings).wait_for_ready(true).await.unwrap();
    for name in ["a", "b"] {
        assert_eq!(ShopClient::named(&client, name).price("tea").await.unwrap(), 3);
    }
}
