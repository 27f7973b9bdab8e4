//! The shop as processes, as browsers and as services see it.

use std::ffi::OsStr;
use std::net::SocketAddr;

use axum_shop::{CatalogueClient, Offer};
use micro::{Client, Settings};
use rustix::process::Signal;
use testbed::{PATIENCE, Process, Scene, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SHOP: &str = env!("CARGO_BIN_EXE_axum-shop");

/// The web shop, and where it is.
async fn web(scene: &Scene) -> (Process, SocketAddr) {
    web_with(scene, "1s").await
}

/// The same with another time for which it still serves when it stops.
async fn web_with(scene: &Scene, drain_delay: &str) -> (Process, SocketAddr) {
    let listen = ["web", "--listen", "127.0.0.1:0", "--host", "shop.example"];
    let url = scene.url();
    let environment = [("MICRO_REGISTRY", url), ("MICRO_DRAIN_DELAY", drain_delay)];
    let environment = environment.map(|(variable, value)| (variable, OsStr::new(value)));
    let web = scene.run_with(SHOP, "web", &listen, &environment);
    let address = async || web.stdout().lines().next()?.strip_prefix("http://")?.parse().ok();
    let address = eventually("the shop is open", address).await;
    (web, address)
}

/// Sends a request as a page of the shop does, and returns status and body.
async fn send(web: SocketAddr, first: &str, origin: &str, body: &str) -> (String, String) {
    let length = body.len();
    let request = format!(
        "{first} HTTP/1.1\r\nHost: shop.example\r\nOrigin: {origin}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("it speaks HTTP");
    (head[9..12].to_owned(), body.to_owned())
}

/// Waits until the service among its pages is registered.
async fn registered(web: SocketAddr) {
    let ready = async || {
        let (status, _) = send(web, "GET /api/health/ready", OWN, "").await;
        (status == "200").then_some(())
    };
    eventually("it is registered", ready).await;
}

const OWN: &str = "https://shop.example";

/// The page and the contract are at one address, the contract on a port of its own besides, and
/// all of them have the price from the other service.
#[tokio::test]
async fn pages_and_contract() {
    let scene = Scene::new();
    let _prices = scene.run(SHOP, "prices", &["prices"]);
    let (process, web) = web(&scene).await;

    let (status, page) = send(web, "GET /", OWN, "").await;
    assert!(status == "200" && page.contains("tea: 350 cents"), "{status} {page}");

    let offer = "POST /api/catalogue/offer";
    let (status, body) = send(web, offer, OWN, r#"{"thing":"tea"}"#).await;
    assert_eq!((&*status, &*body), ("200", r#"{"thing":"tea","cents":350}"#));
    let peer = async || process.stderr().contains("\"peer\":\"Some(Tcp(127.0.0.1:").then_some(());
    eventually("the contract knows who called", peer).await;
    let (status, body) = send(web, offer, OWN, r#"{"thing":"gold"}"#).await;
    assert!(status == "404" && body.contains("gold is not sold"), "{status} {body}");
    let (status, _) = send(web, offer, "https://evil.example", r#"{"thing":"tea"}"#).await;
    assert_eq!(status, "403");
    let (status, _) = send(web, "GET /api/health/ready", OWN, "").await;
    assert_eq!(status, "200");

    let settings = Settings::none().flag("registry", scene.url()).expect("a key there is");
    let client = Client::connect().settings(settings).wait_for_ready(true).timeout(PATIENCE);
    let client = client.await.expect("nothing about it is wrong");
    let offer = CatalogueClient::new(&client).offer("tea").await.expect("it is sold");
    assert_eq!(offer, Offer { thing: "tea".to_owned(), cents: 350 });
}

/// One signal stops service and pages, in good order.
#[tokio::test]
async fn stops_as_one() {
    let scene = Scene::new();
    let (mut process, web) = web(&scene).await;
    registered(web).await;
    process.signal(Signal::TERM);
    assert!(process.ended().await.success());
    assert!(!process.stderr().contains("ERROR"), "{}", process.stderr());
}

/// A second signal ends it at once, with an exit code that says so.
#[tokio::test]
async fn a_second_signal_is_a_failure() {
    let scene = Scene::new();
    let (mut process, web) = web_with(&scene, "1m").await;
    registered(web).await;
    process.signal(Signal::TERM);
    let is_stopping = async || process.stderr().contains("stopping").then_some(());
    eventually("the first is heard", is_stopping).await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(1), "{}", process.stderr());
    assert!(process.stderr().contains("by a second signal"), "{}", process.stderr());
}

/// A browser that never ends its request does not hold the process, which says that it was forced.
#[tokio::test]
async fn an_open_connection_holds_it_for_a_while_only() {
    let scene = Scene::new();
    let (mut process, web) = web(&scene).await;
    let mut stream = TcpStream::connect(web).await.expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: ").await.expect("it reads");
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await.code(), Some(1), "{}", process.stderr());
    assert!(process.stderr().contains("forced to end"), "{}", process.stderr());
}
