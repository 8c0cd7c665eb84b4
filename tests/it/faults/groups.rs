//! Node groups that are deleted, busy or degraded, that fail to update, or that must be left alone.

use serde_json::json;

use super::{base, calls_for, on, refresher, rolling, rolls, settles, told, versions_of_ours};
use crate::world::World;

#[test]
fn a_group_deleted_while_it_is_updated_is_left_out() {
    let world = rolling("");
    let image = base(&world, "v20260801");
    // Slow enough that the update is still in progress.
    world.account.post("settings", json!({ "nodegroup_update_seconds": 3600 }));
    let agent = world.agent();
    world.wait("the first update", || (world.account.count("eks:UpdateNodegroupVersion") == 1).then_some(()));
    let first = ["batch", "system", "web"]
        .into_iter()
        .find(|name| calls_for(&world, "UpdateNodegroupVersion", name) == 1)
        .expect("the group being updated");
    world.account.post("settings", json!({ "nodegroup_update_seconds": 30 }));
    world.account.delete("node-group", json!({ "name": first }));
    world.wait("the others to be moved", || (rolls(&world).0 == "UpToDate").then_some(()));
    agent.stop();
    let others: Vec<&str> = ["batch", "system", "web"].into_iter().filter(|name| *name != first).collect();
    assert_eq!(on(&world, &image), others);
    assert!(told(&world, first).is_null(), "a deleted group is not in the status");
    assert_eq!(told(&world, "legacy")["state"], "Unsupported");
    assert!(told(&world, "legacy")["reason"].as_str().is_some_and(|why| why.contains("no launch template")));
}

#[test]
fn a_group_updated_by_somebody_else_is_waited_for() {
    let world = rolling("  nodeGroups:\n    include: [web]\n");
    let image = base(&world, "v20260801");
    world.account.post("node-group", json!({ "name": "web", "status": "UPDATING" }));
    let agent = world.agent();
    let message = world.wait("the refresher to wait for the group", || {
        let (reason, message) = rolls(&world);
        (reason == "WaitingForNodeGroup").then_some(message)
    });
    assert!(message.contains("web"), "{message}");
    assert_eq!(told(&world, "web")["state"], "Updating");
    assert_eq!(world.account.writes(), Vec::<String>::new());
    world.account.post("node-group", json!({ "name": "web", "status": "ACTIVE" }));
    world.wait("the group to be moved", || (on(&world, &image) == ["web"]).then_some(()));
    world.wait("the end of the rollout", || (rolls(&world).0 == "UpToDate").then_some(()));
    agent.stop();
    assert_eq!(world.account.count("eks:UpdateNodegroupVersion"), 1);
}

#[test]
fn a_degraded_group_is_named_and_delays_no_other() {
    let world = rolling("");
    let image = base(&world, "v20260801");
    let degraded = json!({ "name": "batch", "status": "DEGRADED", "message": "no room in the subnet" });
    world.account.post("node-group", degraded);
    assert_eq!(world.once().status.code(), Some(2));
    let (reason, message) = rolls(&world);
    assert_eq!(reason, "NodeGroupDegraded", "{message}");
    assert!(message.contains("batch") && message.contains("no room in the subnet"), "{message}");
    assert_eq!(on(&world, &image), ["system", "web"], "the others continue");
    world.account.post("node-group", json!({ "name": "batch", "status": "ACTIVE" }));
    let text = refresher(&image, "  refreshConfig:\n    force: true\n");
    world.push(&[("refreshers/demo.yaml", Some(text.as_str()))], "policy: go on at once");
    settles(&world);
    assert_eq!(on(&world, &image), ["batch", "system", "web"]);
}

