//! What was measured, and what it comes to.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use micro::Error;
use serde::Serialize;

use crate::duration;

/// How long a call took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Took {
    /// Since it should have begun.
    pub(super) since_due: Duration,
    /// Since it began.
    pub(super) since_begun: Duration,
}

/// What one caller saw, or several together.
///
/// Whoever calls again only when the last call is over calls less while the service hangs, and so
/// measures that less often than it would be seen: "coordinated omission", as Gil Tene calls it. With
/// a rate, calls that no caller was free for count from when they were due. Without one, HdrHistogram's correction adds the calls
/// that would have been made meanwhile, one for each median.
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
    pub(super) fn report(
        &self,
        method: &str,
        took: Duration,
        concurrency: u32,
        rate: Option<u32>,
    ) -> Report {
        let corrected = match rate {
            Some(_) => self.since_due.clone(),
            None => corrected(&self.since_begun),
        };
        let calls = self.ok() + self.failed.values().sum::<u64>();
        Report {
            method: method.to_owned(),
            seconds: rounded(took.as_secs_f64()),
            concurrency,
            rate,
            calls,
            ok: self.ok(),
            failed: self.failed.clone(),
            calls_per_second: rounded(calls as f64 / took.as_secs_f64().max(1e-9)),
            latency_ms: Latency::of(&corrected),
            uncorrected_ms: Latency::of(&self.since_begun),
            nodes: self.nodes.clone(),
        }
    }
}

fn corrected(measured: &Histogram<u64>) -> Histogram<u64> {
    // A call stands for ten thousand others at most, or adding them would take longer than the run.
    let interval = measured.value_at_quantile(0.5).max(measured.max() / 10_000);
    if interval == 0 { measured.clone() } else { measured.clone_correct(interval) }
}

/// What a run comes to, in the shape that `-o json` promises.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    method: String,
    seconds: f64,
    concurrency: u32,
    rate: Option<u32>,
    calls: u64,
    ok: u64,
    /// By code.
    failed: BTreeMap<String, u64>,
    calls_per_second: f64,
    /// Of calls that were answered, corrected for coordinated omission.
    latency_ms: Latency,
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
        for (code, count) in &self.failed {
            text += &format!("failed     {count} {code}\n");
        }
        if self.ok > 0 {
            text += "           corrected  as measured\n";
            let rows = self.latency_ms.rows().into_iter().zip(self.uncorrected_ms.rows());
            for ((name, corrected), (_, measured)) in rows {
                let time = |millis: f64| duration::text(Duration::from_secs_f64(millis / 1e3));
                text += &format!("{name:10} {:10} {}\n", time(corrected), time(measured));
            }
        }
        for (node, count) in &self.nodes {
            let share = *count as f64 * 100.0 / self.ok.max(1) as f64;
            text += &format!("node       {share:.1}% {node}\n");
        }
        text
    }
}

/// To three digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(due: u64, begun: u64) -> Took {
        let [since_due, since_begun] = [due, begun].map(Duration::from_millis);
        Took { since_due, since_begun }
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
        let report = tally.report("a.b", Duration::from_secs(1), 1, Some(100));
        assert!((490.0..520.0).contains(&report.latency_ms.p50), "{report:?}");
        assert!(report.uncorrected_ms.p50 < 2.0, "{report:?}");
        assert_eq!((report.calls, report.ok, report.nodes["a"]), (100, 100, 100));
    }

    /// Without one, the calls that a hanging one kept from being made are added.
    #[test]
    fn without_a_rate_what_was_not_called_is_added() {
        let mut tally = Tally::default();
        for _ in 0..1_000 {
            tally.answered("a", took(1, 1));
        }
        tally.answered("a", took(1_000, 1_000));
        let report = tally.report("a.b", Duration::from_secs(2), 1, None);
        assert!(report.uncorrected_ms.p99 < 2.0, "{report:?}");
        assert!(report.latency_ms.p99 > 900.0, "{report:?}");
        assert_eq!(report.ok, 1_001);
    }

    /// What several callers saw is added up, failures by their code.
    #[test]
    fn tallies_add_up() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.answered("a", took(1, 1));
        other.answered("b", took(3, 3));
        other.failed(Error::new(micro::Code::Unavailable, "gone"));
        one.add(other);
        let report = one.report("a.b", Duration::from_secs(1), 2, None);
        assert_eq!((report.calls, report.ok, report.failed["unavailable"]), (3, 2, 1));
        assert!(one.first_error().is_some());
        assert!(report.told().contains("failed     1 unavailable\n"), "{}", report.told());
    }
}
