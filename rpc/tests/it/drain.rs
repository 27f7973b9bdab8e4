//! Servers that stop: nothing that was accepted is lost, nothing else is executed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use micro_rpc::{
    Channel, ChannelConfig, Code, Execution, Limits, Request, Response, Router, Server,
};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use crate::support::*;

const GRACE: Duration = Duration::from_secs(10);

/// A drain tells channels to go elsewhere; calls that come nevertheless are executed, also on new
/// connections.
#[tokio::test]
async fn drain_announces_and_serves() {
    let (server, counts) = server().await;
    let known = channel(&server);
    let hanging = tokio::spawn({
        let channel = known.clone();
        async move { call(&channel, "hang").await }
    });
    until("the handler runs", || counts.begun() == 1 && server.in_flight() == 1).await;
    let running = call(&known, "later");
    let draining = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        server.drain();
        until("the channel knows", || known.is_draining()).await;
    };
    let (running, ()) = tokio::join!(running, draining);
    assert!(running.is_ok(), "{running:?}");
    assert_works(&known).await;
    assert_works(&channel(&server)).await;
    assert_eq!(server.in_flight(), 1, "what was accepted goes on");
    hanging.abort();
}

/// What a node announces on several connections, however often, holds until the last has ended.
#[tokio::test]
async fn announcements_end_with_the_last() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let channel = Channel::new(address, ChannelConfig { connections: 2, ..patient() });
    let mut nodes = Vec::new();
    for _ in 0..2 {
        let node = async {
            let mut node = Raw(listener.accept().await.unwrap().0);
            node.preface().await;
            node.send(&PREFACE).await;
            let (_, id, _) = node.frame().await;
            let announced = frame(GO_AWAY, 0, u64::MAX, b"").repeat(2);
            node.send(&[announced, frame(RESPONSE, 0, id, b"\0\x02\0\0\0")].concat()).await;
            node
        };
        let (node, answer) = tokio::join!(node, call(&channel, "echo"));
        answer.unwrap();
        nodes.push(node);
    }
    nodes.pop();
    // More than what is announced outlives its connection.
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert!(channel.is_draining());
    nodes.pop();
    until("the last is forgotten", || !channel.is_draining()).await;
}

/// A raw client sees two go-aways: one that announces, after which its calls are executed, and one
/// with the last accepted id, after which they are refused.
#[tokio::test]
async fn go_away_comes_twice() {
    let (server, _) = server().await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(REQUEST, 0, 5, &payload("hang", 0, b""))).await;
    until("the handler runs", || server.in_flight() == 1).await;
    server.drain();
    server.drain();
    assert_eq!(raw.frame().await, (GO_AWAY, u64::MAX, Vec::new()));
    let mut late = Raw::connect(&server).await;
    assert_eq!(late.frame().await, (GO_AWAY, u64::MAX, Vec::new()), "told at once");
    raw.send(&frame(REQUEST, 0, 7, &payload("echo", 0, b"yes"))).await;
    assert_eq!(raw.frame().await, (RESPONSE, 7, b"\0\x02\0\0\0yes".to_vec()));
    let stopping = tokio::spawn(server.shutdown(GRACE));
    assert_eq!(raw.frame().await, (GO_AWAY, 7, Vec::new()));
    assert_eq!(late.frame().await, (GO_AWAY, 0, Vec::new()));
    raw.send(&frame(REQUEST, 0, 8, &payload("echo", 0, b""))).await;
    let (kind, id, answer) = raw.frame().await;
    assert_eq!((kind, id, answer[0], answer[2]), (RESPONSE, 8, Code::Unavailable as u8, 2));
    drop((raw, late));
    stopping.await.unwrap();
}

/// While servers drain and stop one after the other under load, each call is executed once and
/// answered, or certainly not executed. No answer is lost on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_is_lost() {
    let executed = Arc::new(AtomicUsize::new(0));
    let mut answered = 0;
    for round in 0..10 {
        let count = Arc::clone(&executed);
        let router = Router::new().route("test", "work", move |request: Request| {
            let count = Arc::clone(&count);
            async move {
                if request.body.len().is_multiple_of(2) {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                count.fetch_add(1, Ordering::SeqCst);
                Ok(Response::new(request.codec, request.body))
            }
        });
        let server = Server::new(router).unwrap().start(vec![tcp().await]);
        let channel = channel(&server);
        let callers: Vec<_> =
            (0..16).map(|caller| tokio::spawn(load(channel.clone(), caller))).collect();
        tokio::time::sleep(Duration::from_millis(20 + round)).await;
        server.drain();
        tokio::time::sleep(Duration::from_millis(round)).await;
        let report = server.shutdown(GRACE).await;
        assert_eq!(report.aborted, 0);
        for caller in callers {
            answered += caller.await.unwrap();
        }
    }
    assert_eq!(answered, executed.load(Ordering::SeqCst));
    assert!(answered > 100, "there was a load: {answered}");
}

