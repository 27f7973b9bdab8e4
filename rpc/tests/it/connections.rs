//! More connections than a server has room for.

use std::collections::VecDeque;
use std::process::Command;
use std::time::Duration;

use micro_rpc::{Limits, MemoryNetwork, Server, ServerConfig, ServerHandle};
#[cfg(feature = "http")]
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::log::Log;
use crate::support::*;

/// Each of the two limits, at `places`.
fn limits(places: usize) -> [Limits; 2] {
    [
        Limits { max_connections: places, ..Limits::default() },
        Limits { max_connections_per_peer: places, ..Limits::default() },
    ]
}

/// A server on `memory:a`.
fn memory_server(network: &MemoryNetwork, limits: Limits) -> ServerHandle {
    let config = ServerConfig { limits, ..Default::default() };
    let server = Server::new(router(&Counts::default())).unwrap().config(config);
    server.start(vec![network.listen("a").unwrap()])
}

/// However many connections do nothing, others get through, health checks included; who is idle for
/// the longest is told to go, and the log hears of it once.
#[tokio::test]
async fn idle_connections_make_room() {
    for limits in limits(50) {
        let log = Log::new();
        let (server, _) = server_with(limits).await;
        let mut idle = Vec::new();
        for _ in 0..150 {
            idle.push(Raw::connect(&server).await);
        }
        assert_eq!(idle[0].frame().await, (GO_AWAY, 0, Vec::new()));
        assert!(idle[0].rest().await.is_empty());
        assert_works(&channel(&server)).await;
        let mut health = Raw::silent(&server).await;
        health.send(b"GET /health/live HTTP/1.0\r\n\r\n").await;
        assert!(health.rest().await.starts_with(b"HTTP/1.0 200"));
        assert_eq!(log.count("WARN message=all places for connections are taken"), 1);
        drop(idle);
        until("the end is told", || log.count("INFO message=there are places") == 1).await;
    }
}

/// A channel that had to make room calls again without noticing.
#[tokio::test]
async fn idle_channels_come_back() {
    for limits in limits(2) {
        let (server, _) = server_with(limits).await;
        let channel = channel(&server);
        assert_works(&channel).await;
        let _others = [Raw::connect(&server).await, Raw::connect(&server).await];
        until("it is told", || channel.is_draining()).await;
        assert_works(&channel).await;
    }
}

/// Connections of every protocol make room, and those that have not even chosen one.
#[tokio::test]
async fn every_protocol_makes_room() {
    for limits in limits(3) {
        let patient = Limits { stall_timeout: Duration::from_secs(3600), ..limits };
        let (server, _) = server_with(patient).await;
        let mut silent = Raw::silent(&server).await;
        let mut half_preface = Raw::silent(&server).await;
        half_preface.send(&PREFACE[..7]).await;
        let mut http = Raw::silent(&server).await;
        http.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        http.0.readable().await.unwrap();
        let newcomers = [channel(&server), channel(&server), channel(&server)];
        for channel in &newcomers {
            assert_works(channel).await;
        }
        for raw in [&mut silent, &mut half_preface, &mut http] {
            raw.rest().await;
        }
    }
}

/// Who loses a place and is owed answers at that moment has a second to read them; then the
/// connection is closed, and what waits is forgotten.
#[tokio::test(start_paused = true)]
async fn leaving_takes_a_moment() {
    let hour = Duration::from_secs(3600);
    let limits = Limits { max_connections: 1, stall_timeout: hour, ..Limits::default() };
    let network = MemoryNetwork::new();
    let _server = memory_server(&network, limits);
    let mut hoarder = Raw(network.connect("a").unwrap());
    hoarder.send(&PREFACE).await;
    hoarder.preface().await;
    // In this order the place is lost before the server looks at the calls.
    let mut newcomer = Raw(network.connect("a").unwrap());
    for id in 1..=3 {
        hoarder.send(&frame(REQUEST, 0, id, &payload("large", 0, b""))).await;
    }
    newcomer.send(&PREFACE).await;
    newcomer.preface().await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let rest = hoarder.rest().await;
    assert!((1..300_000).contains(&rest.len()), "{} bytes came", rest.len());
}

