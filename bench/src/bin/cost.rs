//! What a call costs, client and server together: instructions and allocations, counted and not
//! timed, so that a busy machine changes nothing.
//!
//! Both sides run in one process, on one thread, over TCP on the loopback interface. Instructions
//! are what valgrind's callgrind counts in user space, by the difference between two runs of
//! different length; it must be installed. With `--keep` its profiles stay, for `callgrind_annotate`.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use micro_bench::allocations::Counting;
use micro_bench::contender::Name;
use serde::Serialize;

/// Count the instructions and allocations of a call, client and server together.
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
    /// Calls of the shorter run; the longer one makes three times as many.
    #[arg(long, default_value = "2000")]
    calls: NonZeroU32,
    /// Directory in which callgrind's profiles of the longer runs are left.
    #[arg(long)]
    keep: Option<PathBuf>,
    /// File to write the rows to, as a JSON array.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Makes calls and says how often memory was asked for: what the program starts itself as.
    #[arg(long, hide = true)]
    run: bool,
}

/// One contender with so many calls in flight.
#[derive(Debug, Serialize)]
struct Row {
    contender: Name,
    payload: usize,
    in_flight: u32,
    instructions_per_call: f64,
    allocations_per_call: f64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if arguments.run {
        return run(&arguments);
    }
    let names = match &*arguments.only {
        [] => Name::all(),
        only => only.to_vec(),
    };
    let profiles = match &arguments.keep {
        Some(directory) => directory.clone(),
        None => tempfile::tempdir()?.keep(),
    };
    let mut rows = Vec::new();
    println!("contender     in flight  instructions/call  allocations/call");
    for in_flight in arguments.in_flight.iter().map(|count| count.get()) {
        for name in &names {
            let cell = Cell { name: *name, in_flight, payload: arguments.payload };
            let row = cell.measure(arguments.calls.get(), &profiles)?;
            let Row { instructions_per_call, allocations_per_call, .. } = row;
            println!(
                "{name:<10}{in_flight:>13}{instructions_per_call:>19.0}{allocations_per_call:>18.2}"
            );
            rows.push(row);
        }
    }
    if arguments.keep.is_none() {
        std::fs::remove_dir_all(profiles)?;
    }
    match arguments.json {
        Some(file) => std::fs::write(&file, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| format!("writing {}", file.display())),
        None => Ok(()),
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let ([name], [in_flight]) = (&*arguments.only, &*arguments.in_flight) else {
        anyhow::bail!("one contender and one number of calls in flight at a time");
    };
    let (in_flight, calls) = (in_flight.get(), arguments.calls.get());
    name.call_in_process(arguments.payload, in_flight, calls)?;
    println!("{}", Counting::count());
    Ok(())
}

struct Cell {
    name: Name,
    in_flight: u32,
    payload: usize,
}

/// What one run took in all.
struct Counts {
    instructions: f64,
    allocations: f64,
}

impl Cell {
    fn measure(&self, calls: u32, profiles: &Path) -> Result<Row> {
        let short = self.count(calls, profiles)?;
        let long = self.count(3 * calls, profiles)?;
        let more = f64::from(2 * calls);
        Ok(Row {
            contender: self.name,
            payload: self.payload,
            in_flight: self.in_flight,
            instructions_per_call: (long.instructions - short.instructions) / more,
            allocations_per_call: (long.allocations - short.allocations) / more,
        })
    }

    fn count(&self, calls: u32, profiles: &Path) -> Result<Counts> {
        let Self { name, in_flight, payload } = self;
        let profile = profiles.join(format!("callgrind.{name}.{in_flight}"));
        let output = Command::new("valgrind")
            .arg("--tool=callgrind")
            .arg(format!("--callgrind-out-file={}", profile.display()))
            .arg(std::env::current_exe()?)
            .args(["--run", &format!("--only={name}"), &format!("--in-flight={in_flight}")])
            .args([format!("--payload={payload}"), format!("--calls={calls}")])
            .output()
            .context("starting valgrind, which counts the instructions: is it installed?")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} failed under valgrind:\n{said}");
        let collected = said.lines().find_map(|line| line.split_once("Collected :"));
        let (_, instructions) = collected.with_context(|| format!("no count in\n{said}"))?;
        let allocations = String::from_utf8(output.stdout)?;
        Ok(Counts {
            instructions: instructions.trim().parse()?,
            allocations: allocations.trim().parse()?,
        })
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
