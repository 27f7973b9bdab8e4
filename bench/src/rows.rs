//! Figures beside their goals, the same from every program: as a table, and as rows in JSON.

use std::fmt::Write;
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

/// One figure of one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which goal it belongs to.
    pub goal: &'static str,
    /// What was measured.
    pub measure: String,
    /// Whose figure it is.
    pub policy: String,
    /// The median over the runs.
    pub figure: f64,
    /// The worst of the runs.
    pub worst: f64,
    /// What the figure is to be, in words.
    pub target: String,
    /// Whether every run meets it.
    pub met: bool,
    /// By how much the worst run misses it.
    pub missed_by: Option<f64>,
    /// What was seen in the worst run, if that misses it.
    pub why: Option<String>,
    /// What is known to make such a figure miss it, if it is missed.
    pub note: Option<String>,
}

/// What a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// At most.
    Most(f64),
    /// At least.
    Least(f64),
}

/// What is measured in one run: some figures, by name and target.
pub type Figures = Vec<(&'static str, Target, f64)>;

/// One run: its figures, and what else was seen in it, in words.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was measured.
    pub figures: Figures,
    /// What was seen; empty if nothing was.
    pub seen: String,
}

impl From<Figures> for Run {
    fn from(figures: Figures) -> Self {
        Self { figures, seen: String::new() }
    }
}

impl Row {
    /// Sums up the values of all runs.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(
        goal: &'static str,
        measure: impl Into<String>,
        policy: &str,
        target: Target,
        values: Vec<f64>,
    ) -> Self {
        let values = values.into_iter().map(|value| (value, "")).collect();
        Self::seen(goal, measure, policy, target, values)
    }

    /// Sums up the values of all runs, each with what was seen in it.
    fn seen(
        goal: &'static str,
        measure: impl Into<String>,
        policy: &str,
        target: Target,
        mut values: Vec<(f64, &str)>,
    ) -> Self {
        // What cannot be told, such as how much worse for ever is than for ever, is as bad as can be.
        let unknown = match target {
            Target::Most(_) => f64::INFINITY,
            Target::Least(_) => f64::NEG_INFINITY,
        };
        values.iter_mut().filter(|run| run.0.is_nan()).for_each(|run| run.0 = unknown);
        values.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (lowest, highest) = (values[0], values[values.len() - 1]);
        let ((worst, why), over, words) = match target {
            Target::Most(most) => (highest, highest.0 - most, format!("≤ {most}")),
            Target::Least(least) => (lowest, least - lowest.0, format!("≥ {least}")),
        };
        Self {
            goal,
            measure: measure.into(),
            policy: policy.to_owned(),
            figure: values[values.len() / 2].0,
            worst,
            target: words,
            met: over <= 0.0,
            missed_by: (over > 0.0).then_some(over),
            why: (over > 0.0 && !why.is_empty()).then(|| why.to_owned()),
            note: None,
        }
    }

    /// Adds what is known to make such a figure miss its target, if it does.
    #[must_use]
    pub fn noted(mut self, note: Option<&str>) -> Self {
        self.note = note.filter(|_| !self.met).map(str::to_owned);
        self
    }
}

/// Sums up the figures of all runs of one policy; what the worst run saw says why one is missed.
pub fn sum_up(goal: &'static str, policy: &str, runs: &[Run]) -> Vec<Row> {
    let first = runs.first().into_iter().flat_map(|run| &run.figures).enumerate();
    let row = |(index, (measure, target, _)): (usize, &(&'static str, Target, f64))| {
        let values = runs.iter().map(|run| (run.figures[index].2, &*run.seen)).collect();
        Row::seen(goal, *measure, policy, *target, values)
    };
    first.map(row).collect()
}

/// The rows as text, by measure; one that is missed says by how much, and why.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<6}{:<46}{:>9}  {:<14}{:>10}{:>10}  met\n",
        "goal", "measure", "target", "policy", "median", "worst"
    );
    let mut last = None;
    for row in in_order(rows) {
        let is_new = last.replace((row.goal, &row.measure)) != Some((row.goal, &row.measure));
        let (goal, measure, target) =
            if is_new { (row.goal, &*row.measure, &*row.target) } else { ("", "", "") };
        writeln!(
            text,
            "{goal:<6}{measure:<46}{target:>9}  {:<14}{:>10}{:>10}  {}",
            row.policy,
            number(row.figure),
            number(row.worst),
            verdict(row),
        )
        .expect("a string takes all text");
    }
    text
}

