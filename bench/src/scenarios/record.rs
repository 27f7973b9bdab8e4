//! What all callers of a scenario did, and the figures that are taken from it.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, ensure};

use super::caller::{Attempted, Called, End, Method, Report};
use super::clock::{Nanos, S};

/// What all callers did. Nodes are named by their number on the stage.
#[derive(Clone, Debug, Default)]
pub struct Record {
    /// All calls.
    pub calls: Vec<Called>,
    /// All attempts, of each caller.
    pub attempts: Vec<Vec<Attempted>>,
    failures: BTreeMap<String, (u64, String)>,
}

impl Record {
    /// Adds what one caller did; `nodes` are the addresses of the nodes by number.
    ///
    /// # Errors
    ///
    /// If it called a node that is none of these, whose figures would then be those of a node that
    /// nobody calls.
    pub fn add(&mut self, report: Report, nodes: &[String]) -> Result<()> {
        let number = |address: &String| {
            let number = nodes.iter().position(|node| node == address);
            number.with_context(|| format!("a caller called {address:?}, which is no server"))
        };
        let numbers: Vec<_> = report.nodes.iter().map(number).collect::<Result<_>>()?;
        for error in report.calls.iter().filter_map(|call| call.error) {
            let failed = &report.errors[error];
            let group = self.failures.entry(failed.shape.clone());
            group.or_insert_with(|| (0, failed.first.clone())).0 += 1;
        }
        self.calls.extend(&report.calls);
        let attempts = report.attempts.into_iter();
        self.attempts.push(attempts.map(|a| Attempted { node: numbers[a.node], ..a }).collect());
        Ok(())
    }

    /// Fails if nobody called a node before a moment, so that nothing can be told of what came then.
    ///
    /// # Errors
    ///
    /// If nobody did.
    pub fn ensure_called(&self, node: usize, before: Nanos) -> Result<()> {
        let is_called = self.sent(0..before).any(|attempt| attempt.node == node);
        ensure!(is_called, "nobody called server {node} before it was hurt");
        Ok(())
    }

    /// Says how many calls were made in that time, in which so many per second were planned.
    ///
    /// # Errors
    ///
    /// If it were less than 95 %, beyond what chance does to a number of calls at random.
    pub fn offered(&self, time: Range<Nanos>, rate: f64) -> Result<String> {
        let seconds = (time.end - time.start) as f64 / S as f64;
        let planned = rate * seconds;
        let is_begun = |call: &&Called| time.contains(&(call.at + call.late));
        let made = self.calls.iter().filter(is_begun).count() as f64;
        let text = format!("{:.0} calls made per second, of {rate:.0} planned", made / seconds);
        ensure!(made >= 0.95 * planned - 3.0 * planned.sqrt(), "this host is too busy: {text}");
        Ok(text)
    }

    /// The same without calls of other methods.
    pub fn of_method(&self, method: Method) -> Self {
        let mut record = self.clone();
        record.calls.retain(|call| call.method == method);
        record
    }

    /// The errors of failed calls, grouped, with the first of each group verbatim.
    pub fn failures(&self) -> String {
        let groups = self.failures.values();
        groups.map(|(count, first)| format!("{count} × {first}")).collect::<Vec<_>>().join("\n")
    }

    /// Failed calls that were made in that time.
    pub fn failed(&self, time: Range<Nanos>) -> f64 {
        self.made(time).filter(|call| call.error.is_some()).count() as f64
    }

    /// The share of calls made in that time that were answered; all, if none was made.
    pub fn answered(&self, time: Range<Nanos>) -> f64 {
        let made = self.made(time.clone()).count();
        if made == 0 { 1.0 } else { 1.0 - self.failed(time) / made as f64 }
    }

    /// Calls answered in that time, per second.
    pub fn throughput(&self, time: Range<Nanos>) -> f64 {
        let is_served =
            |call: &&Called| call.error.is_none() && time.contains(&(call.at + call.took));
        let seconds = (time.end - time.start) as f64 / S as f64;
        self.calls.iter().filter(is_served).count() as f64 / seconds
    }

    /// Attempts made in that time per call made in it.
    pub fn attempts_per_call(&self, time: Range<Nanos>) -> f64 {
        self.sent(time.clone()).count() as f64 / self.made(time).count() as f64
    }

