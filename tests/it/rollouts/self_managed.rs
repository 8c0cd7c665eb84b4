//! Self-managed groups against the emulated EC2 Auto Scaling: instance refreshes, and what is never touched. The tests
//! assert on the groups, instances, refreshes and launch templates of AWS, and on the calls in its journal.

mod limits;
mod trouble;

use std::collections::BTreeSet;

use opsy::api::AMIRefresherStatus;
use opsy::engine::{ObjectHealth, Pass};
use serde_json::{Value, json};

use crate::aws::config;
use crate::refresher::{Rolling, reason};

/// A refresher of self-managed groups with this name only, with further fields of the spec.
async fn own(name: &str, fields: Value) -> Rolling {
    let mut spec = json!({ "nodeGroups": { "managed": false, "selfManaged": true, "include": [name] } });
    merge(&mut spec, fields);
    let mut rolling = Rolling::new(spec).await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            from.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Value::Null), value));
        }
        (into, from) => *into = from,
    }
}

/// Adds a group whose nodes something drains, and returns its IDs.
fn add(rolling: &Rolling, fields: Value) -> Value {
    let mut group = json!({ "name": "workers", "count": 2, "drain_seconds": 5, "warmup": 0 });
    merge(&mut group, fields);
    rolling.account.post("new-auto-scaling-group", group)
}

/// A group as AWS has it.
fn group(rolling: &Rolling, name: &str) -> Value {
    let state = rolling.account.state();
    let groups = state["auto_scaling_groups"].as_array().expect("groups");
    groups.iter().find(|group| group["name"] == name).unwrap_or_else(|| panic!("no group {name}")).clone()
}

/// The images that the instances of a group run.
fn images(rolling: &Rolling, name: &str) -> BTreeSet<String> {
    let group = group(rolling, name);
    let instances = group["instances"].as_array().expect("instances");
    instances.iter().map(|instance| instance["image"].as_str().expect("an image").to_owned()).collect()
}

/// Statuses of the refreshes of a group, newest first.
fn refreshes(rolling: &Rolling, name: &str) -> Vec<String> {
    let group = group(rolling, name);
    let refreshes = group["refreshes"].as_array().expect("refreshes");
    refreshes.iter().map(|refresh| refresh["Status"].as_str().expect("a status").to_owned()).collect()
}

/// An SDK client, for what other writers do.
async fn autoscaling(rolling: &Rolling) -> aws_sdk_autoscaling::Client {
    aws_sdk_autoscaling::Client::new(&config(&rolling.account).load().await)
}

/// A person requests a retry of the target.
fn retry(rolling: &mut Rolling) {
    let image = rolling.image();
    let annotations = rolling.object.metadata.annotations.get_or_insert_default();
    annotations.insert("ami.opsy.dev/retry".to_owned(), image);
}

fn only(image: &str) -> BTreeSet<String> {
    BTreeSet::from([image.to_owned()])
}

/// Calls of EC2 Auto Scaling that changed something, with their parameters.
fn writes(rolling: &Rolling) -> Vec<(String, Value)> {
    let journal = rolling.account.journal();
    let of_groups = journal.iter().filter(|entry| entry["service"] == "autoscaling");
    let writes =
        of_groups.filter(|entry| !entry["operation"].as_str().expect("text").starts_with("Describe"));
    writes
        .map(|entry| (entry["operation"].as_str().expect("text").to_owned(), entry["params"].clone()))
        .collect()
}

/// State and reason of a group in the status.
fn row(pass: &Pass<AMIRefresherStatus>, name: &str) -> (String, String) {
    let rows = pass.status.node_groups.clone().unwrap_or_default();
    let row = rows.into_iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"));
    (row.state.unwrap_or_default(), row.reason.unwrap_or_default())
}

