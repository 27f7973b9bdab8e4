//! Server and client processes of one contender: what is measured with a pair of them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{
    child::{PATIENCE, Process},
    contender::Name,
    measure::Window,
    role::{CPU, Load, MEMORY, READY},
};

/// A window seen from both sides.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What the client measured.
    pub client: Window,
    /// The server's CPU time per call, in microseconds.
    pub server_cpu_us: f64,
}

impl Measured {
    /// Calls answered per second.
    pub fn calls_per_s(&self) -> f64 {
        self.client.calls as f64 / self.client.seconds
    }

    /// CPU time per call of both sides, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.client.cpu_us + self.server_cpu_us
    }
}

/// Bytes of memory per idle connection.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// The server's.
    pub server: f64,
    /// The client's.
    pub client: f64,
}

/// How long it takes to begin.
#[derive(Clone, Copy, Debug)]
pub struct StartUp {
    /// From starting the server's process until it says where it is.
    pub server: Duration,
    /// From starting the client's process, which is then, until its first call is answered.
    pub client: Duration,
}

/// Measures one contender under one load, with a fresh server and a fresh client.
///
/// # Errors
///
/// If a process cannot be started, fails or does not answer in time. Both are stopped.
///
/// # Cancel safety
///
/// Dropping the future kills both processes.
pub async fn measure(contender: Name, load: Load) -> Result<Measured> {
    let flags: &[_] = if load.one_core { &["--one-core"] } else { &[] };
    let mut server = Server::start(contender, load.connections, flags).await?;
    let said = format!("--load={}", serde_json::to_string(&load)?);
    let mut client = server.client("client", contender, &[&said])?;
    ready(&mut client, load.warm_up()).await?;

    let before = server.ask(CPU).await?;
    client.write("go").await?;
    let line: String = client.read(load.length() + PATIENCE).await?;
    let used = server.ask(CPU).await? - before;
    client.stop().await?;
    server.stop().await?;

    let client: Window = serde_json::from_str(&line).context("the client's result")?;
    let server_cpu_us = used as f64 / client.calls as f64;
    Ok(Measured { client, server_cpu_us })
}

/// Measures what memory a contender's idle connections take, on both sides.
///
/// # Errors
///
/// As [`measure`].
///
/// # Cancel safety
///
/// Dropping the future kills both processes.
pub async fn memory(contender: Name, connections: usize) -> Result<Memory> {
    let mut server = Server::start(contender, connections, &[]).await?;
    let said = format!("--connections={connections}");
    let mut client = server.client("rest", contender, &[&said])?;
    ready(&mut client, Duration::ZERO).await?;

    let before = server.ask(MEMORY).await?;
    client.write("go").await?;
    let grown: u64 = client.read(6 * PATIENCE).await?;
    let after = server.ask(MEMORY).await?;
    client.stop().await?;
    server.stop().await?;

    let each = |bytes: u64| bytes as f64 / connections as f64;
    Ok(Memory { server: each(after.saturating_sub(before)), client: each(grown) })
}

/// Measures how long a contender takes to begin.
///
/// # Errors
///
/// As [`measure`].
///
/// # Cancel safety
///
/// Dropping the future kills both processes.
pub async fn start_up(contender: Name) -> Result<StartUp> {
    let start = Instant::now();
    let server = Server::start(contender, 1, &[]).await?;
    let served = Instant::now();
    let mut client = server.client("first", contender, &[])?;
    ready(&mut client, Duration::ZERO).await?;
    let answered = served.elapsed();
    client.stop().await?;
    server.stop().await?;
    Ok(StartUp { server: served - start, client: answered })
}

/// Parses a positive number of seconds.
///
/// # Errors
///
/// If it is not a number, not positive or absurdly large.
pub fn seconds(text: &str) -> Result<Duration> {
    let duration = Duration::try_from_secs_f64(text.parse()?)?;
    ensure!(!duration.is_zero(), "must be more than zero");
    ensure!(duration <= Duration::from_secs(3600), "must be at most an hour");
    Ok(duration)
}

/// A server's process, killed when dropped.
struct Server {
    process: Process,
    address: String,
    /// Removed after the process, also when something fails.
    _scratch: TempDir,
}

impl Server {
    async fn start(contender: Name, connections: usize, flags: &[&str]) -> Result<Self> {
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let directory = scratch.path().to_str().context("the temporary directory is not UTF-8")?;
        let (name, scratch_is) = (contender.to_string(), format!("--scratch={directory}"));
        let connections = format!("--connections={connections}");
        let arguments = ["server", &name, &scratch_is, &connections];
        let mut process = Process::start(arguments.iter().chain(flags))?;
        let address = process.read(PATIENCE).await?;
        Ok(Self { process, address, _scratch: scratch })
    }

    fn client(&self, role: &str, contender: Name, more: &[&str]) -> Result<Process> {
        let (name, address) = (contender.to_string(), format!("--address={}", self.address));
        Process::start([role, &name, &address].iter().chain(more))
    }

    async fn ask(&mut self, what: &str) -> Result<u64> {
        self.process.write(what).await?;
        self.process.read(PATIENCE).await
    }

    async fn stop(self) -> Result<()> {
        self.process.stop().await
    }
}

async fn ready(client: &mut Process, warm_up: Duration) -> Result<()> {
    let ready: String = client.read(warm_up + PATIENCE).await?;
    ensure!(ready == READY, "the client said {ready:?} instead of {READY:?}");
    Ok(())
}
