//! Objects of one machine: the manifests of the synced commit with the status of the state directory.
//!
//! The state directory is written and on disk before the store shows a status, so that what a pass reads
//! back is what would survive a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;

use super::asked::{self, Asked};
use super::decoded::{Known, decoded, load_kind};
pub use super::held::{Held, read_all, read_one};
pub use super::object::Stored;
use super::object::{object, rebuilt};
use super::secrets::Secrets;
use super::{disk, files, memory_file, objects_dir, owner_file};
use crate::api::files::file_stem;
use crate::api::{Class, CommitId, Kind, ObjectKey, Owner};
use crate::engine::objects::Objects;
use crate::engine::{Home, HomeError, Load, Note, Seed, StatusUpdate};
use crate::manifest::{Document, Json};

/// Objects and status of one state directory.
pub struct StateFolder {
    state: PathBuf,
    dir: PathBuf,
    /// What the agent itself remembers.
    memory: PathBuf,
    objects: Arc<Objects>,
    stored: Mutex<BTreeMap<ObjectKey, Stored>>,
    /// Objects whose state could not be read at the start, and why.
    unreadable: BTreeMap<ObjectKey, String>,
    /// Objects that cannot be decoded, and why.
    unusable: Mutex<BTreeMap<ObjectKey, String>>,
    documents: Mutex<BTreeMap<ObjectKey, Json>>,
    /// What people ask for by command.
    asked: Mutex<BTreeMap<ObjectKey, Asked>>,
    /// Held by whoever changes objects: disk, memory and store change together.
    turn: Mutex<()>,
    secrets: Secrets,
    now: fn() -> Timestamp,
}

impl StateFolder {
    /// Reads what the folder holds.
    pub fn open(
        state: &Path,
        objects: Arc<Objects>,
        secrets: Secrets,
        now: fn() -> Timestamp,
    ) -> io::Result<Self> {
        let (dir, memory) = (objects_dir(state), memory_file(state));
        let Held { objects: stored, unreadable } = read_all(&dir)?;
        for why in unreadable.values() {
            tracing::error!(state = %state.display(), "{why}");
        }
        let (stored, unusable) = (Mutex::new(stored), Mutex::default());
        let (documents, asked, turn) = (Mutex::default(), Mutex::default(), Mutex::default());
        let state = state.to_owned();
        Ok(Self {
            state,
            dir,
            memory,
            objects,
            stored,
            unreadable,
            unusable,
            documents,
            asked,
            turn,
            secrets,
            now,
        })
    }

    /// Takes the documents as the whole of what there is. Objects to delete stay, marked as deleted, until
    /// their reconciler lets them go; a refresher has nothing running and goes at once.
    fn take_over(&self, commit: &Load) -> io::Result<()> {
        let _turn = self.take_turn();
        let mut next: BTreeMap<ObjectKey, Json> = BTreeMap::new();
        for document in commit.documents.iter().filter(|it| !self.unreadable.contains_key(&it.object)) {
            self.take(document, &commit.seed)?;
            next.insert(document.object.clone(), document.json.clone());
        }
        self.ask();
        for object in commit.remove.iter().filter(|object| object.kind == Kind::AMIRefresher) {
            self.forget(object)?;
        }
        for (objects, deleted) in [(&commit.kept, None), (&commit.remove, Some((self.now)()))] {
            for object in objects {
                if let Some(stored) = self.lock_stored().get(object) {
                    next.insert(object.clone(), Json::from(&rebuilt(object, stored, deleted)));
                }
            }
        }
        *self.documents.lock().expect("no code panics while it holds the documents") = next.clone();
        let Objects { builders, refreshers, board, changed, .. } = &*self.objects;
        let (stored, asked) = (self.lock_stored().clone(), self.lock_asked().clone());
        let known = Known { stored: &stored, asked: &asked };
        let (of_builders, mut unusable) = decoded(Kind::PackerBuilder, &next, &known);
        let (of_refreshers, others) = decoded(Kind::AMIRefresher, &next, &known);
        unusable.extend(others);
        for (object, why) in &unusable {
            tracing::error!(%object, "{why}");
        }
        let usable =
            of_builders.iter().map(|(name, _)| name).chain(of_refreshers.iter().map(|(name, _)| name));
        board.keep_only(&usable.cloned().collect::<Vec<_>>());
        *self.lock_unusable() = unusable;
        load_kind(builders, of_builders, board);
        load_kind(refreshers, of_refreshers, board);
        changed.notify_one();
        Ok(())
    }

