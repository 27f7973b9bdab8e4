//! Compares the contenders in one interleaved run and prints medians.
//!
//! CPU columns are user and system time per call of the client and the server process.

use std::{
    num::NonZeroU32,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::{Args, Parser, ValueEnum};
use micro_bench::{
    contender::Name,
    goals::goals,
    payload::Payload,
    pictures, process,
    report::{self, Figures, MemoryRow, Row, StartUpRow},
    role::{Load, Role},
    rows::Output,
};

/// Compare RPC engines: calls of an echo, memory of idle connections, start-up, latency at equal load.
///
/// Without options for cells it measures a selection of them and everything else.
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
    #[arg(long, default_value = "0.5", value_parser = process::seconds)]
    seconds: Duration,
    /// How often each cell is measured; the report has medians.
    #[arg(long, default_value = "3")]
    repetitions: NonZeroU32,
    /// Contenders to compare, separated by commas; all of them if absent.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Name>,
    #[command(flatten)]
    cells: Cells,
    /// What is measured; everything if absent, and calls alone if cells are chosen.
    #[arg(long, value_delimiter = ',')]
    parts: Vec<Part>,
    /// Idle connections whose memory is measured.
    #[arg(long, default_value = "1000")]
    idle: usize,
    /// Directory to write pictures to, which is made: of 64 bytes over one connection on all cores.
    #[arg(long, value_name = "DIRECTORY")]
    pictures: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Which cells are measured: every combination of these.
#[derive(Args, Debug)]
struct Cells {
    /// Bytes of payload, or `wide` for a struct of 200 fields; 64 if absent.
    #[arg(long, value_delimiter = ',')]
    payload: Vec<Payload>,
    /// Calls in flight over all connections; 64 if absent.
    #[arg(long, value_delimiter = ',')]
    in_flight: Vec<usize>,
    /// Connections; 1 if absent.
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Keeps both processes to one core.
    #[arg(long)]
    one_core: bool,
    /// Calls a second, started when they are due; latency counts from then.
    #[arg(long)]
    rate: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Calls under all loads.
    Calls,
    /// Memory of idle connections.
    Memory,
    /// From the start of the processes to the first answer.
    StartUp,
    /// Latency with half as many calls as the slowest peer can answer.
    EqualLoad,
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
    let mut run = Run { comparison, failures: 0 };
    let (mut calls, mut memory, mut start_up) = (Vec::new(), Vec::new(), Vec::new());
    if comparison.has(Part::Calls) {
        let repetitions = comparison.repetitions.get() as usize;
        calls = run.calls(&comparison.loads(), &comparison.contenders(), repetitions).await;
        print!("{}", report::calls(&calls));
    }
    if comparison.has(Part::Memory) {
        memory = run.memory().await;
        print!("{}", report::memory(&memory));
    }
    if comparison.has(Part::StartUp) {
        start_up = run.start_up().await;
        print!("{}", report::start_up(&start_up));
    }
    if comparison.has(Part::EqualLoad) {
        let equal = run.equal_load(&calls).await?;
        print!("{}", report::calls(&equal));
        calls.extend(equal);
    }
    let goals = goals(&calls, &memory);
    if !goals.is_empty() {
        print!("{}", report::goals(&goals));
    }
    if let Some(directory) = &comparison.pictures {
        pictures::write(directory, &calls)?;
    }
    let mut figures: Vec<_> = calls.into_iter().map(Figures::Calls).collect();
    figures.extend(memory.into_iter().map(Figures::Memory));
    figures.extend(start_up.into_iter().map(Figures::StartUp));
    figures.extend(goals.into_iter().map(Figures::Goal));
    output.write(&figures)?;
    ensure!(run.failures == 0, "{} measurements failed", run.failures);
    Ok(())
}

/// What has happened so far.
struct Run<'a> {
    comparison: &'a Comparison,
    /// Measurements that came to nothing; the others go on.
    failures: usize,
}

