//! A server process: its calls wait for a worker, then as long as the work takes.
//!
//! It prints its address once it is registered, and serves until it is told to stop by a signal, or
//! until its input ends. A line of its input is a number: work takes so many times as long.

use std::io::{BufRead, stdin};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use micro::{Registered, Service, Settings};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use crate::process::seconds;

/// What a server is told.
#[derive(Args, Clone, Debug)]
pub struct Serve {
    #[arg(long)]
    registry: String,
    #[arg(long)]
    workers: u32,
    #[arg(long, value_parser = seconds)]
    demand: Duration,
}

/// Work that takes its time.
#[micro::service]
pub trait Work {
    /// Does some. Whether it may be repeated is for the caller to say.
    async fn work(&self);
    /// Does a tenth of that.
    async fn short(&self);
    /// Does ten times as much.
    async fn long(&self);
}

/// Serves until it is told to stop.
///
/// # Errors
///
/// What the service says.
pub async fn serve(serve: Serve) -> Result<()> {
    let times = Arc::new(AtomicU32::new(1));
    listen_to_input(times.clone());
    let settings = Settings::none().flag("registry", serve.registry)?;
    let shift = Shift { workers: Workers::new(serve.workers), demand: serve.demand, times };
    let service = Service::new().settings(settings).serve(WorkServer::new(shift)).start().await?;
    service.registered().wait_for(|registered| matches!(registered, Registered::Yes)).await?;
    println!("{}", service.registration().node.address);
    Ok(service.run().await?)
}

/// On a thread of its own, which ends with the process: reading blocks. Whoever started this process
/// is gone when its input ends.
fn listen_to_input(times: Arc<AtomicU32>) {
    std::thread::spawn(move || {
        for line in stdin().lock().lines().map_while(Result::ok) {
            match line.parse() {
                Ok(told) => times.store(told, Relaxed),
                Err(error) => eprintln!("{line:?} is no number: {error}"),
            }
        }
        std::process::exit(1);
    });
}

struct Shift {
    workers: Workers,
    demand: Duration,
    times: Arc<AtomicU32>,
}

impl Work for Shift {
    async fn work(&self) {
        self.work_for(self.demand).await;
    }

    async fn short(&self) {
        self.work_for(self.demand / 10).await;
    }

    async fn long(&self) {
        self.work_for(self.demand * 10).await;
    }
}

impl Shift {
    async fn work_for(&self, demand: Duration) {
        let mean = demand * self.times.load(Relaxed);
        self.workers.work(mean.mul_f64(-(1.0 - fastrand::f64()).ln())).await;
    }
}

/// Workers that lose no time: one that a call waited for begins when it was free, however late that
/// call was woken. So their number and the demand are the capacity, whatever timers are worth.
#[derive(Debug)]
struct Workers {
    idle: Semaphore,
    free_since: Mutex<Vec<Instant>>,
}

impl Workers {
    fn new(count: u32) -> Self {
        let free_since = Mutex::new(vec![Instant::now(); count as usize]);
        Self { idle: Semaphore::new(count as usize), free_since }
    }

    async fn work(&self, demand: Duration) {
        let arrived = Instant::now();
        let _idle = self.idle.acquire().await.expect("nobody closes it");
        let free_since = self.free_since().pop().expect("there is one for each permit");
        let mut worker = Worker { workers: self, until: None };
        let end = free_since.max(arrived) + demand;
        sleep_until(end).await;
        worker.until = Some(end);
    }

    fn free_since(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.free_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A worker at work; free when dropped, from the end of its work on, or from now when that was given
/// up.
struct Worker<'a> {
    workers: &'a Workers,
    until: Option<Instant>,
}

impl Drop for Worker<'_> {
    fn drop(&mut self) {
        self.workers.free_since().push(self.until.unwrap_or_else(Instant::now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEMAND: Duration = Duration::from_millis(20);

    /// Workers that are never idle finish as much as their number and the demand say, to the timer's
    /// last tick, however late each call is woken; and one that is given up leaves its worker free.
    #[tokio::test(start_paused = true)]
    async fn capacity_is_what_was_said() {
        let workers = Arc::new(Workers::new(2));
        let given_up = tokio::time::timeout(DEMAND / 2, workers.work(DEMAND)).await;
        assert!(given_up.is_err());
        let start = Instant::now();
        // The timer counts milliseconds, so that each of these is woken 0.3 ms late.
        let odd = Duration::from_micros(20_700);
        let calls = (0..200).map(|_| {
            let workers = workers.clone();
            async move { workers.work(odd).await }
        });
        futures::future::join_all(calls).await;
        let spent = start.elapsed();
        assert!(spent >= 100 * odd && spent < 100 * odd + DEMAND / 10, "{spent:?}");
    }
}
