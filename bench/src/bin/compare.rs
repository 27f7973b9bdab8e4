//! Compares the contenders in one interleaved run and prints medians.
//!
//! CPU columns are user and system time per call of the client and the server process.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Parser, ValueEnum};
use micro_bench::{
    contender::Name,
    process::{self, Load, Role},
    report::{self, Row},
    rows::Output,
};

/// Compare RPC engines: a 64 byte echo on one connection, with 1 and with 64 calls in flight.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    comparison: Comparison,
}

#[derive(Args, Debug)]
struct Comparison {
    /// Length of each measured window in seconds.
    #[arg(long, default_value = "3", value_parser = process::seconds)]
    seconds: Duration,
    /// How often each cell is measured; the report has medians.
    #[arg(long, default_value = "5")]
    repetitions: NonZeroU32,
    /// Contenders to compare, separated by commas; all of them if absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    #[command(flatten)]
    output: Output,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    match arguments.role {
        Some(role) => role.play(),
        None => compare(&arguments.comparison),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn compare(comparison: &Comparison) -> Result<()> {
    let output = comparison.output.open()?;
    let contenders = match &comparison.only[..] {
        [] => Name::value_variants(),
        only => only,
    };
    let loads = IN_FLIGHT.map(|in_flight| Load {
        payload: 64,
        in_flight,
        connections: 1,
        seconds: comparison.seconds,
    });
    let cells: Vec<_> =
        loads.iter().flat_map(|load| contenders.iter().map(|name| (*load, *name))).collect();

    // A whole round before the next, so that a busy moment of the machine meets all contenders.
    let mut measured = vec![Vec::new(); cells.len()];
    for repetition in 1..=comparison.repetitions.get() {
        for ((load, contender), measured) in cells.iter().zip(&mut measured) {
            let cell = process::measure(*contender, *load);
            let cell = cell.await.with_context(|| format!("measuring {contender}"))?;
            let calls_per_s = cell.calls_per_s();
            let in_flight = load.in_flight;
            eprintln!(
                "{repetition}/{}: {contender}, {in_flight} in flight: {calls_per_s:.0} calls/s",
                comparison.repetitions
            );
            measured.push(cell);
        }
    }

    let rows: Vec<_> = cells
        .iter()
        .zip(&measured)
        .map(|((load, contender), measured)| Row::new(*contender, *load, measured))
        .collect();
    println!("{}", report::table(&rows));
    output.write(&rows)
}

/// The cells: how many calls are in flight.
const IN_FLIGHT: [usize; 2] = [1, 64];
