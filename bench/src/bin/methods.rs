//! Compares the strategies where short and long methods are called side by side, with real servers.
//!
//! Each server is a process of its own that registers itself; its handlers wait rather than compute,
//! sixteen at a time, so that no core is measured. One of them may be slow.

use std::io::Read;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use micro::selector::StrategyKind;
use micro::{Client, Service, Settings};
use micro_registry_local::{LocalConfig, LocalRegistry};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Compare strategies over servers with a short and a long method.
#[derive(Debug, Parser)]
struct Arguments {
    /// Servers.
    #[arg(long, default_value = "5")]
    servers: NonZeroU32,
    /// How many times as long as the others the first one takes.
    #[arg(long, default_value = "5")]
    slow: u32,
    /// Callers, each of which calls again when it is answered.
    #[arg(long, default_value = "40")]
    callers: u32,
    /// Seconds of each measurement, the first of which is warming up.
    #[arg(long, default_value = "6")]
    seconds: u64,
    /// How often each strategy is measured; they take turns.
    #[arg(long, default_value = "3")]
    repetitions: u32,
    /// Serves, instead of comparing: its registry's directory.
    #[arg(long, hide = true)]
    serve: Option<PathBuf>,
}

#[micro::service]
trait Work {
    /// Takes a millisecond.
    async fn short(&self);
    /// Takes a hundred.
    async fn long(&self);
}

struct Worker {
    places: Semaphore,
    times: u32,
}

impl Worker {
    async fn work(&self, takes: Duration) {
        let _place = self.places.acquire().await;
        tokio::time::sleep(takes * self.times).await;
    }
}

impl Work for Worker {
    async fn short(&self) {
        self.work(SHORT).await;
    }

    async fn long(&self) {
        self.work(LONG).await;
    }
}

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_millis(100);
/// Calls a server works on at once.
const PLACES: usize = 16;
/// The share of long calls.
const LONG_SHARE: f64 = 0.1;
const WARM: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match &arguments.serve {
        Some(registry) => serve(registry, arguments.slow).await,
        None => compare(&arguments).await,
    }
}

/// Serves until its input ends.
async fn serve(registry: &Path, times: u32) -> Result<()> {
    let worker = Worker { places: Semaphore::new(PLACES), times };
    let service = Service::new()
        .settings(Settings::none())
        .registry(registry_in(registry)?)
        .serve(WorkServer::new(worker))
        .start()
        .await?;
    tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0])).await??;
    drop(service);
    Ok(())
}

async fn compare(arguments: &Arguments) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let _servers: Vec<_> = (0..arguments.servers.get())
        .map(|number| start(scratch.path(), if number == 0 { arguments.slow } else { 1 }))
        .collect::<Result<_>>()?;
    println!("{:<14}{:>10}{:>16}{:>16}", "strategy", "calls/s", "short p99, ms", "long p99, ms");
    for _ in 0..arguments.repetitions {
        for strategy in [StrategyKind::Ewma, StrategyKind::LeastLoaded, StrategyKind::RoundRobin] {
            let (rate, [short, long]) = measure(&strategy, scratch.path(), arguments).await?;
            println!("{strategy:<14}{rate:>10.0}{short:>16.1}{long:>16.1}");
        }
    }
    Ok(())
}

/// A server, which ends when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // It may have ended by itself.
        let _ = self.0.wait();
    }
}

fn start(registry: &Path, slow: u32) -> Result<Running> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--serve").arg(registry).arg("--slow").arg(slow.to_string());
    let child = command.stdin(Stdio::piped()).spawn().context("cannot start a server")?;
    Ok(Running(child))
}

/// Calls per second, and the 99th percentiles of both methods in milliseconds.
async fn measure(
    strategy: &StrategyKind,
    registry: &Path,
    arguments: &Arguments,
) -> Result<(f64, [f64; 2])> {
    let client = Client::connect()
        .settings(Settings::none())
        .registry(registry_in(registry)?)
        .strategy(strategy.clone())
        .wait_for_ready(true)
        .await?;
    let work = WorkClient::new(&client);
    all_found(&work, arguments.servers.get()).await?;
    let start = Instant::now();
    let (from, to) = (start + WARM, start + Duration::from_secs(arguments.seconds));
    let mut callers = JoinSet::new();
    for _ in 0..arguments.callers {
        callers.spawn(call(work.clone(), from, to));
    }
    let mut took: [Vec<Duration>; 2] = Default::default();
    while let Some(ended) = callers.join_next().await {
        took.iter_mut().zip(ended??).for_each(|(all, more)| all.extend(more));
    }
    let rate = took.iter().map(Vec::len).sum::<usize>() as f64 / (to - from).as_secs_f64();
    Ok((rate, took.map(p99)))
}

/// Waits until the servers have most likely all been found.
async fn all_found(work: &WorkClient, servers: u32) -> Result<()> {
    for _ in 0..20 * servers {
        work.short().await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// What short and long calls took that began between the two.
async fn call(work: WorkClient, from: Instant, to: Instant) -> Result<[Vec<Duration>; 2]> {
    let mut took: [Vec<Duration>; 2] = Default::default();
    while Instant::now() < to {
        let (start, is_long) = (Instant::now(), fastrand::f64() < LONG_SHARE);
        if is_long {
            work.long().await?
        } else {
            work.short().await?
        }
        if start >= from {
            took[usize::from(is_long)].push(start.elapsed());
        }
    }
    Ok(took)
}

fn p99(mut took: Vec<Duration>) -> f64 {
    took.sort_unstable();
    took.get(took.len() * 99 / 100).map_or(f64::NAN, |took| took.as_secs_f64() * 1e3)
}

fn registry_in(directory: &Path) -> Result<LocalRegistry> {
    Ok(LocalRegistry::new(LocalConfig::new(directory))?)
}
