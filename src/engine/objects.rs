//! The objects there are: what the loop reads and publishing renders. Each engine writes them in its own
//! way, from a state directory or from a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use super::board::Board;
use super::feed::{Feed, Queue};
use crate::api::{AMIRefresher, Key, Kind, ObjectKey, PackerBuilder, Undeclared};

/// Reason and words by object.
pub type Kept = BTreeMap<ObjectKey, (&'static str, String)>;

/// Both kinds, how they stand, and a bell.
pub struct Objects {
    pub builders: Feed<PackerBuilder>,
    pub refreshers: Feed<AMIRefresher>,
    pub board: Arc<Board>,
    /// A status changed: there may be something to publish.
    pub changed: Notify,
    /// Objects that Git no longer has, or not in a form that can be read, and why they stay.
    kept: Mutex<Kept>,
    /// Of those: why they have no document. They start nothing new.
    undeclared: Mutex<BTreeMap<ObjectKey, Undeclared>>,
    /// Secrets of the agent's own notifications, also those of earlier commits.
    withheld: Mutex<BTreeSet<Key>>,
    /// The last version of an object that a write of ours, beside its status, made of another.
    moved: Mutex<BTreeMap<ObjectKey, (String, String)>>,
}

/// The reading ends, for `drive`.
pub struct Queues {
    pub builders: Queue<PackerBuilder>,
    pub refreshers: Queue<AMIRefresher>,
}

impl Objects {
    pub fn new() -> (Arc<Self>, Queues) {
        let (builders, builder_queue) = Feed::new();
        let (refreshers, refresher_queue) = Feed::new();
        let objects = Self {
            builders,
            refreshers,
            board: Arc::default(),
            changed: Notify::new(),
            kept: Mutex::default(),
            undeclared: Mutex::default(),
            withheld: Mutex::default(),
            moved: Mutex::default(),
        };
        (Arc::new(objects), Queues { builders: builder_queue, refreshers: refresher_queue })
    }

    /// These stay although they are not as Git says: reason and words of `Applied=False`.
    pub fn keep(&self, kept: Kept) {
        *self.lock_kept() = kept;
    }

    /// Why an object stays, where that needs to be said.
    pub fn kept(&self, object: &ObjectKey) -> Option<(&'static str, String)> {
        self.lock_kept().get(object).cloned()
    }

    /// These stay although no document declares them.
    pub fn set_undeclared(&self, objects: BTreeMap<ObjectKey, Undeclared>) {
        *self.lock_undeclared() = objects;
    }

    /// Why an object that stays has no document, if it has none.
    pub fn undeclared(&self, object: &ObjectKey) -> Option<Undeclared> {
        self.lock_undeclared().get(object).cloned()
    }

    /// The agent uses these Secrets: from now on no build is given one.
    pub fn withhold(&self, secrets: impl IntoIterator<Item = Key>) {
        self.lock_withheld().extend(secrets);
    }

    /// Secrets that the agent uses, or did.
    pub fn withheld(&self) -> BTreeSet<Key> {
        self.lock_withheld().clone()
    }

    fn lock_withheld(&self) -> MutexGuard<'_, BTreeSet<Key>> {
        self.withheld.lock().expect("no code panics while it holds these names")
    }

    fn lock_undeclared(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Undeclared>> {
        self.undeclared.lock().expect("no code panics while it holds the undeclared objects")
    }

    fn lock_kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no code panics while it holds what is kept")
    }

    /// A write of ours that says nothing new to a pass made version `to` of `from`.
    pub fn moved(&self, object: &ObjectKey, from: String, to: String) {
        self.moves().insert(object.clone(), (from, to));
    }

    /// The version to write a status to, for a pass that looked at `seen`: a pass does not grow stale by
    /// what it does itself.
    pub fn version_now(&self, object: &ObjectKey, seen: String) -> String {
        match self.moves().remove(object) {
            Some((from, to)) if from == seen => to,
            _ => seen,
        }
    }

    fn moves(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, (String, String)>> {
        self.moved.lock().expect("no code panics while it holds the versions")
    }

    /// Is it there?
    pub fn has(&self, object: &ObjectKey) -> bool {
        match object.kind {
            Kind::PackerBuilder => self.builders.has(&object.key),
            Kind::AMIRefresher => self.refreshers.has(&object.key),
        }
    }

    /// Wakes one object.
    pub fn wake(&self, object: &ObjectKey) {
        self.board.woken(object);
        match object.kind {
            Kind::PackerBuilder => self.builders.wake(&object.key),
            Kind::AMIRefresher => self.refreshers.wake(&object.key),
        }
    }

    /// Wakes all objects of a kind.
    pub fn wake_all(&self, kind: Kind) {
        for object in self.board.standings().into_keys().filter(|object| object.kind == kind) {
            self.wake(&object);
        }
    }

    /// Takes one object out.
    pub fn remove(&self, object: &ObjectKey) {
        match object.kind {
            Kind::PackerBuilder => self.builders.remove(&object.key),
            Kind::AMIRefresher => self.refreshers.remove(&object.key),
        }
    }

    /// Ends both queues: running passes finish, nothing new starts.
    pub fn close(&self) {
        self.builders.close();
        self.refreshers.close();
    }
}
