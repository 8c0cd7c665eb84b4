//! Loads commits and requests by difference: what is the same as before is neither written nor decoded nor reconciled.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::Shared;
use super::changes::Change;
use crate::api::lock::lock;
use crate::api::{Kind, ObjectKey};
use crate::engine::standalone::entry::{Entry, Reference};
use crate::engine::standalone::requests::{self, Requested};
use crate::engine::{Load, Wakes};
use crate::manifest::Document;

type Entries = BTreeMap<ObjectKey, Arc<Entry>>;
type Requests = BTreeMap<ObjectKey, Requested>;

impl Shared {
    /// Makes the documents of a commit the desired state. Objects to delete remain, marked as deleted, until their
    /// reconciler releases them. A refresher has nothing in progress and is removed at once.
    pub(super) fn load_commit(&self, commit: &Load) -> io::Result<()> {
        let _changing = lock(&self.changing);
        requests::prepare(&self.state, commit.documents.iter().map(|document| &document.object));
        let changes = self.changes(commit);
        self.write(&changes).into_iter().collect::<io::Result<()>>()?;
        for object in commit.remove.iter().filter(|object| object.kind == Kind::AMIRefresher) {
            self.forget(object)?;
        }
        let woken: BTreeSet<_> =
            changes.iter().filter(|change| change.is_waking()).map(|change| change.object.clone()).collect();
        self.show(changes);
        let others = self.usable_of(&commit.wake);
        others.iter().filter(|object| !woken.contains(object)).for_each(|object| self.objects.wake(object));
        self.objects.changed.notify_one();
        Ok(())
    }

    /// Reads the requests that people made by command, and wakes the objects whose requests have changed.
    pub(super) fn read_requests(&self) {
        let _changing = lock(&self.changing);
        let changes: Vec<Change> = {
            let entries = lock(&self.entries);
            let requests = self.requests(&entries, &[]);
            let requested = |object: &ObjectKey, entry: &Entry| {
                let requested = requests.get(object);
                let changed = (entry.requested.as_ref() != requested).then(|| Entry::clone(entry));
                changed.map(|entry| entry.requested(requested.cloned()))
            };
            let change = |(object, entry): (&ObjectKey, &Arc<Entry>)| {
                Some(Change::new(object, Some(entry), requested(object, entry)?))
            };
            entries.iter().filter_map(change).collect()
        };
        let results = self.write(&changes);
        let mut written = Vec::new();
        for (change, result) in changes.into_iter().zip(results) {
            match result {
                Ok(()) => written.push(change),
                Err(error) => {
                    tracing::error!(object = %change.object, %error, "the request of a command cannot be applied");
                }
            }
        }
        self.show(written);
    }

    /// What a commit changes.
    fn changes(&self, commit: &Load) -> Vec<Change> {
        let entries = lock(&self.entries);
        let is_readable = |document: &&Document| !self.unreadable.contains_key(&document.object);
        let documents: Vec<_> = commit.documents.iter().filter(is_readable).collect();
        let requests = self.requests(&entries, &documents);
        let mut changes =
            Changes { entries: &entries, requests, left: entries.keys().collect(), all: Vec::new() };
        for document in documents {
            changes.declare(document, || Entry::new(document, (commit.seed)(&document.object), (self.now)()));
        }
        for object in &commit.remove {
            match object.kind {
                Kind::PackerBuilder => {
                    changes.refer(object, |it| it.undeclared(object, Reference::Deleted, (self.now)()))
                }
                Kind::AMIRefresher => {
                    changes.left.remove(object);
                }
            }
        }
        for object in &commit.retained {
            changes.refer(object, |it| it.undeclared(object, Reference::Retained, (self.now)()));
        }
        for object in std::mem::take(&mut changes.left) {
            changes.add(object, &entries[object], |it| it.undeclared(object, Reference::None, (self.now)()));
        }
        changes.all
    }

    /// The requests for all objects, including those of new documents. Those that cannot be read are logged once.
    fn requests(&self, entries: &Entries, documents: &[&Document]) -> Requests {
        let new =
            documents.iter().map(|document| &document.object).filter(|object| !entries.contains_key(object));
        let requests = requests::read(&self.state, entries.keys().chain(new));
        for (object, requested) in &requests {
            let known = entries.get(object).and_then(|entry| entry.requested.as_ref());
            if let (Requested::Unreadable(why), true) = (requested, known != Some(requested)) {
                tracing::error!(state = %self.state.display(), "{why}");
            }
        }
        requests
    }

    /// Those of these objects that are reconciled.
    pub(super) fn usable_of(&self, objects: &Wakes) -> Vec<ObjectKey> {
        let Wakes::Only(objects) = objects else { return self.usable() };
        let entries = lock(&self.entries);
        let is_usable = |object: &&ObjectKey| entries.get(object).is_some_and(|entry| entry.is_usable());
        objects.iter().filter(is_usable).cloned().collect()
    }
}

/// The changes of a commit, as they are collected.
struct Changes<'a> {
    entries: &'a Entries,
    requests: Requests,
    /// Objects that the commit has not referred to so far.
    left: BTreeSet<&'a ObjectKey>,
    all: Vec<Change>,
}

impl<'a> Changes<'a> {
    fn declare(&mut self, document: &Document, new: impl FnOnce() -> Entry) {
        match self.entries.get(&document.object) {
            Some(_) => self.refer(&document.object, |entry| entry.declared(document)),
            None => {
                let next = new().requested(self.requests.get(&document.object).cloned());
                self.all.push(Change::new(&document.object, None, next));
            }
        }
    }

    /// Adds the change of an object that exists, unless the commit has referred to it before.
    fn refer(&mut self, object: &ObjectKey, next: impl FnOnce(&Entry) -> Entry) {
        if self.left.remove(object)
            && let Some(entry) = self.entries.get(object)
        {
            self.add(object, entry, next);
        }
    }

    /// Adds the change of an object, if anything about it changes.
    fn add(&mut self, object: &ObjectKey, entry: &'a Entry, next: impl FnOnce(&Entry) -> Entry) {
        let next = next(entry).requested(self.requests.get(object).cloned());
        if next != *entry {
            self.all.push(Change::new(object, Some(entry), next));
        }
    }
}
