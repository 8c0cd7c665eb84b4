//! Publishing: what is rendered, what wakes the loop, and which objects its failure concerns.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::now;
use crate::api::Kind;
use crate::api::conditions::{Condition, PUBLISHED};
use crate::api::lock::lock;
use crate::engine::objects::Objects;
use crate::git::Handle;
use crate::publish::render::{PublishedObjects, Snapshot, render};
use crate::publish::{Batch, Publish, Publisher, Publishing, Render};
use crate::sync::{SyncState, Synced};
use crate::task;

/// The parts of the agent that publishing uses.
pub struct Uses<'a> {
    pub engine: &'a Engine,
    pub git: Handle,
    pub sync: watch::Receiver<SyncState>,
    /// The loaded commit, not the synced one: before its objects exist, their status files would look like those of
    /// deleted objects.
    pub loaded: watch::Receiver<Option<Arc<Synced>>>,
    pub stop: CancellationToken,
}

/// Starts the loop that commits status.
pub fn start(uses: Uses<'_>) -> Publisher {
    let Uses { engine, git, sync, loaded, stop } = uses;
    let settings = loaded.clone();
    let settings = Arc::new(move || settings.borrow().as_ref().map(|loaded| loaded.set.settings.clone()));
    let (publish, publisher) = Publish::new(git, settings, renderer(engine, loaded.clone()), now);
    task::detach("publishing", publish.run(stop));
    task::detach("waking the publisher", wake(publisher.clone(), engine.objects.clone(), sync, loaded));
    task::detach("reporting publishes", report_turns(publisher.state(), engine.objects.clone()));
    publisher
}

/// Renders the status of the objects that the engine has.
fn renderer(engine: &Engine, loaded: watch::Receiver<Option<Arc<Synced>>>) -> Render {
    let (objects, home, owner) = (engine.objects.clone(), engine.home.clone(), engine.owner.clone());
    let published = Mutex::<PublishedObjects>::default();
    Arc::new(move || {
        let Some(synced) = loaded.borrow().clone() else { return Batch::default() };
        let known = home.owned(&synced.owner(&owner)).into_keys().collect();
        let snapshot = Snapshot {
            builders: Box::new(objects.builders.all()),
            refreshers: Box::new(objects.refreshers.all()),
            known,
        };
        render(snapshot, &synced, &mut lock(&published))
    })
}

/// Wakes the loop when a status changes, and when the branch does: a person may have changed the status files there.
async fn wake(
    publisher: Publisher,
    objects: Arc<Objects>,
    mut sync: watch::Receiver<SyncState>,
    mut loaded: watch::Receiver<Option<Arc<Synced>>>,
) {
    loop {
        tokio::select! {
            () = objects.changed.notified() => {}
            changed = sync.changed() => if changed.is_err() { return },
            changed = loaded.changed() => if changed.is_err() { return },
        }
        publisher.wake();
    }
}

/// The condition `Published` is part of every status: all objects are reconciled when publishing starts or ceases to
/// fail.
async fn report_turns(mut publishing: watch::Receiver<Publishing>, objects: Arc<Objects>) {
    // After a restart, statuses may report a failure of the previous process. They are not loaded yet at the start, so
    // they are read when the first state is known.
    let mut reported = None;
    while publishing.changed().await.is_ok() {
        let fails = !publishing.borrow_and_update().is_up_to_date();
        let was_reported = *reported.get_or_insert_with(|| is_failure_reported(&objects));
        if fails != was_reported {
            reported = Some(fails);
            objects.wake_all(Kind::PackerBuilder);
            objects.wake_all(Kind::AMIRefresher);
        }
    }
}

/// Returns whether the status of any object says that it is not published.
fn is_failure_reported(objects: &Objects) -> bool {
    let reports = |conditions: Option<&Vec<Condition>>| {
        conditions.into_iter().flatten().any(|c| c.r#type == PUBLISHED && c.status == "False")
    };
    let mut builders = objects.builders.all();
    let mut refreshers = objects.refreshers.all();
    builders.any(|object| reports(object.status.as_ref().and_then(|status| status.conditions.as_ref())))
        || refreshers
            .any(|object| reports(object.status.as_ref().and_then(|status| status.conditions.as_ref())))
}
