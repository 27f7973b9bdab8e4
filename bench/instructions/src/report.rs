//! The rows as tables in Markdown that can be read as they are, too.

use std::collections::BTreeSet;
use std::iter;

use super::measure::Row;

/// What a call takes, and where it goes with most calls in flight.
pub(crate) fn report(rows: &[Row]) -> String {
    let most = rows.iter().map(|row| row.in_flight).max().unwrap_or_default();
    let of_most: Vec<_> = rows.iter().filter(|row| row.in_flight == most).collect();
    let tasks = if rows.iter().any(|row| row.has_tasks) { TASKS } else { "" };
    format!("{}{tasks}\nWhere they go, {most} in flight:\n\n{}", totals(rows), parts(&of_most))
}

const TASKS: &str = "\n* calls had tasks of their own, which takes more: the machine is too slow\n";

fn totals(rows: &[Row]) -> String {
    let header = ["contender", "in flight", "instructions/call", "windows differ by"];
    let cells = |row: &Row| {
        let mark = if row.has_tasks { " *" } else { "" };
        let spread = format!("{:.1} %", row.spread * 100.0);
        vec![
            row.contender.to_string(),
            row.in_flight.to_string(),
            thousands(row.instructions) + mark,
            spread,
        ]
    };
    markdown(&header.map(str::to_owned), rows.iter().map(cells).collect())
}

/// The largest of the last contender first; what is below a hundredth of every call is summed up.
fn parts(rows: &[&Row]) -> String {
    let of = |row: &Row, part: &str| row.parts.get(part).copied().unwrap_or_default();
    let is_small = |part: &&String| rows.iter().all(|row| of(row, part) < row.instructions / 100.0);
    let all: BTreeSet<_> = rows.iter().flat_map(|row| row.parts.keys()).collect();
    let (small, mut large): (Vec<_>, Vec<_>) = all.into_iter().partition(is_small);
    let by_last = |part: &String| rows.iter().rev().map(|row| of(row, part)).collect::<Vec<_>>();
    large.sort_by(|a, b| by_last(b).partial_cmp(&by_last(a)).expect("counts can be compared"));

    let line = |part: &str, figure: &dyn Fn(&Row) -> f64| {
        let figures = rows.iter().map(|row| thousands(figure(row)));
        iter::once(part.to_owned()).chain(figures).collect()
    };
    let mut lines: Vec<_> = large.iter().map(|part| line(part, &|row| of(row, part))).collect();
    lines.push(line("rest", &|row| small.iter().map(|part| of(row, part)).sum()));
    let contenders = rows.iter().map(|row| row.contender.to_string());
    markdown(&iter::once("part".to_owned()).chain(contenders).collect::<Vec<_>>(), lines)
}

fn markdown(header: &[String], rows: Vec<Vec<String>>) -> String {
    let width = |column: usize| {
        let cells = iter::once(header).chain(rows.iter().map(Vec::as_slice));
        cells.map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let line = |row: &[String]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("| {cell:<width$} "));
        cells.collect::<String>() + "|\n"
    };
    let rule = widths.iter().map(|width| format!("|{}", "-".repeat(width + 2))).collect::<String>();
    let rows: String = rows.iter().map(|row| line(row)).collect();
    line(header) + &rule + "|\n" + &rows
}

/// Digits in groups of three.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Name;

    fn row(contender: Name, parts: &[(&str, f64)]) -> Row {
        Row {
            contender,
            in_flight: 64,
            payload: 64,
            instructions: parts.iter().map(|part| part.1).sum(),
            spread: 0.0,
            has_tasks: false,
            parts: parts.iter().map(|(part, cost)| ((*part).to_owned(), *cost)).collect(),
        }
    }

    /// The parts of a contender sum up to its calls, the largest of the last first.
    #[test]
    fn shows_every_part() {
        let rpc = row(Name::Rpc, &[("tokio", 600.0), ("bytes", 400.0), ("std", 3.0)]);
        let full = row(Name::Full, &[("bytes", 7_000.0), ("micro", 8_000.0), ("tracing", 20.0)]);
        let expected = "\
| part  | rpc | full  |
|-------|-----|-------|
| micro | 0   | 8 000 |
| bytes | 400 | 7 000 |
| tokio | 600 | 0     |
| rest  | 3   | 20    |
";
        assert_eq!(parts(&[&rpc, &full]), expected);
    }
}
