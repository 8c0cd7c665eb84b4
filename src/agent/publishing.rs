//! Publishing, wired: what wakes it, what it renders, and who hears that it fails.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::{now, render};
use crate::api::Kind;
use crate::api::conditions::{Condition, PUBLISHED};
use crate::engine::objects::Objects;
use crate::git::Handle;
use crate::publish::{Publish, Publisher, Publishing};
use crate::sync::{Outputs, Synced};

/// Starts the loop that commits status, and wakes it with every change: of a status, or of the branch,
/// where somebody may have changed our files. It goes by the commit that was loaded: without the objects
/// of a commit, their status files would look like those of objects that are gone.
pub fn start(
    handle: Handle,
    engine: &Engine,
    outputs: &Outputs,
    mut loaded: watch::Receiver<Option<Arc<Synced>>>,
    stop: CancellationToken,
) -> Publisher {
    let mut tip = outputs.state.clone();
    let settings = loaded.clone();
    let settings = Arc::new(move || settings.borrow().as_ref().map(|loaded| loaded.set.settings.clone()));
    let files =
        render::files(engine.objects.clone(), engine.home.clone(), engine.owner.clone(), loaded.clone());
    let (publish, publisher) = Publish::new(handle, settings, files, now);
    tokio::spawn(publish.run(stop));
    let (objects, waker) = (engine.objects.clone(), publisher.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = objects.changed.notified() => {}
                moved = tip.changed() => if moved.is_err() { return },
                news = loaded.changed() => if news.is_err() { return },
            }
            waker.wake();
        }
    });
    tokio::spawn(wake_on_trouble(publisher.state(), engine.objects.clone()));
    publisher
}

/// `Published` is part of every status: when publishing begins or ceases to fail, all look again.
async fn wake_on_trouble(mut publishing: watch::Receiver<Publishing>, objects: Arc<Objects>) {
    // What was said before a restart is not known until the objects are there: it is asked when needed.
    let mut trouble = None;
    while publishing.changed().await.is_ok() {
        let is = !publishing.borrow_and_update().is_good();
        let was = *trouble.get_or_insert_with(|| said_unpublished(&objects));
        if is != was {
            trouble = Some(is);
            objects.wake_all(Kind::PackerBuilder);
            objects.wake_all(Kind::AMIRefresher);
        }
    }
}

/// Does the status of any object say that it was not published?
fn said_unpublished(objects: &Objects) -> bool {
    let says = |conditions: Option<&Vec<Condition>>| {
        conditions.into_iter().flatten().any(|c| c.r#type == PUBLISHED && c.status == "False")
    };
    let mut builders = objects.builders.all();
    let mut refreshers = objects.refreshers.all();
    builders.any(|object| says(object.status.as_ref().and_then(|status| status.conditions.as_ref())))
        || refreshers.any(|object| says(object.status.as_ref().and_then(|status| status.conditions.as_ref())))
}
