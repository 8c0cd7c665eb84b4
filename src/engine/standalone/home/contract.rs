//! The traits of `engine::home` for `StateHome`. What changes objects runs on threads where it may block. The agent's own
//! memory is a few small files, which are read and written at once: an asynchronous task would cost more.

use std::collections::BTreeMap;
use std::io;

use futures::FutureExt;
use futures::future::{BoxFuture, ready};

use super::{Shared, StateHome};
use crate::api::lock::lock;
use crate::api::{CommitId, ObjectKey, Owner};
use crate::engine::standalone::requests;
use crate::engine::standalone::{disk, owner_file};
use crate::engine::{
    AgentMemory, EngineError, EventRecorder, Home, Load, Note, Owned, SecretReader, StatusUpdate, Wakes,
};
use crate::manifest::Documents;

impl Home for StateHome {
    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        ready(Ok(())).boxed()
    }

    fn owned(&self, _: &Owner) -> BTreeMap<ObjectKey, Option<String>> {
        let entries = lock(&self.shared.entries);
        entries.iter().map(|(object, entry)| (object.clone(), entry.file.clone())).collect()
    }

    fn compare(&self, _: &Owner, documents: &Documents) -> Owned {
        lock(&self.shared.entries).compare(documents)
    }

    fn load(&self, commit: Load) -> BoxFuture<'_, Result<(), EngineError>> {
        let load = move |shared: &Shared| {
            shared.load_commit(&commit).map_err(|error| {
                EngineError::transient(format!(
                    "the commit cannot be written to the state directory {}: {error}; free disk space there, or allow \
                     Opsy to write there",
                    shared.state.display()
                ))
            })
        };
        self.on_disk(load).boxed()
    }

    fn wake(&self, objects: &Wakes) {
        self.shared.usable_of(objects).iter().for_each(|object| self.shared.objects.wake(object));
    }

    fn write_status(&self, update: StatusUpdate) -> BoxFuture<'_, Result<(), EngineError>> {
        self.shared.clone().put_status(update).boxed()
    }

    fn release<'a>(&'a self, object: &'a ObjectKey) -> BoxFuture<'a, Result<(), EngineError>> {
        let object = object.clone();
        self.on_disk(move |shared| shared.remove(&object)).boxed()
    }

    fn out_of_sync(&self, object: &ObjectKey) -> Option<(&'static str, String)> {
        if let Some(why) = self.shared.unreadable.get(object) {
            return Some((STATE_UNREADABLE, why.clone()));
        }
        lock(&self.shared.entries).get(object)?.out_of_sync()
    }

    fn all_out_of_sync(&self) -> BTreeMap<ObjectKey, (&'static str, String)> {
        let entries = lock(&self.shared.entries);
        let unreadable = self.shared.unreadable.iter();
        let unreadable = unreadable.map(|(object, why)| (object.clone(), (STATE_UNREADABLE, why.clone())));
        entries.out_of_sync().chain(unreadable).collect()
    }
}

/// The reason for objects whose state could not be read at the start.
const STATE_UNREADABLE: &str = "StateUnreadable";

impl SecretReader for StateHome {
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        self.shared.secrets.secret(namespace, name)
    }
}

impl EventRecorder for StateHome {
    fn publish_event(&self, _: &ObjectKey, _: &Note) {
        // Without an API server there are no Events. The note is logged and shown on the terminal.
    }

    fn publish_agent_event(&self, _: Note) -> BoxFuture<'_, ()> {
        // What happens to the repository is logged where it happens.
        ready(()).boxed()
    }
}

impl AgentMemory for StateHome {
    fn memory(&self) -> BoxFuture<'_, Result<Option<String>, EngineError>> {
        let text = match std::fs::read_to_string(&self.shared.memory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some).map_err(|error| memory_error("read from", &error)),
        };
        ready(text).boxed()
    }

    fn save(&self, memory: String) -> BoxFuture<'_, Result<(), EngineError>> {
        let saved = disk::replace(&self.shared.memory, memory.as_bytes());
        ready(saved.map_err(|error| memory_error("written to", &error))).boxed()
    }

    fn accepted(&self) -> BoxFuture<'_, Result<Option<CommitId>, EngineError>> {
        let accepted = requests::accepted(&self.shared.state);
        ready(accepted.map_err(|error| memory_error("read from", &error))).boxed()
    }

    fn remove_accepted(&self, commit: CommitId) -> BoxFuture<'_, Result<(), EngineError>> {
        let removed = requests::remove_accepted(&self.shared.state, &commit);
        ready(removed.map_err(|error| memory_error("written to", &error))).boxed()
    }

    fn record_owner<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<(), EngineError>> {
        let recorded = disk::replace(&owner_file(&self.shared.state), owner.as_str().as_bytes());
        ready(recorded.map_err(|error| memory_error("written to", &error))).boxed()
    }
}

fn memory_error(what: &str, error: &io::Error) -> EngineError {
    EngineError::transient(format!("the memory of the agent cannot be {what} the state directory: {error}"))
}
