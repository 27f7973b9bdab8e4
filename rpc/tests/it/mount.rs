//! HTTP inside a web application that has a server of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http_body_util::{BodyExt, Full};
use micro_rpc::{HttpService, Limits, Peer, Request, Response, Router, Server, ServerConfig};
use tower::{Service, ServiceExt};

use crate::support::*;

fn post(method: &str, body: &'static str) -> http::Request<Full<Bytes>> {
    let body = Full::new(Bytes::from_static(body.as_bytes()));
    http::Request::post(format!("/test/{method}")).body(body).unwrap()
}

/// What the application's server does: it hands over a request and reads the answer.
async fn send(mounted: &HttpService, request: http::Request<Full<Bytes>>) -> (u16, String) {
    let (head, body) = mounted.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status.as_u16(), String::from_utf8(body.into()).unwrap())
}

async fn get(mounted: &HttpService, path: &str) -> (u16, String) {
    let request = http::Request::get(path).body(Full::default()).unwrap();
    send(mounted, request).await
}

/// Calls, errors, health and description are those of the port.
#[tokio::test]
async fn answers_as_the_port_does() {
    let describe = Bytes::from_static(br#"{"service":"test"}"#);
    let server = Server::new(router(&Counts::default())).unwrap().describe(describe);
    let server = server.start(vec![tcp().await]);
    let mounted = server.http();
    assert_eq!(send(&mounted, post("echo", "[1]")).await, (200, "[1]".into()));
    assert_eq!(send(&mounted, post("later", "")).await, (200, "{}".into()));
    let (status, body) = send(&mounted, post("fail", r#"{"id":7}"#)).await;
    assert!(status == 404 && body.contains(r#""details":{"id":7}"#), "{status} {body}");
    let mut hurried = post("hang", "");
    hurried.headers_mut().insert("micro-timeout", "5ms".parse().unwrap());
    assert_eq!(send(&mounted, hurried).await.0, 504);
    assert_eq!(get(&mounted, "/test/echo").await.0, 405);
    assert_eq!(get(&mounted, "/nothing").await.0, 404);
    assert_eq!(get(&mounted, "/health/live").await, (200, "ok".into()));
    assert_eq!(get(&mounted, "/describe").await, (200, r#"{"service":"test"}"#.into()));
    server.drain();
    assert_eq!(get(&mounted, "/health/ready").await, (503, "draining".into()));
    assert_eq!(send(&mounted, post("echo", "[1]")).await.0, 200);
}

/// The names of the application are believed once it has said them, also as origins, and no others.
#[tokio::test]
async fn names_of_the_application() {
    let config = ServerConfig { hosts: vec!["node.example".into()], ..Default::default() };
    let server = Server::new(router(&Counts::default())).unwrap().config(config);
    let server = server.start(Vec::new());
    let (closed, open) = (server.http(), server.http().hosts(["shop.example"]));
    let to = |host: &str, origin: &str| {
        let mut request = post("echo", "{}");
        request.headers_mut().insert("host", host.parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        request
    };
    let own = || to("shop.example", "https://shop.example");
    assert_eq!(send(&closed, own()).await.0, 403);
    assert_eq!(send(&open, own()).await.0, 200);
    assert_eq!(send(&open, to("node.example", "http://node.example")).await.0, 200);
    assert_eq!(send(&open, to("localhost", "http://localhost")).await.0, 200);
    assert_eq!(send(&open, to("evil.example", "http://evil.example")).await.0, 403);
    assert_eq!(send(&open, to("shop.example", "http://evil.example")).await.0, 403);
}

/// Bodies and the number of requests at once are bounded.
#[tokio::test]
async fn limits() {
    let limits = Limits { max_frame: 1024, max_connections: 1, ..Limits::default() };
    let (server, counts) = server_with(limits).await;
    let mounted = server.http();
    let large = str::repeat("1", 1025).leak();
    assert_eq!(send(&mounted, post("echo", large)).await.0, 413);
    let busy = tokio::spawn(mounted.clone().oneshot(post("hang", "")));
    until("the handler runs", || counts.begun() == 1).await;
    let (status, body) = send(&mounted, post("echo", "")).await;
    assert!(status == 429 && body.contains("resource_exhausted"), "{status} {body}");
    busy.abort();
    until("the handler is dropped", || counts.over() == 1 && server.in_flight() == 0).await;
    assert_eq!(send(&mounted, post("echo", "")).await.0, 200);
}

/// A handler sees what the application found out about the caller: its address, and its own types.
#[tokio::test]
async fn the_application_tells_about_the_caller() {
    #[derive(Clone)]
    struct User(&'static str);

    let router = Router::new().route("test", "who", |request: Request| async move {
        let user = request.extensions.get::<User>().map(|user| user.0);
        let who = format!("{:?}", format!("{:?} {user:?}", request.peer));
        Ok(Response::new(request.codec, who.into()))
    });
    let server = Server::new(router).unwrap().start(Vec::new());
    let mut request = post("who", "");
    let address: SocketAddr = "192.0.2.1:7".parse().unwrap();
    request.extensions_mut().insert(Peer::Tcp(address));
    request.extensions_mut().insert(User("Ann"));
    let (_, known) = send(&server.http(), request).await;
    assert!(known.contains("192.0.2.1:7") && known.contains("Ann"), "{known}");
    assert_eq!(send(&server.http(), post("who", "")).await.1, r#""None None""#);
}

/// A shutdown waits for a mounted call; later ones are refused.
#[tokio::test]
async fn shutdown_waits() {
    let (server, _) = server().await;
    let mounted = server.http();
    let call = tokio::spawn(mounted.clone().oneshot(post("later", "{}")));
    until("the handler runs", || server.in_flight() == 1).await;
    let report = server.shutdown(Duration::from_secs(20)).await;
    assert_eq!((report.finished, report.aborted), (1, 0));
    assert_eq!(call.await.unwrap().unwrap().status(), 200);
    let (status, body) = send(&mounted, post("echo", "")).await;
    assert!(status == 503 && body.contains("unavailable"), "{status} {body}");
    assert_eq!(get(&mounted, "/health/live").await.0, 503);
}

/// A mounted call that outlasts the grace period is aborted, and its caller told.
#[tokio::test]
async fn shutdown_aborts() {
    let (server, counts) = server().await;
    let call = tokio::spawn(server.http().oneshot(post("hang", "")));
    until("the handler runs", || counts.begun() == 1).await;
    let report = server.shutdown(Duration::from_millis(50)).await;
    assert_eq!((report.finished, report.aborted, counts.over()), (0, 1, 1));
    assert_eq!(call.await.unwrap().unwrap().status(), 503);
}

/// Without any grace a mounted call is noted as aborted too, and its caller told; the application
/// may poll it a little late.
#[tokio::test(start_paused = true)]
async fn shutdown_aborts_at_once() {
    for grace in [Duration::ZERO, Duration::from_millis(1)] {
        let counts = Counts::default();
        let server = Server::new(router(&counts)).unwrap().start(Vec::new());
        let mut call = server.http().oneshot(post("hang", ""));
        assert!(futures::poll!(&mut call).is_pending() && counts.begun() == 1);
        let late = tokio::time::sleep(Duration::from_millis(100)).then(|()| call);
        let shutdown = async { (server.shutdown(grace).await, counts.over()) };
        let ((report, over), answer) = tokio::join!(shutdown, late);
        assert_eq!((report.finished, report.aborted, over), (0, 1, 1));
        assert_eq!(answer.unwrap().status(), 503);
    }
}

/// A call that the application does not poll is noted as aborted, and holds no shutdown up.
#[tokio::test(start_paused = true)]
async fn shutdown_gives_up_the_unpolled() {
    let counts = Counts::default();
    let server = Server::new(router(&counts)).unwrap().start(Vec::new());
    let mut call = server.http().oneshot(post("hang", ""));
    assert!(futures::poll!(&mut call).is_pending() && counts.begun() == 1);
    let report = server.shutdown(Duration::from_secs(1)).await;
    assert_eq!((report.finished, report.aborted), (0, 1));
    assert_eq!(call.await.unwrap().status(), 503);
    assert_eq!(counts.over(), 1);
}

/// A request that came before the stop and is answered after it was not executed, and is told so;
/// also one whose body is on its way when the grace period ends.
#[tokio::test(start_paused = true)]
async fn late_requests_are_refused() {
    for _ in 0..20 {
        let counts = Counts::default();
        let server = Server::new(router(&counts)).unwrap().start(Vec::new());
        let mounted = server.http();
        let unpolled = mounted.clone().call(post("hang", ""));
        let body = http_body_util::StreamBody::new(futures::stream::pending());
        let body = body.map_err(|never: std::convert::Infallible| never);
        let body = http_body_util::combinators::BoxBody::<Bytes, _>::new(body);
        let upload = http::Request::post("/test/hang").body(body).unwrap();
        let upload = tokio::spawn(mounted.clone().oneshot(upload));
        tokio::task::yield_now().await;
        let report = server.shutdown(Duration::from_secs(1)).await;
        assert_eq!((report.finished, report.aborted), (0, 0));
        for answer in [unpolled.await.unwrap(), upload.await.unwrap().unwrap()] {
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            assert!(body.windows(8).any(|word| word == b"draining"), "{body:?}");
        }
        assert_eq!(counts.begun(), 0);
    }
}

/// The number of requests at once is kept to, also when many begin in the same moment.
#[test]
fn requests_that_begin_together() {
    const TOGETHER: usize = 4;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _entered = runtime.enter();
    let limits = Limits { max_connections: 1, ..Limits::default() };
    let config = ServerConfig { limits, ..Default::default() };
    let server = Server::new(router(&Counts::default())).unwrap().config(config);
    let server = server.start(Vec::new());
    let barrier = std::sync::Barrier::new(TOGETHER);
    for _ in 0..500 {
        let admitted: usize = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..TOGETHER)
                .map(|_| {
                    let mut mounted = server.http();
                    let (runtime, barrier) = (runtime.handle(), &barrier);
                    scope.spawn(move || {
                        let _entered = runtime.enter();
                        barrier.wait();
                        let call = mounted.call(post("hang", ""));
                        barrier.wait();
                        usize::from(call.now_or_never().is_none())
                    })
                })
                .collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1);
    }
}

/// A server that is dropped ends its mounted calls, and nothing of it stays in the application.
#[tokio::test]
async fn nothing_outlives_the_server() {
    let held = Arc::new(());
    let (counts, kept) = (Counts::default(), Arc::clone(&held));
    let router = router(&counts).route("test", "keep", move |request: Request| {
        let _held_by_the_handler = &kept;
        async move { Ok(Response::new(request.codec, request.body)) }
    });
    let server = Server::new(router).unwrap().start(vec![tcp().await]);
    let mounted = server.http();
    assert_eq!(send(&mounted, post("keep", "")).await.0, 200);
    let call = tokio::spawn(mounted.clone().oneshot(post("hang", "")));
    until("the handler runs", || counts.begun() == 1).await;
    drop(server);
    until("the call ends", || call.is_finished()).await;
    assert_eq!(call.await.unwrap().unwrap().status(), 503);
    until("handlers are dropped", || counts.over() == 1 && Arc::strong_count(&held) == 1).await;
    assert_eq!(send(&mounted, post("echo", "")).await.0, 503);
}
