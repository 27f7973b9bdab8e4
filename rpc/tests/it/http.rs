//! HTTP on the same port, as `curl` speaks it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use micro_rpc::{
    Asked, Code, Limits, Metadata, Page, Request, Response, Router, Server, ServerConfig,
    ServerHandle, Status,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::*;

/// Sends a request on a connection of its own; returns the status and the body.
async fn send(server: &ServerHandle, first: &str, headers: &[&str], body: &str) -> (u16, String) {
    let (head, body) = exchange(server, first, headers, body).await;
    (head[9..12].parse().unwrap(), body)
}

/// The same, with the whole head of the answer.
async fn exchange(
    server: &ServerHandle,
    first: &str,
    headers: &[&str],
    body: &str,
) -> (String, String) {
    let mut raw = Raw::silent(server).await;
    let host = if headers.iter().any(|header| header.starts_with("Host:")) {
        ""
    } else {
        "Host: localhost\r\n"
    };
    let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{first} HTTP/1.1\r\n{host}{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    raw.send(request.as_bytes()).await;
    let answer = String::from_utf8(raw.rest().await).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head.to_owned(), body.to_owned())
}

async fn post(server: &ServerHandle, method: &str, body: &str) -> (u16, String) {
    let form = "Content-Type: application/x-www-form-urlencoded";
    send(server, &format!("POST /test/{method}"), &[form], body).await
}

