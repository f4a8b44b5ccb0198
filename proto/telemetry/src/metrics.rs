//! Metrics in the text format of Prometheus.
//!
//! Each has a [`Definition`]: the documents, the dashboard and the alerts name metrics by those, and tests hold them to it.
//! Labels are bounded by whoever sets them: no stranger makes one.

use std::time::Duration;

use prometheus::core::Collector as _;
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, TextEncoder};

/// The type of what [`Picture::text`] says.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds, in seconds: from an answer out of memory to one that a person has given up on.
const BUCKETS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// What a metric is called, and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// By the conventions of Prometheus: base units, `_total` for what only grows.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// One sentence.
    pub help: &'static str,
    /// By what its values are told apart.
    pub labels: &'static [&'static str],
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It comes and goes.
    Gauge,
    /// How long something takes, in seconds.
    Histogram,
}

/// A definition that Prometheus does not take.
#[derive(Debug, thiserror::Error)]
#[error("the metric {0} cannot be kept")]
pub struct MetricError(&'static str, #[source] prometheus::Error);

/// Counts what happens.
#[derive(Clone, Debug)]
pub struct Counter(IntCounterVec);

impl Counter {
    /// Of nothing yet.
    ///
    /// # Errors
    /// When the definition is none for Prometheus.
    pub fn new(definition: &Definition) -> Result<Self, MetricError> {
        let opts = Opts::new(definition.name, definition.help);
        let counter = IntCounterVec::new(opts, definition.labels);
        Ok(Self(counter.map_err(|error| MetricError(definition.name, error))?))
    }

    /// It happened; `labels` in the order of the definition.
    pub fn count(&self, labels: &[&str]) {
        self.add(labels, 1);
    }

    /// It happened so often. With zero, it is told that it never did.
    pub fn add(&self, labels: &[&str], times: u64) {
        // Fails only for another number of labels than the definition has.
        if let Ok(counter) = self.0.get_metric_with_label_values(labels) {
            counter.inc_by(times);
        }
    }
}

/// Measures how long something takes.
#[derive(Clone, Debug)]
pub struct Histogram(HistogramVec);

impl Histogram {
    /// Of nothing yet.
    ///
    /// # Errors
    /// When the definition is none for Prometheus.
    pub fn new(definition: &Definition) -> Result<Self, MetricError> {
        let opts = HistogramOpts::new(definition.name, definition.help).buckets(BUCKETS.to_vec());
        let histogram = HistogramVec::new(opts, definition.labels);
        Ok(Self(histogram.map_err(|error| MetricError(definition.name, error))?))
    }

    /// It took so long; `labels` in the order of the definition.
    pub fn observe(&self, labels: &[&str], time: Duration) {
        // Fails only for another number of labels than the definition has.
        if let Ok(histogram) = self.0.get_metric_with_label_values(labels) {
            histogram.observe(time.as_secs_f64());
        }
    }
}

/// Everything at one moment. What is in no picture any more, an instance that is gone for example, is told no more.
#[derive(Debug, Default)]
pub struct Picture(Vec<MetricFamily>);

impl Picture {
    /// What was counted.
    pub fn counted(&mut self, counters: &[&Counter]) {
        self.0.extend(counters.iter().flat_map(|counter| counter.0.collect()));
    }

    /// What was measured.
    pub fn measured(&mut self, histograms: &[&Histogram]) {
        self.0.extend(histograms.iter().flat_map(|histogram| histogram.0.collect()));
    }

    /// A value that has no labels.
    pub fn one(&mut self, definition: &Definition, value: f64) {
        self.each::<0, String>(definition, [([], value)]);
    }

    /// Whether something is so.
    pub fn whether(&mut self, definition: &Definition, so: bool) {
        self.one(definition, f64::from(u8::from(so)));
    }

    /// Values with their labels, in the order of the definition.
    pub fn each<const LABELS: usize, L: Into<String>>(
        &mut self,
        definition: &Definition,
        values: impl IntoIterator<Item = ([L; LABELS], f64)>,
    ) {
        let values = values.into_iter().map(|(labels, value)| metric(definition, labels, value));
        let mut family = MetricFamily::default();
        family.set_name(definition.name.to_owned());
        family.set_help(definition.help.to_owned());
        family.set_field_type(if definition.kind == Kind::Counter { MetricType::COUNTER } else { MetricType::GAUGE });
        family.set_metric(values.collect());
        self.0.push(family);
    }

    /// The picture in words.
    ///
    /// # Errors
    /// When a name or a label is none for Prometheus.
    pub fn text(mut self) -> Result<String, PictureError> {
        self.0.retain(|family| !family.get_metric().is_empty());
        self.0.sort_by(|one, other| one.name().cmp(other.name()));
        Ok(TextEncoder::new().encode_to_string(&self.0)?)
    }
}

/// A count as Prometheus has it, which knows no other numbers: exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub const fn number(count: u64) -> f64 {
    count as f64
}

/// A picture that cannot be put in words.
#[derive(Debug, thiserror::Error)]
#[error("the metrics cannot be written")]
pub struct PictureError(#[from] prometheus::Error);

fn metric<const LABELS: usize, L: Into<String>>(
    definition: &Definition,
    labels: [L; LABELS],
    value: f64,
) -> proto::Metric {
    let pairs = definition.labels.iter().zip(labels).map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value(value.into());
        pair
    });
    let mut metric = proto::Metric::from_label(pairs.collect());
    match definition.kind {
        Kind::Counter => {
            let mut counter = proto::Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        Kind::Gauge | Kind::Histogram => {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGINS: Definition =
        Definition { name: "logins_total", kind: Kind::Counter, help: "Logins.", labels: &["home", "outcome"] };
    const ONLINE: Definition =
        Definition { name: "online", kind: Kind::Gauge, help: "Whether it is there.", labels: &["instance"] };
    const TIME: Definition =
        Definition { name: "time_seconds", kind: Kind::Histogram, help: "How long.", labels: &["route"] };

    #[test]
    fn a_picture_has_what_was_counted_and_what_is_so() {
        let (counter, histogram) = (Counter::new(&LOGINS).unwrap(), Histogram::new(&TIME).unwrap());
        counter.count(&["alpha", "done"]);
        counter.count(&["one label too few"]);
        histogram.observe(&["/token"], Duration::from_millis(2));
        let mut picture = Picture::default();
        picture.each(&ONLINE, [(["a\"b\n"], 1.0), (["c"], 0.0)]);
        picture.each::<1, &str>(&ONLINE, []);
        picture.counted(&[&counter]);
        picture.measured(&[&histogram]);
        let text = picture.text().unwrap();
        assert!(text.starts_with("# HELP logins_total Logins.\n# TYPE logins_total counter\n"), "{text}");
        assert!(text.contains("logins_total{home=\"alpha\",outcome=\"done\"} 1\n# HELP online"), "{text}");
        assert!(text.contains("online{instance=\"a\\\"b\\n\"} 1\nonline{instance=\"c\"} 0\n"), "{text}");
        assert!(text.contains("time_seconds_bucket{route=\"/token\",le=\"0.0025\"} 1\n"), "{text}");
    }
}
