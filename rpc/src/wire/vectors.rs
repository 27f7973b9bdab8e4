//! The test vectors of `PROTOCOL.md`, read from there: what this crate writes is what the page says,
//! and what the page says is what it reads.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{Code, Codec, Criticality, Limits, Metadata, Request, Response, Status, TraceContext};

/// The vectors by name.
fn vectors() -> BTreeMap<String, Vec<u8>> {
    let page = include_str!("../../../PROTOCOL.md");
    let (_, section) = page.split_once("## 9. Test vectors").expect("the page has the section");
    let mut vectors = BTreeMap::new();
    let mut names = Vec::new();
    for part in section.split("\n\n") {
        if let Some(block) = part.trim().strip_prefix("```text") {
            let digits = block.trim_end_matches('`').split_whitespace();
            let bytes = digits.map(|byte| u8::from_str_radix(byte, 16).expect("two hex digits"));
            vectors.insert(names.remove(0), bytes.collect());
        } else {
            names.extend(part.split("**").skip(1).step_by(2).map(str::to_owned));
        }
    }
    assert!(names.is_empty(), "no bytes for {names:?}");
    vectors
}

/// The frame of a vector, alone in its bytes.
fn frame(bytes: &[u8]) -> (Head, Bytes) {
    let mut inbox = Inbox::new(Limits::default().max_frame);
    inbox.space().extend_from_slice(bytes);
    let Ok(Some(Incoming::Frame(head, payload))) = inbox.next() else { panic!("{bytes:02X?}") };
    assert!(!inbox.is_mid_frame(), "{bytes:02X?}");
    (head, payload)
}

fn metadata(key: &str, value: &str) -> Metadata {
    let mut metadata = Metadata::new();
    metadata.insert(key, value).expect("a good key");
    metadata
}

fn request_json() -> Request {
    let mut request = Request::new("greeter", "hello", Codec::Json, Bytes::from("{}"));
    request.idempotent = true;
    request.metadata = metadata("k", "v");
    request
}

fn request_traced() -> Request {
    let body = Codec::MessagePack.encode(&BTreeMap::from([("name", "Ann")])).expect("it encodes");
    let mut request = Request::new("greeter", "hello", Codec::MessagePack, body);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.trace = Some(trace.parse::<TraceContext>().expect("a good traceparent"));
    (request.no_retry, request.attempt) = (true, 2);
    request.criticality = Criticality::Sheddable;
    request
}

fn answers() -> [(&'static str, u64, Result<Response, Status>); 4] {
    let mut success =
        Response::new(Codec::MessagePack, Codec::MessagePack.encode("Hello, Ann!").expect("text"));
    success.metadata = metadata("by", "a");
    let banned = Bytes::from(r#"{"Banned":{"name":"Bob"}}"#);
    let details = Status::new(Code::FailedPrecondition, "Bob is banned");
    let refused = Status::new(Code::Unavailable, "the server is draining").refused();
    [
        ("response-success", 2, Ok(success)),
        ("response-not-found", 0x10000, Err(Status::new(Code::NotFound, "no Ann"))),
        ("response-details", 2, Err(details.with_details(Codec::Json, banned))),
        ("response-refused", 7, Err(refused)),
    ]
}

/// Each vector is what this crate writes, and there is none that it does not know.
#[test]
fn writes_the_vectors() {
    let mut written = BTreeMap::new();
    written.insert("preface", Preface::ours(&Limits::default()).encode().to_vec());
    for (name, id, request, timeout) in [
        ("request-json", 0x10000, request_json(), Some(Duration::from_millis(1))),
        ("request-traced", 2, request_traced(), None),
    ] {
        let mut out = BytesMut::new();
        let payload = request_len(&request).expect("short names");
        put_request(&mut out, id, &request, timeout, payload);
        written.insert(name, out.to_vec());
    }
    for (name, id, answer) in answers() {
        let mut out = BytesMut::new();
        put_response(&mut out, id, &answer, Limits::default().max_frame);
        written.insert(name, out.to_vec());
    }
    for (name, kind, id) in [
        ("cancel", kind::CANCEL, 2),
        ("ping", kind::PING, 0),
        ("pong", kind::PONG, 0),
        ("go-away", kind::GO_AWAY, 5),
        ("go-away-soon", kind::GO_AWAY, STOP_SOON),
    ] {
        let mut out = BytesMut::new();
        put_control(&mut out, kind, id);
        written.insert(name, out.to_vec());
    }
    let never_written = ["too-short", "too-long", "unknown-type", "unknown-optional"];
    for (name, bytes) in vectors() {
        match written.remove(&*name) {
            Some(ours) => assert_eq!(ours, bytes, "{name}: {ours:02X?}"),
            None => assert!(never_written.contains(&&*name), "nobody writes {name}"),
        }
    }
    assert!(written.is_empty(), "not on the page: {:?}", written.keys());
}

/// Reading a vector gives what its description says.
#[test]
fn reads_the_vectors() {
    let vectors = vectors();
    let (head, payload) = frame(&vectors["request-json"]);
    let (sent, got) = (request_json(), decode_request(&payload).expect("it is good"));
    assert_eq!((head.kind, head.id), (kind::REQUEST, 0x10000));
    assert_eq!(got.timeout, Some(Duration::from_millis(1)));
    assert_eq!((got.contract, got.method, got.metadata), ("greeter", "hello", sent.metadata));
    assert!(got.idempotent && !got.no_retry && got.codec == Codec::Json && got.trace.is_none());
    assert_eq!(payload[got.body_at..], b"{}"[..]);

    let (head, payload) = frame(&vectors["request-traced"]);
    let (sent, got) = (request_traced(), decode_request(&payload).expect("it is good"));
    assert_eq!((head.id, got.timeout, got.trace), (2, None, sent.trace));
    assert_eq!((got.attempt, got.criticality), (2, Criticality::Sheddable));
    assert!(got.no_retry && !got.idempotent);
    assert_eq!(payload[got.body_at..], sent.body[..]);

    for (name, id, sent) in answers() {
        let (head, payload) = frame(&vectors[name]);
        assert_eq!((head.kind, head.id), (kind::RESPONSE, id), "{name}");
        match (decode_response(payload).expect("it is good"), sent) {
            (Ok(got), Ok(sent)) => {
                assert_eq!((got.body, got.metadata), (sent.body, sent.metadata), "{name}");
            }
            (Err(got), Err(sent)) => assert_eq!(got.into_parts(), sent.into_parts(), "{name}"),
            (got, sent) => panic!("{name}: {sent:?} was sent, {got:?} read"),
        }
    }
}

/// What ends a connection is an error, and what may be passed over says so.
#[test]
fn judges_the_bad_vectors() {
    let vectors = vectors();
    for (name, error) in
        [("too-short", WireError::TooShort(9)), ("too-long", WireError::TooLong(0x400_0001))]
    {
        let mut inbox = Inbox::new(Limits::default().max_frame);
        inbox.space().extend_from_slice(&vectors[name]);
        assert_eq!(inbox.next(), Err(error));
    }
    assert!(!frame(&vectors["unknown-type"]).0.is_optional());
    assert!(frame(&vectors["unknown-optional"]).0.is_optional());
}
