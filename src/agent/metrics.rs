//! Metrics and liveness checks: reconciles, builds and rollouts are counted as the loop reports them; everything else
//! is read where it is, at each scrape.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::watch;

use super::engine::Engine;
use crate::api::lock::lock;
use crate::api::{Kind, ObjectKey, reasons};
use crate::aws::Aws;
use crate::engine::drive::Meter;
use crate::engine::{Note, ObjectHealth};
use crate::notifications::Notifications;
use crate::notify::Tally;
use crate::publish::Publisher;
use crate::sync::{SyncState, Synced};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Labels, Metrics, Sample, Shape};

/// A reconcile makes some dozens of calls at most, and each of them ends within a minute.
const LONGEST_RECONCILE: Duration = Duration::from_secs(1800);
/// The first clone of a large repository may take minutes, and the backoff after failures is up to five.
const LONGEST_SYNC: Duration = Duration::from_secs(1800);
/// The number of live builds could not be read.
const UNKNOWN: u64 = u64::MAX;

/// The parts of the agent that are measured.
pub struct Measured<'a> {
    pub health: &'a Arc<Health>,
    pub engine: &'a Engine,
    pub aws: &'a Aws,
    pub sync: &'a watch::Receiver<SyncState>,
    pub loaded: watch::Receiver<Option<Arc<Synced>>>,
    pub publisher: &'a Publisher,
    pub notifications: &'a Arc<Notifications>,
}

/// Registers all metrics. Returns what the reconcile loops report to.
pub fn start(measured: &Measured<'_>) -> Arc<dyn Meter> {
    let metrics = &measured.health.metrics;
    read_objects(metrics, measured.engine);
    read_apply_failures(metrics, measured.engine, measured.loaded.clone());
    read_builds(measured.health, measured.engine);
    read_aws(metrics, measured.aws);
    read_sync(metrics, measured.sync);
    read_publishing(metrics, measured.publisher);
    read_notifications(metrics, measured.notifications);
    let counter = Arc::new(Counter { health: measured.health.clone(), running: Mutex::default() });
    let weak = Arc::downgrade(&counter);
    measured.health.check("reconciles", move || {
        let stuck = weak.upgrade().and_then(|counter| stuck(&lock(&counter.running)));
        stuck.map_or(Ok(()), Err)
    });
    counter
}

/// Counts what the reconcile loops report.
struct Counter {
    health: Arc<Health>,
    /// Running reconciles and when they began.
    running: Mutex<BTreeMap<ObjectKey, Instant>>,
}

impl Meter for Counter {
    fn begins(&self, object: &ObjectKey) {
        lock(&self.running).insert(object.clone(), Instant::now());
    }

    fn ends(&self, object: &ObjectKey, result: &'static str) {
        let began = lock(&self.running).remove(object);
        let took = began.map_or(Duration::ZERO, |began| began.elapsed());
        self.health.metrics.reconciled(&object.kind.to_string(), result, took);
    }

    fn notes(&self, note: &Note) {
        let metrics = &self.health.metrics;
        match ended(&note.reason) {
            Some(Ended::Build(result)) => metrics.built(result),
            Some(Ended::Rollout(result)) => metrics.rolled_out(result),
            None => {}
        }
    }
}

