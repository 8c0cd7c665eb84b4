//! Publishing: what is rendered, and what wakes the loop.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, Weak};

use kube::Resource;
use kube::core::object::HasStatus;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::now;
use crate::api::lock::lock;
use crate::api::{AMIRefresher, CommitId, Key, Kind, ObjectKey, ObjectVersion, Owner, PackerBuilder};
use crate::builder::SetterGuard;
use crate::engine::Home;
use crate::engine::objects::Objects;
use crate::engine::packed::Packed;
use crate::git::Handle;
use crate::manifest::ObjectSet;
use crate::manifest::setters::{Found, Reference};
use crate::publish::render::{ReadStatus, Renderer, Snapshot, Unread};
use crate::publish::{Batch, Connect, Content, Publish, Publisher};
use crate::sync::{Hold, SyncState, Synced};
use crate::task;

/// The parts of the agent that publishing uses.
pub struct Uses<'a> {
    pub engine: &'a Engine,
    pub git: Handle,
    pub sync: watch::Receiver<SyncState>,
    /// The loaded commit, not the synced one: before its objects exist, their status files would look like those of
    /// deleted objects.
    pub loaded: watch::Receiver<Option<Arc<Synced>>>,
    /// Connects to the forge, for pull requests.
    pub connect: Connect,
    pub stop: CancellationToken,
}

/// Starts the loop that commits status.
pub fn start(uses: Uses<'_>) -> Publisher {
    let Uses { engine, git, sync, loaded, connect, stop } = uses;
    let settings = loaded.clone();
    let settings = Arc::new(move || settings.borrow().as_ref().map(|loaded| loaded.set.settings.clone()));
    let files = StatusFiles {
        git: git.clone(),
        guard: Mutex::default(),
        objects: engine.objects.clone(),
        home: engine.home.clone(),
        owner: engine.owner.clone(),
        loaded: loaded.clone(),
        renderer: Mutex::default(),
    };
    let (publish, publisher) = Publish::new(git, settings, Arc::new(files), now);
    task::detach("publishing", publish.with_forge(connect).run(stop));
    task::detach("waking the publisher", wake(publisher.clone(), engine.objects.clone(), sync, loaded));
    publisher
}

/// The files of the objects that the engine has.
struct StatusFiles {
    git: Handle,
    /// Which files setters may edit, for the commit with these manifests.
    guard: Mutex<(Weak<ObjectSet>, SetterGuard)>,
    objects: Arc<Objects>,
    home: Arc<dyn Home>,
    owner: Owner,
    loaded: watch::Receiver<Option<Arc<Synced>>>,
    renderer: Mutex<Renderer>,
}

impl Content for StatusFiles {
    fn render(&self) -> Batch {
        let Some(synced) = self.loaded.borrow().clone() else { return Batch::default() };
        let owner = synced.owner(&self.owner);
        lock(&self.renderer).render(&Existing { files: self, owner }, &synced)
    }

    fn published(&self) {
        lock(&self.renderer).published();
    }

    fn forget(&self) {
        lock(&self.renderer).forget();
    }

    fn owner(&self) -> Option<Owner> {
        self.loaded.borrow().as_ref().map(|synced| synced.owner(&self.owner))
    }

    fn commit(&self) -> Option<CommitId> {
        self.loaded.borrow().as_ref().map(|synced| synced.commit.clone())
    }

    fn find(&self, reference: &Reference) -> Found {
        match self.objects.builders.packed_one(&reference.builder) {
            Some(builder) => {
                lock(&self.renderer).find(reference, &Packed::status(&builder).unwrap_or_default())
            }
            None if self.declares(&reference.builder) => Found::Pending,
            None => reference.find(None),
        }
    }

    fn refusal(&self, path: &str, is_ignored: bool) -> Option<String> {
        let set = self.loaded.borrow().as_ref()?.set.clone();
        let mut guard = lock(&self.guard);
        if !std::ptr::eq(guard.0.as_ptr(), Arc::as_ptr(&set)) {
            let options = self.git.options();
            let new = SetterGuard::new(&set, &options.path, |url| options.address.is_same(url));
            *guard = (Arc::downgrade(&set), new);
        }
        guard.1.refusal(path, is_ignored)
    }
}

impl StatusFiles {
    fn declares(&self, builder: &Key) -> bool {
        let object = ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() };
        self.loaded.borrow().as_ref().is_some_and(|synced| synced.set.declares(&object))
    }
}

/// The objects of this agent.
struct Existing<'a> {
    files: &'a StatusFiles,
    owner: Owner,
}

impl Snapshot for Existing<'_> {
    type Builder = Arc<Packed<PackerBuilder>>;
    type Refresher = Arc<Packed<AMIRefresher>>;

    fn version(&self) -> Option<u64> {
        Some(self.files.objects.writes.count())
    }

    fn changed_since(&self, version: u64) -> Option<BTreeSet<ObjectKey>> {
        self.files.objects.writes.since(version)
    }

    fn builders(&self) -> impl IntoIterator<Item = Self::Builder> {
        self.files.objects.builders.packed()
    }

    fn refreshers(&self) -> impl IntoIterator<Item = Self::Refresher> {
        self.files.objects.refreshers.packed()
    }

    fn builder(&self, key: &Key) -> Option<Self::Builder> {
        self.files.objects.builders.packed_one(key)
    }

    fn refresher(&self, key: &Key) -> Option<Self::Refresher> {
        self.files.objects.refreshers.packed_one(key)
    }

    fn owned(&self) -> BTreeSet<ObjectKey> {
        self.files.home.owned(&self.owner).into_keys().collect()
    }
}

impl<K> Unread<K> for Arc<Packed<K>>
where
    K: Resource<DynamicType = ()>
        + HasStatus<Status: DeserializeOwned + Clone + Send + Sync>
        + Serialize
        + DeserializeOwned
        + 'static,
{
    fn key(&self) -> Key {
        Packed::key(self)
    }

    fn version(&self) -> Option<ObjectVersion> {
        Packed::version(self)
    }

    fn read(&self) -> K {
        self.open()
    }

    fn status(&self) -> ReadStatus<K::Status> {
        let object = self.clone();
        Arc::new(move || Packed::status(&object))
    }
}

/// Wakes the loop when a status changes, and when the branch does: a person may have changed the status files there.
async fn wake(
    publisher: Publisher,
    objects: Arc<Objects>,
    mut sync: watch::Receiver<SyncState>,
    mut loaded: watch::Receiver<Option<Arc<Synced>>>,
) {
    let mut seen = None;
    loop {
        tokio::select! {
            () = objects.changed.notified() => {}
            changed = sync.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = Some(Tip::of(&sync.borrow_and_update()));
                if seen == now {
                    continue;
                }
                seen = now;
            }
            changed = loaded.changed() => if changed.is_err() { return },
        }
        publisher.wake();
    }
}

/// What publishing depends on in the state of the sync.
#[derive(PartialEq, Eq)]
struct Tip {
    commit: Option<CommitId>,
    held: Option<Hold>,
    is_failing: bool,
}

impl Tip {
    fn of(state: &SyncState) -> Self {
        Self { commit: state.commit.clone(), held: state.held, is_failing: state.error.is_some() }
    }
}
