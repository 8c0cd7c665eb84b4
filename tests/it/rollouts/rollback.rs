//! Failed rollouts that are rolled back: what EKS was asked to do, on which launch template version each group is
//! afterwards, and that the image is held until a person releases it.

use std::collections::BTreeMap;

use opsy::engine::ObjectHealth;
use serde_json::{Value, json};

use crate::refresher::{Rolling, names, reason};

/// The launch template version in force of each group with one.
fn in_force(rolling: &Rolling) -> BTreeMap<String, Value> {
    let state = rolling.account.state();
    let groups = state["node_groups"].as_array().expect("groups").iter();
    let with_template = groups.filter(|group| !group["launch_template"].is_null());
    with_template
        .map(|group| {
            (group["name"].as_str().expect("a name").to_owned(), group["launch_template"]["version"].clone())
        })
        .collect()
}

/// Group and launch template version of every update, in order.
fn updates(rolling: &Rolling) -> Vec<(String, String)> {
    let journal = rolling.account.journal();
    let started = journal.iter().filter(|entry| entry["operation"] == "UpdateNodegroupVersion");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    started
        .map(|entry| {
            let params = &entry["params"];
            (text(&params["nodegroupName"]), text(&params["launchTemplate"]["version"]))
        })
        .collect()
}

fn failing(rolling: &Rolling, group: &str, shows_new_version: bool) {
    rolling.account.fault(json!({
        "kind": "nodegroup-update-fails", "operation": "UpdateNodegroupVersion", "count": 1,
        "params": { "nodegroupName": format!("^{group}$") }, "shows_new_version": shows_new_version,
        "errorCode": "NodeCreationFailure", "message": "Instances failed to join the kubernetes cluster",
    }));
}

#[tokio::test]
async fn every_group_returns_to_its_version_and_the_image_is_held_until_it_is_released() {
    let freeze = json!([{ "from": "2027-01-01", "to": "2027-01-02" }]);
    let policy = json!({ "rollout": { "onFailure": "Rollback", "freezes": freeze } });
    let mut rolling = Rolling::new(policy).await;
    let image = rolling.image();
    let before = in_force(&rolling);
    rolling.object.spec.ami = Some(image.clone());
    // EKS shows the new version of the failed group, whose nodes may be mixed.
    failing(&rolling, "web", true);
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "ImageHeld"), "{message}");
    assert_eq!(in_force(&rolling), before);
    let started: Vec<String> = updates(&rolling).into_iter().map(|(group, _)| group).collect();
    assert_eq!(started, ["batch", "system", "web", "batch", "system", "web"]);
    let returned: BTreeMap<String, Value> =
        updates(&rolling)[3..].iter().map(|(group, version)| (group.clone(), json!(version))).collect();
    assert_eq!(returned, before, "no version is created for a rollback");
    assert_eq!(rolling.account.count("ec2:CreateLaunchTemplateVersion"), 3);
    let history = pass.status.history.clone().unwrap_or_default();
    let results: Vec<&str> = history.iter().map(|record| record.result.as_str()).collect();
    assert_eq!(results, ["RolledBack", "Failed"]);
    assert_eq!(history[0].rollback_of.as_ref(), Some(&history[1].id));
    assert!(message.contains("NodeCreationFailure: Instances failed to join"), "{message}");
    let held = pass.status.held.clone().expect("a held image");
    assert_eq!((held.len(), held[0].ami.as_str()), (1, image.as_str()));

    rolling.restart().await;
    rolling.step(3600);
    assert_eq!(reason(&rolling.rest().await).0, "ImageHeld");
    assert_eq!(updates(&rolling).len(), 6, "the image is not tried again");
    let release = [("ami.opsy.dev/retry".to_owned(), image.clone())];
    rolling.object.metadata.annotations = Some(release.into());
    let pass = rolling.rest().await;
    assert_eq!((pass.health, pass.status.held), (ObjectHealth::Settled, None));
    assert_eq!(rolling.on(&image), names(&["batch", "system", "web"]));
}

#[tokio::test]
async fn a_request_for_a_retry_is_handled_only_when_it_could_be_looked_at() {
    let mut rolling = Rolling::new(json!({})).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    failing(&rolling, "batch", false);
    assert_eq!(reason(&rolling.rest().await).0, "UpdateFailed");
    rolling.object.metadata.annotations = Some([("ami.opsy.dev/retry".to_owned(), image.clone())].into());
    let region = std::mem::replace(&mut rolling.object.spec.region, "nowhere at all".to_owned());
    let pass = rolling.pass().await;
    assert_eq!((reason(&pass).0.as_str(), pass.status.last_handled_retry), ("InvalidSpec", None));
    rolling.object.spec.region = region;
    let pass = rolling.rest().await;
    assert_eq!((pass.health, pass.status.last_handled_retry), (ObjectHealth::Settled, Some(image)));
}

#[tokio::test]
async fn a_canary_that_fails_and_shows_its_version_again_is_updated_to_it_once_more() {
    let mut rolling = Rolling::new(json!({ "rollout": { "onFailure": "Rollback" } })).await;
    let before = in_force(&rolling);
    rolling.object.spec.ami = Some(rolling.image());
    failing(&rolling, "batch", false);
    let pass = rolling.rest().await;
    assert_eq!(reason(&pass).0, "ImageHeld", "{:?}", reason(&pass));
    let version = before["batch"].as_str().expect("a version").to_owned();
    let of_batch = |version: &str| ("batch".to_owned(), version.to_owned());
    assert_eq!(updates(&rolling), [of_batch("2"), of_batch(&version)], "its nodes may be mixed");
    assert_eq!(in_force(&rolling), before);
    let results: Vec<String> =
        pass.status.history.into_iter().flatten().map(|record| record.result).collect();
    assert_eq!(results, ["RolledBack", "Failed"]);
}