#[test]
fn an_update_that_fails_is_named_and_not_repeated_and_the_next_image_is_tried() {
    let world = rolling("");
    let (failing, next) = (base(&world, "v20260801"), base(&world, "v20260702"));
    world.account.fault(json!({
        "kind": "nodegroup-update-fails", "operation": "UpdateNodegroupVersion",
        "params": { "nodegroupName": "^system$" },
        "errorCode": "NodeCreationFailure", "message": "Instances failed to join the kubernetes cluster",
    }));
    for _ in 0..3 {
        assert_eq!(world.once().status.code(), Some(2));
        let (reason, message) = rolls(&world);
        assert_eq!(reason, "UpdateFailed", "{message}");
        assert!(message.contains("system") && message.contains("NodeCreationFailure"), "{message}");
        assert!(message.contains("Instances failed to join"), "{message}");
        assert_eq!(told(&world, "system")["state"], "Failed");
        assert_eq!(calls_for(&world, "UpdateNodegroupVersion", "system"), 1, "not repeated");
        assert!(!on(&world, &failing).contains(&"system"));
    }
    let versions = versions_of_ours(&world);

    world.account.clear_faults();
    let text = refresher(&next, "");
    world.push(&[("refreshers/demo.yaml", Some(text.as_str()))], "policy: another image");
    settles(&world);
    assert_eq!(on(&world, &next), ["batch", "system", "web"]);
    assert_eq!(calls_for(&world, "UpdateNodegroupVersion", "system"), 2);
    let after = versions_of_ours(&world);
    // For each group: the version in force, the previous one if Opsy made it, and the one that was tried.
    assert!(versions <= 3 && after <= 6, "{versions} versions, then {after}");
}

#[test]
fn the_annotation_retry_in_the_manifest_tries_a_failed_image_again_once() {
    let world = rolling("");
    let image = base(&world, "v20260801");
    world.account.fault(json!({
        "kind": "nodegroup-update-fails", "operation": "UpdateNodegroupVersion",
        "params": { "nodegroupName": "^system$" },
        "errorCode": "NodeCreationFailure", "message": "Instances failed to join the kubernetes cluster",
    }));
    assert_eq!(world.once().status.code(), Some(2));
    let (reason, message) = rolls(&world);
    assert_eq!(reason, "UpdateFailed", "{message}");
    assert!(message.contains(&format!("the annotation ami.opsy.dev/retry: {image}")), "{message}");
    let tries = || calls_for(&world, "UpdateNodegroupVersion", "system");
    let annotated = |id: &str| {
        let annotations = format!("  name: demo\n  annotations: {{ami.opsy.dev/retry: {id}}}\n");
        let text = refresher(&image, "").replace("  name: demo\n", &annotations);
        world.push(&[("refreshers/demo.yaml", Some(text.as_str()))], "policy: try it again");
    };
    annotated(&base(&world, "v20260702"));
    assert_eq!(
        (world.once().status.code(), tries()),
        (Some(2), 1),
        "the annotation names another image than the one that failed"
    );
    annotated(&image);
    for _ in 0..2 {
        assert_eq!((world.once().status.code(), tries()), (Some(2), 2), "once per value");
    }
    world.account.clear_faults();
    assert_eq!((world.once().status.code(), tries()), (Some(2), 2), "not without a new value");
    world.push(&[("refreshers/demo.yaml", Some(refresher(&image, "").as_str()))], "policy: it was tried");
    assert_eq!((world.once().status.code(), tries()), (Some(2), 2));
    annotated(&image);
    settles(&world);
    assert_eq!((on(&world, &image), tries()), (vec!["batch", "system", "web"], 3));
}

#[test]
fn a_refresher_without_a_good_manifest_starts_nothing_while_it_is_not_pruned() {
    let broken = "apiVersion: ami.opsy.dev/v1alpha1\nkind: [AMIRefresher\n";
    let newest = "  amiFilters:\n    - {name: name, values: [\"amazon-eks-node-al2023-*\"]}\n    \
                  - {name: owner-id, values: [\"602401143452\"]}\n";
    let manifest = "refreshers/demo.yaml";
    for broken_file in [manifest, "refreshers/other.yaml"] {
        let world = rolling("");
        let image = base(&world, "v20260801");
        let text = refresher(&image, "").replace(&format!("  ami: {image}\n"), newest);
        world.push(&[(manifest, Some(text.as_str()))], "policy: the newest image");
        settles(&world);
        let before = world.account.writes();
        let newer = world.account.post("base-image", json!({ "version": "20260901" }));
        // The manifest itself is broken, or it is gone and another broken file prevents pruning.
        let own = (broken_file == manifest).then_some(broken);
        world.push(&[(broken_file, Some(broken)), (manifest, own)], "policy: break it");
        assert_eq!(world.once().status.code(), Some(2), "{broken_file}");
        let (reason, message) = rolls(&world);
        let expected = if own.is_some() { "ManifestBroken" } else { "NotInGit" };
        assert_eq!(reason, expected, "{broken_file}: {message}");
        assert_eq!(world.account.writes(), before, "{broken_file}: nothing is started");
        assert_eq!(on(&world, &image), ["batch", "system", "web"], "{broken_file}");

        let other = (broken_file != manifest).then_some((broken_file, None));
        let files: Vec<_> = [(manifest, Some(text.as_str()))].into_iter().chain(other).collect();
        world.push(&files, "policy: fix it");
        settles(&world);
        assert_eq!(on(&world, newer["id"].as_str().expect("an id")), ["batch", "system", "web"]);
    }
}