/// A method is called with JSON, whatever the content type; an empty body is an empty object.
#[tokio::test]
async fn calls() {
    let (server, _) = server().await;
    assert_eq!(post(&server, "echo", r#"{"name":"Ann"}"#).await, (200, r#"{"name":"Ann"}"#.into()));
    assert_eq!(post(&server, "later", "").await, (200, "{}".into()));
}

/// A call that ends at once is not counted among those that run.
#[tokio::test]
async fn calls_that_end_at_once_are_not_counted() {
    let handle = Arc::new(OnceLock::<ServerHandle>::new());
    let server = Arc::clone(&handle);
    let router = Router::new().route("test", "count", move |request: Request| {
        let server = Arc::clone(&server);
        async move {
            let running = server.get().unwrap().in_flight();
            Ok(Response::new(request.codec, running.to_string().into()))
        }
    });
    let server = Server::new(router).unwrap().start(vec![tcp().await]);
    let server = handle.get_or_init(|| server);
    assert_eq!(post(server, "count", "{}").await, (200, "0".into()));
}

/// Errors have one shape and the status of their code; details that are JSON are shown.
#[tokio::test]
async fn errors() {
    let (server, counts) = server().await;
    let (status, body) = post(&server, "fail", r#"{"id":7}"#).await;
    let expected = r#"{"code":"not_found","details":{"id":7},"message":"no such thing"}"#;
    assert_eq!((status, body.as_str()), (404, expected));
    let (status, body) = post(&server, "panic", "{}").await;
    assert!(status == 500 && body.contains(r#""code":"internal""#), "{status} {body}");
    let (status, body) = send(&server, "POST /test/hang", &["micro-timeout: 5ms"], "").await;
    assert!(status == 504 && body.contains("deadline_exceeded"), "{status} {body}");
    until("the handler is dropped", || counts.over() == 1).await;
    let (status, _) = send(&server, "POST /test/echo", &["micro-timeout: soon"], "").await;
    assert_eq!(status, 400);
}

/// A header says how much a call matters; without it the call is critical, and one that names no
/// class is told which there are.
#[tokio::test]
async fn criticality() {
    let router = Router::new().route("test", "class", |request: Request| async move {
        Ok(Response::new(request.codec, format!("\"{}\"", request.criticality).into()))
    });
    let server = Server::new(router).unwrap().start(vec![tcp().await]);
    let class = async |headers: &[&str]| send(&server, "POST /test/class", headers, "").await;
    assert_eq!(class(&[]).await, (200, r#""critical""#.into()));
    for name in ["critical_plus", "critical", "sheddable_plus", "sheddable"] {
        let header = format!("Micro-Criticality: {name}");
        assert_eq!(class(&[&header]).await, (200, format!("\"{name}\"")));
    }
    for unknown in ["Sheddable", "", "3"] {
        let (status, body) = class(&[&format!("micro-criticality: {unknown}")]).await;
        assert_eq!(status, 400, "{body}");
        let expected =
            "is unknown: expected one of critical_plus, critical, sheddable_plus, sheddable";
        assert!(body.contains(&format!("criticality \\\"{unknown}\\\" {expected}")), "{body}");
    }
}

/// Headers are metadata on the way in, those that say so and `authorization`, and on the way out,
/// with answers and errors.
#[tokio::test]
async fn metadata() {
    let router = router(&Counts::default()).route("test", "refuse", |request: Request| async {
        Err(Status::new(Code::PermissionDenied, "no").with_metadata(request.metadata))
    });
    let server = Server::new(router).unwrap().start(vec![tcp().await]);
    let sent =
        ["Micro-Meta-Baggage.Tenant: acm\u{e9}", "Authorization: Bearer me", "micro-other: 1"];
    for (method, status) in [("echo", "200"), ("refuse", "403")] {
        let (head, _) = exchange(&server, &format!("POST /test/{method}"), &sent, "").await;
        assert_eq!(&head[9..12], status, "{head}");
        let mut got: Vec<_> = head.lines().filter(|line| line.starts_with("micro-")).collect();
        got.sort_unstable();
        let authorization = "micro-meta-authorization: Bearer me";
        assert_eq!(got, [authorization, "micro-meta-baggage.tenant: acm\u{e9}"], "{head}");
    }
}

/// Metadata keeps to the rules of the protocol and to the limit, also over HTTP.
#[tokio::test]
async fn metadata_that_breaks_a_rule() {
    let (server, _) = server_with(Limits { max_metadata: 100, ..Limits::default() }).await;
    let large = format!("micro-meta-a: {}", "x".repeat(97));
    let huge = format!("micro-meta-a: {}", "x".repeat(Metadata::MAX_BYTES));
    for (headers, status, hint) in [
        (&["micro-meta-a: 1", "micro-meta-A: 2"][..], 400, "`micro-meta-a` header"),
        (&["authorization: 1", "micro-meta-authorization: 2"], 400, "authorization` header"),
        (&["micro-meta-: 1"], 400, "metadata key"),
        (&["micro-meta-a!b: 1"], 400, "`a!b`"),
        (&[&large], 429, "101 bytes is more than 100"),
        (&[&huge], 400, "metadata of 1 pairs"),
        (&[&large[..large.len() - 1]], 200, ""),
    ] {
        let (got, body) = send(&server, "POST /test/echo", headers, "").await;
        assert!(got == status && body.contains(hint), "{headers:?}: {got} {body}");
    }
}

/// What is not there, and wrong verbs, say what would be right.
#[tokio::test]
async fn hints() {
    let (server, _) = server().await;
    for (first, status, hint) in [
        ("POST /", 404, "POST /contract/method"),
        ("POST /test/nothing", 404, "no method `nothing`"),
        ("GET /other/echo", 404, "no contract `other`"),
        ("GET /test/echo", 405, "takes POST"),
        ("POST /describe", 405, "takes GET"),
    ] {
        let (got, body) = send(&server, first, &[], "").await;
        assert!(
            got == status && body.contains(hint) && body.contains("\"code\""),
            "{first}: {got} {body}"
        );
    }
}

/// A fallback is asked for the methods that have no route; those it has not are not found either.
#[tokio::test]
async fn fallbacks() {
    let router = Router::new().fallback("test", |request: Request| async move {
        match request.method.as_str() {
            "known" => Ok(Response::new(request.codec, format!("{:?}", request.method).into())),
            _ => Err(Status::new(Code::Unimplemented, "no such method")),
        }
    });
    let server = Server::new(router).unwrap().start(vec![tcp().await]);
    assert_eq!(post(&server, "known", "").await, (200, r#""known""#.into()));
    let (status, body) = post(&server, "nosuch", "").await;
    assert!(status == 404 && body.contains("GET /describe"), "{status} {body}");
    let answer = channel(&server).call(&request("known", "{}")).await.unwrap();
    assert_eq!(answer.body, r#""known""#);
    let error = channel(&server).call(&request("nosuch", "{}")).await.unwrap_err();
    assert_eq!(error.code(), Code::Unimplemented);
}

/// Pages of other sites are refused, by their origin or by the name they gave this server.
#[tokio::test]
async fn foreign_pages() {
    let (server, _) = server().await;
    for header in ["Origin: http://evil.example", "Host: evil.example"] {
        let (status, body) = send(&server, "POST /test/echo", &[header], "{}").await;
        assert!(status == 403 && body.contains("permission_denied"), "{header}: {status} {body}");
    }
    let (status, _) = send(&server, "POST /test/echo", &["Origin: http://localhost"], "{}").await;
    assert_eq!(status, 200);
}

/// A body above the limit is refused before it is read as a whole.
#[tokio::test]
async fn large_bodies() {
    let (server, _) = server_with(Limits { max_frame: 5000, ..Limits::default() }).await;
    assert_eq!(post(&server, "echo", &"1".repeat(5000)).await.0, 200);
    let (status, body) = post(&server, "echo", &"1".repeat(5001)).await;
    assert!(status == 413 && body.contains("resource_exhausted"), "{status} {body}");
}

/// Health follows the service and the drain; the description is what the service gave.
#[tokio::test]
async fn health_and_description() {
    let warm = Arc::new(AtomicBool::new(false));
    let ready = Arc::clone(&warm);
    let server = Server::new(router(&Counts::default()))
        .unwrap()
        .config(ServerConfig { hosts: vec!["api.example.com".into()], ..Default::default() })
        .ready(Arc::new(move || {
            if ready.load(Ordering::SeqCst) { Ok(()) } else { Err("still warming up".into()) }
        }))
        .describe(Bytes::from_static(br#"{"service":"test"}"#))
        .start(vec![tcp().await]);
    let get = async |path: &str| send(&server, &format!("GET {path}"), &[], "").await;
    assert_eq!(get("/health/live").await, (200, "ok".into()));
    assert_eq!(get("/health/ready").await, (503, "still warming up".into()));
    warm.store(true, Ordering::SeqCst);
    assert_eq!(get("/health/ready").await, (200, "ok".into()));
    assert_eq!(get("/describe").await, (200, r#"{"service":"test"}"#.into()));
    let own = send(&server, "GET /health/live", &["Host: api.example.com:80"], "").await;
    assert_eq!(own.0, 200);
    server.drain();
    assert_eq!(get("/health/live").await.0, 200);
    assert_eq!(get("/health/ready").await, (503, "draining".into()));
    assert_eq!(post(&server, "echo", "{}").await.0, 200);
}

/// While the server drains, HTTP is served still, and each answer says that it is the last one.
#[tokio::test]
async fn drain_closes_after_the_answer() {
    let (server, _) = server().await;
    let call = b"POST /test/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let mut kept = Raw::silent(&server).await;
    kept.send(call).await;
    let mut answer = Vec::new();
    while !answer.ends_with(b"{}") {
        answer.push(kept.0.read_u8().await.unwrap());
    }
    server.drain();
    for mut raw in [kept, Raw::silent(&server).await] {
        raw.send(&call.repeat(2)).await;
        let answers = String::from_utf8(raw.rest().await).unwrap().to_lowercase();
        assert!(answers.starts_with("http/1.1 200") && answers.ends_with("{}"), "{answers}");
        assert!(answers.contains("\r\nconnection: close\r\n"), "{answers}");
        assert_eq!(answers.matches("http/1.1").count(), 1, "{answers}");
    }
}

/// A shutdown waits for an HTTP call as for any other, and closes idle connections.
#[tokio::test]
async fn shutdown_waits() {
    let (server, _) = server().await;
    let mut idle = Raw::silent(&server).await;
    idle.send(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let mut busy = Raw::silent(&server).await;
    busy.send(b"POST /test/later HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}").await;
    until("the handler runs", || server.in_flight() == 1).await;
    server.shutdown(Duration::from_secs(10)).await;
    let answer = String::from_utf8(busy.rest().await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("{}"), "{answer}");
    assert!(idle.rest().await.starts_with(b"HTTP/1.1 200"));
}

/// Without any grace a call is aborted, and noted; one whose body is on its way is refused.
#[tokio::test]
async fn shutdown_aborts_at_once() {
    let (server, counts) = server().await;
    let call = "POST /test/hang HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n";
    let mut running = Raw::silent(&server).await;
    running.send(format!("{call}\r\n{{}}").as_bytes()).await;
    until("the handler runs", || counts.begun() == 1).await;
    let mut coming = Raw::silent(&server).await;
    coming.send(format!("{call}Expect: 100-continue\r\n\r\n").as_bytes()).await;
    coming.0.readable().await.unwrap();
    let report = server.shutdown(Duration::ZERO).await;
    assert_eq!((report.finished, report.aborted, counts.over()), (0, 1, 1));
    for (mut raw, why) in [(running, "before the call ended"), (coming, "is draining")] {
        let answer = String::from_utf8(raw.rest().await).unwrap();
        assert!(answer.contains("HTTP/1.1 503") && answer.contains(why), "{answer}");
    }
}

/// A body that is announced as too large is refused without waiting for it, and the answer arrives
/// although the client goes on sending.
#[tokio::test]
async fn announced_bodies() {
    let stall_timeout = Duration::from_secs(3600);
    let (server, _) = server_with(Limits { stall_timeout, ..Limits::default() }).await;
    let head = "POST /test/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n";
    for body in [0, 3_000_000] {
        let mut raw = Raw::silent(&server).await;
        raw.send(head.as_bytes()).await;
        raw.send(&vec![b'x'; body]).await;
        let answer = String::from_utf8(raw.rest().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with('}'), "{body}: {answer:?}");
    }
}

/// The host in an absolute request target counts, whatever the header says.
#[tokio::test]
async fn absolute_targets() {
    let (server, _) = server().await;
    let (status, _) = send(&server, "GET http://evil.example/health/live", &[], "").await;
    assert_eq!(status, 403);
    let (status, _) = send(&server, "GET http://localhost/health/live", &[], "").await;
    assert_eq!(status, 200);
}

/// A client that does not read its answers is given up.
#[tokio::test]
async fn answers_nobody_reads() {
    let stall_timeout = Duration::from_millis(50);
    let (server, _) = server_with(Limits { stall_timeout, ..Limits::default() }).await;
    let mut raw = Raw::silent(&server).await;
    let body = "x".repeat(100_000);
    let call = format!(
        "POST /test/echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{body}"
    );
    let flood = async { while raw.0.write_all(call.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), flood).await.expect("the server gives up");
}

/// A client that closes its connection, or its sending side alone, ends its call.
#[tokio::test]
async fn callers_that_leave() {
    let (server, counts) = server().await;
    let call = b"POST /test/hang HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
    let mut closed = Raw::silent(&server).await;
    let mut half_closed = Raw::silent(&server).await;
    closed.send(call).await;
    half_closed.send(call).await;
    until("the handlers run", || counts.begun() == 2).await;
    half_closed.0.shutdown().await.unwrap();
    assert!(half_closed.rest().await.is_empty());
    until("its handler is dropped", || counts.over() == 1).await;
    drop(closed);
    until("both are dropped", || counts.over() == 2 && server.in_flight() == 0).await;
}

/// A page is answered at its path and by its verb alone, and may see what the server does; what is
/// for callers of this host is not for those behind a proxy.
#[tokio::test]
async fn pages() {
    let shown = |asked: &Asked<'_>| Ok(format!("{} running", asked.server().running));
    let taken = |asked: &Asked<'_>| match asked.text() {
        "no" => Err(Status::new(Code::InvalidArgument, "expected yes")),
        text => Ok(format!("took {text}")),
    };
    let server = Server::new(Router::new())
        .unwrap()
        .page(Page::get("/open", "text/x", shown))
        .page(Page::get("/near", "text/x", shown).for_this_host())
        .page(Page::put("/near", taken).for_this_host())
        .start(vec![tcp().await]);
    let (head, body) = exchange(&server, "GET /open", &[], "").await;
    assert!(head.contains("content-type: text/x"), "{head}");
    assert_eq!(body, "0 running");
    assert_eq!(send(&server, "GET /near", &[], "").await, (200, "0 running".into()));
    assert_eq!(send(&server, "PUT /near", &[], "yes").await, (200, "took yes".into()));
    assert_eq!(send(&server, "PUT /near", &[], "no").await.0, 400);
    assert_eq!(send(&server, "PUT /near", &[], &"x".repeat(65 * 1024)).await.0, 413);
    let (head, _) = exchange(&server, "POST /near", &[], "").await;
    assert!(head.contains(" 405 ") && head.contains("allow: GET, PUT"), "{head}");
    let proxied = ["X-Forwarded-For: 10.0.0.1"];
    assert_eq!(send(&server, "GET /open", &proxied, "").await.0, 200);
    assert_eq!(send(&server, "GET /near", &proxied, "").await.0, 403);
    assert_eq!(send(&server, "PUT /near", &["Origin: http://evil.example"], "yes").await.0, 403);
}
