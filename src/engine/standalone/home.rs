//! `StateHome`: the objects of one machine, which are the manifests of the synced commit with the status in the state
//! directory. `contract` implements the traits of `engine::home` for it.
//!
//! A change is on disk before the store shows it, so that a reconcile never reads what a crash would lose.

mod changes;
mod contract;
mod entries;
mod load;
mod statuses;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;

use super::entry::Entry;
pub use super::object::Stored;
use super::requests;
use super::secrets::Secrets;
use super::stored::read_all_as;
pub use super::stored::{StoredObjects, read_all, read_one};
use super::{files, memory_file, objects_dir};
use crate::api::ObjectKey;
use crate::api::lock::lock;
use crate::engine::EngineError;
use crate::engine::objects::Objects;
use entries::Entries;
use statuses::Statuses;

/// Objects and status of one state directory.
pub struct StateHome {
    shared: Arc<Shared>,
}

/// What the threads that write to the state directory share.
struct Shared {
    /// The state directory.
    state: PathBuf,
    /// The directory of the objects' state.
    dir: PathBuf,
    /// The file of the agent's memory.
    memory: PathBuf,
    objects: Arc<Objects>,
    entries: Mutex<Entries>,
    /// Objects whose state could not be read at the start, and why.
    unreadable: BTreeMap<ObjectKey, String>,
    statuses: Mutex<Statuses>,
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
        let StoredObjects { objects: entries, unreadable } =
            read_all_as(&dir, |object, stored| Arc::new(Entry::read(object, stored)))?;
        for why in unreadable.values() {
            tracing::error!(state = %state.display(), "{why}");
        }
        // From now on, objects are added one at a time.
        objects.builders.load(Vec::new(), &[]);
        objects.refreshers.load(Vec::new(), &[]);
        let shared = Shared {
            state: state.to_owned(),
            dir,
            memory: memory_file(state),
            objects,
            entries: Mutex::new(entries.into_iter().collect()),
            unreadable,
            statuses: Mutex::default(),
            changing: Mutex::default(),
            secrets,
            now,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Reads the requests that people made by command, and wakes the objects whose requests have changed.
    pub fn read_requests(&self) {
        self.shared.read_requests();
    }

    /// Works on the disk, on a thread where it may block. The work is completed even if nobody waits for it.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, EngineError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.map_err(|error| EngineError::transient(format!("the state directory is not written: {error}")))?
    }
}

impl Shared {
    /// Removes an object that its reconciler releases.
    fn remove(&self, gone: &ObjectKey) -> Result<(), EngineError> {
        let _changing = lock(&self.changing);
        self.forget(gone).map_err(|error| self.unwritable(gone, &error))?;
        self.objects.changed.notify_one();
        Ok(())
    }

    /// Removes an object and its requests from the state directory and the stores.
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
        lock(&self.entries).remove(object);
        self.objects.remove(object);
        // Last: `--once` waits for the board to settle, and then publishes the objects that are left.
        self.objects.board.remove(object);
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
}

#[cfg(test)]
mod tests;
