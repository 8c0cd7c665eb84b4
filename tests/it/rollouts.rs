//! Rollouts with the failures of the real AWS: groups that are refused or DEGRADED, updates that fail, launch templates
//! with their own disks, images that do not fit.

mod checks;
mod limits;
mod reads;
mod rollback;
mod self_managed;
mod waves;

use aws_sdk_ec2::types::{
    LaunchTemplateBlockDeviceMappingRequest as Mapping, LaunchTemplateEbsBlockDeviceRequest as Ebs,
    RequestLaunchTemplateData,
};
use opsy::api::{ClientToken, Region, TemplateId};
use opsy::aws::TemplateVersion;
use opsy::engine::ObjectHealth;
use serde_json::json;

use crate::aws::sdk;
use crate::refresher::{Rolling, names, reason};

fn region() -> Region {
    Region::parse("us-east-1").expect("a region")
}

#[tokio::test]
async fn a_degraded_group_is_moved_last_where_eks_accepts_it() {
    let mut rolling = Rolling::new(json!({})).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    rolling.account.post("settings", json!({ "degraded_accepts_updates": true }));
    rolling
        .account
        .post("node-group", json!({ "name": "batch", "status": "DEGRADED", "issue": "AmiIdNotFound" }));
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(rolling.on(&image), names(&["batch", "system", "web"]));
    let journal = rolling.account.journal();
    let started = journal.iter().filter(|entry| entry["operation"] == "UpdateNodegroupVersion");
    let order: Vec<_> = started.filter_map(|entry| entry["params"]["nodegroupName"].as_str()).collect();
    assert_eq!(order, ["system", "web", "batch"]);
}

#[tokio::test]
async fn a_group_that_may_not_be_launched_names_the_permissions_and_delays_no_other() {
    let mut rolling = Rolling::new(json!({})).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    rolling.account.fault(json!({
        "kind": "error", "operation": "UpdateNodegroupVersion", "params": { "nodegroupName": "^batch$" },
        "code": "InvalidRequestException", "status": 400,
        "message": "You are not authorized to launch instances with this launch template. Encoded authorization \
                    failure message: AAAA",
    }));
    let mut pass = rolling.pass().await;
    for _ in 0..200 {
        if pass.health != ObjectHealth::Busy {
            break;
        }
        rolling.step(pass.look.as_secs().max(1));
        pass = rolling.pass().await;
    }
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Failing, "AwsDenied"), "{message}");
    assert!(
        message.starts_with("batch: ") && message.contains("ec2:RunInstances, ec2:CreateTags"),
        "{message}"
    );
    assert!(!message.contains("AAAA"), "{message}");
    assert_eq!(rolling.on(&image), names(&["system", "web"]));
}

/// The new version of a launch template keeps the block device mappings and snapshots of the version in force.
#[tokio::test]
async fn disks_of_a_launch_template_are_kept() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    let ec2 = sdk(&rolling.account).await;
    let snapshots = rolling.account.state()["snapshots"].clone();
    let snapshot = snapshots[0]["id"].as_str().expect("a snapshot").to_owned();
    let source = rolling.seed["node_groups"]["web"]["launch_template"].clone();
    let template = source["id"].as_str().expect("a template").to_owned();
    let data = |device: &str, ebs| Mapping::builder().device_name(device).ebs(ebs).build();
    let cache = Ebs::builder().snapshot_id(&snapshot).volume_size(50).delete_on_termination(true).build();
    let root = Ebs::builder().volume_size(100).build();
    let made = ec2
        .create_launch_template_version()
        .launch_template_id(&template)
        .source_version(source["version"].as_str().expect("a version"))
        .launch_template_data(
            RequestLaunchTemplateData::builder()
                .block_device_mappings(data("/dev/xvda", root))
                .block_device_mappings(data("/dev/xvdb", cache))
                .build(),
        );
    let made = made.send().await.expect("a version");
    let number =
        made.launch_template_version().and_then(|version| version.version_number()).expect("a number");
    let to = TemplateVersion {
        template: TemplateId::parse(template.clone()).expect("an id"),
        version: number.to_string(),
    };
    let token = ClientToken::of(&["by hand"]);
    let update = rolling.context.aws.update_version(&region(), "demo", "web", &to, false, &token).await;
    update.expect("an update");
    rolling.step(3600);

    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(rolling.on(&image), names(&["web"]));
    let force = &rolling.account.state()["node_groups"];
    let group = force.as_array().expect("groups").iter().find(|group| group["name"] == "web").expect("web");
    let version = group["launch_template"]["version"].as_str().expect("a version").to_owned();
    let look = ec2.describe_launch_template_versions().launch_template_id(&template).versions(version);
    let answer = look.send().await.expect("versions");
    let data = answer.launch_template_versions()[0].launch_template_data().expect("data");
    let disks: Vec<_> = data
        .block_device_mappings()
        .iter()
        .map(|disk| {
            let ebs = disk.ebs().expect("a volume");
            (disk.device_name().unwrap_or_default(), ebs.snapshot_id(), ebs.volume_size())
        })
        .collect();
    let expected = [("/dev/xvda", None, Some(100)), ("/dev/xvdb", Some(snapshot.as_str()), Some(50))];
    assert_eq!(disks, expected);
}

