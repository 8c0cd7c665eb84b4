//! What is measured, wired: passes, builds and rollouts as the loop tells of them, all else read where
//! it is when somebody asks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::FutureExt;
use jiff::Timestamp;
use tokio::sync::watch;

use super::engine::Engine;
use super::telling::Telling;
use crate::api::{Kind, ObjectKey};
use crate::aws::Aws;
use crate::engine::drive::Meter;
use crate::engine::objects::Objects;
use crate::engine::{Note, Standing};
use crate::notify::Tally;
use crate::publish::Publisher;
use crate::sync::{Outputs, SyncState, Synced};
use crate::telemetry::health::Health;
use crate::telemetry::metrics::{Labels, Sample, Shape};

/// A pass makes some dozens of calls at most, and each of them ends within a minute.
const LONGEST_PASS: Duration = Duration::from_secs(1800);
/// A first clone of a large repository may take minutes, and failures are waited out for five.
const LONGEST_LOOK: Duration = Duration::from_secs(1800);
/// How many builds are live is not known.
const UNKNOWN: u64 = u64::MAX;

/// Counts what the loop does.
struct Meters {
    health: Arc<Health>,
    /// Passes under way, since when.
    running: Mutex<BTreeMap<ObjectKey, Instant>>,
}

impl Meters {
    fn running(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Instant>> {
        self.running.lock().expect("no code panics while it holds the running passes")
    }
}

impl Meter for Meters {
    fn begins(&self, object: &ObjectKey) {
        self.running().insert(object.clone(), Instant::now());
    }

    fn ends(&self, object: &ObjectKey, result: &'static str) {
        let began = self.running().remove(object);
        let took = began.map_or(Duration::ZERO, |began| began.elapsed());
        self.health.metrics.passed(&object.kind.to_string(), result, took);
    }

