//! Compares what it costs a server to refuse a call with what it costs to serve one.
//!
//! One thread, in memory: the client writes requests that were encoded before, in batches, and reads
//! the answers as bytes, so nearly all of the time is the server's.

use std::num::NonZeroU32;

use anyhow::{Result, ensure};
use clap::Parser;
use micro_bench::allocations::Counting;
use micro_rpc::{
    Limits, MemoryNetwork, MemoryStream, Request, Response, Router, Server, ServerConfig,
    ServerHandle, Status,
};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Compare the cost of refusing a call with that of serving one.
#[derive(Debug, Parser)]
struct Arguments {
    /// Calls per measurement.
    #[arg(long, default_value = "64000")]
    calls: NonZeroU32,
    /// How often each row is measured; the report has medians.
    #[arg(long, default_value = "15")]
    repetitions: NonZeroU32,
}

/// What is sent, and to a server in which state.
struct Contender {
    name: &'static str,
    _server: ServerHandle,
    client: Client,
    kind: u8,
    payload: Vec<u8>,
    measured: Vec<Measured>,
}

#[derive(Clone, Copy)]
struct Measured {
    ns_per_call: f64,
    allocations_per_call: f64,
}

/// Requests that are written together.
const BATCH: u32 = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut contenders = [
        Contender::new("ping: only framed", PING, "", false).await?,
        Contender::new("served at once", REQUEST, "echo", false).await?,
        Contender::new("served by a task", REQUEST, "later", false).await?,
        Contender::new("refused: overloaded", REQUEST, "later", true).await?,
    ];
    // The first round warms up.
    for repetition in 0..=arguments.repetitions.get() {
        for contender in &mut contenders {
            let measured = contender.measure(arguments.calls.get() / BATCH).await?;
            if repetition > 0 {
                contender.measured.push(measured);
            }
        }
    }
    let task = contenders[2].median(|one| one.ns_per_call);
    println!("{:<22}{:>10}{:>18}{:>14}", "", "ns/call", "allocations/call", "× by a task");
    for contender in &contenders {
        let ns = contender.median(|one| one.ns_per_call);
        let allocations = contender.median(|one| one.allocations_per_call);
        println!("{:<22}{ns:>10.0}{allocations:>18.2}{:>14.2}", contender.name, ns / task);
    }
    Ok(())
}

impl Contender {
    async fn new(name: &'static str, kind: u8, method: &str, is_full: bool) -> Result<Self> {
        let limits = Limits { max_running: 1, max_queued: 0, ..Limits::default() };
        let limits = if is_full { limits } else { Limits::default() };
        let config = ServerConfig { limits, ..ServerConfig::default() };
        let (network, server) = (MemoryNetwork::new(), Server::new(router())?.config(config));
        let server = server.start(vec![network.listen("node")?]);
        let mut client = Client::new(&network).await?;
        if is_full {
            client.send(REQUEST, &payload("hang"), 1).await?;
            client.exchange(PING, &[], 1).await?;
            ensure!(server.in_flight() == 1, "the place is taken");
        }
        let payload = if kind == PING { Vec::new() } else { payload(method) };
        Ok(Self { name, _server: server, client, kind, payload, measured: Vec::new() })
    }

    async fn measure(&mut self, batches: u32) -> Result<Measured> {
        let (start, before) = (cpu_ns()?, Counting::count());
        for _ in 0..batches {
            self.client.exchange(self.kind, &self.payload, BATCH).await?;
        }
        let calls = f64::from(batches * BATCH);
        Ok(Measured {
            ns_per_call: (cpu_ns()? - start) as f64 / calls,
            allocations_per_call: (Counting::count() - before) as f64 / calls,
        })
    }

    fn median(&self, of: impl Fn(&Measured) -> f64) -> f64 {
        let mut values: Vec<_> = self.measured.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

fn router() -> Router {
    let echo = |request: Request| Ok::<_, Status>(Response::new(request.codec, request.body));
    Router::new()
        .route("test", "echo", move |request| async move { echo(request) })
        .route("test", "later", move |request| async move {
            tokio::task::yield_now().await;
            echo(request)
        })
        .route("test", "hang", |_| std::future::pending())
}

/// Speaks the protocol of PROTOCOL.md with as little work as possible.
struct Client {
    stream: MemoryStream,
    out: Vec<u8>,
    buffer: Vec<u8>,
    id: u64,
}

const REQUEST: u8 = 1;
const PING: u8 = 4;
const PREFACE: &[u8; 16] = b"\xB5rpc\x01\x00\x00\x06\x00\x40\x00\x00\x00\x00\x04\x00";

impl Client {
    async fn new(network: &MemoryNetwork) -> Result<Self> {
        let mut stream = network.connect("node")?;
        stream.write_all(PREFACE).await?;
        stream.read_exact(&mut [0; PREFACE.len()]).await?;
        Ok(Self { stream, out: Vec::new(), buffer: vec![0; 1 << 16], id: 0 })
    }

    /// Writes frames and reads as many answers.
    async fn exchange(&mut self, kind: u8, payload: &[u8], count: u32) -> Result<()> {
        self.send(kind, payload, count).await?;
        let (mut answers, mut filled) = (0, 0);
        while answers < count {
            filled += self.stream.read(&mut self.buffer[filled..]).await?;
            let mut read = 0;
            while let Some(length) = self.buffer[read..filled].first_chunk() {
                let end = read + 4 + u32::from_be_bytes(*length) as usize;
                if end > filled {
                    break;
                }
                (read, answers) = (end, answers + 1);
            }
            self.buffer.copy_within(read..filled, 0);
            filled -= read;
        }
        Ok(())
    }

    async fn send(&mut self, kind: u8, payload: &[u8], count: u32) -> Result<()> {
        self.out.clear();
        for _ in 0..count {
            self.id += 1;
            self.out.extend((10 + payload.len() as u32).to_be_bytes());
            self.out.extend([kind, 0]);
            self.out.extend(self.id.to_be_bytes());
            self.out.extend(payload);
        }
        Ok(self.stream.write_all(&self.out).await?)
    }
}

/// A request without a timeout, with 64 bytes for a body.
fn payload(method: &str) -> Vec<u8> {
    let mut payload = vec![0; 8];
    payload.extend([2, 0, 0, 1]);
    payload.extend(b"\x04test");
    payload.push(method.len() as u8);
    payload.extend(method.bytes());
    payload.extend([0, 0]);
    payload.extend([b'1'; 64]);
    payload
}

/// The processor time of this thread: other programs on the machine take none of it.
fn cpu_ns() -> Result<i64> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    Ok((usage.user_time() + usage.system_time()).num_microseconds() * 1000)
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
