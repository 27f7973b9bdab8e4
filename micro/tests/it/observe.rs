//! What services and clients tell of themselves: figures, `/info` and `/config`.

use std::collections::BTreeMap;

use micro::rpc::Peer;
use serde_json::Value;

use super::*;

/// The samples of a text of metrics, by name and labels.
fn samples(text: &str) -> BTreeMap<&str, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &'static str| line.rsplit_once(' ').unwrap();
    let lines = lines.map(|line| sample(Box::leak(line.to_owned().into_boxed_str())));
    lines.map(|(series, value)| (series, value.parse().unwrap())).collect()
}

/// How many calls of a method ended so, on one side.
fn count(text: &str, side: &str, labels: &str) -> f64 {
    let series =
        format!("rpc_{side}_call_duration_seconds_count{{rpc_system_name=\"micro\",{labels}}}");
    samples(text).get(&*series).copied().unwrap_or(0.0)
}

/// Calls are in the figures of the service and of the client that made them, by method and by how
/// they ended, with what else is known; a scrape changes nothing but what happened.
#[tokio::test(start_paused = true)]
async fn calls_are_shown_on_both_sides() {
    let town = Town::default();
    let (served, _) = town.open("a").await;
    let client = town.client().await;
    let shop = ShopClient::new(&client);
    for thing in ["tea", "tea", "gold"] {
        let _ = shop.price(thing).await;
    }
    shop.wait(30).timeout(Duration::from_millis(20)).await.unwrap_err();
    shop.panic().await.unwrap_err();
    let (server, ours) = (town.http("a", "/metrics").await, client.metrics());
    assert_eq!(server.0, 200);
    for (method, code, calls) in [("price", "ok", 2.0), ("price", "not_found", 1.0)] {
        let method = format!("rpc_method=\"shop/{method}\",rpc_response_status_code=\"{code}\"");
        assert_eq!(count(&server.1, "server", &method), calls, "{method}: {}", server.1);
        // What a caller did wrong is no failure of its server.
        let failed = if code == "ok" { "" } else { ",error_type=\"not_found\"" };
        let called = format!("server_address=\"shop\",{method}{failed}");
        assert_eq!(count(&ours, "client", &called), calls, "{method}: {ours}");
    }
    let panicked =
        "rpc_method=\"shop/panic\",rpc_response_status_code=\"internal\",error_type=\"internal\"";
    assert_eq!(count(&server.1, "server", panicked), 1.0, "{}", server.1);
    let late = "server_address=\"shop\",rpc_method=\"shop/wait\",rpc_response_status_code=\"deadline_exceeded\",error_type=\"deadline_exceeded\"";
    assert_eq!(count(&ours, "client", late), 1.0, "{ours}");
    let (server, ours) = (samples(&server.1), samples(&ours));
    for (series, value) in [
        ("micro_service_info{service=\"shop\",version=\"latest\",node=\"a\"}", 1.0),
        ("micro_healthy", 1.0),
        ("micro_registered", 1.0),
        ("micro_server_calls_shed_total", 0.0),
    ] {
        assert_eq!(server.get(series), Some(&value), "{series}");
    }
    for (series, value) in [
        ("micro_client_attempts_total{service=\"shop\"}", 5.0),
        ("micro_client_retries_total{service=\"shop\"}", 0.0),
        ("micro_client_nodes{service=\"shop\"}", 1.0),
        ("micro_client_connections{service=\"shop\"}", 1.0),
        ("micro_client_attempts_in_flight{service=\"shop\"}", 0.0),
        ("micro_client_registry_answered{service=\"shop\"}", 1.0),
        ("micro_client_registry_stale{service=\"shop\"}", 0.0),
    ] {
        assert_eq!(ours.get(series), Some(&value), "{series}");
    }
    assert_eq!(served.metrics(), served.metrics());
}

/// Retries, and nodes that cannot be had, are in the figures of the client.
#[tokio::test(start_paused = true)]
async fn retries_are_shown() {
    let net = micro::test::Net::new();
    let first = net.serve("shop", ShopServer::new(Corner::default())).await.unwrap();
    let _second = net.serve("shop", ShopServer::new(Corner::default())).await.unwrap();
    let client = net.client();
    let shop = ShopClient::new(&client);
    first.kill();
    for _ in 0..20 {
        shop.price("tea").await.unwrap();
    }
    net.registry_down();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let text = client.metrics();
    let samples = samples(&text);
    let (attempts, retries) = (
        samples["micro_client_attempts_total{service=\"shop\"}"],
        samples["micro_client_retries_total{service=\"shop\"}"],
    );
    assert!(retries >= 1.0 && attempts == 20.0 + retries, "{text}");
    assert_eq!(samples["micro_client_registry_stale{service=\"shop\"}"], 1.0, "{text}");
}