/// However many lose their place and do not go, few are open beside the places, and each was told,
/// also one that has no time at all.
#[tokio::test(start_paused = true)]
async fn few_leave_at_once() {
    let network = MemoryNetwork::new();
    let limits = Limits { max_connections: 16, ..Limits::default() };
    let _server = memory_server(&network, limits);
    let start = Instant::now();
    let mut flood = Vec::new();
    for _ in 0..100 {
        let mut raw = Raw(network.connect("a").unwrap());
        raw.send(&PREFACE).await;
        raw.preface().await;
        flood.push(raw);
    }
    // The server sees all of these before the others hear that they have to go.
    flood.extend((0..100).map(|_| Raw(network.connect("a").unwrap())));
    for gone in &mut flood[..100] {
        assert_eq!(gone.frame().await, (GO_AWAY, 0, Vec::new()));
    }
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    let mut open = 0;
    for raw in &mut flood {
        open += usize::from(raw.0.write_all(b"x").await.is_ok());
    }
    assert!((16..=16 + 2).contains(&open), "{open} are open");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

/// An HTTP client keeps its place from the head of its request on, while it sends the body.
#[cfg(feature = "http")]
#[tokio::test]
async fn uploads_stay() {
    for limits in limits(1) {
        let patient = Limits { stall_timeout: Duration::from_secs(3600), ..limits };
        let (server, _) = server_with(patient).await;
        let mut busy = Raw::silent(&server).await;
        let head = "POST /test/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n";
        busy.send(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes()).await;
        let mut going_on = [0; 25];
        busy.0.read_exact(&mut going_on).await.unwrap();
        assert_eq!(going_on, *b"HTTP/1.1 100 Continue\r\n\r\n");
        assert!(Raw::silent(&server).await.rest().await.is_empty());
        busy.send(b"{}").await;
        while busy.0.read_u8().await.unwrap() != b'}' {}
        assert_works(&channel(&server)).await;
        assert!(busy.rest().await.is_empty(), "it is idle now and made room");
    }
}

/// An HTTP client keeps its place until its answer is written, and no longer.
#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn answers_stay() {
    let network = MemoryNetwork::new();
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let _server = memory_server(&network, limits);
    let mut busy = Raw(network.connect("a").unwrap());
    busy.send(b"POST /test/large HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(busy.0.read_u8().await.unwrap(), b'H', "the answer comes");
    assert!(Raw(network.connect("a").unwrap()).rest().await.is_empty());
    let mut answer = vec![0; 100_000];
    busy.0.read_exact(&mut answer).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut newcomer = Raw(network.connect("a").unwrap());
    newcomer.send(b"GET /health/live HTTP/1.0\r\n\r\n").await;
    assert!(newcomer.rest().await.starts_with(b"HTTP/1.0 200"));
    assert!(busy.rest().await.len() < 1000, "it made room, after the head and 100 kB");
}

/// A connection whose calls run keeps its place; when all are such, a newcomer is closed until one
/// is free.
#[tokio::test]
async fn busy_connections_stay() {
    for limits in limits(1) {
        let (server, counts) = server_with(limits).await;
        let mut busy = Raw::connect(&server).await;
        busy.send(&frame(REQUEST, 0, 1, &payload("hang", 0, b""))).await;
        until("it runs", || server.in_flight() == 1).await;
        assert!(Raw::silent(&server).await.rest().await.is_empty());
        busy.send(&frame(PING, 0, 1, b"")).await;
        assert_eq!(busy.frame().await.0, PONG);
        assert_eq!((counts.begun(), counts.over()), (1, 0));
        busy.send(&frame(CANCEL, 0, 1, b"")).await;
        until("it does not run", || server.in_flight() == 0).await;
        assert_works(&channel(&server)).await;
    }
}

/// Thousands of connections from one address, with and without a preface, cost the server no more
/// than its limits, and somebody who calls notices nothing.
#[tokio::test]
async fn thousands_of_connections() {
    let (server, _) = server_with(Limits { max_connections: 100, ..Limits::default() }).await;
    let channel = channel(&server);
    assert_works(&channel).await;
    let mut flood = VecDeque::new();
    for number in 0..5000 {
        // Many a process may open 1 024 files and no more.
        if flood.len() == 300 {
            flood.pop_front();
        }
        let mut raw = Raw::silent(&server).await;
        if number % 2 == 0 {
            raw.send(&PREFACE).await;
        }
        flood.push_back(raw);
        if number % 20 == 0 {
            assert_works(&channel).await;
        }
    }
    assert_works(&channel).await;
    let mut health = Raw::silent(&server).await;
    health.send(b"GET /health/live HTTP/1.0\r\n\r\n").await;
    assert!(health.rest().await.starts_with(b"HTTP/1.0 200"));
}

/// A process without file descriptors says so once, and once that it has some again; connections
/// that were open work meanwhile.
#[test]
fn descriptors_run_out() {
    let this = std::env::current_exe().unwrap();
    let script = format!(
        "ulimit -n 40 && exec '{}' --exact connections::with_few_descriptors --ignored",
        this.display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The part of [`descriptors_run_out`] that is in a process of its own.
#[tokio::test]
#[ignore = "takes all file descriptors of its process"]
async fn with_few_descriptors() {
    let log = Log::new();
    let (server, _) = server().await;
    let channel = channel(&server);
    assert_works(&channel).await;
    for round in 1..=2 {
        let mut taken = Vec::new();
        while let Ok(stream) = TcpStream::connect(server.addresses()[0].to_string()).await {
            taken.push(stream);
        }
        until("it fails", || log.count("WARN message=cannot accept connections") > 0).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_works(&channel).await;
        drop(taken);
        let reached = Raw::connect(&server).await;
        drop(reached);
        assert_eq!(log.count("cannot accept connections"), 1, "round {round}");
        assert_eq!(log.count("INFO message=connections can be accepted again"), 1);
    }
}