    /// Takes up what people ask for by command since it was last looked at, and wakes those it is asked of.
    pub fn hear(&self) {
        let _turn = self.take_turn();
        let (before, now) = self.ask();
        let changed =
            before.keys().chain(now.keys()).filter(|object| before.get(*object) != now.get(*object));
        for object in changed.collect::<BTreeSet<_>>() {
            let Some(stored) = self.lock_stored().get(object).cloned() else { continue };
            // A pass that is under way has not seen it.
            let next = Stored { version: stored.version + 1, ..stored };
            if let Err(error) = self.store(object, next.clone()) {
                tracing::error!(%object, %error, "what is asked for by command cannot be taken up");
                continue;
            }
            if self.show(object, &next) {
                self.objects.wake(object);
            }
        }
    }

    /// Reads what people ask for by command: what was known, and what is known now.
    fn ask(&self) -> (BTreeMap<ObjectKey, Asked>, BTreeMap<ObjectKey, Asked>) {
        let now = asked::read(&self.state, self.lock_stored().keys());
        let before = std::mem::replace(&mut *self.lock_asked(), now.clone());
        for (object, asked) in &now {
            if let (Asked::Unknown(why), true) = (asked, before.get(object) != Some(asked)) {
                tracing::error!(state = %self.state.display(), "{why}");
            }
        }
        (before, now)
    }

    /// Puts an object into its store, where there is a document of it.
    fn show(&self, name: &ObjectKey, stored: &Stored) -> bool {
        let documents = self.documents.lock().expect("no code panics while it holds the documents");
        let Some(document) = documents.get(name) else { return false };
        let asked = self.lock_asked().get(name).cloned();
        let shown = match name.kind {
            Kind::PackerBuilder => {
                object(document, stored, asked.as_ref()).map(|it| self.objects.builders.put(&it))
            }
            Kind::AMIRefresher => {
                object(document, stored, asked.as_ref()).map(|it| self.objects.refreshers.put(&it))
            }
        };
        shown.is_ok()
    }

