//! What a server tells of itself and its calls.

use std::time::Duration;

use micro_rpc::{Code, Limits, ServerHandle};
#[cfg(feature = "http")]
use micro_rpc::{MemoryNetwork, Server, ServerConfig};

#[cfg(feature = "http")]
use tokio::io::AsyncWriteExt;

use crate::support::*;

/// How many calls of a method of `test` ended so; those that led to no method have none.
fn ended(server: &ServerHandle, method: Option<&str>, end: Result<(), Code>) -> u64 {
    let stats = server.stats();
    let mut of_method = stats.methods.iter().filter(|stats| stats.method.as_deref() == method);
    let ends = &of_method.next().unwrap().ends;
    ends.iter().filter(|(other, _)| *other == end).map(|(_, took)| took.count()).sum()
}

/// Every call is counted once under its method and how it ended, whether it was answered at once or
/// later, panicked, took too long or was given up.
#[tokio::test]
async fn calls_are_counted_by_how_they_end() {
    let (server, counts) = server().await;
    let channel = channel(&server);
    call(&channel, "echo").await.unwrap();
    call(&channel, "echo").await.unwrap();
    call(&channel, "later").await.unwrap();
    for method in ["fail", "panic", "panic_later"] {
        call(&channel, method).await.unwrap_err();
    }
    // A client that waits beyond the deadline: others would often be sooner to give up.
    let mut patient = Raw::connect(&server).await;
    patient.send(&frame(REQUEST, 0, 1, &payload("hang", 50_000, b""))).await;
    assert_eq!(patient.frame().await.0, RESPONSE);
    let given_up = request("hang", "");
    tokio::select! {
        _ = channel.call(&given_up) => unreachable!("it hangs"),
        () = until("both have begun", || counts.begun() == 2) => {}
    }
    until("both are over", || counts.over() == 2).await;
    let expected = [
        ("echo", Ok(()), 2),
        ("later", Ok(()), 1),
        ("fail", Err(Code::NotFound), 1),
        ("panic", Err(Code::Internal), 1),
        ("panic_later", Err(Code::Internal), 1),
        ("hang", Err(Code::DeadlineExceeded), 1),
        ("hang", Err(Code::Cancelled), 1),
    ];
    for (method, end, count) in expected {
        let has_come = || ended(&server, Some(method), end) >= count;
        until(&format!("{method} ended {end:?}"), has_come).await;
    }
    let all = server
        .stats()
        .methods
        .iter()
        .flat_map(|method| method.ends.clone())
        .map(|end| end.1.count())
        .sum::<u64>();
    assert_eq!(all, 8, "none is counted twice");
    let later = server
        .stats()
        .methods
        .iter()
        .find(|stats| stats.method.as_deref() == Some("later"))
        .unwrap()
        .ends[0]
        .1
        .sum;
    assert!(later >= Duration::from_millis(20), "{later:?}");
}

/// Names that a peer makes up add nothing to what is kept: they are counted together.
#[tokio::test]
async fn unknown_methods_are_counted_together() {
    let (server, _) = server().await;
    let channel = channel(&server);
    let known = server.stats().methods.len();
    for number in 0..100 {
        let mut request = request("echo", "");
        request.method = format!("made-up-{number}").into();
        channel.call(&request).await.unwrap_err();
    }
    assert_eq!(ended(&server, None, Err(Code::Unimplemented)), 100);
    assert_eq!(server.stats().methods.len(), known);
}

/// Over HTTP, too, a call is refused for want of places under its method, and counts from when its
/// body has come, however slowly its caller sent that.
#[cfg(feature = "http")]
#[tokio::test(start_paused = true)]
async fn calls_over_http_are_counted_from_when_they_have_been_read() {
    let network = MemoryNetwork::new();
    let counts = Counts::default();
    let limits = Limits { max_running: 1, min_running: 1, max_queued: 0, ..Limits::default() };
    let config = ServerConfig { limits, ..Default::default() };
    let server = Server::new(router(&counts)).unwrap().config(config);
    let server = server.start(vec![network.listen("node").unwrap()]);
    let post = async |method: &str| {
        let mut raw = Raw(network.connect("node").unwrap());
        let head = format!(
            "POST /test/{method} HTTP/1.1
Host: localhost
Connection: close
Content-Length: 2

"
        );
        raw.send(head.as_bytes()).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        // Who was refused before may find the connection closed.
        let _ = raw.0.write_all(b"{}").await;
        raw
    };
    post("echo").await.rest().await;
    let hangs = post("hang").await;
    until("it hangs", || server.stats().running == 1).await;
    post("echo").await.rest().await;
    let (ok, refused) = (Ok(()), Err(Code::ResourceExhausted));
    let echo = Some("echo");
    assert_eq!((ended(&server, echo, ok), ended(&server, echo, refused)), (1, 1));
    let stats = server.stats();
    let sums = stats.methods.iter().flat_map(|method| &method.ends).map(|(_, took)| took.sum);
    assert!(sums.max().unwrap() < Duration::from_secs(5), "{stats:?}");
    drop(hangs);
}

/// What runs, what waits and what is refused for want of places is told.
#[tokio::test]
async fn overloads_are_told() {
    let limits = Limits { max_running: 1, min_running: 1, max_queued: 1, ..Limits::default() };
    let (server, counts) = server_with(limits).await;
    let (channel, hang, echo) = (channel(&server), request("hang", ""), request("echo", ""));
    let (first, second) = (channel.call(&hang), channel.call(&hang));
    let refused = async {
        until("one runs", || counts.begun() == 1).await;
        until("one waits", || server.stats().queued == 1).await;
        channel.call(&echo).await.unwrap_err()
    };
    tokio::select! {
        biased;
        _ = first => unreachable!("it hangs"),
        _ = second => unreachable!("it waits for the first"),
        error = refused => assert_eq!(error.code(), Code::ResourceExhausted),
    }
    let stats = server.stats();
    assert_eq!((stats.limit, stats.shed, stats.connections), (1, 1, 1));
    assert_eq!(ended(&server, None, Err(Code::ResourceExhausted)), 1);
    until("those that were given up are gone", || server.stats().running == 0).await;
}