#[tokio::test]
async fn a_self_managed_group_is_moved_by_an_instance_refresh_to_a_numbered_version() {
    let mut rolling = own("workers", json!({ "refreshConfig": { "maxUnavailable": 1 } })).await;
    let made = add(&rolling, json!({ "count": 3 }));
    let image = rolling.image();
    rolling.account.clear_journal();
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));

    assert_eq!(images(&rolling, "workers"), only(&image));
    assert_eq!(refreshes(&rolling, "workers"), ["Successful"]);
    let found = group(&rolling, "workers");
    assert_eq!(found["LaunchTemplate"]["LaunchTemplateId"], made["launch_template"]["id"]);
    assert_eq!(found["LaunchTemplate"]["Version"], "2", "a number");
    let [(operation, params)] = writes(&rolling).try_into().expect("one write");
    assert_eq!(operation, "StartInstanceRefresh");
    let desired = json!({ "LaunchTemplateId": made["launch_template"]["id"], "Version": "2" });
    assert_eq!(params["DesiredConfiguration"], json!({ "LaunchTemplate": desired }));
    let preferences = &params["Preferences"];
    assert_eq!(preferences["SkipMatching"].to_string().replace('"', ""), "true");
    assert_eq!(preferences["MinHealthyPercentage"].to_string().replace('"', ""), "66", "two of three stay");

    let rows = pass.status.node_groups.clone().expect("rows");
    let kinds: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.kind.as_deref())).collect();
    assert!(kinds.contains(&("workers", Some("SelfManaged"))), "{kinds:?}");
    assert_eq!(row(&pass, "workers").0, "Current");
    assert_eq!(pass.status.last_run_status.as_deref(), Some("Done"));
    let again = rolling.pass().await;
    assert_eq!(again.status, pass.status);
}

/// The only difference in the policy is the version: everything else is sent back as it was.
#[tokio::test]
async fn a_mixed_instances_policy_is_kept_whole() {
    let mut rolling = own("workers", json!({})).await;
    add(&rolling, json!({ "mixed": ["m6i.large", "m5.large"] }));
    let launch =
        |rolling: &Rolling| group(rolling, "workers")["MixedInstancesPolicy"]["LaunchTemplate"].clone();
    let before = launch(&rolling);
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
    let after = launch(&rolling);
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()));
    assert_eq!(after["Overrides"], before["Overrides"]);
    assert_eq!(after["Overrides"].as_array().map(Vec::len), Some(2));
    assert_eq!(after["LaunchTemplateSpecification"]["Version"], "2");
    let [(_, params)] = writes(&rolling).try_into().expect("one write");
    let desired = &params["DesiredConfiguration"];
    assert!(desired["LaunchTemplate"].is_null(), "{desired}");
    assert_eq!(desired["MixedInstancesPolicy"]["LaunchTemplate"]["Overrides"], before["Overrides"]);
}

/// A group on `$Latest` would launch the new version as soon as it exists.
#[tokio::test]
async fn a_group_on_latest_or_default_is_pinned_before_a_version_is_created() {
    for alias in ["$Latest", "$Default"] {
        let mut rolling = own("workers", json!({})).await;
        add(&rolling, json!({ "version": alias }));
        assert_eq!(rolling.rest().await.health, ObjectHealth::Settled, "{alias}");
        assert_eq!(images(&rolling, "workers"), only(&rolling.image()), "{alias}");
        assert_eq!(group(&rolling, "workers")["LaunchTemplate"]["Version"], "2", "{alias}");
        let calls: Vec<String> =
            rolling.writes().into_iter().filter(|call| !call.contains("CreateTags")).collect();
        let expected = [
            "autoscaling:UpdateAutoScalingGroup",
            "ec2:CreateLaunchTemplateVersion",
            "autoscaling:StartInstanceRefresh",
        ];
        assert_eq!(calls, expected, "{alias}");
        let (_, pin) = &writes(&rolling)[0];
        assert_eq!(pin["LaunchTemplate"]["Version"], "1", "the version in force");
    }
}

