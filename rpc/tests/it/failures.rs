//! Nodes that are away, hang or die: what a caller may conclude from it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use micro_rpc::{Channel, ChannelConfig, Code, Execution, Listener, MemoryNetwork, Phase, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::support::*;

fn impatient(address: String) -> Channel {
    let config = ChannelConfig {
        connect_timeout: Duration::from_secs(1),
        keepalive_interval: Duration::from_millis(20),
        keepalive_timeout: Duration::from_millis(50),
        ..Default::default()
    };
    Channel::new(address.parse().unwrap(), config)
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A refused connection is "not sent", and until the next try calls fail at once and say when.
#[tokio::test]
async fn refused_connection() {
    let (listener, address) = listener().await;
    drop(listener);
    let channel = impatient(address.clone());
    let first = call(&channel, "echo").await.unwrap_err();
    let second = call(&channel, "echo").await.unwrap_err();
    for error in [&first, &second] {
        assert_eq!((error.code(), error.phase()), (Code::Unavailable, Phase::Connect));
        assert_eq!(error.execution(), Execution::NotSent);
        assert!(error.message().contains(&address), "{error}");
    }
    assert!(second.message().contains("next try in"), "{second}");
}

/// A node that accepts connections and says nothing is "not sent", whatever it does later.
#[tokio::test]
async fn hung_node() {
    let (_listener, address) = listener().await;
    let error = call(&impatient(address), "echo").await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
}

/// A deadline also ends the wait for a connection.
#[tokio::test(start_paused = true)]
async fn deadline_while_connecting() {
    let network = MemoryNetwork::new();
    let _listener = network.listen("hung").unwrap();
    let mut early = request("echo", "");
    early.deadline = Some(Instant::now() + Duration::from_millis(300));
    let error = on(&network, "hung").call(&early).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::NotSent));
}

/// A peer of another version is named as the reason.
#[tokio::test]
async fn other_version() {
    let (listener, address) = listener().await;
    let channel = impatient(address);
    let peer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut theirs = PREFACE;
        theirs[4] = 9;
        stream.write_all(&theirs).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await
    };
    let (error, _) = tokio::join!(call(&channel, "echo"), peer);
    let error = error.unwrap_err();
    assert!(error.message().contains("micro/9") && error.message().contains("micro/1"), "{error}");
}

/// A peer that reads a request and dies may have executed it; the next call is made anew.
#[tokio::test]
async fn killed_after_receiving() {
    let (listener, address) = listener().await;
    let channel = impatient(address);
    let peer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&PREFACE).await.unwrap();
        let mut seen = [0; 40];
        stream.read_exact(&mut seen).await.unwrap();
    };
    let (error, ()) = tokio::join!(call(&channel, "echo"), peer);
    let error = error.unwrap_err();
    assert_eq!((error.code(), error.phase()), (Code::Unavailable, Phase::Wait));
    assert_eq!(error.execution(), Execution::MaybeExecuted);
}

/// A node whose connection was reset is away for a moment, but called at once when it is asked for,
/// and as any other once it answers.
#[tokio::test(start_paused = true)]
async fn away_after_a_reset() {
    let network = MemoryNetwork::new();
    let start = || {
        let server = Server::new(router(&Counts::default())).unwrap();
        server.start(vec![network.listen("node").unwrap()])
    };
    let server = start();
    let channel = on(&network, "node");
    call(&channel, "echo").await.unwrap();
    let crash = async {
        until("the call runs", || server.in_flight() == 1).await;
        network.crash("node");
    };
    let (error, ()) = tokio::join!(call(&channel, "hang"), crash);
    assert_eq!(error.unwrap_err().execution(), Execution::MaybeExecuted);
    assert!(channel.is_away() && !channel.is_draining());
    drop(server);
    let _server = start();
    call(&channel, "echo").await.unwrap();
    assert!(!channel.is_away());
}

/// A node that loses one of two connections, and accepts no other, is not away: the calls of that
/// one go to the other, save those that find out.
#[tokio::test]
async fn one_of_two_connections() {
    let (listener, address) = listener().await;
    let config = ChannelConfig { connections: 2, ..patient() };
    let channel = Channel::new(address.parse().unwrap(), config);
    let (first, lost) = tokio::join!(call(&channel, "echo"), answer_one(&listener));
    let (second, mut kept) = tokio::join!(call(&channel, "echo"), answer_one(&listener));
    assert!(first.is_ok() && second.is_ok());
    drop((listener, lost));
    let calls = async {
        let mut failed = 0;
        for _ in 0..40 {
            failed += usize::from(call(&channel, "echo").await.is_err());
            assert!(!channel.is_away());
        }
        failed
    };
    let node = async {
        loop {
            answer(&mut kept).await;
        }
    };
    let failed = tokio::select! {
        failed = calls => failed,
        () = node => unreachable!(),
    };
    assert!((1..10).contains(&failed), "{failed} of 40 calls");
}

async fn answer_one(listener: &TcpListener) -> Raw {
    let mut raw = Raw(listener.accept().await.unwrap().0);
    raw.preface().await;
    raw.send(&PREFACE).await;
    answer(&mut raw).await;
    raw
}

async fn answer(raw: &mut Raw) {
    let (_, id, _) = raw.frame().await;
    raw.send(&frame(RESPONSE, 0, id, &[0, 2, 0, 0, 0])).await;
}

