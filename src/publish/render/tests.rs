//! Which files a batch contains, and what is left out of them.

mod changes;

use std::cell::{Cell, RefCell};

use kube::Resource;
use serde_json::{Value, json};

use super::*;
use crate::api::CommitId;
use crate::git::commit::Edit;
use crate::manifest::{Document, DocumentText, ObjectSet};
use crate::publish::Rendered;
use crate::settings::PublishSettings;

fn builder(name: &str, status: Value) -> PackerBuilder {
    let mut builder = PackerBuilder::new(name, serde_json::from_value(json!({})).expect("a spec"));
    builder.metadata.namespace = Some("default".to_owned());
    builder.status = serde_json::from_value(status).expect("a status");
    builder
}

fn refresher(name: &str, status: Value) -> AMIRefresher {
    let spec = json!({"region": "us-east-1", "clusterName": "demo"});
    let mut refresher = AMIRefresher::new(name, serde_json::from_value(spec).expect("a spec"));
    refresher.metadata.namespace = Some("default".to_owned());
    refresher.status = serde_json::from_value(status).expect("a status");
    refresher
}

/// An object of the engine, and the names of those that were decoded.
struct Packed<'a, K> {
    object: K,
    decoded: &'a RefCell<Vec<String>>,
}

impl<K> Unread<K> for Packed<'_, K>
where
    K: Resource<DynamicType = ()> + HasStatus<Status: Clone + Send + Sync + 'static> + Clone,
{
    fn key(&self) -> Key {
        ObjectKey::of(Kind::PackerBuilder, &self.object).key
    }
    fn version(&self) -> Option<ObjectVersion> {
        ObjectVersion::of(self.object.meta())
    }
    fn read(&self) -> K {
        self.decoded.borrow_mut().push(self.key().name);
        self.object.clone()
    }
    fn status(&self) -> ReadStatus<K::Status> {
        let name = self.key().name;
        // The status of a refresher is read with the rest of it.
        if self.decoded.borrow().last() != Some(&name) {
            self.decoded.borrow_mut().push(name);
        }
        let status = self.object.status().cloned();
        Arc::new(move || status.clone())
    }
}

/// The same object with this resourceVersion.
fn at<K: Resource>(version: u64, mut object: K) -> K {
    let created = serde_json::from_value(json!("2026-03-01T12:00:00Z")).expect("a time");
    object.meta_mut().creation_timestamp = Some(created);
    object.meta_mut().resource_version = Some(version.to_string());
    object
}

/// A commit that declares these builders.
fn synced(declared: &[&str]) -> Arc<Synced> {
    let document = |name: &&str| Document {
        object: ObjectKey::of(Kind::PackerBuilder, &builder(name, json!(null))),
        json: DocumentText::from(&Value::Null),
        file: format!("{name}.yaml"),
        line: 1,
    };
    Arc::new(Synced {
        commit: CommitId::parse("a".repeat(40)).expect("an id"),
        set: Arc::new(ObjectSet {
            documents: declared.iter().map(document).collect(),
            ..ObjectSet::default()
        }),
        difference: None,
        status_files: Arc::default(),
    })
}

fn rendered(
    synced: &Arc<Synced>,
    builders: Vec<PackerBuilder>,
    refreshers: Vec<AMIRefresher>,
    renderer: &mut Renderer,
) -> Batch {
    decoding(synced, builders, refreshers, renderer).0
}

/// The batch, and the names of the objects that were decoded for it.
fn decoding(
    synced: &Arc<Synced>,
    builders: Vec<PackerBuilder>,
    refreshers: Vec<AMIRefresher>,
    renderer: &mut Renderer,
) -> (Batch, Vec<String>) {
    let decoded = RefCell::default();
    let engine = Engine { builders, refreshers, ..Engine::new(&decoded) };
    let batch = renderer.render(&engine, synced);
    (batch, decoded.take())
}

/// The objects of an engine.
struct Engine<'a> {
    builders: Vec<PackerBuilder>,
    refreshers: Vec<AMIRefresher>,
    owned: BTreeSet<ObjectKey>,
    version: Option<u64>,
    /// What was written since any version.
    changed: Option<BTreeSet<ObjectKey>>,
    /// Whether all objects were looked at.
    looked: Cell<bool>,
    decoded: &'a RefCell<Vec<String>>,
}

