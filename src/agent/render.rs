//! What is published of the objects there are, and read back where the state directory knows nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use kube::ResourceExt;
use serde_json::Value;
use tokio::sync::watch;

use super::reconcilers::owner_of;
use crate::api::builder::{LaneImage, RunRecord};
use crate::api::conditions::{self, Condition};
use crate::api::{AMIRefresherStatus, CommitId, Key, Kind, ObjectKey, Owner, PackerBuilderStatus};
use crate::engine::Home;
use crate::engine::objects::Objects;
use crate::git::commit::Edit;
use crate::manifest::write::{self, AMIS_FILE, AmiUpdate, ObjectStatus};
use crate::publish::{Batch, Publishing, Render, Rendered};
use crate::sync::{Synced, prune};

/// Renders everything there is to publish, whenever it is asked.
pub fn files(
    objects: Arc<Objects>,
    home: Arc<dyn Home>,
    owner: Owner,
    synced: watch::Receiver<Option<Arc<Synced>>>,
) -> Render {
    let published: Mutex<Published> = Mutex::default();
    Arc::new(move || {
        let Some(synced) = synced.borrow().clone() else { return Batch::default() };
        let mut published = published.lock().expect("no code panics while it holds the published objects");
        let known = home.known(&owner_of(&synced, &owner)).into_keys().collect();
        all(&objects, known, &synced, &mut published)
    })
}

/// What the branch holds status of.
#[derive(Default)]
struct Published {
    /// Whose status files were read: they are the same until the next commit is loaded.
    commit: Option<CommitId>,
    objects: BTreeSet<ObjectKey>,
    /// Pruned since: their files and entries go too.
    gone: BTreeSet<ObjectKey>,
}

impl Published {
    /// Takes up what is there now. A file goes as an object does: only if the prune guard lets it.
    fn update(&mut self, present: BTreeSet<ObjectKey>, synced: &Synced) {
        if self.commit.as_ref() != Some(&synced.commit) {
            self.objects.extend(seeds(&synced.status_files).into_keys());
            self.commit = Some(synced.commit.clone());
        }
        self.objects.extend(present.iter().cloned());
        let pruned = prune::decide(&self.objects, &synced.set).remove;
        for object in pruned.into_iter().filter(|object| !present.contains(object)) {
            self.objects.remove(&object);
            self.gone.insert(object);
        }
        self.gone.retain(|object| !present.contains(object));
    }
}

fn all(objects: &Objects, known: Vec<ObjectKey>, synced: &Synced, published: &mut Published) -> Batch {
    let mut files = Vec::new();
    let mut amis = BTreeMap::new();
    let mut present = BTreeSet::new();
    let mut more = false;
    let publish = synced.set.settings.publish.as_ref();
    let with_errors = publish.and_then(|publish| publish.errors) != Some(false);
    for builder in objects.builders.all() {
        let object = name_of(Kind::PackerBuilder, &builder);
        // The same status makes another file when the setting changes.
        let version = version(&builder).map(|version| format!("{version}/{with_errors}"));
        let (status, waits) = apart(builder.status, |status| &status.conditions);
        more |= waits;
        if let Some(mut status) = status {
            if !with_errors {
                leave_errors_out(&mut status);
            }
            amis.insert(object.key.clone(), AmiUpdate::Images(status.images.clone().unwrap_or_default()));
            files.push(status_file(&object, version, ObjectStatus::PackerBuilder(Box::new(status))));
        }
        present.insert(object);
    }
    for refresher in objects.refreshers.all() {
        let object = name_of(Kind::AMIRefresher, &refresher);
        let version = version(&refresher);
        let (status, waits) = apart(refresher.status, |status| &status.conditions);
        more |= waits;
        if let Some(status) = status.filter(has_outcome) {
            files.push(status_file(&object, version, ObjectStatus::AMIRefresher(Box::new(status))));
        }
        present.insert(object);
    }
    present.extend(known);
    published.update(present, synced);
    for gone in &published.gone {
        if gone.kind == Kind::PackerBuilder {
            amis.insert(gone.key.clone(), AmiUpdate::Gone);
        }
        files.push(removed(gone));
    }
    if !amis.is_empty() {
        files.push(amis_file(amis));
    }
    Batch { files, more }
}

