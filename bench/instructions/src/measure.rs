//! One cell: this program under callgrind, and what that counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::contender::Name;
use super::{Load, callgrind, calls, part};

/// What a call of one cell takes, in the least of its windows: what disturbs only adds to it.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) contender: Name,
    pub(crate) in_flight: u32,
    pub(crate) payload: u32,
    /// Of client and server together.
    pub(crate) instructions: f64,
    /// By how much the most of them is more, in proportion.
    pub(crate) spread: f64,
    /// Whether calls had tasks of their own in all windows, which takes more.
    pub(crate) has_tasks: bool,
    /// Where they go.
    pub(crate) parts: BTreeMap<String, f64>,
}

/// The instructions of one window, by part.
type Window = BTreeMap<String, u64>;

/// Runs the cell; what callgrind writes goes into the directory.
///
/// # Errors
///
/// If valgrind is missing, or the run fails, or what callgrind wrote is not understood.
pub(crate) fn measure(load: &Load, directory: &Path) -> Result<Row> {
    let written = directory.join(format!("{}-{}", load.contender, load.in_flight));
    let is_steady = run(load, &written)?;
    // What came after the last window.
    let _ = fs::remove_file(&written);
    let has_tasks = !is_steady.contains(&true);
    let numbers = (1..).zip(&is_steady).filter(|(_, steady)| **steady || has_tasks);
    let windows = numbers.map(|(number, _)| read(&written.with_extension(number.to_string())));
    row(load, windows.collect::<Result<_>>()?, has_tasks)
}

/// For each window, whether its calls had no tasks.
fn run(load: &Load, written: &Path) -> Result<Vec<bool>> {
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", written.display()))
        .args(["--toggle-collect=", "--dump-after="].map(|when| format!("{when}{}", calls::WINDOW)))
        .arg(std::env::current_exe()?)
        .args(["--run", &format!("--only={}", load.contender)])
        .arg(format!("--in-flight={}", load.in_flight))
        .args([format!("--payload={}", load.payload), format!("--calls={}", load.calls)])
        .output();
    let output = match output {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("valgrind is missing: install the package `valgrind`, with apt-get for example")
        }
        output => output.context("cannot start valgrind")?,
    };
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} under valgrind: {}\n{said}",
        load.contender,
        output.status
    );
    let printed = String::from_utf8(output.stdout)?;
    Ok(printed.lines().map(|line| line == calls::STEADY).collect())
}

fn read(file: &Path) -> Result<Window> {
    let in_file = || format!("reading {}", file.display());
    let text = fs::read_to_string(file).with_context(in_file)?;
    let mut window = Window::new();
    for (place, cost) in callgrind::own_instructions(&text).with_context(in_file)? {
        *window.entry(part::of(&place)).or_default() += cost;
    }
    Ok(window)
}

fn row(load: &Load, mut windows: Vec<Window>, has_tasks: bool) -> Result<Row> {
    windows.sort_by_key(total);
    let (Some(least), Some(most)) = (windows.first(), windows.last()) else {
        bail!("{} made no window", load.contender);
    };
    let per_call = |instructions: u64| instructions as f64 / f64::from(load.calls);
    Ok(Row {
        contender: load.contender,
        in_flight: load.in_flight,
        payload: load.payload,
        instructions: per_call(total(least)),
        spread: total(most) as f64 / total(least) as f64 - 1.0,
        has_tasks,
        parts: least.iter().map(|(part, cost)| (part.clone(), per_call(*cost))).collect(),
    })
}

fn total(window: &Window) -> u64 {
    window.values().sum()
}
