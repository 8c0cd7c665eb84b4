//! `ClusterHome`: the contract of `engine::home` for a cluster. It starts the tasks, loads commits, writes status and
//! removes finalizers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::apply::{apply, reapply};
use super::client::ObjectClient;
use super::explain::explain_status;
use super::kinds::Custom;
use super::places::{Places, Readiness, places};
use super::shared::HomeShared;
use super::watch;
use crate::api::lock::lock;
use crate::api::{AMIRefresher, CommitId, Kind, ObjectKey, Owner, PackerBuilder};
use crate::engine::kubernetes::lease::Tenure;
use crate::engine::kubernetes::lease::notes::MEMORY;
use crate::engine::kubernetes::{Cluster, OWNER, memory};
use crate::engine::objects::Objects;
use crate::engine::{
    AgentMemory, EngineError, EventRecorder, Home, Load, Note, ObjectHealth, Owned, SecretReader,
    StatusUpdate, Wakes,
};
use crate::manifest::Documents;
use crate::task;

/// How long a load waits for the first lists. They take a second or two, and half a minute while the API server is
/// restarted.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// How long a load waits until the watches return what it applied, which usually takes milliseconds. If a watch lags
/// further behind, its events wake the objects later.
const OBSERVE_LIMIT: Duration = Duration::from_secs(5);
/// Attempts to remove the finalizers. A status write that conflicts with one attempt is over by the next.
const RELEASE_TRIES: u32 = 3;

/// The custom resources of one cluster.
pub struct ClusterHome {
    shared: Arc<HomeShared>,
    /// The Lease that contains the agent's memory, and this replica's name in it.
    tenure: Tenure,
    tasks: Mutex<Vec<AbortOnDropHandle<()>>>,
}

impl ClusterHome {
    /// Starts the watches, the retries and the Events. They end by `stop`, or when this is dropped.
    pub fn start(cluster: Cluster, objects: Arc<Objects>, tenure: Tenure) -> Arc<Self> {
        // An empty load makes the stores ready, so that the loop starts. Objects are added one at a time, and none is
        // woken before a commit is loaded.
        objects.builders.load(Vec::new(), &[]);
        objects.refreshers.load(Vec::new(), &[]);
        let places = places(&cluster.scope);
        let shared = Arc::new(HomeShared::new(cluster, objects, &places));
        let mut tasks = vec![
            task::spawn("applying objects again", reapply(shared.clone())),
            task::spawn("sending Events", send_events(shared.clone())),
        ];
        for place in places {
            let relist = shared.relist.subscribe();
            tasks.push(match place.kind {
                Kind::PackerBuilder => task::spawn(
                    "watching objects",
                    watch::watch::<PackerBuilder>(shared.clone(), place, relist),
                ),
                Kind::AMIRefresher => task::spawn(
                    "watching objects",
                    watch::watch::<AMIRefresher>(shared.clone(), place, relist),
                ),
            });
        }
        Arc::new(Self { shared, tenure, tasks: Mutex::new(tasks) })
    }

    /// Ends the watches, the retries and the Events.
    pub fn stop(&self) {
        lock(&self.tasks).clear();
    }

    /// The number of objects that are out of sync.
    pub fn failing(&self) -> usize {
        self.shared.ledger().failing()
    }

    async fn wait_until_listed(&self) -> Result<(), EngineError> {
        let mut places = self.shared.places.subscribe();
        let decided = |places: &Places| !matches!(places.readiness(), Readiness::Wait(_));
        // After the limit, what is still missing is reported like a failure. What only a person can fix is reported at
        // once.
        let _ = timeout(FIRST_LISTS, places.wait_for(decided)).await;
        match places.borrow().readiness() {
            Readiness::Ready => Ok(()),
            Readiness::Wait(message) | Readiness::Refused(message) => Err(EngineError::transient(message)),
        }
    }

    async fn load_commit(&self, commit: Load) -> Result<(), EngineError> {
        self.wait_until_listed().await?;
        let shared = &self.shared;
        let (due, unheld) = self.record(commit);
        for object in unheld {
            shared.objects.wake(&object);
        }
        shared.objects.changed.notify_one();
        let applying = shared.applying.lock().await;
        apply(shared, due).await;
        drop(applying);
        let mut observed = shared.observed.subscribe();
        let _ = timeout(OBSERVE_LIMIT, observed.wait_for(|_| shared.ledger().unobserved() == 0)).await;
        Ok(())
    }

    /// Records the commit in the ledger. Returns the objects to apply, and those to reconcile at once.
    fn record(&self, commit: Load) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
        let shared = &self.shared;
        let mut ledger = shared.ledger();
        let loaded = ledger.load(&commit, &shared.cluster.scope, Instant::now());
        let due = ledger.due(Instant::now());
        ledger.hold(&due);
        for object in ledger.of_others() {
            shared.objects.remove(object);
        }
        let present: Option<Vec<ObjectKey>> =
            loaded.unknown.is_none().then(|| ledger.present().cloned().collect());
        let unheld = ledger.wakeable(&commit.wake.with(loaded.concerned));
        let absent = loaded.news.iter().map(|(object, _)| object);
        drop(ledger);
        shared.set_seed(commit.seed);
        let board = &shared.objects.board;
        if let Some(present) = present {
            board.replace(&present);
        }
        loaded.unknown.iter().flatten().for_each(|object| board.remove(object));
        absent.for_each(|object| board.add(object));
        for (object, message) in &loaded.news {
            tracing::warn!(%object, "not applied: {message}");
        }
        shared.show_absent();
        if loaded.relist {
            shared.relist.send_modify(|count| *count += 1);
        }
        (due, unheld)
    }

    async fn put_status<K: Custom>(&self, update: StatusUpdate) -> Result<(), EngineError> {
        let shared = &self.shared;
        let observed = update.observed_version.clone().unwrap_or_default();
        let version = shared.objects.version_after_own_write(&update.object, observed);
        let client = ObjectClient::new(&shared.cluster.client);
        match client.put_status::<K>(&update.object.key, &version, &update.status).await {
            Ok(made) => {
                shared.show_status::<K>(&update, made);
                Ok(())
            }
            // The object was deleted meanwhile. The watch reports it.
            Err(refusal) if refusal.is_not_found() => Ok(()),
            Err(refusal) => Err(explain_status(refusal)),
        }
    }

    async fn remove_finalizers<K: Custom>(&self, object: &ObjectKey) -> Result<(), EngineError> {
        let client = ObjectClient::new(&self.shared.cluster.client);
        let mut tries = 1;
        loop {
            match client.remove_finalizers::<K>(&object.key).await {
                Err(refusal) if refusal.is_conflict() && tries < RELEASE_TRIES => tries += 1,
                Err(refusal) => return Err(refusal.into()),
                Ok(others) => {
                    if others {
                        // Another controller's finalizer retains the object. The agent has nothing left to do.
                        self.shared.objects.board.end(object, ObjectHealth::Waiting);
                    }
                    return Ok(());
                }
            }
        }
    }
}

