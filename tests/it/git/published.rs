//! Publishing renders only what changed. Whatever happens in between, the branch ends with exactly what a render of
//! all objects gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use opsy::api::{AMIRefresher, CommitId, Key, Kind, ObjectKey, ObjectVersion, PackerBuilder};
use opsy::engine::writes::Writes;
use opsy::git::Handle;
use opsy::manifest::{Document, DocumentText, ObjectSet};
use opsy::publish::render::{Renderer, Snapshot, Unread};
use opsy::publish::{Batch, Content, Publish, Publisher, Publishing};
use opsy::settings::RepoSettings;
use opsy::sync::Synced;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::bed::{Bed, DEADLINE};

/// The objects of an engine: their status with a version.
#[derive(Default)]
struct Store {
    objects: BTreeMap<String, (u64, Value)>,
    settings: RepoSettings,
    synced: Option<Arc<Synced>>,
    versions: u64,
    /// What was written, as the stores of the agent record it.
    writes: Writes,
    decoded: usize,
}

/// A builder that is decoded on request.
struct Stored<'a> {
    name: String,
    version: u64,
    status: Value,
    decoded: &'a Mutex<usize>,
}

impl Unread<PackerBuilder> for Stored<'_> {
    fn key(&self) -> Key {
        key(&self.name)
    }
    fn version(&self) -> Option<ObjectVersion> {
        ObjectVersion::of(&self.read_metadata().metadata)
    }
    fn read(&self) -> PackerBuilder {
        *self.decoded.lock().expect("not poisoned") += 1;
        let mut builder = self.read_metadata();
        builder.status = serde_json::from_value(self.status.clone()).expect("a status");
        builder
    }
}

impl Stored<'_> {
    fn read_metadata(&self) -> PackerBuilder {
        let metadata = json!({"name": self.name, "namespace": "default",
            "resourceVersion": self.version.to_string(), "creationTimestamp": "2026-03-01T12:00:00Z"});
        serde_json::from_value(json!({"metadata": metadata, "spec": {}})).expect("a builder")
    }
}

/// No refresher is in these worlds.
struct NoRefresher;

impl Unread<AMIRefresher> for NoRefresher {
    fn key(&self) -> Key {
        unreachable!("there is none")
    }
    fn version(&self) -> Option<ObjectVersion> {
        unreachable!("there is none")
    }
    fn read(&self) -> AMIRefresher {
        unreachable!("there is none")
    }
}

fn key(name: &str) -> Key {
    Key { namespace: "default".to_owned(), name: name.to_owned() }
}

fn object(name: &str) -> ObjectKey {
    ObjectKey { kind: Kind::PackerBuilder, key: key(name) }
}

impl Store {
    /// Sets the status of a builder, which the commit declares from then on.
    fn set(&mut self, name: &str, status: Value) {
        self.versions += 1;
        self.objects.insert(name.to_owned(), (self.versions, status));
        self.writes.record(object(name));
        self.load();
    }

    /// Loads a commit that declares the builders that exist.
    fn load(&mut self) {
        let document = |name: &String| Document {
            object: object(name),
            json: DocumentText::from(&Value::Null),
            file: format!("{name}.yaml"),
            line: 1,
        };
        let mut settings = self.settings.clone();
        settings.prune = serde_json::from_value(json!({"allowMass": true})).expect("settings");
        let documents = self.objects.keys().map(document).collect();
        let set = ObjectSet { documents, settings, ..ObjectSet::default() };
        if self.synced.as_ref().is_some_and(|synced| *synced.set == set) {
            return;
        }
        self.synced = Some(Arc::new(Synced {
            commit: CommitId::parse("a".repeat(40)).expect("an id"),
            set: Arc::new(set),
            status_files: Arc::default(),
            difference: None,
        }));
    }
}

/// The objects of a store.
struct Existing<'a> {
    store: &'a Store,
    decoded: &'a Mutex<usize>,
}

impl<'a> Existing<'a> {
    fn stored(&self, name: &str) -> Option<Stored<'a>> {
        let (version, status) = self.store.objects.get(name)?;
        let (name, decoded) = (name.to_owned(), self.decoded);
        Some(Stored { name, version: *version, status: status.clone(), decoded })
    }
}

impl<'a> Snapshot for Existing<'a> {
    type Builder = Stored<'a>;
    type Refresher = NoRefresher;

    fn version(&self) -> Option<u64> {
        Some(self.store.writes.count())
    }
    fn changed_since(&self, version: u64) -> Option<BTreeSet<ObjectKey>> {
        self.store.writes.since(version)
    }
    fn builders(&self) -> impl IntoIterator<Item = Self::Builder> {
        self.store.objects.keys().filter_map(|name| self.stored(name))
    }
    fn refreshers(&self) -> impl IntoIterator<Item = Self::Refresher> {
        Vec::new()
    }
    fn builder(&self, key: &Key) -> Option<Self::Builder> {
        self.stored(&key.name)
    }
    fn refresher(&self, _: &Key) -> Option<Self::Refresher> {
        None
    }
    fn owned(&self) -> BTreeSet<ObjectKey> {
        self.store.objects.keys().map(|name| object(name)).collect()
    }
}

