//! A commit that only edits manifests is read by its difference to the one before. The result is that of a first reading.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use opsy::manifest::{Edited, ObjectSet, Reader, SourceFile};
use opsy::sync::{Outputs, Parser, Sync, Synced};

use super::bed::Bed;

/// What was read, in order.
type Readings = Arc<Mutex<Vec<&'static str>>>;

/// A reader that records how it is used.
struct Recorded {
    reader: Reader,
    readings: Readings,
    saves: Arc<AtomicUsize>,
}

impl Parser for Recorded {
    fn read(&mut self, files: &[SourceFile]) -> ObjectSet {
        self.readings.lock().expect("not poisoned").push("all");
        self.reader.read(files)
    }
    fn reread(&mut self, edited: &Edited) -> Option<ObjectSet> {
        let set = self.reader.reread(edited);
        self.readings.lock().expect("not poisoned").push(if set.is_some() { "edits" } else { "no edits" });
        set
    }
    fn save(&mut self) {
        self.saves.fetch_add(1, Ordering::Relaxed);
    }
}

fn builder(name: &str, region: &str) -> String {
    format!(
        "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {{name: {name}}}\nspec: {{region: {region}}}\n"
    )
}

/// A sync that follows a repository.
struct Scene {
    bed: Bed,
    sync: Sync,
    _outputs: Outputs,
    readings: Readings,
    saves: Arc<AtomicUsize>,
}

impl Scene {
    async fn new() -> Self {
        let bed = Bed::start();
        let (git, readings, saves) = (bed.handle(), Readings::default(), Arc::new(AtomicUsize::new(0)));
        let parser = Recorded { reader: Reader::default(), readings: readings.clone(), saves: saves.clone() };
        let (sync, outputs) = Sync::new(git, Box::new(parser), Timestamp::now);
        let mut scene = Self { bed, sync, _outputs: outputs, readings, saves };
        let (a, b) = (builder("a", "us-east-1"), builder("b", "us-east-1"));
        let files =
            [("a.yaml", a.as_str()), ("b.yaml", &b), ("opsy.yaml", ""), ("status/a.yaml", "s1"), ("x", "1")];
        assert_eq!(scene.push(&files.map(|(path, text)| (path, Some(text)))).await, ["all"]);
        scene
    }

    /// Pushes files and syncs. Returns what was read for it.
    async fn push(&mut self, files: &[(&str, Option<&str>)]) -> Vec<&'static str> {
        self.bed.remote().commit("main", files);
        self.follow().await
    }

    async fn follow(&mut self) -> Vec<&'static str> {
        let synced = self.sync.once().await.expect("synced");
        let fresh = Sync::new(self.bed.handle(), Box::new(Reader::default()), Timestamp::now).0.once().await;
        let fresh = fresh.expect("synced");
        assert_eq!((&synced.commit, &synced.set), (&fresh.commit, &fresh.set));
        let readings = std::mem::take(&mut *self.readings.lock().expect("not poisoned"));
        let complete = readings.iter().filter(|reading| **reading != "no edits").count();
        assert_eq!(self.saves.swap(0, Ordering::Relaxed), complete, "what was read may be saved");
        readings
    }

    async fn synced(&mut self) -> Arc<Synced> {
        self.sync.once().await.expect("synced")
    }
}

#[tokio::test]
async fn edits_of_manifests_are_read_alone() {
    let mut scene = Scene::new().await;
    let west = builder("a", "us-west-2");
    assert_eq!(scene.push(&[("a.yaml", Some(&west))]).await, ["edits"]);
    assert_eq!(scene.push(&[("x", Some("2"))]).await, [""; 0], "no manifest differs");
    assert_eq!(
        scene.push(&[("x", Some("3")), ("b.yaml", Some(&builder("b", "eu-west-1")))]).await,
        ["edits"]
    );
    assert_eq!(
        scene.push(&[("b.yaml", Some("apiVersion: ami.opsy.dev/v1alpha1\nkind: ["))]).await,
        ["edits"]
    );
    assert!(!scene.synced().await.set.complete());
    let noted = builder("a", "us-west-2") + "status: {}\n";
    assert_eq!(scene.push(&[("a.yaml", Some(&noted))]).await, ["edits"], "a note");
    let paths = scene.synced().await.difference.clone().expect("known").paths.expect("few");
    assert_eq!(*paths, [""; 0], "a manifest is not an input of a template");
}