/// A node that accepts connections and closes them, whatever it says before, costs a call a few of
/// them at most: then it fails, and was not sent.
#[tokio::test]
async fn accepts_and_closes() {
    let rows = [
        ("nothing", Vec::new()),
        ("an announcement", frame(GO_AWAY, 0, u64::MAX, b"")),
        ("a go-away", frame(GO_AWAY, 0, 0, b"")),
        ("a go-away that knows a call", frame(GO_AWAY, 0, 7, b"")),
    ];
    for (what, last_words) in rows {
        let (listener, address) = listener().await;
        let channel = Channel::new(address.parse().unwrap(), patient());
        let connects = AtomicUsize::new(0);
        let node = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connects.fetch_add(1, Ordering::Relaxed);
                stream.read_exact(&mut [0; 16]).await.unwrap();
                stream.write_all(&[&PREFACE[..], &last_words].concat()).await.unwrap();
            }
        };
        let patience = Duration::from_secs(20);
        let error = tokio::select! {
            called = tokio::time::timeout(patience, call(&channel, "echo")) => called,
            () = node => unreachable!(),
        };
        let error = error.expect(what).unwrap_err();
        let expected = (Code::Unavailable, Execution::NotSent);
        assert_eq!((error.code(), error.execution()), expected, "{what}: {error}");
        let connects = connects.load(Ordering::Relaxed);
        assert!(connects < 20, "{what}: {connects} connections");
    }
}

/// Of two requests, the one that did not fit into the socket was not sent, and the other may have
/// been executed.
#[tokio::test]
async fn killed_while_sending() {
    let (listener, address) = listener().await;
    let channel = Channel::new(address.parse().unwrap(), ChannelConfig::default());
    let peer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&PREFACE).await.unwrap();
        let mut seen = [0; 40];
        stream.read_exact(&mut seen).await.unwrap();
        // The socket buffers of the two sides hold less than this by far.
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let little = request("echo", "small");
    let small = channel.call(&little);
    // Eight such calls: the ones behind the first wait, since more than 1 MiB is queued.
    let large = async {
        tokio::task::yield_now().await;
        let much = request("echo", vec![0; 4_000_000]);
        let calls = (0..8).map(|_| channel.call(&much));
        futures::future::join_all(calls).await
    };
    let (small, large, ()) = tokio::join!(small, large, peer);
    assert_eq!(small.unwrap_err().execution(), Execution::MaybeExecuted);
    let last = large.into_iter().next_back().unwrap().unwrap_err();
    assert_eq!(last.execution(), Execution::NotSent, "{last}");
}

/// What a go-away excludes was refused, and what it includes may have been executed, also when the
/// node dies before it can say more.
#[tokio::test]
async fn go_away_decides() {
    let (listener, address) = listener().await;
    let channel = Channel::new(address.parse().unwrap(), ChannelConfig::default());
    let peer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&PREFACE).await.unwrap();
        let mut seen = [0; 2 * FRAME + PREFACE.len()];
        stream.read_exact(&mut seen).await.unwrap();
        let first = u64::from_be_bytes(*seen[PREFACE.len() + 6..].first_chunk().unwrap());
        stream.write_all(&frame(GO_AWAY, 0, first, b"")).await.unwrap();
    };
    const FRAME: usize = 14 + 24 + 4;
    let calls = futures::future::join_all([call(&channel, "echo"), call(&channel, "echo")]);
    let (outcomes, ()) = tokio::join!(calls, peer);
    let executions: Vec<_> =
        outcomes.into_iter().map(|outcome| outcome.unwrap_err().execution()).collect();
    assert_eq!(executions, [Execution::MaybeExecuted, Execution::Refused]);
}

/// The client keeps deadlines by itself: a node that never answers cannot hold a call.
#[tokio::test]
async fn deadline_without_an_answer() {
    let (listener, address) = listener().await;
    let channel = Channel::new(address.parse().unwrap(), ChannelConfig::default());
    let peer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&PREFACE).await.unwrap();
        let mut seen = [0; PREFACE.len() + 14];
        stream.read_exact(&mut seen).await.unwrap();
        stream
    };
    let mut timed = request("echo", "");
    timed.deadline = Some(Instant::now() + Duration::from_millis(50));
    let (error, _stream) = tokio::join!(channel.call(&timed), peer);
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::DeadlineExceeded);
    assert_eq!(error.execution(), Execution::MaybeExecuted);
}

/// A peer that goes silent is given up although its connection stands.
#[tokio::test]
async fn silent_peer() {
    let (listener, address) = listener().await;
    let channel = impatient(address);
    let peer = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&PREFACE).await.unwrap();
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).await.unwrap();
        seen
    };
    let (error, seen) = tokio::join!(call(&channel, "echo"), peer);
    let error = error.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::MaybeExecuted));
    assert!(seen.ends_with(&frame(PING, 0, 0, b"")), "it was asked before it was given up");
}

/// A node that comes back on the same address is called again, without a new channel.
#[tokio::test]
async fn restarted_node() {
    let (server, _) = server().await;
    let address = server.addresses()[0].clone();
    let channel = channel(&server);
    assert_works(&channel).await;
    drop(server);
    until("the port is free", || std::net::TcpListener::bind(address.to_string()).is_ok()).await;
    let error = call(&channel, "echo").await.unwrap_err();
    assert_ne!(error.execution(), Execution::Executed);
    let listener = Listener::bind(&address).await.unwrap();
    let _server = Server::new(router(&Counts::default())).unwrap().start(vec![listener]);
    let works = async {
        while call(&channel, "echo").await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), works).await.expect("it is called again");
}

/// A closed channel finishes what runs and takes nothing new.
#[tokio::test]
async fn closed_channel() {
    let (server, _) = server().await;
    let channel = channel(&server);
    assert_works(&channel).await;
    let running = call(&channel, "later");
    let closing = async {
        tokio::task::yield_now().await;
        channel.close();
    };
    let (running, ()) = tokio::join!(running, closing);
    assert_eq!(running.unwrap().body, "body");
    let error = call(&channel, "echo").await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::NotSent));
}
