//! The objects of one kind for `drive`: kube's store, and a queue of the keys to reconcile. Each engine writes both,
//! the one from watch events, the other from the state directory.

use std::sync::{Arc, Mutex, MutexGuard};

use futures::FutureExt;
use futures::channel::mpsc;
use kube::Resource;
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::packed::{Form, Packed};
use super::writes::Writes;
use crate::api::lock::lock;
use crate::api::{Key, Kind, ObjectKey};

/// The writing end.
pub struct Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store: Store<Packed<K>>,
    writer: Mutex<Writer<Packed<K>>>,
    queue: mpsc::UnboundedSender<ObjectRef<Packed<K>>>,
    kind: Kind,
    writes: Arc<Writes>,
}

/// The reading end, for `drive`.
pub struct Queue<K: Resource<DynamicType = ()> + 'static> {
    pub store: Store<Packed<K>>,
    pub keys: mpsc::UnboundedReceiver<ObjectRef<Packed<K>>>,
}

impl<K> Feed<K>
where
    K: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Clone + 'static,
{
    /// Makes the feed of a kind, which records what is written.
    pub fn new(kind: Kind, writes: Arc<Writes>) -> (Self, Queue<K>) {
        let (store, writer) = reflector::store();
        let (queue, keys) = mpsc::unbounded();
        let feed = Self { store: store.clone(), writer: Mutex::new(writer), queue, kind, writes };
        (feed, Queue { store, keys })
    }

    /// Replaces all objects at once, then wakes each of `wake`.
    pub fn load(&self, objects: impl IntoIterator<Item = K>, wake: &[Key]) {
        let mut writer = self.writer();
        writer.apply_watcher_event(&Event::Init);
        for object in objects {
            writer.apply_watcher_event(&Event::InitApply(Packed::of(&object)));
        }
        writer.apply_watcher_event(&Event::InitDone);
        drop(writer);
        self.writes.record_all();
        for key in wake {
            self.wake(key);
        }
    }

    /// Adds or replaces one object without waking it.
    pub fn put(&self, object: &K) {
        self.apply(Packed::of(object));
    }

    /// Adds or replaces one object, in a form that the engine keeps as well.
    pub fn put_as(&self, object: &K, form: Arc<dyn Form<K>>) {
        self.apply(Packed::new(object, form));
    }

    fn apply(&self, object: Packed<K>) {
        let key = object.key();
        self.writer().apply_watcher_event(&Event::Apply(object));
        self.record(key);
    }

    /// Records a write when it is complete.
    fn record(&self, key: Key) {
        self.writes.record(ObjectKey { kind: self.kind, key });
    }

    /// Removes one object.
    pub fn remove(&self, key: &Key) {
        if let Some(object) = self.store.get(&object_ref(key)) {
            self.writer().apply_watcher_event(&Event::Delete((*object).clone()));
            self.record(key.clone());
        }
    }

    /// Enqueues an object. The store must contain it already, or the key is dropped.
    pub fn wake(&self, key: &Key) {
        // The queue closes only at shutdown, when nothing is reconciled any more.
        let _ = self.queue.unbounded_send(object_ref(key));
    }

    pub fn get(&self, key: &Key) -> Option<K> {
        self.store.get(&object_ref(key)).map(|object| object.open())
    }

    pub fn has(&self, key: &Key) -> bool {
        self.store.get(&object_ref(key)).is_some()
    }

    /// The number of objects.
    pub fn count(&self) -> usize {
        self.store.len()
    }

    /// All objects whose JSON contains this text, an ID such as `ami-1`.
    pub fn holding(&self, text: &str) -> impl Iterator<Item = K> {
        let all = self.store.state().into_iter();
        all.filter(move |object| object.contains(text)).map(|object| object.open())
    }

    /// All objects. They are decoded one at a time, because decoded they are three times as large.
    pub fn all(&self) -> impl Iterator<Item = K> {
        self.store.state().into_iter().map(|object| object.open())
    }

    /// All objects, not decoded.
    pub fn packed(&self) -> impl Iterator<Item = Arc<Packed<K>>> {
        self.store.state().into_iter()
    }

    /// One object, not decoded.
    pub fn packed_one(&self, key: &Key) -> Option<Arc<Packed<K>>> {
        self.store.get(&object_ref(key))
    }

    /// Ends the queue: running reconciles finish, nothing new starts.
    pub fn close(&self) {
        // The loop waits for the first load. Without one it would never end.
        if self.store.wait_until_ready().now_or_never().is_none() {
            let mut writer = self.writer();
            writer.apply_watcher_event(&Event::Init);
            writer.apply_watcher_event(&Event::InitDone);
        }
        self.queue.close_channel();
    }

    fn writer(&self) -> MutexGuard<'_, Writer<Packed<K>>> {
        lock(&self.writer)
    }
}

fn object_ref<K: Resource<DynamicType = ()>>(key: &Key) -> ObjectRef<Packed<K>> {
    ObjectRef::new(&key.name).within(&key.namespace)
}
