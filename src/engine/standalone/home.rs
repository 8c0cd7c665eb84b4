//! `StateHome`: the objects of one machine, which are the manifests of the synced commit with the status in the state
//! directory. `contract` implements the traits of `engine::home` for it.
//!
//! A change is on disk before the store shows it, so that a reconcile never reads what a crash would lose.

mod contract;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use serde_json::Value;

use super::decoded::{Known, decoded, load_kind};
pub use super::object::Stored;
use super::object::{object, rebuilt};
use super::requests::{self, Requested};
use super::secrets::Secrets;
pub use super::stored::{StoredObjects, read_all, read_one};
use super::{disk, files, memory_file, objects_dir};
use crate::api::files::file_stem;
use crate::api::lock::lock;
use crate::api::{Kind, ObjectKey};
use crate::engine::objects::Objects;
use crate::engine::{EngineError, Load, Seed, StatusUpdate};
use crate::manifest::{Document, DocumentText};

/// Objects and status of one state directory.
pub struct StateHome {
    /// The state directory.
    state: PathBuf,
    /// The directory of the objects' state.
    dir: PathBuf,
    /// The file of the agent's memory.
    memory: PathBuf,
    objects: Arc<Objects>,
    stored: Mutex<BTreeMap<ObjectKey, Stored>>,
    /// Objects whose state could not be read at the start, and why.
    unreadable: BTreeMap<ObjectKey, String>,
    /// Objects that cannot be decoded, and why.
    undecodable: Mutex<BTreeMap<ObjectKey, String>>,
    documents: Mutex<BTreeMap<ObjectKey, DocumentText>>,
    /// Annotations that people set by command.
    requested: Mutex<BTreeMap<ObjectKey, Requested>>,
    /// Serializes changes of objects, because disk, memory and store change together.
    changing: Mutex<()>,
    secrets: Secrets,
    now: fn() -> Timestamp,
}

impl StateHome {
    /// Reads the state directory.
    pub fn open(
        state: &Path,
        objects: Arc<Objects>,
        secrets: Secrets,
        now: fn() -> Timestamp,
    ) -> io::Result<Self> {
        let dir = objects_dir(state);
        let StoredObjects { objects: stored, unreadable } = read_all(&dir)?;
        for why in unreadable.values() {
            tracing::error!(state = %state.display(), "{why}");
        }
        Ok(Self {
            state: state.to_owned(),
            dir,
            memory: memory_file(state),
            objects,
            stored: Mutex::new(stored),
            unreadable,
            undecodable: Mutex::default(),
            documents: Mutex::default(),
            requested: Mutex::default(),
            changing: Mutex::default(),
            secrets,
            now,
        })
    }

    /// Makes the documents of a commit the desired state. Objects to delete remain, marked as deleted, until their
    /// reconciler releases them. A refresher has nothing in progress and is removed at once.
    fn load_commit(&self, commit: &Load) -> io::Result<()> {
        let _changing = lock(&self.changing);
        let mut next: BTreeMap<ObjectKey, DocumentText> = BTreeMap::new();
        for document in commit.documents.iter().filter(|it| !self.unreadable.contains_key(&it.object)) {
            self.record(document, &commit.seed)?;
            next.insert(document.object.clone(), document.json.clone());
        }
        self.refresh_requests();
        for object in commit.remove.iter().filter(|object| object.kind == Kind::AMIRefresher) {
            self.forget(object)?;
        }
        for (objects, deleted) in [(&commit.retained, None), (&commit.remove, Some((self.now)()))] {
            for object in objects {
                if let Some(stored) = self.lock_stored().get(object) {
                    next.insert(object.clone(), DocumentText::from(&rebuilt(object, stored, deleted)));
                }
            }
        }
        *lock(&self.documents) = next.clone();
        self.fill_stores(&next);
        Ok(())
    }

    /// Replaces the objects in the stores and on the board, and wakes all of them.
    fn fill_stores(&self, documents: &BTreeMap<ObjectKey, DocumentText>) {
        let Objects { builders, refreshers, board, changed, .. } = &*self.objects;
        let (stored, requested) = (self.lock_stored().clone(), self.lock_requested().clone());
        let known = Known { stored: &stored, requested: &requested };
        let (of_builders, mut undecodable) = decoded(Kind::PackerBuilder, documents, &known);
        let (of_refreshers, others) = decoded(Kind::AMIRefresher, documents, &known);
        undecodable.extend(others);
        for (object, why) in &undecodable {
            tracing::error!(%object, "{why}");
        }
        let usable =
            of_builders.iter().map(|(name, _)| name).chain(of_refreshers.iter().map(|(name, _)| name));
        board.replace(&usable.cloned().collect::<Vec<_>>());
        *lock(&self.undecodable) = undecodable;
        load_kind(builders, of_builders, board);
        load_kind(refreshers, of_refreshers, board);
        changed.notify_one();
    }

    /// Reads the requests that people made by command, and wakes the objects whose requests have changed.
    pub fn read_requests(&self) {
        let _changing = lock(&self.changing);
        let (before, now) = self.refresh_requests();
        let changed =
            before.keys().chain(now.keys()).filter(|object| before.get(*object) != now.get(*object));
        for object in changed.collect::<BTreeSet<_>>() {
            let Some(stored) = self.lock_stored().get(object).cloned() else { continue };
            // A new version makes a running reconcile stale: it has not seen the request.
            let next = Stored { version: stored.version + 1, ..stored };
            if let Err(error) = self.store(object, next.clone()) {
                tracing::error!(%object, %error, "the request of a command cannot be applied");
                continue;
            }
            if self.show(object, &next) {
                self.objects.wake(object);
            }
        }
    }

