//! HTTP that is malformed, ambiguous or foreign.

use super::Bystander;
use crate::support::*;

/// What is sent, and the status lines that may come back; an empty one is a closed connection.
type Row = (&'static str, String, &'static [&'static str]);

const OK: &[&str] = &["200"];
const BAD: &[&str] = &["400"];
const CLOSED: &[&str] = &[""];

/// A request that must not be seen, since the one before it is ambiguous or ends the connection.
const HIDDEN: &str = "POST /test/fail HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";

/// A call with these headers and this body, and a hidden one behind it.
fn call(headers: &str, body: &str) -> String {
    format!("POST /test/echo HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}{HIDDEN}")
}

/// A body whose end proxies and servers may see at different places.
fn smuggling() -> Vec<Row> {
    const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
    let after = |first: &str, second: &str| format!("{first}{second}");
    vec![
        ("length, chunked", call(&after("Content-Length: 4\r\n", CHUNKED), "0\r\n\r\n"), OK),
        ("chunked, length", call(&after(CHUNKED, "Content-Length: 4\r\n"), "0\r\n\r\n"), OK),
        ("chunked alone", call(CHUNKED, "2\r\n{}\r\n0\r\n\r\n"), OK),
        ("two lengths", call("Content-Length: 2\r\nContent-Length: 3\r\n", "{} "), BAD),
        ("a list of lengths", call("Content-Length: 2, 3\r\n", "{} "), BAD),
        ("a negative length", call("Content-Length: -2\r\n", "{}"), BAD),
        ("a length with a sign", call("Content-Length: +2\r\n", "{}"), BAD),
        ("a length above all", call("Content-Length: 99999999999999999999\r\n", "{}"), BAD),
        ("a coding that is not chunked", call("Transfer-Encoding: gzip\r\n", "{}"), BAD),
        ("chunked, then another", call("Transfer-Encoding: chunked, x\r\n", "0\r\n\r\n"), BAD),
        ("a chunk of no size", call(CHUNKED, "zz\r\n{}\r\n0\r\n\r\n"), BAD),
        ("a chunk above all", call(CHUNKED, "fffffffffffffffff\r\n{}\r\n"), BAD),
        ("a chunk that is too long", call(CHUNKED, "1\r\n{}\r\n0\r\n\r\n"), BAD),
        ("a space before the colon", call("Content-Length : 2\r\n", "{}"), BAD),
        ("a folded header", call("Content-Length: 2\r\nX: a\r\n b\r\n", "{}"), BAD),
        ("a folded length", call("Content-Length:\r\n 2\r\n", "{}"), BAD),
        ("a zero in a header", call("Content-Length: 2\r\nX: a\0b\r\n", "{}"), BAD),
        ("no name", call(": x\r\n", "{}"), BAD),
        ("chunked in HTTP/1.0", call(CHUNKED, "0\r\n\r\n").replacen("1.1", "1.0", 1), BAD),
    ]
}

/// What is not HTTP/1.1, or too much of it.
fn malformed() -> Vec<Row> {
    let many: String = (0..200).map(|n| format!("X{n}: x\r\n")).collect();
    let long = format!("X: {}\r\n", "x".repeat(400_000));
    let path = "x".repeat(70_000);
    vec![
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &["", "400"]),
        ("no version", "GET /health/live\r\n\r\n".into(), BAD),
        ("another version", "GET /health/live HTTP/9.9\r\n\r\n".into(), BAD),
        ("capitals", "HELLO\r\n\r\n".into(), BAD),
        ("bytes", "GET /\u{1}\u{2} HTTP/1.1\r\n\r\n".into(), BAD),
        ("200 headers", call(&many, ""), &["431"]),
        ("a long header", call(&long, ""), &["431"]),
        ("a long path", format!("GET /{path} HTTP/1.1\r\n\r\n"), &["414", "431"]),
        ("lower case", "get /health/live HTTP/1.1\r\n\r\n".into(), CLOSED),
        ("bare line feeds", "GET /health/live HTTP/1.0\nHost: localhost\n\n".into(), OK),
    ]
}

/// What a page of another site can make a browser send.
fn foreign() -> Vec<Row> {
    let get = |headers: &str| format!("GET /health/live HTTP/1.0\r\n{headers}\r\n");
    vec![
        ("an origin", get("Host: localhost\r\nOrigin: http://evil.example\r\n"), &["403"]),
        ("an opaque origin", get("Host: localhost\r\nOrigin: null\r\n"), &["403"]),
        ("two origins", get("Host: a\r\nOrigin: http://a\r\nOrigin: http://b\r\n"), BAD),
        ("a name", get("Host: evil.example\r\n"), &["403"]),
        ("a name that begins well", get("Host: 127.0.0.1.evil.example\r\n"), &["403"]),
        ("two hosts", get("Host: localhost\r\nHost: evil.example\r\n"), BAD),
        ("a target", "GET http://evil.example/describe HTTP/1.0\r\n\r\n".into(), &["403"]),
    ]
}

/// Each malformed, ambiguous or foreign request gets one answer that says so, and nothing that is
/// hidden behind it is executed.
#[tokio::test]
async fn table() {
    let (server, _) = server().await;
    let bystander = Bystander::of(&server).await;
    for (what, request, expected) in [smuggling(), malformed(), foreign()].into_iter().flatten() {
        let mut raw = Raw::silent(&server).await;
        raw.send(request.as_bytes()).await;
        let answer = String::from_utf8(raw.rest().await).unwrap();
        let status = answer.get(9..12).unwrap_or_default();
        assert!(expected.contains(&status), "{what}: {answer}");
        assert!(answer.matches("HTTP/1.").count() <= 1, "{what}: {answer}");
        assert!(!answer.contains("no such thing"), "{what}: {answer}");
    }
    bystander.noticed_nothing().await;
}
