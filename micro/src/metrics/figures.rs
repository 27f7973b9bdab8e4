//! Figures on their way into text.

use std::collections::BTreeMap;
use std::fmt;

use micro_rpc::{Durations, Tally};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::table::{self, FAMILIES, Family, Kind};

/// The type of the text, for HTTP.
#[cfg(feature = "http")]
pub(crate) const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Figures of one moment. Those of series that several clients have are added up.
///
/// What is counted is counted elsewhere, in atomics: the counters of the library that writes the text
/// take a lock.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// By place in the table, then by the values of the labels.
    series: BTreeMap<usize, BTreeMap<Vec<String>, Value>>,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Gauge(u64),
    Counter(u64),
    Seconds(Durations),
}

impl Figures {
    /// Adds a series; the values of its labels are in the order of the table.
    pub(super) fn add(&mut self, name: &'static str, labels: &[&str], value: Value) {
        let Some(family) = table::find(name) else {
            debug_assert!(false, "{name} is not in the table");
            return;
        };
        debug_assert_eq!(FAMILIES[family].labels.len(), labels.len(), "labels of {name}");
        debug_assert_eq!(FAMILIES[family].kind, value.kind(), "kind of {name}");
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        let series = self.series.entry(family).or_default();
        series.entry(labels).and_modify(|sum| sum.add(&value)).or_insert(value);
    }

    /// The text: metrics in the order of the table, series in that of their labels.
    pub(crate) fn into_text(self) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        registry.register_collector(Box::new(self));
        // A string takes whatever is written.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

impl Value {
    fn kind(&self) -> Kind {
        match self {
            Self::Gauge(_) => Kind::Gauge,
            Self::Counter(_) => Kind::Counter,
            Self::Seconds(_) => Kind::Seconds,
        }
    }

    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Gauge(sum), Self::Gauge(more)) | (Self::Counter(sum), Self::Counter(more)) => {
                *sum = sum.wrapping_add(*more);
            }
            (Self::Seconds(sum), Self::Seconds(more)) => {
                sum.sum += more.sum;
                sum.buckets.iter_mut().zip(more.buckets).for_each(|(sum, more)| *sum += more);
            }
            _ => {}
        }
    }

    fn encode(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Gauge(value) => encoder.encode_gauge(value),
            Self::Counter(value) => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
            Self::Seconds(took) => {
                let bounds = Tally::BOUNDS.iter().map(|bound| bound.as_secs_f64());
                let buckets: Vec<_> = bounds.chain([f64::INFINITY]).zip(took.buckets).collect();
                let (sum, count) = (took.sum.as_secs_f64(), took.count());
                encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
            }
        }
    }
}

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (family, series) in &self.series {
            let Family { name, kind, labels, help } = &FAMILIES[*family];
            let (unit, kind) = match kind {
                Kind::Gauge => (None, MetricType::Gauge),
                Kind::Counter => (None, MetricType::Counter),
                Kind::Seconds => (Some(&Unit::Seconds), MetricType::Histogram),
            };
            let mut metric = encoder.encode_descriptor(name, help, unit, kind)?;
            for (values, value) in series {
                let labels = labels.iter().copied().zip(values.iter().map(|value| &**value));
                // One without a value is the same as none.
                let labels: Vec<_> = labels.filter(|(_, value)| !value.is_empty()).collect();
                match labels.is_empty() {
                    true => value.encode(&mut metric)?,
                    false => value.encode(&mut metric.encode_family(&labels)?)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Value::{Counter, Gauge, Seconds};
    use super::*;

    fn text(fill: impl Fn(&mut Figures)) -> String {
        let mut figures = Figures::default();
        fill(&mut figures);
        figures.into_text()
    }

    /// The text is the same whatever the order in which figures came, and series that came twice
    /// are added up.
    #[test]
    fn the_order_is_stable() {
        let took = |count| {
            let tally = Tally::new();
            (0..count).for_each(|_| tally.note(Ok(()), Duration::from_millis(3)));
            tally.read().next().map(|(_, took)| took).unwrap_or_default()
        };
        let served = |figures: &mut Figures, count| {
            figures.add(table::SERVED, &["micro", "a/b", "ok", ""], Seconds(took(count)));
        };
        let one = text(|figures| {
            figures.add("micro_client_retries", &["b"], Counter(1));
            figures.add("micro_client_retries", &["a"], Counter(2));
            figures.add("micro_healthy", &[], Gauge(1));
            served(figures, 5);
        });
        let other = text(|figures| {
            served(figures, 3);
            figures.add("micro_healthy", &[], Gauge(1));
            figures.add("micro_client_retries", &["a"], Counter(1));
            served(figures, 2);
            figures.add("micro_client_retries", &["a"], Counter(1));
            figures.add("micro_client_retries", &["b"], Counter(1));
        });
        assert_eq!(one, other);
        let expected = "micro_client_retries_total{service=\"a\"} 2\n\
            micro_client_retries_total{service=\"b\"} 1\n# EOF\n";
        assert!(one.ends_with(expected), "{one}");
        assert!(one.contains("\nmicro_healthy 1\n"), "{one}");
        assert!(one.contains("rpc_server_call_duration_seconds_bucket{le=\"0.005\",rpc_system_name=\"micro\",rpc_method=\"a/b\",rpc_response_status_code=\"ok\"} 5"), "{one}");
    }

    /// Whatever a label holds, it stays one value on one line.
    #[test]
    fn labels_are_escaped() {
        let text = text(|figures| {
            figures.add("micro_client_retries", &["a\"} 1\nevil{x=\"\\"], Counter(1));
        });
        assert!(text.contains(r#"{service="a\"} 1\nevil{x=\"\\"} 1"#), "{text}");
        assert_eq!(text.lines().count(), 4, "{text}");
    }
}
