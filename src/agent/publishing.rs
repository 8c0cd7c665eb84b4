//! Publishing: what is rendered, and what wakes the loop.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::now;
use crate::api::lock::lock;
use crate::engine::objects::Objects;
use crate::git::Handle;
use crate::publish::render::{PublishedObjects, Snapshot, render};
use crate::publish::{Batch, Publish, Publisher, Render};
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
