//! `micro bench`: a method called many times, and how long that takes.

mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use micro::Error;
use tokio::signal::ctrl_c;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep_until};

use self::tally::Tally;
use crate::call::{Prepared, What};
use crate::duration;
use crate::failure::{End, Failure};
use crate::print;
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Text,
    /// JSON, whose shape stays as the guide says
    Json,
}

impl Bench {
    pub(crate) async fn run(self, world: &World) -> Result<(), Failure> {
        let Self { what, concurrency, rate, duration, timeout, output } = self;
        let name = what.method.to_string();
        let prepared = Arc::new(what.prepare(world).await?);
        // What cannot work at all fails here, once.
        prepared.call(timeout).await.map_err(Error::from)?;
        let load = Arc::new(Load {
            prepared,
            timeout,
            begun: Instant::now(),
            duration,
            rate,
            tickets: AtomicU64::new(0),
            done: AtomicU64::new(0),
            over: watch::Sender::new(false),
        });
        let tally = load.clone().put(concurrency).await?;
        let took = load.begun.elapsed();
        let report = tally.report(&name, took, concurrency, rate);
        match output {
            Format::Text => print::text(&report.told())?,
            Format::Json => print::json(&report)?,
        }
        match tally.first_error() {
            Some(error) if tally.ok() == 0 => {
                Err(Failure::new(End::of(error), format!("no call succeeded: {error}")))
            }
            _ => Ok(()),
        }
    }
}

/// Calls that are made by several callers at once.
struct Load {
    prepared: Arc<Prepared>,
    timeout: Duration,
    begun: Instant,
    duration: Duration,
    rate: Option<u32>,
    /// How many calls have been given out to the callers.
    tickets: AtomicU64,
    done: AtomicU64,
    /// Set when somebody interrupts.
    over: watch::Sender<bool>,
}

impl Load {
    /// Makes the calls, until the time is over or somebody interrupts.
    async fn put(self: Arc<Self>, concurrency: u32) -> Result<Tally, Failure> {
        let mut callers = JoinSet::new();
        for _ in 0..concurrency {
            callers.spawn(self.clone().call());
        }
        let mut tally = Tally::default();
        let bar = self.bar();
        let mut ticks = interval(Duration::from_millis(200));
        let mut interrupted = Box::pin(ctrl_c());
        loop {
            tokio::select! {
                ended = callers.join_next() => match ended {
                    Some(Ok(one)) => tally.add(one),
                    Some(Err(panic)) => {
                        return Err(Failure::new(End::Application, format!("a bug: {panic}")));
                    }
                    None => break,
                },
                _ = ticks.tick() => self.show(&bar),
                heard = &mut interrupted => {
                    heard?;
                    // Who interrupts twice does not wait for the last answers.
                    if self.over.send_replace(true) {
                        break;
                    }
                    interrupted = Box::pin(ctrl_c());
                }
            }
        }
        bar.finish_and_clear();
        Ok(tally)
    }

    /// One caller: a call after the other.
    async fn call(self: Arc<Self>) -> Tally {
        let mut tally = Tally::default();
        let mut over = self.over.subscribe();
        while let Some(due) = self.next() {
            // Who is free before a call is due may wake up late, which is not the service's doing.
            let is_overdue = self.rate.is_some() && due <= Instant::now();
            tokio::select! {
                () = sleep_until(due) => {}
                _ = over.wait_for(|over| *over) => break,
            }
            let begun = Instant::now();
            let answer = self.prepared.call(self.timeout).reply().await;
            let due = if is_overdue { due } else { begun };
            let took = tally::Took { since_due: due.elapsed(), since_begun: begun.elapsed() };
            match answer {
                Ok(reply) => {
                    let node = reply.node.as_ref().map_or("", |node| &*node.node.id);
                    tally.answered(node, took);
                }
                Err(error) => tally.failed(error.into()),
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
        tally
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
        (is_in_time && !*self.over.borrow()).then_some(due)
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
