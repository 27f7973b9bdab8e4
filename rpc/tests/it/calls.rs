//! Calls that go well, and calls whose failure is the application's.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use micro_rpc::{
    Address, Channel, ChannelConfig, Code, Codec, Execution, Limits, Listener, MemoryNetwork,
    Phase, Request, Response, Router, Server, ServerHandle, TraceContext,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use crate::support::*;

/// A call is answered over each transport, and listening tells the address to call.
#[tokio::test]
async fn every_transport() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let network = MemoryNetwork::new();
    let unix = format!("unix:{}", socket.display()).parse().unwrap();
    let listeners =
        vec![tcp().await, Listener::bind(&unix).await.unwrap(), network.listen("node").unwrap()];
    let server = Server::new(router(&Counts::default())).unwrap().start(listeners);
    for address in server.addresses() {
        let config = ChannelConfig { memory: Some(network.clone()), ..Default::default() };
        assert_works(&Channel::new(address.clone(), config)).await;
    }
    server.shutdown(Duration::from_secs(1)).await;
    assert!(!socket.exists(), "the socket file goes with its listener");
}

/// Listeners that the program made are served, of tokio and of the standard library, and say where
/// they are; their socket files are not removed.
#[tokio::test]
async fn listeners_of_the_program() {
    let directory = tempfile::tempdir().unwrap();
    let files = ["a", "b"].map(|name| directory.path().join(name));
    let listeners = vec![
        tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().try_into().unwrap(),
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().try_into().unwrap(),
        tokio::net::UnixListener::bind(&files[0]).unwrap().try_into().unwrap(),
        std::os::unix::net::UnixListener::bind(&files[1]).unwrap().try_into().unwrap(),
    ];
    let server = Server::new(router(&Counts::default())).unwrap().start(listeners);
    for address in server.addresses() {
        assert_works(&Channel::new(address.clone(), patient())).await;
    }
    server.shutdown(Duration::from_secs(1)).await;
    assert!(files.iter().all(|file| file.exists()));
}

/// A listener that nobody could be told the address of is refused, rather than given a wrong one.
#[tokio::test]
async fn listeners_without_an_address() {
    let unnamed = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let unnamed = std::os::unix::net::UnixListener::from(std::os::fd::OwnedFd::from(unnamed));
    assert_eq!(Listener::try_from(unnamed).unwrap_err().kind(), ErrorKind::InvalidInput);
    let no_tcp = std::os::unix::net::UnixDatagram::unbound().unwrap();
    let no_tcp = std::net::TcpListener::from(std::os::fd::OwnedFd::from(no_tcp));
    assert!(Listener::try_from(no_tcp).is_err());
}

/// Outside a runtime the listeners of the standard library are refused, not a panic.
#[test]
fn listeners_need_a_runtime() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(Listener::try_from(listener).is_err());
}

/// A socket file that nobody answers on is replaced; one that is served is not.
#[tokio::test]
async fn stale_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let address = format!("unix:{}", path.display()).parse().unwrap();
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let served = Listener::bind(&address).await.unwrap();
    assert!(Listener::bind(&address).await.is_err());
    drop(served);
    std::fs::write(&path, "not a socket").unwrap();
    assert!(Listener::bind(&address).await.is_err());
    assert!(path.exists(), "what is no socket is never removed");
}

/// Each of a thousand concurrent calls on one connection gets its own answer, in any order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_find_their_calls() {
    let (server, _) = server().await;
    let channel = channel(&server);
    let calls = (0..1000).map(|number| {
        let channel = channel.clone();
        let method = if number % 3 == 0 { "later" } else { "echo" };
        tokio::spawn(async move {
            let body = format!("{number}{}", "x".repeat(number * 7 % 5000));
            let answer = channel.call(&request(method, body.clone())).await.unwrap();
            assert_eq!(answer.body, body);
        })
    });
    for call in join_all(calls).await {
        call.unwrap();
    }
    assert_eq!(server.in_flight(), 0);
}

/// More calls than the server runs at once wait their turn, on any number of connections.
#[tokio::test]
async fn calls_wait_their_turn() {
    let (server, _) = server_with(Limits { max_in_flight: 2, ..Limits::default() }).await;
    let config = ChannelConfig { connections: 2, ..Default::default() };
    let channel = Channel::new(server.addresses()[0].clone(), config);
    let answers = join_all((0..50).map(|_| call(&channel, "later"))).await;
    assert!(answers.iter().all(Result::is_ok));
}

/// Calls that are made at about the same time leave together, also over several connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_leave_together() {
    let (server, _) = server().await;
    let (address, reads) = counting_proxy(&server).await;
    let channel = Channel::new(address, ChannelConfig { connections: 4, ..patient() });
    let callers = (0..64).map(|_| {
        let channel = channel.clone();
        tokio::spawn(async move {
            for _ in 0..50 {
                call(&channel, "echo").await.unwrap();
            }
        })
    });
    for caller in join_all(callers).await {
        caller.unwrap();
    }
    let reads = reads.load(Ordering::Relaxed);
    assert!(reads <= 64 * 50 / 6, "3200 requests came in {reads} pieces");
    assert_eq!(channel.connections(), 4, "all of them are used");
}

