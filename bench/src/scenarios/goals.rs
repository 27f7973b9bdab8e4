//! The goals that take real processes, the scenarios they are measured by, and what is measured.

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use nix::sys::signal::Signal;

use super::Setup;
use super::caller::{Load, Method};
use super::clock::{self, Nanos, S};
use super::record::Record;
use super::stage::{Callers, Stage};
use crate::rows::Figures;
use crate::rows::Target::{Least, Most};

/// A goal by its number. G13 is measured by `hotpath`, the others by `simulate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Goal {
    /// One server becomes 20 times as slow, at 70 % load.
    #[value(name = "G1", alias = "g1")]
    G1,
    /// One server is killed, one is halted, each at full load.
    #[value(name = "G6", alias = "g6")]
    G6,
    /// One server is halted, at 70 % load.
    #[value(name = "G7", alias = "g7")]
    G7,
    /// All servers are restarted one by one at 70 % load, and no call may be repeated.
    #[value(name = "G8", alias = "g8")]
    G8,
    /// Three times as many calls as can be served, for 5 s.
    #[value(name = "G9", alias = "g9")]
    G9,
    /// The registry goes away, and comes back without knowing anybody, at 30 % load.
    #[value(name = "G11", alias = "g11")]
    G11,
    /// Nine short calls to one that takes a hundred times as long, at 70 % load; then one server is 5
    /// times as slow.
    #[value(name = "G15", alias = "g15")]
    G15,
}

/// A policy by the name the product has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// What a client does that says nothing.
    Micro,
    /// The soonest expected answer.
    Ewma,
    /// The fewest calls in flight.
    LeastLoaded,
    /// Each node in turn.
    RoundRobin,
    /// Any node.
    Random,
}

impl Policy {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        self.strategy().unwrap_or("micro")
    }

    fn strategy(self) -> Option<&'static str> {
        match self {
            Self::Micro => None,
            Self::Ewma => Some("ewma"),
            Self::LeastLoaded => Some("least-loaded"),
            Self::RoundRobin => Some("round-robin"),
            Self::Random => Some("random"),
        }
    }
}

/// What came of a scenario.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured.
    pub figures: Figures,
    /// What else was seen, which may say why a goal is missed.
    pub remarks: Vec<String>,
    /// Calls made, all in all.
    pub calls: usize,
    /// Those of them that failed.
    pub failed: usize,
    /// The errors of all that failed, grouped.
    pub failures: String,
}

impl Goal {
    /// Its name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::G1 => "G1",
            Self::G6 => "G6",
            Self::G7 => "G7",
            Self::G8 => "G8",
            Self::G9 => "G9",
            Self::G11 => "G11",
            Self::G15 => "G15",
        }
    }

    /// Plays its scenarios once.
    ///
    /// # Errors
    ///
    /// If a process does not do what it is told; not if calls fail.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills the processes.
    pub async fn play(self, setup: &Setup, policy: Policy) -> Result<Vec<Outcome>> {
        let strategy = policy.strategy();
        let timeout = Duration::from_secs(10);
        let callers = Callers { strategy, is_idempotent: true, timeout, long: None };
        Ok(match self {
            Self::G1 => vec![g1(setup, callers).await?],
            Self::G6 => vec![killed(setup, callers).await?, halted(setup, callers).await?],
            Self::G7 => vec![g7(setup, callers).await?],
            Self::G8 => vec![g8(setup, Callers { is_idempotent: false, ..callers }).await?],
            Self::G9 => vec![g9(setup, Callers { timeout: SECOND, ..callers }).await?],
            Self::G11 => vec![g11(setup, callers).await?],
            Self::G15 => vec![g15(setup, Callers { long: Some(LONG), ..callers }).await?],
        })
    }
}

/// The oracle does without the slow server altogether, at the same rate.
async fn g1(setup: &Setup, callers: Callers<'_>) -> Result<Outcome> {
    let mut stage = Stage::set(setup, callers).await?;
    let slow = 0;
    let sound = f64::from(setup.servers) - 1.0 + 1.0 / 20.0;
    stage.slow(slow, 20).await?;
    let rate = 0.7 * sound * setup.capacity_of_one();
    stage.load(Load::Rate(rate)).await?;
    let from = stage.wait(setup.warm_up).await;
    let to = stage.wait(setup.seconds).await;
    stage.signal(slow, Signal::SIGTERM)?;
    let oracle_from = stage.wait(setup.warm_up).await;
    let oracle_to = stage.wait(setup.seconds).await;
    let record = stage.end().await?;
    record.ensure_called(slow, from)?;
    record.offered(oracle_from..oracle_to, rate)?;
    let offered = record.offered(from..to, rate)?;
    let oracle = record.p99(oracle_from..oracle_to);
    let figures = vec![
        ("p99, × without the slow node", Most(1.10), record.p99(from..to) / oracle),
        ("slow node's share, %", Most(0.1), 100.0 * record.share(slow, from..to)),
    ];
    Ok(outcome(figures, vec![offered], &record))
}

