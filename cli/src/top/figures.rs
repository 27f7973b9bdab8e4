//! What a node says of itself at `/metrics`, and what two such texts say of the time between them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::print::rounded;

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Figures {
    /// Its id.
    pub(super) node: Option<String>,
    pub(super) is_healthy: Option<bool>,
    pub(super) running: u64,
    pub(super) queued: u64,
    pub(super) shed: u64,
    /// The methods that were called, as `contract/method`.
    pub(super) methods: BTreeMap<String, Calls>,
}

/// The calls of a method, since the node started or within some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Calls {
    all: u64,
    /// Those that ended otherwise than well.
    failed: u64,
    /// How many took at most so long; bounds in nanoseconds, so that they have an order.
    at_most: BTreeMap<u64, u64>,
}

/// How much a node, or a method of it, has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Traffic {
    /// `None` until there are two texts to compare.
    pub(super) calls_per_second: Option<f64>,
    pub(super) errors_per_second: Option<f64>,
    /// `None` without calls.
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
}

impl Figures {
    /// Reads the text of a node; `None` if it is of something else.
    pub(super) fn read(text: &str) -> Option<Self> {
        let mut figures = Self::default();
        for sample in text.lines().filter_map(Sample::read) {
            figures.take(&sample);
        }
        figures.node.is_some().then_some(figures)
    }

    fn take(&mut self, sample: &Sample<'_>) {
        let whole = sample.value as u64;
        match sample.name {
            "micro_service_info" => self.node = sample.label("node"),
            "micro_healthy" => self.is_healthy = Some(whole > 0),
            "micro_server_calls_running" => self.running = whole,
            "micro_server_calls_queued" => self.queued = whole,
            "micro_server_calls_shed_total" => self.shed = whole,
            "rpc_server_call_duration_seconds_count" => {
                let is_failed = sample.label("rpc_response_status_code").is_some_and(|c| c != "ok");
                let calls = self.calls_of(sample);
                calls.all += whole;
                calls.failed += if is_failed { whole } else { 0 };
            }
            "rpc_server_call_duration_seconds_bucket" => {
                let bound = sample.label("le").and_then(|bound| bound.parse::<f64>().ok());
                // What took longer than the last bound is among all calls.
                if let Some(bound) = bound.filter(|bound| bound.is_finite()) {
                    let nanos = Duration::try_from_secs_f64(bound).unwrap_or_default().as_nanos();
                    *self.calls_of(sample).at_most.entry(nanos as u64).or_default() += whole;
                }
            }
            _ => {}
        }
    }

    fn calls_of(&mut self, sample: &Sample<'_>) -> &mut Calls {
        self.methods.entry(sample.label("rpc_method").unwrap_or_default()).or_default()
    }

    /// The calls of each method since earlier figures of the same node.
    pub(super) fn since(&self, earlier: &Self) -> BTreeMap<String, Calls> {
        let none = Calls::default();
        let each = self.methods.iter().map(|(method, calls)| {
            (method.clone(), calls.since(earlier.methods.get(method).unwrap_or(&none)))
        });
        each.collect()
    }
}

impl Calls {
    /// Those of several methods, or nodes, together.
    pub(super) fn sum<'a>(each: impl IntoIterator<Item = &'a Self>) -> Self {
        each.into_iter().fold(Self::default(), |mut sum, calls| {
            sum.all += calls.all;
            sum.failed += calls.failed;
            for (bound, count) in &calls.at_most {
                *sum.at_most.entry(*bound).or_default() += count;
            }
            sum
        })
    }

    /// What they are for a time.
    pub(super) fn within(&self, time: Duration) -> Traffic {
        let seconds = time.as_secs_f64().max(0.001);
        Traffic {
            calls_per_second: Some(rounded(self.all as f64 / seconds)),
            errors_per_second: Some(rounded(self.failed as f64 / seconds)),
            p50_ms: self.quantile(0.5),
            p99_ms: self.quantile(0.99),
        }
    }

    /// A counter that fell began anew, and counts from there.
    fn since(&self, earlier: &Self) -> Self {
        if self.all < earlier.all {
            return self.clone();
        }
        let before = |bound| earlier.at_most.get(bound).copied().unwrap_or_default();
        let at_most = self.at_most.iter();
        Self {
            all: self.all - earlier.all,
            failed: self.failed.saturating_sub(earlier.failed),
            at_most: at_most.map(|(at, count)| (*at, count.saturating_sub(before(at)))).collect(),
        }
    }

    /// How long this share of the calls took at most, in milliseconds: within a bucket calls are
    /// taken to be spread evenly, as Prometheus does, and what is beyond the last bound, to be there.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        if self.all == 0 {
            return None;
        }
        let rank = share * self.all as f64;
        let (mut from, mut before) = (0, 0);
        for (&bound, &count) in &self.at_most {
            if count as f64 >= rank && count > before {
                let part = (rank - before as f64) / (count - before) as f64;
                let nanos = from as f64 + (bound - from) as f64 * part;
                return Some(rounded(nanos / 1e6));
            }
            (from, before) = (bound, count);
        }
        self.at_most.last_key_value().map(|(bound, _)| rounded(*bound as f64 / 1e6))
    }
}

/// A line of the text: `name{label="value",…} 1.5`.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let name = &line[..line.find(['{', ' '])?];
        if name.starts_with('#') {
            return None;
        }
        let rest = &line[name.len()..];
        // A value of a label may have braces.
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None => ("", rest),
        };
        let value = rest.split_whitespace().next()?.parse().ok()?;
        Some(Self { name, labels, value })
    }

    fn label(&self, name: &str) -> Option<String> {
        let mut rest = self.labels;
        while let Some((key, after)) = rest.split_once("=\"") {
            let end = unescaped_quote(after)?;
            if key.trim_start_matches(',') == name {
                return Some(unescaped(&after[..end]));
            }
            rest = &after[end + 1..];
        }
        None
    }
}