/// The content of a publisher, as the agent has it.
struct Files {
    store: Arc<Mutex<Store>>,
    renderer: Mutex<Renderer>,
}

impl Content for Files {
    fn render(&self) -> Batch {
        let mut store = self.store.lock().expect("not poisoned");
        let decoded = Mutex::new(0);
        let synced = store.synced.clone().expect("a commit is loaded");
        let mut renderer = self.renderer.lock().expect("not poisoned");
        let batch = renderer.render(&Existing { store: &store, decoded: &decoded }, &synced);
        store.decoded += decoded.into_inner().expect("not poisoned");
        batch
    }
    fn published(&self) {
        self.renderer.lock().expect("not poisoned").published();
    }
    fn forget(&self) {
        self.renderer.lock().expect("not poisoned").forget();
    }
}

/// A repository, an engine with objects, and a publisher.
struct World {
    bed: Bed,
    git: Handle,
    store: Arc<Mutex<Store>>,
    publisher: Publisher,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    async fn new() -> Self {
        let bed = Bed::start();
        bed.remote().commit("main", &[("a.yaml", Some("1"))]);
        let git = bed.handle();
        git.fetch().await.expect("a tip");
        let store = Arc::new(Mutex::new(Store::default()));
        store.lock().expect("not poisoned").load();
        let stop = CancellationToken::new();
        let publisher = publisher(&git, &store, &stop);
        Self { bed, git, store, publisher, stop }
    }

    fn store(&self) -> std::sync::MutexGuard<'_, Store> {
        self.store.lock().expect("not poisoned")
    }

    async fn flush(&self) -> Publishing {
        self.publisher.flush(DEADLINE).await.expect("in time")
    }

    /// Publishes, and returns the number of objects that were decoded for it.
    async fn decoding(&self) -> usize {
        self.store().decoded = 0;
        let state = self.flush().await;
        assert!(state.is_up_to_date(), "{state:?}");
        self.store().decoded
    }

    /// Asserts that a publisher that knows nothing finds nothing to change.
    async fn is_complete(&self, after: &str) {
        self.git.fetch().await.expect("a tip");
        let flushed = self.flush().await;
        assert!(flushed.is_up_to_date(), "{after}: {flushed:?}");
        let fresh = publisher(&self.git, &self.store, &self.stop);
        let found = fresh.flush(DEADLINE).await;
        // While work is in progress, a publisher that found nothing to change does not say that it is done.
        let is_busy = self.store().objects.values().any(|(_, status)| *status == busy(status.clone()));
        let due = if is_busy { Publishing::Idle } else { Publishing::Done { commit: None } };
        assert_eq!(found, Some(due), "{after}");
        let folder = self.store().settings.status_path().to_owned();
        let remote = self.bed.remote();
        let amis = remote.file("main", &format!("{folder}/amis.json")).unwrap_or_else(|| "{}".to_owned());
        let amis: Value = serde_json::from_str(&amis).expect("JSON");
        for name in NAMES.iter().filter(|name| !self.store().objects.contains_key(**name)) {
            let file = remote.file("main", &format!("{folder}/default/packerbuilders/{name}.yaml"));
            assert_eq!(file, None, "{after}: the file of {name}, which was deleted");
            assert_eq!(amis.get(format!("default/{name}")), None, "{after}: its entry");
        }
    }
}

fn publisher(git: &Handle, store: &Arc<Mutex<Store>>, stop: &CancellationToken) -> Publisher {
    let settings = Arc::clone(store);
    let settings = Arc::new(move || Some(settings.lock().expect("not poisoned").settings.clone()));
    let files = Arc::new(Files { store: Arc::clone(store), renderer: Mutex::default() });
    let (publish, publisher) = Publish::new(git.clone(), settings, files, Timestamp::now);
    tokio::spawn(publish.run(stop.clone()));
    publisher
}

/// The same builder while work is in progress.
fn busy(mut status: Value) -> Value {
    status["conditions"] = json!([{"type": "Reconciling", "status": "True"}]);
    status
}

/// A builder with an image.
fn built(image: u32) -> Value {
    json!({
        "images": [{"region": "us-east-1", "architecture": "x86_64", "id": format!("ami-{image:08x}")}],
        "lastRunBuiltImageID": format!("ami-{image:08x}"),
        "conditions": [{"type": "Ready", "status": "True", "reason": "ImageReady"}],
    })
}

const NAMES: [&str; 5] = ["web", "db", "gpu", "arm", "edge"];
const MANY: usize = 200;

