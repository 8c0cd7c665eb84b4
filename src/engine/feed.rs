//! The source of objects where there is no API server: kube's store, written by hand, and a queue of
//! keys to look at. `drive` cannot tell it from a watch.

use std::sync::Mutex;

use futures::FutureExt;
use futures::channel::mpsc;
use kube::Resource;
use kube::runtime::reflector::{self, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::packed::Packed;
use crate::api::Key;

/// The writing end: objects and keys go in here.
pub struct Feed<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    store: Store<Packed<K>>,
    writer: Mutex<Writer<Packed<K>>>,
    queue: mpsc::UnboundedSender<ObjectRef<Packed<K>>>,
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
    pub fn new() -> (Self, Queue<K>) {
        let (store, writer) = reflector::store();
        let (queue, keys) = mpsc::unbounded();
        let feed = Self { store: store.clone(), writer: Mutex::new(writer), queue };
        (feed, Queue { store, keys })
    }

    /// Replaces all objects at once, then wakes each of `wake`.
    pub fn load(&self, objects: impl IntoIterator<Item = K>, wake: &[Key]) {
        {
            let mut writer = self.writer();
            writer.apply_watcher_event(&Event::Init);
            for object in objects {
                writer.apply_watcher_event(&Event::InitApply(Packed::of(&object)));
            }
            writer.apply_watcher_event(&Event::InitDone);
        }
        for key in wake {
            self.wake(key);
        }
    }

    /// Replaces one object without waking anybody: it is our own status.
    pub fn put(&self, object: &K) {
        self.writer().apply_watcher_event(&Event::Apply(Packed::of(object)));
    }

    /// Takes one object out.
    pub fn remove(&self, key: &Key) {
        if let Some(object) = self.store.get(&name(key)) {
            self.writer().apply_watcher_event(&Event::Delete((*object).clone()));
        }
    }

    /// Has this object looked at again. The store must hold it already, or the key is dropped.
    pub fn wake(&self, key: &Key) {
        // The queue closes only at shutdown, when nobody needs waking any more.
        let _ = self.queue.unbounded_send(name(key));
    }

    pub fn get(&self, key: &Key) -> Option<K> {
        self.store.get(&name(key)).map(|object| object.open())
    }

    pub fn has(&self, key: &Key) -> bool {
        self.store.get(&name(key)).is_some()
    }

    /// Objects that have these words somewhere, an id like `ami-1`.
    pub fn holding(&self, words: &str) -> impl Iterator<Item = K> {
        let all = self.store.state().into_iter();
        all.filter(move |object| object.holds(words)).map(|object| object.open())
    }

    /// All objects, one after the other: decoded they are three times as large.
    pub fn all(&self) -> impl Iterator<Item = K> {
        self.store.state().into_iter().map(|object| object.open())
    }

    /// Ends the queue: running passes finish, nothing new starts.
    pub fn close(&self) {
        // A reader waits for the first load; where there was none it would wait for ever.
        if self.store.wait_until_ready().now_or_never().is_none() {
            let mut writer = self.writer();
            writer.apply_watcher_event(&Event::Init);
            writer.apply_watcher_event(&Event::InitDone);
        }
        self.queue.close_channel();
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Writer<Packed<K>>> {
        self.writer.lock().expect("no code panics while it holds the writer")
    }
}

fn name<K: Resource<DynamicType = ()>>(key: &Key) -> ObjectRef<Packed<K>> {
    ObjectRef::new(&key.name).within(&key.namespace)
}