#[tokio::test]
async fn manifests_that_come_and_go_are_read_alone() {
    let mut scene = Scene::new().await;
    let (c, d) = (builder("c", "us-east-1"), builder("d", "us-east-1"));
    assert_eq!(scene.push(&[("c.yaml", Some(&c))]).await, ["edits"], "a new file");
    assert_eq!(scene.push(&[("c.yaml", None), ("new/c.yaml", Some(&c))]).await, ["edits"], "a moved file");
    let two = format!("{}---\n{d}", builder("b", "us-east-1"));
    assert_eq!(scene.push(&[("b.yaml", Some(&two)), ("z", Some("1"))]).await, ["edits"], "a second object");
    assert_eq!(scene.push(&[("new/c.yaml", None), ("z", None)]).await, ["edits"], "a removed file");
    scene.bed.remote().commit("main", &[("status/c.yaml", Some("s"))]);
    assert_eq!(scene.push(&[("c.yaml", Some(&c))]).await, ["edits"], "an object with a status file");
    let synced = scene.synced().await;
    let files: Vec<&str> = synced.status_files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["a.yaml", "c.yaml"]);
    assert_eq!(synced.set.documents.len(), 4);
    let none = [("a.yaml", None), ("b.yaml", None), ("c.yaml", None)];
    assert_eq!(scene.push(&none).await, ["edits", "all"], "no manifest is left");
}

#[tokio::test]
async fn whatever_else_can_matter_is_read_as_a_whole() {
    let mut scene = Scene::new().await;
    let a = builder("a", "us-west-2");
    assert_eq!(
        scene.push(&[("opsy.yaml", Some("namespace: n\n"))]).await,
        ["no edits", "all"],
        "the settings"
    );
    assert_eq!(scene.push(&[("b.yaml", Some(&a))]).await, ["no edits", "all"], "a duplicate");
    let b = builder("b", "us-east-1");
    assert_eq!(
        scene.push(&[("b.yaml", Some(&b))]).await,
        ["no edits", "all"],
        "that hid another file's object"
    );
    assert_eq!(
        scene.push(&[("x", None), ("x/y.yaml", Some(&a))]).await,
        ["no edits", "all"],
        "a duplicate in the place of a file"
    );
    assert_eq!(scene.push(&[("x/y.yaml", None)]).await, ["no edits", "all"], "that ends");
    assert_eq!(scene.push(&[("x/.opsyignore", Some("z"))]).await, ["all"], "an ignore file");
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 812\n";
    assert_eq!(scene.push(&[("b.yaml", Some(pointer))]).await, ["all"], "a pointer");
    assert_eq!(scene.push(&[("b.yaml", Some(&b))]).await, ["no edits", "all"], "that ends");
    scene.bed.remote().link("main", "docs", "status");
    assert_eq!(scene.follow().await, ["all"], "a link");
    assert_eq!(
        scene.push(&[("a.yaml", Some(&builder("a", "eu-west-1")))]).await,
        ["all"],
        "it may hide manifests"
    );
}

#[tokio::test]
async fn status_files_that_differ_are_read_with_an_edit() {
    let mut scene = Scene::new().await;
    let edit = |region: &str| builder("a", region);
    scene.bed.remote().commit("main", &[("status/left.yaml", Some("s"))]);
    assert_eq!(scene.push(&[("a.yaml", Some(&edit("eu-west-1")))]).await, ["edits"]);
    let files = |synced: &opsy::sync::Synced| -> Vec<(String, Vec<u8>)> {
        synced.status_files.iter().map(|file| (file.path.clone(), file.content.to_vec())).collect()
    };
    let paths: Vec<_> = files(&*scene.synced().await).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["a.yaml", "left.yaml"]);
    scene.bed.remote().commit("main", &[("status/a.yaml", Some("s2")), ("status/left.yaml", None)]);
    assert_eq!(scene.push(&[("a.yaml", Some(&edit("us-west-2")))]).await, ["edits"]);
    assert_eq!(files(&*scene.synced().await), [("a.yaml".to_owned(), b"s2".to_vec())]);
}
