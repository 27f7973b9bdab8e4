//! Medians over the repetitions, as a table and as rows for other programs.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    contender::Name,
    process::{Load, Measured},
};

/// One contender under one load: medians over the repetitions, each column by itself.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Who.
    pub contender: Name,
    /// Bytes of payload, both ways.
    pub payload: usize,
    /// Calls in flight, over all connections.
    pub in_flight: usize,
    /// Connections of the client.
    pub connections: usize,
    /// Calls answered per second.
    pub calls_per_s: f64,
    /// Median latency in microseconds.
    pub p50_us: f64,
    /// 99th percentile of the latency in microseconds.
    pub p99_us: f64,
    /// CPU time of the client per call, in microseconds.
    pub cpu_us_client: f64,
    /// CPU time of the server per call, in microseconds.
    pub cpu_us_server: f64,
    /// The slowest and the fastest repetition, in calls per second; in the table only.
    #[serde(skip)]
    pub range: (f64, f64),
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
            payload: load.payload,
            in_flight: load.in_flight,
            connections: load.connections,
            calls_per_s: median_of(Measured::calls_per_s),
            p50_us: median_of(|m| m.client.p50_us),
            p99_us: median_of(|m| m.client.p99_us),
            cpu_us_client: median_of(|m| m.client.cpu_us),
            cpu_us_server: median_of(|m| m.server_cpu_us),
            range: (speeds.clone().fold(f64::MAX, f64::min), speeds.fold(0.0, f64::max)),
        }
    }

    fn same_load(&self, other: &Self) -> bool {
        (self.payload, self.in_flight, self.connections)
            == (other.payload, other.in_flight, other.connections)
    }
}

/// The rows as text, with each one's throughput relative to the references in the same cell.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<10}{:>9}{:>11}{:>11}{:>19}{:>10}{:>10}{:>11}{:>11}",
        "contender",
        "payload",
        "in flight",
        "calls/s",
        "min–max",
        "p50 µs",
        "p99 µs",
        "client µs",
        "server µs",
    );
    for reference in REFERENCES {
        write!(text, "{:>10}", format!("× {reference}")).expect("a string takes all text");
    }
    for row in rows {
        write!(
            text,
            "\n{:<10}{:>9}{:>11}{:>11.0}{:>19}{:>10.1}{:>10.1}{:>11.2}{:>11.2}",
            row.contender,
            row.payload,
            row.in_flight,
            row.calls_per_s,
            format!("{:.0}–{:.0}", row.range.0, row.range.1),
            row.p50_us,
            row.p99_us,
            row.cpu_us_client,
            row.cpu_us_server,
        )
        .expect("a string takes all text");
        for reference in REFERENCES {
            let reference = rows.iter().find(|r| r.contender == reference && r.same_load(row));
            let ratio = reference.map(|r| format!("{:.2}", row.calls_per_s / r.calls_per_s));
            write!(text, "{:>10}", ratio.as_deref().unwrap_or("–"))
                .expect("a string takes all text");
        }
    }
    text
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}

const REFERENCES: [Name; 2] = [Name::Tarpc, Name::Raw];

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
}
