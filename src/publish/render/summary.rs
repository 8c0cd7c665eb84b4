//! What the commit message says of an object: one line, and trailers. Pure.

use crate::api::builder::{LaneImage, RunRecord};
use crate::api::conditions::{Condition, READY, is_true};
use crate::api::words::RolloutResult;
use crate::api::{AMIRefresherStatus, ObjectKey, PackerBuilderStatus};
use crate::manifest::write::ObjectStatus;

/// The outcome of an object in one line.
pub fn line(object: &ObjectKey, status: &ObjectStatus) -> String {
    let name = &object.key.name;
    match status {
        ObjectStatus::PackerBuilder(status) => match (failed_run(status), status.images.as_deref()) {
            (Some(run), images) => format!("{name}: {}", failure(run, images.unwrap_or_default())),
            (None, Some([image, ..])) => format!("{name}: {} is active", image.id),
            _ => format!("{name}: {}", ready_reason(status.conditions.as_deref())),
        },
        ObjectStatus::AMIRefresher(status) => match &status.target_ami {
            Some(target) if is_rolled_back(status) => format!("{name}: rolled back to {target}"),
            Some(target) if status.drifted.unwrap_or(0) == 0 => format!("{name}: rolled out {target}"),
            _ => format!("{name}: {}", ready_reason(status.conditions.as_deref())),
        },
    }
}

/// The last rollout was rolled back, and nothing was rolled out since.
fn is_rolled_back(status: &AMIRefresherStatus) -> bool {
    let is_last = |id: &str| status.rollout.as_ref().is_some_and(|rollout| rollout.id == id);
    let last = status.history.iter().flatten().next();
    last.is_some_and(|last| last.result == RolloutResult::RolledBack.as_str() && is_last(&last.id))
}

/// Trailers that name images, builds and commits, for `git log --grep`.
pub fn trailers(status: &ObjectStatus) -> Vec<(&'static str, String)> {
    match status {
        ObjectStatus::PackerBuilder(status) => match failed_run(status) {
            // The active image is of an earlier build: together they would read as one.
            Some(run) => {
                let build = [("Opsy-Build", run.id.clone()), ("Opsy-Result", run.result.clone())];
                build.into_iter().chain(template_commit(run)).collect()
            }
            None => of_active_images(status),
        },
        ObjectStatus::AMIRefresher(status) => {
            status.target_ami.iter().map(|target| ("Opsy-Image", target.clone())).collect()
        }
    }
}

/// The active images, their base image, and the build they are of, if the history still has it.
fn of_active_images(status: &PackerBuilderStatus) -> Vec<(&'static str, String)> {
    let images: Vec<&String> = status.images.iter().flatten().map(|image| &image.id).collect();
    let base = status.inputs.as_ref().and_then(|inputs| inputs.base_ami.clone());
    let made = |run: &&RunRecord| run.images.iter().flatten().any(|image| images.contains(&image));
    let run = status.history.iter().flatten().find(made);
    let active = images.iter().map(|image| ("Opsy-Image", (*image).clone()));
    let base = base.map(|base| ("Opsy-Base-Image", base));
    let build = run.map(|run| ("Opsy-Build", run.id.clone()));
    active.chain(base).chain(build).chain(run.and_then(template_commit)).collect()
}

fn template_commit(run: &RunRecord) -> Option<(&'static str, String)> {
    Some(("Opsy-Template-Commit", run.commit.clone()?))
}

/// The last run, if it failed. A builder that is ready all the same has an image of its present inputs: the failure is
/// of inputs that were changed back.
fn failed_run(status: &PackerBuilderStatus) -> Option<&RunRecord> {
    let is_ready = is_true(status.conditions.as_deref().unwrap_or_default(), READY);
    status.history.iter().flatten().next().filter(|run| !is_ready && run.has_failed())
}

fn failure(run: &RunRecord, images: &[LaneImage]) -> String {
    let active = match images.iter().find(|image| image.gone != Some(true)) {
        Some(image) => format!(", {} stays active", image.id),
        None if images.is_empty() => String::new(),
        None => ", and the active image does not exist any more".to_owned(),
    };
    let cause = run.explained().map_or(String::new(), |cause| format!(": {cause}"));
    format!("build failed{active}{cause}")
}

