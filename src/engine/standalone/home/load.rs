//! Loads commits and requests by difference: what is the same as before is neither written nor decoded nor reconciled.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::Shared;
use super::changes::Change;
use super::entries::Entries;
use crate::api::lock::lock;
use crate::api::{Kind, ObjectKey};
use crate::engine::standalone::entry::{Entry, Reference};
use crate::engine::standalone::requests::{self, Requested};
use crate::engine::{Load, Wakes};
use crate::manifest::Documents;

type Requests = BTreeMap<ObjectKey, Requested>;

impl Shared {
    /// Makes the documents of a commit the desired state. Objects to delete remain, marked as deleted, until their
    /// reconciler releases them. A refresher has nothing in progress and is removed at once.
    pub(super) fn load_commit(&self, commit: &Load) -> io::Result<()> {
        let _changing = lock(&self.changing);
        let concerned = lock(&self.entries).begin_load(&commit.documents);
        requests::prepare(
            &self.state,
            concerned.iter().filter(|object| commit.documents.get(object).is_some()),
        );
        let changes = self.changes(commit, concerned);
        self.write(&changes).into_iter().collect::<io::Result<()>>()?;
        for object in commit.remove.iter().filter(|object| object.kind == Kind::AMIRefresher) {
            self.forget(object)?;
        }
        let woken: BTreeSet<_> =
            changes.iter().filter(|change| change.is_waking()).map(|change| change.object.clone()).collect();
        self.show(changes);
        lock(&self.entries).end_load(commit.documents.clone());
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
            let requests = self.requests(&entries, &Documents::default());
            let concerned: BTreeSet<&ObjectKey> = requests.keys().chain(entries.requested()).collect();
            let change = |object: &ObjectKey| {
                let (entry, requested) = (entries.get(object)?, requests.get(object));
                let next = (entry.requested.as_ref() != requested).then(|| Entry::clone(entry))?;
                Some(Change::new(object, Some(entry), next.requested(requested.cloned())))
            };
            concerned.into_iter().filter_map(change).collect()
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

    /// What a commit changes. Of all objects, it can change those that it concerns and those with new requests.
    fn changes(&self, commit: &Load, mut concerned: BTreeSet<ObjectKey>) -> Vec<Change> {
        let entries = lock(&self.entries);
        let requests = self.requests(&entries, &commit.documents);
        concerned.extend(requests.keys().chain(&commit.remove).chain(&commit.retained).cloned());
        let removed: BTreeSet<&ObjectKey> = commit.remove.iter().collect();
        let retained: BTreeSet<&ObjectKey> = commit.retained.iter().collect();
        let next = |object: &ObjectKey, entry: Option<&Entry>| {
            let document = commit.documents.get(object).filter(|_| !self.unreadable.contains_key(object));
            let (Some(entry), None) = (entry, document) else {
                let document = document?;
                return Some(match entry {
                    Some(entry) => entry.declared(document),
                    None => Entry::new(document, (commit.seed)(object), (self.now)()),
                });
            };
            let reference = match (removed.contains(object), object.kind) {
                (true, Kind::PackerBuilder) => Reference::Deleted,
                (true, Kind::AMIRefresher) => return None,
                (false, _) if retained.contains(object) => Reference::Retained,
                (false, _) => Reference::None,
            };
            Some(entry.undeclared(object, reference, (self.now)()))
        };
        let change = |object: &ObjectKey| {
            let before = entries.get(object).map(|entry| &**entry);
            let next = next(object, before)?.requested(requests.get(object).cloned());
            (before != Some(&next)).then(|| Change::new(object, before, next))
        };
        concerned.iter().filter_map(change).collect()
    }

    /// The requests for all objects, including those of new documents. Those that cannot be read are logged once.
    fn requests(&self, entries: &Entries, documents: &Documents) -> Requests {
        let exists = |object: &ObjectKey| entries.get(object).is_some() || documents.get(object).is_some();
        let all = || {
            let new = documents.iter().map(|document| &document.object);
            entries.keys().chain(new.filter(|object| entries.get(object).is_none()))
        };
        let requests = match requests::list(&self.state, exists, all) {
            Some(requested) => requests::read(&self.state, requested.iter()),
            None => requests::read(&self.state, all()),
        };
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