/// Status files hold outcomes: while work is under way the file stays as it is, and the status waits.
fn apart<S>(status: Option<S>, conditions: fn(&S) -> &Option<Vec<Condition>>) -> (Option<S>, bool) {
    let under_way = |status: &S| {
        conditions::is_true(conditions(status).as_deref().unwrap_or_default(), conditions::RECONCILING)
    };
    match status {
        Some(status) if under_way(&status) => (None, true),
        status => (status, false),
    }
}

/// Removes what templates printed: it would stay in Git forever. A message that may quote it says where to find it.
fn leave_errors_out(status: &mut PackerBuilderStatus) {
    let mut quoted = status.last_run_message.take().is_some();
    for run in status.history.iter_mut().flatten() {
        quoted |= run.has_failed() || run.errors.is_some() || run.output.is_some();
        *run = without_output(std::mem::take(run));
    }
    let messages = status.conditions.iter_mut().flatten().filter(|condition| {
        let of_pass = [conditions::READY, conditions::RECONCILING, conditions::STALLED];
        of_pass.contains(&condition.r#type.as_str()) && quoted
    });
    for condition in messages {
        condition.message = Some("`opsy status` shows the message (publish.errors: false)".to_owned());
    }
}

/// A record with the fields that no template prints. A field that is added later stays out until it is listed here.
fn without_output(run: RunRecord) -> RunRecord {
    RunRecord {
        id: run.id,
        result: run.result,
        why: run.why,
        commit: run.commit,
        inputs: run.inputs,
        images: run.images,
        base_ami: run.base_ami,
        started_at: run.started_at,
        ended_at: run.ended_at,
        failure: run.failure,
        step: run.step,
        packer_build: run.packer_build,
        advice: run.advice,
        reset: run.reset,
        ..RunRecord::default()
    }
}

/// A refresher that never had a target waits for its first image: that is no outcome yet.
fn has_outcome(status: &AMIRefresherStatus) -> bool {
    let conditions = status.conditions.as_deref().unwrap_or_default();
    status.target_ami.is_some() || conditions::is_true(conditions, conditions::STALLED)
}

fn status_file(object: &ObjectKey, version: Option<String>, status: ObjectStatus) -> Rendered {
    let (news, trailers) = (Some(news(object, &status)), trailers(&status));
    let key = object.key.clone();
    let merge = move |previous: Option<&[u8]>| {
        let previous = previous.map(String::from_utf8_lossy);
        let text =
            write::status_file(&key, &status, previous.as_deref()).map_err(|error| error.to_string())?;
        Ok(text.into_bytes())
    };
    let resource = Some(object.to_string());
    Rendered {
        path: write::status_path(object),
        edit: Edit::Renew(Arc::new(merge)),
        resource,
        news,
        trailers,
        version,
    }
}

/// A status is the same as long as the object is: both change with every write.
fn version<K: ResourceExt>(object: &K) -> Option<String> {
    let since = object.creation_timestamp()?.0;
    Some(format!("{since}/{}", object.resource_version()?))
}

fn removed(object: &ObjectKey) -> Rendered {
    Rendered {
        path: write::status_path(object),
        edit: Edit::Remove,
        resource: Some(object.to_string()),
        news: Some(format!("{} is gone", object.key.name)),
        trailers: Vec::new(),
        version: None,
    }
}

fn amis_file(amis: BTreeMap<Key, AmiUpdate>) -> Rendered {
    let merge = move |previous: Option<&[u8]>| {
        write::amis_json(previous, &amis)
            .map_err(|error| format!("{AMIS_FILE}: {error}; correct or remove it"))
    };
    let edit = Edit::Merge(Arc::new(merge));
    Rendered {
        path: AMIS_FILE.to_owned(),
        edit,
        resource: None,
        news: None,
        trailers: Vec::new(),
        version: None,
    }
}

/// What the commit says of an object.
fn news(object: &ObjectKey, status: &ObjectStatus) -> String {
    let name = &object.key.name;
    match status {
        ObjectStatus::PackerBuilder(status) => match (failed(status), status.images.as_deref()) {
            (Some(run), images) => format!("{name}: {}", failure_words(run, images.unwrap_or_default())),
            (None, Some([image, ..])) => format!("{name}: {} is active", image.id),
            _ => format!("{name}: {}", last_words(status.conditions.as_deref())),
        },
        ObjectStatus::AMIRefresher(status) => match &status.target_ami {
            Some(target) if status.drifted.unwrap_or(0) == 0 => format!("{name}: rolled out {target}"),
            _ => format!("{name}: {}", last_words(status.conditions.as_deref())),
        },
    }
}

/// The last build, where it failed and the builder is not ready all the same.
fn failed(status: &PackerBuilderStatus) -> Option<&RunRecord> {
    let ready = conditions::is_true(status.conditions.as_deref().unwrap_or_default(), conditions::READY);
    status.history.iter().flatten().next().filter(|run| !ready && run.has_failed())
}

fn failure_words(run: &RunRecord, images: &[LaneImage]) -> String {
    let stays = match images.iter().find(|image| image.gone != Some(true)) {
        Some(image) => format!(", {} stays active", image.id),
        None if images.is_empty() => String::new(),
        None => ", and the active image is gone".to_owned(),
    };
    let cause = run.explained().map_or(String::new(), |cause| format!(": {cause}"));
    format!("a build failed{stays}{cause}")
}

fn last_words(conditions: Option<&[Condition]>) -> String {
    let ready = conditions.unwrap_or_default().iter().find(|condition| condition.r#type == conditions::READY);
    ready.and_then(|ready| ready.reason.clone()).unwrap_or_else(|| "no status yet".to_owned())
}

fn trailers(status: &ObjectStatus) -> Vec<(&'static str, String)> {
    let mut trailers = Vec::new();
    match status {
        ObjectStatus::PackerBuilder(status) => {
            if let Some(run) = failed(status) {
                // The active image is of another build.
                let mut trailers = vec![("Opsy-Build", run.id.clone()), ("Opsy-Result", run.result.clone())];
                trailers.extend(run.commit.clone().map(|commit| ("Opsy-Template-Commit", commit)));
                return trailers;
            }
            let images = status.images.iter().flatten().map(|image| image.id.clone());
            let images: Vec<String> = images.collect();
            trailers.extend(images.iter().map(|image| ("Opsy-Image", image.clone())));
            let base = status.inputs.as_ref().and_then(|inputs| inputs.base_ami.clone());
            trailers.extend(base.map(|base| ("Opsy-Base-Image", base)));
            let made = |run: &&RunRecord| run.images.iter().flatten().any(|image| images.contains(image));
            if let Some(run) = status.history.iter().flatten().find(made) {
                trailers.push(("Opsy-Build", run.id.clone()));
                trailers.extend(run.commit.clone().map(|commit| ("Opsy-Template-Commit", commit)));
            }
        }
        ObjectStatus::AMIRefresher(status) => {
            trailers.extend(status.target_ami.clone().map(|target| ("Opsy-Image", target)));
        }
    }
    trailers
}

pub fn name_of<K: ResourceExt>(kind: Kind, object: &K) -> ObjectKey {
    let key = Key { namespace: object.namespace().unwrap_or_default(), name: object.name_any() };
    ObjectKey { kind, key }
}

/// Published status by object, for a state directory that knows nothing of it.
pub fn seeds(files: &[(String, Vec<u8>)]) -> BTreeMap<ObjectKey, Value> {
    let read = |(_, content): &(String, Vec<u8>)| {
        let (object, status) = write::read_status_file(std::str::from_utf8(content).ok()?).ok()?;
        Some((object, serde_json::to_value(write::seed(status)).ok()?))
    };
    files.iter().filter_map(read).collect()
}

/// The condition `Published`, in words that change only when publishing begins or ceases to fail.
pub fn published(state: &Publishing) -> Option<(&'static str, &'static str, String)> {
    match state {
        Publishing::Idle => None,
        Publishing::Off => Some(("Unknown", "Off", "opsy.yaml says publish.enabled: false".to_owned())),
        Publishing::Done { .. } => Some(("True", "Pushed", "the status in Git is current".to_owned())),
        Publishing::Refused { words, .. } => Some(("False", "PushRefused", words.clone())),
        Publishing::Failed { message, .. } => Some(("False", "PushFailed", message.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn builder(ready: &str, runs: Value) -> ObjectStatus {
        let status = json!({
            "images": [{"region": "us-east-1", "architecture": "x86_64", "id": "ami-old"}],
            "inputs": {"baseAMI": "ami-base"},
            "conditions": [{"type": "Ready", "status": ready, "reason": "x"}],
            "history": runs,
        });
        ObjectStatus::PackerBuilder(Box::new(serde_json::from_value(status).expect("a status")))
    }

    #[test]
    fn what_templates_printed_is_left_out_where_that_is_set() {
        let ObjectStatus::PackerBuilder(mut status) = builder(
            "False",
            json!([{"id": "b2", "result": "Failed", "step": "build", "errors": ["s3cret"], "output": ["s3cret"]}]),
        ) else {
            panic!("a builder's")
        };
        let ready = &mut status.conditions.as_mut().expect("conditions")[0];
        ready.message = Some("build: s3cret".to_owned());
        let cause = status.history.as_ref().expect("runs")[0].cause();
        status.last_run_message = cause;
        leave_errors_out(&mut status);
        let said = serde_json::to_string(&*status).expect("JSON");
        assert!(!said.contains("s3cret") && said.contains("opsy status"), "{said}");
        let of_run = ["\"id\":\"b2\"", "\"step\":\"build\"", "\"result\":\"Failed\""];
        assert!(of_run.iter().all(|field| said.contains(field)), "{said}");
        let key = Key { namespace: "default".into(), name: "web".into() };
        let status = ObjectStatus::PackerBuilder(status);
        let file = write::status_file(&key, &status, None).expect("a file");
        assert!(!file.contains("s3cret") && file.contains("b2"), "{file}");
        let ObjectStatus::PackerBuilder(status) = status else { panic!("a builder's") };
        let object = ObjectKey {
            kind: Kind::PackerBuilder,
            key: Key { namespace: "default".into(), name: "web".into() },
        };
        let said = news(&object, &ObjectStatus::PackerBuilder(status));
        assert!(said.starts_with("web: a build failed, ami-old stays active"), "{said}");
    }

    #[test]
    fn a_commit_says_that_a_build_failed_and_that_the_old_image_stays() {
        let object = ObjectKey {
            kind: Kind::PackerBuilder,
            key: Key { namespace: "default".into(), name: "web".into() },
        };
        let runs = json!([
            {"id": "b2", "result": "Failed", "step": "build", "errors": ["boom"]},
            {"id": "b1", "result": "Succeeded", "images": ["ami-old"]},
        ]);
        let failed = builder("False", runs.clone());
        assert_eq!(news(&object, &failed), "web: a build failed, ami-old stays active: build: boom");
        let of_failed = [("Opsy-Build", "b2".to_owned()), ("Opsy-Result", "Failed".to_owned())];
        assert_eq!(trailers(&failed), of_failed);
        let good = builder("True", runs);
        assert_eq!(news(&object, &good), "web: ami-old is active", "the inputs are as before again");
        assert!(trailers(&good).contains(&("Opsy-Build", "b1".to_owned())), "{:?}", trailers(&good));
    }
}
