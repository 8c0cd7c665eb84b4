//! Objects of a cluster: custom resources, kept as the loaded commit says, with their status.
//!
//! ```text
//! commit ─load→ ledger: what differs? ─apply→ API server ─watch→ ledger, feeds ─wake→ passes
//!                  ↑ kubectl edit, delete, failed apply: apply again ┘
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kube::ResourceExt;
use tokio::sync::{Notify, watch as level};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Cluster;
use super::apply;
use super::events::Events;
use super::kinds::{Custom, read_status};
use super::lease::Tenure;
use super::lease::notes::MEMORY;
use super::ledger::{Ledger, version};
use super::memory;
use super::places::{Places, Verdict, places};
use super::requests::{Requests, told_status};
use super::{OWNER, secrets, watch};
use crate::api::{AMIRefresher, Class, CommitId, Kind, ObjectKey, Owner, PackerBuilder};
use crate::engine::objects::Objects;
use crate::engine::{Home, HomeError, Load, Note, Seed, Standing, StatusUpdate};

/// The first lists take a second or two; an API server that is being restarted, half a minute.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// What was applied is seen within milliseconds. A watch that lags further is not waited for: its events
/// wake the objects when they come.
const ECHO: Duration = Duration::from_secs(5);
/// A status write that was in the way of taking finalizers off is over by the next try.
const RELEASES: u32 = 3;

/// Custom resources of one cluster.
pub struct ClusterHome {
    shared: Arc<Shared>,
    /// The Lease that holds what the agent remembers, and this replica's name in it.
    tenure: Tenure,
    tasks: Mutex<Vec<AbortOnDropHandle<()>>>,
}

/// What the tasks of this home share.
pub struct Shared {
    pub cluster: Cluster,
    pub objects: Arc<Objects>,
    pub events: Events,
    ledger: Mutex<Ledger>,
    /// Published status, as the loaded commit has it.
    seed: Mutex<Option<Arc<Seed>>>,
    /// Held by whoever applies.
    pub turn: tokio::sync::Mutex<()>,
    /// There may be something to apply.
    pub bell: Notify,
    /// Bumped with everything that was seen.
    pub echoes: level::Sender<u64>,
    /// What of the scope can be read.
    pub places: level::Sender<Places>,
    /// Rung when objects can be read again that could not when the last commit was loaded.
    pub returned: Notify,
    /// Bumped to have everything listed anew.
    again: level::Sender<u64>,
}

impl Shared {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no code panics while it holds the ledger")
    }

    pub fn seed(&self, object: &ObjectKey) -> Option<serde_json::Value> {
        let seed = self.seed.lock().expect("no code panics while it holds the seed").clone();
        seed.and_then(|seed| seed(object))
    }

    /// Shows people a note where they look at the object.
    pub fn tell<K: Custom>(&self, object: &ObjectKey, note: &Note) {
        if let Some(about) = K::feed(&self.objects).get(&object.key) {
            self.events.push(about.object_ref(&()), note.clone());
        }
    }

    /// Shows a status we wrote, before the watch brings it back: the next pass must not work by the old one.
    pub fn show_status<K: Custom>(&self, update: &StatusUpdate, made: u64) {
        let ledger = self.ledger();
        let feed = K::feed(&self.objects);
        let Some(mut object) = feed.get(&update.object.key) else { return };
        if version(object.resource_version().as_deref()) < made {
            object.set_status(read_status::<K>(update.status.clone()));
            object.meta_mut().resource_version = Some(made.to_string());
            feed.put(&object);
        }
        drop(ledger);
        self.objects.changed.notify_one();
    }
}

