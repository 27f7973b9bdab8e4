//! How a gateway starts and ends, and what it does without a registry.

use super::*;
use micro_gateway::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Other hosts reach it only when that was said.
#[tokio::test]
async fn it_is_for_this_host_unless_told_otherwise() {
    let town = Town::default();
    let everywhere = |config: &mut Config| config.listen.set_ip([0, 0, 0, 0].into());
    let error = serve(config(everywhere), town.client().await).await.unwrap_err();
    assert!(matches!(&error, Error::Invalid(invalid) if invalid.field() == "listen"), "{error}");
    let told = |config: &mut Config| {
        everywhere(config);
        config.remote = true;
    };
    let gateway = serve(config(told), town.client().await).await.unwrap();
    assert!(gateway.address().ip().is_unspecified());
}

/// An address that is taken is an error that names it.
#[tokio::test]
async fn an_address_that_is_taken() {
    let town = Town::default();
    let first = town.gateway().await;
    let same = |config: &mut Config| config.listen = first.address();
    let error = serve(config(same), town.client().await).await.unwrap_err().to_string();
    assert_eq!(error, format!("cannot listen on {}", first.address()));
}

/// While the registry says nothing it is not ready, and a call waits as long as it may; then it goes
/// on.
#[tokio::test]
async fn calls_wait_for_the_registry() {
    let town = Town::default();
    let _shop = town.open("a").await;
    town.registry.interrupt("the test says so");
    let gateway = serve(config(|_| ()), town.client().await).await.unwrap();
    assert_eq!(get(&gateway, "/health/live").await.status, 200);
    assert_eq!(get(&gateway, "/health/ready").await.status, 503);
    let tea = Asked::post("/shop/price", r#"{"thing":"tea"}"#);
    let late = tea.clone().with("micro-timeout", "50ms").of(gateway.address()).await;
    assert_eq!((late.status, &*late.code()), (504, "deadline_exceeded"));
    let waits = tea.with("micro-timeout", "60s");
    let (answer, ()) = tokio::join!(waits.of(gateway.address()), async { town.registry.restore() });
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// A call ends with its deadline although its body, for which it waited, came late, and has no more
/// time than any call may have.
#[tokio::test]
async fn the_deadline_is_that_of_the_request() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    let asked = Asked::post("/shop/price", r#"{"thing":"tea"}"#).with("micro-timeout", "100ms");
    let asked = asked.to_text();
    let (head, body) = asked.split_at(asked.find('{').unwrap());
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 504"), "{answer}");

    let short = |config: &mut Config| {
        (config.timeout, config.max_timeout) =
            (Duration::from_millis(100), Duration::from_millis(100));
    };
    let gateway = town.gateway_with(short).await;
    let waits = Asked::post("/shop/wait", r#"{"millis":60000}"#).with("micro-timeout", "60s");
    assert_eq!(waits.of(gateway.address()).await.status, 504);
}

/// When it stops, what runs is answered, and connections on which nothing is asked are closed.
#[tokio::test]
async fn what_runs_is_answered() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    let address = gateway.address();
    let mut idle = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    let asked = Asked::post("/shop/wait", r#"{"millis":300}"#).to_text();
    busy.write_all(asked.as_bytes()).await.unwrap();
    // It was let in once something that came later is answered.
    assert_eq!(get(&gateway, "/health/live").await.status, 200);
    let mut answer = String::new();
    let end = async { tokio::join!(busy.read_to_string(&mut answer), gateway.shutdown()) };
    let (read, ()) = tokio::time::timeout(testbed::PATIENCE, end).await.expect("it ends");
    read.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("300"), "{answer}");
    assert_eq!(idle.read(&mut [0]).await.unwrap(), 0);
    assert!(TcpStream::connect(address).await.is_err());
}

/// When it stops, who keeps a connection is answered, told that it is the last answer, and let go at
/// once: nobody waits until it has rested long enough.
#[tokio::test]
async fn kept_connections_end() {
    let town = Town::default();
    let shop = town.open("a").await;
    let gateway = town.gateway_with(|config| config.stall_timeout = HOUR).await;
    let mut kept = TcpStream::connect(gateway.address()).await.unwrap();
    let mut asked = Asked::post("/shop/wait", r#"{"millis":300}"#).to_text();
    asked = asked.replace("connection: close\r\n", "");
    kept.write_all(asked.as_bytes()).await.unwrap();
    running(&shop, 1).await;
    let mut answer = String::new();
    let end = async { tokio::join!(kept.read_to_string(&mut answer), gateway.shutdown()) };
    let (read, ()) = tokio::time::timeout(testbed::PATIENCE, end).await.expect("it ends");
    read.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("300"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// Who rests gives his place to who comes, the one who rests longest first, and only when there is no
/// other; who is answered piece by piece keeps his.
#[tokio::test]
async fn who_rests_makes_room() {
    let town = Town::default();
    let gateway = town.gateway_with(|config| config.max_connections = 3).await;
    let mut listens = TcpStream::connect(gateway.address()).await.unwrap();
    listens.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    listens.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    let mut rests = Vec::new();
    for _ in 0..2 {
        let mut kept = http::Kept::to(gateway.address()).await;
        kept.get("/health/live").await;
        rests.push(kept);
    }
    let soon = tokio::time::timeout(testbed::PATIENCE, get(&gateway, "/health/live"));
    assert_eq!(soon.await.expect("there is room soon").status, 200);
    assert!(rests.remove(0).has_ended().await);
    assert_eq!(rests[0].get("/health/live").await.0, 200);
    let _shop = town.open("a").await;
    let mut told = String::new();
    while !told.contains("joined") {
        let mut some = [0; 4096];
        let count = listens.read(&mut some).await.unwrap();
        assert!(count > 0, "the events ended: {told}");
        told.push_str(&String::from_utf8_lossy(&some[..count]));
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

/// A caller that leaves gives its call up: the node that runs it ends it.
#[tokio::test]
async fn who_leaves_cancels() {
    let town = Town::default();
    let shop = town.open("a").await;
    let gateway = town.gateway().await;
    let mut leaves = TcpStream::connect(gateway.address()).await.unwrap();
    let asked = Asked::post("/shop/wait", r#"{"millis":3600000}"#).with("micro-timeout", "3600s");
    leaves.write_all(asked.to_text().as_bytes()).await.unwrap();
    running(&shop, 1).await;
    drop(leaves);
    running(&shop, 0).await;
    let figures = shop.metrics();
    let cancelled = figures.lines().any(|line| {
        line.starts_with("rpc_server_call_duration_seconds_count{")
            && line.contains(r#"rpc_response_status_code="cancelled""#)
            && line.ends_with(" 1")
    });
    assert!(cancelled, "{figures}");
}

/// Waits until the service runs so many calls.
async fn running(shop: &RunningService, count: usize) {
    let line = format!("micro_server_calls_running {count}\n");
    let runs = async || shop.metrics().contains(&line).then_some(());
    testbed::eventually("so many calls run", runs).await;
}

/// A client that asks a lot and reads nothing.
async fn deaf(gateway: &Gateway) -> TcpStream {
    let mut deaf = TcpStream::connect(gateway.address()).await.unwrap();
    let asked = "GET /page.js HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(PAGES);
    deaf.write_all(asked.as_bytes()).await.unwrap();
    deaf
}

/// So many that they fit into no socket's buffers.
const PAGES: usize = 3_000;

fn hasty(config: &mut Config) {
    config.stall_timeout = Duration::from_millis(300);
}

/// Who does not read its answers is dropped, and its place is free again.
#[tokio::test]
async fn who_does_not_read() {
    let gateway = Town::default().gateway_with(hasty).await;
    let page = get(&gateway, "/page.js").await.body.len();
    let mut deaf = deaf(&gateway).await;
    let is_gone = async || {
        let figures = get(&gateway, "/metrics").await.body;
        figures.contains("\nmicro_gateway_connections 1\n").then_some(())
    };
    testbed::eventually("its place is free", is_gone).await;
    let mut answers = Vec::new();
    // It may end with an error, for what was sent is not all read.
    let _ = deaf.read_to_end(&mut answers).await;
    assert!(answers.len() < PAGES * page, "it was not dropped, but answered");
}

/// Who does not read keeps no gateway from its end.
#[tokio::test]
async fn who_does_not_read_delays_no_end() {
    let gateway = Town::default().gateway_with(hasty).await;
    let _deaf = deaf(&gateway).await;
    // It was let in once something that came later is answered.
    assert_eq!(get(&gateway, "/health/live").await.status, 200);
    tokio::time::timeout(testbed::PATIENCE, gateway.shutdown()).await.expect("it ends");
}

/// Who reads slowly has as long as a stall once the gateway stops, whatever there is to read.
#[tokio::test]
async fn who_reads_slowly_delays_no_end() {
    const LONG: usize = 3_900_000;
    let town = Town::default();
    let shop = town.service("a").serve(ShopServer::new(Corner("a".into())));
    let _shop = registered(shop).await;
    let change = |config: &mut Config| {
        hasty(config);
        config.max_body = Config::default().max_body;
    };
    let gateway = town.gateway_with(change).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    let mut slow = socket.connect(gateway.address()).await.unwrap();
    let body = format!(r#"{{"words":["{}"]}}"#, "x".repeat(LONG));
    slow.write_all(Asked::post("/shop/find", &body).to_text().as_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut read = slow.read(&mut buffer).await.unwrap();
    assert!(buffer.starts_with(b"HTTP/1.1 200"));
    let reading = async {
        while let Ok(count @ 1..) = slow.read(&mut buffer).await {
            read += count;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let end = async { tokio::join!(reading, gateway.shutdown()) };
    tokio::time::timeout(testbed::PATIENCE, end).await.expect("it ends");
    assert!(read < LONG, "it could read as long as it liked");
}

/// A registry that is down takes nothing away from those who call.
#[tokio::test]
async fn a_registry_that_is_down() {
    let town = Town::default();
    let _shop = town.open("a").await;
    let gateway = town.gateway().await;
    let tea = r#"{"thing":"tea"}"#;
    assert_eq!(post(&gateway, "/shop/price", tea).await.status, 200);
    town.registry.interrupt("the test says so");
    assert_eq!(post(&gateway, "/shop/price", tea).await.status, 200);
    assert_eq!(get(&gateway, "/health/ready").await.status, 200);
}
