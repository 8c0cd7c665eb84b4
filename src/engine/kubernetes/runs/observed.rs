//! What is read of Jobs and pods: their run, its facts, and which of two versions is newer. Pure.

use k8s_openapi::api::batch::v1::{Job, JobStatus};
use k8s_openapi::api::core::v1::{Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::api::RunName;
use crate::engine::RunFacts;
use crate::engine::kubernetes::{FACTS, RUN, STOP};

/// The agent's own annotations are a fraction of this size. A longer one was written by somebody else.
const LONGEST_ANNOTATION: usize = 8 * 1024;

/// The Job of a run. Another Job with the same name is another run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RunKey {
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

/// The key of a Job.
pub fn key_of(metadata: &ObjectMeta) -> RunKey {
    RunKey {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: uid_of(metadata),
    }
}

/// The run of a pod: that of the Job which controls it. Other owners do not count, because anyone can add them.
pub fn run_of(metadata: &ObjectMeta) -> Option<RunKey> {
    let name = metadata.labels.as_ref()?.get(RUN)?.clone();
    let mut owners = metadata.owner_references.iter().flatten();
    let controller = owners.find(|owner| owner.controller == Some(true))?;
    let is_job = controller.kind == "Job" && controller.api_version == "batch/v1" && controller.name == name;
    is_job.then(|| RunKey {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name,
        uid: controller.uid.clone(),
    })
}

pub fn uid_of(metadata: &ObjectMeta) -> String {
    metadata.uid.clone().unwrap_or_default()
}

/// Name and facts of a Job, according to its label and annotation.
pub fn facts_of(job: &Job) -> Option<(RunName, RunFacts)> {
    let metadata = &job.metadata;
    let facts = metadata.annotations.as_ref()?.get(FACTS);
    let facts = facts.filter(|facts| facts.len() <= LONGEST_ANNOTATION)?;
    let facts: RunFacts = serde_json::from_str(facts).ok()?;
    let name = metadata.name.clone()?;
    let is_labelled = metadata.labels.as_ref()?.get(RUN) == Some(&name);
    is_labelled.then(|| RunName::parse(name).ok())?.map(|name| (name, facts))
}

/// Whether the known version of an object is newer. resourceVersions are numbers that grow.
pub fn newer(known: &ObjectMeta, seen: &ObjectMeta) -> bool {
    let version =
        |metadata: &ObjectMeta| metadata.resource_version.as_ref().and_then(|v| v.parse::<u64>().ok());
    version(known) > version(seen)
}

/// The part of a Job that is read later. Anyone who may create Jobs determines how large one is.
pub fn trimmed_job(job: Job) -> Job {
    let note = job.metadata.annotations.as_ref().and_then(|annotations| annotations.get(STOP));
    // A note that cannot be read stops the Job too, so its presence is retained.
    let note = note.map(|note| if note.len() <= LONGEST_ANNOTATION { note.clone() } else { String::new() });
    let annotations = note.map(|note| [(STOP.to_owned(), note)].into());
    let conditions = job.status.and_then(|status| status.conditions);
    Job {
        metadata: ObjectMeta { annotations, ..trimmed(job.metadata) },
        spec: None,
        status: Some(JobStatus { conditions, ..JobStatus::default() }),
    }
}

/// The part of a pod that is read later.
pub fn trimmed_pod(pod: Pod) -> Pod {
    let node_name = pod.spec.and_then(|spec| spec.node_name);
    let status = pod.status.map(|status| PodStatus {
        conditions: status.conditions,
        container_statuses: status.container_statuses,
        init_container_statuses: status.init_container_statuses,
        message: status.message,
        phase: status.phase,
        reason: status.reason,
        ..PodStatus::default()
    });
    Pod { metadata: trimmed(pod.metadata), spec: Some(PodSpec { node_name, ..PodSpec::default() }), status }
}

fn trimmed(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        name: metadata.name,
        namespace: metadata.namespace,
        uid: metadata.uid,
        resource_version: metadata.resource_version,
        creation_timestamp: metadata.creation_timestamp,
        deletion_timestamp: metadata.deletion_timestamp,
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_others_write_into_a_job_takes_no_memory() {
        let job = |size: usize| {
            let long = "x".repeat(size);
            let annotations = json!({"other": long, FACTS: long, STOP: long});
            let labels = json!({RUN: "node-1", "other": "x"});
            let metadata =
                json!({"name": "node-1", "uid": "j1", "labels": labels, "annotations": annotations});
            serde_json::from_value::<Job>(json!({"metadata": metadata})).expect("a Job")
        };
        let kept = |size: usize| {
            let job = trimmed_job(job(size));
            let stop = job.metadata.annotations.as_ref().expect("the note")[STOP].len();
            (stop, serde_json::to_string(&job).expect("JSON").len() - stop)
        };
        let (short, long) = (kept(10), kept(256 * 1024));
        assert_eq!((short.0, long.0, short.1), (10, 0, long.1));
        assert_eq!(facts_of(&job(256 * 1024)), None);
    }

    #[test]
    fn a_pod_belongs_to_the_job_that_controls_it_and_to_no_other_owner() {
        let owner = |change: Value| {
            let mut owner = json!({"apiVersion": "batch/v1", "kind": "Job", "name": "node-1", "uid": "j1", "controller": true});
            let fields = change.as_object().expect("fields").clone();
            owner.as_object_mut().expect("an owner").extend(fields);
            owner
        };
        let run = |owners: Vec<Value>| {
            let metadata = json!({"namespace": "a", "labels": {RUN: "node-1"}, "ownerReferences": owners});
            run_of(&serde_json::from_value(metadata).expect("metadata")).map(|run| run.uid)
        };
        assert_eq!(run(vec![owner(json!({}))]).as_deref(), Some("j1"));
        assert_eq!(run(vec![]), None);
        for change in [
            json!({"controller": null}),
            json!({"controller": false}),
            json!({"kind": "ReplicaSet"}),
            json!({"apiVersion": "example.com/v1"}),
            json!({"name": "another"}),
        ] {
            assert_eq!(run(vec![owner(change.clone())]), None, "{change}");
        }
        // Its controller is another Job. An owner that is not the controller does not count.
        let two = vec![owner(json!({"controller": false})), owner(json!({"uid": "j2"}))];
        assert_eq!(run(two).as_deref(), Some("j2"));
    }
}
