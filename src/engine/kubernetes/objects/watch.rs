//! Watches custom resources forever, and passes every event to `HomeShared`.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;

use super::explain::{is_without_definition, without_definition};
use super::kinds::{Custom, Raw, object_key};
use super::places::{ObjectPlace, PlaceFailure};
use super::shared::HomeShared;
use crate::api::{Class, ObjectKey};
use crate::engine::kubernetes::Cluster;
use crate::engine::kubernetes::error::Refusal;
use crate::engine::kubernetes::watching::{WatchBackoff, wait};

/// Objects per page of a list. A page is in memory as a whole, and a thousand objects would take 14 MB.
const PAGE: u32 = 250;

/// Watches a place forever. A change of `relist` has it listed again.
pub async fn watch<K: Custom>(shared: Arc<HomeShared>, place: ObjectPlace, mut relist: Receiver<u64>) {
    let mut backoff = WatchBackoff::default();
    loop {
        let api = api::<K>(&shared.cluster, &place);
        let config = watcher::Config::default().page_size(PAGE);
        let mut watched = Watched { shared: &shared, place: &place, listed: None, backoff: &mut backoff };
        let mut events = watcher(api, config).boxed();
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => watched.take::<K>(event),
                    // A watch that works again shows it only by its next event. A new list shows it at once.
                    Some(Err(error)) => if watched.fail(error).await { break },
                    None => break,
                },
                asked = relist.changed() => match asked {
                    Ok(()) => break,
                    Err(_) => return,
                },
            }
        }
    }
}

fn api<K: Custom>(cluster: &Cluster, place: &ObjectPlace) -> Api<Raw<K>> {
    match &place.namespace {
        Some(namespace) => Api::namespaced(cluster.client.clone(), namespace),
        None => Api::all(cluster.client.clone()),
    }
}

/// One place and the events of its watch.
struct Watched<'a> {
    shared: &'a HomeShared,
    place: &'a ObjectPlace,
    /// What the running list has returned so far.
    listed: Option<BTreeSet<ObjectKey>>,
    backoff: &'a mut WatchBackoff,
}

impl Watched<'_> {
    fn take<K: Custom>(&mut self, event: Event<Raw<K>>) {
        match event {
            Event::Init => self.listed = Some(BTreeSet::new()),
            Event::InitApply(raw) => {
                let object = self.shared.observe(raw, true);
                self.listed.get_or_insert_default().insert(object);
            }
            Event::InitDone => {
                let listed = self.listed.take().unwrap_or_default();
                self.shared.forget_all::<K>(|object| self.place.contains(object) && !listed.contains(object));
                self.shared.listed(self.place, self.backoff.reset().is_some());
            }
            Event::Apply(raw) => {
                self.shared.observe(raw, false);
                self.backoff.reset();
            }
            Event::Delete(raw) => {
                let gone = object_key::<K>(&raw.metadata);
                self.shared.forget::<K>(gone);
                self.backoff.reset();
            }
        }
    }

    /// Records a failure and waits for the backoff. Returns whether the place is to be listed again.
    async fn fail(&mut self, error: watcher::Error) -> bool {
        let refusal = Refusal::from(error);
        // The server no longer has the version that the watch continues from. That is normal, and kube lists again.
        if refusal.code == Some(410) {
            return false;
        }
        let without = is_without_definition(&refusal);
        let message = if without { without_definition() } else { refusal.message };
        let (pause, news) = self.backoff.next(&message, without, Instant::now());
        if news {
            let place = self.place.to_string();
            tracing::warn!(place, error = %message, "cannot be watched; retrying");
        }
        let failure = PlaceFailure { class: refusal.class, message, without_definition: without };
        let unreadable = matches!(failure.class, Class::Denied | Class::NotFound);
        self.shared.unlisted(self.place, failure);
        wait(pause).await;
        unreadable
    }
}
