//! The one loop: takes keys from a queue, runs one pass per object at a time, writes what it says.
//!
//! Backoff per object lives here. A pass is spawned, so that passes use several cores and a panic
//! ends one pass, not the loop.

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
use super::{Home, HomeError, Note, Pass, Standing, StatusUpdate, Wake};
use crate::api::conditions::{self, APPLIED, PUBLISHED};
use crate::api::status::Status;
use crate::api::{Class, Key, Kind, ObjectKey};

/// Passes of one kind at once: they wait on AWS most of the time.
const CONCURRENCY: u16 = 16;
/// First pause after a transient failure; doubles with each, up to `LONGEST_BACKOFF`.
const FIRST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_BACKOFF: Duration = Duration::from_secs(600);
/// A denied call is not retried sooner: permissions are changed by people.
const DENIED_BACKOFF: Duration = Duration::from_secs(900);
/// Pause after somebody else wrote the object: their write is in the store by then.
const CONFLICT_PAUSE: Duration = Duration::from_millis(50);
/// Stalled objects still look this often, since causes also go away by themselves.
const LONGEST_LOOK: Duration = Duration::from_secs(3600);

/// What a pass over one kind is.
pub type Reconcile<K, S> = Arc<dyn Fn(Arc<K>) -> BoxFuture<'static, Pass<S>> + Send + Sync>;

/// Tells people of the objects of one kind, away from the passes.
pub trait Teller<K, S>: Send + Sync {
    /// Notes in the status what was told, and what cannot be told. Nothing new is told before `written`.
    fn mark(&self, name: &ObjectKey, object: &K, status: &mut S);
    /// The status is as marked: it may be told. Answers what is news since `before`.
    fn written(&self, name: &ObjectKey, object: &K, before: Option<&S>, after: &S) -> Vec<Note>;
    /// The object is gone.
    fn gone(&self, name: &ObjectKey);
}