impl<'a> Engine<'a> {
    fn new(decoded: &'a RefCell<Vec<String>>) -> Self {
        let (builders, refreshers, owned) = (Vec::new(), Vec::new(), BTreeSet::new());
        Self { builders, refreshers, owned, version: None, changed: None, looked: Cell::new(false), decoded }
    }

    fn packed<K: Clone>(&self, object: &K) -> Packed<'a, K> {
        Packed { object: object.clone(), decoded: self.decoded }
    }
}

impl<'a> Snapshot for Engine<'a> {
    type Builder = Packed<'a, PackerBuilder>;
    type Refresher = Packed<'a, AMIRefresher>;

    fn version(&self) -> Option<u64> {
        self.version
    }
    fn changed_since(&self, _: u64) -> Option<BTreeSet<ObjectKey>> {
        self.changed.clone()
    }
    fn builders(&self) -> impl IntoIterator<Item = Self::Builder> {
        self.looked.set(true);
        self.builders.iter().map(|object| self.packed(object))
    }
    fn refreshers(&self) -> impl IntoIterator<Item = Self::Refresher> {
        self.refreshers.iter().map(|object| self.packed(object))
    }
    fn builder(&self, key: &Key) -> Option<Self::Builder> {
        self.builders().into_iter().find(|builder| builder.key() == *key)
    }
    fn refresher(&self, key: &Key) -> Option<Self::Refresher> {
        self.refreshers().into_iter().find(|refresher| refresher.key() == *key)
    }
    fn owned(&self) -> BTreeSet<ObjectKey> {
        self.owned.clone()
    }
}

fn paths(batch: &Batch) -> Vec<&str> {
    batch.files.iter().map(|file| file.path.as_str()).collect()
}

fn content(file: &Rendered) -> String {
    let (Edit::Renew(write) | Edit::Merge(write)) = &file.edit else { panic!("it has content") };
    String::from_utf8(write(None).expect("content")).expect("text")
}

const WEB: &str = "default/packerbuilders/web.yaml";

#[test]
fn while_work_is_in_progress_the_file_stays_as_it_is() {
    let reconciling = json!([{"type": "Reconciling", "status": "True"}]);
    let image = json!([{"region": "us-east-1", "architecture": "x86_64", "id": "ami-1"}]);
    let (synced, mut published) = (synced(&["web"]), Renderer::default());
    let busy = builder("web", json!({"conditions": reconciling, "images": image}));
    let rolling = refresher("demo", json!({"conditions": reconciling, "targetAMI": "ami-1"}));
    let batch = rendered(&synced, vec![busy], vec![rolling], &mut published);
    assert!(batch.files.is_empty() && batch.is_incomplete, "{batch:?}");
    let (web, demo) = (json!({"images": image}), json!({"targetAMI": "ami-1"}));
    let settled = rendered(&synced, vec![builder("web", web)], vec![refresher("demo", demo)], &mut published);
    let files = vec![WEB, "default/amirefreshers/demo.yaml", "amis.json"];
    assert_eq!((paths(&settled), settled.is_incomplete), (files, false));
    assert!(content(&settled.files[2]).contains("ami-1"));
}

#[test]
fn a_refresher_is_published_from_its_first_target_or_when_it_is_stalled() {
    let stalled = json!([{"type": "Stalled", "status": "True", "reason": "InvalidSpec"}]);
    let waiting = json!([{"type": "Ready", "status": "False", "reason": "ImagePending"}]);
    for (status, is_published) in [
        (json!(null), false),
        (json!({"conditions": waiting}), false),
        (json!({"conditions": stalled}), true),
        (json!({"targetAMI": "ami-1"}), true),
    ] {
        let refreshers = vec![refresher("demo", status.clone())];
        let batch = rendered(&synced(&[]), vec![], refreshers, &mut Renderer::default());
        assert_eq!(!batch.files.is_empty(), is_published, "{status}");
    }
}

