//! Clients that send what they should not.

use micro_rpc::{Code, Limits};
use tokio::io::AsyncWriteExt;

use super::Bystander;
use crate::support::*;

/// What a row of the table costs.
enum Cost {
    /// The connection: a go-away, and it is closed.
    Connection,
    /// Call 1, which is answered with this; the connection goes on.
    Call(Code),
    /// Nothing: nothing is answered, and the connection goes on.
    Nothing,
}
use Cost::{Call, Connection, Nothing};

type Row = (&'static str, Vec<u8>, Cost);

/// Frames that are none, or not from a client.
fn frames() -> Vec<Row> {
    let call = |id| frame(REQUEST, 0, id, &payload("echo", 0, b"once"));
    let length = |length: u32| [&length.to_be_bytes()[..], &[REQUEST, 0, 0, 0]].concat();
    vec![
        ("length 0", length(0), Connection),
        ("length 3", length(3), Connection),
        ("length 9", length(9), Connection),
        ("length 64 MiB + 1", length((64 << 20) + 1), Connection),
        ("length 4 GiB - 1", length(u32::MAX), Connection),
        ("a pad that is not optional", frame(0, 0, 0, b""), Connection),
        ("a pad", frame(0, 1, 0, b"xxxx"), Nothing),
        ("a reserved type", frame(7, 0, 0, b""), Connection),
        ("an unknown type", frame(255, 0, 0, b""), Connection),
        ("an optional unknown type", frame(255, 0xff, 1, b"from the future"), Nothing),
        ("a response", frame(RESPONSE, 0, 1, b"\0\x02\0\0\0"), Connection),
        ("a response to nothing", frame(RESPONSE, 0, 9, b""), Connection),
        ("a cancel of nothing", frame(CANCEL, 0, 12_345, b"payload"), Nothing),
        ("a pong that nobody asked for", frame(PONG, 0, 5, b""), Nothing),
        ("a go-away", frame(GO_AWAY, 0, 5, b""), Nothing),
        ("call id 0", call(0), Connection),
        ("the highest call id", call(u64::MAX), Connection),
        ("a call id twice", [call(1), call(1)].concat(), Connection),
        ("a call id that falls", [call(7), call(6)].concat(), Connection),
        ("text", b"hello, is this the right port? hello?".to_vec(), Connection),
    ]
}

/// Requests whose header cannot be read, or asks for what there is not.
fn headers() -> Vec<Row> {
    let with = |at: usize, byte: u8| {
        let mut bytes = payload("echo", 0, b"");
        bytes[at] = byte;
        bytes
    };
    let invalid = || Call(Code::InvalidArgument);
    let rows = vec![
        ("an empty request", Vec::new(), invalid()),
        ("garbage", b"garbage".to_vec(), invalid()),
        ("codec 0", with(8, 0), invalid()),
        ("an unknown codec", with(8, 77), invalid()),
        ("an unknown criticality", with(11, 4), invalid()),
        ("a trace that is not there", with(9, 4), invalid()),
        ("a contract that is not UTF-8", with(13, 0xff), invalid()),
        ("a method that is not UTF-8", with(18, 0xff), invalid()),
        ("a contract beyond the end", with(12, 0xff), invalid()),
        ("a method beyond the end", with(17, 0xff), invalid()),
        ("metadata beyond the end", with(22, 0xff), invalid()),
        ("a contract nobody has", with(13, b'x'), Call(Code::Unimplemented)),
        ("a method nobody has", with(18, b'x'), Call(Code::Unimplemented)),
        ("a deadline at once", payload("hang", 1, b""), Call(Code::DeadlineExceeded)),
        ("above the limit", payload("echo", 0, &[0; 100_001]), Call(Code::ResourceExhausted)),
    ];
    let request =
        |(what, payload, cost): (_, Vec<u8>, _)| (what, frame(REQUEST, 0, 1, &payload), cost);
    rows.into_iter().map(request).collect()
}

/// Metadata that is too much or not metadata.
fn metadata() -> Vec<Row> {
    let entry = |key: &[u8], value: &[u8]| {
        let length = (value.len() as u16).to_be_bytes();
        [&[key.len() as u8], key, &length, value].concat()
    };
    let numbered =
        |count: usize| (0..count).flat_map(|n| entry(format!("k{n}").as_bytes(), b"")).collect();
    let large = |count: usize| -> Vec<u8> {
        (0..count).flat_map(|n| entry(format!("k{n}").as_bytes(), &[b'v'; 500])).collect()
    };
    let rows: Vec<(_, Vec<u8>, _)> = vec![
        ("129 pairs", numbered(129), Code::InvalidArgument),
        ("17 kB", large(34), Code::InvalidArgument),
        ("64 KiB", large(129), Code::InvalidArgument),
        ("more than this server wants", large(20), Code::ResourceExhausted),
        ("a key twice", entry(b"k", b"v").repeat(2), Code::InvalidArgument),
        ("no key", entry(b"", b"v"), Code::InvalidArgument),
        ("a long key", entry(&[b'k'; 129], b"v"), Code::InvalidArgument),
        ("a key in capitals", entry(b"Key", b"v"), Code::InvalidArgument),
        ("a key that is not UTF-8", entry(b"\xff", b"v"), Code::InvalidArgument),
        ("a value that is not UTF-8", entry(b"k", b"\xff"), Code::InvalidArgument),
        ("a pair without its end", entry(b"k", b"v")[..3].to_vec(), Code::InvalidArgument),
    ];
    let request = |(what, entries, code): (_, Vec<u8>, _)| {
        let mut payload = payload("echo", 0, b"");
        payload.truncate(payload.len() - 2);
        payload.extend((entries.len() as u16).to_be_bytes());
        payload.extend(entries);
        (what, frame(REQUEST, 0, 1, &payload), Call(code))
    };
    rows.into_iter().map(request).collect()
}

/// Bodies that are not what the method takes.
fn bodies() -> Vec<Row> {
    const JSON: u8 = 2;
    const PACKED: u8 = 1;
    let deep = |open: &[u8], close: &[u8]| [open.repeat(10_000), close.repeat(10_000)].concat();
    let ignored = [b"{\"name\":\"a\",\"new\":", &deep(b"[", b"]")[..], b"}"].concat();
    let rows: Vec<(_, u8, Vec<u8>)> = vec![
        ("nothing", JSON, Vec::new()),
        ("no JSON", JSON, b"hello".to_vec()),
        ("a wrong type", JSON, b"{\"name\":7}".to_vec()),
        ("a missing field", JSON, b"{}".to_vec()),
        ("a list for a map", JSON, b"[\"a\"]".to_vec()),
        ("two values", JSON, b"{\"name\":\"a\"}{}".to_vec()),
        ("no UTF-8", JSON, b"{\"name\":\"\xff\"}".to_vec()),
        ("deep JSON", JSON, deep(b"[", b"]")),
        ("deep JSON maps", JSON, deep(b"{\"name\":", b"}")),
        ("deep JSON in a field nobody reads", JSON, ignored),
        ("no MessagePack", PACKED, b"\xc1".to_vec()),
        ("a wrong type, packed", PACKED, b"\x81\xa4name\x07".to_vec()),
        ("a list for a map, packed", PACKED, b"\x91\xa1a".to_vec()),
        ("two values, packed", PACKED, b"\x81\xa4name\xa1a\xc0".to_vec()),
        ("deep MessagePack", PACKED, deep(b"\x91", b"\xc0")),
        ("deep MessagePack maps", PACKED, deep(b"\x81\xa4name", b"\xc0")),
        (
            "deep in a field nobody reads",
            PACKED,
            [b"\x81\xa3new", &deep(b"\x91", b"\xc0")[..]].concat(),
        ),
        ("a map of 4 G fields", PACKED, b"\xdf\xff\xff\xff\xff\xa4name".to_vec()),
        ("text of 4 GiB", PACKED, b"\x81\xa4name\xdb\xff\xff\xff\xffa".to_vec()),
        ("a list of 4 G values", PACKED, b"\x81\xa3new\xdd\xff\xff\xff\xff\xc0".to_vec()),
    ];
    let request = |(what, codec, body): (_, _, Vec<u8>)| {
        let mut payload = payload("greet", 0, &body);
        payload[8] = codec;
        (what, frame(REQUEST, 0, 1, &payload), Call(Code::InvalidArgument))
    };
    rows.into_iter().map(request).collect()
}

/// Each thing that a client can do wrong costs that call or that connection, and nobody else.
#[tokio::test]
async fn table() {
    let limits = Limits { max_frame: 100_000, max_metadata: 4000, ..Limits::default() };
    let (server, _) = server_with(limits).await;
    let bystander = Bystander::of(&server).await;
    for (what, bytes, cost) in [frames(), headers(), metadata(), bodies()].into_iter().flatten() {
        let mut raw = Raw::connect(&server).await;
        raw.send(&bytes).await;
        match cost {
            Connection => {
                let rest = raw.rest().await;
                let go_away = rest.len().checked_sub(14).map(|at| rest[at + 4]);
                assert_eq!(go_away, Some(GO_AWAY), "{what}: {rest:?}");
                continue;
            }
            Call(code) => {
                let (kind, id, answer) = raw.frame().await;
                assert_eq!((kind, id, answer[0]), (RESPONSE, 1, code as u8), "{what}");
            }
            Nothing => {}
        }
        raw.send(&frame(REQUEST, 0, 1000, &payload("echo", 0, b"hi"))).await;
        let next = raw.frame().await;
        assert_eq!(next, (RESPONSE, 1000, b"\0\x02\0\0\0hi".to_vec()), "{what}");
    }
    bystander.noticed_nothing().await;
}

/// What is not a preface closes the connection; another version is answered with our preface.
#[tokio::test]
async fn prefaces() {
    let (server, _) = server().await;
    let bystander = Bystander::of(&server).await;
    let with = |at: usize, bytes: &[u8]| {
        let mut preface = PREFACE;
        preface[at..at + bytes.len()].copy_from_slice(bytes);
        preface
    };
    let rows: [(&str, &[u8], &[u8]); 7] = [
        ("TLS", b"\x16\x03\x01\x02\0", b""),
        ("zeros", &[0; 40], b""),
        ("another magic", &with(1, b"nope"), b""),
        ("another version", &with(4, &[2]), &PREFACE),
        ("a frame limit of 0", &with(8, &[0; 4]), b""),
        ("a frame limit of 1023", &with(8, &[0, 0, 3, 0xff]), b""),
        ("no calls in flight", &with(12, &[0; 4]), b""),
    ];
    for (what, bytes, answer) in rows {
        let mut raw = Raw::silent(&server).await;
        raw.send(bytes).await;
        // Half-closed, so that the server need not wait for the end of what it turns away.
        let _ = raw.0.shutdown().await;
        assert_eq!(raw.rest().await, answer, "{what}");
    }
    bystander.noticed_nothing().await;
}

/// A good exchange that ends anywhere is answered as far as it came, and its end is noticed.
#[tokio::test]
async fn truncation() {
    let (server, _) = server().await;
    let bystander = Bystander::of(&server).await;
    let calls = [
        frame(REQUEST, 0, 1, &payload("echo", 0, b"one")),
        frame(PING, 0, 7, b""),
        frame(REQUEST, 0, 2, &payload("echo", 0, b"two")),
    ];
    let sent = [&PREFACE[..], &calls.concat()].concat();
    let mut whole = Raw::silent(&server).await;
    whole.send(&sent).await;
    let mut answer = vec![0; 16 + (14 + 8) + 14 + (14 + 8)];
    tokio::io::AsyncReadExt::read_exact(&mut whole.0, &mut answer).await.unwrap();
    for cut in 0..sent.len() {
        let mut raw = Raw::silent(&server).await;
        raw.send(&sent[..cut]).await;
        raw.0.shutdown().await.unwrap();
        let got = raw.rest().await;
        let (mut due, got) = (pieces(&answer), pieces(&got));
        for piece in &got {
            let at = due.iter().position(|due| due == piece);
            due.remove(at.unwrap_or_else(|| panic!("{cut}: {piece:?} of {got:?}")));
        }
    }
    bystander.noticed_nothing().await;
}

/// The preface and the frames of an answer. On a slow machine calls get tasks of their own, and answer
/// in any order.
fn pieces(answer: &[u8]) -> Vec<&[u8]> {
    let (preface, mut rest) = answer.split_at(answer.len().min(PREFACE.len()));
    let mut pieces: Vec<_> = (!preface.is_empty()).then_some(preface).into_iter().collect();
    while let Some(length) = rest.first_chunk() {
        let (frame, others) = rest.split_at(4 + u32::from_be_bytes(*length) as usize);
        pieces.push(frame);
        rest = others;
    }
    pieces
}

/// Random bytes, and a good exchange with some of them changed, close a connection at worst.
#[tokio::test]
async fn random_bytes() {
    let (server, _) = server().await;
    let bystander = Bystander::of(&server).await;
    let calls = (1..20).flat_map(|id| frame(REQUEST, 0, id, &payload("echo", 0, &[b'x'; 50])));
    let good = [PREFACE.to_vec(), calls.collect()].concat();
    for seed in 0..300 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut bytes = good.clone();
        match seed % 3 {
            0 => random.fill(&mut bytes),
            1 => random.fill(&mut bytes[16..]),
            _ => (0..3).for_each(|_| *random.choice(&mut bytes).unwrap() = random.u8(..)),
        }
        let mut raw = Raw::silent(&server).await;
        // The server may have closed it before all is sent.
        let _ = raw.0.write_all(&bytes).await;
        let _ = raw.0.shutdown().await;
        raw.rest().await;
    }
    bystander.noticed_nothing().await;
}

