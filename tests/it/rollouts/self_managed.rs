//! Self-managed groups against the emulated EC2 Auto Scaling: instance refreshes, and what is never touched. The tests
//! assert on the groups, instances, refreshes and launch templates of AWS, and on the calls in its journal.

use std::collections::BTreeSet;

use opsy::api::AMIRefresherStatus;
use opsy::engine::{ObjectHealth, Pass};
use serde_json::{Value, json};

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
