//! Measures the goals that take real processes: servers that are killed, halted, slowed down,
//! restarted and overloaded, and a registry that goes away.

use std::num::NonZeroU32;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use micro_bench::rows::{Output, Row, Run, sum_up, table};
use micro_bench::scenarios::goals::{Goal, Outcome, Policy};
use micro_bench::scenarios::{Setup, caller, server};
use tokio::runtime::Builder;
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

/// Starts servers and clients as processes, hurts them, and prints what callers notice, with every
/// failed call's error. Fails when the default policy misses a goal.
///
/// G13 is measured by `hotpath`, and the goals that take no process by `simulate`.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    play: Play,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves until it is told to stop.
    #[command(hide = true)]
    Serve(server::Serve),
    /// Calls as it is told.
    #[command(hide = true)]
    Call(caller::Call),
}

#[derive(Args, Debug)]
struct Play {
    /// Goals to measure; all of them if absent.
    #[arg(long = "goal", value_delimiter = ',')]
    goals: Vec<Goal>,
    /// Policies to measure them with.
    #[arg(long = "policy", value_delimiter = ',', default_value = "micro")]
    policies: Vec<Policy>,
    /// How often each is played; the table has the median and the worst.
    #[arg(long, default_value = "1")]
    repetitions: NonZeroU32,
    #[command(flatten)]
    setup: Setup,
    #[command(flatten)]
    output: Output,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut runtime = match &arguments.role {
        Some(_) => Builder::new_multi_thread(),
        // Linux ends what `end_with_parent` is called in with the thread that started it.
        None => Builder::new_current_thread(),
    };
    let runtime = runtime.enable_all().build()?;
    match arguments.role {
        Some(role) => {
            end_with_parent()?;
            runtime.block_on(role.play()).map(|()| ExitCode::SUCCESS)
        }
        None => runtime.block_on(arguments.play.until_interrupted()),
    }
}

impl Role {
    async fn play(self) -> Result<()> {
        match self {
            Self::Serve(told) => server::serve(told).await,
            Self::Call(told) => caller::call(told).await,
        }
    }
}

impl Play {
    /// Drops what runs, and with it all processes, at the first signal.
    async fn until_interrupted(self) -> Result<ExitCode> {
        let mut terminated = signal(SignalKind::terminate())?;
        tokio::select! {
            played = self.play() => played,
            _ = ctrl_c() => bail!("interrupted"),
            _ = terminated.recv() => bail!("terminated"),
        }
    }

    async fn play(self) -> Result<ExitCode> {
        let output = self.output.open()?;
        let goals = if self.goals.is_empty() { Goal::value_variants() } else { &self.goals };
        let mut rows = Vec::new();
        for goal in goals {
            for policy in &self.policies {
                rows.extend(self.measure(*goal, *policy).await?);
            }
        }
        print!("{}", table(&rows));
        output.write(&rows)?;
        let ours = rows.iter().filter(|row| row.policy == Policy::Micro.name() && !row.met);
        let missed: Vec<_> = ours.map(|row| format!("{} ({})", row.goal, row.measure)).collect();
        if missed.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        eprintln!("missed: {}", missed.join(", "));
        Ok(ExitCode::FAILURE)
    }

    /// Plays a goal's scenarios as often as is wanted, and prints the errors of failed calls.
    async fn measure(&self, goal: Goal, policy: Policy) -> Result<Vec<Row>> {
        let mut scenarios: Vec<Vec<Outcome>> = Vec::new();
        for run in 1..=self.repetitions.get() {
            let title = format!("{} {}, run {run}", goal.name(), policy.name());
            eprintln!("{title}");
            for (index, outcome) in goal.play(&self.setup, policy).await?.into_iter().enumerate() {
                eprintln!("  {} of {} calls failed", outcome.failed, outcome.calls);
                outcome.remarks.iter().for_each(|remark| eprintln!("  {remark}"));
                if !outcome.failures.is_empty() {
                    println!("{title}: failed calls\n{}", outcome.failures);
                }
                scenarios.resize_with(scenarios.len().max(index + 1), Vec::new);
                scenarios[index].push(outcome);
            }
        }
        let scenarios = scenarios.into_iter().map(|runs| runs.into_iter().map(run).collect());
        let rows = |runs: Vec<Run>| sum_up(goal.name(), policy.name(), &runs);
        Ok(scenarios.flat_map(rows).collect())
    }
}

/// What was measured, with what was remarked and the first of the failures.
fn run(outcome: Outcome) -> Run {
    let mut seen = outcome.remarks;
    seen.extend(outcome.failures.lines().next().map(str::to_owned));
    Run { figures: outcome.figures, seen: seen.join("; ") }
}

/// Kills this process when the one that started it dies, however that dies, and also when this one
/// is halted. Elsewhere than on Linux one that runs ends with its input.
fn end_with_parent() -> Result<()> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    Ok(())
}
