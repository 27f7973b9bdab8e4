//! Servers that stop: nothing that was accepted is lost, nothing else is executed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use micro_rpc::{Channel, Code, Execution, Request, Response, Router, Server};

use crate::support::*;

const GRACE: Duration = Duration::from_secs(10);

/// Calls that run are finished, later ones refused, and the channel knows.
#[tokio::test]
async fn drain_finishes_and_refuses() {
    let (server, counts) = server().await;
    let channel = channel(&server);
    let hanging = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "hang").await }
    });
    until("the handler runs", || counts.begun() == 1 && server.in_flight() == 1).await;
    let running = call(&channel, "later");
    let draining = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        server.drain();
        until("the channel knows", || channel.is_draining()).await;
    };
    let (running, ()) = tokio::join!(running, draining);
    assert!(running.is_ok(), "{running:?}");
    let error = call(&channel, "echo").await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.execution().is_retry_safe(), "{error:?}");
    assert_eq!(server.in_flight(), 1, "what was accepted goes on");
    hanging.abort();
}

/// A raw client sees go-away with the last accepted id, and a refusal for a later one.
#[tokio::test]
async fn go_away_has_the_last_id() {
    let (server, _) = server().await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(REQUEST, 0, 5, &payload("hang", 0, b""))).await;
    until("the handler runs", || server.in_flight() == 1).await;
    server.drain();
    assert_eq!(raw.frame().await, (GO_AWAY, 5, Vec::new()));
    raw.send(&frame(REQUEST, 0, 6, &payload("echo", 0, b""))).await;
    let (kind, id, answer) = raw.frame().await;
    assert_eq!((kind, id, answer[0], answer[2]), (RESPONSE, 6, Code::Unavailable as u8, 2));
    let mut late = Raw::connect(&server).await;
    assert_eq!(late.frame().await, (GO_AWAY, 0, Vec::new()), "a new connection is told at once");
}

/// While servers are shut down one after the other under load, each call is executed and answered,
/// or certainly not executed. No answer is lost on the way.
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
    let (server, _) = server().await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(REQUEST, 0, 1, &payload("later", 0, b"last"))).await;
    until("the handler runs", || server.in_flight() == 1).await;
    let stopping = tokio::spawn(server.shutdown(GRACE));
    assert_eq!(raw.frame().await, (GO_AWAY, 1, Vec::new()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The server has closed its side by now; what comes still must not become a reset.
    raw.send(&frame(PING, 0, 1, b"").repeat(100)).await;
    raw.send(&frame(PING, 0, 1, b"").repeat(100)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(raw.frame().await, (RESPONSE, 1, b"\0\x02\0\0\0last".to_vec()));
    drop(raw);
    assert_eq!(stopping.await.unwrap().aborted, 0);
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