#[tokio::test]
async fn protected_nodes_follow_the_settings() {
    // The group protects new nodes, as the cluster autoscaler may need it: they are replaced.
    let mut rolling = own("workers", json!({})).await;
    add(&rolling, json!({ "protected": true }));
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()));
    let (_, params) = writes(&rolling).remove(0);
    assert_eq!(params["Preferences"]["ScaleInProtectedInstances"], "Refresh");

    // A person leaves them alone: that is no drift afterwards.
    let ignore = json!({ "refreshConfig": { "instanceRefresh": { "scaleInProtectedInstances": "Ignore" } } });
    let mut rolling = own("workers", ignore).await;
    let made = add(&rolling, json!({ "protected": true }));
    let pass = rolling.rest().await;
    assert_eq!((pass.health, row(&pass, "workers").0.as_str()), (ObjectHealth::Settled, "Current"));
    assert_eq!(images(&rolling, "workers"), only(made["image"].as_str().expect("an image")));
    assert_eq!(group(&rolling, "workers")["LaunchTemplate"]["Version"], "2", "new nodes run the target");
    assert_eq!(refreshes(&rolling, "workers"), ["Successful"]);

    // By default a refresh waits, and the status says for what.
    let mut rolling = own("workers", json!({})).await;
    add(&rolling, json!({}));
    rolling.account.post("auto-scaling-group", json!({ "name": "workers", "protected": true }));
    for _ in 0..30 {
        let pass = rolling.pass().await;
        if row(&pass, "workers").1.contains("Remove instance scale-in protection") {
            return;
        }
        rolling.step(pass.look.as_secs().max(1));
    }
    panic!("not reported: {:?}", rolling.object.status);
}

#[tokio::test]
async fn a_group_without_nodes_is_moved_too() {
    let mut rolling = own("workers", json!({ "refreshConfig": { "maxUnavailable": 1 } })).await;
    add(&rolling, json!({ "count": 0, "max": 3 }));
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
    assert_eq!(group(&rolling, "workers")["LaunchTemplate"]["Version"], "2");
    rolling.account.post("auto-scaling-group", json!({ "name": "workers", "desired": 2 }));
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()), "new nodes run the target");
}

/// Reads grow with pages, not with groups, as long as nothing drifts.
#[tokio::test]
async fn groups_at_rest_are_read_in_one_call() {
    let mut rolling = own("*", json!({ "exclude": ["self-managed"] })).await;
    let image = rolling.image();
    rolling.account.post("settings", json!({ "short_pages": true }));
    for number in 0..30 {
        let name = format!("idle-{number}");
        rolling.account.post("new-auto-scaling-group", json!({ "name": name, "image": image, "count": 1 }));
    }
    rolling.account.clear_journal();
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(pass.status.node_groups.map(|rows| rows.len()), Some(31));
    let counted = |operation: &str| rolling.account.count(&format!("autoscaling:{operation}"));
    assert_eq!(counted("DescribeAutoScalingGroups"), 1);
    assert_eq!(counted("DescribeInstanceRefreshes") + counted("DescribeLifecycleHooks"), 0);
    assert_eq!(rolling.account.count("ec2:DescribeLaunchTemplateVersions"), 30, "each has its own template");
}

/// A checkpoint, and a node in standby that the settings terminate.
#[tokio::test]
async fn every_setting_of_a_refresh_reaches_ec2_auto_scaling() {
    let settings = json!({
        "minHealthyPercentage": 50, "maxHealthyPercentage": 150, "instanceWarmup": "2m",
        "checkpointPercentages": [50, 100], "checkpointDelay": "1h", "standbyInstances": "Terminate",
    });
    let mut rolling = own("workers", json!({ "refreshConfig": { "instanceRefresh": settings } })).await;
    let made = add(&rolling, json!({ "count": 4 }));
    rolling.account.post("auto-scaling-group", json!({ "name": "workers", "standby": 1 }));
    let old = made["image"].as_str().expect("an image").to_owned();
    let mut elapsed = 0;
    let pass = loop {
        let pass = rolling.pass().await;
        if pass.health != ObjectHealth::Busy {
            break pass;
        }
        if (1800..3600).contains(&elapsed) {
            assert!(images(&rolling, "workers").contains(&old), "it waits at the checkpoint");
        }
        let look = pass.look.as_secs().max(1);
        rolling.step(look);
        elapsed += look;
        assert!(elapsed < 14_400, "{:?}", reason(&pass));
        if images(&rolling, "workers") == only(&rolling.image()) {
            assert!(elapsed >= 3600, "the checkpoint lasts an hour, not {elapsed} s");
        }
    };
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()));
    let preferences = group(&rolling, "workers")["refreshes"][0]["Preferences"].clone();
    for (name, value) in [
        ("MinHealthyPercentage", json!(50)),
        ("MaxHealthyPercentage", json!(150)),
        ("InstanceWarmup", json!(120)),
        ("CheckpointPercentages", json!([50, 100])),
        ("CheckpointDelay", json!(3600)),
        ("StandbyInstances", json!("Terminate")),
    ] {
        assert_eq!(preferences[name], value, "{name}");
    }
}