/// Calls leave together only where there is a place for each of them: who would have to wait on one
/// connection takes the next.
#[tokio::test]
async fn no_call_waits_while_there_is_room() {
    let (server, _) = server_with(Limits { max_in_flight: 2, ..Limits::default() }).await;
    let address = server.addresses()[0].clone();
    let channel = Channel::new(address, ChannelConfig { connections: 4, ..patient() });
    for _ in 0..4 {
        assert_works(&channel).await;
    }
    assert_eq!(channel.connections(), 4);
    let calls = join_all((0..8).map(|_| call(&channel, "hang")));
    let all_run = until("all of them run", || server.in_flight() == 8);
    tokio::select! {
        _ = calls => panic!("they never end"),
        () = all_run => {}
    }
}

/// Passes connections on to the server, and counts the pieces that come for it.
async fn counting_proxy(server: &ServerHandle) -> (Address, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let (reads, upstream) = (Arc::<AtomicUsize>::default(), server.addresses()[0].to_string());
    let count = Arc::clone(&reads);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(&upstream).await.unwrap();
            let (mut from, mut to) = client.into_split();
            let (mut answers, mut requests) = server.into_split();
            let count = Arc::clone(&count);
            tokio::spawn(async move {
                let mut piece = vec![0; 256 * 1024];
                while let Ok(read @ 1..) = from.read(&mut piece).await {
                    count.fetch_add(1, Ordering::Relaxed);
                    requests.write_all(&piece[..read]).await.unwrap();
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut answers, &mut to).await });
        }
    });
    (address, reads)
}

/// Everything that travels beside the body arrives at the handler.
#[tokio::test]
async fn requests_arrive_whole() {
    let network = MemoryNetwork::new();
    let router = Router::new().route("test", "show", |request: Request| async move {
        let seen = format!(
            "{} {} {} {} {:?} {} {} {}",
            request.attempt,
            request.idempotent,
            request.no_retry,
            request.trace.unwrap(),
            request.criticality,
            request.peer.unwrap(),
            request.metadata.get("key").unwrap(),
            request.deadline.is_some(),
        );
        Ok(Response::new(Codec::Json, seen.into()))
    });
    let _server = Server::new(router).unwrap().start(vec![network.listen("node").unwrap()]);
    let trace = TraceContext::new_root();
    let mut sent = request("show", "");
    (sent.attempt, sent.idempotent, sent.no_retry, sent.trace) = (2, true, true, Some(trace));
    sent.criticality = micro_rpc::Criticality::Sheddable;
    sent.metadata.insert("key", "value").unwrap();
    sent.deadline = Some(Instant::now() + Duration::from_secs(3600));
    let answer = on(&network, "node").call(&sent).await.unwrap();
    assert_eq!(answer.body, format!("2 true true {trace} Sheddable memory value true"));
}

/// A channel is an ordinary tower service.
#[tokio::test]
async fn channel_is_a_service() {
    let (server, _) = server().await;
    let mut service = channel(&server);
    let answer = service.ready().await.unwrap().call(request("echo", "x")).await.unwrap();
    assert_eq!(answer.body, "x");
}

/// The application's own error comes back as it was encoded, final and executed.
#[tokio::test]
async fn typed_errors() {
    let (server, _) = server().await;
    let channel = channel(&server);
    let details = Codec::MessagePack.encode(&("ann", 7)).unwrap();
    let failing = Request::new("test", "fail", Codec::MessagePack, details);
    let error = channel.call(&failing).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::NotFound, "no such thing"));
    assert_eq!((error.execution(), error.phase()), (Execution::Executed, Phase::Wait));
    assert_eq!(error.address(), Some(channel.address()));
    let (codec, details) = error.details().unwrap();
    assert_eq!(codec.decode::<(String, u8)>(details).unwrap(), ("ann".to_owned(), 7));
}

/// An unknown method or contract fails that call and no other.
#[tokio::test]
async fn unknown_methods() {
    let (server, _) = server().await;
    let channel = channel(&server);
    let error = call(&channel, "nothing").await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(error.message().contains("`nothing`"), "{error}");
    let foreign = Request::new("other", "echo", Codec::Json, Bytes::new());
    assert_eq!(channel.call(&foreign).await.unwrap_err().code(), Code::Unimplemented);
    assert_works(&channel).await;
}

/// A panic, at once or later, fails that call only; its text stays in the process, and nobody is
/// blamed who may be innocent.
#[tokio::test]
async fn panics() {
    let (server, _) = server().await;
    let channel = channel(&server);
    for method in ["panic", "panic_later"] {
        let error = call(&channel, method).await.unwrap_err();
        assert_eq!((error.code(), error.execution()), (Code::Internal, Execution::MaybeExecuted));
        assert_eq!(error.message(), "the handler, or a layer around it, panicked");
        assert_works(&channel).await;
    }
}