/// Hears of every pass, for those who count.
pub trait Meter: Send + Sync {
    fn begins(&self, object: &ObjectKey);
    /// What came of it, in one of a few words.
    fn ends(&self, object: &ObjectKey, result: &'static str);
    /// A note is told once, after what it tells of is written.
    fn notes(&self, note: &Note);
}

/// Everything the loop over one kind needs.
pub struct Drive<K, S> {
    pub kind: Kind,
    pub reconcile: Reconcile<K, S>,
    pub status: fn(&K) -> Option<&S>,
    pub home: Arc<dyn Home>,
    pub objects: Arc<Objects>,
    /// Wakes others because of what a pass did.
    pub wake: Arc<dyn Fn(&Wake) + Send + Sync>,
    /// Status, reason and message of the condition `Published`, once there is one.
    pub published: Box<dyn Fn() -> Option<(&'static str, &'static str, String)> + Send + Sync>,
    pub meter: Arc<dyn Meter>,
    pub teller: Arc<dyn Teller<K, S>>,
    /// The one clock.
    pub now: fn() -> Timestamp,
    pub failures: Mutex<HashMap<ObjectKey, u32>>,
}

/// A pass that could not be ended as it should.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the pass panicked: {0}")]
    Panicked(String),
    #[error("the pass was cut off")]
    Cancelled,
    #[error("writing status: {0}")]
    Status(#[from] HomeError),
}

/// Runs passes until the queue ends and the running ones are done.
pub async fn drive<K, S>(drive: Arc<Drive<K, S>>, queue: Queue<K>)
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    S: Status + Serialize + Clone + Default + PartialEq + Send + Sync + 'static,
{
    let config = kube::runtime::Config::default().concurrency(CONCURRENCY);
    let passes = applier(
        |object, drive: Arc<Drive<K, S>>| {
            let span = tracing::info_span!("pass", object = %drive.name_of(&*object));
            let pass = async move { drive.pass(Arc::new(object.open())).await }.instrument(span);
            AbortOnDropHandle::new(tokio::spawn(pass)).map(flatten).boxed()
        },
        |object, fault: &Fault, drive| {
            let name = drive.name_of(&*object);
            let pause = drive.backoff(&name, Class::TRANSIENT);
            tracing::warn!(object = %name, error = %fault, retry_seconds = pause.as_secs(), "pass failed");
            drive.meter.ends(&name, "fault");
            if drive.failures().get(&name) == Some(&1) {
                // No status tells of it: it is what could not be written.
                let message = fault.to_string();
                drive
                    .objects
                    .board
                    .tell(&name, &Note { reason: "PassFailed".into(), message, warning: true });
            }
            drive.objects.board.end(&name, Standing::Failing);
            Action::requeue(pause)
        },
        drive.clone(),
        queue.store,
        queue.keys.map(Ok::<_, Infallible>),
        config,
    );
    passes
        .for_each(|outcome| async move {
            // An object that is gone meanwhile is the only other outcome; its faults were logged.
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
    /// One pass: reconcile, write the status if it differs, then tell, then wake others.
    async fn pass(&self, object: Arc<K>) -> Result<Action, Fault> {
        let name = self.name_of(&*object);
        self.objects.board.begin(&name);
        self.meter.begins(&name);
        let frozen = self.home.is_frozen(&name);
        let pass = if frozen { self.frozen(&object) } else { (self.reconcile)(object.clone()).await };
        if pass.release {
            self.home.release(&name).await?;
            self.teller.gone(&name);
            self.meter.ends(&name, "released");
            return Ok(Action::await_change());
        }
        let written = self.write(&name, &object, &pass.status).await;
        if let Err(HomeError { class: Class::Conflict, .. }) = written {
            // Looked at an old version: look again at once, tell nobody. Until then its pass is not over.
            self.meter.ends(&name, "stale");
            return Ok(Action::requeue(CONFLICT_PAUSE));
        }
        if let Err(HomeError { class: Class::Denied, message }) = &written
            && frozen
        {
            // A namespace that cannot be read can often not be written either; the repository says so, too.
            tracing::debug!(object = %name, error = %message, "its status cannot say so");
            self.meter.ends(&name, "frozen");
            self.objects.board.end(&name, Standing::Failing);
            return Ok(Action::requeue(LONGEST_LOOK));
        }
        let news = written?;
        for note in news.iter().chain(&pass.notes) {
            log(&name, note);
            self.meter.notes(note);
            self.objects.board.tell(&name, note);
            self.home.tell(&name, note);
        }
        for wake in &pass.wake {
            (self.wake)(wake);
        }
        self.meter.ends(&name, result(pass.failed.as_ref().map(|(class, _)| *class)));
        let pause = self.pause(&name, &pass);
        self.objects.board.end(&name, self.standing(&name, &pass));
        Ok(Action::requeue(pause))
    }

    /// Nothing is done, and the status stays as it is but for the words about it.
    fn frozen(&self, object: &K) -> Pass<S> {
        Pass {
            status: (self.status)(object).cloned().unwrap_or_default(),
            look: LONGEST_LOOK,
            standing: Standing::Waiting,
            wake: Vec::new(),
            notes: Vec::new(),
            failed: None,
            release: false,
        }
    }

    /// Writes the status if it differs; answers what is new in it for people.
    async fn write(&self, name: &ObjectKey, object: &K, status: &S) -> Result<Vec<Note>, HomeError> {
        let before = (self.status)(object);
        let after = self.with_others(status.clone(), name, object);
        if before != Some(&after) {
            let (seen, status) = (object.resource_version(), to_json(&after));
            self.home.write_status(StatusUpdate { object: name.clone(), seen, status }).await?;
        }
        Ok(self.teller.written(name, object, before, &after))
    }

    /// Publishing, applying and telling are nobody's pass: what is to be said of them is put beside the
    /// words of the reconciler.
    fn with_others(&self, mut status: S, name: &ObjectKey, object: &K) -> S {
        let (generation, now) = (object.meta().generation, (self.now)());
        let list = status.conditions().get_or_insert_default();
        if let Some((said, reason, message)) = (self.published)() {
            match said {
                "False" => conditions::set_unpublished(list, reason, &message, generation, now),
                _ => conditions::set(list, PUBLISHED, said, reason, &message, generation, now),
            }
        }
        match self.unapplied(name) {
            Some((reason, message)) => {
                conditions::set(list, APPLIED, "False", reason, &message, generation, now);
            }
            None => list.retain(|condition| condition.r#type != APPLIED),
        }
        self.teller.mark(name, object, &mut status);
        status
    }

    fn unapplied(&self, name: &ObjectKey) -> Option<(&'static str, String)> {
        self.home.unapplied(name).or_else(|| self.objects.kept(name))
    }

    /// One failure that goes away by itself is not how an object stands: the next look tells.
    fn standing(&self, name: &ObjectKey, pass: &Pass<S>) -> Standing {
        let first = self.failures().get(name).copied() == Some(1);
        match pass.failed {
            Some((Class::Transient { .. } | Class::Conflict, _)) if first => Standing::Busy,
            // However well it stands, it is not as Git says.
            _ if self.home.unapplied(name).is_some() => pass.standing.max(Standing::Failing),
            // It waits for somebody to mend the manifest, or to let it go.
            _ if self.objects.kept(name).is_some() => pass.standing.max(Standing::Waiting),
            _ => pass.standing,
        }
    }

    /// When to look again: what the pass asked for, or the backoff after a failure.
    fn pause(&self, name: &ObjectKey, pass: &Pass<S>) -> Duration {
        let look = pass.look.min(LONGEST_LOOK);
        match &pass.failed {
            Some((class, message)) => {
                let pause = self.backoff(name, *class);
                tracing::warn!(object = %name, error = %message, retry_seconds = pause.as_secs(), "will be tried again");
                pause
            }
            None => {
                self.failures().remove(name);
                look
            }
        }
    }

    /// The next pause of an object that failed once more.
    fn backoff(&self, name: &ObjectKey, class: Class) -> Duration {
        let mut failures = self.failures();
        // Those that are gone are not counted any more.
        failures.retain(|object, _| object == name || self.objects.has(object));
        let count = failures.entry(name.clone()).or_insert(0);
        *count = count.saturating_add(1);
        pause_after(class, *count, &name.to_string())
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<ObjectKey, u32>> {
        self.failures.lock().expect("no code panics while it holds the failure counts")
    }

    fn name_of(&self, object: &impl Resource) -> ObjectKey {
        let key = Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
        ObjectKey { kind: self.kind, key }
    }
}

/// What came of a pass, in one word.
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

/// How long to pause after the `count`th failure in a row.
fn pause_after(class: Class, count: u32, name: &str) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1u32.checked_shl(count - 1).unwrap_or(u32::MAX));
    let pause = doubled.min(LONGEST_BACKOFF);
    let pause = match class {
        Class::Transient { after: Some(after) } => pause.max(after),
        Class::Transient { after: None } | Class::Conflict => pause,
        Class::Denied | Class::Invalid | Class::NotFound => DENIED_BACKOFF,
    };
    pause + jitter(pause, name, count)
}

/// Up to a quarter more, by name and count: many objects that fail together do not retry together.
fn jitter(pause: Duration, name: &str, count: u32) -> Duration {
    let digest = crate::api::ids::digest(&[name, &count.to_string()]);
    let share = u32::from_str_radix(&digest[..4], 16).unwrap_or(0);
    pause / 4 * share / 0xffff
}

fn flatten(joined: Result<Result<Action, Fault>, tokio::task::JoinError>) -> Result<Action, Fault> {
    match joined {
        Ok(outcome) => outcome,
        Err(error) if error.is_panic() => Err(Fault::Panicked(panic_text(error.into_panic()))),
        Err(_) => Err(Fault::Cancelled),
    }
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message").to_owned()
}

fn log(name: &ObjectKey, note: &Note) {
    if note.warning {
        tracing::warn!(object = %name, reason = %note.reason, "{}", note.message);
    } else {
        tracing::info!(object = %name, reason = %note.reason, "{}", note.message);
    }
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
    fn a_denied_call_waits_long_and_a_server_hint_is_kept() {
        assert!(pause_after(Class::Denied, 1, "a") >= DENIED_BACKOFF);
        let hint = Duration::from_secs(77);
        assert!(pause_after(Class::Transient { after: Some(hint) }, 1, "a") >= hint);
    }
}