#[test]
fn a_builder_that_does_not_exist_any_more_loses_its_file_and_its_entry() {
    let image = json!([{"region": "us-east-1", "architecture": "x86_64", "id": "ami-1"}]);
    let mut published = Renderer::default();
    let both = vec![builder("web", json!({"images": image})), builder("db", json!({"images": image}))];
    rendered(&synced(&["web", "db"]), both, vec![], &mut published);
    let web = vec![builder("web", json!({"images": image}))];
    let batch = rendered(&synced(&["web"]), web, vec![], &mut published);
    assert_eq!(paths(&batch), [WEB, "default/packerbuilders/db.yaml", "amis.json"]);
    assert!(matches!(batch.files[1].edit, Edit::Remove));
    assert_eq!(batch.files[1].summary.as_deref(), Some("db was removed"));
    let Edit::Merge(merge) = &batch.files[2].edit else { panic!("amis.json is merged") };
    let merged = merge(Some(br#"{"default/db": {}, "default/of-another-agent": {}}"#)).expect("JSON");
    let merged: Value = serde_json::from_slice(&merged).expect("JSON");
    assert_eq!(merged["default/of-another-agent"], json!({}));
    assert!(merged["default/web"].is_object() && merged.get("default/db").is_none(), "{merged}");
}

#[test]
fn the_file_of_an_object_that_the_engine_cannot_decode_stays() {
    let mut published = Renderer::default();
    rendered(&synced(&["web", "db"]), vec![builder("web", json!({}))], vec![], &mut published);
    let owned = [ObjectKey::of(Kind::PackerBuilder, &builder("web", json!(null)))].into();
    let decoded = RefCell::default();
    let batch = published.render(&Engine { owned, ..Engine::new(&decoded) }, &synced(&["db"]));
    assert_eq!(paths(&batch), [""; 0]);
}

#[test]
fn objects_are_looked_at_only_if_one_was_written_or_something_is_not_published() {
    let (commit, mut renderer) = (synced(&["web"]), Renderer::default());
    let looked = |version: u64, commit: &Arc<Synced>, renderer: &mut Renderer| {
        let decoded = RefCell::default();
        let builders = vec![at(1, builder("web", json!({"state": "FlightChecks"})))];
        let engine = Engine { builders, version: Some(version), ..Engine::new(&decoded) };
        renderer.render(&engine, commit);
        engine.looked.get()
    };
    assert!(looked(1, &commit, &mut renderer));
    assert!(looked(1, &commit, &mut renderer), "the batch is not published");
    renderer.published();
    assert!(!looked(1, &commit, &mut renderer));
    assert!(looked(2, &commit, &mut renderer), "an object was written");
    assert!(!looked(2, &commit, &mut renderer), "there was nothing to publish");
    assert!(looked(2, &synced(&["web"]), &mut renderer), "another commit may prune objects");
    renderer.forget();
    assert!(looked(2, &commit, &mut renderer), "another hand may have changed the branch");
}

#[test]
fn what_templates_printed_is_left_out_where_that_is_set() {
    let mut status: crate::api::PackerBuilderStatus = serde_json::from_value(json!({
        "images": [{"region": "us-east-1", "architecture": "x86_64", "id": "ami-old"}],
        "inputs": {"baseAMI": "ami-base"},
        "conditions": [{"type": "Ready", "status": "False", "reason": "x", "message": "build: s3cret"}],
        "history": [
            {"id": "b2", "result": "Failed", "step": "build", "errors": ["s3cret"], "output": ["s3cret"]},
        ],
    }))
    .expect("a status");
    let cause = status.history.as_ref().expect("runs")[0].cause();
    status.last_run_message = cause;
    let mut synced = Arc::unwrap_or_clone(synced(&["web"]));
    Arc::make_mut(&mut synced.set).settings.publish =
        Some(PublishSettings { errors: Some(false), ..PublishSettings::default() });
    let builder = PackerBuilder { status: Some(status.clone()), ..builder("web", json!(null)) };
    let batch = rendered(&Arc::new(synced), vec![builder], vec![], &mut Renderer::default());
    let file = content(&batch.files[0]);
    assert!(!file.contains("s3cret") && file.contains("b2"), "{file}");
    let summary = batch.files[0].summary.as_deref().unwrap_or_default();
    assert!(
        summary.starts_with("web: build failed, ami-old stays active") && !summary.contains("s3cret"),
        "{summary}"
    );

    redact::remove_errors(&mut status);
    let status = serde_json::to_string(&status).expect("JSON");
    assert!(!status.contains("s3cret") && status.contains("opsy status"), "{status}");
    let of_run = ["\"id\":\"b2\"", "\"step\":\"build\"", "\"result\":\"Failed\""];
    assert!(of_run.iter().all(|field| status.contains(field)), "{status}");
}
