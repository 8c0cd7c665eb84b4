//! What a build may use: nothing of the agent's own; only what is labeled, if several namespaces share the agent; and a
//! separate namespace, if one is set.

use opsy::api::{Class, Key};
use opsy::engine::kubernetes::job::{Own, Setup};
use opsy::engine::kubernetes::{Scope, account};
use opsy::engine::{RunRequest, Runs, Stop};
use serde_json::json;

use super::super::{SOON, rules_of, until};
use super::jobs::end_pod;
use super::world::{World, request, setup};

#[tokio::test(flavor = "multi_thread")]
async fn no_build_runs_under_the_agents_own_account_which_the_cluster_names() {
    let mut world = World::new().await;
    let builder = world.builder("node").await;
    let (cluster, _) = world.place.cluster(world.place.scope()).await;
    let own = account::own(&cluster).await.expect("every account may ask").expect("a ServiceAccount");
    assert_eq!((own.namespace.as_str(), own.name.as_str()), (world.place.namespace.as_str(), "opsy"));
    let own = Own { account: Some(own), ..Own::default() };
    world.set_up(world.place.scope(), Setup { own, ..setup() }).await;
    let mut request = request(&builder, "");
    request.pod.service_account = Some("opsy".into());
    let error = world.start(&request).await.expect_err("it is the agent's");
    assert_eq!(error.class, Class::Invalid);
    assert!(error.message.contains("create another ServiceAccount"), "{error}");
    assert_eq!(world.made().await, (0, 0));
    assert_eq!(world.finalizers(&builder).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_namespaces_a_build_uses_only_what_is_labelled_for_builds() {
    let mut world = World::new().await;
    let place = &world.place;
    let other = format!("{}-other", place.namespace);
    place.create_namespace(&other).await;
    place.allow(&other, |_| true).await;
    let scope = Scope::Namespaces(vec![place.namespace.clone(), other]);
    place.kubectl(&["create", "serviceaccount", "packer"], "");
    place.kubectl(&["create", "secret", "generic", "aws", "--from-literal=KEY=value"], "");
    let builder = world.builder("node").await;
    let mut request = RunRequest { secret: Some("aws".into()), ..request(&builder, "") };
    request.pod.service_account = Some("packer".into());
    world.set_up(scope, setup()).await;
    for command in [
        "kubectl label serviceaccount packer --namespace NS ami.opsy.dev/build=true",
        "kubectl label secret aws --namespace NS ami.opsy.dev/build=true",
    ] {
        let command = command.replace("NS", &world.place.namespace);
        let error = world.start(&request).await.expect_err("it is not labeled");
        assert_eq!(error.class, Class::Invalid, "{error}");
        assert!(error.message.contains(&command), "{error}");
        let args: Vec<&str> = command.split(' ').skip(1).collect();
        world.place.kubectl(&args, "");
    }
    assert_eq!(world.made().await, (0, 0));
    let without = |rule: &(String, String)| rule.0 != "serviceaccounts";
    world.place.allow(&world.place.namespace, without).await;
    let error = until("a refusal", SOON, async || world.start(&request).await.err()).await;
    assert_eq!(error.class, Class::Denied, "{error}");
    assert!(error.message.contains("cannot get resource \"serviceaccounts\""), "{error}");
    world.place.allow(&world.place.namespace, |_| true).await;
    until("a start", SOON, async || world.start(&request).await.ok()).await;
}

/// Runs builds in a namespace of their own, with the rules of the chart. Returns that namespace, and a builder.
async fn build_apart(world: &mut World) -> (String, Key) {
    let place = &world.place;
    let builds = format!("{}-builds", place.namespace);
    place.create_namespace(&builds).await;
    let names = |file: &str| rules_of(file).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let (of_objects, of_builds) = (names("role.yaml"), names("role-builds.yaml"));
    place.allow(&place.namespace, |rule| of_objects.contains(rule)).await;
    place.allow(&builds, |rule| of_builds.contains(rule)).await;
    let builder = world.builder("node").await;
    world.set_up(world.place.scope(), Setup { namespace: Some(builds.clone()), ..setup() }).await;
    (builds, builder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_failed_build_in_a_namespace_of_builds_is_deleted_after_its_builder() {
    let mut world = World::new().await;
    let (builds, builder) = build_apart(&mut world).await;
    let own = format!("ami.opsy.dev/build-for={}", world.place.namespace);
    let account = ["serviceaccount", "default", "--namespace", &builds];
    world.place.kubectl(&[&["label"], &account[..], &["ami.opsy.dev/build=true"]].concat(), "");
    world.place.kubectl(&[&["annotate", "--overwrite"], &account[..], &[&own]].concat(), "");
    let request = request(&builder, "");
    world.start(&request).await.expect("it starts");
    let report =
        json!({"outcome": "Failed", "exit": 1, "started_at": 1, "ended_at": 2, "errors": ["no space"]});
    end_pod(&world, &request.name, "Failed", &report).await;
    world.ended(SOON, &builder).await;
    world.runs.forget(&request.name).await.expect("it is forgotten");
    assert_eq!(world.made().await, (1, 0), "its log is kept");
    world.builders().delete(&builder.name, &Default::default()).await.expect("it is deleted");
    // As the watch of objects does.
    world.objects.builders.remove(&builder);
    until("the end of the Job", SOON, async || (world.made().await == (0, 0)).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn builds_run_in_a_namespace_of_their_own_with_the_rules_for_builds_there_alone() {
    let mut world = World::new().await;
    let (builds, builder) = build_apart(&mut world).await;
    let mut request = request(&builder, "");
    request.pod.settings.annotations = Some([("iam.amazonaws.com/role".into(), "another".into())].into());
    let error = world.start(&request).await.expect_err("its role would not be this namespace's");
    assert!(error.message.contains("remove spec.builder.pod.annotations"), "{error}");
    request.pod.settings.annotations = None;
    // Nothing in the other namespace is for builds of this namespace yet.
    for command in [
        "kubectl label serviceaccount default --namespace BUILDS ami.opsy.dev/build=true",
        "kubectl annotate --overwrite serviceaccount default --namespace BUILDS ami.opsy.dev/build-for=NS",
    ] {
        let command = command.replace("BUILDS", &builds).replace("NS", &world.place.namespace);
        let error = world.start(&request).await.expect_err("it is not for builds of this namespace");
        assert!(error.message.contains(&command), "{error}");
        let args: Vec<&str> = command.split(' ').skip(1).collect();
        world.place.kubectl(&args, "");
    }
    world.start(&request).await.expect("it starts");
    assert_eq!(world.finalizers(&builder).await, ["ami.opsy.dev/run"]);
    let job = world.jobs().get(request.name.as_str()).await.expect("a Job");
    assert_eq!(job.metadata.namespace.as_ref(), Some(&builds));
    assert_eq!(job.metadata.owner_references, None, "no owner is in another namespace");
    assert_eq!(world.made().await, (1, 1));
    world.pod(&request.name).await;
    world.restart().await;
    let run = world.run(&builder).await;
    assert_eq!((run.facts.builder.clone(), world.runs.live().await.expect("a count")), (builder.clone(), 1));
    world.runs.stop(&request.name, Stop::Cancelled).await.expect("it is requested");
    world.ended(SOON, &builder).await;
    world.runs.forget(&request.name).await.expect("it is forgotten");
    assert_eq!(world.finalizers(&builder).await, Vec::<String>::new());
    let pods = world.pods();
    until("all of them to be deleted", SOON, async || {
        let none = pods.list(&Default::default()).await.expect("pods").items.is_empty();
        (none && world.made().await == (0, 0)).then_some(())
    })
    .await;
}
