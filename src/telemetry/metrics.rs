//! Metrics in the OpenMetrics text format. Events are counted when they happen. States (the health of objects, the
//! number of running builds) are read for each scrape. All labels have small, fixed sets of values, which include no
//! names of objects, images or errors.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use crate::api::lock::lock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// A reconcile without requests takes a millisecond; one that waits for timeouts of AWS takes a minute.
const RECONCILE_SECONDS: [f64; 8] = [0.001, 0.01, 0.1, 0.5, 2.0, 10.0, 30.0, 120.0];

/// Names and values of labels.
pub type Labels = Vec<(&'static str, String)>;

/// One current value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    pub value: f64,
}

impl Sample {
    /// A value without labels.
    pub fn of(value: f64) -> Self {
        Self { labels: Vec::new(), value }
    }
}

/// The type of a metric that is read for each scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only increases. Its name gets the suffix `_total`.
    Counter,
    Gauge,
}

/// All metrics of the agent.
pub struct Metrics {
    registry: Mutex<Registry>,
    reconciles: Family<Labels, Counter>,
    reconcile_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    builds: Family<Labels, Counter>,
    rollouts: Family<Labels, Counter>,
    deliveries: Family<Labels, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Mutex::default(),
            reconciles: Family::default(),
            reconcile_seconds: Family::new_with_constructor(|| Histogram::new(RECONCILE_SECONDS)),
            builds: Family::default(),
            rollouts: Family::default(),
            deliveries: Family::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&self) {
        let mut registry = self.registry();
        let reconciles = "Reconciles, by kind and result";
        registry.register("opsy_reconcile", reconciles, self.reconciles.clone());
        let seconds = "Duration of reconciles in seconds, by kind";
        registry.register("opsy_reconcile_duration_seconds", seconds, self.reconcile_seconds.clone());
        registry.register("opsy_builds", "Ended builds, by result", self.builds.clone());
        registry.register("opsy_rollouts", "Ended rollouts, by result", self.rollouts.clone());
        let deliveries = "Deliveries of push webhooks, by Git server and result";
        registry.register("opsy_webhook_deliveries", deliveries, self.deliveries.clone());
        drop(registry);
        let build = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
        self.add_collector("opsy_build_info", "Version of the agent; always 1", Shape::Gauge, move || {
            vec![Sample { labels: build.clone(), value: 1.0 }]
        });
    }

    /// Counts a reconcile that ended.
    pub fn reconciled(&self, kind: &str, result: &str, took: Duration) {
        let kind = ("kind", kind.to_owned());
        let result = ("result", result.to_owned());
        self.reconciles.get_or_create(&vec![kind.clone(), result]).inc();
        self.reconcile_seconds.get_or_create(&vec![kind]).observe(took.as_secs_f64());
    }

    /// Counts a build that ended.
    pub fn built(&self, result: &str) {
        self.builds.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    /// Counts a rollout that ended.
    pub fn rolled_out(&self, result: &str) {
        self.rollouts.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    /// Counts a delivery of a push webhook.
    pub fn delivered(&self, forge: &str, result: &str) {
        let labels = vec![("forge", forge.to_owned()), ("result", result.to_owned())];
        self.deliveries.get_or_create(&labels).inc();
    }

    /// Adds a metric that is read for each scrape.
    pub fn add_collector(
        &self,
        name: &'static str,
        help: &'static str,
        shape: Shape,
        read: impl Fn() -> Vec<Sample> + Send + Sync + 'static,
    ) {
        self.registry().register_collector(Box::new(Read { name, help, shape, read: Box::new(read) }));
    }

    /// All metrics in the OpenMetrics text format.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry())?;
        Ok(text)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }
}

/// A metric that is read for each scrape.
struct Read {
    name: &'static str,
    help: &'static str,
    shape: Shape,
    read: Box<dyn Fn() -> Vec<Sample> + Send + Sync>,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Read {
    fn write(&self, metric: &mut MetricEncoder<'_>, value: f64) -> fmt::Result {
        match self.shape {
            Shape::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
            Shape::Gauge => metric.encode_gauge(&value),
        }
    }
}

impl Collector for Read {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let samples = (self.read)();
        if samples.is_empty() {
            return Ok(());
        }
        let kind = match self.shape {
            Shape::Counter => MetricType::Counter,
            Shape::Gauge => MetricType::Gauge,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for sample in samples {
            // A family without labels would be written with empty braces.
            if sample.labels.is_empty() {
                self.write(&mut metric, sample.value)?;
            } else {
                self.write(&mut metric.encode_family(&sample.labels)?, sample.value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_and_what_is_read_are_in_the_text() {
        let metrics = Metrics::default();
        metrics.reconciled("PackerBuilder", "ok", Duration::from_millis(5));
        metrics.reconciled("PackerBuilder", "ok", Duration::from_secs(5));
        metrics.built("succeeded");
        metrics.rolled_out("done");
        metrics.delivered("github", "accepted");
        metrics.add_collector("opsy_leader", "1 while leader", Shape::Gauge, || vec![Sample::of(1.0)]);
        metrics.add_collector("opsy_calls", "Calls", Shape::Counter, || {
            vec![Sample { labels: vec![("service", "ec2".to_owned())], value: 3.0 }]
        });
        let text = metrics.text().expect("text");
        for line in [
            "opsy_reconcile_total{kind=\"PackerBuilder\",result=\"ok\"} 2",
            "opsy_reconcile_duration_seconds_count{kind=\"PackerBuilder\"} 2",
            "opsy_reconcile_duration_seconds_bucket{le=\"0.01\",kind=\"PackerBuilder\"} 1",
            "opsy_builds_total{result=\"succeeded\"} 1",
            "opsy_rollouts_total{result=\"done\"} 1",
            "opsy_webhook_deliveries_total{forge=\"github\",result=\"accepted\"} 1",
            "opsy_leader 1.0",
            "opsy_calls_total{service=\"ec2\"} 3.0",
            concat!("opsy_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1.0"),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn a_metric_without_values_is_left_out() {
        let metrics = Metrics::default();
        metrics.add_collector("opsy_nothing", "Nothing", Shape::Gauge, Vec::new);
        assert!(!metrics.text().expect("text").contains("opsy_nothing"));
    }
}
