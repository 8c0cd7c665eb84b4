//! Jobs and pods that others created: they can have every label and annotation that Opsy sets, and their results never
//! count.

use futures::StreamExt;
use kube::api::{Patch, PatchParams};
use opsy::api::{BuildId, Owner};
use opsy::engine::{RunFacts, RunRequest, RunState, Runs, Stop};
use serde_json::{Value, json};

use super::super::{SOON, until};
use super::world::{World, numbered, request};

/// A Job of a tenant with all labels and annotations of the agent's own Job for this request.
fn forged(request: &RunRequest) -> Value {
    let facts: &RunFacts = &request.facts;
    let labels = json!({
        "app.kubernetes.io/managed-by": "opsy", "ami.opsy.dev/owner": request.owner.as_str(),
        "ami.opsy.dev/builder": facts.builder.name, "ami.opsy.dev/run": request.name.as_str(),
    });
    let container = json!({"name": "packer", "image": "localhost/forged:1"});
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {
            "name": request.name.as_str(), "labels": labels,
            "annotations": {"ami.opsy.dev/facts": serde_json::to_string(facts).expect("facts")},
        },
        "spec": {"template": {
            "metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [container]},
        }},
    })
}

fn packer(state: &Value, phase: &str) -> Value {
    let container = json!({"name": "packer", "state": state, "ready": true, "restartCount": 0, "image": "", "imageID": ""});
    json!({"status": {"phase": phase, "containerStatuses": [container]}})
}

impl World {
    /// Writes the status of a pod, as a kubelet does.
    async fn kubelet(&self, pod: &str, status: &Value) {
        let params = PatchParams::default();
        self.pods().patch_status(pod, &params, &Patch::Merge(status)).await.expect("a status");
    }

    /// Waits until an event of the watch has woken a builder.
    async fn woken(&mut self) {
        self.queues.builders.keys.next().await.expect("a key");
    }

    async fn uid(&self, request: &RunRequest) -> Option<String> {
        let job = self.jobs().get_opt(request.name.as_str()).await.expect("a response");
        job.and_then(|job| job.metadata.uid)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_claims_another_runs_result_is_not_believed() {
    let world = World::new().await;
    world.admit_tenant();
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    world.start(&request).await.expect("it starts");
    let own = world.pod(&request.name).await.metadata.name.expect("a name");
    let owner = json!({
        "apiVersion": "batch/v1", "kind": "Job", "name": request.name.as_str(),
        "uid": world.uid(&request).await.expect("a Job"),
    });
    world.as_tenant(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "forged", "labels": {"ami.opsy.dev/run": request.name.as_str()}, "ownerReferences": [owner],
        },
        "spec": {"containers": [{"name": "packer", "image": "localhost/forged:1"}]},
    }));
    let report = json!({
        "outcome": "Succeeded", "exit": 0, "started_at": 1, "ended_at": 2,
        "artifacts": [{"region": "us-east-1", "image": "ami-0000000000000bad1", "build": "a.b"}],
    });
    let end = json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": report.to_string()}});
    world.kubelet("forged", &packer(&end, "Succeeded")).await;
    // Events of one watch arrive in order: with this one, the agent has also observed the other one.
    world.kubelet(&own, &packer(&json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}}), "Running")).await;
    let is_running = |state: &RunState| matches!(state, RunState::Running(_));
    world.until("the run's own pod", SOON, &builder, is_running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_somebody_else_created_is_nobodys_run() {
    let mut world = World::new().await;
    world.admit_tenant();
    let builder = world.builder("node").await;
    let (before, wanted) = (numbered(&builder, "", 7), request(&builder, ""));
    world.as_tenant(&forged(&before));
    world.woken().await;
    assert_eq!(world.runs.of(&builder).await.expect("runs"), []);
    assert_eq!(world.runs.live().await.expect("a count"), 0, "it takes no slot");
    world.runs.stop(&before.name, Stop::Cancelled).await.expect("there is nothing to stop");
    world.runs.forget(&before.name).await.expect("nor to forget");
    assert!(world.uid(&before).await.is_some(), "it is left alone");

    // This Job has the name of the next run.
    world.as_tenant(&forged(&wanted));
    let taken = world.uid(&wanted).await.expect("a Job");
    world.start(&wanted).await.expect("the other Job is replaced");
    let run = world.run(&builder).await;
    assert_eq!((Some(&run.id), &run.name), (world.uid(&wanted).await.as_ref(), &wanted.name));
    assert_ne!(run.id, taken);
    assert_eq!(world.runs.live().await.expect("a count"), 1);
    assert_eq!(world.uid(&before).await, None, "it looked like an orphaned run");
    world.restart().await;
    assert_eq!(world.run(&builder).await.id, run.id, "a new agent finds it in the status");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_writes_into_the_job_of_a_run_is_not_believed() {
    let mut world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    world.start(&request).await.expect("it starts");
    let mut forged = request.facts.clone();
    forged.builder.name = "victim".to_owned();
    forged.build = BuildId::of(&["victim"]);
    forged.owner = Owner::parse("another").ok();
    forged.created_at = jiff::Timestamp::UNIX_EPOCH;
    let forged = format!("ami.opsy.dev/facts={}", serde_json::to_string(&forged).expect("facts"));
    world.place.kubectl(&["annotate", "--overwrite", "job", request.name.as_str(), &forged], "");
    world.woken().await;
    assert_eq!(world.run(&builder).await.facts, request.facts);
    world.restart().await;
    assert_eq!(
        world.run(&builder).await.facts,
        request.facts,
        "a new agent does not use the forged facts either"
    );
    assert_eq!(world.runs.live().await.expect("a count"), 1, "it takes a slot");
    world.runs.stop(&request.name, Stop::Cancelled).await.expect("it is requested");
    world.ended(SOON, &builder).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_not_recorded_before_the_agent_was_killed_begins_anew() {
    let mut world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    let lost = world.start_unrecorded(&request).await.expect("it starts");
    let pod = world.pod(&request.name).await.metadata.name.expect("a name");
    assert_eq!(world.run(&builder).await.id, lost, "the agent that created it knows");
    world.restart().await;
    assert_eq!(world.runs.of(&builder).await.expect("runs"), []);
    world.start(&request).await.expect("it starts again");
    assert_ne!(world.run(&builder).await.id, lost);
    assert_eq!(world.made().await, (1, 1));
    let pods = world.pods();
    until("the first pod to be deleted", SOON, async || {
        pods.get_opt(&pod).await.expect("a response").is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_an_older_version_recorded_by_its_name_is_found() {
    let mut world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    let id = world.start_unrecorded(&request).await.expect("it starts");
    let name = request.name.as_str();
    let status = json!({"status": {"jobID": name, "jobName": name, "jobStatus": "Running"}});
    let params = PatchParams::default();
    let made =
        world.builders().patch_status("node", &params, &Patch::Merge(&status)).await.expect("a status");
    world.objects.builders.put(&made);
    world.restart().await;
    assert_eq!(world.run(&builder).await.id, id);
}
