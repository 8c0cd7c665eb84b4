//! Jobs with their ConfigMaps and pods, on an API server without nodes.

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use opsy::api::files::TemplateFile;
use opsy::api::{Class, ImageId, RunName};
use opsy::engine::{Failure, RunState, Runs, Stop};
use serde_json::{Value, json};

use super::super::{SOON, until};
use super::world::{World, numbered, request, with_pod};

const FINALIZER: &str = "ami.opsy.dev/run";
/// The garbage collector runs every twenty seconds, and needs two runs for a lost node.
const COLLECTED: std::time::Duration = std::time::Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_made_once_and_goes_without_a_trace() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    world.start(&request).await.expect("it starts");
    assert_eq!(world.run(&builder).await.facts, request.facts);
    assert_eq!(world.runs.live().await.expect("a count"), 1);
    assert_eq!(world.finalizers(&builder).await, [FINALIZER]);
    let job = world.jobs().get(request.name.as_str()).await.expect("a Job");
    let config = world.configs().get(request.name.as_str()).await.expect("a ConfigMap");
    let owner =
        |metadata: &kube::api::ObjectMeta| metadata.owner_references.clone().expect("owners").remove(0);
    assert_eq!(owner(&job.metadata).kind, "PackerBuilder");
    assert_eq!(Some(owner(&config.metadata).uid), job.metadata.uid, "it goes with its Job");
    world.start(&request).await.expect("starting again is not an error");
    assert_eq!(world.made().await, (1, 1));

    world.runs.stop(&request.name, Stop::Cancelled).await.expect("it is requested");
    let ended = world.ended(SOON, &builder).await;
    assert_eq!(ended.state, RunState::Failed(Failure::Cancelled));
    assert!(ended.ended_at.is_some());
    assert_eq!(world.runs.live().await.expect("a count"), 0);
    world.runs.forget(&request.name).await.expect("it is forgotten");
    world.runs.forget(&request.name).await.expect("forgetting again is not an error");
    assert_eq!(world.runs.of(&builder).await.expect("runs"), []);
    assert_eq!(world.finalizers(&builder).await, Vec::<String>::new());
    let pods = world.pods();
    until("all of them to be deleted", SOON, async || {
        let none = pods.list(&Default::default()).await.expect("pods").items.is_empty();
        (none && world.made().await == (0, 0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_no_node_takes_says_so_and_ends_as_not_started() {
    let mut world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    world.start(&request).await.expect("it starts");
    let why = |state: &RunState| matches!(state, RunState::Pending(Some(words)) if words.contains("cannot be scheduled"));
    world.until("why it waits", SOON, &builder, why).await;
    let woken = world.queues.builders.keys.next().await.expect("a key");
    assert_eq!(woken.name, "node");
    world.restart().await;
    world.until("why it waits, after a restart", SOON, &builder, why).await;
    world.runs.stop(&request.name, Stop::Late).await.expect("it is requested");
    let ended = world.ended(SOON, &builder).await;
    let RunState::Failed(Failure::NotStarted(words)) = &ended.state else { panic!("{ended:?}") };
    assert!(words.contains("did not start in time: it cannot be scheduled"), "{words}");
    world.restart().await;
    assert_eq!(world.run(&builder).await.state, ended.state, "a new agent reports the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_finds_the_run_and_another_does_not_start_beside_it() {
    let world = World::new().await;
    let second = world.second().await;
    let builder = world.builder("node").await;
    world.start(&request(&builder, "")).await.expect("it starts");
    let other = second.start(numbered(&builder, "", 2)).await.expect_err("one is live");
    assert_eq!(other.class, Class::Conflict, "{other}");
    let id = second.start(request(&builder, "")).await.expect("the same run");
    assert_eq!(id, world.run(&builder).await.id);
    assert_eq!(world.made().await, (1, 1));
    until("the run in the second agent", SOON, async || {
        (second.of(&builder).await.ok()?.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_do_not_fit_make_nothing() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    // Digests do not compress.
    let digests = (0..40_000u32).map(|n| opsy::api::ids::digest(&[&n.to_string()]));
    let noise: String = digests.collect();
    let mut large = request(&builder, "");
    large.files =
        Arc::new(vec![TemplateFile { path: "blob".into(), executable: false, content: noise.into() }]);
    let error = world.start(&large).await.expect_err("it does not fit");
    assert_eq!(error.class, Class::Invalid);
    assert!(error.message.contains("spec.gitSync.image"), "{error}");
    assert_eq!(world.made().await, (0, 0));
    assert_eq!(world.finalizers(&builder).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_start_left_that_was_cut_off_is_replaced() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    let left = json!({"metadata": {"name": request.name.as_str()}, "data": {"request.json": "old"}, "immutable": true});
    let left = serde_json::from_value(left).expect("a ConfigMap");
    world.configs().create(&PostParams::default(), &left).await.expect("a ConfigMap");
    world.start(&request).await.expect("it starts");
    let config = world.configs().get(request.name.as_str()).await.expect("a ConfigMap");
    assert_ne!(config.data.expect("data")["request.json"], "old");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_somebody_deletes_is_lost_and_can_be_forgotten() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    world.start(&request).await.expect("it starts");
    world.pod(&request.name).await;
    world.jobs().delete(request.name.as_str(), &DeleteParams::background()).await.expect("it is deleted");
    let ended = world.ended(SOON, &builder).await;
    assert!(matches!(ended.state, RunState::Lost(_) | RunState::Failed(Failure::Evicted(_))), "{ended:?}");
    world.runs.forget(&request.name).await.expect("it is forgotten");
    assert_eq!(world.finalizers(&builder).await, Vec::<String>::new());
    world.start(&request).await.expect("the name can be used again");
    world.pod(&request.name).await;
    assert!(!world.run(&builder).await.state.ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_builder_stays_until_it_is_released() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    world.start(&request).await.expect("it starts");
    world.builders().delete("node", &DeleteParams::default()).await.expect("it is requested");
    assert!(world.builders().get("node").await.expect("it is there").metadata.deletion_timestamp.is_some());
    assert_eq!(world.made().await, (1, 1), "its run is not deleted either");
    world.runs.stop(&request.name, Stop::Cancelled).await.expect("it is requested");
    world.ended(SOON, &builder).await;
    world.runs.forget(&request.name).await.expect("it is forgotten");
    assert_eq!(world.finalizers(&builder).await, [FINALIZER], "there may be orphans to sweep first");
    let error = world.start(&numbered(&builder, "", 2)).await.expect_err("it is being deleted");
    assert_eq!(error.class, Class::Conflict, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_loses_the_run() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let name = format!("ghost-{}", world.place.namespace);
    let nodes: Api<Node> = Api::all(world.place.admin.clone());
    let taint = json!([{"key": "ghost", "effect": "NoSchedule"}]);
    let node = json!({"metadata": {"name": name, "labels": {"ghost": name}}, "spec": {"taints": taint}});
    nodes
        .create(&PostParams::default(), &serde_json::from_value(node).expect("a node"))
        .await
        .expect("a node");
    let capacity = json!({"cpu": "8", "memory": "16Gi", "ephemeral-storage": "40Gi", "pods": "10"});
    let ready = json!([{"type": "Ready", "status": "True", "reason": "KubeletReady"}]);
    let status = json!({"status": {"capacity": capacity, "allocatable": capacity, "conditions": ready}});
    nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(&status)).await.expect("it is ready");
    let request = with_pod(
        request(&builder, ""),
        json!({"nodeSelector": {"ghost": name}, "tolerations": [{"operator": "Exists"}]}),
    );
    world.start(&request).await.expect("it starts");
    let pod = world.pod(&request.name).await.metadata.name.expect("a name");
    let pods = world.pods();
    until("a node for the pod", SOON, async || pods.get(&pod).await.expect("a pod").spec?.node_name).await;
    let container = json!({
        "name": "packer", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        "ready": true, "restartCount": 0, "image": "", "imageID": "",
    });
    let running = json!({"status": {"phase": "Running", "containerStatuses": [container]}});
    pods.patch_status(&pod, &PatchParams::default(), &Patch::Merge(&running)).await.expect("it runs");
    let is_running = |state: &RunState| matches!(state, RunState::Running(_));
    world.until("a running pod", SOON, &builder, is_running).await;
    nodes.delete(&name, &DeleteParams::default()).await.expect("it is deleted");
    let ended = world.ended(COLLECTED, &builder).await;
    assert!(matches!(ended.state, RunState::Lost(_)), "{ended:?}");
    world.runs.forget(&request.name).await.expect("it is forgotten");
}

/// Ends the pod of a run as the kubelet reports it.
pub async fn end_pod(world: &World, run: &RunName, phase: &str, report: &Value) -> String {
    let pod = world.pod(run).await.metadata.name.expect("a name");
    let end =
        json!({"terminated": {"exitCode": report["exit"], "reason": "Ended", "message": report.to_string()}});
    let container = json!({"name": "packer", "state": end, "ready": false, "restartCount": 0, "image": "", "imageID": ""});
    let ended = json!({"status": {"phase": phase, "containerStatuses": [container]}});
    world.pods().patch_status(&pod, &PatchParams::default(), &Patch::Merge(&ended)).await.expect("it ends");
    pod
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_failed_run_is_kept_until_the_next_one_starts() {
    let mut world = World::new().await;
    let builder = world.builder("node").await;
    let (first, second) = (request(&builder, ""), numbered(&builder, "", 2));
    world.start(&first).await.expect("it starts");
    let report =
        json!({"outcome": "Failed", "exit": 1, "started_at": 1, "ended_at": 2, "errors": ["no space"]});
    let pod = end_pod(&world, &first.name, "Failed", &report).await;
    // A new agent finds the run again, which changes nothing.
    for is_restarted in [false, true] {
        if is_restarted {
            world.restart().await;
        }
        let run = world.ended(SOON, &builder).await;
        assert!(matches!(run.state, RunState::Failed(Failure::Packer { .. })), "{run:?}");
        world.runs.forget(&first.name).await.expect("it is forgotten");
        assert_eq!(world.runs.of(&builder).await.expect("runs"), []);
        assert_eq!(world.runs.live().await.expect("a count"), 0);
        assert_eq!(world.finalizers(&builder).await, Vec::<String>::new());
        assert_eq!(world.made().await, (1, 0), "its ConfigMap is deleted");
        assert!(world.pods().get_opt(&pod).await.expect("a response").is_some(), "its log can be read");
        let job = world.jobs().get(first.name.as_str()).await.expect("its Job").spec.expect("a spec");
        assert_eq!(job.ttl_seconds_after_finished, Some(7 * 24 * 3600));
    }
    world.start(&second).await.expect("it starts");
    assert_eq!(world.made().await, (1, 1));
    assert!(world.jobs().get_opt(first.name.as_str()).await.expect("a response").is_none());
    let run = world.run(&builder).await;
    assert_eq!((run.name, run.state.ended()), (second.name, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_ended_while_nobody_looked_tells_its_result() {
    let mut world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    world.start(&request).await.expect("it starts");
    let report = json!({
        "outcome": "Succeeded", "exit": 0, "started_at": 1, "ended_at": 2,
        "artifacts": [{"region": "us-east-1", "image": "ami-0123456789abcdef0", "build": "a.b"}],
    });
    let pod = end_pod(&world, &request.name, "Succeeded", &report).await;
    world.restart().await;
    let run = world.ended(SOON, &builder).await;
    let RunState::Succeeded(artifacts) = &run.state else { panic!("{run:?}") };
    assert_eq!(artifacts[0].image, ImageId::parse("ami-0123456789abcdef0").expect("an id"));
    world.pods().delete(&pod, &DeleteParams::default()).await.expect("it is deleted");
    let pods = world.pods();
    until("the pod to be deleted", SOON, async || {
        pods.get_opt(&pod).await.expect("a response").is_none().then_some(())
    })
    .await;
    assert_eq!(world.run(&builder).await.state, run.state, "the result that was read stays");
    world.restart().await;
    let lost = world.ended(SOON, &builder).await;
    assert_eq!(
        lost.state,
        RunState::Lost("its pod was deleted".into()),
        "the result was not recorded: the image is found by its tag"
    );
}