/// Calls until the node is away for good; returns how many calls were answered.
async fn load(channel: Channel, caller: usize) -> usize {
    let (mut answered, mut turned_away) = (0, 0);
    while turned_away < 20 {
        match channel.call(&request("work", vec![0; caller])).await {
            Ok(_) => answered += 1,
            Err(error) => {
                assert!(error.execution().is_retry_safe(), "{error:?}");
                turned_away += 1;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    answered
}

/// A client that still sends while the server stops gets its last answer nevertheless: closing
/// with bytes unread would have thrown it away.
#[tokio::test]
async fn the_last_answer_arrives() {
    // The client has a second; on a machine that is busier than that nothing is shown.
    for _ in 0..10 {
        if last_answer().await {
            return;
        }
    }
    panic!("the machine is too busy to tell");
}

/// Has the last answer come after its client had gone on sending; returns whether that was in time
/// to be sure of.
async fn last_answer() -> bool {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let router = Router::new().route("test", "wait", move |request: Request| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Ok(Response::new(request.codec, request.body))
        }
    });
    let server = Server::new(router).unwrap().start(vec![tcp().await]);
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(REQUEST, 0, 1, &payload("wait", 0, b"last"))).await;
    until("the handler runs", || server.in_flight() == 1).await;
    let stopping = tokio::spawn(server.shutdown(GRACE));
    assert_eq!(raw.frame().await, (GO_AWAY, 1, Vec::new()));
    let begin = Instant::now();
    release.notify_one();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The server has closed its side by now; what comes still must not become a reset.
    raw.send(&frame(PING, 0, 1, b"").repeat(100)).await;
    raw.send(&frame(PING, 0, 1, b"").repeat(100)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    if begin.elapsed() > Duration::from_millis(500) {
        return false;
    }
    assert_eq!(raw.frame().await, (RESPONSE, 1, b"\0\x02\0\0\0last".to_vec()));
    drop(raw);
    assert_eq!(stopping.await.unwrap().aborted, 0);
    true
}

/// What still runs at the end of the grace period is dropped, counted, and its caller told.
#[tokio::test]
async fn grace_ends() {
    let (server, counts) = server().await;
    let channel = channel(&server);
    let hanging = tokio::spawn(async move { call(&channel, "hang").await });
    until("the handler runs", || counts.begun() == 1 && server.in_flight() == 1).await;
    let report = server.shutdown(Duration::from_millis(20)).await;
    assert_eq!((report.finished, report.aborted), (0, 1));
    let error = hanging.await.unwrap().unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::Unavailable, Execution::MaybeExecuted));
    assert!(error.message().contains("stopped"), "{error}");
    until("the handler is dropped", || counts.over() == 1).await;
}

/// Dropping the handle stops everything that the server started.
#[tokio::test]
async fn drop_aborts() {
    let (server, counts) = server().await;
    let channel = channel(&server);
    let hanging = tokio::spawn(async move { call(&channel, "hang").await });
    until("the handler runs", || counts.begun() == 1).await;
    drop(server);
    until("the handler is dropped", || counts.over() == 1).await;
    let error = hanging.await.unwrap().unwrap_err();
    assert_eq!(error.execution(), Execution::MaybeExecuted);
}

/// Times no clock can add are as good as none.
#[tokio::test]
async fn absurd_times() {
    let limits = Limits { stall_timeout: Duration::MAX, ..Limits::default() };
    let (server, _) = server_with(limits).await;
    assert_works(&channel(&server)).await;
    let mut health = Raw::silent(&server).await;
    health.send(b"GET /health/live HTTP/1.0\r\n\r\n").await;
    assert!(health.rest().await.starts_with(b"HTTP/1.0 200"));
    assert_eq!(server.shutdown(Duration::MAX).await.aborted, 0);
}
