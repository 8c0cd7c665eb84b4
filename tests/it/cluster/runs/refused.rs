//! Builds that a cluster refuses, and how that is reported.

use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{Patch, PatchParams};
use opsy::api::Class;
use opsy::engine::{RunState, Runs, Stop};
use serde_json::json;

use super::super::{SOON, until};
use super::world::{World, request, with_pod};
use crate::git::bed::keygen;

fn waits_for(words: &'static str) -> impl FnMut(&RunState) -> bool {
    move |state| matches!(state, RunState::Pending(Some(said)) if said.contains(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_on_pods_is_said_and_waited_for() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    world.set_quota(json!({"pods": "0"})).await;
    let request = request(&builder, "");
    world.start(&request).await.expect("the quota does not limit Jobs");
    world.until("the message about the quota", SOON, &builder, waits_for("exceeded quota: builds")).await;
    world.runs.stop(&request.name, Stop::Late).await.expect("it is requested");
    let ended = world.ended(SOON, &builder).await;
    let words = format!("{:?}", ended.state);
    assert!(words.contains("NotStarted") && words.contains("exceeded quota"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_on_jobs_goes_away_by_itself() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    world.set_quota(json!({"count/jobs.batch": "0"})).await;
    let request = request(&builder, "");
    let error = world.start(&request).await.expect_err("no Job is allowed");
    assert_eq!(error.class, Class::TRANSIENT);
    assert!(error.message.contains("exceeded quota: builds"), "{error}");
    world.delete_quota().await;
    until("a start", SOON, async || world.start(&request).await.ok()).await;
    assert_eq!(world.made().await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_service_account_is_said() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let mut request = request(&builder, "");
    request.pod.service_account = Some("packer".into());
    world.start(&request).await.expect("it starts");
    world.until("the account's name", SOON, &builder, waits_for("serviceaccount \"packer\" not found")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restricted_namespace_takes_the_pod() {
    let world = World::new().await;
    let namespaces: Api<Namespace> = Api::all(world.place.admin.clone());
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let name = &world.place.namespace;
    namespaces.patch(name, &PatchParams::default(), &Patch::Merge(&labels)).await.expect("it is restricted");
    let builder = world.builder("node").await;
    let mut request = request(&builder, "");
    request.secret = Some("aws".into());
    request.pod.git_sync = Some(opsy::engine::GitSyncRun {
        image: "git-sync".into(),
        container: "git-sync".into(),
        secret: None,
        user: None,
        repository: "https://git.example/fleet".into(),
    });
    world.start(&request).await.expect("it starts");
    world.pod(&request.name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_git_sync_cannot_use_is_refused_before_anything_starts() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let folder = tempfile::tempdir().expect("a directory");
    keygen(folder.path().join("open"), "ed25519", "");
    keygen(folder.path().join("locked"), "ed25519", "words");
    let file = |key: &str, name: &str| format!("--from-file={key}={}", folder.path().join(name).display());
    let known = "--from-literal=known_hosts=line".to_owned();
    for (name, sources) in [
        ("locked", vec![file("ssh", "locked"), known.clone()]),
        ("unknown", vec![file("ssh", "open")]),
        ("keyless", vec!["--from-literal=token=t".to_owned()]),
        ("open", vec![file("ssh-privatekey", "open"), known]),
    ] {
        let mut args = vec!["create", "secret", "generic", name];
        args.extend(sources.iter().map(String::as_str));
        world.place.kubectl(&args, "");
    }
    let with = |secret: Option<&str>| {
        let mut request = request(&builder, "");
        request.pod.git_sync = Some(opsy::engine::GitSyncRun {
            image: "git-sync".into(),
            container: "git-sync".into(),
            secret: secret.map(str::to_owned),
            user: None,
            repository: "git@git.example:fleet".into(),
        });
        request
    };
    for (secret, words) in [
        (None, "spec.gitSync.secret"),
        (Some("locked"), "a passphrase"),
        (Some("unknown"), "no `known_hosts`"),
        (Some("keyless"), "no SSH key"),
    ] {
        let error = world.start(&with(secret)).await.expect_err("git-sync cannot use it");
        assert_eq!(error.class, Class::Invalid, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert_eq!(world.made().await, (0, 0));
    }
    world.start(&with(Some("open"))).await.expect("it starts");
    assert_eq!(world.made().await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_git_sync_that_the_agent_may_not_read_is_for_the_pod_alone() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    world.place.kubectl(&["create", "secret", "generic", "git", "--from-literal=token=t"], "");
    world.place.allow(&world.place.namespace, |(resource, _)| resource != "secrets").await;
    let mut request = request(&builder, "");
    request.pod.git_sync = Some(opsy::engine::GitSyncRun {
        image: "git-sync".into(),
        container: "git-sync".into(),
        secret: Some("git".into()),
        user: None,
        repository: "git@git.example:fleet".into(),
    });
    until("a start", SOON, async || world.start(&request).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_kubernetes_rejects_are_invalid_and_can_be_fixed() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let plain = request(&builder, "");
    let resources = json!({"resources": {"requests": {"memory": "2Gi"}, "limits": {"memory": "1Gi"}}});
    let error = world.start(&with_pod(plain.clone(), resources)).await.expect_err("more than the limit");
    assert_eq!(error.class, Class::Invalid);
    assert!(error.message.contains("memory"), "{error}");
    world.start(&plain).await.expect("the same run with valid settings");
    assert_eq!(world.made().await, (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_rule_is_named() {
    let world = World::new().await;
    let builder = world.builder("node").await;
    let request = request(&builder, "");
    let needed =
        [("packerbuilders", "patch"), ("configmaps", "create"), ("jobs", "create"), ("jobs", "list")];
    for (resource, verb) in needed {
        let without = |rule: &(String, String)| *rule != (resource.to_owned(), verb.to_owned());
        world.place.allow(&world.place.namespace, without).await;
        let error = until("a refusal", SOON, async || world.start(&request).await.err()).await;
        assert_eq!(error.class, Class::Denied, "{error}");
        assert!(error.message.contains(&format!("cannot {verb} resource \"{resource}\"")), "{error}");
        assert_eq!(world.made().await.0, 0);
    }
    world.place.allow(&world.place.namespace, |_| true).await;
    until("a start", SOON, async || world.start(&request).await.ok()).await;
    for (resource, verb, left) in [("jobs", "patch", false), ("jobs", "delete", true)] {
        let without = |rule: &(String, String)| *rule != (resource.to_owned(), verb.to_owned());
        world.place.allow(&world.place.namespace, without).await;
        let error = until("a refusal", SOON, async || {
            if left {
                world.runs.forget(&request.name).await.err()
            } else {
                world.runs.stop(&request.name, Stop::Cancelled).await.err()
            }
        })
        .await;
        assert!(error.message.contains(&format!("cannot {verb} resource \"{resource}\"")), "{error}");
        world.place.allow(&world.place.namespace, |_| true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_is_not_allowed_is_an_unknown_and_no_absence() {
    for resource in ["jobs", "pods"] {
        let mut world = World::new().await;
        let builder = world.builder("node").await;
        let without = |rule: &(String, String)| *rule != (resource.to_owned(), "list".to_owned());
        world.place.allow(&world.place.namespace, without).await;
        let (cluster, _) = world.place.cluster(world.place.scope()).await;
        let start = opsy::engine::kubernetes::runs::ClusterRuns::start;
        world.runs = start(cluster, world.objects.clone(), world.setup.clone(), jiff::Timestamp::now);
        let error = until("a refusal", SOON, async || {
            world.runs.of(&builder).await.err().filter(|error| error.class == Class::Denied)
        })
        .await;
        assert!(error.message.contains(&format!("cannot list resource \"{resource}\"")), "{error}");
        assert!(world.runs.live().await.is_err());
    }
}
