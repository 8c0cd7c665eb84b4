//! A commit writes, shows and wakes what it changes, and nothing else.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::sync::atomic::{AtomicI64, Ordering};

use futures::{FutureExt as _, StreamExt as _};
use kube::ResourceExt as _;

use super::*;
use crate::api::annotations::{RECONCILE_AT, SUSPEND};
use crate::api::{AMIRefresherSpec, PackerBuilder};
use crate::engine::ObjectHealth;
use crate::engine::objects::Queues;

/// A home with the objects a, b and c, whose queue is read.
struct Watched {
    _dir: tempfile::TempDir,
    home: StateHome,
    objects: Arc<Objects>,
    queues: Queues,
}

/// A clock that never shows the same time twice.
fn tick() -> Timestamp {
    static SECONDS: AtomicI64 = AtomicI64::new(0);
    Timestamp::from_second(SECONDS.fetch_add(1, Ordering::Relaxed)).expect("a time")
}

impl Watched {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let (objects, queues) = Objects::new();
        let home = StateHome::open(dir.path(), objects.clone(), Secrets::default(), tick).expect("it starts");
        let mut watched = Self { _dir: dir, home, objects, queues };
        assert_eq!(watched.load(only(commit(&["a", "b", "c"], &[]), &[])), ["a", "b", "c"], "all are new");
        watched
    }

    /// Loads a commit, and reconciles what it wakes. Returns the names of those objects.
    fn load(&mut self, commit: Load) -> Vec<String> {
        self.home.shared.load_commit(&commit).expect("loaded");
        self.reconciled()
    }

    /// Reconciles what is enqueued. Only that is busy.
    fn reconciled(&mut self) -> Vec<String> {
        let mut woken = Vec::new();
        while let Some(Some(key)) = self.queues.builders.keys.next().now_or_never() {
            woken.push(key.name);
        }
        woken.sort();
        let health = self.objects.board.health().into_iter();
        let busy: Vec<_> =
            health.filter(|(_, health)| *health == ObjectHealth::Busy).map(|(it, _)| it).collect();
        assert_eq!(busy.iter().map(|object| object.key.name.clone()).collect::<Vec<_>>(), woken);
        for object in busy {
            self.objects.board.begin(&object);
            self.objects.board.end(&object, ObjectHealth::Settled);
        }
        woken
    }

    fn shown(&self, name: &str) -> Option<PackerBuilder> {
        self.objects.builders.get(&object(name).key)
    }

    /// Generation and resourceVersion.
    fn versions(&self, name: &str) -> (i64, String) {
        let shown = self.shown(name).expect("it is in the store");
        (shown.metadata.generation.expect("a generation"), shown.resource_version().expect("a version"))
    }

    /// What identifies the stored file: it is replaced by each write.
    fn stored(&self, name: &str) -> u64 {
        std::fs::metadata(self.home.shared.path(&object(name))).expect("a file").ino()
    }

    fn members(&self) -> Vec<String> {
        self.objects.board.health().into_keys().map(|object| object.key.name).collect()
    }
}

/// A commit that wakes only these objects besides those that it changes.
fn only(commit: Load, names: &[&str]) -> Load {
    let objects: BTreeSet<ObjectKey> = names.iter().map(|name| object(name)).collect();
    Load { wake: Wakes::Only(objects), ..commit }
}

/// A commit in which the document of `b` has another value at this place.
fn edited(place: &str, value: Value) -> Load {
    let mut load = only(commit(&["a", "b", "c"], &[]), &[]);
    let mut json = document("b").json.value();
    *json.pointer_mut(place).expect("a place") = value;
    load.documents.insert(Document { json: DocumentText::from(&json), ..document("b") });
    load
}

#[test]
fn the_same_commit_does_nothing() {
    let mut watched = Watched::new();
    let before = ["a", "b", "c"].map(|name| watched.stored(name));
    assert!(watched.load(only(commit(&["c", "b", "a"], &[]), &[])).is_empty());
    assert_eq!(["a", "b", "c"].map(|name| watched.stored(name)), before);
    assert_eq!(watched.versions("b"), (1, "1".to_owned()));
}