impl ClusterHome {
    /// Starts the watches. They end with this, or by `stop`.
    pub fn start(cluster: Cluster, objects: Arc<Objects>, tenure: Tenure) -> Arc<Self> {
        // The stores are ready from the start: objects come one by one, and none is woken before a load.
        objects.builders.load(Vec::new(), &[]);
        objects.refreshers.load(Vec::new(), &[]);
        let places = places(&cluster.scope);
        let shared = Arc::new(Shared {
            cluster,
            objects,
            events: Events::default(),
            ledger: Mutex::default(),
            seed: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            bell: Notify::new(),
            echoes: level::Sender::new(0),
            places: level::Sender::new(Places::new(&places)),
            returned: Notify::new(),
            again: level::Sender::new(0),
        });
        let mut tasks = vec![own(apply::mend(shared.clone())), own(send_events(shared.clone()))];
        for place in places {
            let again = shared.again.subscribe();
            tasks.push(match place.kind {
                Kind::PackerBuilder => own(watch::watch::<PackerBuilder>(shared.clone(), place, again)),
                Kind::AMIRefresher => own(watch::watch::<AMIRefresher>(shared.clone(), place, again)),
            });
        }
        Arc::new(Self { shared, tenure, tasks: Mutex::new(tasks) })
    }

    /// Ends the watches, and everything that is sent unasked.
    pub fn stop(&self) {
        self.tasks.lock().expect("no code panics while it holds the tasks").clear();
    }

    /// How many objects are not as Git says.
    pub fn failing(&self) -> usize {
        self.shared.ledger().failing()
    }

    async fn wait_until_listed(&self) -> Result<(), HomeError> {
        let mut places = self.shared.places.subscribe();
        let over = |places: &Places| !matches!(places.verdict(), Verdict::Wait(_));
        // Running into the limit is told like a failure; what only a person can mend is told at once.
        let _ = timeout(FIRST_LISTS, places.wait_for(over)).await;
        match places.borrow().verdict() {
            Verdict::Ready => Ok(()),
            Verdict::Wait(message) | Verdict::Refused(message) => {
                Err(HomeError { class: Class::TRANSIENT, message })
            }
        }
    }

    async fn take_over(&self, commit: Load) -> Result<(), HomeError> {
        self.wait_until_listed().await?;
        let shared = &self.shared;
        let (due, free) = self.write_down(commit);
        for object in free {
            shared.objects.wake(&object);
        }
        shared.objects.changed.notify_one();
        let turn = shared.turn.lock().await;
        apply::bring(shared, due).await;
        drop(turn);
        let mut echoes = shared.echoes.subscribe();
        let _ = timeout(ECHO, echoes.wait_for(|_| shared.ledger().awaits() == 0)).await;
        Ok(())
    }

    /// Takes the commit into the ledger. Answers what to bring in line, and who may look at once.
    fn write_down(&self, commit: Load) -> (Vec<ObjectKey>, Vec<ObjectKey>) {
        let shared = &self.shared;
        let mut ledger = shared.ledger();
        let loaded = ledger.load(&commit, &shared.cluster.scope);
        let due = ledger.due(Instant::now());
        ledger.hold(&due);
        for object in ledger.foreign() {
            shared.objects.remove(object);
        }
        let present: Vec<ObjectKey> = ledger.present().cloned().collect();
        let free = present.iter().filter(|object| !ledger.is_held(object)).cloned().collect();
        let absent = loaded.news.iter().map(|(object, _)| object.clone());
        drop(ledger);
        *shared.seed.lock().expect("no code panics while it holds the seed") = Some(Arc::new(commit.seed));
        let shown: Vec<ObjectKey> = present.iter().cloned().chain(absent).collect();
        shared.objects.board.keep_only(&shown);
        for (object, words) in &loaded.news {
            tracing::warn!(%object, "not applied: {words}");
        }
        apply::show_absent(shared);
        if loaded.look_again {
            shared.again.send_modify(|count| *count += 1);
        }
        (due, free)
    }

    async fn write<K: Custom>(&self, update: StatusUpdate) -> Result<(), HomeError> {
        let shared = &self.shared;
        let seen = update.seen.clone().unwrap_or_default();
        let seen = shared.objects.version_now(&update.object, seen);
        let requests = Requests::new(&shared.cluster.client);
        match requests.put_status::<K>(&update.object.key, &seen, &update.status).await {
            Ok(made) => {
                shared.show_status::<K>(&update, made);
                Ok(())
            }
            // It was deleted meanwhile: the watch says so, too.
            Err(refusal) if refusal.is_not_found() => Ok(()),
            Err(refusal) => Err(told_status(refusal)),
        }
    }

