//! The chart's rules for custom resources and Events: they suffice, and each is needed.

use std::time::Duration;

use futures::StreamExt;
use opsy::api::{AMIRefresher, Kind, ObjectKey};
use opsy::engine::{EventRecorder, Home, Note, StatusUpdate};
use opsy::manifest::Document;
use serde_json::json;

use super::world::{Agent, OWNER};
use super::{Place, rules, until};

/// Longer than any allowed operation takes.
const LIMIT: Duration = Duration::from_secs(60);
/// Number of rules that are tried at the same time, since the control plane is shared.
const AT_ONCE: usize = 4;

fn document(place: &Place, kind: Kind, name: &str) -> Document {
    let mut document = place.document(name, json!({"region": "us-east-1", "clusterName": "demo"}));
    let mut json = document.json.value();
    json["kind"] = json!(kind.to_string());
    document.json = (&json).into();
    document.object.kind = kind;
    document
}

/// Does everything that a home does, without one rule. Returns whether nothing was denied.
async fn works(without: Option<&(String, String)>) -> bool {
    let place = Place::new().await;
    place.allow(&place.namespace, |rule| Some(rule) != without).await;
    let kinds = [Kind::PackerBuilder, Kind::AMIRefresher];
    let documents = kinds.map(|kind| [document(&place, kind, "web"), document(&place, kind, "new")]).concat();
    for document in documents.iter().filter(|document| document.object.key.name == "web") {
        place.kubectl(&["apply", "-f", "-"], &document.json.value().to_string());
    }
    let agent = Agent::start(&place).await;
    let denied = async || (agent.requests.denied() > 0).then_some(());
    let work = async {
        while agent.load(&documents).await.is_err() {
            tokio::task::yield_now().await;
        }
        for object in documents.iter().map(|document| &document.object) {
            touch(&agent, object).await;
        }
        let removed: Vec<&ObjectKey> = documents.iter().map(|document| &document.object).collect();
        while agent.load_as(OWNER, &[], &removed).await.is_err() {
            tokio::task::yield_now().await;
        }
        until("all objects to be deleted", LIMIT, async || {
            let left = agent.objects.builders.all().count() + agent.objects.refreshers.all().count();
            (left == 0).then_some(())
        })
        .await;
    };
    tokio::select! {
        () = work => agent.requests.denied() == 0,
        () = until("a denied request", LIMIT * 2, denied) => false,
    }
}

/// Writes a status and two equal Events, and tries to remove the finalizer.
async fn touch(agent: &Agent, object: &ObjectKey) {
    let version = || match object.kind {
        Kind::PackerBuilder => agent.objects.builders.get(&object.key)?.metadata.resource_version.clone(),
        Kind::AMIRefresher => agent.objects.refreshers.get(&object.key)?.metadata.resource_version.clone(),
    };
    until("a status", LIMIT, async || {
        let update = StatusUpdate { object: object.clone(), observed_version: version(), status: json!({}) };
        agent.home.write_status(update).await.ok()
    })
    .await;
    for _ in 0..2 {
        agent.home.publish_event(
            object,
            &Note { reason: "Repeated".into(), message: "twice".to_owned(), warning: false },
        );
    }
    until("the second Event", LIMIT, async || agent.requests.has("PATCH", "/events/").then_some(())).await;
    // The object is not being deleted, so that there is nothing to release. A denied request is counted elsewhere.
    let _ = agent.home.release(object).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charts_rules_are_enough_and_each_is_needed() {
    assert!(works(None).await, "with the chart's rules nothing is denied");
    let plural = <AMIRefresher as kube::Resource>::plural(&()).into_owned();
    let ours = ["packerbuilders", &plural, "packerbuilders/status", "amirefreshers/status", "events"];
    // The rule to list events is tested with the rules for builds.
    let theirs = ("events".to_owned(), "list".to_owned());
    let all = rules().into_iter().map(|(name, _)| name);
    let all = all.filter(|rule| ours.contains(&rule.0.as_str()) && *rule != theirs);
    let tried = futures::stream::iter(all).map(|rule| async move { (works(Some(&rule)).await, rule) });
    let tried: Vec<_> = tried.buffer_unordered(AT_ONCE).collect().await;
    assert!(tried.len() >= 16, "{tried:?}");
    let unneeded: Vec<_> = tried.iter().filter(|(works, _)| *works).map(|(_, rule)| rule).collect();
    assert!(unneeded.is_empty(), "these rules are not needed: {unneeded:?}");
}