/// Where the rows go besides the terminal.
#[derive(Args, Clone, Debug)]
pub struct Output {
    /// File to write the rows to, as a JSON array.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Output {
    /// Opens the file before anything is measured: a run of minutes should not end with one that
    /// cannot be written.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn open(&self) -> Result<Opened> {
        let create = |path: &PathBuf| {
            File::create(path).with_context(|| format!("cannot write {}", path.display()))
        };
        Ok(Opened(self.json.as_ref().map(create).transpose()?))
    }
}

/// An [`Output`] that can be written.
#[derive(Debug)]
pub struct Opened(Option<File>);

impl Opened {
    /// Writes the rows, if anybody asked for them.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(self, rows: &[impl Serialize]) -> Result<()> {
        self.0.map_or(Ok(()), |file| Ok(serde_json::to_writer_pretty(file, rows)?))
    }
}

/// Stable: by measure, and within each in the order of the policies.
fn in_order(rows: &[Row]) -> Vec<&Row> {
    let place = |row: &Row| {
        rows.iter().position(|first| (first.goal, &first.measure) == (row.goal, &row.measure))
    };
    let mut ordered: Vec<_> = rows.iter().collect();
    ordered.sort_by_key(|row| place(row));
    ordered
}

fn verdict(row: &Row) -> String {
    let Some(by) = row.missed_by else { return "yes".to_owned() };
    let why = row.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let note = row.note.as_ref().map(|note| format!(" ({note})")).unwrap_or_default();
    format!("no, by {}{why}{note}", number(by))
}

fn number(value: f64) -> String {
    match value {
        _ if value.is_infinite() => "never".to_owned(),
        _ if value.abs() >= 1_000.0 => format!("{value:.0}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figure is the median and the verdict the worst run's, on both kinds of target.
    #[test]
    fn the_worst_run_decides() {
        let most = Row::new("G1", "m", "p", Target::Most(2.0), vec![3.0, 1.0, 2.0]);
        assert_eq!((most.figure, most.worst, most.missed_by), (2.0, 3.0, Some(1.0)));
        let least = Row::new("G1", "m", "p", Target::Least(2.0), vec![3.0, 1.5, 4.0]);
        assert_eq!((least.figure, least.worst, least.missed_by), (3.0, 1.5, Some(0.5)));
        let met = Row::new("G1", "m", "p", Target::Least(1.5), vec![1.5]).noted(Some("no reason"));
        assert_eq!((met.met, met.missed_by, met.note), (true, None, None));
        for target in [Target::Most(1.0), Target::Least(1.0)] {
            assert!(!Row::new("G1", "m", "p", target, vec![1.0, f64::NAN]).met, "{target:?}");
        }
    }

    /// What says why is what was seen in the worst run, for each figure, and nothing when it is met.
    #[test]
    fn the_worst_run_says_why() {
        let run = |most, least, seen: &str| Run {
            figures: vec![("m", Target::Most(2.0), most), ("l", Target::Least(2.0), least)],
            seen: seen.to_owned(),
        };
        let runs = [run(1.0, 1.0, "first"), run(3.0, 1.5, "second"), run(2.0, 3.0, "third")];
        let why = |runs: &[Run]| sum_up("G1", "p", runs).into_iter().map(|row| row.why).collect();
        let whys: Vec<_> = why(&runs);
        assert_eq!(whys, [Some("second".to_owned()), Some("first".to_owned())]);
        assert_eq!(why(&runs[2..]), [None, None]);
    }

    /// A table has a measure's policies in a row, and says by how much and why one is missed.
    #[test]
    fn a_table_says_why() {
        let row = |measure, policy, value| {
            Row::new("G1", measure, policy, Target::Most(1.0), vec![value])
                .noted(Some("it is slow"))
        };
        let rows = [row("first", "a", 0.5), row("second", "a", 1.0), row("first", "b", 1.25)];
        let table = table(&rows);
        let lines: Vec<_> = table.lines().skip(1).map(str::trim_start).collect();
        assert!(lines[0].starts_with("G1    first"), "{table}");
        assert!(lines[1].starts_with("b") && lines[1].ends_with("no, by 0.250 (it is slow)"));
        assert!(lines[2].starts_with("G1    second") && lines[2].ends_with("yes"), "{table}");
    }
}
