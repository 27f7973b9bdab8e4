//! What is measured in one process: calls, their latencies and the CPU time they took; its memory.

use std::{
    fs,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use nix::{
    sys::{
        prctl::set_timerslack,
        resource::{UsageWho, getrusage},
        time::TimeVal,
    },
    unistd::{SysconfVar, sysconf},
};
use serde::{Deserialize, Serialize};
use tokio::{
    runtime::Handle,
    task::{JoinSet, spawn_blocking},
};

use crate::{contender::Caller, payload::Made};

/// One measured window of a client process; also the line the process prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Window {
    /// Calls answered.
    pub calls: u64,
    /// From the first call to the last answer.
    pub seconds: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the latency in microseconds.
    pub p99_us: f64,
    /// 99.9th percentile of the latency in microseconds.
    pub p999_us: f64,
    /// User and system CPU time of the process per call, in microseconds.
    pub cpu_us: f64,
}

/// How calls follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// So many tasks, each of which calls again as soon as it is answered.
    Closed(usize),
    /// So many calls a second, whatever becomes of those before, as a Poisson process; a call's
    /// latency is counted from when it was due.
    Open(u32),
}

/// Calls for `length` and sums up; the calls are spread evenly over `callers`.
///
/// # Errors
///
/// The first call that fails, or whose answer is not the payload.
///
/// # Panics
///
/// If `callers` is empty.
pub async fn window<C: Caller>(
    callers: &[C],
    payload: &Arc<Made>,
    pace: Pace,
    length: Duration,
) -> Result<Window> {
    let cpu = process_cpu()?;
    let start = Instant::now();
    let latencies = match pace {
        Pace::Closed(in_flight) => closed(callers, payload, in_flight, start + length).await?,
        Pace::Open(rate) => open(callers, payload, rate, start + length).await?,
    };
    let seconds = start.elapsed().as_secs_f64();
    let cpu = process_cpu()? - cpu;
    let calls = latencies.len();
    ensure!(calls > 0, "no call was made");
    let quantile = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Window {
        calls,
        seconds,
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        cpu_us: cpu.as_secs_f64() * 1e6 / calls as f64,
    })
}

/// User and system CPU time this process has used so far.
///
/// # Errors
///
/// If the system refuses to tell.
pub fn process_cpu() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

/// Bytes of memory this process has now.
///
/// # Errors
///
/// If the system refuses to tell.
pub fn process_memory() -> Result<u64> {
    let pages = fs::read_to_string("/proc/self/statm")?;
    let resident: u64 = pages.split(' ').nth(1).context("statm has no such column")?.parse()?;
    let page = sysconf(SysconfVar::PAGE_SIZE)?.context("pages have a size")?;
    Ok(resident * u64::try_from(page)?)
}

async fn closed<C: Caller>(
    callers: &[C],
    payload: &Arc<Made>,
    in_flight: usize,
    end: Instant,
) -> Result<Histogram<u64>> {
    let latencies = Arc::new(Mutex::new(histogram()));
    let mut workers = JoinSet::new();
    for worker in 0..in_flight {
        let caller = callers[worker % callers.len()].clone();
        workers.spawn(work(caller, payload.clone(), end, latencies.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        worker??;
    }
    Ok(latencies.lock().expect("nobody panicked").clone())
}

/// Calls one after the other until `end` and records the latencies in nanoseconds.
///
/// It does so by the batch: a histogram for each of hundreds of workers would not fit into the
/// processor's cache, and would be in every contender's figures.
async fn work(
    caller: impl Caller,
    payload: Arc<Made>,
    end: Instant,
    latencies: Arc<Mutex<Histogram<u64>>>,
) -> Result<()> {
    let mut batch = Vec::with_capacity(BATCH);
    let record = |batch: &mut Vec<u64>| {
        let mut latencies = latencies.lock().expect("nobody panicked");
        batch.drain(..).for_each(|latency| latencies.saturating_record(latency));
    };
    let mut start = Instant::now();
    while start < end {
        payload.call(&caller).await?;
        let now = Instant::now();
        batch.push((now - start).as_nanos() as u64);
        if batch.len() == BATCH {
            record(&mut batch);
        }
        start = now;
    }
    record(&mut batch);
    Ok(())
}

/// Calls are started by a thread of their own: the timers of the runtime are a millisecond wide.
async fn open<C: Caller>(
    callers: &[C],
    payload: &Arc<Made>,
    rate: u32,
    end: Instant,
) -> Result<Histogram<u64>> {
    let (callers, payload, runtime) = (callers.to_vec(), payload.clone(), Handle::current());
    let starting = spawn_blocking(move || {
        set_timerslack(1)?;
        let mut latencies = histogram();
        let mut calls: JoinSet<Result<Duration>> = JoinSet::new();
        // The same arrivals for all contenders.
        let mut random = fastrand::Rng::with_seed(1);
        let mut due = Instant::now();
        for caller in callers.iter().cycle() {
            due += Duration::from_secs_f64(-(1.0 - random.f64()).ln() / f64::from(rate));
            if due >= end {
                break;
            }
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let (caller, payload) = (caller.clone(), payload.clone());
            let call = async move {
                payload.call(&caller).await?;
                Ok(due.elapsed())
            };
            calls.spawn_on(call, &runtime);
            while let Some(call) = calls.try_join_next() {
                latencies.saturating_record(call??.as_nanos() as u64);
            }
        }
        while let Some(call) = runtime.block_on(calls.join_next()) {
            latencies.saturating_record(call??.as_nanos() as u64);
        }
        anyhow::Ok(latencies)
    });
    starting.await?
}

/// Two digits keep it small; a value is off by under 1 %.
fn histogram() -> Histogram<u64> {
    let minute = 60_000_000_000;
    Histogram::new_with_max(minute, 2).expect("the bounds are valid")
}

fn duration(time: TimeVal) -> Duration {
    Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
}

const BATCH: usize = 32;
