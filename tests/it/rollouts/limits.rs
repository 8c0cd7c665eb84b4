//! What limits and settings of a refresher do in AWS: how many groups are updated at once, how EKS updates each of them,
//! groups without nodes, groups that appear during a rollout, and other writers.

use opsy::api::{ClientToken, TemplateId};
use opsy::aws::TemplateVersion;
use opsy::aws::eks::MaxUnavailable;
use opsy::engine::ObjectHealth;
use serde_json::{Value, json};

use super::region;
use crate::refresher::{Rolling, names, reason};

/// Reconciles within which a rollout of these tests ends.
const RECONCILES: usize = 200;

/// The groups that are being updated in AWS.
fn updating(rolling: &Rolling) -> usize {
    let state = rolling.account.state();
    let groups = state["node_groups"].as_array().expect("groups").iter();
    groups.filter(|group| group["status"] == "UPDATING").count()
}

fn group(rolling: &Rolling, name: &str) -> Value {
    let state = rolling.account.state();
    let mut groups = state["node_groups"].as_array().expect("groups").iter();
    groups.find(|group| group["name"] == name).expect("the group").clone()
}

fn add(rolling: &Rolling, name: &str, count: usize) {
    let image = &rolling.seed["initial_image"];
    rolling.account.post("new-node-group", json!({ "name": name, "image": image, "count": count }));
}

#[tokio::test]
async fn never_more_groups_than_allowed_are_updated_at_once_by_whomever() {
    let mut rolling = Rolling::new(json!({ "rollout": { "maxParallel": 2 } })).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    add(&rolling, "more", 1);
    rolling.account.post("node-group", json!({ "name": "batch", "status": "UPDATING" }));
    let mut most = 0;
    for number in 0..RECONCILES {
        let pass = rolling.pass().await;
        most = most.max(updating(&rolling));
        assert!(most <= 2, "{most} groups are updated at once");
        if pass.health == ObjectHealth::Settled {
            let record = pass.status.history.expect("a history").remove(0);
            let groups = record.groups.expect("groups");
            let timed = groups.iter().filter(|group| group.duration.is_some()).count();
            assert_eq!((groups.len(), timed), (4, 4), "{groups:#?}");
            break;
        }
        // The update of the other writer ends after some time.
        if number == 10 {
            assert_eq!(
                rolling.account.count("eks:UpdateNodegroupVersion"),
                1,
                "one beside that of the writer"
            );
            rolling.account.post("node-group", json!({ "name": "batch", "status": "ACTIVE" }));
        }
        rolling.step(pass.look.as_secs().clamp(1, 5));
    }
    assert_eq!(most, 2, "two groups are updated at once");
    assert_eq!(rolling.on(&image), names(&["batch", "more", "system", "web"]));
}

/// EKS may reset fields that are not sent.
#[tokio::test]
async fn percentage_and_force_reach_eks_and_the_update_strategy_stays() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    rolling.account.post("settings", json!({ "config_update_resets": true }));
    let token = ClientToken::of(&["by hand"]);
    let max = MaxUnavailable { count: Some(1), percentage: None };
    let aws = &rolling.context.aws;
    aws.update_config(&region(), "demo", "web", max, Some("MINIMAL"), &token).await.expect("an update");
    rolling.step(600);
    rolling.account.clear_journal();
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    let config = json!({ "maxUnavailablePercentage": 50, "force": true });
    rolling.object.spec.refresh_config = serde_json::from_value(config).expect("a configuration");
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    let config = json!({ "maxUnavailablePercentage": 50, "updateStrategy": "MINIMAL" });
    assert_eq!(group(&rolling, "web")["update_config"], config);
    let journal = rolling.account.journal();
    let started = journal.iter().filter(|entry| entry["operation"] == "UpdateNodegroupVersion");
    let forced: Vec<&Value> = started.map(|entry| &entry["params"]["force"]).collect();
    assert_eq!(forced, [&json!(true)]);
    assert_eq!(rolling.on(&image), names(&["web"]));
}

#[tokio::test]
async fn a_group_without_nodes_and_one_that_appears_halfway_are_moved() {
    let mut rolling = Rolling::new(json!({})).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    add(&rolling, "empty", 0);
    while rolling.account.count("eks:UpdateNodegroupVersion") == 0 {
        assert_eq!(rolling.pass().await.health, ObjectHealth::Busy);
    }
    add(&rolling, "late", 1);
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(rolling.on(&image), names(&["batch", "empty", "late", "system", "web"]));
}

#[tokio::test]
async fn another_writer_that_moves_a_group_back_is_named_and_the_second_time_a_person_must_act() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
    let template =
        rolling.seed["node_groups"]["web"]["launch_template"]["id"].as_str().expect("an id").to_owned();
    let template = TemplateId::parse(template).expect("an id");
    let initial = TemplateVersion { template, version: "1".to_owned() };
    for time in 1..=2 {
        let token = ClientToken::of(&["other", &time.to_string()]);
        let aws = &rolling.context.aws;
        let update = aws.update_version(&region(), "demo", "web", &initial, false, &token).await;
        update.expect("an update of another writer");
        rolling.step(600);
        let pass = rolling.rest().await;
        let groups = pass.status.rollout.clone().and_then(|rollout| rollout.groups).expect("groups");
        let undone = groups[0].undone_by.clone().unwrap_or_default();
        assert!(undone.contains(&image) && undone.contains("(version 1)"), "{undone}");
        let (why, message) = reason(&pass);
        if time == 1 {
            assert_eq!(
                (pass.health, rolling.on(&image)),
                (ObjectHealth::Settled, names(&["web"])),
                "{message}"
            );
        } else {
            assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "AnotherWriter"), "{message}");
            assert_eq!(group(&rolling, "web")["launch_template"]["version"], "1", "it is left as it is");
        }
    }
}
