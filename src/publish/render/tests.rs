//! Which files a batch contains, and what is left out of them.

use serde_json::{Value, json};

use super::*;
use crate::api::CommitId;
use crate::manifest::{Document, DocumentText, ObjectSet};
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

/// A commit that declares these builders.
fn synced(declared: &[&str]) -> Synced {
    let document = |name: &&str| Document {
        object: ObjectKey::of(Kind::PackerBuilder, &builder(name, json!(null))),
        json: DocumentText::from(&Value::Null),
        file: format!("{name}.yaml"),
        line: 1,
    };
    Synced {
        commit: CommitId::parse("a".repeat(40)).expect("an id"),
        input: String::new(),
        set: ObjectSet { documents: declared.iter().map(document).collect(), ..ObjectSet::default() },
        difference: None,
        status_files: Vec::new(),
    }
}

fn rendered(
    synced: &Synced,
    builders: Vec<PackerBuilder>,
    refreshers: Vec<AMIRefresher>,
    published: &mut PublishedObjects,
) -> Batch {
    let (builders, refreshers) = (Box::new(builders.into_iter()), Box::new(refreshers.into_iter()));
    render(Snapshot { builders, refreshers, known: Vec::new() }, synced, published)
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
    let (synced, mut published) = (synced(&["web"]), PublishedObjects::default());
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
        let batch = rendered(&synced(&[]), vec![], refreshers, &mut PublishedObjects::default());
        assert_eq!(!batch.files.is_empty(), is_published, "{status}");
    }
}

#[test]
fn a_builder_that_does_not_exist_any_more_loses_its_file_and_its_entry() {
    let image = json!([{"region": "us-east-1", "architecture": "x86_64", "id": "ami-1"}]);
    let mut published = PublishedObjects::default();
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
    let mut published = PublishedObjects::default();
    rendered(&synced(&["web", "db"]), vec![builder("web", json!({}))], vec![], &mut published);
    let known = vec![ObjectKey::of(Kind::PackerBuilder, &builder("web", json!(null)))];
    let snapshot =
        Snapshot { builders: Box::new(std::iter::empty()), refreshers: Box::new(std::iter::empty()), known };
    assert_eq!(paths(&render(snapshot, &synced(&["db"]), &mut published)), [""; 0]);
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
    let mut synced = synced(&["web"]);
    synced.set.settings.publish = Some(PublishSettings { errors: Some(false), ..PublishSettings::default() });
    let builder = PackerBuilder { status: Some(status.clone()), ..builder("web", json!(null)) };
    let batch = rendered(&synced, vec![builder], vec![], &mut PublishedObjects::default());
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
