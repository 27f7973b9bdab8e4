//! Counts the instructions of a call, client and server together, and says where they go.
//!
//! Processor time on a shared machine varies by a tenth; instructions vary by less than a hundredth,
//! so a change of the hot path is seen by them. They are no time: a miss of the cache and a lock
//! count as little as an addition, and what the kernel does does not count at all, which under
//! valgrind includes reading the clock.
//!
//! Both sides share one process and one thread ([`contender`], [`calls`]), over TCP on the loopback
//! interface. The program starts itself under callgrind, once for each cell ([`measure`]), reads what
//! that wrote ([`callgrind`]) and sums it up by the crates that the instructions' source lies in
//! ([`part`], [`report`]).
//!
//! Under callgrind a call takes some fifty times as long as otherwise. What goes by the clock sees
//! a slow machine: a server gives a method's calls tasks of their own once three first polls took
//! longer than 100 µs, which they do while callgrind translates what runs for the first time, and
//! each such poll is made up for by 1 024 quick ones. Hence a cell warms up until its calls have no
//! tasks, and windows that begin or end with such calls are not counted; if there are no others, the
//! report says so. Of the others the least counts, since all that can disturb one adds to it.

mod callgrind;
mod calls;
mod contender;
mod measure;
mod part;
mod report;

use std::fs::File;
use std::num::NonZeroU32;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Parser;

use contender::Name;

/// Count the instructions of a call, client and server together, and say where they go.
///
/// Takes valgrind. Only ratios between trees that one compiler built say something.
#[derive(Debug, Parser)]
struct Arguments {
    /// Contenders, separated by commas.
    #[arg(long, value_delimiter = ',', default_value = "rpc,full")]
    only: Vec<Name>,
    /// Calls in flight, separated by commas; where they go is said for the most.
    #[arg(long, value_delimiter = ',', default_value = "1,64")]
    in_flight: Vec<NonZeroU32>,
    /// Bytes of the payload that is echoed.
    #[arg(long, default_value = "64")]
    payload: NonZeroU32,
    /// Calls per window; each cell is the least of three.
    #[arg(long, default_value = "4096")]
    calls: NonZeroU32,
    /// File to write the rows to, as a JSON array.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where to leave what callgrind wrote, one file for each window, for `callgrind_annotate`.
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Makes the calls of one cell in this very process, as is done under callgrind.
    #[arg(long)]
    run: bool,
}

/// What is called, and how.
#[derive(Clone, Copy, Debug)]
struct Load {
    contender: Name,
    in_flight: u32,
    payload: u32,
    calls: u32,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let loads = loads(&arguments);
    if !arguments.run {
        return count(&arguments, &loads);
    }
    match loads[..] {
        [load] => calls::run(&load),
        _ => bail!("--run takes one contender and one number of calls in flight"),
    }
}

fn loads(arguments: &Arguments) -> Vec<Load> {
    let Arguments { only, in_flight, payload, calls, .. } = arguments;
    let load = |contender, in_flight: NonZeroU32| Load {
        contender,
        in_flight: in_flight.get(),
        payload: payload.get(),
        calls: calls.get(),
    };
    let of = |contender| in_flight.iter().map(move |in_flight| load(contender, *in_flight));
    only.iter().flat_map(|contender| of(*contender)).collect()
}

fn count(arguments: &Arguments, loads: &[Load]) -> Result<()> {
    // Before anything is measured: a run should not end with what cannot be written.
    let create = |path: &PathBuf| {
        File::create(path).with_context(|| format!("cannot write {}", path.display()))
    };
    let json = arguments.json.as_ref().map(create).transpose()?;
    let scratch = tempfile::tempdir()?;
    let directory = arguments.keep.as_deref().unwrap_or(scratch.path());
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let mut rows = Vec::new();
    for load in loads {
        eprintln!("{}, {} in flight", load.contender, load.in_flight);
        rows.push(measure::measure(load, directory)?);
    }
    print!("{}", report::report(&rows));
    json.map_or(Ok(()), |file| Ok(serde_json::to_writer_pretty(file, &rows)?))
}