    async fn let_go<K: Custom>(&self, object: &ObjectKey) -> Result<(), HomeError> {
        let requests = Requests::new(&self.shared.cluster.client);
        let mut tries = 1;
        loop {
            match requests.let_go::<K>(&object.key).await {
                Err(refusal) if refusal.is_conflict() && tries < RELEASES => tries += 1,
                Err(refusal) => return Err(refusal.into()),
                Ok(others) => {
                    if others {
                        // Somebody else's finalizer keeps it: there is nothing left to do for us.
                        self.shared.objects.board.end(object, Standing::Waiting);
                    }
                    return Ok(());
                }
            }
        }
    }
}

impl Home for ClusterHome {
    fn ready(&self) -> BoxFuture<'_, Result<(), HomeError>> {
        self.wait_until_listed().boxed()
    }

    fn known(&self, owner: &Owner) -> BTreeMap<ObjectKey, Option<String>> {
        let ledger = self.shared.ledger();
        ledger.owned_by(owner).map(|(object, live)| (object.clone(), live.file.clone())).collect()
    }

    fn load(&self, commit: Load) -> BoxFuture<'_, Result<(), HomeError>> {
        self.take_over(commit).boxed()
    }

    fn write_status(&self, update: StatusUpdate) -> BoxFuture<'_, Result<(), HomeError>> {
        match update.object.kind {
            Kind::PackerBuilder => self.write::<PackerBuilder>(update).boxed(),
            Kind::AMIRefresher => self.write::<AMIRefresher>(update).boxed(),
        }
    }

    fn release<'a>(&'a self, object: &'a ObjectKey) -> BoxFuture<'a, Result<(), HomeError>> {
        match object.kind {
            Kind::PackerBuilder => self.let_go::<PackerBuilder>(object).boxed(),
            Kind::AMIRefresher => self.let_go::<AMIRefresher>(object).boxed(),
        }
    }

    fn tell(&self, object: &ObjectKey, note: &Note) {
        match object.kind {
            Kind::PackerBuilder => self.shared.tell::<PackerBuilder>(object, note),
            Kind::AMIRefresher => self.shared.tell::<AMIRefresher>(object, note),
        }
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, HomeError>> {
        if !self.shared.cluster.scope.covers(namespace) {
            // Where the agent does not work, nobody's secrets are its own, whatever its account may read.
            let message =
                format!("Secret {namespace}/{name} lies in a namespace this agent does not work in");
            return futures::future::ready(Err(HomeError { class: Class::Denied, message })).boxed();
        }
        secrets::get(&self.shared.cluster.client, namespace, name).boxed()
    }

    fn memory(&self) -> BoxFuture<'_, Result<Option<String>, HomeError>> {
        memory::read(&self.shared.cluster, &self.tenure.lease).boxed()
    }

    fn keep(&self, memory: String) -> BoxFuture<'_, Result<(), HomeError>> {
        async move { memory::keep(&self.shared.cluster, &self.tenure, MEMORY, &memory).await }.boxed()
    }

    fn note_owner<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<(), HomeError>> {
        memory::keep(&self.shared.cluster, &self.tenure, OWNER, owner.as_str()).boxed()
    }

    fn accepted(&self) -> BoxFuture<'_, Result<Option<CommitId>, HomeError>> {
        memory::accepted(&self.shared.cluster, &self.tenure).boxed()
    }

    fn remove_accepted(&self, commit: CommitId) -> BoxFuture<'_, Result<(), HomeError>> {
        async move { memory::remove_accepted(&self.shared.cluster, &self.tenure, commit.as_str()).await }
            .boxed()
    }

    fn unapplied(&self, object: &ObjectKey) -> Option<(&'static str, String)> {
        self.shared.ledger().trouble(object)
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

    fn returned(&self) -> BoxFuture<'_, ()> {
        self.shared.returned.notified().boxed()
    }
}

async fn send_events(shared: Arc<Shared>) {
    shared.events.send(shared.cluster.client.clone()).await;
}

fn own(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}