/// Full load is a call in flight for each worker. Nobody can know of the end before the first reset,
/// which comes when the system has taken the process apart.
async fn killed(setup: &Setup, callers: Callers<'_>) -> Result<Outcome> {
    let (record, from) = hurt(setup, callers, full(setup), Signal::SIGKILL).await?;
    let reset = record.first_lost_at(0, from);
    let figures = vec![
        ("failed calls after kill -9", Most(0.0), record.failed(0..Nanos::MAX)),
        ("in rotation after the first reset, ms", Most(10.0), record.in_rotation(0, reset) / 1e6),
    ];
    let first = format!("first reset {:.1} ms after kill -9", (reset - from) as f64 / 1e6);
    Ok(outcome(figures, vec![first, record.attempts_at(0, reset)], &record))
}

async fn halted(setup: &Setup, callers: Callers<'_>) -> Result<Outcome> {
    let (record, from) = hurt(setup, callers, full(setup), Signal::SIGSTOP).await?;
    let figures = vec![
        ("failed calls after SIGSTOP", Most(0.0), record.failed(0..Nanos::MAX)),
        ("in rotation after SIGSTOP, s", Most(3.0), record.in_rotation(0, from) / 1e9),
    ];
    Ok(outcome(figures, vec![record.attempts_at(0, from + 3 * S)], &record))
}

async fn g7(setup: &Setup, callers: Callers<'_>) -> Result<Outcome> {
    let left = f64::from(setup.servers) - 1.0;
    let rate = 0.7 * left * setup.capacity_of_one();
    let (record, from) = hurt(setup, callers, Load::Rate(rate), Signal::SIGSTOP).await?;
    let offered = record.offered(from..from + 3 * S, rate)?;
    let lost = record.lost_at(0, from..from + 3 * S);
    let mean = lost.iter().sum::<f64>() / lost.len() as f64;
    let worst = lost.into_iter().fold(0.0, f64::max);
    let figures = vec![
        ("lost attempts per client in 3 s", Most(2.0), mean),
        ("the same of the worst client", Most(2.0), worst),
    ];
    Ok(outcome(figures, vec![offered], &record))
}

/// The first server gets this signal after warming up; returns when that was. Goes on for 3 s at
/// least, which figures cover.
async fn hurt(
    setup: &Setup,
    callers: Callers<'_>,
    load: Load,
    signal: Signal,
) -> Result<(Record, Nanos)> {
    let mut stage = Stage::set(setup, callers).await?;
    stage.load(load).await?;
    stage.wait(setup.warm_up).await;
    let at = stage.signal(0, signal)?;
    stage.wait(setup.seconds.max(3 * SECOND)).await;
    let record = stage.end().await?;
    record.ensure_called(0, at)?;
    Ok((record, at))
}

/// A new server takes the place of each one that has gone.
async fn g8(setup: &Setup, callers: Callers<'_>) -> Result<Outcome> {
    let mut stage = Stage::set(setup, callers).await?;
    let rate = 0.7 * setup.capacity();
    stage.load(Load::Rate(rate)).await?;
    let steady = stage.wait(setup.warm_up).await;
    let from = stage.wait(setup.seconds).await;
    for server in 0..setup.servers as usize {
        stage.terminate(server).await?;
        stage.add_server().await?;
    }
    let to = stage.wait(SECOND).await;
    let record = stage.end().await?;
    let (during, before) = (record.p99(from..to), record.p99(steady..from));
    let seconds = (to - from) as f64 / 1e9;
    let remark =
        format!("p99 {:.0} ms, steady {:.0} ms; in {seconds:.0} s", during / 1e6, before / 1e6);
    let figures = vec![
        ("failed calls", Most(0.0), record.failed(0..Nanos::MAX)),
        ("p99, × steady", Most(1.5), during / before),
    ];
    let offered = record.offered(steady..to, rate)?;
    Ok(outcome(figures, vec![remark, offered], &record))
}

