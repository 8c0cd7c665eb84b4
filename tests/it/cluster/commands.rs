//! Commands on live objects with a person's kubeconfig, and their messages.

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use opsy::api::Region;
use opsy::engine::kubernetes::lease::notes::MEMORY;
use opsy::engine::kubernetes::lease::{self, Tenure};
use opsy::engine::kubernetes::memory;
use serde_json::{Value, json};

use super::lease::terms;
use super::{Place, SOON, until};
use crate::aws::edge;
use crate::bed::Account;
use crate::world::{Outcome, run};

/// A builder and a refresher, as people write them.
const OBJECTS: &str = r#"
{apiVersion: ami.opsy.dev/v1alpha1, kind: PackerBuilder, metadata: {name: node}, spec: {region: us-east-1}}
---
{apiVersion: ami.opsy.dev/v1alpha1, kind: AMIRefresher, metadata: {name: demo}, spec: {region: us-east-1, clusterName: demo}}
"#;

fn opsy(place: &Place, args: &[&str]) -> Command {
    let mut opsy = Command::new(env!("CARGO_BIN_EXE_opsy"));
    let kubeconfig = place.plane.address["kubeconfig"].as_str().expect("a path");
    opsy.args(args).args(["--kubeconfig", kubeconfig, "--namespace", &place.namespace]).stdin(Stdio::null());
    opsy
}

async fn said(place: &Place, args: &[&str]) -> Outcome {
    let command = opsy(place, args);
    tokio::task::spawn_blocking(move || run(command)).await.expect("the command's end")
}

/// As `said`, for callers on a thread that may block.
pub fn said_now(place: &Place, args: &[&str]) -> Outcome {
    run(opsy(place, args))
}

async fn annotation(place: &Place, name: &str) -> Option<String> {
    let builder = place.builder("node").await.expect("the builder");
    builder.annotations().get(&format!("ami.opsy.dev/{name}")).cloned()
}

async fn write_status(place: &Place, status: Value) {
    let patch = Patch::Merge(json!({ "status": status }));
    place.builders().patch_status("node", &PatchParams::default(), &patch).await.expect("a status");
}

