//! The chart's rules for builds: they suffice, and each is needed.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use opsy::engine::kubernetes::Scope;
use opsy::engine::kubernetes::runs::ClusterRuns;
use opsy::engine::{RunRequest, RunState, Runs, Stop};
use serde_json::json;

use super::super::{Place, Requests, rules, until};
use super::world::{World, request, setup};

/// Longer than any allowed operation takes.
const LIMIT: Duration = Duration::from_secs(90);
/// Number of rules that are tried at the same time, since the control plane is shared.
const AT_ONCE: usize = 4;

/// An environment whose agent has all rules but one, and the requests of that agent. It works in several namespaces,
/// which needs more rules.
async fn world(without: Option<&(String, String)>) -> (World, Requests) {
    let mut world = World::new().await;
    let place: &Place = &world.place;
    place.allow(&place.namespace, |rule| Some(rule) != without).await;
    let other = format!("{}-other", place.namespace);
    place.create_namespace(&other).await;
    place.allow(&other, |_| true).await;
    let scope = Scope::Namespaces(vec![place.namespace.clone(), other]);
    let (cluster, requests) = place.cluster(scope).await;
    let packer = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: packer\n  labels: {ami.opsy.dev/build: 'true'}\n";
    let aws =
        "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: aws\n  labels: {ami.opsy.dev/build: 'true'}\n";
    place.kubectl(&["create", "-f", "-"], &format!("{packer}{aws}"));
    world.runs = ClusterRuns::start(cluster, world.objects.clone(), setup(), Timestamp::now);
    (world, requests)
}

/// A whole run, with every request that an agent may have to send for it.
async fn whole_run(world: &World) {
    world.set_quota(json!({"pods": "0"})).await;
    let builder = world.builder("node").await;
    let mut request = RunRequest { secret: Some("aws".into()), ..request(&builder, "") };
    request.pod.service_account = Some("packer".into());
    until("a start", LIMIT, async || world.start(&request).await.ok()).await;
    let waits = |words: &'static str| move |state: &RunState| matches!(state, RunState::Pending(Some(said)) if said.contains(words));
    world.until("the message about the quota", LIMIT, &builder, waits("exceeded quota")).await;
    world.delete_quota().await;
    world.until("a pod", LIMIT, &builder, waits("it cannot be scheduled")).await;
    world.runs.stop(&request.name, Stop::Late).await.expect("it is requested");
    world.ended(LIMIT, &builder).await;
    world.runs.forget(&request.name).await.expect("it is forgotten");
}

/// Returns whether a whole run succeeds without a denied request.
async fn works(without: Option<&(String, String)>) -> bool {
    let (world, requests) = world(without).await;
    let denied = async || (requests.denied() > 0).then_some(());
    tokio::select! {
        end = AssertUnwindSafe(whole_run(&world)).catch_unwind() => match end {
            // A denied request may make the run panic; any other panic is a failure of the test.
            Err(panic) if requests.denied() == 0 => std::panic::resume_unwind(panic),
            _ => requests.denied() == 0,
        },
        () = until("a denied request", LIMIT * 3, denied) => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charts_rules_are_enough_for_builds_and_each_is_needed() {
    assert!(works(None).await, "with the chart's rules nothing is denied");
    let ours = |(resource, verb): &(String, String)| match resource.as_str() {
        "jobs" | "configmaps" | "pods" | "serviceaccounts" | "secrets" => true,
        "events" => verb == "list",
        _ => false,
    };
    let all = rules().into_iter().map(|(name, _)| name).filter(ours);
    let tried = futures::stream::iter(all).map(|rule| async move { (works(Some(&rule)).await, rule) });
    let tried: Vec<_> = tried.buffer_unordered(AT_ONCE).collect().await;
    assert!(tried.len() >= 13, "{tried:?}");
    let unneeded: Vec<_> = tried.iter().filter(|(works, _)| *works).map(|(_, rule)| rule).collect();
    assert!(unneeded.is_empty(), "these rules are not needed: {unneeded:?}");
}
