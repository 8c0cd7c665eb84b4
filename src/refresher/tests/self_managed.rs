//! Tables of self-managed groups: which Auto Scaling groups are one, what is in force, which nodes are behind, what an
//! instance refresh in words is, and what the settings must be.

use std::sync::Arc;

use serde_json::{Value, json};

use super::tables::{id, object, parsed};
use crate::api::{Class, TemplateId};
use crate::aws::autoscaling::{
    AutoScalingGroup, InstanceRefresh, LaunchSource, Member, RefreshStatus, TemplateRef, VersionRef,
};
use crate::aws::{AwsError, LaunchTemplateVersion, TemplateVersion};
use crate::refresher::node_group::{Lifecycle, NodeGroup, ReadGroup, is_owned_by_aws, unique_name};
use crate::refresher::progress::{failure, progress};
use crate::refresher::spec;
use crate::refresher::support::{nodes_behind, unsupported};

fn template() -> TemplateId {
    TemplateId::parse("lt-0123456789abcdef0").expect("an id")
}

fn version(number: i64) -> TemplateVersion {
    TemplateVersion { template: template(), version: number.to_string() }
}

/// Versions 1 to 3 with images of the same number; 2 is the default.
fn versions() -> Vec<LaunchTemplateVersion> {
    let version = |number: i64| LaunchTemplateVersion {
        number,
        image: Some(id(u32::try_from(number).expect("small")).to_string()),
        is_default: number == 2,
        ..LaunchTemplateVersion::default()
    };
    (1..=3).map(version).collect()
}

fn on(reference: VersionRef) -> AutoScalingGroup {
    AutoScalingGroup {
        name: "workers".to_owned(),
        source: LaunchSource::Template(TemplateRef { template: template(), version: reference }),
        ..AutoScalingGroup::default()
    }
}

fn node(number: Option<i64>, state: &str) -> Member {
    Member {
        id: "i-1".to_owned(),
        version: number.map(version),
        state: state.to_owned(),
        ..Member::default()
    }
}

fn read(group: &AutoScalingGroup, refreshes: Option<Result<Vec<InstanceRefresh>, AwsError>>) -> NodeGroup {
    let refreshes = refreshes.map(|refreshes| refreshes.map(Arc::new));
    let versions = versions();
    NodeGroup::self_managed(
        group.name.clone(),
        ReadGroup { group, versions: Some(&versions), refreshes, is_fresh: true },
    )
}

fn refresh(status: RefreshStatus) -> InstanceRefresh {
    InstanceRefresh {
        id: "r-1".to_owned(),
        status,
        reason: None,
        started: None,
        ended: None,
        percentage: None,
        to: None,
    }
}

#[test]
fn groups_of_aws_are_recognized_by_tag_name_and_operator() {
    let named = |name: &str| AutoScalingGroup { name: name.to_owned(), ..AutoScalingGroup::default() };
    let tagged = |tag: &str| AutoScalingGroup {
        tags: [(tag.to_owned(), "x".to_owned())].into(),
        ..AutoScalingGroup::default()
    };
    for group in [
        tagged("eks:nodegroup-name"),
        tagged("eks:cluster-name"),
        named("eks-web-0ac1b2c3-1234-5678-9abc-0123456789ab"),
        named("eks-web-blue-0ac1b2c3-1234-5678-9abc-0123456789ab"),
        AutoScalingGroup { has_operator: true, ..AutoScalingGroup::default() },
    ] {
        assert!(is_owned_by_aws(&group), "{group:?}");
    }
    for group in [
        named("workers"),
        named("eks-workers"),
        named("eks-0ac1b2c3-1234-5678-9abc-0123456789ab"),
        named("eks-web-0ac1b2c3-1234-5678-9abc-0123456789xx"),
        named("my-eks-web-0ac1b2c3-1234-5678-9abc-0123456789ab"),
        tagged("kubernetes.io/cluster/demo"),
    ] {
        assert!(!is_owned_by_aws(&group), "{group:?}");
    }
}

#[test]
fn the_version_in_force_is_a_number_whatever_the_group_follows() {
    for (reference, number) in [(VersionRef::Number(1), 1), (VersionRef::Latest, 3), (VersionRef::Default, 2)]
    {
        let group = read(&on(reference), None);
        assert_eq!(group.launch_template, Some(version(number)));
        assert_eq!(group.image, Some(id(u32::try_from(number).expect("small"))));
    }
    let gone = on(VersionRef::Latest);
    let gone = ReadGroup { group: &gone, versions: None, refreshes: None, is_fresh: true };
    let gone = NodeGroup::self_managed("workers".to_owned(), gone);
    assert_eq!(gone.launch_template.map(|in_force| in_force.version).as_deref(), Some("$Latest"));
    assert_eq!(gone.image, None);
}

