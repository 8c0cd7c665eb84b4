//! The state that the tasks of `ClusterHome` share, and every change of it: what was observed goes into the ledger and
//! the stores, and wakes the objects that it concerns.

use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::events::EventQueue;
use super::kinds::{Custom, Raw, object_key, read_status, typed};
use super::ledger::{Ledger, Live, Observed, version};
use super::places::{ObjectPlace, PlaceFailure, Places};
use crate::api::ObjectKey;
use crate::api::lock::lock;
use crate::engine::kubernetes::Cluster;
use crate::engine::objects::Objects;
use crate::engine::{Note, ObjectHealth, Seed, StatusUpdate};

/// What the tasks of `ClusterHome` share.
pub struct HomeShared {
    pub cluster: Cluster,
    pub objects: Arc<Objects>,
    pub events: EventQueue,
    ledger: Mutex<Ledger>,
    /// Returns the published status of an object at the loaded commit.
    seed: Mutex<Option<Arc<Seed>>>,
    /// Serializes applies: a load and a retry must not send the same object at once.
    pub applying: tokio::sync::Mutex<()>,
    /// Notified when there may be something to apply.
    pub apply_due: Notify,
    /// Incremented for every observed watch event.
    pub observed: watch::Sender<u64>,
    /// Which parts of the scope can be read.
    pub places: watch::Sender<Places>,
    /// Notified when objects that could not be read during the last load are readable again.
    pub readable_again: Notify,
    /// Incremented to have all objects listed again.
    pub relist: watch::Sender<u64>,
}

