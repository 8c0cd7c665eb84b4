//! Applies the loaded commit: sends what differs, deletes what is to be pruned, retries what failed, and reverts what
//! others change as soon as it is observed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::client::ObjectClient;
use super::explain::{explain, is_unfit};
use super::failure::{self, ApplyFailure};
use super::kinds::Custom;
use super::ledger::Action;
use super::ownership;
use super::shared::HomeShared;
use crate::api::reasons;
use crate::api::{AMIRefresher, Class, Kind, ObjectKey, PackerBuilder};
use crate::engine::kubernetes::error::Refusal;
use crate::engine::{Note, StatusUpdate};

/// Concurrent requests. For an API server nearby, 8 are as fast, because the server is the limit; the rest hides the
/// latency to a distant one.
const CONCURRENCY: usize = 16;
/// When nothing is due, the next check is this late, in case no notification comes.
const IDLE: Duration = Duration::from_secs(300);

/// Applies, forever, what is due between loads: failures whose backoff is over, and changes of others.
pub async fn reapply(shared: Arc<HomeShared>) {
    loop {
        let retry = shared.ledger().next_retry();
        let at = retry.unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            () = shared.apply_due.notified() => {}
            () = tokio::time::sleep_until(at) => {}
        }
        let applying = shared.applying.lock().await;
        let (due, calm) = {
            let mut ledger = shared.ledger();
            let calm = ledger.calm(Instant::now());
            let due = ledger.due(Instant::now());
            ledger.hold(&due);
            (due, calm)
        };
        for object in &calm {
            tracing::info!(%object, "no other writer changes the object any more");
            shared.objects.wake(object);
        }
        apply(&shared, due).await;
        drop(applying);
    }
}

/// Does what is due for each of these objects, many at once.
pub async fn apply(shared: &HomeShared, objects: Vec<ObjectKey>) {
    if objects.is_empty() {
        return;
    }
    let started = Instant::now();
    let unreachable = AtomicBool::new(false);
    let count = objects.len();
    let work = futures::stream::iter(objects).map(|object| apply_one(shared, object, &unreachable));
    let failed = work.buffer_unordered(CONCURRENCY).filter(|fine| std::future::ready(!fine)).count().await;
    shared.show_absent();
    if failed > 0 {
        // `reapply` must compute the time of the next retry again.
        shared.apply_due.notify_one();
    }
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(objects = count, failed, milliseconds, "objects applied");
}

/// Does what is due for one object. Returns whether it succeeded.
async fn apply_one(shared: &HomeShared, object: ObjectKey, unreachable: &AtomicBool) -> bool {
    let Some(action) = shared.ledger().action(&object) else {
        shared.ledger().unhold(&object);
        shared.objects.wake(&object);
        return true;
    };
    let done = if unreachable.load(Ordering::Relaxed) {
        // A thousand objects must not each wait for the timeout of a server that does not respond.
        Err(Refusal::without_response("another request got no response"))
    } else {
        match object.kind {
            Kind::PackerBuilder => execute::<PackerBuilder>(shared, &object, action).await,
            Kind::AMIRefresher => execute::<AMIRefresher>(shared, &object, action).await,
        }
    };
    match done {
        Ok(made) => {
            if shared.ledger().done(&object, made) {
                shared.objects.wake(&object);
            }
            true
        }
        Err(refusal) => {
            if refusal.code.is_none() && matches!(refusal.class, Class::Transient { .. }) {
                unreachable.store(true, Ordering::Relaxed);
            }
            fail(shared, &object, &refusal);
            false
        }
    }
}

/// Records a failure, and has the object reconciled, so that its condition states it.
fn fail(shared: &HomeShared, object: &ObjectKey, refusal: &Refusal) {
    let (reason, message) = explain(object, refusal);
    let failure = ApplyFailure::new(refusal.class, reason, message.clone());
    let mut ledger = shared.ledger();
    let news = ledger.failed(object, failure, Instant::now());
    let exists = ledger.get(object).is_some();
    drop(ledger);
    if news {
        tracing::warn!(%object, reason, "not applied: {message}");
    }
    // Also without news: the object was held, and wakeups of that time were dropped.
    if exists {
        shared.objects.wake(object);
    }
}

/// Executes one action. Returns the resourceVersion that it created, if any.
async fn execute<K: Custom>(
    shared: &HomeShared,
    object: &ObjectKey,
    action: Action,
) -> Result<Option<u64>, Refusal> {
    let client = ObjectClient::new(&shared.cluster.client);
    let key = &object.key;
    match action {
        Action::Remove { uid } => {
            client.delete::<K>(key, &uid).await?;
            tracing::info!(%object, "deleted: its manifest was removed");
            Ok(None)
        }
        Action::Seed { version } => seed::<K>(shared, object, version).await.map(Some),
        Action::Apply { document, file, takeover, has_status, drift } => {
            let Some(owner) = shared.ledger().owner().cloned() else { return Ok(None) };
            if takeover {
                client.take_over_fields::<K>(key).await?;
            }
            let document = ownership::labelled(document.value(), &file, &owner);
            let made = match client.apply::<K>(key, &document).await {
                Err(refusal) if is_unfit(&refusal) => {
                    client.replace_unfit::<K>(key, &document, &refusal).await?;
                    client.take_over_fields::<K>(key).await?;
                    client.apply::<K>(key, &document).await?
                }
                made => made?,
            };
            if let Some(drift) = drift {
                report_revert::<K>(shared, object, drift);
            }
            if has_status { Ok(Some(made)) } else { seed::<K>(shared, object, made).await.map(Some) }
        }
    }
}

/// Reports which change was reverted, and whether another writer keeps changing the object.
fn report_revert<K: Custom>(shared: &HomeShared, object: &ObjectKey, drift: String) {
    let contested = shared.ledger().reverted(object, drift.clone(), Instant::now());
    let (reason, message) = match contested {
        true => (reasons::ANOTHER_WRITER, failure::contested(&drift)),
        false => (reasons::DRIFT_REVERTED, format!("{drift}: the manifest in Git was applied again")),
    };
    tracing::warn!(%object, reason, "{message}");
    shared.publish_event::<K>(object, &Note { reason: reason.into(), message, warning: true });
}

/// Writes the published status, if there is one, to an object without status.
async fn seed<K: Custom>(shared: &HomeShared, object: &ObjectKey, version: u64) -> Result<u64, Refusal> {
    let Some(status) = shared.seed(object) else { return Ok(version) };
    let client = ObjectClient::new(&shared.cluster.client);
    match client.put_status::<K>(&object.key, &version.to_string(), &status).await {
        Ok(made) => {
            let observed_version = Some(version.to_string());
            shared.show_status::<K>(&StatusUpdate { object: object.clone(), observed_version, status }, made);
            Ok(made)
        }
        // Another writer changed the object. Either it has a status now, or it is observed without one again.
        Err(refusal) if refusal.is_conflict() => Ok(version),
        Err(refusal) => Err(refusal),
    }
}
