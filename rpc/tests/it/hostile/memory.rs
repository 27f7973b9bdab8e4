//! What hostile clients make a server hold, measured as the peak of a process of its own.

use std::time::Duration;

use micro_rpc::{Limits, ServerHandle};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use crate::support::*;

/// Frames that are announced and do not come, that are too long, that say how much will follow, and
/// answers that nobody reads, on any number of connections, cost a fraction of what they seem to.
#[test]
fn memory_is_bounded() {
    let this = std::env::current_exe().unwrap();
    let mut measured = std::process::Command::new(this);
    measured.args(["--exact", "hostile::memory::measured", "--ignored", "--nocapture"]);
    let output = measured.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The part of [`memory_is_bounded`] that is in a process of its own.
#[tokio::test]
#[ignore = "measures its process"]
async fn measured() {
    // A server that sees its handlers compute gives each call a task, and so many run at once.
    let (server, _) = server_with(Limits { max_in_flight: 64, ..Limits::default() }).await;
    assert_works(&channel(&server)).await;
    let before = peak();
    announced_and_never_sent(&server).await;
    thrown_away(&server).await;
    claimed(&server).await;
    never_read(&server).await;
    hoarders().await;
    assert_works(&channel(&server)).await;
    let grown = peak() - before;
    println!("grown by {} KiB", grown / 1024);
    assert!(grown < 20 << 20, "grown by {} KiB", grown / 1024);
}

/// 200 frames of the 4 MiB that are allowed, of which little more than the head comes.
async fn announced_and_never_sent(server: &ServerHandle) {
    let mut open = Vec::new();
    for _ in 0..200 {
        let mut raw = Raw::connect(server).await;
        raw.send(&[&(4_u32 << 20).to_be_bytes()[..], &[REQUEST; 1000]].concat()).await;
        open.push(raw);
    }
    assert_works(&channel(server)).await;
}

/// A frame of 64 MiB, which is sent.
async fn thrown_away(server: &ServerHandle) {
    let mut raw = Raw::connect(server).await;
    raw.send(&(64_u32 << 20).to_be_bytes()).await;
    raw.send(&[REQUEST, 0, 0, 0, 0, 0, 0, 0, 0, 1]).await;
    let part = vec![0; 1 << 20];
    for _ in 0..63 {
        raw.send(&part).await;
    }
    raw.send(&part[10..]).await;
    raw.send(&frame(PING, 0, 7, b"")).await;
    assert_eq!(raw.frame().await.0, RESPONSE);
    assert_eq!(raw.frame().await.0, PONG);
}

/// Bodies that say that 4 G values follow.
async fn claimed(server: &ServerHandle) {
    let mut raw = Raw::connect(server).await;
    let bodies = [&b"\xdf\xff\xff\xff\xff\xa4name"[..], b"\x81\xa4name\xdb\xff\xff\xff\xff"];
    for (id, body) in (1..=100).zip(bodies.into_iter().cycle()) {
        let mut call = payload("greet", 0, body);
        call[8] = 1;
        raw.send(&frame(REQUEST, 0, id, &call)).await;
        assert_eq!(raw.frame().await.1, id);
    }
}

/// 20 000 answers of 100 kB each, of which the client reads none.
async fn never_read(server: &ServerHandle) {
    let mut raw = Raw::connect(server).await;
    let calls: Vec<u8> =
        (1..=20_000).flat_map(|id| frame(REQUEST, 0, id, &payload("large", 0, b""))).collect();
    // The server stops reading, so not all of it leaves; by then it holds what it ever will.
    let _ = timeout(Duration::from_secs(2), raw.0.write_all(&calls)).await;
    sleep(Duration::from_millis(200)).await;
}

/// 100 connections to a server with places for 4, each of which asks for 10 MB and reads nothing:
/// the server keeps no more than it has places for.
async fn hoarders() {
    let hour = Duration::from_secs(3600);
    let limits = Limits { max_connections: 4, stall_timeout: hour, ..Limits::default() };
    let (server, _) = server_with(limits).await;
    let calls: Vec<u8> =
        (1..=100).flat_map(|id| frame(REQUEST, 0, id, &payload("large", 0, b""))).collect();
    let before = sockets();
    let mut hoarders = Vec::new();
    for _ in 0..100 {
        let mut raw = Raw::silent(&server).await;
        // Who gets no place cannot send.
        let _ = raw.0.write_all(&[&PREFACE[..], &calls].concat()).await;
        sleep(Duration::from_millis(5)).await;
        hoarders.push(raw);
    }
    until("the others are gone", || sockets() <= before + hoarders.len() + 4).await;
}

/// The files this process has open, most of which are sockets.
fn sockets() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The most memory this process ever had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024
}
