//! What was measured, and what it comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use micro::Error;
use serde::Serialize;

use crate::duration;
use crate::print::{self, rounded};

/// How long a call took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// Since it should have begun.
    pub(super) since_due: Duration,
    /// Since it began.
    pub(super) since_begun: Duration,
}

/// What some of the callers saw, or all together.
///
/// Whoever calls again only when the last call is over calls less while the service hangs, and so
/// measures that less often than it would be seen: "coordinated omission", as Gil Tene calls it. With
/// a rate, calls that no caller was free for count from when they were due. Without one nobody knows
/// which calls would have been made, so nothing is corrected.
#[derive(Debug)]
pub(super) struct Tally {
    since_due: Histogram<u64>,
    since_begun: Histogram<u64>,
    nodes: BTreeMap<String, u64>,
    failed: BTreeMap<String, u64>,
    first_error: Option<Error>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            since_due: histogram(),
            since_begun: histogram(),
            nodes: BTreeMap::new(),
            failed: BTreeMap::new(),
            first_error: None,
        }
    }
}

/// Of nanoseconds, to three digits, for as long as need be.
fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are allowed")
}

const GROWS: &str = "it grows as need be";

impl Tally {
    pub(super) fn answered(&mut self, node: &str, took: Took) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.since_due.record(nanos(took.since_due)).expect(GROWS);
        self.since_begun.record(nanos(took.since_begun)).expect(GROWS);
        match self.nodes.get_mut(node) {
            Some(calls) => *calls += 1,
            None => drop(self.nodes.insert(node.to_owned(), 1)),
        }
    }

    pub(super) fn failed(&mut self, error: Error) {
        *self.failed.entry(error.code().to_string()).or_default() += 1;
        self.first_error.get_or_insert(error);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.since_due.add(other.since_due).expect(GROWS);
        self.since_begun.add(other.since_begun).expect(GROWS);
        for (all, more) in [(&mut self.nodes, other.nodes), (&mut self.failed, other.failed)] {
            for (key, count) in more {
                *all.entry(key).or_default() += count;
            }
        }
        self.first_error = self.first_error.take().or(other.first_error);
    }

    /// How many calls were answered.
    pub(super) fn ok(&self) -> u64 {
        self.since_begun.len()
    }

    pub(super) fn first_error(&self) -> Option<&Error> {
        self.first_error.as_ref()
    }

    /// What it comes to.
    pub(super) fn report(&self, run: Run) -> Report {
        let Run { method, lasted, concurrency, rate, in_time, missed } = run;
        Report {
            method,
            seconds: rounded(lasted.as_secs_f64()),
            concurrency,
            rate,
            calls: self.ok() + self.failed.values().sum::<u64>(),
            missed,
            ok: self.ok(),
            failed: self.failed.clone(),
            calls_per_second: rounded(in_time as f64 / lasted.as_secs_f64().max(1e-9)),
            latency_ms: Latency::of(if rate.is_some() {
                &self.since_due
            } else {
                &self.since_begun
            }),
            uncorrected_ms: Latency::of(&self.since_begun),
            nodes: self.nodes.clone(),
        }
    }
}

/// What was done, besides what the callers saw.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) method: String,
    /// For how long calls were begun.
    pub(super) lasted: Duration,
    pub(super) concurrency: u32,
    pub(super) rate: Option<u32>,
    /// How many calls ended while it lasted.
    pub(super) in_time: u64,
    /// How many calls were due and never begun.
    pub(super) missed: u64,
}

/// What a run comes to, in the shape that `-o json` promises.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    method: String,
    seconds: f64,
    concurrency: u32,
    rate: Option<u32>,
    calls: u64,
    /// Due by the rate, and never begun: nobody was free for them.
    missed: u64,
    ok: u64,
    /// By code.
    failed: BTreeMap<String, u64>,
    calls_per_second: f64,
    /// Of calls that were answered; with a rate, since they were due.
    latency_ms: Latency,
    /// The same since they began.
    uncorrected_ms: Latency,
    /// How many calls each node answered, by its id.
    nodes: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p999: f64,
    max: f64,
}

