//! Medians and worst cases over the seeds, as a table and as rows for other programs.

use std::fmt::Write;

use serde::Serialize;

use super::goals::Target;

/// One figure of one policy.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which goal it belongs to.
    pub goal: &'static str,
    /// What was measured.
    pub measure: &'static str,
    /// Whose figure it is.
    pub policy: String,
    /// The median over the seeds.
    pub figure: f64,
    /// The worst of the seeds.
    pub worst: f64,
    /// What the figure is to be, in words.
    pub target: String,
    /// Whether every seed meets it.
    pub met: bool,
}

impl Row {
    /// Sums up the values of all seeds.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(
        goal: &'static str,
        measure: &'static str,
        policy: &str,
        target: Target,
        mut values: Vec<f64>,
    ) -> Self {
        values.sort_by(f64::total_cmp);
        let figure = values[values.len() / 2];
        let (worst, met, target) = match target {
            Target::Most(most) => {
                let worst = values[values.len() - 1];
                (worst, worst <= most, format!("≤ {most}"))
            }
            Target::Least(least) => (values[0], values[0] >= least, format!("≥ {least}")),
        };
        Self { goal, measure, policy: policy.to_owned(), figure, worst, target, met }
    }
}

/// The rows as text; a goal that is missed says by how much.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<6}{:<46}{:>9}  {:<14}{:>10}{:>10}  met\n",
        "goal", "measure", "target", "policy", "median", "worst"
    );
    let mut last = None;
    for row in rows {
        let is_new = last.replace((row.goal, row.measure)) != Some((row.goal, row.measure));
        let (goal, measure, target) =
            if is_new { (row.goal, row.measure, &*row.target) } else { ("", "", "") };
        let met = if row.met { "yes" } else { "no" };
        writeln!(
            text,
            "{goal:<6}{measure:<46}{target:>9}  {:<14}{:>10}{:>10}  {met}",
            row.policy,
            number(row.figure),
            number(row.worst),
        )
        .expect("a string takes all text");
    }
    text
}

fn number(value: f64) -> String {
    match value {
        _ if value.is_infinite() => "never".to_owned(),
        _ if value.abs() >= 1_000.0 => format!("{value:.0}"),
        _ => format!("{value:.3}"),
    }
}
