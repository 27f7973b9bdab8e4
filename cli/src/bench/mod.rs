//! `micro bench`: a method called many times, and how long that takes.

mod tally;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use micro::{Error, Signals};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use self::tally::{Run, Tally};
use crate::call::{Prepared, What};
use crate::duration;
use crate::failure::{End, Failure};
use crate::print::{self, Format};
use crate::world::World;

/// Calls a method many times, and says how long that took. Other flags are arguments of the method,
/// as in `micro call`.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(flatten)]
    what: What,
    /// Calls at once
    #[arg(short, long, value_name = "NUMBER", default_value_t = 16)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: u32,
    /// Calls a second, in all [default: as many as there can be]
    #[arg(short, long, value_name = "NUMBER")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// For how long
    #[arg(short, long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// How long each call may take, retries included
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,
    /// How to print the result
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

impl Bench {
    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let Self { what, concurrency, rate, duration, timeout, output } = self;
        let name = what.method.to_string();
        let prepared = Arc::new(what.prepare(world, timeout).await?);
        // What cannot work at all fails here, once.
        prepared.call(timeout).await.map_err(Error::from)?;
        let load = Arc::new(Load {
            prepared,
            timeout,
            begun: Instant::now(),
            duration,
            rate,
            tallies: (0..concurrency.min(TALLIES)).map(|_| Mutex::default()).collect(),
            tickets: AtomicU64::new(0),
            started: AtomicU64::new(0),
            done: AtomicU64::new(0),
            in_time: AtomicU64::new(0),
            over: watch::Sender::new(None),
        });
        let tally = load.clone().put(concurrency).await?;
        let report = tally.report(load.run(name, concurrency));
        let printed = match output {
            Format::Text => print::text(&report.told()),
            Format::Json => print::json(&report),
        };
        match tally.first_error() {
            Some(error) if tally.ok() == 0 => {
                Err(Failure::new(End::of(error), format!("no call succeeded: {error}")))
            }
            _ => printed,
        }
    }
}

/// So many are written at the same time without waiting; each takes some 100 KiB.
const TALLIES: u32 = 8;

/// Calls that are made by several callers at once.
struct Load {
    prepared: Arc<Prepared>,
    timeout: Duration,
    begun: Instant,
    duration: Duration,
    rate: Option<u32>,
    /// What the callers saw, each of which writes to one of them.
    tallies: Vec<Mutex<Tally>>,
    /// How many calls have been given out to the callers.
    tickets: AtomicU64,
    started: AtomicU64,
    done: AtomicU64,
    /// How many were done before the end.
    in_time: AtomicU64,
    /// When somebody interrupted.
    over: watch::Sender<Option<Instant>>,
}

impl Load {
    /// Makes the calls, until the time is over or somebody interrupts.
    async fn put(self: Arc<Self>, concurrency: u32) -> Result<Tally, Failure> {
        let mut callers = JoinSet::new();
        for caller in 0..concurrency {
            callers.spawn(self.clone().call(caller));
        }
        let bar = self.bar();
        let mut ticks = interval(Duration::from_millis(200));
        let mut signals = Signals::listen()?;
        loop {
            tokio::select! {
                ended = callers.join_next() => match ended {
                    Some(Ok(())) => {}
                    Some(Err(panic)) => {
                        return Err(Failure::new(End::Application, format!("a bug: {panic}")));
                    }
                    None => break,
                },
                _ = ticks.tick() => self.show(&bar),
                _ = signals.next() => {
                    // Who interrupts twice does not wait for the last answers.
                    if self.over.borrow().is_some() {
                        break;
                    }
                    self.over.send_replace(Some(Instant::now()));
                }
            }
        }
        bar.finish_and_clear();
        let mut all = Tally::default();
        self.tallies.iter().for_each(|tally| all.add(std::mem::take(&mut locked(tally))));
        Ok(all)
    }

    /// One caller: a call after the other.
    async fn call(self: Arc<Self>, caller: u32) {
        let tally = &self.tallies[caller as usize % self.tallies.len()];
        let mut over = self.over.subscribe();
        while let Some(due) = self.next() {
            // Who is free before a call is due may wake up late, which is not the service's doing.
            let is_overdue = self.rate.is_some() && due <= Instant::now();
            tokio::select! {
                () = sleep_until(due) => {}
                _ = over.wait_for(Option::is_some) => break,
            }
            self.started.fetch_add(1, Ordering::Relaxed);
            let begun = Instant::now();
            let answer = self.prepared.call(self.timeout).reply().await;
            let due = if is_overdue { due } else { begun };
            let took = tally::Took { since_due: due.elapsed(), since_begun: begun.elapsed() };
            match answer {
                Ok(reply) => {
                    let node = reply.node.as_ref().map_or("", |node| &*node.node.id);
                    locked(tally).answered(node, took);
                }
                Err(error) => locked(tally).failed(error.into()),
            }
            self.done.fetch_add(1, Ordering::Relaxed);
            if Instant::now() < self.end() {
                self.in_time.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// When no call begins any more.
    fn end(&self) -> Instant {
        let end = self.begun + self.duration;
        self.over.borrow().map_or(end, |over| over.min(end))
    }

    /// What is known of the calls besides their answers.
    fn run(&self, method: String, concurrency: u32) -> Run {
        let lasted = self.end() - self.begun;
        let due =
            self.rate.map_or(0, |rate| (lasted.as_secs_f64() * f64::from(rate)).ceil() as u64);
        let missed = due.saturating_sub(self.started.load(Ordering::Relaxed));
        let in_time = self.in_time.load(Ordering::Relaxed);
        Run { method, lasted, concurrency, rate: self.rate, in_time, missed }
    }

    /// When the next call is to begin, if there is still one.
    fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let due = match self.rate {
            None => now,
            Some(rate) => {
                let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
                self.begun + Duration::from_secs_f64(ticket as f64 / f64::from(rate))
            }
        };
        let is_in_time = due.max(now) < self.begun + self.duration;
        (is_in_time && self.over.borrow().is_none()).then_some(due)
    }

    /// A bar on standard error, if that is a terminal.
    fn bar(&self) -> ProgressBar {
        let bar = ProgressBar::new(self.duration.as_millis() as u64);
        let style = ProgressStyle::with_template("{wide_bar} {msg}").expect("it is well-formed");
        bar.with_style(style)
    }

    fn show(&self, bar: &ProgressBar) {
        let elapsed = self.begun.elapsed();
        let done = self.done.load(Ordering::Relaxed);
        bar.set_position(elapsed.as_millis() as u64);
        let rate = done as f64 / elapsed.as_secs_f64().max(0.001);
        bar.set_message(format!("{done} calls, {rate:.0}/s"));
    }
}

/// A tally, which is whole whenever its lock is free.
fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}
