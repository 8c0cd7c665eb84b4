//! The board: how every object stands after its last pass. It is what `--once` waits for, what exit
//! codes and progress lines are made of, and it decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use tokio::sync::{broadcast, watch};

use super::{Note, Standing};
use crate::api::ObjectKey;

/// Notes a slow reader may lag behind before it misses some: they are for display only.
const NOTES_KEPT: usize = 256;

/// Standings of all objects, and a stream of their notes.
#[derive(Debug)]
pub struct Board {
    entries: Mutex<BTreeMap<ObjectKey, Entry>>,
    /// Bumped with every change, so that readers can wait for one.
    changed: watch::Sender<u64>,
    /// Bumped when objects go.
    members: watch::Sender<u64>,
    notes: broadcast::Sender<(ObjectKey, Note)>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    standing: Standing,
    /// Wake-ups so far: a pass that began before the last one does not settle the object.
    wakes: u64,
    /// Wake-ups when the running pass began. Passes of one object never overlap.
    begun: u64,
    /// A pass began and has not ended: a timer starts one without a wake-up.
    running: bool,
}

/// An object nobody has looked at yet.
const NEW: Entry = Entry { standing: Standing::Busy, wakes: 0, begun: 0, running: false };

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
    /// The objects there are now; those not known before are busy until their first pass.
    pub fn keep_only(&self, objects: &[ObjectKey]) {
        let kept: BTreeSet<&ObjectKey> = objects.iter().collect();
        self.change(|entries| {
            entries.retain(|key, _| kept.contains(key));
            for key in objects {
                entries.entry(key.clone()).or_insert(NEW);
            }
        });
        self.members.send_modify(|count| *count += 1);
    }

    /// There is this object, too: busy until its first pass.
    pub fn add(&self, object: &ObjectKey) {
        if !self.lock().contains_key(object) {
            self.change(|entries| {
                entries.entry(object.clone()).or_insert(NEW);
            });
        }
    }

    /// This object is gone.
    pub fn remove(&self, object: &ObjectKey) {
        self.change(|entries| {
            entries.remove(object);
        });
        self.members.send_modify(|count| *count += 1);
    }

    /// Wakes when objects have gone.
    pub fn members(&self) -> watch::Receiver<u64> {
        self.members.subscribe()
    }

    /// Something asks this object to look again.
    pub fn woken(&self, object: &ObjectKey) {
        self.change(|entries| {
            if let Some(entry) = entries.get_mut(object) {
                *entry = Entry { standing: Standing::Busy, wakes: entry.wakes + 1, ..*entry };
            }
        });
    }

    /// A pass begins.
    pub fn begin(&self, object: &ObjectKey) {
        if let Some(entry) = self.lock().get_mut(object) {
            (entry.begun, entry.running) = (entry.wakes, true);
        }
    }

    /// The pass has ended and found this.
    pub fn end(&self, object: &ObjectKey, standing: Standing) {
        self.change(|entries| {
            if let Some(entry) = entries.get_mut(object) {
                entry.running = false;
                if entry.wakes == entry.begun {
                    entry.standing = standing;
                }
            }
        });
    }

    /// Passes on words for people.
    pub fn tell(&self, object: &ObjectKey, note: &Note) {
        // Nobody listening is not a failure: the log has it too.
        let _ = self.notes.send((object.clone(), note.clone()));
    }

    pub fn listen(&self) -> broadcast::Receiver<(ObjectKey, Note)> {
        self.notes.subscribe()
    }

    /// Waits until no object is busy and no pass is running, and answers how all of them stand.
    pub async fn settled(&self) -> BTreeMap<ObjectKey, Standing> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            if let Some(standings) = self.unless_busy() {
                return standings;
            }
            if changed.changed().await.is_err() {
                return self.standings();
            }
        }
    }

    /// How all objects stand now.
    pub fn standings(&self) -> BTreeMap<ObjectKey, Standing> {
        standings(&self.lock())
    }

    /// The same, if none is busy: what is asked at every change must cost little.
    fn unless_busy(&self) -> Option<BTreeMap<ObjectKey, Standing>> {
        let entries = self.lock();
        let is_busy = entries.values().any(|entry| entry.standing == Standing::Busy || entry.running);
        (!is_busy).then(|| standings(&entries))
    }

    fn change(&self, f: impl FnOnce(&mut BTreeMap<ObjectKey, Entry>)) {
        f(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, Entry>> {
        self.entries.lock().expect("no code panics while it holds the board")
    }
}

fn standings(entries: &BTreeMap<ObjectKey, Entry>) -> BTreeMap<ObjectKey, Standing> {
    entries.iter().map(|(key, entry)| (key.clone(), entry.standing)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Key, Kind};

    fn object() -> ObjectKey {
        ObjectKey { kind: Kind::PackerBuilder, key: Key { namespace: "default".into(), name: "a".into() } }
    }

    #[test]
    fn a_wake_up_during_a_pass_keeps_the_object_busy() {
        let board = Board::default();
        board.keep_only(&[object()]);
        board.begin(&object());
        board.woken(&object());
        board.end(&object(), Standing::Settled);
        assert_eq!(board.standings()[&object()], Standing::Busy);
        board.begin(&object());
        board.end(&object(), Standing::Settled);
        assert_eq!(board.standings()[&object()], Standing::Settled);
    }

    #[test]
    fn a_pass_that_a_timer_began_is_waited_for() {
        let board = Board::default();
        board.keep_only(&[object()]);
        board.begin(&object());
        board.end(&object(), Standing::Failing);
        assert!(board.unless_busy().is_some());
        board.begin(&object());
        assert!(board.unless_busy().is_none(), "it may start something");
        board.end(&object(), Standing::Failing);
        assert!(board.unless_busy().is_some());
    }

    #[tokio::test]
    async fn settled_waits_for_the_last_busy_object() {
        let board = std::sync::Arc::new(Board::default());
        board.keep_only(&[object()]);
        let waiting = tokio::spawn({
            let board = board.clone();
            async move { board.settled().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        board.begin(&object());
        board.end(&object(), Standing::Stalled);
        let standings = waiting.await.expect("the board settles");
        assert_eq!(standings[&object()], Standing::Stalled);
    }
}
