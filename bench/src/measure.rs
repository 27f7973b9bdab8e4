//! What is measured in one process: calls, their latencies and the CPU time they took.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use crate::contender::Caller;

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
    /// User and system CPU time of the process per call, in microseconds.
    pub cpu_us: f64,
}

/// Calls for `length` with `in_flight` tasks, each of which calls again as soon as it is answered.
///
/// The tasks are spread evenly over `callers`, one of which is one connection.
///
/// # Errors
///
/// The first call that fails, or whose answer is not the payload.
///
/// # Panics
///
/// If `callers` is empty while `in_flight` is not zero.
pub async fn window<C: Caller>(
    callers: &[C],
    payload: usize,
    in_flight: usize,
    length: Duration,
) -> Result<Window> {
    let payload: Arc<[u8]> = (0..payload).map(|byte| byte as u8).collect();
    let mut workers = JoinSet::new();
    let cpu = process_cpu()?;
    let start = Instant::now();
    for worker in 0..in_flight {
        let caller = callers[worker % callers.len()].clone();
        workers.spawn(work(caller, payload.clone(), start + length));
    }
    let mut latencies = histogram();
    while let Some(worker) = workers.join_next().await {
        latencies.add(worker??)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu = process_cpu()? - cpu;
    let calls = latencies.len();
    ensure!(calls > 0, "no call was made");
    Ok(Window {
        calls,
        seconds,
        p50_us: latencies.value_at_quantile(0.5) as f64 / 1e3,
        p99_us: latencies.value_at_quantile(0.99) as f64 / 1e3,
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

/// Calls one after the other until `end`; returns the latencies in nanoseconds.
async fn work(caller: impl Caller, payload: Arc<[u8]>, end: Instant) -> Result<Histogram<u64>> {
    let mut latencies = histogram();
    let mut start = Instant::now();
    while start < end {
        let reply = caller.call(&payload).await?;
        ensure!(reply.as_ref() == &*payload, "the answer is not the payload");
        let now = Instant::now();
        latencies.saturating_record((now - start).as_nanos() as u64);
        start = now;
    }
    Ok(latencies)
}

/// Two digits keep it in the processor's cache, also 64 of them; a value is off by under 1 %.
fn histogram() -> Histogram<u64> {
    let minute = 60_000_000_000;
    Histogram::new_with_max(minute, 2).expect("the bounds are valid")
}

fn duration(time: TimeVal) -> Duration {
    Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
}
