//! What a call costs in user space and kernel, client and server together: processor time and
//! allocations.
//!
//! Both sides share one process and one thread, over TCP on the loopback interface, so that no
//! wake-up across cores and no other process is in the figures. That makes it the program to run
//! under a profiler, with `--run`.

use std::num::NonZeroU32;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use micro_bench::allocations::Counting;
use micro_bench::contender::Name;
use micro_bench::measure::process_cpu;
use micro_bench::rows::Output;
use serde::{Deserialize, Serialize};

/// Measure the processor time and the allocations of a call, client and server on one thread.
#[derive(Debug, Parser)]
struct Arguments {
    /// Contenders, separated by commas; all of them if absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    /// Calls in flight.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    in_flight: Vec<NonZeroU32>,
    /// Bytes of the payload that is echoed.
    #[arg(long, default_value = "64")]
    payload: usize,
    /// Calls per measurement.
    #[arg(long, default_value = "200000")]
    calls: NonZeroU32,
    /// How often each cell is measured, in turns; the report has medians.
    #[arg(long, default_value = "5")]
    repetitions: NonZeroU32,
    #[command(flatten)]
    output: Output,
    /// Makes the calls of one cell in this very process, and prints what they cost.
    #[arg(long)]
    run: bool,
}

/// What a call of one cell costs.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Cost {
    cpu_us: f64,
    allocations: f64,
}

/// Medians of a cell.
#[derive(Debug, Serialize)]
struct Row {
    contender: Name,
    payload: usize,
    in_flight: u32,
    #[serde(flatten)]
    cost: Cost,
    /// The processor time in proportion to that of the first contender.
    of_first: f64,
}

fn main() -> Result<()> {
    let mut arguments = Arguments::parse();
    if arguments.only.is_empty() {
        arguments.only = Name::all();
    }
    if arguments.run { run(&arguments) } else { compare(&arguments) }
}

fn compare(arguments: &Arguments) -> Result<()> {
    let (first, output) = (arguments.only[0], arguments.output.open()?);
    println!(
        "{:<10}{:>10}{:>13}{:>18}{:>9}",
        "contender",
        "in flight",
        "CPU µs/call",
        "allocations/call",
        format!("× {first}")
    );
    let mut rows = Vec::new();
    for in_flight in &arguments.in_flight {
        let mut costs = vec![Vec::new(); arguments.only.len()];
        for _ in 0..arguments.repetitions.get() {
            for (name, costs) in arguments.only.iter().zip(&mut costs) {
                costs.push(measured(*name, *in_flight, arguments)?);
            }
        }
        let medians: Vec<_> = costs.iter().map(|costs| median(costs)).collect();
        for (name, cost) in arguments.only.iter().zip(&medians) {
            let of_first = cost.cpu_us / medians[0].cpu_us;
            let Cost { cpu_us, allocations } = *cost;
            println!("{name:<10}{in_flight:>10}{cpu_us:>13.2}{allocations:>18.2}{of_first:>9.2}");
            let (in_flight, payload) = (in_flight.get(), arguments.payload);
            rows.push(Row { contender: *name, payload, in_flight, cost: *cost, of_first });
        }
    }
    output.write(&rows)
}

/// In a process of its own, so that none profits from what another warmed up.
fn measured(name: Name, in_flight: NonZeroU32, arguments: &Arguments) -> Result<Cost> {
    let output = Command::new(std::env::current_exe()?)
        .args(["--run", &format!("--only={name}"), &format!("--in-flight={in_flight}")])
        .args([format!("--payload={}", arguments.payload), format!("--calls={}", arguments.calls)])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name} with {in_flight} in flight failed: {said}");
    serde_json::from_slice(&output.stdout).context("reading what the run printed")
}

fn run(arguments: &Arguments) -> Result<()> {
    let ([name], [in_flight]) = (&*arguments.only, &*arguments.in_flight) else {
        anyhow::bail!("--run takes one contender and one number of calls in flight");
    };
    let calls = arguments.calls.get();
    let counts = |calls| -> Result<_> {
        let before = (process_cpu()?, Counting::count());
        name.call_in_process(arguments.payload, in_flight.get(), calls)?;
        Ok(((process_cpu()? - before.0).as_secs_f64(), Counting::count() - before.1))
    };
    // What it takes to begin is not part of a call.
    let (began, long) = (counts(in_flight.get())?, counts(calls + in_flight.get())?);
    let calls = f64::from(calls);
    let cost = Cost {
        cpu_us: (long.0 - began.0) * 1e6 / calls,
        allocations: (long.1 as f64 - began.1 as f64) / calls,
    };
    println!("{}", serde_json::to_string(&cost)?);
    Ok(())
}

fn median(costs: &[Cost]) -> Cost {
    let of = |figure: fn(&Cost) -> f64| {
        let mut figures: Vec<_> = costs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Cost { cpu_us: of(|cost| cost.cpu_us), allocations: of(|cost| cost.allocations) }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
