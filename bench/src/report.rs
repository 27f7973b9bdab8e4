//! Medians over the repetitions, as tables in Markdown and as rows for other programs.

use std::{iter, time::Duration};

use serde::Serialize;

use crate::{
    contender::Name,
    payload::Payload,
    process::{Measured, Memory, StartUp},
    role::Load,
    rows,
};

/// Anything that is reported.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Figures {
    /// Calls under a load.
    Calls(Row),
    /// Memory of idle connections.
    Memory(MemoryRow),
    /// How long it takes to begin.
    StartUp(StartUpRow),
    /// A goal, with its figure.
    Goal(rows::Row),
}

/// One contender under one load: medians over the repetitions, each column by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who.
    pub contender: Name,
    /// Under which load.
    #[serde(flatten)]
    pub load: Load,
    /// Calls answered per second.
    pub calls_per_s: f64,
    /// Those of the slowest repetition.
    pub slowest_calls_per_s: f64,
    /// Those of the fastest repetition.
    pub fastest_calls_per_s: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the latency in microseconds.
    pub p99_us: f64,
    /// 99.9th percentile of the latency in microseconds.
    pub p999_us: f64,
    /// CPU time of the client per call, in microseconds.
    pub cpu_us_client: f64,
    /// CPU time of the server per call, in microseconds.
    pub cpu_us_server: f64,
    /// CPU time of both per call, in microseconds.
    pub cpu_us: f64,
}

/// Memory per idle connection, in bytes.
#[derive(Clone, Debug, Serialize)]
pub struct MemoryRow {
    /// Who.
    pub contender: Name,
    /// How many connections there were.
    pub connections: usize,
    /// Of the server's process.
    pub server_bytes: f64,
    /// Of the client's process.
    pub client_bytes: f64,
}

/// How long it takes to begin: medians, in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct StartUpRow {
    /// Who.
    pub contender: Name,
    /// From the start of the server's process until it says where it is.
    pub server_ms: f64,
    /// From the start of the client's process until its first call is answered.
    pub client_ms: f64,
    /// Both.
    pub both_ms: f64,
}

impl Row {
    /// Sums up the repetitions of one cell.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(contender: Name, load: Load, repetitions: &[Measured]) -> Self {
        let median_of =
            |column: fn(&Measured) -> f64| median(repetitions.iter().map(column).collect());
        let speeds = repetitions.iter().map(Measured::calls_per_s);
        Self {
            contender,
            load,
            calls_per_s: median_of(Measured::calls_per_s),
            slowest_calls_per_s: speeds.clone().fold(f64::MAX, f64::min),
            fastest_calls_per_s: speeds.fold(0.0, f64::max),
            p50_us: median_of(|m| m.client.p50_us),
            p99_us: median_of(|m| m.client.p99_us),
            p999_us: median_of(|m| m.client.p999_us),
            cpu_us_client: median_of(|m| m.client.cpu_us),
            cpu_us_server: median_of(|m| m.server_cpu_us),
            cpu_us: median_of(Measured::cpu_us),
        }
    }

    fn cells(&self, rows: &[Self]) -> Vec<String> {
        let beside = |name, column: fn(&Self) -> f64| {
            let reference = rows.iter().find(|r| r.contender == name && r.load == self.load);
            reference.map_or("–".to_owned(), |r| format!("{:.2}", column(self) / column(r)))
        };
        let mut cells = vec![
            self.contender.to_string(),
            self.load.in_flight.to_string(),
            thousands(self.calls_per_s),
            format!(
                "{}–{}",
                thousands(self.slowest_calls_per_s),
                thousands(self.fastest_calls_per_s)
            ),
        ];
        cells.extend([self.p50_us, self.p99_us, self.p999_us].map(|us| format!("{us:.1}")));
        cells.extend([self.cpu_us_client, self.cpu_us_server].map(|us| format!("{us:.2}")));
        cells.extend([
            beside(Name::Tarpc, |row| row.calls_per_s),
            beside(Name::Raw, |row| row.calls_per_s),
            beside(Name::Tarpc, |row| row.cpu_us),
            beside(Name::Raw, |row| row.cpu_us),
        ]);
        cells
    }
}

impl MemoryRow {
    /// Of what was measured once.
    pub fn new(contender: Name, connections: usize, memory: Memory) -> Self {
        let Memory { server, client } = memory;
        Self { contender, connections, server_bytes: server, client_bytes: client }
    }
}

impl StartUpRow {
    /// Sums up the repetitions.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn new(contender: Name, repetitions: &[StartUp]) -> Self {
        let median_of = |column: fn(&StartUp) -> Duration| {
            median(repetitions.iter().map(|one| column(one).as_secs_f64() * 1e3).collect())
        };
        Self {
            contender,
            server_ms: median_of(|one| one.server),
            client_ms: median_of(|one| one.client),
            both_ms: median_of(|one| one.server + one.client),
        }
    }
}

