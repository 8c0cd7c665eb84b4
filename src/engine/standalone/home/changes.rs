//! Changes of objects: written to the disk together, and only then shown in the stores and on the board.

use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::Shared;
use crate::api::lock::lock;
use crate::api::{Kind, ObjectKey};
use crate::engine::feed::Feed;
use crate::engine::standalone::disk;
use crate::engine::standalone::entry::{Decoded, Entry};

/// A change of one object.
pub(super) struct Change {
    pub object: ObjectKey,
    next: Entry,
    is_written: bool,
    is_shown: bool,
    /// Whether the object is to be reconciled.
    wakes: bool,
}

impl Change {
    /// The change from one entry to the next, after which the object is reconciled if it looks different.
    pub fn new(object: &ObjectKey, before: Option<&Entry>, next: Entry) -> Self {
        let is_written = !before.is_some_and(|before| before.is_stored_as(&next));
        let is_shown = !before.is_some_and(|before| before.is_shown_as(&next));
        Self { object: object.clone(), next, is_written, is_shown, wakes: is_shown }
    }

    /// The change, after which the object is reconciled in any case, or is not.
    pub fn wakes(self, wakes: bool) -> Self {
        Self { wakes, ..self }
    }

    /// Whether the object is reconciled after it.
    pub fn is_waking(&self) -> bool {
        self.wakes
    }

    fn content(&self) -> Vec<u8> {
        serde_json::to_vec(&self.next.stored()).expect("a state has only string keys and finite numbers")
    }
}

impl Shared {
    /// Makes changes durable. Returns a result for each of them, in the same order.
    pub(super) fn write(&self, changes: &[Change]) -> Vec<io::Result<()>> {
        let files: Vec<_> = changes.iter().filter(|change| change.is_written).collect();
        let files = files.into_iter().map(|change| (self.path(&change.object), change.content()));
        let mut results = disk::replace_all(files).into_iter();
        let result = |change: &Change| match change.is_written {
            true => results.next().expect("one result per file"),
            false => Ok(()),
        };
        changes.iter().map(result).collect()
    }

    /// Shows changes that are durable, and wakes their objects.
    pub(super) fn show(&self, changes: Vec<Change>) {
        let mut woken = Vec::new();
        for Change { object, next, is_shown, wakes, .. } in changes {
            let entry = if is_shown { self.show_one(&object, next) } else { Arc::new(next) };
            let is_usable = entry.is_usable();
            woken.extend((wakes && is_usable).then(|| object.clone()));
            let before = lock(&self.entries).insert(object.clone(), entry);
            match (before.is_some_and(|before| before.is_usable()), is_usable) {
                (false, true) => self.objects.board.add(&object),
                (true, false) => self.objects.board.remove(&object),
                _ => {}
            }
        }
        woken.iter().for_each(|object| self.objects.wake(object));
    }

    /// Updates an object in its store, or removes it there if it is not to be reconciled.
    fn show_one(&self, object: &ObjectKey, next: Entry) -> Arc<Entry> {
        let entry = match object.kind {
            Kind::PackerBuilder => put(&self.objects.builders, next),
            Kind::AMIRefresher => put(&self.objects.refreshers, next),
        };
        if let Some(why) = &entry.undecodable {
            tracing::error!(%object, "{why}");
        }
        if !entry.is_usable() {
            self.objects.remove(object);
        }
        entry
    }

    /// The objects that are reconciled.
    pub(super) fn usable(&self) -> Vec<ObjectKey> {
        let entries = lock(&self.entries);
        entries.iter().filter(|(_, entry)| entry.is_usable()).map(|(object, _)| object.clone()).collect()
    }
}

/// Puts an object into its store, if it is loaded and can be decoded.
fn put<K>(feed: &Feed<K>, mut next: Entry) -> Arc<Entry>
where
    K: Decoded + Serialize + Clone + 'static,
{
    next.undecodable = None;
    let decoded = next.is_loaded().then(|| next.decode::<K>());
    if let Some(Err(why)) = &decoded {
        next.undecodable = Some(why.clone());
    }
    let entry = Arc::new(next);
    if let Some(Ok(object)) = decoded {
        feed.put_as(&object, entry.clone());
    }
    entry
}