impl HomeShared {
    pub fn new(cluster: Cluster, objects: Arc<Objects>, places: &[ObjectPlace]) -> Self {
        Self {
            cluster,
            objects,
            events: EventQueue::default(),
            ledger: Mutex::default(),
            seed: Mutex::default(),
            applying: tokio::sync::Mutex::default(),
            apply_due: Notify::new(),
            observed: watch::Sender::new(0),
            places: watch::Sender::new(Places::new(places)),
            readable_again: Notify::new(),
            relist: watch::Sender::new(0),
        }
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// The published status of an object.
    pub fn seed(&self, object: &ObjectKey) -> Option<serde_json::Value> {
        let seed = lock(&self.seed).clone();
        seed.and_then(|seed| seed(object))
    }

    pub fn set_seed(&self, seed: Seed) {
        *lock(&self.seed) = Some(Arc::new(seed));
    }

    /// Publishes a note as an Event of the object.
    pub fn publish_event<K: Custom>(&self, object: &ObjectKey, note: &Note) {
        if let Some(about) = K::feed(&self.objects).get(&object.key) {
            self.events.push(about.object_ref(&()), note.clone());
        }
    }

    /// Puts a status that the agent wrote into the store, before the watch returns it: the next reconcile must not
    /// start from the old one.
    pub fn show_status<K: Custom>(&self, update: &StatusUpdate, made: u64) {
        // The ledger's lock also orders this with `observe`, which reads and writes the store too.
        let ledger = self.ledger();
        let feed = K::feed(&self.objects);
        let Some(mut object) = feed.get(&update.object.key) else { return };
        if version(object.resource_version().as_deref()) < made {
            object.set_status(read_status::<K>(update.status.clone()));
            object.meta_mut().resource_version = Some(made.to_string());
            feed.put(&object);
        }
        drop(ledger);
        self.objects.changed.notify_one();
    }

    /// Shows on the board, as failing, the documents whose object cannot exist because it cannot be applied or read.
    pub fn show_absent(&self) {
        let ledger = self.ledger();
        let failed = ledger.apply_failures().map(|(object, _)| object);
        let absent =
            failed.filter(|object| ledger.get(object).is_none() && ledger.is_desired(object)).cloned();
        let unread = ledger.unread().into_iter().filter(|object| ledger.get(object).is_none());
        let conflicts = ledger.conflicts().into_iter().map(|(object, _)| object);
        let shown: Vec<ObjectKey> = absent.chain(conflicts).chain(unread).collect();
        drop(ledger);
        let board = &self.objects.board;
        for object in &shown {
            board.add(object);
            board.begin(object);
            board.end(object, ObjectHealth::Failing);
        }
    }

    /// Records an object that a list or a watch returned.
    pub fn observe<K: Custom>(&self, raw: Raw<K>, listed: bool) -> ObjectKey {
        let object = object_key::<K>(&raw.metadata);
        let feed = K::feed(&self.objects);
        let live = Live::of(&raw.metadata, &raw.spec, &raw.status);
        let (typed, undecodable) = typed::<K>(raw);
        let mut ledger = self.ledger();
        // Neither decodes the object in the store.
        let before = feed.packed_one(&object.key);
        let shown = before.as_ref().is_some_and(|before| is_shown(before.meta(), typed.meta(), listed));
        let known = ledger.get(&object).filter(|_| before.is_some());
        let news = known.is_none_or(|known| known.is_news(&live));
        match ledger.observe(&object, live, undecodable, news, listed, Instant::now()) {
            Observed::Stale => {}
            Observed::OtherOwner => {
                feed.remove(&object.key);
                drop(ledger);
                self.objects.board.remove(&object);
            }
            Observed::Own { wake, reapply } => {
                if !shown {
                    feed.put(&typed);
                }
                let loaded = ledger.owner().is_some();
                drop(ledger);
                // Before the first load it is unknown which objects are the agent's.
                if loaded {
                    self.objects.board.add(&object);
                }
                if wake {
                    self.objects.wake(&object);
                }
                if reapply {
                    self.apply_due.notify_one();
                }
            }
        }
        self.observed.send_modify(|count| *count += 1);
        object
    }

    /// Records that an object is deleted.
    pub fn forget<K: Custom>(&self, object: ObjectKey) {
        self.forget_those::<K>(|ledger| {
            Some(object).filter(|object| ledger.exists(object)).into_iter().collect()
        });
    }

    /// Records that objects are deleted: all that match.
    pub fn forget_all<K: Custom>(&self, is_gone: impl Fn(&ObjectKey) -> bool) {
        self.forget_those::<K>(|ledger| ledger.all().filter(|object| is_gone(object)).cloned().collect());
    }

    fn forget_those<K: Custom>(&self, gone: impl FnOnce(&Ledger) -> Vec<ObjectKey>) {
        let now = Instant::now();
        let mut ledger = self.ledger();
        let gone = gone(&ledger);
        for object in &gone {
            ledger.gone(object, now);
            K::feed(&self.objects).remove(&object.key);
        }
        drop(ledger);
        for object in &gone {
            self.objects.board.remove(object);
        }
        if !gone.is_empty() {
            self.objects.changed.notify_one();
            self.apply_due.notify_one();
            self.observed.send_modify(|count| *count += 1);
        }
    }

    /// Records that the list of a place is complete.
    pub fn listed(&self, place: &ObjectPlace, after_failure: bool) {
        let mut is_back = false;
        self.places.send_modify(|places| is_back = places.listed(place));
        if after_failure {
            tracing::info!(place = %place, "are watched again");
            let mut ledger = self.ledger();
            ledger.readable(place);
            // The outage that ended the watch may have failed applies too.
            ledger.retry_all(Instant::now());
            drop(ledger);
            self.apply_due.notify_one();
        }
        if is_back {
            self.wake_place(place);
            self.readable_again.notify_one();
        }
    }

    /// Records that a list or watch has failed.
    pub fn unlisted(&self, place: &ObjectPlace, failure: PlaceFailure) {
        let mut news = None;
        self.places.send_modify(|places| news = places.failed(place, failure, Instant::now()));
        if let Some(message) = news {
            self.ledger().unreadable(place, message);
            self.wake_place(place);
            self.show_absent();
        }
    }

    /// Wakes all objects of a place, so that their conditions state whether it can be read.
    fn wake_place(&self, place: &ObjectPlace) {
        let ledger = self.ledger();
        let is_loaded = ledger.owner().is_some();
        let objects: Vec<ObjectKey> =
            ledger.present().filter(|object| is_loaded && place.contains(object)).cloned().collect();
        drop(ledger);
        objects.iter().for_each(|object| self.objects.wake(object));
    }
}

/// Whether the store already has this version. The agent's own status is in the store before the watch returns it, and
/// an event from before that write is old. A list always counts: after a restore of its data, a server restarts from an
/// earlier version.
fn is_shown(shown: &ObjectMeta, observed: &ObjectMeta, listed: bool) -> bool {
    let [shown_version, observed_version] =
        [shown, observed].map(|metadata| version(metadata.resource_version.as_deref()));
    let is_old = !listed && shown_version > observed_version;
    shown.uid == observed.uid && (shown_version == observed_version || is_old)
}