impl Run<'_> {
    /// A whole round before the next, so that a busy moment of the machine meets all contenders. What
    /// fails is measured once more: a peer that ends by itself now and then has figures, too.
    async fn calls(&mut self, loads: &[Load], contenders: &[Name], repetitions: usize) -> Vec<Row> {
        let cells: Vec<_> =
            loads.iter().flat_map(|load| contenders.iter().map(|name| (*load, *name))).collect();
        let mut measured = vec![Vec::new(); cells.len()];
        let mut progress = Progress::new(cells.len() * repetitions);
        for _ in 0..repetitions {
            for ((load, contender), measured) in cells.iter().zip(&mut measured) {
                let in_flight = load.in_flight;
                let what = format!("{contender}, {}, {in_flight} in flight", report::title(load));
                let said = |cell: &process::Measured| format!("{:.0} calls/s", cell.calls_per_s());
                let mut cell = process::measure(*contender, *load).await;
                if let Err(error) = &cell {
                    eprintln!("{what}: {error:#}; once more");
                    cell = process::measure(*contender, *load).await;
                }
                progress.say(&what, &cell, said);
                measured.extend(self.kept(cell));
            }
        }
        let cells = cells.iter().zip(&measured).filter(|(_, measured)| !measured.is_empty());
        cells.map(|((load, name), measured)| Row::new(*name, *load, measured)).collect()
    }

    async fn memory(&mut self) -> Vec<MemoryRow> {
        let (contenders, connections) = (self.comparison.contenders(), self.comparison.idle);
        let mut progress = Progress::new(contenders.len());
        let mut rows = Vec::new();
        for contender in contenders {
            let memory = process::memory(contender, connections).await;
            let said =
                |memory: &process::Memory| format!("{:.0} bytes in the server", memory.server);
            progress.say(&format!("{contender}, {connections} idle"), &memory, said);
            let memory = self.kept(memory);
            rows.extend(memory.map(|memory| MemoryRow::new(contender, connections, memory)));
        }
        rows
    }

    async fn start_up(&mut self) -> Vec<StartUpRow> {
        let contenders = self.comparison.contenders();
        let mut progress = Progress::new(STARTS * contenders.len());
        let mut measured = vec![Vec::new(); contenders.len()];
        for _ in 0..STARTS {
            for (contender, measured) in contenders.iter().zip(&mut measured) {
                let start_up = process::start_up(*contender).await;
                let said = |one: &process::StartUp| format!("{:.0?}", one.server + one.client);
                progress.say(&format!("{contender}, start-up"), &start_up, said);
                measured.extend(self.kept(start_up));
            }
        }
        let measured = contenders.iter().zip(&measured).filter(|(_, all)| !all.is_empty());
        measured.map(|(contender, all)| StartUpRow::new(*contender, all)).collect()
    }

    /// At half of what the slowest of these can do, which `rows` say, or are measured for.
    async fn equal_load(&mut self, rows: &[Row]) -> Result<Vec<Row>> {
        let contenders: Vec<_> =
            self.comparison.contenders().into_iter().filter(|name| !name.is_http()).collect();
        let load = self.comparison.load(Payload::Bytes(64), 64);
        let mut capacity: Vec<_> = rows
            .iter()
            .filter(|row| row.load == load && !row.contender.is_http())
            .cloned()
            .collect();
        if capacity.is_empty() {
            capacity = self.calls(&[load], &contenders, 1).await;
        }
        let slowest = capacity.iter().map(|row| row.calls_per_s).min_by(f64::total_cmp);
        ensure!(slowest.is_some(), "nobody answers");
        let rate = slowest.map(|slowest| (slowest / 2.0) as u32);
        // High percentiles want many calls, and more rounds than medians: one pause of a few
        // milliseconds, in which the system lets somebody else run, is a percent of a second.
        let seconds = 4.0 * load.seconds;
        let repetitions = 3 * self.comparison.repetitions.get() as usize;
        Ok(self.calls(&[Load { rate, seconds, ..load }], &contenders, repetitions).await)
    }

    fn kept<T>(&mut self, measured: Result<T>) -> Option<T> {
        self.failures += usize::from(measured.is_err());
        measured.ok()
    }
}

impl Comparison {
    fn contenders(&self) -> Vec<Name> {
        if self.only.is_empty() { Name::all() } else { self.only.clone() }
    }

    fn has(&self, part: Part) -> bool {
        match &self.parts[..] {
            [] => part == Part::Calls || !self.cells.are_chosen(),
            parts => parts.contains(&part),
        }
    }

    fn loads(&self) -> Vec<Load> {
        if self.cells.are_chosen() { self.chosen() } else { self.selection() }
    }

    /// One call in flight on one core, where no wake-up across cores hides the engine; all numbers
    /// of calls in flight; and other payloads and connections where they tell something.
    fn selection(&self) -> Vec<Load> {
        let small = Payload::Bytes(64);
        let one_core = Load { one_core: true, ..self.load(small, 1) };
        let mut loads = vec![one_core];
        loads.extend([1, 8, 64, 512].map(|in_flight| self.load(small, in_flight)));
        let payloads = [Payload::Bytes(1024), Payload::Bytes(16 * 1024), Payload::Wide];
        loads.extend(payloads.map(|payload| self.load(payload, 64)));
        loads.push(self.load(Payload::Bytes(1024), 512));
        let four = |in_flight| Load { connections: 4, ..self.load(small, in_flight) };
        loads.extend([64, 512].map(four));
        loads
    }

    /// Every combination of what is asked for.
    fn chosen(&self) -> Vec<Load> {
        let Cells { payload, in_flight, connections, one_core, rate } = &self.cells;
        let mut loads = Vec::new();
        for payload in or(payload, Payload::Bytes(64)) {
            for connections in or(connections, 1) {
                for in_flight in or(in_flight, 64) {
                    let load = self.load(payload, in_flight);
                    loads.push(Load { connections, one_core: *one_core, rate: *rate, ..load });
                }
            }
        }
        loads
    }

    fn load(&self, payload: Payload, in_flight: usize) -> Load {
        let seconds = self.seconds.as_secs_f64();
        Load { payload, in_flight, connections: 1, one_core: false, rate: None, seconds }
    }
}

impl Cells {
    fn are_chosen(&self) -> bool {
        let Self { payload, in_flight, connections, one_core, rate } = self;
        let is_empty = payload.is_empty() && in_flight.is_empty() && connections.is_empty();
        !is_empty || *one_core || rate.is_some()
    }
}

fn or<T: Copy>(chosen: &[T], otherwise: T) -> Vec<T> {
    if chosen.is_empty() { vec![otherwise] } else { chosen.to_vec() }
}

/// Says what was measured, and for how long it goes on.
struct Progress {
    start: Instant,
    done: usize,
    all: usize,
}

impl Progress {
    fn new(all: usize) -> Self {
        Self { start: Instant::now(), done: 0, all }
    }

    fn say<T>(&mut self, what: &str, measured: &Result<T>, said: impl Fn(&T) -> String) {
        self.done += 1;
        let Self { start, done, all } = *self;
        let left = start.elapsed().as_secs_f64() / done as f64 * (all - done) as f64;
        let said = match measured {
            Ok(measured) => said(measured),
            Err(error) => format!("failed: {error:#}"),
        };
        eprintln!("{done}/{all} ({left:.0} s left): {what}: {said}");
    }
}

/// How often a start-up is measured: it takes no time.
const STARTS: usize = 5;
