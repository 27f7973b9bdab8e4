//! What the fuzz targets in `rpc/fuzz` run, and a test with their corpus: a function for each thing
//! that reads bytes of a peer. It panics when a property does not hold.

#![allow(clippy::unwrap_used, reason = "a property that does not hold panics")]

use std::cell::RefCell;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde::de::IgnoredAny;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::runtime::{Builder, Runtime};

use crate::wire::{
    Head, Inbox, Incoming, Preface, RequestHead, WireError, decode_request, decode_response,
    put_request, put_response, request_len,
};
use crate::{
    Channel, ChannelConfig, Codec, Limits, MemoryNetwork, Metadata, Request, Response, Router,
    Server, ServerConfig,
};

/// A function that takes what a peer sent.
pub type Target = fn(&[u8]);

/// Each target by its name.
pub const TARGETS: [(&str, Target); 7] = [
    ("preface", preface),
    ("frames", frames),
    ("request", request),
    ("response", response),
    ("metadata", metadata),
    ("body", body),
    ("server", server),
];

/// A preface that is understood is written as it was read.
pub fn preface(bytes: &[u8]) {
    let Some(first) = bytes.first_chunk() else { return };
    if let Ok(read) = Preface::decode(first) {
        assert_eq!(Preface::decode(&read.encode()), Ok(read));
    }
}

/// However the bytes are cut into reads, the same frames and the same error come out. The first
/// byte says how they are cut.
pub fn frames(bytes: &[u8]) {
    let Some((cut, bytes)) = bytes.split_first() else { return };
    let whole = frames_of(bytes, bytes.len().max(1));
    assert_eq!(frames_of(bytes, usize::from(*cut).max(1)), whole);
}

const MAX_FRAME: usize = 4096;

