//! Measures the goals of balancing in simulated time, beside textbook policies.
//!
//! Repeatable: the same seeds give the same figures on every machine.

use std::num::NonZeroU32;

use anyhow::Result;
use clap::Parser;
use micro_bench::rows::{self, Output};
use micro_bench::simulation::goals::Goal;

/// Simulate clients that balance over nodes that are slow, fail, hang, join and heal.
#[derive(Debug, Parser)]
struct Arguments {
    /// Goals to measure, separated by commas, such as G1,G2; all of them if absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Goal>,
    /// How many seeds; the table has the median and the worst.
    #[arg(long, default_value = "5")]
    seeds: NonZeroU32,
    #[command(flatten)]
    output: Output,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let output = arguments.output.open()?;
    let goals = if arguments.only.is_empty() { Goal::ALL.to_vec() } else { arguments.only };
    let mut rows = Vec::new();
    for goal in goals {
        eprintln!("{goal:?}");
        rows.extend(goal.rows(u64::from(arguments.seeds.get())));
    }
    print!("{}", rows::table(&rows));
    output.write(&rows)
}