fn ready_reason(conditions: Option<&[Condition]>) -> String {
    let ready = conditions.unwrap_or_default().iter().find(|condition| condition.r#type == READY);
    ready.and_then(|ready| ready.reason.clone()).unwrap_or_else(|| "no status yet".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{Key, Kind};

    fn object(kind: Kind, name: &str) -> ObjectKey {
        ObjectKey { kind, key: Key { namespace: "default".into(), name: name.into() } }
    }

    fn builder(ready: &str, runs: Value) -> ObjectStatus {
        let status = json!({
            "images": [{"region": "us-east-1", "architecture": "x86_64", "id": "ami-old"}],
            "inputs": {"baseAMI": "ami-base"},
            "conditions": [{"type": "Ready", "status": ready, "reason": "x"}],
            "history": runs,
        });
        ObjectStatus::PackerBuilder(Box::new(serde_json::from_value(status).expect("a status")))
    }

    fn refresher(status: Value) -> ObjectStatus {
        ObjectStatus::AMIRefresher(Box::new(serde_json::from_value(status).expect("a status")))
    }

    #[test]
    fn a_commit_says_that_a_build_failed_and_that_the_old_image_stays() {
        let object = object(Kind::PackerBuilder, "web");
        let runs = json!([
            {"id": "b2", "result": "Failed", "step": "build", "errors": ["boom"]},
            {"id": "b1", "result": "Succeeded", "images": ["ami-old"]},
        ]);
        let failed = builder("False", runs.clone());
        assert_eq!(line(&object, &failed), "web: build failed, ami-old stays active: build: boom");
        let of_failed = [("Opsy-Build", "b2".to_owned()), ("Opsy-Result", "Failed".to_owned())];
        assert_eq!(trailers(&failed), of_failed);
        let good = builder("True", runs);
        assert_eq!(line(&object, &good), "web: ami-old is active", "the inputs are as before again");
        assert!(trailers(&good).contains(&("Opsy-Build", "b1".to_owned())), "{:?}", trailers(&good));
    }

    #[test]
    fn trailers_name_the_active_images_and_the_build_they_are_of() {
        let runs = json!([{"id": "b1", "result": "Succeeded", "images": ["ami-old"], "commit": "c0ffee"}]);
        let due = [
            ("Opsy-Image", "ami-old"),
            ("Opsy-Base-Image", "ami-base"),
            ("Opsy-Build", "b1"),
            ("Opsy-Template-Commit", "c0ffee"),
        ];
        assert_eq!(trailers(&builder("True", runs)), due.map(|(name, value)| (name, value.to_owned())));
        let forgotten = trailers(&builder("True", json!([])));
        assert_eq!(forgotten.len(), 2, "the history does not have the build any more: {forgotten:?}");
    }

    #[test]
    fn a_rollout_is_done_when_no_group_drifts() {
        let object = object(Kind::AMIRefresher, "demo");
        let conditions = json!([{"type": "Ready", "status": "False", "reason": "UpdateFailed"}]);
        let drifted = json!({"targetAMI": "ami-1", "drifted": 1, "conditions": conditions});
        assert_eq!(line(&object, &refresher(drifted)), "demo: UpdateFailed");
        let done = refresher(json!({"targetAMI": "ami-1", "drifted": 0}));
        assert_eq!(line(&object, &done), "demo: rolled out ami-1");
        let back = refresher(json!({
            "targetAMI": "ami-1", "drifted": 0, "rollout": { "id": "r", "target": "ami-1" },
            "history": [{ "id": "r", "target": "ami-1", "result": "RolledBack" }],
        }));
        assert_eq!(line(&object, &back), "demo: rolled back to ami-1");
        assert_eq!(trailers(&done), [("Opsy-Image", "ami-1".to_owned())]);
        assert_eq!(line(&object, &refresher(json!({}))), "demo: no status yet");
    }
}