/// A request that the server would not accept is not sent; an answer that the client would not
/// accept is replaced by an error. Both cost one call.
#[tokio::test]
async fn oversized_frames() {
    let limits = Limits { max_frame: 50_000, ..Limits::default() };
    let (server, _) = server_with(limits.clone()).await;
    let config = ChannelConfig { limits, ..Default::default() };
    let small = Channel::new(server.addresses()[0].clone(), config);
    let error = small.call(&request("echo", vec![0; 60_000])).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::ResourceExhausted, Execution::NotSent));
    let error = call(&small, "large").await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::ResourceExhausted, Execution::Executed));
    assert_works(&small).await;
    let large = call(&channel(&server), "large").await.unwrap();
    assert_eq!(large.body.len(), 100_000);
}

/// Bodies larger than every buffer pass both ways, many at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies() {
    let (server, _) = server().await;
    let channel = channel(&server);
    let bodies = (0..20).map(|n| Bytes::from(vec![n; 3_000_000]));
    let channel = &channel;
    let calls = bodies.map(|body| async move {
        assert_eq!(channel.call(&request("echo", body.clone())).await.unwrap().body, body);
    });
    join_all(calls).await;
}

/// A deadline ends a call on the client, and its handler on the server, to the millisecond.
#[tokio::test(start_paused = true)]
async fn deadlines() {
    let network = MemoryNetwork::new();
    let counts = Counts::default();
    let listeners = vec![network.listen("node").unwrap()];
    let server = Server::new(router(&counts)).unwrap().start(listeners);
    let channel = on(&network, "node");
    assert_works(&channel).await;
    for ms in [500, 20, 3000] {
        let mut hanging = request("hang", "");
        let deadline = Instant::now() + Duration::from_millis(ms);
        hanging.deadline = Some(deadline);
        let error = channel.call(&hanging).await.unwrap_err();
        assert_eq!(error.code(), Code::DeadlineExceeded);
        assert_eq!(error.execution(), Execution::MaybeExecuted);
        let late = Instant::now() - deadline;
        assert!(late <= Duration::from_millis(2), "{late:?} late");
    }
    until("handlers are dropped", || counts.over() == 3).await;
    assert_eq!(server.in_flight(), 0);
}

/// A call whose deadline has passed is not sent.
#[tokio::test]
async fn expired_before_sending() {
    let (server, counts) = server().await;
    let mut late = request("hang", "");
    late.deadline = Some(Instant::now());
    let error = channel(&server).call(&late).await.unwrap_err();
    assert_eq!((error.code(), error.execution()), (Code::DeadlineExceeded, Execution::NotSent));
    assert_eq!(counts.begun(), 0);
}

/// Dropping a call stops its handler and leaves the connection in use.
#[tokio::test]
async fn cancellation() {
    let (server, counts) = server().await;
    let channel = channel(&server);
    let calling = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "hang").await }
    });
    until("the handler runs", || counts.begun() == 1 && server.in_flight() == 1).await;
    calling.abort();
    until("the handler is dropped", || counts.over() == 1 && server.in_flight() == 0).await;
    assert_works(&channel).await;
}

/// A handler that blocks its thread holds up the other calls of its connection once, not twice.
#[test]
fn blocking_handlers() {
    let (release, gate) = std::sync::mpsc::channel::<()>();
    let (gate, begun) = (Arc::new(Mutex::new(gate)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&begun);
    let router = router(&Counts::default()).route("test", "block", move |request: Request| {
        let (gate, count) = (Arc::clone(&gate), Arc::clone(&count));
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            // It ends when the test does, too.
            let _ = gate.lock().unwrap().recv();
            Ok(Response::new(request.codec, request.body))
        }
    });
    // The test has a runtime of its own: blocked workers may hold up even the timers of theirs.
    let workers = runtime(tokio::runtime::Builder::new_multi_thread().worker_threads(2));
    let server = workers.block_on(async { Server::new(router).unwrap().start(vec![tcp().await]) });
    runtime(&mut tokio::runtime::Builder::new_current_thread()).block_on(async move {
        let channel = channel(&server);
        let first = call(&channel, "block");
        let unblock = async {
            until("it blocks", || begun.load(Ordering::SeqCst) == 1).await;
            // Long enough to be noticed.
            tokio::time::sleep(Duration::from_millis(50)).await;
            release.send(()).unwrap();
        };
        let (first, ()) = tokio::join!(first, unblock);
        first.unwrap();
        let second = call(&channel, "block");
        let meanwhile = async {
            until("it blocks again", || begun.load(Ordering::SeqCst) == 2).await;
            let other = tokio::time::timeout(Duration::from_secs(20), call(&channel, "echo"));
            let answered = other.await.is_ok_and(|answer| answer.is_ok());
            release.send(()).unwrap();
            assert!(answered, "other calls are answered meanwhile");
        };
        let (second, ()) = tokio::join!(second, meanwhile);
        second.unwrap();
    });
}

fn runtime(builder: &mut tokio::runtime::Builder) -> tokio::runtime::Runtime {
    builder.enable_all().build().unwrap()
}