async fn g9(setup: &Setup, callers: Callers<'_>) -> Result<Outcome> {
    let mut stage = Stage::set(setup, callers).await?;
    stage.load(Load::Rate(0.7 * setup.capacity())).await?;
    stage.wait(setup.warm_up).await;
    let rate = 3.0 * setup.capacity();
    let from = stage.load(Load::Rate(rate)).await?;
    stage.wait(5 * SECOND).await;
    let to = stage.load(Load::Rate(0.7 * setup.capacity())).await?;
    stage.wait(6 * SECOND).await;
    let record = stage.end().await?;
    let offered = record.offered(from..to, rate)?;
    let served = 100.0 * record.throughput(from..to) / setup.capacity();
    let figures = vec![
        ("served during overload, % of capacity", Least(90.0), served),
        ("ok from 1 s after it, %", Least(99.0), 100.0 * record.answered(to + S..to + 6 * S)),
        ("attempts per call during it", Most(1.25), record.attempts_per_call(from..to)),
    ];
    Ok(outcome(figures, vec![offered], &record))
}

async fn g11(setup: &Setup, callers: Callers<'_>) -> Result<Outcome> {
    let mut stage = Stage::set(setup, callers).await?;
    let rate = 0.3 * setup.capacity();
    stage.load(Load::Rate(rate)).await?;
    let from = stage.wait(setup.warm_up).await;
    stage.registry().take_away()?;
    stage.wait(Duration::from_secs_f64(60.0 * setup.minutes)).await;
    let back = clock::now();
    stage.registry().bring_back_empty()?;
    let to = stage.wait(setup.seconds.max(45 * SECOND)).await;
    // Calls go on without any registry: only this tells that it was one again.
    stage.ensure_registered().await?;
    let record = stage.end().await?;
    let figures = vec![
        ("failed calls while the registry is away", Most(0.0), record.failed(0..back)),
        ("failed calls once it is back, and empty", Most(0.0), record.failed(back..Nanos::MAX)),
    ];
    let offered = record.offered(from..to, rate)?;
    Ok(outcome(figures, vec![offered], &record))
}

/// The oracle does without the slow server, at the same rate.
async fn g15(setup: &Setup, callers: Callers<'_>) -> Result<Outcome> {
    let mut stage = Stage::set(setup, callers).await?;
    let (slow, times) = (0, 5);
    let of_one = setup.capacity_of_one() / (0.1 * (1.0 - LONG) + 10.0 * LONG);
    let healthy = stage.window(Load::Rate(0.7 * f64::from(setup.servers) * of_one)).await?;
    stage.slow(slow, times).await?;
    let sound = f64::from(setup.servers) - 1.0 + 1.0 / f64::from(times);
    let slowed = stage.window(Load::Rate(0.7 * sound * of_one)).await?;
    stage.signal(slow, Signal::SIGTERM)?;
    let without = stage.window(Load::Rate(0.7 * sound * of_one)).await?;
    let record = stage.end().await?;
    let (short, long) = (record.of_method(Method::Short), record.of_method(Method::Long));
    let against_oracle = |calls: &Record| calls.p99(slowed.clone()) / calls.p99(without.clone());
    let figures = vec![
        ("short calls' p99, × without the slow node", Most(1.5), against_oracle(&short)),
        ("long calls' p99, × without the slow node", Most(1.5), against_oracle(&long)),
    ];
    let [short, long] = [short, long].map(|calls| calls.p99(healthy.clone()) / 1e6);
    let healthy =
        format!("with all healthy p99 {short:.1} ms of short, {long:.0} ms of long calls");
    let share = format!("slow node's share {:.2} %", 100.0 * record.share(slow, slowed));
    Ok(outcome(figures, vec![healthy, share], &record))
}

fn full(setup: &Setup) -> Load {
    Load::InFlight((setup.servers * setup.workers.get()) as usize)
}

fn outcome(figures: Figures, remarks: Vec<String>, record: &Record) -> Outcome {
    let failed = record.failed(0..Nanos::MAX) as usize;
    Outcome { figures, remarks, calls: record.calls.len(), failed, failures: record.failures() }
}

/// The share of long calls in G15.
const LONG: f64 = 0.1;
const SECOND: Duration = Duration::from_secs(1);