fn unescaped_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.find(|c| {
        let is_end = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        is_end
    })
}

fn unescaped(text: &str) -> String {
    let mut characters = text.chars();
    let mut plain = String::new();
    while let Some(c) = characters.next() {
        plain.push(match c {
            '\\' => match characters.next() {
                Some('n') => '\n',
                Some(escaped) => escaped,
                None => '\\',
            },
            c => c,
        });
    }
    plain
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A text as nodes write it: so many calls went well, each at most so many seconds long, and so
    /// many failed at once.
    pub(in crate::top) fn text(node: &str, calls: &[(&str, u64, f64)], failed: u64) -> String {
        let mut text = format!(
            "# HELP micro_service_info Which service this is: always 1.\n\
             micro_service_info{{service=\"shop\",version=\"1.0.0\",node=\"{node}\"}} 1\n\
             micro_healthy 1\nmicro_server_calls_running 3\nmicro_server_calls_queued 2\n\
             micro_server_calls_shed_total 7\n"
        );
        let mut series = |method: &str, code: &str, count: u64, took: f64| {
            let labels = format!(
                "rpc_system_name=\"micro\",rpc_method=\"{method}\",rpc_response_status_code=\"{code}\""
            );
            let name = "rpc_server_call_duration_seconds";
            text += &format!("{name}_sum{{{labels}}} 1.5\n{name}_count{{{labels}}} {count}\n");
            for bound in ["0.001", "0.01", "0.1", "+Inf"] {
                let within = bound.parse::<f64>().map_or(true, |bound| took <= bound);
                let count = if within { count } else { 0 };
                text += &format!("{name}_bucket{{le=\"{bound}\",{labels}}} {count}\n");
            }
        };
        for (method, count, took) in calls {
            series(method, "ok", *count, *took);
        }
        if failed > 0 {
            series(calls[0].0, "not_found", failed, 0.0);
        }
        text + "# EOF\n"
    }

    fn read(calls: &[(&str, u64, f64)], failed: u64) -> Figures {
        Figures::read(&text("a", calls, failed)).unwrap()
    }

    fn rates(traffic: Traffic) -> (f64, f64) {
        (traffic.calls_per_second.unwrap(), traffic.errors_per_second.unwrap())
    }

    /// The text of a node is read, whatever else is in it; any other text is none.
    #[test]
    fn a_text_is_read() {
        let figures = read(&[("shop/price", 10, 0.005), ("shop/wait", 1, 5.0)], 4);
        assert_eq!(figures.node.as_deref(), Some("a"));
        assert_eq!(figures.is_healthy, Some(true));
        assert_eq!((figures.running, figures.queued, figures.shed), (3, 2, 7));
        let price = &figures.methods["shop/price"];
        assert_eq!((price.all, price.failed), (14, 4));
        assert_eq!(price.at_most.values().collect::<Vec<_>>(), [&4, &14, &14]);
        assert_eq!(figures.methods["shop/wait"].all, 1);
        for other in ["", "<html>", "up 1", "{", "a{b=\"", "micro_service_info{node=\"a} 1"] {
            assert_eq!(Figures::read(other), None, "{other}");
        }
    }

    /// Labels are found by their whole name, with what is escaped in their values.
    #[test]
    fn labels() {
        let sample = Sample::read(r#"x{ab="1",a="\"}=\\\n",b=""} 2.5 17"#).unwrap();
        assert_eq!((sample.name, sample.value), ("x", 2.5));
        assert_eq!(sample.label("a").as_deref(), Some("\"}=\\\n"));
        assert_eq!((sample.label("b").as_deref(), sample.label("c")), (Some(""), None));
    }

    /// Two texts give what happened between them, per second; failures count as calls.
    #[test]
    fn rates_are_of_the_time_between() {
        let before = read(&[("shop/price", 10, 0.005)], 0);
        let after = read(&[("shop/price", 20, 0.005)], 10);
        let calls = &after.since(&before)["shop/price"];
        let traffic = calls.within(Duration::from_secs(2));
        assert_eq!(rates(traffic), (10.0, 5.0));
        // Half of them took a millisecond at most, the others up to ten.
        assert_eq!((traffic.p50_ms, traffic.p99_ms), (Some(1.0), Some(9.82)));
        let none = after.since(&after)["shop/price"].within(Duration::from_secs(1));
        assert_eq!((rates(none), none.p50_ms), ((0.0, 0.0), None));
    }

    /// A node that began anew counts from there, not backwards.
    #[test]
    fn a_counter_that_fell() {
        let before = read(&[("shop/price", 1_000, 0.005)], 3);
        let after = read(&[("shop/price", 5, 0.005)], 0);
        let traffic = after.since(&before)["shop/price"].within(Duration::from_secs(1));
        assert_eq!(rates(traffic), (5.0, 0.0));
    }

    /// What took longer than the last bound is said to have taken that; sums are over all.
    #[test]
    fn percentiles() {
        let long = read(&[("shop/wait", 1, 5.0)], 0);
        assert_eq!(long.methods["shop/wait"].quantile(0.5), Some(100.0));
        let short = read(&[("shop/price", 99, 0.001)], 0);
        let sum = Calls::sum(long.methods.values().chain(short.methods.values()));
        assert_eq!(
            (sum.all, sum.quantile(0.5), sum.quantile(0.995)),
            (100, Some(0.505), Some(100.0))
        );
        assert_eq!(Calls::default().quantile(0.5), None);
    }
}