#[test]
fn waves_select_by_tags_and_by_the_labels_that_the_cluster_autoscaler_knows() {
    let tags = [("team", "web"), ("k8s.io/cluster-autoscaler/node-template/label/tier", "front")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let group = read(&AutoScalingGroup { tags, ..on(VersionRef::Number(1)) }, None);
    let wave_of = |selector: Value| {
        let mut wave = json!({ "name": "canary" });
        wave.as_object_mut().expect("fields").extend(selector.as_object().expect("fields").clone());
        parsed(json!({ "rollout": { "waves": [wave] } })).policy.wave_of(&group).name.clone()
    };
    assert_eq!(wave_of(json!({ "tags": { "team": "web" } })), "canary");
    assert_eq!(wave_of(json!({ "labels": { "tier": "front" } })), "canary");
    assert_eq!(wave_of(json!({ "nodeGroups": ["work*"] })), "canary");
    assert_eq!(wave_of(json!({ "labels": { "tier": "back" } })), "remaining");
    // Its name is unique, and selected by the name that it has in AWS.
    let twin = unique_name("workers", true).into_owned();
    assert_eq!(twin, "workers (self-managed)");
    assert!(parsed(json!({ "exclude": ["workers"] })).scope.excludes(&twin));
    assert!(!parsed(json!({ "nodeGroups": { "include": ["workers"] } })).scope.excludes(&twin));
}

#[test]
fn only_a_fresh_read_without_a_refresh_in_progress_is_ready() {
    use RefreshStatus::{
        Baking, Cancelled, Cancelling, Failed, InProgress, Other, Pending, RollbackFailed,
        RollbackInProgress, RollbackSuccessful, Successful,
    };
    let group = on(VersionRef::Number(1));
    let lifecycle = |status: RefreshStatus| read(&group, Some(Ok(vec![refresh(status)]))).lifecycle;
    for active in [Pending, InProgress, Baking, Cancelling, RollbackInProgress, Other("New".to_owned())] {
        assert_eq!(lifecycle(active.clone()), Lifecycle::Updating, "{active:?}");
    }
    for ended in [Successful, Failed, Cancelled, RollbackSuccessful, RollbackFailed] {
        assert!(matches!(lifecycle(ended.clone()), Lifecycle::Active(Some(_))), "{ended:?}");
    }
    assert_eq!(read(&group, None).lifecycle, Lifecycle::Active(None), "refreshes were not read");
    let denied = AwsError::new(Class::Denied, "autoscaling:DescribeInstanceRefreshes", "no");
    assert!(matches!(read(&group, Some(Err(denied))).lifecycle, Lifecycle::Unreadable(Class::Denied, _)));
    let deleted = AutoScalingGroup { is_deleting: true, ..on(VersionRef::Number(1)) };
    assert_eq!(read(&deleted, None).lifecycle, Lifecycle::Deleting);
}

#[test]
fn nodes_behind_are_those_on_another_image_that_the_settings_do_not_leave_alone() {
    let settings = |fields: Value| parsed(json!({ "refreshConfig": { "instanceRefresh": fields } }));
    let behind = |members: Vec<Member>, fields: Value| {
        let group = AutoScalingGroup { instances: members, ..on(VersionRef::Number(2)) };
        nodes_behind(&settings(fields), &read(&group, None))
    };
    assert_eq!(behind(vec![node(Some(2), "InService"), node(Some(2), "Pending")], json!({})), 0);
    assert_eq!(behind(vec![node(Some(1), "InService"), node(Some(2), "InService")], json!({})), 1);
    assert_eq!(behind(vec![node(None, "InService")], json!({})), 1, "from a launch configuration");
    assert_eq!(behind(vec![node(Some(9), "InService")], json!({})), 1, "its version is deleted");
    for state in ["Terminating", "Terminating:Wait", "Terminated", "Detaching", "Warmed:Stopped"] {
        assert_eq!(behind(vec![node(Some(1), state)], json!({})), 0, "{state}");
    }
    let protected = Member { is_protected: true, ..node(Some(1), "InService") };
    assert_eq!(behind(vec![protected.clone()], json!({ "scaleInProtectedInstances": "Ignore" })), 0);
    assert_eq!(behind(vec![protected], json!({ "scaleInProtectedInstances": "Wait" })), 1);
    let standby = node(Some(1), "Standby");
    assert_eq!(behind(vec![standby.clone()], json!({ "standbyInstances": "Ignore" })), 0);
    assert_eq!(behind(vec![standby], json!({})), 1);
    let same = Member { image: Some(id(2)), ..node(Some(1), "InService") };
    assert_eq!(behind(vec![same], json!({})), 0, "an older version with the same image");
}

#[test]
fn what_cannot_be_moved_names_the_remedy() {
    let of = |source: LaunchSource| {
        let group = AutoScalingGroup { source, ..AutoScalingGroup::default() };
        unsupported(&read(&group, None)).unwrap_or_default()
    };
    let text = of(LaunchSource::Configuration("old".to_owned()));
    assert!(text.contains("launch configuration old") && text.contains("set a launch template"), "{text}");
    assert!(of(LaunchSource::Unknown).contains("set one on the group"));
    assert_eq!(unsupported(&read(&on(VersionRef::Latest), None)), None);
}

#[test]
fn progress_is_told_in_coarse_steps_and_without_instances() {
    let at = |percentage: i32, reason: &str| {
        let reason = Some(reason.to_owned());
        let percentage = Some(percentage);
        progress(&InstanceRefresh { percentage, reason, ..refresh(RefreshStatus::InProgress) })
    };
    let warming =
        |instance: &str| format!("Waiting for instances to warm up. For example: {instance} is warming up.");
    assert_eq!(at(26, &warming("i-0123456789abcdef0")), at(49, &warming("i-0fedcba9876543210")));
    assert_eq!(at(26, ""), "instance refresh r-1 is 25% complete or more");
    let protected = |instance: &str| {
        format!("For example: {instance} is protected. Remove instance scale-in protection.")
    };
    assert_eq!(at(0, &protected("i-0123456789abcdef0")), at(3, &protected("i-0fedcba9876543210")));
    assert!(at(0, &protected("i-0123456789abcdef0")).contains("is protected"));
}

#[test]
fn every_end_of_a_refresh_but_success_is_a_failure_in_the_words_of_aws() {
    let ended = |status: RefreshStatus| {
        failure(&InstanceRefresh { reason: Some("It said so.".to_owned()), ..refresh(status) })
    };
    assert_eq!(ended(RefreshStatus::Successful), None);
    for (status, words) in [
        (RefreshStatus::Failed, "instance refresh r-1 failed: It said so"),
        (RefreshStatus::Cancelled, "instance refresh r-1 was canceled: It said so"),
        (RefreshStatus::RollbackSuccessful, "instance refresh r-1 was rolled back: It said so"),
        (RefreshStatus::RollbackFailed, "instance refresh r-1 failed, and so did its rollback: It said so"),
        (RefreshStatus::Other("New".to_owned()), "instance refresh r-1 ended with status New: It said so"),
    ] {
        assert_eq!(ended(status).as_deref(), Some(words));
    }
}

#[test]
fn wrong_settings_are_named_with_the_field_and_the_remedy() {
    let problems = |fields: Value| spec::parse(&object(fields)).expect_err("invalid");
    let one = |fields: Value| {
        let found = problems(json!({ "refreshConfig": { "instanceRefresh": fields } }));
        assert_eq!(found.len(), 1, "{found:?}");
        let (path, what) = found[0].clone();
        (path.replace("spec.refreshConfig.instanceRefresh.", ""), what)
    };
    for (fields, path, what) in [
        (json!({ "minHealthyPercentage": 101 }), "minHealthyPercentage", "between 0 and 100"),
        (json!({ "maxHealthyPercentage": 110 }), "maxHealthyPercentage", "needs minHealthyPercentage"),
        (
            json!({ "minHealthyPercentage": 10, "maxHealthyPercentage": 120 }),
            "maxHealthyPercentage",
            "at most 100 more",
        ),
        (json!({ "instanceWarmup": "soon" }), "instanceWarmup", "is not a duration"),
        (json!({ "checkpointPercentages": [50, 20, 100] }), "checkpointPercentages", "ascending order"),
        (json!({ "checkpointPercentages": [20, 50] }), "checkpointPercentages", "must end with 100"),
        (json!({ "checkpointPercentages": [0, 100] }), "checkpointPercentages[0]", "between 1 and 100"),
        (json!({ "checkpointDelay": "1h" }), "checkpointDelay", "needs checkpointPercentages"),
        (
            json!({ "checkpointPercentages": [100], "checkpointDelay": "3d" }),
            "checkpointDelay",
            "at most 48h",
        ),
        (
            json!({ "scaleInProtectedInstances": "refresh" }),
            "scaleInProtectedInstances",
            "did you mean Refresh?",
        ),
        (json!({ "standbyInstances": "Refresh" }), "standbyInstances", "Terminate, Ignore, Wait"),
    ] {
        let (found, why) = one(fields);
        assert_eq!(found, path, "{why}");
        assert!(why.contains(what), "{path}: {why}");
    }
    let none = problems(json!({ "nodeGroups": { "managed": false } }));
    assert_eq!(none[0].0, "spec.nodeGroups.managed");
}