    /// The 99th percentile of how long calls took that were made in that time, in nanoseconds; one
    /// that failed took for ever.
    pub fn p99(&self, time: Range<Nanos>) -> f64 {
        let took = |call: &Called| if call.error.is_some() { Nanos::MAX } else { call.took };
        let mut took: Vec<_> = self.made(time).map(took).collect();
        let index = took.len() * 99 / 100;
        let is_some = index < took.len();
        let p99 = is_some.then(|| *took.select_nth_unstable(index).1);
        p99.filter(|p99| *p99 < Nanos::MAX).map_or(f64::INFINITY, |p99| p99 as f64)
    }

    /// A node's share of the attempts made in that time.
    pub fn share(&self, node: usize, time: Range<Nanos>) -> f64 {
        let to_it = self.sent(time.clone()).filter(|attempt| attempt.node == node).count();
        to_it as f64 / self.sent(time).count() as f64
    }

    /// The attempts each caller lost at a node that were made in that time.
    pub fn lost_at(&self, node: usize, time: Range<Nanos>) -> Vec<f64> {
        let is_lost = |attempt: &&Attempted| {
            attempt.node == node && attempt.end == End::Lost && time.contains(&attempt.at)
        };
        let lost = |attempts: &Vec<Attempted>| attempts.iter().filter(is_lost).count() as f64;
        self.attempts.iter().map(lost).collect()
    }

    /// How long a node was still in somebody's rotation after a moment, in nanoseconds: until the
    /// last attempt at it that was no probe, which is one that follows another after [`REST`], or
    /// after [`BACKOFF`] if it found no connection.
    pub fn in_rotation(&self, node: usize, since: Nanos) -> f64 {
        let last = |attempts: &Vec<Attempted>| {
            let at: Vec<_> = attempts.iter().filter(|a| a.node == node).collect();
            let is_regular = |pair: &&[&Attempted]| {
                let pause = if pair[1].end == End::Unsent { BACKOFF } else { REST };
                pair[1].at >= since && pair[1].at - pair[0].at < pause
            };
            at.windows(2).filter(is_regular).map(|pair| pair[1].at - since).next_back()
        };
        self.attempts.iter().filter_map(last).max().unwrap_or(0) as f64
    }

    /// When the first attempt at a node failed after a moment; that moment if none did.
    pub fn first_lost_at(&self, node: usize, since: Nanos) -> Nanos {
        let all = self.attempts.iter().flatten();
        let lost = all.filter(|a| a.node == node && a.end == End::Lost && a.took < Nanos::MAX);
        lost.map(|a| a.at + a.took).filter(|end| *end >= since).min().unwrap_or(since)
    }

    /// What became of the attempts at a node from a moment on, for people.
    pub fn attempts_at(&self, node: usize, since: Nanos) -> String {
        let at = || self.sent(since..Nanos::MAX).filter(|attempt| attempt.node == node);
        let unsent = at().filter(|attempt| attempt.end == End::Unsent).count();
        let waited = at().filter(|a| a.end == End::Unsent && a.took >= S / 10).count();
        format!(
            "{} attempts at it from then on, {unsent} of them unsent, {waited} after waiting for a connection",
            at().count()
        )
    }

    fn made(&self, time: Range<Nanos>) -> impl Iterator<Item = &Called> {
        self.calls.iter().filter(move |call| time.contains(&call.at))
    }

    fn sent(&self, time: Range<Nanos>) -> impl Iterator<Item = &Attempted> {
        let all = self.attempts.iter().flatten();
        all.filter(move |attempt| time.contains(&attempt.at))
    }
}