    fn lock_unusable(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, String>> {
        self.unusable.lock().expect("no code panics while it holds what cannot be decoded")
    }

    fn lock_asked(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, Asked>> {
        self.asked.lock().expect("no code panics while it holds what is asked for")
    }

    /// Notes generation and spec of a document, making the entry where there is none.
    fn take(&self, document: &Document, seed: &Seed) -> io::Result<()> {
        let mut json = document.json.value();
        let (spec, annotations) = (json["spec"].take(), json["metadata"]["annotations"].take());
        let known = self.lock_stored().get(&document.object).cloned();
        let file = Some(document.file.clone());
        let is_moved = known.as_ref().is_some_and(|stored| stored.file != file);
        let known = known.map(|stored| Stored { file: file.clone(), ..stored });
        let stored = match known {
            Some(stored) if stored.spec == spec && stored.annotations == annotations => {
                // A reconcile sees nothing of the file: its version stays.
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

    fn write(&self, update: StatusUpdate) -> Result<(), HomeError> {
        let _turn = self.take_turn();
        let conflict = |message: &str| HomeError { class: Class::Conflict, message: message.to_owned() };
        let known = self.lock_stored().get(&update.object).cloned();
        let stored = known.ok_or_else(|| conflict("the object is gone"))?;
        if update.seen.as_deref() != Some(stored.version.to_string().as_str()) {
            return Err(conflict("the object has changed since it was looked at"));
        }
        let next = Stored { version: stored.version + 1, status: update.status, ..stored };
        self.store(&update.object, next.clone()).map_err(|error| self.full(&update.object, &error))?;
        self.show(&update.object, &next);
        self.objects.changed.notify_one();
        Ok(())
    }

    fn forget(&self, object: &ObjectKey) -> io::Result<()> {
        for file in [self.path(object), asked::file(&self.state, object)] {
            match std::fs::remove_file(file) {
                // Below a file there is none either.
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

    fn drop_object(&self, gone: &ObjectKey) -> Result<(), HomeError> {
        let _turn = self.take_turn();
        self.forget(gone).map_err(|error| self.full(gone, &error))?;
        let left: Vec<ObjectKey> = {
            let mut documents = self.documents.lock().expect("no code panics while it holds the documents");
            documents.remove(gone);
            let unusable = self.lock_unusable();
            let usable = documents
                .keys()
                .filter(|object| !unusable.contains_key(object) && !self.unreadable.contains_key(object));
            usable.cloned().collect()
        };
        self.objects.remove(gone);
        // Last: whoever waits for all to be settled publishes what is left.
        self.objects.board.keep_only(&left);
        self.objects.changed.notify_one();
        Ok(())
    }

    fn path(&self, object: &ObjectKey) -> PathBuf {
        files::of(&self.dir, object)
    }

    /// This is never part of a status: it names the place on this machine.
    fn full(&self, object: &ObjectKey, error: &io::Error) -> HomeError {
        HomeError {
            class: Class::TRANSIENT,
            message: format!(
                "the status of {object} cannot be written to the state directory {}: {error}; free disk space \
                 there, or let Opsy write there; nothing new is started until then",
                self.state.display()
            ),
        }
    }

    fn take_turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turn.lock().expect("no code panics while it changes objects")
    }

    fn lock_stored(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, Stored>> {
        self.stored.lock().expect("no code panics while it holds the state")
    }
}

impl Home for StateFolder {
    fn ready(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        futures::future::ready(Ok(())).boxed()
    }

    fn known(&self, _: &Owner) -> BTreeMap<ObjectKey, Option<String>> {
        self.lock_stored().iter().map(|(object, stored)| (object.clone(), stored.file.clone())).collect()
    }

    fn load(&self, commit: Load) -> BoxFuture<'_, Result<(), HomeError>> {
        let taken = self.take_over(&commit).map_err(|error| HomeError {
            class: Class::TRANSIENT,
            message: format!(
                "the commit cannot be written to the state directory {}: {error}; free disk space there, or let \
                 Opsy write there",
                self.state.display()
            ),
        });
        futures::future::ready(taken).boxed()
    }

    fn write_status(&self, update: StatusUpdate) -> BoxFuture<'_, Result<(), HomeError>> {
        // One small file: an async hop would cost more than the write.
        futures::future::ready(self.write(update)).boxed()
    }

    fn release<'a>(&'a self, object: &'a ObjectKey) -> BoxFuture<'a, Result<(), HomeError>> {
        futures::future::ready(self.drop_object(object)).boxed()
    }

    fn tell(&self, _: &ObjectKey, _: &Note) {
        // The log and the terminal have it; there is nowhere else to look.
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, HomeError>> {
        // A few small files, as with a status.
        futures::future::ready(self.secrets.in_any_case(namespace, name)).boxed()
    }

    fn memory(&self) -> BoxFuture<'_, Result<Option<String>, HomeError>> {
        let text = match std::fs::read_to_string(&self.memory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => text.map(Some).map_err(|error| unkept("read from", &error)),
        };
        futures::future::ready(text).boxed()
    }

    fn keep(&self, memory: String) -> BoxFuture<'_, Result<(), HomeError>> {
        let kept = disk::replace(&self.memory, memory.as_bytes());
        futures::future::ready(kept.map_err(|error| unkept("written to", &error))).boxed()
    }

    fn accepted(&self) -> BoxFuture<'_, Result<Option<CommitId>, HomeError>> {
        let accepted = asked::accepted(&self.state);
        futures::future::ready(accepted.map_err(|error| unkept("read from", &error))).boxed()
    }

    fn remove_accepted(&self, commit: CommitId) -> BoxFuture<'_, Result<(), HomeError>> {
        let removed = asked::remove_accepted(&self.state, &commit);
        futures::future::ready(removed.map_err(|error| unkept("written to", &error))).boxed()
    }

    fn note_owner<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<(), HomeError>> {
        let noted = disk::replace(&owner_file(&self.state), owner.as_str().as_bytes());
        futures::future::ready(noted.map_err(|error| unkept("written to", &error))).boxed()
    }

    fn unapplied(&self, object: &ObjectKey) -> Option<(&'static str, String)> {
        if let Some(why) = self.unreadable.get(object) {
            return Some(("StateUnreadable", why.clone()));
        }
        if let Some(why) = self.lock_unusable().get(object) {
            return Some(("Undecodable", why.clone()));
        }
        // Objects are the documents themselves, but for what people ask for.
        match self.lock_asked().get(object)? {
            Asked::These(_) => None,
            Asked::Unknown(why) => Some(("RequestUnreadable", why.clone())),
        }
    }
}

fn unkept(what: &str, error: &io::Error) -> HomeError {
    let message = format!("the memory of the agent cannot be {what} the state directory: {error}");
    HomeError { class: Class::TRANSIENT, message }
}

#[cfg(test)]
mod tests;