#[tokio::test]
async fn a_root_volume_that_is_too_small_for_the_image_is_reported_and_nothing_starts() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    let large = rolling.account.post("base-image", json!({ "version": "20260901", "size": 200 }));
    let image = large["id"].as_str().expect("an id").to_owned();
    rolling.object.spec.ami = Some(image.clone());
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "UpdateFailed"), "{message}");
    let words = format!(
        "its launch template sets the root volume to 60 GiB, but {image} needs 200 GiB: increase VolumeSize of /dev/xvda"
    );
    assert!(message.contains(&words), "{message}");
    assert_eq!(rolling.writes(), Vec::<String>::new());
}

/// If the image of a group no longer exists, its instance types determine the architecture.
#[tokio::test]
async fn an_image_of_another_architecture_is_not_put_on_a_group_whose_image_is_gone() {
    let mut rolling = Rolling::new(json!({})).await;
    let arm = rolling.seed["base_images_arm64"].as_object().expect("images").values().next().cloned();
    rolling.object.spec.ami = arm.as_ref().and_then(|id| id.as_str()).map(str::to_owned);
    let initial = rolling.seed["initial_image"].clone();
    rolling.account.delete("image", json!({ "id": initial }));
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!(why, "NoNodeGroups", "{message}");
    assert!(message.contains("web runs x86_64, but the target has no image for it"), "{message}");
    assert_eq!(rolling.account.count("eks:UpdateNodegroupVersion"), 0);
}

#[tokio::test]
async fn an_image_for_a_newer_kubernetes_waits_for_the_control_plane() {
    let mut rolling = Rolling::new(json!({})).await;
    let newer = rolling.account.post("base-image", json!({ "version": "20260901", "kubernetes": "1.32" }));
    rolling.object.spec.ami = newer["id"].as_str().map(str::to_owned);
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "KubernetesTooNew"), "{message}");
    assert!(message.contains("is for Kubernetes 1.32, but cluster demo runs 1.31"), "{message}");
    assert_eq!(rolling.account.count("ec2:CreateLaunchTemplateVersion"), 0);

    rolling.account.post("cluster", json!({ "kubernetes": "1.32" }));
    rolling.step(3600);
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(rolling.on(newer["id"].as_str().expect("an id")), names(&["batch", "system", "web"]));
}

#[tokio::test]
async fn a_failed_update_is_named_and_not_repeated() {
    let mut rolling = Rolling::new(json!({})).await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling.account.fault(json!({
        "kind": "nodegroup-update-fails", "operation": "UpdateNodegroupVersion",
        "params": { "nodegroupName": "^system$" },
        "errorCode": "NodeCreationFailure", "message": "Instances failed to join the kubernetes cluster",
    }));
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "UpdateFailed"), "{message}");
    assert!(message.contains("system could not be moved"), "{message}");
    assert!(message.contains("NodeCreationFailure: Instances failed to join"), "{message}");
    assert_eq!(rolling.on(&rolling.image()), names(&["batch"]), "web comes after system");
    let writes = rolling.writes();
    for _ in 0..3 {
        rolling.account.post("clock", json!({ "advance": 3600 }));
        assert_eq!(rolling.rest().await.health, ObjectHealth::Stalled);
    }
    assert_eq!(rolling.writes(), writes);
}

#[tokio::test]
async fn a_conflict_of_the_last_moment_leaves_one_version() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling.account.fault(json!({
        "kind": "error", "operation": "UpdateNodegroupVersion", "count": 4, "status": 409,
        "code": "ResourceInUseException",
        "message": "Nodegroup cannot be updated as it is currently not in Active State",
    }));
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
    assert_eq!(rolling.account.count("ec2:CreateLaunchTemplateVersion"), 1);
    assert_eq!(rolling.versions_of_ours(), 1);
}

