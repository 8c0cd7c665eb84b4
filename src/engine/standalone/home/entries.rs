//! The objects in memory, indexed by what a load must look at besides the documents that differ. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::api::ObjectKey;
use crate::engine::Owned;
use crate::engine::standalone::entry::{Entry, Reference};
use crate::manifest::Documents;

/// All objects of a state directory.
#[derive(Default)]
pub(super) struct Entries {
    by_object: BTreeMap<ObjectKey, Arc<Entry>>,
    /// The documents that are loaded; `None` if no load was completed since the last one began.
    loaded: Option<Documents>,
    /// Objects that the loaded documents do not declare, and those that they declare and that are gone.
    unmatched: BTreeSet<ObjectKey>,
    /// Objects with requests.
    requested: BTreeSet<ObjectKey>,
    /// Objects that are not in sync with their document.
    out_of_sync: BTreeSet<ObjectKey>,
}

impl FromIterator<(ObjectKey, Arc<Entry>)> for Entries {
    fn from_iter<I: IntoIterator<Item = (ObjectKey, Arc<Entry>)>>(all: I) -> Self {
        let mut entries = Self::default();
        for (object, entry) in all {
            entries.insert(object, entry);
        }
        entries
    }
}

impl Entries {
    pub fn get(&self, object: &ObjectKey) -> Option<&Arc<Entry>> {
        self.by_object.get(object)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Entry>)> {
        self.by_object.iter()
    }

    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.by_object.keys()
    }

    /// Adds or replaces an object. Returns the one before.
    pub fn insert(&mut self, object: ObjectKey, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        note(&mut self.unmatched, &object, entry.reference != Reference::Declared);
        note(&mut self.requested, &object, entry.requested.is_some());
        note(&mut self.out_of_sync, &object, entry.out_of_sync().is_some());
        self.by_object.insert(object, entry)
    }

    pub fn remove(&mut self, object: &ObjectKey) {
        let is_declared = self.loaded.as_ref().is_some_and(|loaded| loaded.get(object).is_some());
        note(&mut self.unmatched, object, is_declared);
        note(&mut self.requested, object, false);
        note(&mut self.out_of_sync, object, false);
        self.by_object.remove(object);
    }

    /// Begins a load. Returns the objects that it can concern: those whose document differs, that are not as the loaded
    /// documents declare, or that have requests.
    pub fn begin_load(&mut self, documents: &Documents) -> BTreeSet<ObjectKey> {
        match self.loaded.take() {
            Some(loaded) => {
                let differing = loaded.differing(documents);
                differing.chain(&self.unmatched).chain(&self.requested).cloned().collect()
            }
            None => self.keys().chain(documents.iter().map(|document| &document.object)).cloned().collect(),
        }
    }

    /// Ends a load: all objects are as these documents declare.
    pub fn end_load(&mut self, documents: Documents) {
        self.loaded = Some(documents);
    }

    /// Lets the next load look at all objects.
    #[cfg(test)]
    pub fn forget_load(&mut self) {
        self.loaded = None;
    }

    /// Compares all objects with documents.
    pub fn compare(&self, documents: &Documents) -> Owned {
        let known = |object: &ObjectKey| Some((object.clone(), self.get(object)?.file.clone()));
        let is_undeclared = |object: &&ObjectKey| documents.get(object).is_none();
        let undeclared = match &self.loaded {
            Some(loaded) => loaded
                .differing(documents)
                .chain(&self.unmatched)
                .filter(is_undeclared)
                .filter_map(known)
                .collect(),
            None => self.keys().filter(is_undeclared).filter_map(known).collect(),
        };
        Owned { count: self.by_object.len(), undeclared }
    }

    pub fn requested(&self) -> impl Iterator<Item = &ObjectKey> {
        self.requested.iter()
    }

    /// Why objects are not in sync with their document: reason and message.
    pub fn out_of_sync(&self) -> impl Iterator<Item = (ObjectKey, (&'static str, String))> {
        let why = |object: &ObjectKey| Some((object.clone(), self.get(object)?.out_of_sync()?));
        self.out_of_sync.iter().filter_map(why)
    }
}

/// Adds a key to a set, or removes it.
fn note(set: &mut BTreeSet<ObjectKey>, object: &ObjectKey, belongs: bool) {
    if !belongs {
        set.remove(object);
    } else if !set.contains(object) {
        set.insert(object.clone());
    }
}