#[test]
fn disabled_or_suspended_reports_drift_and_changes_nothing() {
    let disabled = "  refreshConfig:\n    enable: false\n";
    let world = rolling(disabled);
    let image = base(&world, "v20260801");
    for (further, word) in [(disabled, "Disabled"), ("  suspend: true\n", "Suspended")] {
        let text = refresher(&image, further);
        if world.show("refreshers/demo.yaml").as_deref() != Some(&text) {
            world.push(&[("refreshers/demo.yaml", Some(text.as_str()))], "policy: suspend");
        }
        let outcome = world.once();
        assert_eq!(outcome.status.code(), Some(3), "it is waiting on purpose: {outcome:#?}");
        let status = world.status("AMIRefresher", "demo").expect("a status");
        assert_eq!((&status["drifted"], &status["targetAMI"]), (&json!(3), &json!(image)), "{status:#}");
        let suspended = world.condition("AMIRefresher", "demo", "Suspended").map(|[_, reason, _]| reason);
        assert_eq!(suspended.as_deref(), (word == "Suspended").then_some("Spec"));
        assert_eq!(rolls(&world).0, "Disabled", "the last outcome stays: {:?}", rolls(&world));
        assert_eq!(told(&world, "web")["state"], "Drifted");
        assert_eq!(world.account.writes(), Vec::<String>::new());
    }
    let text = refresher(&image, "");
    world.push(&[("refreshers/demo.yaml", Some(text.as_str()))], "policy: go on");
    settles(&world);
    assert_eq!(on(&world, &image), ["batch", "system", "web"]);
    assert_eq!(world.status("AMIRefresher", "demo").expect("a status")["drifted"], json!(0));
}

#[test]
fn files_do_not_name_an_image_whose_rollout_failed_until_it_is_released() {
    let world = World::new();
    let tfvars = "ami_id = \"ami-1\" # {\"$opsy\": \"node:us-east-1:x86_64\"}\n";
    let settings =
        format!("{}setters: {{paths: [\"infra/**\"]}}\n", world.show("opsy.yaml").expect("settings"));
    world.push(&[("opsy.yaml", Some(&settings)), ("infra/prod.tfvars", Some(tfvars))], "terraform: first");
    world.edit(
        "refreshers/demo.yaml",
        "spec:\n",
        "spec:\n  rollout: {onFailure: Rollback}\n",
        "policy: roll back",
    );
    settles(&world);
    let named = || {
        let named = world.amis()["default/node"]["us-east-1"]["x86_64"].clone();
        let set = tfvars.replace("ami-1", named.as_str().expect("an image"));
        assert_eq!(world.show("infra/prod.tfvars"), Some(set), "setters name the same image");
        named
    };
    let first = world.active_image().expect("an image");
    assert_eq!(named(), json!(first));
    world.account.fault(json!({
        "kind": "nodegroup-update-fails", "operation": "UpdateNodegroupVersion", "count": 1,
        "params": { "nodegroupName": "^system$" },
        "errorCode": "NodeCreationFailure", "message": "Instances failed to join the kubernetes cluster",
    }));
    world.edit("packer/node/node.pkr.hcl", "default = \"1\"", "default = \"2\"", "policy: second");
    assert_eq!(world.once().status.code(), Some(2));
    assert_eq!(rolls(&world).0, "ImageHeld");
    let second = world.active_image().expect("an image");
    assert_ne!(first, second);
    assert_eq!(on(&world, &first), ["batch", "system", "web"]);
    assert_eq!(named(), json!(first), "Terraform gets the image that the groups run");

    let annotated = format!("  name: demo\n  annotations: {{ami.opsy.dev/retry: {second}}}\n");
    world.edit("refreshers/demo.yaml", "  name: demo\n", &annotated, "policy: it was the network");
    settles(&world);
    assert_eq!((on(&world, &second), named()), (vec!["batch", "system", "web"], json!(second)));
}
