//! Server and client processes: how they are started and stopped, and both ends of their pipes.
//!
//! A server prints its address, then answers every line `cpu` with the CPU time it has used, in
//! microseconds, and exits when its input ends. A client connects and warms up, prints `ready`,
//! waits for a line, measures, and prints a [`Window`] as JSON. Between `ready` and that line
//! nothing is in flight, so the server's CPU time can be read at exactly the window's edges.

use std::{
    io::{BufRead, stdin},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use tokio::runtime::Runtime;

use crate::{
    child::{PATIENCE, Process},
    contender::{Contender, Name},
    measure::{self, Window},
};

/// One cell of the comparison: the load a client puts on a server.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Bytes of payload, both ways.
    #[arg(long, default_value_t = 64)]
    pub payload: usize,
    /// Calls in flight, over all connections.
    #[arg(long, default_value_t = 1)]
    pub in_flight: usize,
    /// Connections of the client.
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Length of the measured window in seconds.
    #[arg(long, default_value = "3", value_parser = seconds)]
    pub seconds: Duration,
}

/// What a process started by the comparison does.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// Serves and reports its CPU time.
    #[command(hide = true)]
    Server {
        /// Who serves.
        contender: Name,
        /// An empty directory for this server alone.
        #[arg(long)]
        scratch: PathBuf,
    },
    /// Calls a server and reports what it measured.
    #[command(hide = true)]
    Client {
        /// Who calls.
        contender: Name,
        /// The server's address.
        #[arg(long)]
        address: String,
        /// What to measure.
        #[command(flatten)]
        load: Load,
    },
}

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
    // Made first, so that it is removed after the processes, also when one of them fails.
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let directory = scratch.path().to_str().context("the temporary directory is not UTF-8")?;
    let directory = format!("--scratch={directory}");
    let mut server = Process::start(["server", &contender.to_string(), &directory])?;
    let address: String = server.read(PATIENCE).await?;

    let mut client = Process::start([
        "client",
        &contender.to_string(),
        &format!("--address={address}"),
        &format!("--payload={}", load.payload),
        &format!("--in-flight={}", load.in_flight),
        &format!("--connections={}", load.connections),
        &format!("--seconds={}", load.seconds.as_secs_f64()),
    ])?;
    let ready: String = client.read(warm_up(load.seconds) + PATIENCE).await?;
    ensure!(ready == READY, "the client said {ready:?} instead of {READY:?}");

    let before = cpu_of(&mut server).await?;
    client.write("go").await?;
    let line: String = client.read(load.seconds + PATIENCE).await?;
    let used = cpu_of(&mut server).await? - before;
    client.stop().await?;
    server.stop().await?;

    let client: Window = serde_json::from_str(&line).context("the client's result")?;
    let server_cpu_us = used as f64 / client.calls as f64;
    Ok(Measured { client, server_cpu_us })
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

impl Role {
    /// Plays the role in this process, on tokio's multi-thread runtime as it comes.
    ///
    /// # Errors
    ///
    /// Whatever the role meets: binding, connecting, a failed call, a closed pipe.
    pub fn play(self) -> Result<()> {
        let (Self::Server { contender, .. } | Self::Client { contender, .. }) = &self;
        contender.play(self)
    }

    /// Plays the role with contender `C`, the one it names.
    pub(crate) fn play_as<C: Contender>(self) -> Result<()> {
        let runtime = Runtime::new()?;
        match self {
            Self::Server { scratch, .. } => serve::<C>(&runtime, &scratch),
            Self::Client { address, load, .. } => call::<C>(&runtime, &address, load),
        }
    }
}

fn serve<C: Contender>(runtime: &Runtime, scratch: &Path) -> Result<()> {
    let server = runtime.block_on(C::serve(scratch))?;
    println!("{}", server.address);
    for line in stdin().lock().lines() {
        let line = line?;
        ensure!(line == CPU, "unknown command {line:?}");
        println!("{}", measure::process_cpu()?.as_micros());
    }
    Ok(())
}

fn call<C: Contender>(runtime: &Runtime, address: &str, load: Load) -> Result<()> {
    let Load { payload, in_flight, connections, seconds } = load;
    ensure!(in_flight > 0 && connections > 0, "nothing to do");
    let callers = runtime.block_on(async {
        let mut callers = Vec::new();
        for _ in 0..connections {
            callers.push(C::connect(address).await?);
        }
        measure::window(&callers, payload, in_flight, warm_up(seconds)).await?;
        anyhow::Ok(callers)
    })?;
    println!("{READY}");
    stdin().lock().read_line(&mut String::new())?;
    let window = runtime.block_on(measure::window(&callers, payload, in_flight, seconds))?;
    println!("{}", serde_json::to_string(&window)?);
    Ok(())
}

fn warm_up(seconds: Duration) -> Duration {
    (seconds / 10).max(Duration::from_millis(200))
}

/// The CPU time a server has used, in microseconds.
async fn cpu_of(server: &mut Process) -> Result<u64> {
    server.write(CPU).await?;
    server.read(PATIENCE).await
}

const CPU: &str = "cpu";
const READY: &str = "ready";
