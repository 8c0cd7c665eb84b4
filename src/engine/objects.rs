//! All objects of an engine: what the loop reconciles and what publishing renders. Each engine writes them in its own
//! way, from the state directory or from watches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use super::board::Board;
use super::feed::{Feed, Queue};
use super::writes::Writes;
use crate::api::lock::lock;
use crate::api::{AMIRefresher, Key, Kind, ObjectKey, PackerBuilder, Undeclared};

/// Reason and message of `Applied=False` per object.
pub type Retained = BTreeMap<ObjectKey, (&'static str, String)>;

/// The stores of both kinds, and what else the agent knows about their objects.
pub struct Objects {
    pub builders: Feed<PackerBuilder>,
    pub refreshers: Feed<AMIRefresher>,
    /// What was written to both stores.
    pub writes: Arc<Writes>,
    pub board: Arc<Board>,
    /// Notified when a status changed: there may be something to publish.
    pub changed: Notify,
    /// Objects that are retained although the synced commit has no readable document of them, and why.
    retained: Mutex<Retained>,
    /// Why each of those has no document. They start nothing new.
    undeclared: Mutex<BTreeMap<ObjectKey, Undeclared>>,
    /// Secrets that the agent uses for its own notifications, including those of earlier commits.
    withheld: Mutex<BTreeSet<Key>>,
    /// Per object, the resourceVersions before and after the last write of the agent's own to anything but the status.
    own_writes: Mutex<BTreeMap<ObjectKey, (String, String)>>,
}

/// The queues of both kinds, for `drive`.
pub struct Queues {
    pub builders: Queue<PackerBuilder>,
    pub refreshers: Queue<AMIRefresher>,
}

impl Objects {
    pub fn new() -> (Arc<Self>, Queues) {
        let writes = Arc::<Writes>::default();
        let (builders, builder_queue) = Feed::new(Kind::PackerBuilder, writes.clone());
        let (refreshers, refresher_queue) = Feed::new(Kind::AMIRefresher, writes.clone());
        let objects = Self {
            builders,
            refreshers,
            writes,
            board: Arc::default(),
            changed: Notify::new(),
            retained: Mutex::default(),
            undeclared: Mutex::default(),
            withheld: Mutex::default(),
            own_writes: Mutex::default(),
        };
        (Arc::new(objects), Queues { builders: builder_queue, refreshers: refresher_queue })
    }

    /// Replaces the set of objects that are retained without a document. Returns those whose entry differs.
    pub fn retain(&self, retained: Retained) -> BTreeSet<ObjectKey> {
        replace(&self.retained, retained)
    }

    /// Reason and message for an object that is retained without a document.
    pub fn retained(&self, object: &ObjectKey) -> Option<(&'static str, String)> {
        lock(&self.retained).get(object).cloned()
    }

    /// Replaces the set of objects that no document declares. Returns those whose entry differs.
    pub fn set_undeclared(&self, objects: BTreeMap<ObjectKey, Undeclared>) -> BTreeSet<ObjectKey> {
        replace(&self.undeclared, objects)
    }

    /// Why a retained object has no document, if it has none.
    pub fn undeclared(&self, object: &ObjectKey) -> Option<Undeclared> {
        lock(&self.undeclared).get(object).cloned()
    }

    /// Adds Secrets that the agent uses itself. From now on no build receives one of them.
    pub fn withhold(&self, secrets: impl IntoIterator<Item = Key>) {
        lock(&self.withheld).extend(secrets);
    }

    /// Secrets that the agent uses or has used.
    pub fn withheld(&self) -> BTreeSet<Key> {
        lock(&self.withheld).clone()
    }

    /// Records that a write of the agent's own changed the resourceVersion. No reconcile needs to observe the change.
    pub fn record_own_write(&self, object: &ObjectKey, from: String, to: String) {
        lock(&self.own_writes).insert(object.clone(), (from, to));
    }

    /// The resourceVersion to write a status to, for a reconcile that observed the version `observed`. A reconcile must
    /// not become stale by its own writes.
    pub fn version_after_own_write(&self, object: &ObjectKey, observed: String) -> String {
        match lock(&self.own_writes).remove(object) {
            Some((from, to)) if from == observed => to,
            _ => observed,
        }
    }

    pub fn has(&self, object: &ObjectKey) -> bool {
        match object.kind {
            Kind::PackerBuilder => self.builders.has(&object.key),
            Kind::AMIRefresher => self.refreshers.has(&object.key),
        }
    }

    /// Enqueues one object.
    pub fn wake(&self, object: &ObjectKey) {
        self.board.enqueued(object);
        match object.kind {
            Kind::PackerBuilder => self.builders.wake(&object.key),
            Kind::AMIRefresher => self.refreshers.wake(&object.key),
        }
    }

    /// Enqueues all objects of a kind.
    pub fn wake_all(&self, kind: Kind) {
        for object in self.board.health().into_keys().filter(|object| object.kind == kind) {
            self.wake(&object);
        }
    }

    /// Removes one object from its store.
    pub fn remove(&self, object: &ObjectKey) {
        match object.kind {
            Kind::PackerBuilder => self.builders.remove(&object.key),
            Kind::AMIRefresher => self.refreshers.remove(&object.key),
        }
    }

    /// Ends both queues: running reconciles finish, nothing new starts.
    pub fn close(&self) {
        self.builders.close();
        self.refreshers.close();
    }
}

/// Replaces a map. Returns the keys whose value differs.
fn replace<T: PartialEq>(
    map: &Mutex<BTreeMap<ObjectKey, T>>,
    new: BTreeMap<ObjectKey, T>,
) -> BTreeSet<ObjectKey> {
    let mut map = lock(map);
    let old = std::mem::replace(&mut *map, new);
    let differs = |object: &&ObjectKey| old.get(*object) != map.get(*object);
    old.keys().chain(map.keys()).filter(differs).cloned().collect()
}
