//! The health of every object after its last reconcile, for `--once`, exit codes and the terminal. The board decides
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use tokio::sync::{broadcast, watch};

use super::pass::{Note, ObjectHealth};
use crate::api::ObjectKey;
use crate::api::lock::lock;

/// Notes that a slow reader may lag behind before it misses some. They are for display only.
const NOTES_KEPT: usize = 256;

/// The health of all objects, and a stream of their notes.
#[derive(Debug)]
pub struct Board {
    entries: Mutex<Entries>,
    /// Incremented on every change after which nothing is in progress.
    changed: watch::Sender<u64>,
    /// Incremented when objects are removed.
    members: watch::Sender<u64>,
    notes: broadcast::Sender<(ObjectKey, Note)>,
}

#[derive(Clone, Copy, Debug)]
struct BoardEntry {
    health: ObjectHealth,
    /// Wakeups so far. A reconcile that began before the last one does not settle the object.
    wakes: u64,
    /// Wakeups when the running reconcile began. Reconciles of one object never overlap.
    begun: u64,
    /// Whether a reconcile is running. A requeue starts one without a wakeup, so the counters do not show it.
    running: bool,
}

/// The entries, and how many of them are not settled: with ten thousand objects, counting at every change would be most
/// of the work.
#[derive(Debug, Default)]
struct Entries {
    by_object: BTreeMap<ObjectKey, BoardEntry>,
    unsettled: usize,
}

impl Entries {
    /// Changes an entry, if there is one.
    fn update(&mut self, object: &ObjectKey, change: impl FnOnce(&mut BoardEntry)) {
        let Some(entry) = self.by_object.get_mut(object) else { return };
        let before = usize::from(entry.is_unsettled());
        change(entry);
        self.unsettled = self.unsettled - before + usize::from(entry.is_unsettled());
    }

    fn add(&mut self, object: &ObjectKey) {
        if !self.by_object.contains_key(object) {
            self.by_object.insert(object.clone(), NEW);
            self.unsettled += 1;
        }
    }

    fn remove(&mut self, object: &ObjectKey) {
        let removed = self.by_object.remove(object);
        self.unsettled -= usize::from(removed.is_some_and(|entry| entry.is_unsettled()));
    }

    /// Returns whether any entry was removed.
    fn retain(&mut self, keep: impl Fn(&ObjectKey) -> bool) -> bool {
        let before = self.by_object.len();
        self.by_object.retain(|object, _| keep(object));
        self.unsettled = self.by_object.values().filter(|entry| entry.is_unsettled()).count();
        self.by_object.len() < before
    }
}

impl BoardEntry {
    fn is_unsettled(&self) -> bool {
        self.health == ObjectHealth::Busy || self.running
    }
}

/// An object that was never reconciled.
const NEW: BoardEntry = BoardEntry { health: ObjectHealth::Busy, wakes: 0, begun: 0, running: false };

impl Default for Board {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
            changed: watch::channel(0).0,
            members: watch::channel(0).0,
            notes: broadcast::channel(NOTES_KEPT).0,
        }
    }
}

impl Board {
    /// Replaces the set of objects. New ones are busy until their first reconcile.
    pub fn replace(&self, objects: &[ObjectKey]) {
        let kept: BTreeSet<&ObjectKey> = objects.iter().collect();
        let mut is_any_removed = false;
        self.change(|entries| {
            is_any_removed = entries.retain(|key| kept.contains(key));
            objects.iter().for_each(|key| entries.add(key));
        });
        if is_any_removed {
            self.members.send_modify(|count| *count += 1);
        }
    }

    /// Adds an object, busy until its first reconcile.
    pub fn add(&self, object: &ObjectKey) {
        if !self.lock().by_object.contains_key(object) {
            self.change(|entries| entries.add(object));
        }
    }

    pub fn remove(&self, object: &ObjectKey) {
        if self.lock().by_object.contains_key(object) {
            self.change(|entries| entries.remove(object));
            self.members.send_modify(|count| *count += 1);
        }
    }

    /// A channel that changes when objects are removed.
    pub fn members(&self) -> watch::Receiver<u64> {
        self.members.subscribe()
    }

    /// The object was enqueued.
    pub fn enqueued(&self, object: &ObjectKey) {
        self.change(|entries| {
            entries.update(object, |entry| {
                *entry = BoardEntry { health: ObjectHealth::Busy, wakes: entry.wakes + 1, ..*entry };
            });
        });
    }

    /// A reconcile begins.
    pub fn begin(&self, object: &ObjectKey) {
        self.lock().update(object, |entry| (entry.begun, entry.running) = (entry.wakes, true));
    }

    /// The reconcile ended with this result.
    pub fn end(&self, object: &ObjectKey, health: ObjectHealth) {
        self.change(|entries| {
            entries.update(object, |entry| {
                entry.running = false;
                // After a wakeup another reconcile is due, and its result counts.
                if entry.wakes == entry.begun {
                    entry.health = health;
                }
            });
        });
    }

