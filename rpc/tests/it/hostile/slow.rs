//! Clients that stop in the middle, drip, or do not read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use micro_rpc::{
    Limits, MemoryNetwork, MemoryStream, Request, Response, Router, Server, ServerConfig,
};
#[cfg(feature = "http")]
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use crate::support::*;

/// While answers wait for a client that does not read, no further request of it is looked at, not
/// even one that was read already.
#[tokio::test]
async fn answers_do_not_pile_up() {
    const CALLS: u64 = 200;
    let network = MemoryNetwork::new();
    let run = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&run);
    let router = Router::new().route("test", "large", move |request: Request| {
        count.fetch_add(1, Ordering::SeqCst);
        async move { Ok(Response::new(request.codec, vec![0; 100_000].into())) }
    });
    // More of them run at once only if the machine is so busy that they seem to compute.
    let limits = Limits { max_in_flight: 8, ..Limits::default() };
    let config = ServerConfig { limits, ..ServerConfig::default() };
    let server = Server::new(router).unwrap().config(config);
    let _server = server.start(vec![network.listen("node").unwrap()]);
    let mut raw = Raw(network.connect("node").unwrap());
    let calls = (1..=CALLS).flat_map(|id| frame(REQUEST, 0, id, &payload("large", 0, b"")));
    raw.send(&[PREFACE.to_vec(), calls.collect()].concat()).await;
    until("the outbox fills", || run.load(Ordering::SeqCst) >= 8).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let begun = run.load(Ordering::SeqCst);
    assert!(begun < 30, "{begun} answers of 100 kB wait for a client that takes 1 MiB");
    raw.preface().await;
    let mut answered = BTreeSet::new();
    while answered.len() < CALLS as usize {
        assert!(answered.insert(raw.frame().await.1), "each is answered once");
    }
}

/// A peer that stops in the middle, or never begins, or never reads, is dropped.
#[tokio::test]
async fn stalled_peers() {
    let stall_timeout = Duration::from_millis(50);
    let (server, _) = server_with(Limits { stall_timeout, ..Limits::default() }).await;
    let mut nothing = Raw::silent(&server).await;
    let mut half_preface = Raw::silent(&server).await;
    half_preface.send(&PREFACE[..9]).await;
    let mut half_frame = Raw::connect(&server).await;
    half_frame.send(&frame(REQUEST, 0, 1, &payload("echo", 0, b"x"))[..20]).await;
    for raw in [&mut nothing, &mut half_preface, &mut half_frame] {
        raw.rest().await;
    }
    let mut never_reads = Raw::connect(&server).await;
    let flood = async {
        for id in 1.. {
            let request = frame(REQUEST, 0, id, &payload("echo", 0, &[0; 100_000]));
            if never_reads.0.write_all(&request).await.is_err() {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), flood).await.expect("the server gives up");
    let mut idle = Raw::connect(&server).await;
    tokio::time::sleep(4 * stall_timeout).await;
    idle.send(&frame(PING, 0, 1, b"")).await;
    assert_eq!(idle.frame().await.0, PONG, "an idle peer owes nothing");
}

/// An answer over HTTP that is read drop by drop is given up, by the rule of `micro/1`: 64 KiB in
/// each stall timeout. One that is read slowly, though faster than that, arrives.
#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn dripping_readers_of_http() {
    const LENGTH: usize = 1_000_000;
    let network = MemoryNetwork::new();
    let server = Server::new(router(&Counts::default())).unwrap();
    let _server = server.start(vec![network.listen("node").unwrap()]);
    let head = format!(
        "POST /test/echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {LENGTH}\r\n\r\n"
    );
    for (bytes_per_second, arrives) in [(3000, false), (30_000, true)] {
        let mut raw = Raw(network.connect("node").unwrap());
        raw.send(&[head.as_bytes(), &[b'x'; LENGTH]].concat()).await;
        let (mut taken, mut read) = (vec![0; bytes_per_second], 0);
        loop {
            match raw.0.read(&mut taken).await.unwrap() {
                0 => break,
                count => read += count,
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(read > LENGTH, arrives, "{read} bytes, {bytes_per_second} in a second");
    }
}

/// Who had the server wait once is not held to it when the next answer has to wait, much later.
#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn pauses_between_answers_of_http() {
    const LENGTH: usize = 100_000;
    let network = MemoryNetwork::new();
    let server = Server::new(router(&Counts::default())).unwrap();
    let _server = server.start(vec![network.listen("node").unwrap()]);
    let mut raw = Raw(network.connect("node").unwrap());
    let call = b"POST /test/large HTTP/1.1\r\nHost: localhost\r\n\r\n";
    raw.send(call).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // What is left fits on the way, so the server has nothing to wait for any more.
    let mut answers = vec![0; 40_000];
    raw.0.read_exact(&mut answers).await.unwrap();
    // Longer than the stall timeout, together with the wait above, and shorter than a head may take.
    tokio::time::sleep(Duration::from_millis(9_900)).await;
    raw.send(call).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    answers.resize(2 * LENGTH - 40_000, 0);
    raw.0.read_exact(&mut answers).await.expect("it is not given up");
}

/// Who calls over HTTP may rest between calls for longer than proxies keep connections, though not for
/// ever, and not in the middle of a head, be it the first or a later one.
#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn pauses_between_calls_of_http() {
    let network = MemoryNetwork::new();
    let server = Server::new(router(&Counts::default())).unwrap();
    let _server = server.start(vec![network.listen("node").unwrap()]);
    let call = async |raw: &mut Raw<MemoryStream>| {
        raw.send(b"POST /test/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}")
            .await;
        let mut answer = Vec::new();
        while !answer.ends_with(b"{}") {
            answer.push(raw.0.read_u8().await.expect("it is answered"));
        }
    };
    let connect = || Raw(network.connect("node").unwrap());
    let mut rests = connect();
    for _ in 0..3 {
        call(&mut rests).await;
        tokio::time::sleep(Duration::from_secs(80)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    rests.rest().await;
    let mut stops = connect();
    call(&mut stops).await;
    stops.send(b"POST /test/ec").await;
    stops.rest().await;
    let mut stops = connect();
    stops.send(b"POST /test/ec").await;
    stops.rest().await;
}

/// A frame that comes drop by drop is given up, however steadily it drips; calls that flow are not.
#[tokio::test]
async fn dripping_peers() {
    let stall_timeout = Duration::from_millis(100);
    let (server, _) = server_with(Limits { stall_timeout, ..Limits::default() }).await;
    let mut raw = Raw::connect(&server).await;
    let call = frame(REQUEST, 0, 1, &payload("echo", 0, &[b'x'; 1_000_000]));
    raw.send(&call[..100]).await;
    let dripping = async {
        for drop in call[100..].chunks(1) {
            if raw.0.write_all(drop).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let channel = channel(&server);
    let bystander = async {
        loop {
            assert_works(&channel).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        () = dripping => {}
        () = bystander => {}
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it drips still"),
    }
}
