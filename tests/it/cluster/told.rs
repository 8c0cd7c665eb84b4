//! Notifications and Events by replicas: the state that the next replica needs is in the cluster, and what concerns the
//! repository is reported once.

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

/// A hook that refuses the commits of Opsy, but not those of people.
const FREEZE_STATUS: &str = "read -r old new ref
case \"$(git log -1 --format=%s \"$new\")\" in opsy:*) echo 'status is frozen' >&2; exit 1;; esac";

fn suspended(number: usize) -> (String, String) {
    let text = format!(
        "apiVersion: ami.opsy.dev/v1alpha1\nkind: PackerBuilder\nmetadata: {{name: s{number}}}\nspec:\n  \
         region: us-east-1\n  suspend: true\n  builder: {{dir: packer}}\n"
    );
    (format!("s{number}.yaml"), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_push_is_an_event_of_the_lease_and_no_write_to_any_object() {
    const OBJECTS: usize = 30;
    let files: Vec<(String, String)> = (0..OBJECTS).map(suspended).collect();
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let replicas = Replicas::served("publish: {quietPeriod: 100ms}\n", &files).await;
    blocking(move || {
        let (world, place) = (&replicas.world, &replicas.place);
        let first = replicas.start_with("first", &[]);
        let status = |number| format!("status/{}/packerbuilders/s{number}.yaml", place.namespace);
        world.wait("the status of all objects in Git", || {
            (0..OBJECTS).all(|number| world.show(&status(number)).is_some()).then_some(())
        });
        let versions = || {
            let of = r#"jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion}{"\n"}{end}"#;
            let all = place.kubectl(&["get", "pb", "-o", of], "");
            all.lines().map(str::to_owned).collect::<Vec<String>>()
        };
        let before = versions();
        assert_eq!(before.len(), OBJECTS);

        let server = world.server.as_ref().expect("a server");
        server.remote().hook("pre-receive", FREEZE_STATUS);
        let (path, text) = suspended(OBJECTS);
        world.push(&[(&path, Some(&text))], "policy: one more");
        let events = || {
            let of = r#"jsonpath={range .items[*]}{.involvedObject.kind}/{.involvedObject.name} {.reason}: {.message}{"\n"}{end}"#;
            let all = place.kubectl(&["get", "events", "-o", of], "");
            all.lines().filter(|line| line.contains("PushRefused")).map(str::to_owned).collect::<Vec<_>>()
        };
        let refused = world.wait("the Event", || Some(events()).filter(|all| !all.is_empty()));
        assert!(refused.len() == 1 && refused[0].starts_with("Lease/opsy PushRefused: "), "{refused:?}");
        assert!(refused[0].contains("status is frozen"), "{refused:?}");
        let described = place.kubectl(&["describe", "lease", "opsy"], "");
        let shown = described.lines().any(|line| line.contains("Warning") && line.contains("PushRefused"));
        assert!(shown, "{described}");

        server.remote().unhook("pre-receive");
        assert!(first.agent.stop().success(), "it publishes before it ends");
        assert!(world.show(&status(OBJECTS)).is_some());
        let second = replicas.start_with("second", &[]);
        replicas.works(&second);
        let memory = || place.kubectl(&["get", "lease", "opsy", "-o", "jsonpath={.metadata.annotations}"], "");
        world.wait("the end of the refusal", || (!memory().contains("PushRefused")).then_some(()));
        let after = versions();
        let written: Vec<_> = before.iter().filter(|object| !after.contains(object)).collect();
        assert_eq!(written, Vec::<&String>::new(), "neither the refusal nor its end writes an object");
        assert_eq!(events().len(), 1, "{:?}", events());
    })
    .await;
}
