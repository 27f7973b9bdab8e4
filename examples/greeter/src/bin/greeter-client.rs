//! Calls the greeters for a while and reports who answered, and what failed.
//!
//! Run it: `cargo run -p greeter --bin greeter-client -- --seconds 10 --concurrency 16`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Parser;
use greeter::{GreeterClient, NODE};
use tokio::signal::ctrl_c;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Calls the greeters for a while, or until Ctrl-C, and reports who answered. Exit code 1 when a
/// call failed.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Registry to find greeters in [default: what MICRO_REGISTRY or micro.toml says, else local:]
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// For how long to call
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many calls to keep under way
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: u32,
    /// Calls per second, over all callers [default: as fast as they are answered]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Whether a call that may have been executed may be repeated
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    idempotent: bool,
    /// How nodes are picked: ewma, least-loaded, round-robin, random, weighted or consistent-hash
    #[arg(long)]
    selector: Option<String>,
}

/// What one caller saw.
#[derive(Default)]
struct Tally {
    by_node: BTreeMap<String, u64>,
    failed: u64,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut settings = micro::Settings::from_process()?;
    for (key, value) in [("registry", &arguments.registry), ("selector", &arguments.selector)] {
        if let Some(value) = value {
            settings = settings.flag(key, value)?;
        }
    }
    let _telemetry = micro::telemetry::init(&settings)?;
    let client = micro::Client::connect().settings(settings).wait_for_ready(true).await?;
    let greeter = GreeterClient::new(&client);

    let end = Instant::now() + Duration::from_secs(arguments.seconds);
    let period = arguments.rate.map(|rate| {
        Duration::from_secs(1).mul_f64(f64::from(arguments.concurrency) / f64::from(rate))
    });
    let enough = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for _ in 0..arguments.concurrency {
        let caller = Caller {
            greeter: greeter.clone(),
            end,
            enough: enough.clone(),
            period,
            idempotent: arguments.idempotent,
        };
        callers.spawn(caller.call());
    }
    let mut total = Tally::default();
    loop {
        tokio::select! {
            tally = callers.join_next() => match tally {
                Some(tally) => total.add(tally?),
                None => return Ok(report(&total)),
            },
            interrupted = ctrl_c(), if !enough.load(Ordering::Relaxed) => {
                interrupted?;
                enough.store(true, Ordering::Relaxed);
            }
        }
    }
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.failed += other.failed;
        for (node, calls) in other.by_node {
            *self.by_node.entry(node).or_default() += calls;
        }
    }
}

/// One call after the other.
struct Caller {
    greeter: GreeterClient,
    end: Instant,
    /// Set to stop before the end.
    enough: Arc<AtomicBool>,
    period: Option<Duration>,
    idempotent: bool,
}

impl Caller {
    async fn call(self) -> Tally {
        let mut tally = Tally::default();
        let mut ticks = self.period.map(interval);
        if let Some(ticks) = &mut ticks {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        while Instant::now() < self.end && !self.enough.load(Ordering::Relaxed) {
            if let Some(ticks) = &mut ticks {
                ticks.tick().await;
            }
            match self.greeter.hello("Ann").idempotent(self.idempotent).reply().await {
                Ok(greeting) => {
                    let node = greeting.metadata.get(NODE).unwrap_or("unknown").to_owned();
                    *tally.by_node.entry(node).or_default() += 1;
                }
                Err(error) => {
                    tally.failed += 1;
                    eprintln!("failed: {error}");
                }
            }
        }
        tally
    }
}

fn report(total: &Tally) -> ExitCode {
    for (node, calls) in &total.by_node {
        println!("node={node} calls={calls}");
    }
    let ok: u64 = total.by_node.values().sum();
    let failed = total.failed;
    println!("calls={} ok={ok} failed={failed}", ok + failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