impl Home for ClusterHome {
    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.wait_until_listed().boxed()
    }

    fn owned(&self, owner: &Owner) -> BTreeMap<ObjectKey, Option<String>> {
        let ledger = self.shared.ledger();
        ledger.owned_by(owner).map(|(object, live)| (object.clone(), live.file.clone())).collect()
    }

    fn compare(&self, owner: &Owner, documents: &Documents) -> Owned {
        self.shared.ledger().compare(owner, documents)
    }

    fn load(&self, commit: Load) -> BoxFuture<'_, Result<(), EngineError>> {
        self.load_commit(commit).boxed()
    }

    fn wake(&self, objects: &Wakes) {
        let woken = self.shared.ledger().wakeable(objects);
        woken.iter().for_each(|object| self.shared.objects.wake(object));
    }

    fn write_status(&self, update: StatusUpdate) -> BoxFuture<'_, Result<(), EngineError>> {
        match update.object.kind {
            Kind::PackerBuilder => self.put_status::<PackerBuilder>(update).boxed(),
            Kind::AMIRefresher => self.put_status::<AMIRefresher>(update).boxed(),
        }
    }

    fn release<'a>(&'a self, object: &'a ObjectKey) -> BoxFuture<'a, Result<(), EngineError>> {
        match object.kind {
            Kind::PackerBuilder => self.remove_finalizers::<PackerBuilder>(object).boxed(),
            Kind::AMIRefresher => self.remove_finalizers::<AMIRefresher>(object).boxed(),
        }
    }

    fn out_of_sync(&self, object: &ObjectKey) -> Option<(&'static str, String)> {
        self.shared.ledger().out_of_sync(object)
    }

    fn all_out_of_sync(&self) -> BTreeMap<ObjectKey, (&'static str, String)> {
        let ledger = self.shared.ledger();
        let mut all = ledger.all_out_of_sync();
        let unread = ledger.unread().into_iter();
        all.extend(unread.filter_map(|object| Some((object.clone(), ledger.out_of_sync(&object)?))));
        all
    }

    fn is_frozen(&self, object: &ObjectKey) -> bool {
        self.shared.ledger().is_frozen(object)
    }

    fn is_in_sync(&self, object: &ObjectKey, generation: Option<i64>) -> bool {
        self.shared.ledger().is_in_sync(object, generation)
    }

    fn unreadable(&self) -> BTreeMap<String, String> {
        self.shared.places.borrow().unreadable()
    }

    fn readable_again(&self) -> BoxFuture<'_, ()> {
        self.shared.readable_again.notified().boxed()
    }
}

impl SecretReader for ClusterHome {
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>> {
        self.shared.cluster.secret(namespace, name)
    }
}

impl EventRecorder for ClusterHome {
    fn publish_event(&self, object: &ObjectKey, note: &Note) {
        match object.kind {
            Kind::PackerBuilder => self.shared.publish_event::<PackerBuilder>(object, note),
            Kind::AMIRefresher => self.shared.publish_event::<AMIRefresher>(object, note),
        }
    }

    fn publish_agent_event(&self, note: Note) -> BoxFuture<'_, ()> {
        async move {
            let about = memory::reference(&self.shared.cluster, &self.tenure.lease).await;
            self.shared.events.push(about, note);
        }
        .boxed()
    }
}

impl AgentMemory for ClusterHome {
    fn memory(&self) -> BoxFuture<'_, Result<Option<String>, EngineError>> {
        memory::read(&self.shared.cluster, &self.tenure.lease).boxed()
    }

    fn save(&self, memory: String) -> BoxFuture<'_, Result<(), EngineError>> {
        async move { memory::save(&self.shared.cluster, &self.tenure, MEMORY, &memory).await }.boxed()
    }

    fn accepted(&self) -> BoxFuture<'_, Result<Option<CommitId>, EngineError>> {
        memory::accepted(&self.shared.cluster, &self.tenure).boxed()
    }

    fn remove_accepted(&self, commit: CommitId) -> BoxFuture<'_, Result<(), EngineError>> {
        async move { memory::remove_accepted(&self.shared.cluster, &self.tenure, commit.as_str()).await }
            .boxed()
    }

    fn record_owner<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<(), EngineError>> {
        memory::save(&self.shared.cluster, &self.tenure, OWNER, owner.as_str()).boxed()
    }
}

async fn send_events(shared: Arc<HomeShared>) {
    shared.events.send(shared.cluster.client.clone()).await;
}