    /// Reads the requests of all objects. Returns those known before and those known now.
    fn refresh_requests(&self) -> (BTreeMap<ObjectKey, Requested>, BTreeMap<ObjectKey, Requested>) {
        let now = requests::read(&self.state, self.lock_stored().keys());
        let before = std::mem::replace(&mut *self.lock_requested(), now.clone());
        for (object, requested) in &now {
            if let (Requested::Unreadable(why), true) = (requested, before.get(object) != Some(requested)) {
                tracing::error!(state = %self.state.display(), "{why}");
            }
        }
        (before, now)
    }

    /// Updates an object in its store, if it has a document. Returns whether it is in the store.
    fn show(&self, name: &ObjectKey, stored: &Stored) -> bool {
        let documents = lock(&self.documents);
        let Some(document) = documents.get(name) else { return false };
        let requested = self.lock_requested().get(name).cloned();
        let shown = match name.kind {
            Kind::PackerBuilder => {
                object(document, stored, requested.as_ref()).map(|it| self.objects.builders.put(&it))
            }
            Kind::AMIRefresher => {
                object(document, stored, requested.as_ref()).map(|it| self.objects.refreshers.put(&it))
            }
        };
        shown.is_ok()
    }

    /// Stores spec, annotations and file of a document, with a new generation and version where an API server would set
    /// them.
    fn record(&self, document: &Document, seed: &Seed) -> io::Result<()> {
        let mut json = document.json.value();
        let (spec, annotations) = (json["spec"].take(), json["metadata"]["annotations"].take());
        let known = self.lock_stored().get(&document.object).cloned();
        let file = Some(document.file.clone());
        let is_moved = known.as_ref().is_some_and(|stored| stored.file != file);
        let known = known.map(|stored| Stored { file: file.clone(), ..stored });
        let stored = match known {
            Some(stored) if stored.spec == spec && stored.annotations == annotations => {
                // No reconciler sees the file, so the version stays the same.
                return if is_moved { self.store(&document.object, stored) } else { Ok(()) };
            }
            Some(stored) if stored.spec == spec => {
                Stored { version: stored.version + 1, annotations, ..stored }
            }
            Some(stored) => Stored {
                generation: stored.generation + 1,
                version: stored.version + 1,
                spec,
                annotations,
                ..stored
            },
            None => Stored {
                generation: 1,
                version: 1,
                spec,
                annotations,
                status: seed(&document.object).unwrap_or(Value::Null),
                file,
                created: (self.now)(),
                name: Some(document.object.key.name.clone()).filter(|name| *file_stem(name) != **name),
            },
        };
        self.store(&document.object, stored)
    }

    fn store(&self, object: &ObjectKey, stored: Stored) -> io::Result<()> {
        disk::write_json(&self.path(object), &stored)?;
        self.lock_stored().insert(object.clone(), stored);
        Ok(())
    }

    fn put_status(&self, update: StatusUpdate) -> Result<(), EngineError> {
        let _changing = lock(&self.changing);
        let known = self.lock_stored().get(&update.object).cloned();
        let stored = known.ok_or_else(|| EngineError::conflict("the object is gone"))?;
        if update.observed_version.as_deref() != Some(stored.version.to_string().as_str()) {
            return Err(EngineError::conflict("the object has changed since it was observed"));
        }
        let next = Stored { version: stored.version + 1, status: update.status, ..stored };
        self.store(&update.object, next.clone()).map_err(|error| self.unwritable(&update.object, &error))?;
        self.show(&update.object, &next);
        self.objects.changed.notify_one();
        Ok(())
    }

    /// Removes an object and its requests from the state directory.
    fn forget(&self, object: &ObjectKey) -> io::Result<()> {
        for file in [self.path(object), requests::file(&self.state, object)] {
            match std::fs::remove_file(file) {
                // A parent that is a file means that the file does not exist either.
                Err(error)
                    if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    return Err(error);
                }
                _ => {}
            }
        }
        self.lock_stored().remove(object);
        Ok(())
    }

    fn remove(&self, gone: &ObjectKey) -> Result<(), EngineError> {
        let _changing = lock(&self.changing);
        self.forget(gone).map_err(|error| self.unwritable(gone, &error))?;
        let left: Vec<ObjectKey> = {
            let mut documents = lock(&self.documents);
            documents.remove(gone);
            let undecodable = lock(&self.undecodable);
            let usable = documents
                .keys()
                .filter(|object| !undecodable.contains_key(object) && !self.unreadable.contains_key(object));
            usable.cloned().collect()
        };
        self.objects.remove(gone);
        // Last: `--once` waits for the board to settle, and then publishes the objects that are left.
        self.objects.board.replace(&left);
        self.objects.changed.notify_one();
        Ok(())
    }

    fn path(&self, object: &ObjectKey) -> PathBuf {
        files::of(&self.dir, object)
    }

    /// The error of a failed write. It is never part of a status, because it contains a path of this machine.
    fn unwritable(&self, object: &ObjectKey, error: &io::Error) -> EngineError {
        EngineError::transient(format!(
            "the status of {object} cannot be written to the state directory {}: {error}; free disk space there, or \
             allow Opsy to write there; nothing new is started until then",
            self.state.display()
        ))
    }

    fn lock_requested(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Requested>> {
        lock(&self.requested)
    }

    fn lock_stored(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Stored>> {
        lock(&self.stored)
    }
}

#[cfg(test)]
mod tests;