/// What a note says has ended, with the label of its result.
#[derive(Debug, PartialEq)]
enum Ended {
    Build(&'static str),
    Rollout(&'static str),
}

/// Each build and each rollout has exactly one note with one of these reasons.
fn ended(reason: &str) -> Option<Ended> {
    match reason {
        reasons::BUILD_SUCCEEDED => Some(Ended::Build("succeeded")),
        reasons::BUILD_SUPERSEDED => Some(Ended::Build("superseded")),
        reasons::BUILD_CANCELLED => Some(Ended::Build("cancelled")),
        reasons::BUILD_FAILED => Some(Ended::Build("failed")),
        reasons::ROLLOUT_DONE => Some(Ended::Rollout("done")),
        reasons::ROLLOUT_FAILED => Some(Ended::Rollout("failed")),
        reasons::ROLLOUT_REPLACED => Some(Ended::Rollout("replaced")),
        _ => None,
    }
}

fn stuck(running: &BTreeMap<ObjectKey, Instant>) -> Option<String> {
    let (object, began) = running.iter().find(|(_, began)| began.elapsed() > LONGEST_RECONCILE)?;
    Some(format!("the reconcile of {object} has not ended after {} s", began.elapsed().as_secs()))
}

/// Makes `/healthz` fail if the repository is not read any more, successfully or not.
pub fn check_sync(health: &Health, state: watch::Receiver<SyncState>, interval: Duration) {
    let limit = interval + LONGEST_SYNC;
    // The clock of the machine may jump, so the time since the last change is measured here.
    let last = Mutex::new((None, Instant::now()));
    health.check("sync", move || {
        let attempted_at = state.borrow().attempted_at;
        let mut last = lock(&last);
        if last.0 != attempted_at {
            *last = (attempted_at, Instant::now());
        }
        let silent = last.1.elapsed();
        if silent <= limit {
            return Ok(());
        }
        Err(format!("there was no attempt to read the repository for {} s", silent.as_secs()))
    });
}

fn read_objects(metrics: &Metrics, engine: &Engine) {
    let board = engine.objects.board.clone();
    metrics.add_collector("opsy_objects", "Objects by kind and health", Shape::Gauge, move || {
        let all = board.health();
        let of =
            |kind, health| all.iter().filter(|(object, is)| object.kind == kind && **is == health).count();
        let all = [Kind::PackerBuilder, Kind::AMIRefresher].into_iter().flat_map(|kind| {
            HEALTH_LABELS.map(|(health, word)| Sample {
                labels: vec![("kind", kind.to_string()), ("standing", word.to_owned())],
                ..count(of(kind, health))
            })
        });
        all.collect()
    });
    let objects = engine.objects.clone();
    metrics.add_collector("opsy_rollouts_open", "Rollouts in progress", Shape::Gauge, move || {
        let rollouts = objects.refreshers.all().filter_map(|refresher| refresher.status?.rollout);
        vec![count(rollouts.filter(|rollout| rollout.finished_at.is_none()).count())]
    });
    let objects = engine.objects.clone();
    metrics.add_collector("opsy_node_groups", "Node groups by state", Shape::Gauge, move || {
        let mut states = BTreeMap::<String, usize>::new();
        for refresher in objects.refreshers.all() {
            for group in refresher.status.into_iter().flat_map(|status| status.node_groups).flatten() {
                *states.entry(group.state.unwrap_or_default()).or_default() += 1;
            }
        }
        let sample = |(state, many)| Sample { labels: vec![("state", state)], ..count(many) };
        states.into_iter().map(sample).collect()
    });
    let home = engine.home.clone();
    let help = "1 for each watched namespace that cannot be read";
    metrics.add_collector("opsy_namespace_unreadable", help, Shape::Gauge, move || {
        let sample = |namespace| Sample { labels: vec![("namespace", namespace)], ..count(1) };
        home.unreadable().into_keys().map(sample).collect()
    });
}

const HEALTH_LABELS: [(ObjectHealth, &str); 5] = [
    (ObjectHealth::Settled, "settled"),
    (ObjectHealth::Busy, "busy"),
    (ObjectHealth::Waiting, "waiting"),
    (ObjectHealth::Failing, "failing"),
    (ObjectHealth::Stalled, "stalled"),
];

fn read_apply_failures(metrics: &Metrics, engine: &Engine, loaded: watch::Receiver<Option<Arc<Synced>>>) {
    let home = engine.home.clone();
    metrics.add_collector("opsy_apply_failing", "Objects out of sync with Git", Shape::Gauge, move || {
        let Some(synced) = loaded.borrow().clone() else { return Vec::new() };
        let all = home.all_out_of_sync();
        vec![count(all.keys().filter(|object| synced.set.declares(object)).count())]
    });
}

/// The engine is asked before a scrape, because the answer may take a moment.
fn read_builds(health: &Health, engine: &Engine) {
    let live = Arc::new(AtomicU64::new(UNKNOWN));
    let (runs, answer) = (engine.runs.clone(), live.clone());
    health.before_scrape(move || {
        let (runs, answer) = (runs.clone(), answer.clone());
        async move {
            let live = runs.live().await.ok().and_then(|live| u64::try_from(live).ok());
            answer.store(live.unwrap_or(UNKNOWN), Ordering::Relaxed);
        }
        .boxed()
    });
    health.metrics.add_collector("opsy_builds_live", "Builds in progress", Shape::Gauge, move || {
        let live = usize::try_from(live.load(Ordering::Relaxed)).ok().filter(|live| *live as u64 != UNKNOWN);
        live.map(count).into_iter().collect()
    });
}

fn read_aws(metrics: &Metrics, aws: &Aws) {
    let aws = aws.clone();
    let help = "Attempts of AWS API calls by service, operation and result";
    metrics.add_collector("opsy_aws_calls", help, Shape::Counter, move || {
        // Several HTTP codes may mean one result.
        let mut calls = BTreeMap::<Labels, u64>::new();
        for (attempt, count) in aws.attempts() {
            let labels = vec![
                ("service", attempt.service.to_owned()),
                ("operation", attempt.operation),
                ("result", attempt.result.to_owned()),
            ];
            *calls.entry(labels).or_default() += count;
        }
        calls.into_iter().map(|(labels, count)| Sample { labels, value: float(count) }).collect()
    });
}

fn read_sync(metrics: &Metrics, state: &watch::Receiver<SyncState>) {
    let failing = state.clone();
    let help = "1 while the repository cannot be synced";
    metrics.add_collector("opsy_sync_failing", help, Shape::Gauge, move || {
        vec![flag(failing.borrow().error.is_some())]
    });
    let held = state.clone();
    let help =
        "1 while the tip of the branch is held back: it was rewritten, or adds a commit that is not verified";
    metrics.add_collector("opsy_branch_held", help, Shape::Gauge, move || {
        vec![flag(held.borrow().held.is_some())]
    });
    let state = state.clone();
    let help = "Unix time of the last successful sync in seconds";
    metrics.add_collector("opsy_sync_last_success_timestamp_seconds", help, Shape::Gauge, move || {
        time(state.borrow().succeeded)
    });
}

fn read_publishing(metrics: &Metrics, publisher: &Publisher) {
    let (state, publisher) = (publisher.state(), publisher.clone());
    metrics.add_collector(
        "opsy_publish_failing",
        "1 while status cannot be pushed",
        Shape::Gauge,
        move || vec![flag(!state.borrow().is_up_to_date())],
    );
    let help = "Unix time in seconds when the repository was last known to have the current status";
    metrics.add_collector("opsy_publish_last_success_timestamp_seconds", help, Shape::Gauge, move || {
        time(publisher.succeeded())
    });
}

fn read_notifications(metrics: &Metrics, notifications: &Arc<Notifications>) {
    let of = |value: fn(&Tally) -> Vec<(&'static str, u64)>| {
        let notifications = notifications.clone();
        move || {
            let tallies = notifications.notifier.tallies();
            let samples = tallies.iter().flat_map(|(sink, tally)| {
                value(tally).into_iter().map(|(result, count)| {
                    let result = (!result.is_empty()).then(|| ("result", result.to_owned()));
                    let labels = std::iter::once(("sink", (*sink).to_owned())).chain(result).collect();
                    Sample { labels, value: float(count) }
                })
            });
            samples.collect::<Vec<_>>()
        }
    };
    let sent = of(|tally| vec![("sent", tally.sent), ("failed", tally.failed), ("refused", tally.refused)]);
    metrics.add_collector(
        "opsy_notifications",
        "Notification messages by sink and result",
        Shape::Counter,
        sent,
    );
    let waiting = of(|tally| vec![("", tally.waiting as u64)]);
    let help = "Objects with undelivered notifications by sink";
    metrics.add_collector("opsy_notifications_waiting", help, Shape::Gauge, waiting);
    let closed = of(|tally| vec![("", tally.closed as u64)]);
    let help = "Notification destinations that accept no messages by sink";
    metrics.add_collector("opsy_notification_destinations_failing", help, Shape::Gauge, closed);
}

fn time(at: Option<Timestamp>) -> Vec<Sample> {
    at.map(|at| Sample::of(at.as_duration().as_secs_f64())).into_iter().collect()
}

fn flag(is: bool) -> Sample {
    Sample::of(f64::from(u8::from(is)))
}

fn count(many: usize) -> Sample {
    Sample::of(float(many as u64))
}

#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
fn float(many: u64) -> f64 {
    many as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Key;

    #[test]
    fn builds_and_rollouts_are_counted_by_their_result() {
        assert_eq!(ended("BuildCancelled"), Some(Ended::Build("cancelled")));
        assert_eq!(ended("RolloutDone"), Some(Ended::Rollout("done")));
        assert_eq!(ended("BuildStarted"), None, "it has not ended");
        assert_eq!(ended("RolloutFailing"), None, "it goes on");
    }

    #[test]
    fn a_reconcile_that_does_not_end_is_named() {
        let object = |name: &str| ObjectKey {
            kind: Kind::PackerBuilder,
            key: Key { namespace: "default".to_owned(), name: name.to_owned() },
        };
        let now = Instant::now();
        let mut running = BTreeMap::from([(object("a"), now)]);
        assert_eq!(stuck(&running), None);
        let Some(long_ago) = now.checked_sub(LONGEST_RECONCILE + Duration::from_secs(1)) else { return };
        running.insert(object("b"), long_ago);
        assert!(stuck(&running).is_some_and(|why| why.contains("PackerBuilder/default/b")), "{running:?}");
    }
}