#[tokio::test(flavor = "multi_thread")]
async fn suspend_resume_and_cancel_print_what_they_did_and_where() {
    let place = Place::new().await;
    place.kubectl(&["apply", "-f", "-"], OBJECTS);
    let name = format!("packerbuilder.ami.opsy.dev/{}/node", place.namespace);

    let outcome = said(&place, &["suspend", "pb/node"]).await;
    assert!(outcome.status.success(), "{outcome:?}");
    assert!(outcome.stdout.starts_with(&format!("{name} suspended (cluster https://")), "{outcome:?}");
    assert!(outcome.stdout.ends_with("); a running build continues (opsy cancel stops it)\n"), "{outcome:?}");
    assert_eq!(annotation(&place, "suspend").await.as_deref(), Some("true"));

    let outcome = said(&place, &["resume", "packerbuilder/node"]).await;
    assert!(outcome.stdout.starts_with(&format!("{name} resumed (cluster https://")), "{outcome:?}");
    assert_eq!(annotation(&place, "suspend").await, None);

    let outcome = said(&place, &["cancel", "pb/node"]).await;
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("has no running build (last build: none)"), "{outcome:?}");
    write_status(&place, json!({ "buildID": "0123456789abcdef", "jobStatus": "Running" })).await;
    let outcome = said(&place, &["cancel", "pb/node"]).await;
    assert!(outcome.stdout.contains("cancellation of build 0123456789abcdef requested"), "{outcome:?}");
    assert_eq!(annotation(&place, "cancel").await.as_deref(), Some("0123456789abcdef"));

    let outcome = said(&place, &["cancel", "ar/demo"]).await;
    assert!(outcome.stderr.contains("opsy suspend AMIRefresher/demo"), "{outcome:?}");
    let owners = place.builder("node").await.expect("the builder").managed_fields().to_vec();
    let ours = owners.iter().filter(|entry| entry.manager.as_deref() == Some("opsy"));
    assert_eq!(ours.count(), 0, "the agent's applies must not remove a person's annotation");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_leads_to_its_image_by_the_label_of_eks_and_else_by_its_instance() {
    let place = Place::new().await;
    let (account, seed) = Account::seeded();
    let image = seed["initial_image"].as_str().expect("an image");
    let named = [("opsy.dev/builder", "default/gone"), ("opsy.dev/build", "0123456789abcdef")];
    let tags = named.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let region = Region::parse("us-east-1").expect("a region");
    edge(&account).await.tag(&region, &[image.to_owned()], &tags).await.expect("tagged");
    let state = account.state();
    let mut instances = state["instances"].as_array().expect("a list").iter();
    let instance = instances.find(|instance| instance["image"] == *image).expect("an instance");
    let instance = instance["id"].as_str().expect("an ID");
    let api: Api<Node> = Api::all(place.admin.clone());
    // The region of the label is asked, not that of the environment.
    let region = ("topology.kubernetes.io/region", "us-east-1");
    let label = ("eks.amazonaws.com/nodegroup-image", image);
    for (kind, labels, calls) in [
        ("labeled", &[region, label][..], &["ec2:DescribeImages"][..]),
        ("unlabeled", &[region], &["ec2:DescribeInstances", "ec2:DescribeImages"]),
        ("foreign", &[], &[]),
    ] {
        let name = format!("{}-{kind}", place.namespace);
        let labels: BTreeMap<_, _> = labels.iter().copied().collect();
        let provider = if kind == "foreign" { "fargate-ip-10-0-0-1" } else { instance };
        let node = json!({"metadata": {"name": name, "labels": labels}, "spec": {"providerID": format!("aws:///us-east-1a/{provider}")}});
        api.create(&PostParams::default(), &serde_json::from_value(node).expect("a node"))
            .await
            .expect("a node");
        account.clear_journal();
        let mut trace = opsy(&place, &["trace", &format!("node/{name}")]);
        trace.envs(account.env()).env("AWS_REGION", "eu-west-1");
        let traced = tokio::task::spawn_blocking(move || run(trace)).await.expect("the command's end");
        api.delete(&name, &DeleteParams::default()).await.expect("deleted");
        assert_eq!(account.calls(), calls, "{traced:?}");
        if kind == "foreign" {
            assert!(traced.stderr.contains("its providerID names no instance of EC2"), "{traced:?}");
            continue;
        }
        let lines = format!("node {name}  instance {instance}\n└── {image}\n");
        assert!(traced.status.success() && traced.stdout.starts_with(&lines), "{traced:?}");
        assert!(
            traced.stdout.contains("according to its tags: built by PackerBuilder/default/gone\n"),
            "{traced:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn approve_adds_to_what_people_approved_and_never_to_what_the_manifest_approves() {
    let place = Place::new().await;
    let refresher = |metadata: &str| {
        format!(
            "{{apiVersion: ami.opsy.dev/v1alpha1, kind: AMIRefresher, metadata: {metadata}, spec: {{region: us-east-1, \
             clusterName: demo, rollout: {{waves: [{{name: prod, nodeGroups: [web], approval: Required}}, {{name: last, \
             nodeGroups: ['*'], approval: Required}}]}}}}}}"
        )
    };
    let as_agent = ["apply", "--server-side", "--field-manager=opsy", "-f", "-"];
    place.kubectl(&as_agent, &refresher("{name: demo}"));
    let none = said(&place, &["approve", "ar/demo", "prod"]).await;
    assert_eq!(none.status.code(), Some(1));
    assert!(none.stderr.contains("has no target image yet"), "{none:?}");

    let target = |images: &str| {
        let patch = json!({ "status": { "targetAMI": images } }).to_string();
        place.kubectl(&["patch", "ar/demo", "--subresource=status", "--type=merge", "-p", &patch], "");
    };
    let approved = || {
        let path = "jsonpath={.metadata.annotations['ami\\.opsy\\.dev/approve']}";
        place.kubectl(&["get", "ar/demo", "-o", path], "")
    };
    target("ami-00000001,ami-00000002");
    let outcome = said(&place, &["approve", "ar/demo", "prod"]).await;
    let name = format!("amirefresher.ami.opsy.dev/{}/demo", place.namespace);
    let words = format!("{name} wave \"prod\" approved for ami-00000001, ami-00000002 (cluster https://");
    assert!(outcome.status.success() && outcome.stdout.starts_with(&words), "{outcome:?}");
    assert!(said(&place, &["approve", "ar/demo", "last"]).await.status.success());
    target("ami-00000003");
    assert!(said(&place, &["approve", "ar/demo", "prod"]).await.status.success());
    assert_eq!(approved(), "last=ami-00000001,last=ami-00000002,prod=ami-00000003");

    let in_git = refresher("{name: demo, annotations: {ami.opsy.dev/approve: prod=ami-00000003}}");
    place.kubectl(&[&as_agent[..], &["--force-conflicts"]].concat(), &in_git);
    let outcome = said(&place, &["approve", "ar/demo", "last"]).await;
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("write \"prod=ami-00000003,last=ami-00000003\" there"), "{outcome:?}");
    assert_eq!(approved(), "prod=ami-00000003", "the next apply would restore it");
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_waits_for_the_result_and_prints_it() {
    let place = Place::new().await;
    place.kubectl(&["apply", "-f", "-"], OBJECTS);
    let outcome = said(&place, &["reconcile", "pb/node", "--timeout", "1s"]).await;
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.stderr.contains("check that an agent is running for this namespace"), "{outcome:?}");

    for (status, code) in [("True", 0), ("False", 1)] {
        let before = annotation(&place, "reconcileAt").await;
        let asking = opsy(&place, &["reconcile", "pb/node"]);
        let asking = tokio::task::spawn_blocking(move || run(asking));
        // The test does what the agent would do.
        let asked =
            async || annotation(&place, "reconcileAt").await.filter(|now| Some(now) != before.as_ref());
        let asked = until("the annotation", SOON, asked).await;
        let ready = json!({"type": "Ready", "status": status, "reason": "Why", "message": "so it is"});
        write_status(&place, json!({ "lastHandledReconcileAt": asked, "conditions": [ready] })).await;
        let outcome = asking.await.expect("the command's end");
        assert_eq!(outcome.status.code(), Some(code), "{outcome:?}");
        assert!(outcome.stdout.ends_with(&format!("/node: Ready={status} Why: so it is\n")), "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_a_person_accepts_reaches_the_agent() {
    let place = Place::new().await;
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let nobody = said(&place, &["accept", commit]).await;
    let words = format!("no agent has its Lease opsy in namespace {} of cluster https://", place.namespace);
    assert!(!nobody.status.success() && nobody.stderr.contains(&words), "{nobody:?}");
    assert!(said(&place, &["accept", "main"]).await.stderr.contains("40 hex digits"));

    let (cluster, _) = place.cluster(place.scope()).await;
    let _held = lease::acquire(&cluster, terms("agent", SOON)).await;
    let tenure = Tenure { lease: "opsy".to_owned(), identity: "agent".to_owned() };
    memory::save(&cluster, &tenure, MEMORY, "{}").await.expect("saved");
    let outcome = said(&place, &["accept", commit]).await;
    assert!(outcome.stdout.starts_with(&format!("commit {commit} is accepted (cluster ")), "{outcome:?}");
    let accepted = async || {
        let found = memory::accepted(&cluster, &tenure).await.expect("the API server answers");
        found.map(|commit| commit.to_string())
    };
    let remove =
        async |commit: &str| memory::remove_accepted(&cluster, &tenure, commit).await.expect("removed");
    remove(&commit.replace('0', "a")).await;
    for _ in 0..2 {
        assert_eq!(accepted().await.as_deref(), Some(commit), "it stays until it is removed");
    }
    remove(commit).await;
    assert_eq!(accepted().await, None);
    assert_eq!(
        memory::read(&cluster, &tenure.lease).await.expect("read").as_deref(),
        Some("{}"),
        "all else stays"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_say_what_to_do_next() {
    let place = Place::new().await;
    let empty = said(&place, &["suspend", "pb/nod"]).await;
    assert!(empty.stderr.contains(&format!("namespace {} has none", place.namespace)), "{empty:?}");
    place.kubectl(&["apply", "-f", "-"], OBJECTS);
    for (args, words) in [
        (["suspend", "pb/nod"], format!("namespace {} has node", place.namespace)),
        (["suspend", "node"], "\"node\" must be KIND/NAME, such as packerbuilder/node".to_owned()),
        (["suspend", "deployment/x"], "\"deployment\" is an unknown kind".to_owned()),
    ] {
        let outcome = said(&place, &args).await;
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains(&words), "{args:?}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_reads_the_cluster() {
    let place = Place::new().await;
    let nothing = said(&place, &["status"]).await;
    let words = format!("No builders or refreshers in namespace {} of cluster https://", place.namespace);
    assert!(nothing.stdout.starts_with(&words) && nothing.stdout.contains("(-A shows all"), "{nothing:?}");
    place.kubectl(&["apply", "-f", "-"], OBJECTS);
    let ready = json!({"type": "Ready", "status": "True", "reason": "ImageActive", "message": "fine"});
    let applied = json!({"type": "Applied", "status": "False", "reason": "Denied", "message": "no rule"});
    write_status(&place, json!({ "lastRunBuiltImageID": "ami-1", "conditions": [ready, applied] })).await;
    let named = said(&place, &["status", "--lease-name", "opsy"]).await;
    let unread =
        format!("there is no Lease opsy in namespace {}; name the namespace of the", place.namespace);
    assert!(named.status.success() && named.stderr.contains(&unread), "{named:?}");
    let outcome = said(&place, &["status"]).await;
    assert!(outcome.status.success() && outcome.stderr.is_empty(), "{outcome:?}");
    let table = outcome.stdout;
    let row = table.lines().find(|line| line.starts_with(&place.namespace)).expect("a row");
    let words: Vec<&str> = row.split_whitespace().collect();
    let name = format!("{}/node", place.namespace);
    assert_eq!(words[..4], [name.as_str(), "True", "ImageActive", "ami-1"], "{table}");
    assert!(row.ends_with("fine (not applied: no rule)"), "{table}");
    let all: Value =
        serde_json::from_str(&said(&place, &["status", "--output", "json"]).await.stdout).expect("JSON");
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all[0]["status"]["lastRunBuiltImageID"], "ami-1");

    place.kubectl(&["label", "ar/demo", "team=web"], "");
    let names = said(&place, &["status", "-l", "team in (web,data)", "-o", "name"]).await;
    assert_eq!(names.stdout, "amirefresher.ami.opsy.dev/demo\n", "{names:?}");
    let some = said(&place, &["status", "builders", "ar/none", "-o", "name"]).await;
    assert_eq!((some.status.code(), some.stdout.as_str()), (Some(1), "packerbuilder.ami.opsy.dev/node\n"));
    assert!(some.stderr.starts_with("opsy: AMIRefresher/none does not exist (cluster https://"), "{some:?}");
}
