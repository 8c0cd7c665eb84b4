//! The one loop over both kinds: takes keys from a queue, reconciles at most once per object at a time, and writes
//! what the reconcile returned.
//!
//! The backoff per object is here. Each reconcile is a task of its own, so that reconciles use several cores and a
//! panic ends one reconcile instead of the loop.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::runtime::applier;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::feed::Queue;
use super::objects::Objects;
use super::{EngineError, Home, Note, ObjectHealth, Pass, StatusUpdate, Wake};
use crate::api::backoff;
use crate::api::conditions::{self, APPLIED, PUBLISHED};
use crate::api::lock::lock;
use crate::api::status::Status;
use crate::api::{Class, Kind, ObjectKey};
use crate::task;

/// Concurrent reconciles of one kind. They wait for AWS most of the time, so there are more of them than cores.
const CONCURRENCY: u16 = 16;
/// First backoff after a transient failure. It doubles with each further one, up to `LONGEST_BACKOFF`.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(600);
/// A backoff is up to a quarter longer, so that objects that fail together do not retry together.
const JITTER: u32 = 4;
/// Backoff after a denied call. Only a person can grant the permission, so retrying sooner is useless.
const DENIED_BACKOFF: Duration = Duration::from_secs(900);
/// Pause after a conflict. The other writer's change has reached the store by then.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);
/// A requeue of at least this length comes up to an eighth earlier, so that objects that were loaded together are not
/// reconciled together for ever. Shorter ones follow work in progress.
const SPREAD_FROM: Duration = Duration::from_secs(60);
const SPREAD: u32 = 8;
/// Even a stalled object is reconciled this often, because causes can also disappear by themselves.
const LONGEST_REQUEUE: Duration = Duration::from_secs(3600);

/// Reconciles one object of a kind.
pub type Reconcile<K, S> = Arc<dyn Fn(Arc<K>) -> BoxFuture<'static, Pass<S>> + Send + Sync>;

/// Notifies people about the objects of one kind, without delaying the loop.
pub trait StatusNotifier<K, S>: Send + Sync {
    /// Records in the status which notifications were delivered and which cannot be. Nothing is sent before `confirm`
    /// confirms that the status is persisted.
    fn record(&self, name: &ObjectKey, object: &K, status: &mut S);
    /// The recorded status is persisted: notifications may be sent. Returns notes about what is new since `before`.
    fn confirm(&self, name: &ObjectKey, object: &K, before: Option<&S>, after: &S) -> Vec<Note>;
    /// The object is deleted.
    fn forget(&self, name: &ObjectKey);
}