fn frames_of(bytes: &[u8], cut: usize) -> (Vec<Incoming>, Option<WireError>) {
    let mut inbox = Inbox::new(MAX_FRAME);
    let mut found = Vec::new();
    for part in bytes.chunks(cut) {
        inbox.space().extend_from_slice(part);
        inbox.filled(part.len());
        loop {
            match inbox.next() {
                Ok(Some(incoming)) => found.push(incoming),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

/// A request that is understood is written as one that is understood in the same way.
pub fn request(payload: &[u8]) {
    let Ok(head) = decode_request(payload) else { return };
    assert!(head.metadata.encoded_len() <= Metadata::MAX_BYTES);
    assert!(head.metadata.len() <= Metadata::MAX_ENTRIES);
    let timeout = head.timeout;
    let request = to_request(head, payload);
    let mut out = BytesMut::new();
    put_request(&mut out, 1, &request, timeout, request_len(&request).unwrap());
    let payload = out.split_off(Head::LEN);
    let again = decode_request(&payload).unwrap();
    assert_eq!(again.timeout, timeout);
    assert_eq!(format!("{:?}", to_request(again, &payload)), format!("{request:?}"));
}

fn to_request(head: RequestHead<'_>, payload: &[u8]) -> Request {
    let body = Bytes::copy_from_slice(&payload[head.body_at..]);
    let (contract, method) = (head.contract.to_owned(), head.method.to_owned());
    let mut request = Request::new(contract, method, head.codec, body);
    request.metadata = head.metadata;
    request.trace = head.trace;
    (request.idempotent, request.no_retry) = (head.idempotent, head.no_retry);
    (request.attempt, request.criticality) = (head.attempt, head.criticality);
    request
}

/// A response that is understood is written as one that is understood in the same way.
pub fn response(payload: &[u8]) {
    let Ok(outcome) = decode_response(Bytes::copy_from_slice(payload)) else { return };
    let mut out = BytesMut::new();
    put_response(&mut out, 1, &outcome, Limits::default().max_frame);
    let again = decode_response(out.split_off(Head::LEN).freeze()).unwrap();
    assert_eq!(format!("{again:?}"), format!("{outcome:?}"));
}

/// Metadata, in a request whose other fields are fine.
pub fn metadata(entries: &[u8]) {
    let Ok(length) = u16::try_from(entries.len()) else { return };
    let mut payload = vec![0; 8];
    payload.extend([2, 0, 0, 1, 1, b'c', 1, b'm']);
    payload.extend(length.to_be_bytes());
    payload.extend(entries);
    request(&payload);
}

/// A body that can be decoded can be ignored, and encoded again.
pub fn body(bytes: &[u8]) {
    for codec in [Codec::MessagePack, Codec::Json] {
        let Ok(value) = codec.decode::<serde_json::Value>(bytes) else { continue };
        codec.decode::<IgnoredAny>(bytes).unwrap();
        let again = codec.encode(&value).unwrap();
        // It need not be equal: reading a number may be off in its last digit.
        codec.decode::<serde_json::Value>(&again).unwrap();
    }
}

/// Whatever a connection begins with and goes on with, the server closes it when it should, and
/// answers others meanwhile. The first byte says how the bytes are cut into writes.
pub fn server(bytes: &[u8]) {
    thread_local! {
        // Time passes at once when nothing else happens.
        static RUNTIME: RefCell<Runtime> = RefCell::new(
            Builder::new_current_thread().enable_time().start_paused(true).build().unwrap(),
        );
    }
    let Some((cut, bytes)) = bytes.split_first() else { return };
    RUNTIME.with_borrow(|runtime| runtime.block_on(serve(bytes, usize::from(*cut).max(1))));
}

async fn serve(bytes: &[u8], cut: usize) {
    let network = MemoryNetwork::new();
    let echo = |request: Request| async move { Ok(Response::new(request.codec, request.body)) };
    let limits = Limits { max_frame: 1 << 16, ..Limits::default() };
    let server = Server::new(Router::new().route("test", "echo", echo))
        .unwrap()
        .config(ServerConfig { limits, ..ServerConfig::default() })
        .start(vec![network.listen("node").unwrap()]);
    let (mut reading, mut writing) = split(network.connect("node").unwrap());
    let write = async {
        for part in bytes.chunks(cut) {
            if writing.write_all(part).await.is_err() {
                return;
            }
        }
        // A connection that was closed on us is fine.
        let _ = writing.shutdown().await;
    };
    let mut answer = Vec::new();
    let ((), read, ()) = tokio::join!(write, reading.read_to_end(&mut answer), bystander(&network));
    read.unwrap();
    server.shutdown(Duration::from_secs(1)).await;
}

/// Another client of the same server.
async fn bystander(network: &MemoryNetwork) {
    let config = ChannelConfig { memory: Some(network.clone()), ..ChannelConfig::default() };
    let channel = Channel::new("memory:node".parse().unwrap(), config);
    let call = Request::new("test", "echo", Codec::Json, Bytes::from_static(b"1"));
    assert_eq!(channel.call(&call).await.unwrap().body, "1");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Every target holds for its corpus, and for that with a few seeded changes.
    #[test]
    fn corpus_and_mutations() {
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            assert!(!corpus.is_empty(), "{name} has a corpus");
            corpus.iter().for_each(|bytes| target(bytes));
            let mut random = fastrand::Rng::with_seed(7);
            let rounds = if name == "server" { 1000 } else { 5000 };
            for _ in 0..rounds {
                let mut bytes = random.choice(&corpus).unwrap().clone();
                (0..random.usize(1..5)).for_each(|_| mutate(&mut bytes, &corpus, &mut random));
                target(&bytes);
            }
        }
    }

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let entries = fs::read_dir(folder).unwrap();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| fs::read(file).unwrap()).collect()
    }

    /// Changes a byte, cuts something out, repeats something or puts in a part of another input.
    fn mutate(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut fastrand::Rng) {
        let at = random.usize(0..=bytes.len());
        let end = random.usize(at..=bytes.len());
        match random.u8(0..5) {
            0 if at < bytes.len() => bytes[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap(),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => {
                let other = random.choice(corpus).unwrap();
                let part = other[random.usize(0..=other.len())..].to_vec();
                bytes.splice(at..at, part);
            }
        }
        bytes.truncate(1 << 16);
    }
}
