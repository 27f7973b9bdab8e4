//! Bytes that are wrong: what they cost, and whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use micro_rpc::{Code, Limits, MemoryNetwork, Request, Response, Router, Server};
use tokio::io::AsyncWriteExt;

use crate::support::*;

/// Whatever a connection sends that is not the protocol closes that connection and no other.
#[tokio::test]
async fn wrong_bytes_cost_one_connection() {
    let (server, _) = server().await;
    let channel = channel(&server);
    assert_works(&channel).await;
    let first = frame(REQUEST, 0, 7, &payload("echo", 0, b""));
    let after_preface: [(&str, Vec<u8>); 6] = [
        ("a length that is too short", vec![0, 0, 0, 3]),
        ("a length that is absurd", vec![0xff; 14]),
        ("an unknown frame that is not optional", frame(99, 0, 0, b"")),
        ("an answer to a server", frame(RESPONSE, 0, 0, b"")),
        ("a call id that does not increase", [first.clone(), first].concat()),
        ("a call id that is reserved", frame(REQUEST, 0, u64::MAX, b"")),
    ];
    for (what, bytes) in after_preface {
        let mut raw = Raw::connect(&server).await;
        raw.send(&bytes).await;
        let answer = raw.rest().await;
        let go_away = answer.len().checked_sub(14).map(|at| answer[at + 4]);
        assert_eq!(go_away, Some(GO_AWAY), "{what}: {answer:?}");
    }
    let noise: Vec<u8> = (0..4000_u32).map(|n| (n * n % 251) as u8).collect();
    for first in
        [&b"\x16\x03\x01\x02\x00"[..], b"\x00\x00", b"\xB5nope\0\0\0\0\0\0\0\0\0\0\0", &noise]
    {
        let mut raw = Raw::silent(&server).await;
        raw.send(first).await;
        assert!(raw.rest().await.is_empty());
    }
    assert_works(&channel).await;
}

/// A client of another version gets our preface, which tells it why it is turned away.
#[tokio::test]
async fn other_version() {
    let (server, _) = server().await;
    let mut raw = Raw::silent(&server).await;
    let mut preface = PREFACE;
    preface[4] = 2;
    raw.send(&preface).await;
    let mut answer = [0; 16];
    tokio::io::AsyncReadExt::read_exact(&mut raw.0, &mut answer).await.unwrap();
    assert_eq!(answer, PREFACE);
    raw.0.shutdown().await.unwrap();
    assert!(raw.rest().await.is_empty());
}

/// A request that cannot be read, and one that is too long, fail alone.
#[tokio::test]
async fn wrong_requests_cost_one_call() {
    let (server, _) = server_with(Limits { max_frame: 2000, ..Limits::default() }).await;
    let mut raw = Raw::connect(&server).await;
    let mut no_codec = payload("echo", 0, b"");
    no_codec[8] = 77;
    let mut no_utf8 = payload("echo", 0, b"");
    no_utf8[13] = 0xff;
    let cases = [
        (Code::InvalidArgument, b"garbage".to_vec()),
        (Code::InvalidArgument, Vec::new()),
        (Code::InvalidArgument, no_codec),
        (Code::InvalidArgument, no_utf8),
        (Code::ResourceExhausted, payload("echo", 0, &[0; 100_000])),
    ];
    for (id, (code, payload)) in (1..).zip(cases) {
        raw.send(&frame(REQUEST, 0, id, &payload)).await;
        let (kind, answered, answer) = raw.frame().await;
        assert_eq!((kind, answered, answer[0]), (RESPONSE, id, code as u8));
    }
    raw.send(&frame(REQUEST, 0, 9, &payload("echo", 0, b"hi"))).await;
    assert_eq!(raw.frame().await, (RESPONSE, 9, b"\0\x02\0\0\0hi".to_vec()));
}

/// Optional frames of unknown types are skipped, pings answered, late cancels ignored.
#[tokio::test]
async fn control_frames() {
    let (server, _) = server().await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(200, 1, 5, b"from the future")).await;
    raw.send(&frame(CANCEL, 0, 12345, b"")).await;
    raw.send(&frame(PING, 0, 42, b"")).await;
    assert_eq!(raw.frame().await, (PONG, 42, Vec::new()));
}

/// The server ends a call at its deadline by itself, and a cancelled one without an answer.
#[tokio::test]
async fn the_server_keeps_deadlines() {
    let (server, counts) = server().await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&frame(REQUEST, 0, 1, &payload("hang", 0, b""))).await;
    raw.send(&frame(REQUEST, 0, 2, &payload("hang", 1000, b""))).await;
    raw.send(&frame(REQUEST, 0, 3, &payload("hang", u64::MAX, b""))).await;
    let (kind, id, answer) = raw.frame().await;
    assert_eq!((kind, id, answer[0]), (RESPONSE, 2, Code::DeadlineExceeded as u8));
    raw.send(&frame(CANCEL, 0, 1, b"")).await;
    until("two are over", || counts.over() == 2).await;
    drop(raw);
    until("a closed connection ends its calls", || counts.over() == 3).await;
}

/// A frame that comes in the same bytes as the preface is handled at once, not with the next bytes.
#[tokio::test]
async fn a_frame_beside_the_preface() {
    let (server, _) = server().await;
    let mut raw = Raw::silent(&server).await;
    let call = frame(REQUEST, 0, 1, &payload("echo", 0, b"hi"));
    raw.send(&[&PREFACE[..], &call].concat()).await;
    raw.preface().await;
    assert_eq!(raw.frame().await, (RESPONSE, 1, b"\0\x02\0\0\0hi".to_vec()));
}

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
    let _server = Server::new(router).unwrap().start(vec![network.listen("node").unwrap()]);
    let mut raw = Raw(network.connect("node").unwrap());
    let calls = (1..=CALLS).flat_map(|id| frame(REQUEST, 0, id, &payload("large", 0, b"")));
    raw.send(&[PREFACE.to_vec(), calls.collect()].concat()).await;
    until("the outbox is full", || run.load(Ordering::SeqCst) >= 10).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let begun = run.load(Ordering::SeqCst);
    assert!(begun < 20, "{begun} answers of 100 kB wait for a client that takes 1 MiB");
    raw.preface().await;
    for id in 1..=CALLS {
        assert_eq!(raw.frame().await.1, id, "none is forgotten");
    }
}

/// A client that sends more calls than are allowed has the excess refused, not run.
#[tokio::test]
async fn too_many_calls() {
    let (server, counts) = server_with(Limits { max_in_flight: 2, ..Limits::default() }).await;
    let mut raw = Raw::connect(&server).await;
    for id in 1..=3 {
        raw.send(&frame(REQUEST, 0, id, &payload("hang", 0, b""))).await;
    }
    let (_, id, answer) = raw.frame().await;
    assert_eq!((id, answer[0], answer[2]), (3, Code::ResourceExhausted as u8, 2));
    assert_eq!(counts.begun(), 2);
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