#[test]
fn a_changed_document_wakes_its_object() {
    let mut watched = Watched::new();
    let before = ["a", "c"].map(|name| watched.stored(name));
    assert_eq!(watched.load(edited("/spec/region", json!("eu-west-1"))), ["b"]);
    assert_eq!(watched.versions("b"), (2, "2".to_owned()));
    assert_eq!(watched.shown("b").expect("shown").spec.region.as_deref(), Some("eu-west-1"));
    let metadata = json!({"name": "b", "namespace": "default", "annotations": {SUSPEND: "true"}});
    assert_eq!(watched.load(edited("/metadata", metadata)), ["b"]);
    assert_eq!(watched.versions("b"), (3, "3".to_owned()), "the region is the first one again");
    let metadata = json!({"name": "b", "namespace": "default", "annotations": {SUSPEND: "false"}});
    assert_eq!(watched.load(edited("/metadata", metadata)), ["b"]);
    assert_eq!(watched.versions("b"), (3, "4".to_owned()), "only an annotation has changed");
    let labeled = json!({
        "name": "b", "namespace": "default", "annotations": {SUSPEND: "false"}, "labels": {"team": "a"},
    });
    assert_eq!(watched.load(edited("/metadata", labeled.clone())), ["b"]);
    assert_eq!(watched.shown("b").expect("shown").labels()["team"], "a");
    let stored = read_one(&watched.home.shared.dir, &object("b")).expect("read").expect("stored");
    assert_eq!((stored.version, stored.labels), (5, json!({"team": "a"})), "commands select by labels");
    assert!(watched.load(edited("/metadata", labeled)).is_empty());
    assert_eq!(["a", "c"].map(|name| watched.stored(name)), before);
}

#[test]
fn a_moved_file_is_recorded_and_wakes_nothing() {
    let mut watched = Watched::new();
    let mut load = only(commit(&["a", "b", "c"], &[]), &[]);
    load.documents.insert(Document { file: "moved.yaml".to_owned(), ..document("b") });
    assert!(watched.load(load).is_empty());
    let owner = Owner::parse("test").expect("an owner");
    assert_eq!(watched.home.owned(&owner)[&object("b")].as_deref(), Some("moved.yaml"));
    let stored = read_one(&watched.home.shared.dir, &object("b")).expect("read").expect("stored");
    assert_eq!((stored.file.as_deref(), stored.version), (Some("moved.yaml"), 1));
}

#[test]
fn an_object_without_a_manifest_is_woken_once_and_when_it_is_declared_again() {
    let mut watched = Watched::new();
    let retained = || only(commit(&["a", "c"], &["b"]), &[]);
    let removed = || Load { remove: vec![object("b")], ..only(commit(&["a", "c"], &[]), &[]) };
    assert_eq!(watched.load(retained()), ["b"]);
    assert!(watched.load(retained()).is_empty());
    assert_eq!(watched.load(removed()), ["b"]);
    let deleted = watched.shown("b").expect("shown").metadata.deletion_timestamp;
    assert!(deleted.is_some());
    assert!(watched.load(removed()).is_empty());
    assert_eq!(watched.shown("b").expect("shown").metadata.deletion_timestamp, deleted);
    assert_eq!(watched.load(only(commit(&["a", "b", "c"], &[]), &[])), ["b"]);
    assert_eq!(watched.shown("b").expect("shown").metadata.deletion_timestamp, None);
    assert_eq!(watched.versions("b"), (1, "1".to_owned()), "it declares the same as before");
}

#[test]
fn an_object_that_is_gone_is_not_shown() {
    let mut watched = Watched::new();
    assert!(watched.load(only(commit(&["a", "c"], &[]), &["b"])).is_empty());
    assert_eq!((watched.shown("b"), watched.members()), (None, vec!["a".to_owned(), "c".to_owned()]));
    assert_eq!(watched.load(only(commit(&["a", "b", "c"], &[]), &[])), ["b"]);
    watched.home.shared.remove(&object("b")).expect("removed");
    assert_eq!((watched.shown("b"), watched.members()), (None, vec!["a".to_owned(), "c".to_owned()]));
    assert_eq!(watched.load(only(commit(&["a", "b", "c"], &[]), &[])), ["b"], "it is a new one");
}

#[test]
fn a_refresher_is_removed_at_once() {
    let mut watched = Watched::new();
    let refresher = ObjectKey { kind: Kind::AMIRefresher, ..object("r") };
    let mut load = only(commit(&["a", "b", "c"], &[]), &[]);
    let json = json!({
        "apiVersion": "ami.opsy.dev/v1alpha1", "kind": "AMIRefresher",
        "metadata": {"name": "r", "namespace": "default"}, "spec": AMIRefresherSpec::default(),
    });
    let json = DocumentText::from(&json);
    load.documents.insert(Document { object: refresher.clone(), json, file: "r.yaml".to_owned(), line: 1 });
    watched.home.shared.load_commit(&load).expect("loaded");
    assert!(watched.objects.has(&refresher) && watched.home.shared.path(&refresher).exists());
    let removed = Load { remove: vec![refresher.clone()], ..only(commit(&["a", "b", "c"], &[]), &[]) };
    assert!(watched.load(removed).is_empty());
    assert!(!watched.objects.has(&refresher) && !watched.home.shared.path(&refresher).exists());
    assert_eq!(watched.members(), ["a", "b", "c"]);
}