#[tokio::test]
async fn a_refused_update_leaves_no_version() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling.account.fault(json!({
        "kind": "error", "operation": "UpdateNodegroupVersion", "status": 400,
        "code": "InvalidParameterException", "message": "Remote access configuration cannot be specified",
    }));
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "UpdateFailed"), "{message}");
    assert!(message.contains("Remote access configuration"), "{message}");
    assert_eq!(rolling.versions_of_ours(), 0);
    assert_eq!(rolling.account.count("eks:UpdateNodegroupVersion"), 1);
}

/// AWS is eventually consistent: each write of a rollout fails once with NotFound.
#[tokio::test]
async fn what_aws_does_not_find_for_a_moment_is_tried_again_soon_and_not_told() {
    let mut rolling = Rolling::new(json!({ "refreshConfig": { "maxUnavailable": 2 } })).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    for (operation, code) in [
        ("CreateLaunchTemplateVersion", "InvalidLaunchTemplateId.NotFound"),
        ("UpdateNodegroupVersion", "ResourceNotFoundException"),
        ("UpdateNodegroupConfig", "ResourceNotFoundException"),
    ] {
        rolling.account.fault(json!({
            "kind": "error", "operation": operation, "code": code, "status": 404, "count": 1,
            "message": "it does not exist",
        }));
    }
    let (mut warnings, mut looks) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let pass = rolling.pass().await;
        let missed = |message: &str| message.contains("it does not exist");
        let told = pass.notes.iter().filter(|note| note.warning && missed(&note.message));
        warnings.extend(told.map(|note| note.message.clone()));
        assert_eq!(pass.failed, None, "other groups continue");
        if pass.health == ObjectHealth::Settled {
            break;
        }
        looks.push(pass.look.as_secs());
        rolling.step(pass.look.as_secs().max(1));
    }
    assert_eq!(rolling.on(&image), names(&["batch", "system", "web"]));
    assert_eq!(
        (warnings, looks.iter().max().is_some_and(|look| *look <= 60)),
        (Vec::new(), true),
        "{looks:?}"
    );
}

/// A NotFound that lasts is a refusal like any other.
#[tokio::test]
async fn what_aws_never_finds_is_final_after_a_while() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    rolling.object.spec.ami = Some(rolling.image());
    rolling.account.fault(json!({
        "kind": "error", "operation": "UpdateNodegroupVersion", "status": 404,
        "code": "ResourceNotFoundException", "message": "The subnet ID 'subnet-1' does not exist",
    }));
    let mut told = Vec::new();
    for _ in 0..200 {
        let pass = rolling.pass().await;
        told.extend(pass.notes.iter().filter(|note| note.warning).map(|note| note.reason.to_string()));
        if pass.health == ObjectHealth::Stalled {
            let (why, message) = reason(&pass);
            assert!(why == "UpdateFailed" && message.contains("subnet-1"), "{why}: {message}");
            assert_eq!(told.first().map(String::as_str), Some("UpdateRefused"));
            return;
        }
        rolling.step(pass.look.as_secs().max(1));
    }
    panic!("the rollout never ends: {:#?}", rolling.object.status);
}

#[tokio::test]
async fn a_launch_template_without_room_is_named_with_what_to_delete() {
    let mut rolling = Rolling::new(json!({ "nodeGroups": { "include": ["web"] } })).await;
    let image = rolling.image();
    rolling.object.spec.ami = Some(image.clone());
    rolling.account.post("settings", json!({ "template_versions_limit": 1 }));
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "UpdateFailed"), "{message}");
    let template = rolling.seed["node_groups"]["web"]["launch_template"]["id"].as_str().expect("an id");
    let advice = format!("delete versions of launch template {template} that no node group uses");
    assert!(message.contains("VersionLimitExceeded") && message.contains(&advice), "{message}");
    assert_eq!(rolling.account.count("eks:UpdateNodegroupVersion"), 0);

    rolling.account.post("settings", json!({ "template_versions_limit": 2 }));
    let asked = [("ami.opsy.dev/retry".to_owned(), image.clone())];
    rolling.object.metadata.annotations = Some(asked.into());
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(rolling.on(&image), names(&["web"]));
}
