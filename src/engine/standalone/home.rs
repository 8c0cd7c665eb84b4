//! Objects of one machine: the manifests of the synced commit with the status of the state folder.
//!
//! The state folder is written and on disk before the store shows a status, so that what a pass reads
//! back is what would survive a crash.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::disk;
use crate::api::conditions::PUBLISHED;
use crate::api::{AMIRefresher, Class, Key, Kind, ObjectKey, PackerBuilder};
use crate::engine::board::Board;
use crate::engine::feed::Feed;
use crate::engine::{Home, HomeError, StatusUpdate};
use crate::manifest::Document;

/// What outlives the agent of one object.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// Counts changes of `spec`, as an API server does.
    pub generation: i64,
    /// Counts everything.
    pub version: u64,
    pub spec: Value,
    /// They suspend and cancel, so they matter as long as the object is kept.
    #[serde(default)]
    pub annotations: Value,
    #[serde(default)]
    pub status: Value,
    /// When the object was first seen.
    pub created: Timestamp,
}

/// Objects and status of one state folder.
pub struct StateFolder {
    dir: PathBuf,
    pub builders: Feed<PackerBuilder>,
    pub refreshers: Feed<AMIRefresher>,
    pub board: Arc<Board>,
    stored: Mutex<BTreeMap<ObjectKey, Stored>>,
    documents: Mutex<BTreeMap<ObjectKey, Value>>,
    /// Held by whoever changes objects: disk, memory and store change together.
    turn: Mutex<()>,
    /// A status changed: there may be something to publish.
    pub changed: Arc<Notify>,
    now: fn() -> Timestamp,
}

impl StateFolder {
    /// Reads what the folder holds.
    pub fn open(
        dir: PathBuf,
        builders: Feed<PackerBuilder>,
        refreshers: Feed<AMIRefresher>,
        now: fn() -> Timestamp,
    ) -> io::Result<Self> {
        let stored = Mutex::new(read_all(&dir)?.into_iter().collect());
        let (board, changed) = (Arc::default(), Arc::default());
        let (documents, turn) = (Mutex::default(), Mutex::default());
        Ok(Self { dir, builders, refreshers, board, stored, documents, turn, changed, now })
    }

    /// Objects the folder knows, whether a manifest names them or not.
    pub fn known(&self) -> Vec<ObjectKey> {
        self.lock_stored().keys().cloned().collect()
    }

    /// Does the status of any object say that it was not published?
    pub fn unpublished(&self) -> bool {
        let says = |condition: &Value| condition["type"] == PUBLISHED && condition["status"] == "False";
        let conditions =
            |stored: &Stored| stored.status["conditions"].as_array().cloned().unwrap_or_default();
        self.lock_stored().values().any(|stored| conditions(stored).iter().any(says))
    }

    /// Takes the documents as the whole of what there is. `gone` are objects to delete: they stay,
    /// marked as deleted, until their reconciler lets them go; a refresher has nothing running and goes
    /// at once. `kept` are objects Git no longer has that stay all the same. `seed` answers the published status
    /// of an object the folder does not know.
    pub fn load(
        &self,
        documents: &[Document],
        gone: &[ObjectKey],
        kept: &[ObjectKey],
        seed: impl Fn(&ObjectKey) -> Option<Value>,
    ) -> io::Result<()> {
        let _turn = self.take_turn();
        let mut next: BTreeMap<ObjectKey, Value> = BTreeMap::new();
        for document in documents {
            self.take(document, &seed)?;
            next.insert(document.object.clone(), document.json.clone());
        }
        for object in gone.iter().filter(|object| object.kind == Kind::AMIRefresher) {
            self.forget(object)?;
        }
        for (objects, deleted) in [(kept, None), (gone, Some((self.now)()))] {
            for object in objects {
                if let Some(stored) = self.lock_stored().get(object) {
                    next.insert(object.clone(), rebuilt(object, stored, deleted));
                }
            }
        }
        *self.documents.lock().expect("no code panics while it holds the documents") = next.clone();
        self.board.keep_only(&next.keys().cloned().collect::<Vec<_>>());
        let stored = self.lock_stored().clone();
        load_kind(&self.builders, Kind::PackerBuilder, &next, &stored, &self.board);
        load_kind(&self.refreshers, Kind::AMIRefresher, &next, &stored, &self.board);
        self.changed.notify_one();
        Ok(())
    }

    /// Wakes one object.
    pub fn wake(&self, object: &ObjectKey) {
        self.board.woken(object);
        match object.kind {
            Kind::PackerBuilder => self.builders.wake(&object.key),
            Kind::AMIRefresher => self.refreshers.wake(&object.key),
        }
    }

    /// Wakes all objects of a kind.
    pub fn wake_all(&self, kind: Kind) {
        for object in self.board.standings().into_keys().filter(|object| object.kind == kind) {
            self.wake(&object);
        }
    }