#[test]
fn a_load_wakes_what_it_names_besides() {
    let mut watched = Watched::new();
    assert_eq!(watched.load(only(commit(&["a", "b", "c"], &[]), &["c", "unknown"])), ["c"]);
    let edited =
        Load { wake: Wakes::Only([object("a")].into()), ..edited("/spec/region", json!("eu-west-1")) };
    assert_eq!(watched.load(edited), ["a", "b"]);
    assert_eq!(watched.load(commit(&["a", "b", "c"], &[])), ["a", "b", "c"], "each once");
}

#[test]
fn an_undecodable_object_is_not_woken_until_its_manifest_is_back() {
    let mut watched = Watched::new();
    assert_eq!(watched.load(only(commit(&["a", "c"], &["b"]), &[])), ["b"]);
    let broken = edited("/spec/region", json!(["of", "an", "older", "Opsy"]));
    assert_eq!(watched.load(Load { wake: Wakes::All, ..broken }), ["a", "c"]);
    assert_eq!(watched.members(), ["a", "c"]);
    let reason = watched.home.out_of_sync(&object("b")).map(|(reason, _)| reason);
    assert_eq!((watched.shown("b"), reason), (None, Some("Undecodable")));
    assert_eq!(watched.load(only(commit(&["a", "b", "c"], &[]), &[])), ["b"]);
    assert_eq!(watched.home.out_of_sync(&object("b")), None);
}

#[test]
fn a_request_wakes_its_object_once_and_makes_a_running_reconcile_stale() {
    let mut watched = Watched::new();
    let state = watched.home.shared.state.clone();
    requests::annotate(&state, &object("a"), RECONCILE_AT, Some("now")).expect("written");
    watched.home.read_requests();
    assert_eq!(watched.reconciled(), ["a"]);
    requests::annotate(&state, &object("b"), SUSPEND, Some("true")).expect("written");
    assert_eq!(watched.load(only(commit(&["a", "b", "c"], &[]), &[])), ["b"]);
    watched.home.read_requests();
    assert!(watched.reconciled().is_empty());
    for name in ["a", "b"] {
        assert_eq!(watched.versions(name), (1, "2".to_owned()));
    }
    assert_eq!(watched.shown("b").expect("shown").annotations()[SUSPEND], "true");
}

#[test]
fn after_a_restart_all_objects_are_woken_and_none_is_written() {
    let state = tempfile::tempdir().expect("a folder");
    home(state.path()).0.shared.load_commit(&commit(&["good", "bad"], &[])).expect("loaded");
    let files = || ["good", "bad"].map(|name| files::of(&objects_dir(state.path()), &object(name)));
    let inodes = || files().map(|file| std::fs::metadata(file).expect("a file").ino());
    let before = inodes();
    let (home, objects) = home(state.path());
    assert!(objects.board.health().is_empty(), "nothing is shown before a commit is loaded");
    home.shared.load_commit(&only(commit(&["good", "bad"], &[]), &[])).expect("loaded");
    assert!(objects.board.health().values().all(|health| *health == ObjectHealth::Busy));
    assert_eq!((objects.board.health().len(), inodes()), (2, before));
}

#[test]
fn a_commit_that_cannot_be_written_is_not_shown_and_is_loaded_later() {
    let mut watched = Watched::new();
    let file = watched.home.shared.path(&object("b"));
    std::fs::remove_file(&file).expect("removed");
    std::fs::create_dir_all(file.join("taken")).expect("made");
    let edited = || edited("/spec/region", json!("eu-west-1"));
    watched.home.shared.load_commit(&edited()).expect_err("a directory is in the way");
    assert_eq!((watched.versions("b").0, watched.reconciled()), (1, Vec::new()));
    std::fs::remove_dir_all(&file).expect("removed");
    assert_eq!(watched.load(edited()), ["b"]);
    assert_eq!(watched.versions("b"), (2, "2".to_owned()));
}