/// A service shows its own clients and those it is told of, each once, and keeps none.
#[tokio::test(start_paused = true)]
async fn clients_are_shown_by_their_service() {
    let town = Town::default();
    let told = town.client().await;
    let service = town.service("a").metrics_of(&told).metrics_of(&told);
    let running = registered(service.serve(ShopServer::new(Corner::default()))).await;
    let own = running.client().unwrap();
    ShopClient::new(&told).price("tea").await.unwrap();
    ShopClient::new(&own).price("tea").await.unwrap();
    let labels =
        "server_address=\"shop\",rpc_method=\"shop/price\",rpc_response_status_code=\"ok\"";
    let text = running.metrics();
    assert_eq!(count(&text, "client", labels), 2.0, "{text}");
    drop(own);
    assert_eq!(count(&running.metrics(), "client", labels), 1.0);
    drop(told);
    assert!(!running.metrics().contains("rpc_client"));
}

/// What a service is, whether it is ready and whom it calls is told to its own host.
#[tokio::test(start_paused = true)]
async fn info_tells_who_is_there() {
    let town = Town::default();
    let (running, _) = town.open("a").await;
    let client = running.client().unwrap();
    ShopClient::new(&client).price("tea").await.unwrap();
    let (status, body) = town.http("a", "/info").await;
    let info: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &info["service"], &info["node"]), (200, &"shop".into(), &"a".into()));
    assert_eq!((&info["is_ready"], &info["registered"]), (&true.into(), &"yes".into()));
    let called = &info["calls"][0];
    assert_eq!((&called["service"], &called["nodes"][0]["node"]), (&"shop".into(), &"a".into()));
}

/// Every setting is told with its origin to callers on the same host, no password in it; others are
/// refused, as they are a look at whom it calls, but may see the figures.
#[tokio::test]
async fn what_is_configured_is_for_the_own_host() {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    use tower::ServiceExt;

    let registry = MemoryRegistry::new();
    let settings = Settings::none().flag("zone", "z1").unwrap();
    let settings = settings.flag("filter", "label.owner=ann@example").unwrap();
    let service = Service::new().settings(settings).registry(registry).zone("z0");
    let running = service.serve(ShopServer::new(Corner::default())).start().await.unwrap();
    let ask = async |path: &str, peer: &str| {
        let body = Full::new(Bytes::new());
        let request = http::Request::get(path).extension(Peer::Tcp(peer.parse().unwrap()));
        let answer = running.http().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.unwrap().to_bytes())
    };
    let (near, far) = ("127.0.0.1:9", "10.1.1.1:9");
    let (status, body) = ask("/config", near).await;
    assert_eq!(status, 200);
    let rows: Vec<Value> = serde_json::from_slice(&body).unwrap();
    let zone = rows.iter().find(|row| row["key"] == "zone").unwrap();
    assert_eq!((&zone["value"], &zone["origin"]), (&"z1".into(), &"flag --zone".into()));
    let filter = rows.iter().find(|row| row["key"] == "filter").unwrap();
    assert_eq!(filter["value"], "***");
    for (path, status) in [("/config", 403), ("/info", 403), ("/metrics", 200)] {
        assert_eq!(ask(path, far).await.0, status, "{path}");
    }
}

/// Everybody may know that a service is not registered; what the registry says of it, in which hosts
/// and paths may be named, is for its own host.
#[tokio::test(start_paused = true)]
async fn what_a_registry_says_is_for_the_own_host() {
    let town = Town::default();
    let registry = super::fragile::Fragile::around(&town.registry);
    registry.fail(true);
    let service = town.service("a").registry(registry).serve(ShopServer::new(Corner::default()));
    let running = service.start().await.unwrap();
    let is_retrying =
        |state: &micro::Registered| matches!(state, micro::Registered::Retrying { .. });
    running.registered().wait_for(is_retrying).await.unwrap();
    let (status, body) = town.http("a", "/health/ready").await;
    assert_eq!((status, body.trim_end()), (503, "not registered yet"));
    let (_, info) = town.http("a", "/info").await;
    assert!(info.contains("the disk is full"), "{info}");
}
