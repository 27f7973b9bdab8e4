//! Measures the goals of balancing in simulated time, beside textbook policies.
//!
//! Repeatable: the same seeds give the same figures on every machine.

use std::fs::File;
use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use micro_bench::simulation::goals::Goal;
use micro_bench::simulation::report;

/// Simulate clients that balance over nodes that are slow, fail, hang, join and heal.
#[derive(Debug, Parser)]
struct Arguments {
    /// Goals to measure, separated by commas, such as G1,G2; all of them if absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Goal>,
    /// How many seeds; the table has the median and the worst.
    #[arg(long, default_value = "5")]
    seeds: NonZeroU32,
    /// File to write the rows to, as a JSON array.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    // Opened first: a run of minutes should not end with a file that cannot be written.
    let json = arguments
        .json
        .as_deref()
        .map(|path| File::create(path).with_context(|| format!("cannot write {path:?}")));
    let json = json.transpose()?;
    let goals = if arguments.only.is_empty() { Goal::ALL.to_vec() } else { arguments.only };
    let mut rows = Vec::new();
    for goal in goals {
        eprintln!("{goal:?}");
        rows.extend(goal.rows(u64::from(arguments.seeds.get())));
    }
    print!("{}", report::table(&rows));
    if let Some(file) = json {
        serde_json::to_writer_pretty(file, &rows)?;
    }
    Ok(())
}
