//! Notifications by replicas: the state that the next replica needs is in the cluster.

use serde_json::json;

use super::replicas::{Replicas, blocking};
use crate::chat::{Chat, TOKEN, threads};

const NOTIFIER: &str =
    "notifier:\n  slack:\n    channelIDs: [C0DEMO0001]\n    secret: team-slack\npublish: {enabled: false}\n";
const REFRESHER: &str = "apiVersion: ami.opsy.dev/v1alpha1\nkind: AMIRefresher\nmetadata:\n  name: demo\nspec:\n  \
    region: us-east-1\n  clusterName: demo\n  refreshConfig: {enable: false}\n  timeOuts: {controllerTimer: 2s}\n";
const BROKEN: &str =
    "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata:\n  name: web\nspec:\n  regoin: x\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_takes_over_while_slack_is_away_goes_on_where_the_other_was_killed() {
    let replicas = Replicas::of(NOTIFIER, &[("demo.yaml", REFRESHER), ("web.yaml", BROKEN)]).await;
    blocking(move || {
        let (world, place) = (&replicas.world, &replicas.place);
        let secret = format!("--from-literal=token={TOKEN}");
        place.kubectl(&["create", "secret", "generic", "team-slack", &secret], "");
        let chat = Chat::start();
        let api = format!("{}/api/", chat.url);
        let environment = [("OPSY_SLACK_API", api.as_str())];
        world.account.fault(json!({ "kind": "deny", "service": "eks", "operation": "ListNodegroups" }));
        let first = replicas.start_with("first", &environment);
        replicas.works(&first);
        world.wait("both threads", || {
            let told = threads(&chat);
            let has = |words: &str| told.iter().any(|thread| thread[0].contains(words));
            (has("AwsDenied") && has("ManifestBroken")).then_some(())
        });
        // The delivered notifications are recorded before the first replica is killed.
        let kept = |path: &str, object: &[&str]| {
            let arguments = [object, &["-o", path][..]].concat();
            place.kubectl(&[&["get"], &arguments[..]].concat(), "").contains("messageID").then_some(())
        };
        world
            .wait("the record in the Lease", || kept("jsonpath={.metadata.annotations}", &["lease", "opsy"]));
        let status = || place.kubectl(&["get", "ar", "demo", "-o", "jsonpath={.status.notifications}"], "");
        world.wait("the record in the status", || status().contains("head").then_some(()));

        chat.control("down", json!({}));
        first.agent.kill();
        world.account.clear_faults();
        world.push(&[("web.yaml", None)], "policy: no web");
        let second = replicas.start_with("second", &environment);
        replicas.works(&second);
        chat.control("clock", json!({ "advance": 3600 }));
        let notified = r#"jsonpath={.status.conditions[?(@.type=="Notified")].status}"#;
        world.wait("the condition Notified", || {
            (place.kubectl(&["get", "ar", "demo", "-o", notified], "") == "False").then_some(())
        });
        chat.control("up", json!({}));
        world.wait("the end of both threads", || {
            let told = threads(&chat);
            let over = told.iter().filter(|thread| thread.iter().any(|told| told.contains("is resolved")));
            (over.count() == 2).then_some(())
        });
        let told = threads(&chat);
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(told.iter().all(|thread| thread.len() == 2), "nothing twice: {told:#?}");
    })
    .await;
}