    /// Notes generation and spec of a document, making the entry where there is none.
    fn take(&self, document: &Document, seed: impl Fn(&ObjectKey) -> Option<Value>) -> io::Result<()> {
        let spec = document.json.get("spec").cloned().unwrap_or(Value::Null);
        let annotations = document.json["metadata"]["annotations"].clone();
        let known = self.lock_stored().get(&document.object).cloned();
        let stored = match known {
            Some(stored) if stored.spec == spec && stored.annotations == annotations => return Ok(()),
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
                created: (self.now)(),
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
        self.store(&update.object, next.clone()).map_err(|error| full(&update.object, &error))?;
        let documents = self.documents.lock().expect("no code panics while it holds the documents");
        if let Some(document) = documents.get(&update.object) {
            match update.object.kind {
                Kind::PackerBuilder => self.builders.put(object(document, &next)),
                Kind::AMIRefresher => self.refreshers.put(object(document, &next)),
            }
        }
        self.changed.notify_one();
        Ok(())
    }

    fn forget(&self, object: &ObjectKey) -> io::Result<()> {
        match std::fs::remove_file(self.path(object)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.lock_stored().remove(object);
        Ok(())
    }

    fn drop_object(&self, gone: &ObjectKey) -> Result<(), HomeError> {
        let _turn = self.take_turn();
        self.forget(gone).map_err(|error| full(gone, &error))?;
        let left: Vec<ObjectKey> = {
            let mut documents = self.documents.lock().expect("no code panics while it holds the documents");
            documents.remove(gone);
            documents.keys().cloned().collect()
        };
        self.board.keep_only(&left);
        match gone.kind {
            Kind::PackerBuilder => self.builders.remove(&gone.key),
            Kind::AMIRefresher => self.refreshers.remove(&gone.key),
        }
        self.changed.notify_one();
        Ok(())
    }

    fn path(&self, object: &ObjectKey) -> PathBuf {
        let folder = self.dir.join(object.kind.to_string()).join(&object.key.namespace);
        folder.join(format!("{}.json", object.key.name))
    }

    fn take_turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.turn.lock().expect("no code panics while it changes objects")
    }

    fn lock_stored(&self) -> std::sync::MutexGuard<'_, BTreeMap<ObjectKey, Stored>> {
        self.stored.lock().expect("no code panics while it holds the state")
    }
}

impl Home for StateFolder {
    fn write_status(&self, update: StatusUpdate) -> BoxFuture<'_, Result<(), HomeError>> {
        // One small file: an async hop would cost more than the write.
        futures::future::ready(self.write(update)).boxed()
    }

    fn release<'a>(&'a self, object: &'a ObjectKey) -> BoxFuture<'a, Result<(), HomeError>> {
        futures::future::ready(self.drop_object(object)).boxed()
    }
}

/// Reads every object's state; a file that is none is an error, since dropping it would lose facts.
pub fn read_all(dir: &std::path::Path) -> io::Result<Vec<(ObjectKey, Stored)>> {
    let mut all = Vec::new();
    for kind in [Kind::PackerBuilder, Kind::AMIRefresher] {
        for namespace in children(&dir.join(kind.to_string()))? {
            for path in children(&namespace)? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json"))
                else {
                    continue;
                };
                let key = Key { namespace: file_name(&namespace), name: name.to_owned() };
                if let Some(stored) = disk::read_json(&path).map_err(|error| named(&path, error))? {
                    all.push((ObjectKey { kind, key }, stored));
                }
            }
        }
    }
    Ok(all)
}

fn children(dir: &std::path::Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn file_name(path: &std::path::Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn named(path: &std::path::Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn full(object: &ObjectKey, error: &io::Error) -> HomeError {
    HomeError {
        class: Class::TRANSIENT,
        message: format!(
            "the state folder does not take the status of {object}: {error}; nothing new is started until it does"
        ),
    }
}

/// Puts the objects of one kind into their store and wakes them.
fn load_kind<K>(
    feed: &Feed<K>,
    kind: Kind,
    documents: &BTreeMap<ObjectKey, Value>,
    stored: &BTreeMap<ObjectKey, Stored>,
    board: &Board,
) where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + Sync + 'static,
{
    let ours = documents.iter().filter(|(name, _)| name.kind == kind);
    let objects: Vec<(Key, K)> = ours
        .filter_map(|(name, document)| Some((name.key.clone(), object(document, stored.get(name)?))))
        .collect();
    let keys: Vec<Key> = objects.iter().map(|(key, _)| key.clone()).collect();
    for key in &keys {
        board.woken(&ObjectKey { kind, key: key.clone() });
    }
    feed.load(objects.into_iter().map(|(_, object)| object).collect(), &keys);
}

/// A document with what the state folder knows of it, as an API server would hand it out.
fn object<K: DeserializeOwned>(document: &Value, stored: &Stored) -> K {
    let mut whole = document.clone();
    let metadata = &mut whole["metadata"];
    metadata["generation"] = json!(stored.generation);
    metadata["resourceVersion"] = json!(stored.version.to_string());
    metadata["creationTimestamp"] = json!(Time(stored.created));
    if !stored.status.is_null() {
        whole["status"] = stored.status.clone();
    }
    serde_json::from_value(whole)
        .or_else(|_| {
            // A status of another version that does not fit is dropped: what matters of it is in tags.
            let mut bare = document.clone();
            bare["metadata"]["generation"] = json!(stored.generation);
            bare["metadata"]["resourceVersion"] = json!(stored.version.to_string());
            serde_json::from_value(bare)
        })
        .expect("a document was decoded when it was checked")
}

/// The document of an object that Git no longer has, from what is stored; marked as deleted if it is.
fn rebuilt(object: &ObjectKey, stored: &Stored, deleted: Option<Timestamp>) -> Value {
    let mut document = json!({
        "apiVersion": format!("{}/{}", crate::api::GROUP, crate::api::VERSION),
        "kind": object.kind.to_string(),
        "metadata": { "name": object.key.name, "namespace": object.key.namespace },
        "spec": stored.spec,
    });
    if !stored.annotations.is_null() {
        document["metadata"]["annotations"] = stored.annotations.clone();
    }
    if let Some(at) = deleted {
        document["metadata"]["deletionTimestamp"] = json!(Time(at));
    }
    document
}