    /// Passes a note to those who listen.
    pub fn publish(&self, object: &ObjectKey, note: &Note) {
        // Without listeners nothing is lost: the note is logged too.
        let _ = self.notes.send((object.clone(), note.clone()));
    }

    pub fn listen(&self) -> broadcast::Receiver<(ObjectKey, Note)> {
        self.notes.subscribe()
    }

    /// Waits until no object is busy and no reconcile is running. Returns the health of all objects.
    pub async fn settled(&self) -> BTreeMap<ObjectKey, ObjectHealth> {
        self.when_settled(health).await
    }

    /// Waits for the same.
    pub async fn wait_until_settled(&self) {
        self.when_settled(|_| ()).await;
    }

    async fn when_settled<T>(&self, read: impl Fn(&Entries) -> T) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(settled) = self.read_if_settled(&read) {
                return settled;
            }
            if changed.changed().await.is_err() {
                return read(&self.lock());
            }
        }
    }

    /// The current health of all objects.
    pub fn health(&self) -> BTreeMap<ObjectKey, ObjectHealth> {
        health(&self.lock())
    }

    /// Reads the entries, but only if no object is busy.
    fn read_if_settled<T>(&self, read: impl Fn(&Entries) -> T) -> Option<T> {
        let entries = self.lock();
        (entries.unsettled == 0).then(|| read(&entries))
    }

    #[cfg(test)]
    fn is_settled(&self) -> bool {
        self.read_if_settled(|_| ()).is_some()
    }

    /// Changes the entries. Only if nothing is in progress after that, those who wait are woken: with ten thousand objects,
    /// to wake them at every change would be a tenth of the work.
    fn change(&self, f: impl FnOnce(&mut Entries)) {
        let is_settled = {
            let mut entries = self.lock();
            f(&mut entries);
            entries.unsettled == 0
        };
        if is_settled {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Entries> {
        lock(&self.entries)
    }
}

fn health(entries: &Entries) -> BTreeMap<ObjectKey, ObjectHealth> {
    entries.by_object.iter().map(|(key, entry)| (key.clone(), entry.health)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Kind};

    fn object() -> ObjectKey {
        named("a")
    }

    fn named(name: &str) -> ObjectKey {
        ObjectKey { kind: Kind::PackerBuilder, key: Key { namespace: "default".into(), name: name.into() } }
    }

    #[test]
    fn an_object_that_goes_is_not_waited_for() {
        let board = Board::default();
        board.replace(&[named("a"), named("b")]);
        board.begin(&named("a"));
        board.remove(&named("a"));
        assert!(!board.is_settled(), "b was never reconciled");
        board.end(&named("a"), ObjectHealth::Settled);
        board.add(&named("b"));
        board.begin(&named("b"));
        board.end(&named("b"), ObjectHealth::Waiting);
        assert!(board.is_settled() && board.health().len() == 1);
        board.add(&named("c"));
        assert!(!board.is_settled());
        board.replace(&[named("b")]);
        assert!(board.is_settled());
    }

    #[test]
    fn a_wakeup_during_a_reconcile_keeps_the_object_busy() {
        let board = Board::default();
        board.replace(&[object()]);
        board.begin(&object());
        board.enqueued(&object());
        board.end(&object(), ObjectHealth::Settled);
        assert_eq!(board.health()[&object()], ObjectHealth::Busy);
        board.begin(&object());
        board.end(&object(), ObjectHealth::Settled);
        assert_eq!(board.health()[&object()], ObjectHealth::Settled);
    }

    #[test]
    fn a_reconcile_that_a_requeue_began_is_waited_for() {
        let board = Board::default();
        board.replace(&[object()]);
        board.begin(&object());
        board.end(&object(), ObjectHealth::Failing);
        assert!(board.is_settled());
        board.begin(&object());
        assert!(!board.is_settled(), "it may start something");
        board.end(&object(), ObjectHealth::Failing);
        assert!(board.is_settled());
    }

    #[test]
    fn those_who_wait_are_woken_once_however_many_objects_settle() {
        let board = Board::default();
        let objects: Vec<ObjectKey> = (0..100).map(|number| named(&number.to_string())).collect();
        board.replace(&objects);
        let before = *board.changed.borrow();
        for object in &objects {
            board.enqueued(object);
            board.begin(object);
            board.end(object, ObjectHealth::Settled);
        }
        assert_eq!(*board.changed.borrow(), before + 1);
    }

    #[tokio::test]
    async fn settled_waits_for_the_last_busy_object() {
        let board = std::sync::Arc::new(Board::default());
        board.replace(&[object()]);
        let waiting = tokio::spawn({
            let board = board.clone();
            async move { board.settled().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        board.begin(&object());
        board.end(&object(), ObjectHealth::Stalled);
        let health = waiting.await.expect("the board settles");
        assert_eq!(health[&object()], ObjectHealth::Stalled);
    }
}
