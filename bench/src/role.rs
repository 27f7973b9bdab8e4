//! What a process does that the comparison starts, and how it talks.
//!
//! A server prints its address, then answers every line `cpu` with the CPU time it has used, in
//! microseconds, and `memory` with the bytes it has; it exits when its input ends. A client connects
//! and warms up, prints `ready`, waits for a line, measures, and prints a [`Window`] as JSON. Between
//! `ready` and that line nothing is in flight, so the server's CPU time can be read at exactly the
//! window's edges.

use std::{
    io::{BufRead, stdin},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::{
    contender::{Contender, Name, Place},
    measure::{self, Pace},
    payload::{Made, Payload, bytes},
};

/// One cell of the comparison: the load a client puts on a server.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// What calls carry, both ways.
    pub payload: Payload,
    /// Calls in flight, over all connections.
    pub in_flight: usize,
    /// Connections of the client.
    pub connections: usize,
    /// Whether client and server share one core.
    pub one_core: bool,
    /// Calls a second, however many are in flight; as fast as they are answered if absent.
    pub rate: Option<u32>,
    /// Length of the measured window in seconds.
    pub seconds: f64,
}

/// What a process started by the comparison does.
#[derive(Clone, Debug, Subcommand)]
pub enum Role {
    /// Serves and reports its CPU time and memory.
    #[command(hide = true)]
    Server {
        /// Who serves.
        contender: Name,
        /// An empty directory for this server alone.
        #[arg(long)]
        scratch: PathBuf,
        /// How many connections there will be.
        #[arg(long)]
        connections: usize,
        /// Whether it keeps to the first core.
        #[arg(long)]
        one_core: bool,
        /// Whether it will be called with structs.
        #[arg(long)]
        wide: bool,
    },
    /// Calls a server and reports what it measured.
    #[command(hide = true)]
    Client {
        /// Whom it calls.
        #[command(flatten)]
        whom: Whom,
        /// What to measure, as JSON.
        #[arg(long, value_parser = |text: &str| serde_json::from_str::<Load>(text))]
        load: Load,
    },
    /// Opens connections and reports what memory they take.
    #[command(hide = true)]
    Rest {
        /// Whom it calls.
        #[command(flatten)]
        whom: Whom,
        /// How many.
        #[arg(long)]
        connections: usize,
    },
    /// Makes one call and reports that it was answered.
    #[command(hide = true)]
    First {
        /// Whom it calls.
        #[command(flatten)]
        whom: Whom,
    },
}

/// Whom a client calls.
#[derive(Args, Clone, Debug)]
pub struct Whom {
    /// Who calls.
    contender: Name,
    /// The server's address.
    #[arg(long)]
    address: String,
}

impl Role {
    /// Plays the role in this process, on tokio's multi-thread runtime as it comes.
    ///
    /// # Errors
    ///
    /// Whatever the role meets: binding, connecting, a failed call, a closed pipe.
    pub fn play(self) -> Result<()> {
        let contender = match &self {
            Self::Server { contender, .. } => contender,
            Self::Client { whom, .. } | Self::Rest { whom, .. } | Self::First { whom } => {
                &whom.contender
            }
        };
        contender.play(self)
    }

    /// Plays the role with contender `C`, the one it names.
    pub(crate) fn play_as<C: Contender>(self) -> Result<()> {
        if self.is_on_one_core() {
            // Before the runtime starts its threads, one for each core there is.
            keep_to_one_core()?;
        }
        let runtime = Runtime::new()?;
        match self {
            Self::Server { scratch, connections, wide: is_wide, .. } => {
                serve::<C>(&runtime, Place { scratch, connections, is_wide })
            }
            Self::Client { whom, load } => call::<C>(&runtime, &whom.address, load),
            Self::Rest { whom, connections } => rest::<C>(&runtime, &whom.address, connections),
            Self::First { whom } => first::<C>(&runtime, &whom.address),
        }
    }

    fn is_on_one_core(&self) -> bool {
        match self {
            Self::Server { one_core, .. } => *one_core,
            Self::Client { load, .. } => load.one_core,
            Self::Rest { .. } | Self::First { .. } => false,
        }
    }
}

impl Load {
    /// How its calls follow each other.
    #[must_use]
    pub fn pace(&self) -> Pace {
        self.rate.map_or(Pace::Closed(self.in_flight), Pace::Open)
    }

    /// Length of the measured window.
    #[must_use]
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// How long is called before anything is measured.
    #[must_use]
    pub fn warm_up(&self) -> Duration {
        (self.length() / 10).max(Duration::from_millis(200))
    }
}

fn serve<C: Contender>(runtime: &Runtime, place: Place) -> Result<()> {
    open_many_files()?;
    let server = runtime.block_on(C::serve(&place))?;
    println!("{}", server.address);
    for line in stdin().lock().lines() {
        match line?.as_str() {
            CPU => println!("{}", measure::process_cpu()?.as_micros()),
            MEMORY => println!("{}", measure::process_memory()?),
            line => bail!("unknown command {line:?}"),
        }
    }
    Ok(())
}

fn call<C: Contender>(runtime: &Runtime, address: &str, load: Load) -> Result<()> {
    open_many_files()?;
    ensure!(load.in_flight > 0 && load.connections > 0, "nothing to do");
    let payload = Arc::new(Made::for_caller::<C::Caller>(load.payload));
    let callers = runtime.block_on(async {
        let callers = C::connect(address, load.connections).await?;
        measure::window(&callers, &payload, load.pace(), load.warm_up()).await?;
        anyhow::Ok(callers)
    })?;
    println!("{READY}");
    await_line()?;
    let window = measure::window(&callers, &payload, load.pace(), load.length());
    println!("{}", serde_json::to_string(&runtime.block_on(window)?)?);
    Ok(())
}

/// Prints by how many bytes it has grown once the connections are there, and keeps them.
fn rest<C: Contender>(runtime: &Runtime, address: &str, connections: usize) -> Result<()> {
    open_many_files()?;
    // What is allocated once is no connection's.
    let _few = runtime.block_on(C::rest(address, FEW))?;
    println!("{READY}");
    await_line()?;
    let before = measure::process_memory()?;
    let _many = runtime.block_on(C::rest(address, connections))?;
    println!("{}", measure::process_memory()?.saturating_sub(before));
    await_line()
}

fn first<C: Contender>(runtime: &Runtime, address: &str) -> Result<()> {
    let payload = Made::Bytes(bytes(64));
    let caller = runtime.block_on(async {
        let caller = C::connect(address, 1).await?.swap_remove(0);
        payload.call(&caller).await?;
        anyhow::Ok(caller)
    })?;
    println!("{READY}");
    await_line()?;
    drop(caller);
    Ok(())
}

fn await_line() -> Result<()> {
    stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// Keeps this thread, and those it starts, to the first core it may run on.
fn keep_to_one_core() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let is_allowed = |core: &usize| allowed.is_set(*core).unwrap_or_default();
    let mut one = CpuSet::new();
    one.set((0..CpuSet::count()).find(is_allowed).context("there is no core")?)?;
    Ok(sched_setaffinity(this, &one)?)
}

/// As many as the system lets this process open.
fn open_many_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, most, most)?)
}

/// Asks a server for the CPU time it has used, in microseconds.
pub const CPU: &str = "cpu";
/// Asks a server for the bytes of memory it has.
pub const MEMORY: &str = "memory";
/// What a client says when it could begin.
pub const READY: &str = "ready";

/// Connections that are there before memory is measured.
const FEW: usize = 8;