/// An answer above what the client accepts fails that call alone.
#[tokio::test]
async fn answers_above_the_limit() {
    let (server, _) = server().await;
    let mut raw = Raw::silent(&server).await;
    let mut preface = PREFACE;
    preface[8..12].copy_from_slice(&1024_u32.to_be_bytes());
    raw.send(&preface).await;
    raw.preface().await;
    raw.send(&frame(REQUEST, 0, 1, &payload("large", 0, b""))).await;
    raw.send(&frame(REQUEST, 0, 2, &payload("echo", 0, b"hi"))).await;
    let (kind, id, answer) = raw.frame().await;
    assert_eq!((kind, id, answer[0]), (RESPONSE, 1, Code::ResourceExhausted as u8));
    assert_eq!(raw.frame().await, (RESPONSE, 2, b"\0\x02\0\0\0hi".to_vec()));
}

/// A frame of the longest kind is thrown away as it comes, and what follows it is understood.
#[tokio::test]
async fn the_longest_frame() {
    let (server, _) = server().await;
    let mut raw = Raw::connect(&server).await;
    raw.send(&(64_u32 << 20).to_be_bytes()).await;
    raw.send(&[REQUEST, 0, 0, 0, 0, 0, 0, 0, 0, 1]).await;
    let (kind, id, answer) = raw.frame().await;
    assert_eq!((kind, id, answer[0]), (RESPONSE, 1, Code::ResourceExhausted as u8));
    let part = vec![0; 1 << 20];
    for _ in 0..63 {
        raw.send(&part).await;
    }
    raw.send(&part[10..]).await;
    raw.send(&frame(PING, 0, 7, b"")).await;
    assert_eq!(raw.frame().await, (PONG, 7, Vec::new()));
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