impl Latency {
    fn of(histogram: &Histogram<u64>) -> Self {
        let millis = |nanos: f64| rounded(nanos / 1e6);
        let at = |quantile: f64| millis(histogram.value_at_quantile(quantile) as f64);
        Self {
            mean: millis(histogram.mean()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: millis(histogram.max() as f64),
        }
    }

    fn rows(&self) -> [(&'static str, f64); 6] {
        let Self { mean, p50, p90, p99, p999, max } = *self;
        [("mean", mean), ("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999), ("max", max)]
    }
}

impl Report {
    /// For people.
    pub(super) fn told(&self) -> String {
        let Self { method, seconds, calls, calls_per_second, .. } = self;
        let mut text = format!("{method}: {calls} calls in {seconds}s, {calls_per_second:.0}/s\n");
        if self.missed > 0 {
            text += &format!("missed     {} were due, and nobody was free\n", self.missed);
        }
        for (code, count) in &self.failed {
            text += &format!("failed     {count} {code}\n");
        }
        if self.ok > 0 {
            text += &self.latencies();
        }
        for (node, count) in &self.nodes {
            let share = *count as f64 * 100.0 / self.ok.max(1) as f64;
            text += &format!("node       {share:.1}% {}\n", print::plain(node));
        }
        text
    }

    fn latencies(&self) -> String {
        let time = |millis: f64| duration::text(Duration::from_secs_f64(millis / 1e3));
        let rows = self.latency_ms.rows().into_iter().zip(self.uncorrected_ms.rows());
        let row = |((name, due), (_, begun))| match self.rate {
            Some(_) => format!("{name:10} {:10} {}\n", time(due), time(begun)),
            None => format!("{name:10} {}\n", time(begun)),
        };
        let without = match self.calls - self.ok {
            0 => String::new(),
            failed => format!(", without {failed} that failed"),
        };
        let header = match self.rate {
            Some(_) => {
                format!("           since due  since begun, of {} calls{without}\n", self.ok)
            }
            None => format!("           of {} calls{without}\n", self.ok),
        };
        header + &rows.map(row).collect::<String>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(due: u64, begun: u64) -> Took {
        let [since_due, since_begun] = [due, begun].map(Duration::from_millis);
        Took { since_due, since_begun }
    }

    fn run(lasted: u64, rate: Option<u32>) -> Run {
        let (method, lasted) = ("a.b".to_owned(), Duration::from_secs(lasted));
        Run { method, lasted, concurrency: 1, rate, in_time: 10, missed: 0 }
    }

    /// With a rate, what waits behind a call that hangs counts from when it was due.
    #[test]
    fn with_a_rate_calls_count_from_when_they_were_due() {
        let mut tally = Tally::default();
        // One every 10 ms, of which the first takes a second.
        tally.answered("a", took(1_000, 1_000));
        for behind in 1..100 {
            tally.answered("a", took(1_000 - behind * 10, 1));
        }
        let report = tally.report(run(1, Some(100)));
        assert!((490.0..520.0).contains(&report.latency_ms.p50), "{report:?}");
        assert!(report.uncorrected_ms.p50 < 2.0, "{report:?}");
        assert_eq!((report.calls, report.ok, report.nodes["a"]), (100, 100, 100));
    }

    /// Without one nothing is made up: nobody knows what would have been called.
    #[test]
    fn without_a_rate_nothing_is_corrected() {
        let mut tally = Tally::default();
        for _ in 0..1_000 {
            tally.answered("a", took(1, 1));
        }
        tally.answered("a", took(1_000, 1_000));
        let report = tally.report(run(2, None));
        assert!(report.latency_ms.p99 < 2.0 && report.latency_ms.max > 900.0, "{report:?}");
        assert_eq!((report.ok, report.calls_per_second), (1_001, 5.0));
    }

    /// What several callers saw is added up, failures by their code.
    #[test]
    fn tallies_add_up() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.answered("a", took(1, 1));
        other.answered("b", took(3, 3));
        other.failed(Error::new(micro::Code::Unavailable, "gone"));
        one.add(other);
        let report = one.report(Run { missed: 7, ..run(1, Some(5)) });
        assert_eq!((report.calls, report.ok, report.failed["unavailable"]), (3, 2, 1));
        assert!(one.first_error().is_some());
        let told = report.told();
        for line in
            ["missed     7 ", "failed     1 unavailable\n", "of 2 calls, without 1 that failed"]
        {
            assert!(told.contains(line), "{told}");
        }
    }
}