    fn notes(&self, note: &Note) {
        let metrics = &self.health.metrics;
        match note.reason.as_ref() {
            "BuildSucceeded" => metrics.built("succeeded"),
            "BuildSuperseded" => metrics.built("superseded"),
            "BuildCancelled" => metrics.built("cancelled"),
            "BuildFailed" => metrics.built("failed"),
            "RolloutDone" => metrics.rolled_out("done"),
            "RolloutFailed" => metrics.rolled_out("failed"),
            "RolloutReplaced" => metrics.rolled_out("replaced"),
            _ => {}
        }
    }
}

/// Has everything of this agent measured.
pub fn start(
    health: &Arc<Health>,
    engine: &Engine,
    aws: &Aws,
    outputs: &Outputs,
    publisher: &Publisher,
    telling: &Arc<Telling>,
    loaded: watch::Receiver<Option<Arc<Synced>>>,
) -> Arc<dyn Meter> {
    read_objects(health, &engine.objects);
    read_builds(health, engine);
    read_aws(health, aws);
    read_sync(health, outputs.state.clone());
    read_publishing(health, publisher.clone());
    read_notifications(health, telling);
    read_namespaces(health, engine);
    let home = engine.home.clone();
    health.metrics.read("opsy_apply_failing", "Objects that are not as Git says", Shape::Gauge, move || {
        let Some(synced) = loaded.borrow().clone() else { return Vec::new() };
        let objects = synced.set.documents.iter().map(|document| &document.object);
        vec![count(objects.filter(|object| home.unapplied(object).is_some()).count())]
    });
    let meters = Arc::new(Meters { health: health.clone(), running: Mutex::default() });
    let running = Arc::downgrade(&meters);
    health.check("passes", move || {
        let Some(meters) = running.upgrade() else { return Ok(()) };
        let stuck = meters.running().iter().find(|(_, began)| began.elapsed() > LONGEST_PASS).map(words);
        stuck.map_or(Ok(()), Err)
    });
    meters
}

fn words((object, began): (&ObjectKey, &Instant)) -> String {
    format!("the pass over {object} does not end, after {} s", began.elapsed().as_secs())
}

/// Has `/healthz` look whether the repository is still looked at, successfully or not.
pub fn check_sync(health: &Health, state: watch::Receiver<SyncState>, interval: Duration) {
    let limit = interval + LONGEST_LOOK;
    // The clock of the machine may jump: what counts is since when nothing has moved here.
    let last = Mutex::new((None, Instant::now()));
    health.check("sync", move || {
        let looked = state.borrow().looked;
        let mut last = last.lock().expect("no code panics while it holds a time");
        if last.0 != looked {
            *last = (looked, Instant::now());
        }
        let silent = last.1.elapsed();
        if silent <= limit {
            return Ok(());
        }
        Err(format!("the repository has not been looked at for {} s", silent.as_secs()))
    });
}

fn read_objects(health: &Health, objects: &Arc<Objects>) {
    let board = objects.board.clone();
    health.metrics.read("opsy_objects", "Objects, by how they stand", Shape::Gauge, move || {
        let standings = board.standings();
        let of = |kind, standing| {
            standings.iter().filter(|(object, is)| object.kind == kind && **is == standing).count()
        };
        let all = [Kind::PackerBuilder, Kind::AMIRefresher].into_iter().flat_map(|kind| {
            STANDINGS.map(|(standing, word)| Sample {
                labels: vec![("kind", kind.to_string()), ("standing", word.to_owned())],
                ..count(of(kind, standing))
            })
        });
        all.collect()
    });
    let refreshers = objects.clone();
    health.metrics.read("opsy_rollouts_open", "Rollouts under way", Shape::Gauge, move || {
        let rollouts = refreshers.refreshers.all().filter_map(|refresher| refresher.status?.rollout);
        vec![count(rollouts.filter(|rollout| rollout.finished_at.is_none()).count())]
    });
    let refreshers = objects.clone();
    health.metrics.read("opsy_node_groups", "Node groups, by state", Shape::Gauge, move || {
        let mut states = BTreeMap::<String, usize>::new();
        for refresher in refreshers.refreshers.all() {
            for group in refresher.status.into_iter().flat_map(|status| status.node_groups).flatten() {
                *states.entry(group.state.unwrap_or_default()).or_default() += 1;
            }
        }
        let sample = |(state, many)| Sample { labels: vec![("state", state)], ..count(many) };
        states.into_iter().map(sample).collect()
    });
}

const STANDINGS: [(Standing, &str); 5] = [
    (Standing::Settled, "settled"),
    (Standing::Busy, "busy"),
    (Standing::Waiting, "waiting"),
    (Standing::Failing, "failing"),
    (Standing::Stalled, "stalled"),
];

/// As many as are watched by name.
fn read_namespaces(health: &Health, engine: &Engine) {
    let home = engine.home.clone();
    let help = "Watched namespaces that cannot be read";
    health.metrics.read("opsy_namespace_unreadable", help, Shape::Gauge, move || {
        let sample = |namespace| Sample { labels: vec![("namespace", namespace)], ..count(1) };
        home.unreadable().into_keys().map(sample).collect()
    });
}

/// The engine is asked before a scrape: that may take a moment.
fn read_builds(health: &Health, engine: &Engine) {
    let live = Arc::new(AtomicU64::new(UNKNOWN));
    let (runs, asked) = (engine.runs.clone(), live.clone());
    health.ask_first(move || {
        let (runs, asked) = (runs.clone(), asked.clone());
        async move {
            let live = runs.live().await.ok().and_then(|live| u64::try_from(live).ok());
            asked.store(live.unwrap_or(UNKNOWN), Ordering::Relaxed);
        }
        .boxed()
    });
    health.metrics.read("opsy_builds_live", "Builds under way", Shape::Gauge, move || {
        let live = usize::try_from(live.load(Ordering::Relaxed)).ok().filter(|live| *live as u64 != UNKNOWN);
        live.map(count).into_iter().collect()
    });
}

fn read_aws(health: &Health, aws: &Aws) {
    let aws = aws.clone();
    health.metrics.read("opsy_aws_calls", "Calls to AWS, attempt by attempt", Shape::Counter, move || {
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

fn read_sync(health: &Health, state: watch::Receiver<SyncState>) {
    let failing = state.clone();
    health.metrics.read("opsy_sync_failing", "Can the repository not be read?", Shape::Gauge, move || {
        vec![flag(failing.borrow().error.is_some())]
    });
    let held = state.clone();
    let help =
        "1 while the tip of the branch is held back: it was rewritten, or adds a commit that is not verified";
    health
        .metrics
        .read("opsy_branch_held", help, Shape::Gauge, move || vec![flag(held.borrow().held.is_some())]);
    let help = "When the repository was last read";
    health.metrics.read("opsy_sync_last_success_timestamp_seconds", help, Shape::Gauge, move || {
        time(state.borrow().succeeded)
    });
}

fn read_publishing(health: &Health, publisher: Publisher) {
    let state = publisher.state();
    health.metrics.read("opsy_publish_failing", "Can status not be pushed?", Shape::Gauge, move || {
        vec![flag(!state.borrow().is_good())]
    });
    let help = "When the repository was last known to hold the current status";
    health.metrics.read("opsy_publish_last_success_timestamp_seconds", help, Shape::Gauge, move || {
        time(publisher.succeeded())
    });
}

fn read_notifications(health: &Health, telling: &Arc<Telling>) {
    let of = |telling: &Arc<Telling>, value: fn(&Tally) -> Vec<(&'static str, u64)>| {
        let telling = telling.clone();
        move || {
            let tallies = telling.notifier.tallies();
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
    let metrics = &health.metrics;
    let sent =
        of(telling, |tally| vec![("sent", tally.sent), ("failed", tally.failed), ("refused", tally.refused)]);
    metrics.read("opsy_notifications", "Messages, by what became of them", Shape::Counter, sent);
    let waiting = of(telling, |tally| vec![("", tally.waiting as u64)]);
    metrics.read(
        "opsy_notifications_waiting",
        "Objects people are still to be told of",
        Shape::Gauge,
        waiting,
    );
    let closed = of(telling, |tally| vec![("", tally.closed as u64)]);
    metrics.read(
        "opsy_notification_destinations_failing",
        "Destinations that take nothing",
        Shape::Gauge,
        closed,
    );
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
