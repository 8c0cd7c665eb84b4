//! Brings objects in line with the loaded commit: what differs is applied, what is to go deleted. What
//! fails is told and tried again; what people change by hand is put back as soon as it is seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::StreamExt;
use tokio::time::Instant;

use super::error::Refusal;
use super::home::Shared;
use super::kinds::Custom;
use super::ledger::Job;
use super::ownership;
use super::requests::{Requests, is_unfit, told};
use super::trouble::{self, Trouble};
use crate::api::{AMIRefresher, Class, Kind, ObjectKey, PackerBuilder};
use crate::engine::{Note, Standing, StatusUpdate};

/// Requests at once. Next to an API server 8 are as fast, since it is the limit; this is for one far away.
const CONCURRENCY: usize = 16;
/// Nothing is due: look again this late, in case nobody rings.
const IDLE: Duration = Duration::from_secs(300);

/// Applies, for ever, what is due besides loads: failures whose pause is over, and what people changed.
pub async fn mend(shared: Arc<Shared>) {
    loop {
        let retry = shared.ledger().next_retry();
        let at = retry.unwrap_or_else(|| Instant::now() + IDLE);
        tokio::select! {
            () = shared.bell.notified() => {}
            () = tokio::time::sleep_until(at) => {}
        }
        let turn = shared.turn.lock().await;
        let (due, calm) = {
            let mut ledger = shared.ledger();
            let calm = ledger.calm(Instant::now());
            let due = ledger.due(Instant::now());
            ledger.hold(&due);
            (due, calm)
        };
        for object in &calm {
            tracing::info!(%object, "nobody changes it any more");
            shared.objects.wake(object);
        }
        bring(&shared, due).await;
        drop(turn);
    }
}

/// Does what is to be done about each of these, many at once.
pub async fn bring(shared: &Shared, objects: Vec<ObjectKey>) {
    if objects.is_empty() {
        return;
    }
    let started = Instant::now();
    let away = AtomicBool::new(false);
    let count = objects.len();
    let work = futures::stream::iter(objects).map(|object| one(shared, object, &away));
    let failed = work.buffer_unordered(CONCURRENCY).filter(|fine| std::future::ready(!fine)).count().await;
    show_absent(shared);
    if failed > 0 {
        // When to try again has changed.
        shared.bell.notify_one();
    }
    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(objects = count, failed, milliseconds, "brought in line with Git");
}

/// Shows on the board what cannot be there because applying it fails.
pub fn show_absent(shared: &Shared) {
    let ledger = shared.ledger();
    let failing: Vec<ObjectKey> = ledger.troubles().map(|(object, _)| object.clone()).collect();
    let absent: Vec<ObjectKey> = failing
        .into_iter()
        .filter(|object| ledger.get(object).is_none() && ledger.is_wanted(object))
        .collect();
    let unread = ledger.unread().into_iter().filter(|object| ledger.get(object).is_none());
    let others: Vec<ObjectKey> =
        ledger.conflicts().into_iter().map(|(object, _)| object).chain(unread).collect();
    drop(ledger);
    let board = &shared.objects.board;
    for object in absent.iter().chain(&others) {
        board.add(object);
        board.begin(object);
        board.end(object, Standing::Failing);
    }
}

/// What is to be done about one object. True if that went well.
async fn one(shared: &Shared, object: ObjectKey, away: &AtomicBool) -> bool {
    let Some(job) = shared.ledger().job(&object) else {
        shared.ledger().let_go(&object);
        shared.objects.wake(&object);
        return true;
    };
    let done = if away.load(Ordering::Relaxed) {
        // One that cannot be reached is not asked a thousand times over.
        Err(unreachable())
    } else {
        match object.kind {
            Kind::PackerBuilder => run::<PackerBuilder>(shared, &object, job).await,
            Kind::AMIRefresher => run::<AMIRefresher>(shared, &object, job).await,
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
                away.store(true, Ordering::Relaxed);
            }
            fail(shared, &object, &refusal);
            false
        }
    }
}

fn fail(shared: &Shared, object: &ObjectKey, refusal: &Refusal) {
    let (reason, message) = told(object, refusal);
    let trouble = Trouble::new(refusal.class, reason, message.clone());
    let mut ledger = shared.ledger();
    let news = ledger.failed(object, trouble, Instant::now());
    let is_there = ledger.get(object).is_some();
    drop(ledger);
    if news {
        tracing::warn!(%object, reason, "not applied: {message}");
    }
    // The condition is written by a pass, which may also have been kept from looking meanwhile.
    if is_there {
        shared.objects.wake(object);
    }
}

fn unreachable() -> Refusal {
    Refusal { class: Class::TRANSIENT, message: "others were not answered".to_owned(), code: None }
}

async fn run<K: Custom>(shared: &Shared, object: &ObjectKey, job: Job) -> Result<Option<u64>, Refusal> {
    let requests = Requests::new(&shared.cluster.client);
    let key = &object.key;
    match job {
        Job::Remove { uid } => {
            requests.delete::<K>(key, &uid).await?;
            tracing::info!(%object, "deleted: its manifest is gone");
            Ok(None)
        }
        Job::Seed { version } => seed::<K>(shared, object, version).await.map(Some),
        Job::Apply { document, file, takeover, has_status, drift } => {
            let Some(owner) = shared.ledger().owner().cloned() else { return Ok(None) };
            if takeover {
                requests.take_over::<K>(key).await?;
            }
            let document = ownership::labelled(&document.value(), &file, &owner);
            let made = match requests.apply::<K>(key, &document).await {
                Err(refusal) if is_unfit(&refusal) => {
                    requests.replace_unfit::<K>(key, &document, &refusal).await?;
                    requests.take_over::<K>(key).await?;
                    requests.apply::<K>(key, &document).await?
                }
                made => made?,
            };
            if let Some(drift) = drift {
                reverted::<K>(shared, object, drift);
            }
            if has_status { Ok(Some(made)) } else { seed::<K>(shared, object, made).await.map(Some) }
        }
    }
}

/// Tells whose change was undone, and whether somebody keeps changing the object.
fn reverted<K: Custom>(shared: &Shared, object: &ObjectKey, drift: String) {
    let contested = shared.ledger().reverted(object, drift.clone(), Instant::now());
    let (reason, message) = match contested {
        true => ("AnotherWriter", trouble::contested(&drift)),
        false => ("DriftReverted", format!("{drift}: Git is applied again")),
    };
    tracing::warn!(%object, reason, "{message}");
    shared.tell::<K>(object, &Note { reason: reason.into(), message, warning: true });
}

/// Gives an object that has none the status that was published, if there is one.
async fn seed<K: Custom>(shared: &Shared, object: &ObjectKey, version: u64) -> Result<u64, Refusal> {
    let Some(status) = shared.seed(object) else { return Ok(version) };
    let requests = Requests::new(&shared.cluster.client);
    match requests.put_status::<K>(&object.key, &version.to_string(), &status).await {
        Ok(made) => {
            let seen = Some(version.to_string());
            shared.show_status::<K>(&StatusUpdate { object: object.clone(), seen, status }, made);
            Ok(made)
        }
        // Somebody else wrote it: then it has one, or will be seen without again.
        Err(refusal) if refusal.is_conflict() => Ok(version),
        Err(refusal) => Err(refusal),
    }
}