#[tokio::test]
async fn one_change_of_many_is_decoded_alone() {
    let world = World::new().await;
    for number in 0..MANY {
        world.store().set(&format!("b{number}"), built(1));
    }
    // What is pushed is known to be in the branch, so it is not decoded to be compared.
    assert_eq!(world.decoding().await, MANY);
    assert_eq!(world.decoding().await, 0);
    world.store().set("b7", built(2));
    assert_eq!(world.decoding().await, 1);
    let amis = world.bed.remote().file("main", "status/amis.json").expect("it is published");
    let amis: Value = serde_json::from_str(&amis).expect("JSON");
    assert_eq!(amis["default/b7"]["us-east-1"]["x86_64"], "ami-00000002");
    assert_eq!(amis.as_object().map(serde_json::Map::len), Some(MANY));

    // A commit that leaves the directory alone costs nothing, and a loaded commit neither.
    world.bed.remote().commit("main", &[("README.md", Some("news"))]);
    world.git.fetch().await.expect("a tip");
    world.store().load();
    assert_eq!(world.decoding().await, 0);

    // Another hand.
    world.bed.remote().commit("main", &[("status/default/packerbuilders/b9.yaml", None)]);
    world.git.fetch().await.expect("a tip");
    assert_eq!(world.decoding().await, MANY);
    assert!(world.bed.remote().file("main", "status/default/packerbuilders/b9.yaml").is_some());
    assert_eq!(world.decoding().await, 0);
}

#[tokio::test]
async fn a_change_of_another_hand_just_before_a_push_is_undone_by_the_same_publish() {
    let world = World::new().await;
    for name in NAMES {
        world.store().set(name, built(1));
    }
    world.flush().await;
    // The clone has not seen this commit when the change below is compared.
    world.bed.remote().commit("main", &[("status/default/packerbuilders/web.yaml", Some("scribble"))]);
    world.store().set("db", built(2));
    assert!(matches!(world.flush().await, Publishing::Done { commit: Some(_) }));
    let web = world.bed.remote().file("main", "status/default/packerbuilders/web.yaml");
    assert!(web.is_some_and(|text| text.contains("ami-00000001")));
    world.is_complete("the race").await;
}

/// A sequence of numbers that looks random, the same for each seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).expect("small")
    }
}

#[tokio::test]
async fn after_any_sequence_the_branch_has_what_a_full_render_gives() {
    for seed in [0x9e37_79b9, 0x85eb_ca6b, 0xc2b2_ae35] {
        let world = World::new().await;
        let (mut dice, mut steps) = (Dice(seed), vec![format!("seed {seed:x}")]);
        for name in NAMES {
            world.store().set(name, built(0));
        }
        world.flush().await;
        for step in 0..60 {
            let name = NAMES[dice.roll(NAMES.len())];
            let what = world.step(&mut dice, name, step).await;
            steps.push(what);
            if dice.roll(4) == 0 {
                world.allow_pushes();
                world.is_complete(&steps.join(", ")).await;
            }
        }
        world.allow_pushes();
        world.is_complete(&steps.join(", ")).await;
    }
}

impl World {
    fn allow_pushes(&self) {
        self.bed.remote().hook("pre-receive", "exit 0");
    }

    /// One thing that happens, and its name.
    async fn step(&self, dice: &mut Dice, name: &str, step: u32) -> String {
        let remote = self.bed.remote();
        let folder = self.store().settings.status_path().to_owned();
        let file = format!("{folder}/default/packerbuilders/{name}.yaml");
        match dice.roll(12) {
            0..=2 => {
                self.store().set(name, built(step));
                format!("{name} is built")
            }
            3 => {
                self.store().set(name, busy(built(step)));
                format!("{name} is in progress")
            }
            4 => {
                let mut store = self.store();
                if store.objects.remove(name).is_some() {
                    store.writes.record(object(name));
                }
                store.load();
                format!("{name} is deleted")
            }
            5 => {
                remote.commit("main", &[(&file, Some("scribble"))]);
                self.git.fetch().await.expect("a tip");
                format!("another hand edits {name}")
            }
            6 => {
                if remote.file("main", &file).is_some() {
                    remote.commit("main", &[(&file, None)]);
                }
                format!("another hand deletes {name}, which is not fetched")
            }
            7 => {
                remote.commit("main", &[(&format!("{folder}/amis.json"), Some("{\"default/web\": {}}"))]);
                "another hand edits amis.json".to_owned()
            }
            8 => {
                remote.hook("pre-receive", "echo 'the branch is protected' >&2; exit 1");
                let state = self.flush().await;
                format!("a push is refused: {}", state.is_up_to_date())
            }
            9 => {
                let mut store = self.store();
                let path = if store.settings.status_path() == "status" { "state" } else { "status" };
                let errors = dice.roll(2) == 0;
                let settings = json!({"statusPath": path, "publish": {"errors": errors}});
                store.settings = serde_json::from_value(settings).expect("settings");
                store.load();
                format!("statusPath is {path}, errors are {errors}")
            }
            10 => {
                remote.commit("main", &[("README.md", Some(&step.to_string()))]);
                self.git.fetch().await.expect("a tip");
                "a commit that changes no status file".to_owned()
            }
            _ => {
                self.allow_pushes();
                format!("a flush: {:?}", self.flush().await.is_up_to_date())
            }
        }
    }
}