/// The shortest time for which an ejected node rests before it is probed.
pub const REST: Nanos = S * 3 / 4;
/// The shortest time after a lost connection for which no other is tried.
pub const BACKOFF: Nanos = S * 8 / 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios::caller::Failed;

    const MS: Nanos = S / 1_000;

    fn attempts(node: usize, end: End, at: impl IntoIterator<Item = Nanos>) -> Vec<Attempted> {
        at.into_iter().map(|at| Attempted { at: at * MS, node, took: MS, end }).collect()
    }

    fn record(attempts: Vec<Attempted>) -> Record {
        Record { attempts: vec![attempts], ..Record::default() }
    }

    /// A node is in rotation until the last attempt that follows another soon; what comes later is a
    /// probe, and what comes before the moment does not count.
    #[test]
    fn probes_are_no_rotation() {
        let all = record(attempts(0, End::Lost, [100, 200, 300, 1_300, 2_400, 2_500, 4_000]));
        assert_eq!(all.in_rotation(0, 250 * MS), 2_250e6);
        assert_eq!(all.in_rotation(0, 2_600 * MS), 0.0);
        assert_eq!(all.in_rotation(1, 0), 0.0);
        let unsent = record(attempts(0, End::Unsent, [100, 110, 190, 350, 600]));
        assert_eq!(unsent.in_rotation(0, 50 * MS), 60e6);
    }

    /// The first loss is the earliest end of an attempt at the node that was sent and not answered.
    #[test]
    fn the_first_loss_is_found() {
        let mut all = attempts(0, End::Answered, [10]);
        all.extend(attempts(0, End::Unsent, [20]));
        all.extend(attempts(1, End::Lost, [30]));
        all.extend(attempts(0, End::Lost, [50, 40]));
        let all = record(all);
        assert_eq!(all.first_lost_at(0, 15 * MS), 41 * MS);
        assert_eq!(all.first_lost_at(0, 60 * MS), 60 * MS);
        assert_eq!(all.lost_at(0, 0..45 * MS), [1.0]);
    }

    /// Reports of several callers add up: nodes are matched by address, errors by what they say, calls
    /// are told apart by method, and a failed call takes for ever.
    #[test]
    fn reports_add_up() {
        let report = |nodes: [&str; 2], first: &str| Report {
            calls: (0..60)
                .map(|at| (at, if at == 0 { Method::Long } else { Method::Short }))
                .map(|(at, method)| {
                    let error = (at == 0).then_some(0);
                    Called { method, at, late: 0, took: 7, error }
                })
                .collect(),
            attempts: attempts(0, End::Answered, [1, 4]),
            nodes: nodes.map(str::to_owned).to_vec(),
            errors: vec![Failed { shape: "it failed".into(), first: first.into() }],
        };
        let (mut all, nodes) = (Record::default(), ["a".to_owned(), "b".to_owned()]);
        all.add(report(["a", "b"], "first"), &nodes).unwrap();
        all.add(report(["b", "a"], "second"), &nodes).unwrap();
        assert_eq!((all.in_rotation(0, 2 * MS), all.in_rotation(1, 3 * MS)), (2e6, 1e6));
        assert_eq!(all.share(1, 0..S), 0.5);
        assert_eq!(all.failed(0..1), 2.0);
        assert_eq!(all.failures(), "2 × first");
        assert_eq!((all.p99(1..60), all.p99(0..60)), (7.0, f64::INFINITY));
        assert_eq!(all.answered(0..4), 0.75);
        let [short, long] = [Method::Short, Method::Long].map(|method| all.of_method(method));
        assert_eq!((short.calls.len(), short.failed(0..S)), (118, 0.0));
        assert_eq!((long.calls.len(), long.failed(0..S)), (2, 2.0));
        assert_eq!(all.answered(70..80), 1.0);
        assert_eq!(all.throughput(0..S), 118.0);
    }

    /// A node that is not known, or that nobody called in time, has no figures.
    #[test]
    fn unknown_nodes_have_no_figures() {
        let report = Report { nodes: vec!["a".into()], ..Report::default() };
        Record::default().add(report, &["b".into()]).unwrap_err();
        let all = record(attempts(1, End::Answered, [10]));
        all.ensure_called(1, 11 * MS).unwrap();
        all.ensure_called(1, 10 * MS).unwrap_err();
        all.ensure_called(0, 11 * MS).unwrap_err();
    }

    /// A load that callers were too late to offer is told from one that was offered.
    #[test]
    fn a_load_that_was_not_offered_is_an_error() {
        let calls = |late| {
            (0..1_000).map(move |at| Called {
                method: Method::Work,
                at: at * MS,
                late,
                took: 7,
                error: None,
            })
        };
        let record = |late| Record { calls: calls(late).collect(), ..Record::default() };
        let offered = record(0).offered(0..S, 1_000.0).unwrap();
        assert_eq!(offered, "1000 calls made per second, of 1000 planned");
        record(0).offered(0..S, 1_200.0).unwrap_err();
        record(200 * MS).offered(0..S, 1_000.0).unwrap_err();
    }
}