/// Observes every reconcile, for metrics.
pub trait Meter: Send + Sync {
    fn begins(&self, object: &ObjectKey);
    /// `result` is one of a few fixed words, so that it can be a label.
    fn ends(&self, object: &ObjectKey, result: &'static str);
    /// Called once per note, after the status that it belongs to is written.
    fn notes(&self, note: &Note);
}

/// Everything that the loop over one kind needs.
pub struct Drive<K, S> {
    pub kind: Kind,
    pub reconcile: Reconcile<K, S>,
    pub status: fn(&K) -> Option<&S>,
    pub home: Arc<dyn Home>,
    pub objects: Arc<Objects>,
    /// Wakes the objects that a pass names.
    pub wake: Arc<dyn Fn(&Wake) + Send + Sync>,
    pub meter: Arc<dyn Meter>,
    pub notifier: Arc<dyn StatusNotifier<K, S>>,
    pub now: fn() -> Timestamp,
    /// Consecutive failures per object.
    pub failures: Mutex<HashMap<ObjectKey, u32>>,
}

/// Why a reconcile could not be completed.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the reconcile panicked: {0}")]
    Panicked(String),
    #[error("the reconcile was canceled")]
    Cancelled,
    #[error("the status cannot be written: {0}")]
    Status(#[from] EngineError),
}

/// Reconciles until the queue ends and the running reconciles are done.
pub async fn drive<K, S>(drive: Arc<Drive<K, S>>, queue: Queue<K>)
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    S: Status + Serialize + Clone + Default + PartialEq + Send + Sync + 'static,
{
    let config = kube::runtime::Config::default().concurrency(CONCURRENCY);
    let reconciles = applier(
        |object, drive: Arc<Drive<K, S>>| {
            let span = tracing::info_span!("reconcile", object = %drive.name_of(&*object));
            let reconcile =
                async move { drive.reconcile_one(Arc::new(object.open())).await }.instrument(span);
            AbortOnDropHandle::new(tokio::spawn(reconcile)).map(flatten).boxed()
        },
        |object, fault: &Fault, drive| drive.report_fault(&drive.name_of(&*object), fault),
        drive.clone(),
        queue.store,
        queue.keys.map(Ok::<_, Infallible>),
        config,
    );
    reconciles
        .for_each(|outcome| async move {
            // Faults are logged above. What is left is the key of an object that has been deleted meanwhile.
            if let Err(error) = outcome {
                tracing::debug!(%error, "nothing to reconcile");
            }
        })
        .await;
}

impl<K, S> Drive<K, S>
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    S: Status + Serialize + Clone + Default + PartialEq + Send + Sync + 'static,
{
    /// Reconciles one object, writes its status if it differs, reports the notes, and wakes others.
    async fn reconcile_one(&self, object: Arc<K>) -> Result<Action, Fault> {
        let name = self.name_of(&*object);
        tracing::debug!(object = %name, "a reconcile begins");
        self.objects.board.begin(&name);
        self.meter.begins(&name);
        let frozen = self.home.is_frozen(&name);
        let pass = if frozen { self.frozen_pass(&object) } else { (self.reconcile)(object.clone()).await };
        if pass.release {
            self.home.release(&name).await?;
            self.notifier.forget(&name);
            self.meter.ends(&name, "released");
            return Ok(Action::await_change());
        }
        let written = self.write(&name, &object, &pass.status).await;
        if let Err(EngineError { class: Class::Conflict, .. }) = written {
            // The reconcile observed an old version. It is repeated at once and nothing is reported. The board still
            // counts the reconcile as running, so that `--once` waits for the repetition.
            self.meter.ends(&name, "stale");
            return Ok(Action::requeue(CONFLICT_PAUSE));
        }
        if let Err(EngineError { class: Class::Denied, message }) = &written
            && frozen
        {
            // A namespace that cannot be read can often not be written either. The status of the repository reports it.
            tracing::debug!(object = %name, error = %message, "the status of the frozen object cannot be written");
            self.meter.ends(&name, "frozen");
            self.objects.board.end(&name, ObjectHealth::Failing);
            return Ok(Action::requeue(LONGEST_REQUEUE));
        }
        let news = written?;
        for note in news.iter().chain(&pass.notes) {
            log(&name, note);
            self.meter.notes(note);
            self.objects.board.publish(&name, note);
            self.home.publish_event(&name, note);
        }
        for wake in &pass.wake {
            (self.wake)(wake);
        }
        self.meter.ends(&name, result(pass.failed.as_ref().map(|(class, _)| *class)));
        let pause = self.pause(&name, &pass);
        self.objects.board.end(&name, self.health(&name, &pass));
        Ok(Action::requeue(pause))
    }

    /// Logs and counts a fault, and backs off.
    fn report_fault(&self, name: &ObjectKey, fault: &Fault) -> Action {
        let pause = self.backoff(name, Class::TRANSIENT);
        tracing::warn!(object = %name, error = %fault, retry_seconds = pause.as_secs(), "the reconcile failed");
        self.meter.ends(name, "fault");
        if self.failures().get(name) == Some(&1) {
            // No status reports this failure: the status is what could not be written.
            let message = fault.to_string();
            self.objects.board.publish(name, &Note { reason: "PassFailed".into(), message, warning: true });
        }
        self.objects.board.end(name, ObjectHealth::Failing);
        Action::requeue(pause)
    }

    /// The pass of an object that must not be reconciled. Its status keeps all but the conditions of the engine.
    fn frozen_pass(&self, object: &K) -> Pass<S> {
        Pass {
            status: (self.status)(object).cloned().unwrap_or_default(),
            look: LONGEST_REQUEUE,
            health: ObjectHealth::Waiting,
            wake: Vec::new(),
            notes: Vec::new(),
            failed: None,
            release: false,
        }
    }

    /// Writes the status if it differs. Returns notes about what is new in it.
    async fn write(&self, name: &ObjectKey, object: &K, status: &S) -> Result<Vec<Note>, EngineError> {
        let before = (self.status)(object);
        let mut after = self.with_engine_conditions(status.clone(), name, object);
        if before != Some(&after) {
            remove_obsolete(&mut after);
            let (observed_version, status) = (object.resource_version(), to_json(&after));
            self.home.write_status(StatusUpdate { object: name.clone(), observed_version, status }).await?;
        }
        Ok(self.notifier.confirm(name, object, before, &after))
    }

    /// Adds to a reconciler's status what no reconciler knows: whether the document is applied, and which notifications
    /// are delivered.
    fn with_engine_conditions(&self, mut status: S, name: &ObjectKey, object: &K) -> S {
        let (generation, now) = (object.meta().generation, (self.now)());
        let list = status.conditions().get_or_insert_default();
        // The condition is the repository's. Earlier versions set it on every object, and what they left is outdated.
        list.retain(|condition| condition.r#type != PUBLISHED || !condition.is_false());
        match self.out_of_sync(name) {
            Some((reason, message)) => {
                conditions::set(list, APPLIED, "False", reason, &message, generation, now);
            }
            None => list.retain(|condition| condition.r#type != APPLIED),
        }
        self.notifier.record(name, object, &mut status);
        status
    }

    fn out_of_sync(&self, name: &ObjectKey) -> Option<(&'static str, String)> {
        self.home.out_of_sync(name).or_else(|| self.objects.retained(name))
    }

    /// The health of an object after a reconcile.
    fn health(&self, name: &ObjectKey, pass: &Pass<S>) -> ObjectHealth {
        let first = self.failures().get(name).copied() == Some(1);
        match pass.failed {
            // A single failure that is likely to disappear says nothing about the object. The retry decides.
            Some((Class::Transient { .. } | Class::Conflict, _)) if first => ObjectHealth::Busy,
            // The reconciler judges the live object, which is not the desired state.
            _ if self.home.out_of_sync(name).is_some() => pass.health.max(ObjectHealth::Failing),
            // A person must fix the manifest or allow the object to be pruned.
            _ if self.objects.retained(name).is_some() => pass.health.max(ObjectHealth::Waiting),
            _ => pass.health,
        }
    }

    /// When to reconcile again: after the time that the pass names, or after the backoff for its failure.
    fn pause(&self, name: &ObjectKey, pass: &Pass<S>) -> Duration {
        let requeue = pass.look.min(LONGEST_REQUEUE);
        match &pass.failed {
            Some((class, message)) => {
                let pause = self.backoff(name, *class);
                tracing::warn!(object = %name, error = %message, retry_seconds = pause.as_secs(), "will be retried");
                pause
            }
            None => {
                self.failures().remove(name);
                spread_requeue(requeue, &name.to_string())
            }
        }
    }

    /// Counts one more failure of an object and returns the backoff after it.
    fn backoff(&self, name: &ObjectKey, class: Class) -> Duration {
        let mut failures = self.failures();
        // Deleted objects would stay in the map forever.
        failures.retain(|object, _| object == name || self.objects.has(object));
        let count = failures.entry(name.clone()).or_insert(0);
        *count = count.saturating_add(1);
        pause_after(class, *count, &name.to_string())
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, u32>> {
        lock(&self.failures)
    }

    fn name_of(&self, object: &impl Resource) -> ObjectKey {
        ObjectKey::of(self.kind, object)
    }
}

/// The result of a reconcile as a metric label.
fn result(failed: Option<Class>) -> &'static str {
    match failed {
        None => "ok",
        Some(Class::Transient { .. }) => "transient",
        Some(Class::Denied) => "denied",
        Some(Class::Conflict) => "conflict",
        Some(Class::NotFound) => "not_found",
        Some(Class::Invalid) => "invalid",
    }
}

/// How long to pause after the `count`th consecutive failure.
fn pause_after(class: Class, count: u32, name: &str) -> Duration {
    let pause = backoff::doubled(FIRST_BACKOFF, LONGEST_BACKOFF, count);
    let pause = match class {
        Class::Transient { after: Some(after) } => pause.max(after),
        Class::Transient { after: None } | Class::Conflict => pause,
        Class::Denied | Class::Invalid | Class::NotFound => DENIED_BACKOFF,
    };
    backoff::spread(pause, JITTER, &[name, &count.to_string()])
}

/// When to reconcile an object again that wants to be reconciled after this time.
fn spread_requeue(requeue: Duration, name: &str) -> Duration {
    if requeue < SPREAD_FROM { requeue } else { backoff::spread_early(requeue, SPREAD, &[name]) }
}

fn flatten(joined: Result<Result<Action, Fault>, tokio::task::JoinError>) -> Result<Action, Fault> {
    match joined {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => Err(Fault::Panicked(task::message_of(error.into_panic()))),
        Err(_) => Err(Fault::Cancelled),
    }
}

fn log(name: &ObjectKey, note: &Note) {
    if note.warning {
        tracing::warn!(object = %name, reason = %note.reason, "{}", note.message);
    } else {
        tracing::info!(object = %name, reason = %note.reason, "{}", note.message);
    }
}

/// Removes what earlier versions wrote and this version does not. It is no reason to write a status, so a condition
/// `Published` that reports no failure stays until something else changes.
fn remove_obsolete(status: &mut impl Status) {
    status.conditions().get_or_insert_default().retain(|condition| condition.r#type != PUBLISHED);
}

fn to_json<S: Serialize>(status: &S) -> Value {
    serde_json::to_value(status).expect("a status has only string keys and finite numbers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_limit_with_a_quarter_of_jitter() {
        let first = pause_after(Class::TRANSIENT, 1, "a");
        assert!(first >= FIRST_BACKOFF && first <= FIRST_BACKOFF * 5 / 4);
        assert!(pause_after(Class::TRANSIENT, 3, "a") >= FIRST_BACKOFF * 4);
        assert!(pause_after(Class::TRANSIENT, 1000, "a") <= LONGEST_BACKOFF * 5 / 4);
    }

    #[test]
    fn only_long_requeues_are_spread() {
        let short = Duration::from_secs(20);
        assert_eq!(spread_requeue(short, "a"), short);
        let waits: std::collections::BTreeSet<Duration> =
            (0..100).map(|n| spread_requeue(LONGEST_REQUEUE, &n.to_string())).collect();
        assert!(waits.len() > 90 && waits.iter().all(|wait| *wait <= LONGEST_REQUEUE), "{waits:?}");
    }

    #[test]
    fn a_denied_call_waits_long_and_a_server_hint_is_kept() {
        assert!(pause_after(Class::Denied, 1, "a") >= DENIED_BACKOFF);
        let hint = Duration::from_secs(77);
        assert!(pause_after(Class::Transient { after: Some(hint) }, 1, "a") >= hint);
    }
}