/// The load in words, without the calls in flight.
pub fn title(load: &Load) -> String {
    let payload = match load.payload {
        Payload::Bytes(bytes) if bytes >= 1024 && bytes % 1024 == 0 => {
            format!("{} KiB", bytes / 1024)
        }
        Payload::Bytes(bytes) => format!("{bytes} B"),
        Payload::Wide => "A struct of 200 fields".to_owned(),
    };
    let connections = match load.connections {
        1 => "one connection".to_owned(),
        many => format!("{many} connections"),
    };
    let cores = if load.one_core { "one core" } else { "all cores" };
    let rate = load.rate.map_or(String::new(), |rate| format!(", {rate} calls/s"));
    format!("{payload}, {connections}, {cores}{rate}")
}

/// The rows as tables, one for each kind of load, with each row's ratios to the references under
/// the very same load.
pub fn calls(rows: &[Row]) -> String {
    let mut titles: Vec<_> = rows.iter().map(|row| title(&row.load)).collect();
    titles.dedup();
    let mut text = String::new();
    for title_here in titles {
        let here = rows.iter().filter(|row| title(&row.load) == title_here);
        text += &format!("\n{title_here}:\n\n");
        text += &markdown(&CALLS, here.map(|row| row.cells(rows)).collect());
    }
    text
}

/// The rows as a table.
pub fn memory(rows: &[MemoryRow]) -> String {
    let header = ["contender", "idle connections", "KiB each, server", "KiB each, client"];
    let kib = |bytes: f64| format!("{:.1}", bytes / 1024.0);
    let cells = |row: &MemoryRow| {
        let (server, client) = (kib(row.server_bytes), kib(row.client_bytes));
        vec![row.contender.to_string(), row.connections.to_string(), server, client]
    };
    format!("\nMemory:\n\n{}", markdown(&header, rows.iter().map(cells).collect()))
}

/// The rows as a table.
pub fn start_up(rows: &[StartUpRow]) -> String {
    let header = ["contender", "server ready, ms", "client's first answer, ms", "both, ms"];
    let cells = |row: &StartUpRow| {
        let times = [row.server_ms, row.client_ms, row.both_ms].map(|ms| format!("{ms:.1}"));
        iter::once(row.contender.to_string()).chain(times).collect()
    };
    format!("\nStart-up:\n\n{}", markdown(&header, rows.iter().map(cells).collect()))
}

/// The goals as a table.
pub fn goals(rows: &[rows::Row]) -> String {
    let header = ["goal of `full`", "target", "figure", "met"];
    let cells = |row: &rows::Row| {
        let met = if row.met { "yes" } else { "**no**" };
        let goal = format!("{}, {}", row.goal, row.measure);
        vec![goal, row.target.clone(), format!("{:.3}", row.figure), met.to_owned()]
    };
    format!("\nGoals:\n\n{}", markdown(&header, rows.iter().map(cells).collect()))
}

/// A table in Markdown that can be read as it is, too.
fn markdown(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let header: Vec<_> = header.iter().map(|&title| title.to_owned()).collect();
    let width = |column: usize| {
        let cells = iter::once(&header).chain(&rows);
        cells.map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("| {cell:<width$} "));
        cells.collect::<String>() + "|\n"
    };
    let rule = widths.iter().map(|width| format!("|{}", "-".repeat(width + 2))).collect::<String>();
    let rows: String = rows.iter().map(line).collect();
    line(&header) + &rule + "|\n" + &rows
}

/// Digits in groups of three.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(" ")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

const CALLS: [&str; 13] = [
    "contender",
    "in flight",
    "calls/s",
    "min–max",
    "p50 µs",
    "p99 µs",
    "p99.9 µs",
    "CPU µs client",
    "CPU µs server",
    "calls/s × tarpc",
    "calls/s × raw",
    "CPU × tarpc",
    "CPU × raw",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The median is the middle value, or the mean of the two middle ones, in any order.
    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(vec![7.0]), 7.0);
    }

    /// Numbers are grouped from their end, and the columns of a table are as wide as their cells.
    #[test]
    fn tables_can_be_read() {
        assert_eq!([7.0, 1_234.4, 100_000.0].map(thousands), ["7", "1 234", "100 000"]);
        let row = ["µ", "100 000"].map(str::to_owned).to_vec();
        let table = markdown(&["who", "calls/s"], vec![row]);
        assert_eq!(table, "| who | calls/s |\n|-----|---------|\n| µ   | 100 000 |\n");
    }
}
