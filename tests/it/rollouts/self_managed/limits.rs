//! Auto Scaling groups that are refused or never touched, and the permissions of the shipped policy.

use std::collections::BTreeSet;

use aws_sdk_autoscaling::types;
use opsy::api::{Class, TemplateId};
use opsy::aws::TemplateVersion;
use opsy::aws::autoscaling::{LaunchSource, RefreshPreferences};
use opsy::engine::ObjectHealth;
use serde_json::json;

use super::{add, autoscaling, group, images, only, own, retry, row, writes};
use crate::refresher::{Rolling, names, reason};
use crate::rollouts::region;

#[tokio::test]
async fn a_group_without_a_hook_that_holds_terminating_nodes_is_refused() {
    let mut rolling = own("workers", json!({})).await;
    rolling.account.post("new-auto-scaling-group", json!({ "name": "workers", "count": 2 }));
    let pass = rolling.rest().await;
    let (state, why) = row(&pass, "workers");
    assert_eq!(state, "Unsupported", "{why}");
    assert!(why.contains("aws-node-termination-handler") && why.contains("allowWithoutDrain"), "{why}");
    assert_eq!(rolling.writes(), Vec::<String>::new());

    let groups = rolling.object.spec.node_groups.as_mut().expect("set");
    groups.allow_without_drain = Some(true);
    assert_eq!(rolling.rest().await.health, ObjectHealth::Settled);
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()));
}

/// The Auto Scaling groups of managed node groups have the tag of the cluster, too.
#[tokio::test]
async fn a_group_that_eks_owns_is_neither_listed_nor_touched() {
    let mut rolling = own("*", json!({ "nodeGroups": { "managed": true, "allowWithoutDrain": true } })).await;
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    let state = rolling.account.state();
    let groups = state["auto_scaling_groups"].as_array().expect("groups");
    let of_eks = groups.iter().filter(|group| group["tags"]["eks:nodegroup-name"].is_string());
    let of_eks: BTreeSet<&str> = of_eks.map(|group| group["name"].as_str().expect("a name")).collect();
    assert!(of_eks.len() >= 3, "{of_eks:?}");
    let rows = pass.status.node_groups.clone().expect("rows");
    let listed: Vec<_> =
        rows.iter().map(|row| (row.name.as_str(), row.kind.as_deref().unwrap_or_default())).collect();
    assert!(listed.iter().all(|(name, _)| !of_eks.contains(name)), "{listed:?}");
    assert!(listed.contains(&("web", "Managed")) && listed.contains(&("self-managed", "SelfManaged")));
    let touched: BTreeSet<String> = writes(&rolling)
        .into_iter()
        .map(|(_, params)| params["AutoScalingGroupName"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(touched, BTreeSet::from(["self-managed".to_owned()]));
    assert_eq!(rolling.on(&rolling.image()).len(), 3, "managed groups are moved by EKS");
}

/// Creates a group on a launch template that exists, with something that drains its nodes.
async fn create(rolling: &Rolling, name: &str, template: &str) {
    let launch =
        types::LaunchTemplateSpecification::builder().launch_template_id(template).version("1").build();
    let tag = types::Tag::builder().key("kubernetes.io/cluster/demo").value("owned").build();
    let sdk = autoscaling(rolling).await;
    let call =
        sdk.create_auto_scaling_group().auto_scaling_group_name(name).launch_template(launch).tags(tag);
    let call = call.min_size(2).max_size(4).availability_zones("us-east-1a");
    call.send().await.expect("a group");
    rolling.account.post("auto-scaling-group", json!({ "name": name, "drain_seconds": 5 }));
}

#[tokio::test]
async fn a_self_managed_group_with_the_name_of_a_managed_one_is_another_group() {
    let mut rolling = own("web", json!({ "nodeGroups": { "managed": true } })).await;
    let twin = add(&rolling, json!({ "name": "twin", "count": 0 }));
    create(&rolling, "web", twin["launch_template"]["id"].as_str().expect("an id")).await;
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    let image = rolling.image();
    assert_eq!(images(&rolling, "web"), only(&image));
    assert_eq!(rolling.on(&image), names(&["web"]));
    assert_eq!(row(&pass, "web").0, "Current");
    assert_eq!(row(&pass, "web (self-managed)").0, "Current");
    assert_eq!(rolling.account.count("eks:UpdateNodegroupVersion"), 1);
    assert_eq!(rolling.account.count("autoscaling:StartInstanceRefresh"), 1);
}

/// Two groups share a launch template, and one of them follows `$Latest`, which the new version would change.
#[tokio::test]
async fn a_version_that_would_change_another_group_is_not_created() {
    let mut rolling = own("workers", json!({})).await;
    let made = add(&rolling, json!({}));
    let template = made["launch_template"]["id"].as_str().expect("an id");
    let sdk = autoscaling(&rolling).await;
    add(&rolling, json!({ "name": "other", "version": "$Latest", "count": 0, "max": 2 }));
    let latest =
        types::LaunchTemplateSpecification::builder().launch_template_id(template).version("$Latest").build();
    let call = sdk.update_auto_scaling_group().auto_scaling_group_name("other").launch_template(latest);
    call.send().await.expect("another template");
    let pass = rolling.rest().await;
    let (why, message) = reason(&pass);
    assert_eq!((pass.health, why.as_str()), (ObjectHealth::Stalled, "UpdateFailed"), "{message}");
    assert!(message.contains("is shared with other, which follows $Latest"), "{message}");
    assert_eq!(rolling.account.count("ec2:CreateLaunchTemplateVersion"), 0);

    // In scope, it is pinned as well.
    rolling.object.spec.node_groups.as_mut().expect("set").include = None;
    rolling.object.spec.exclude = Some(vec!["self-managed".to_owned()]);
    retry(&mut rolling);
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()));
    assert_ne!(group(&rolling, "other")["LaunchTemplate"]["Version"], "$Latest");
}

#[tokio::test]
async fn groups_that_cannot_be_moved_safely_are_named_with_the_remedy() {
    let mut rolling = own("workers", json!({})).await;
    let ssm = json!({ "ImageId": "resolve:ssm:/aws/service/eks/optimized-ami/1.31/amazon-linux-2023/x86_64/standard/recommended/image_id" });
    add(&rolling, json!({ "template": ssm, "count": 0 }));
    let pass = rolling.rest().await;
    let (state, why) = row(&pass, "workers");
    assert_eq!(state, "Unsupported", "{why}");
    assert!(why.contains("takes the image from resolve:ssm:"), "{why}");
    assert_eq!(rolling.writes(), Vec::<String>::new());
}

/// The shipped policy suffices, also for a pin, and it denies what must never happen.
#[tokio::test]
async fn the_shipped_policy_allows_a_rollout_and_no_other_group() {
    let mut rolling = own("workers", json!({})).await;
    let made = add(&rolling, json!({ "version": "$Latest" }));
    add(&rolling, json!({ "name": "other", "owned": false }));
    rolling.account.restrict(&rolling.seed, &[], &[]);
    let pass = rolling.rest().await;
    assert_eq!(pass.health, ObjectHealth::Settled, "{:?}", reason(&pass));
    assert_eq!(images(&rolling, "workers"), only(&rolling.image()));

    let state = rolling.account.state();
    let groups = state["auto_scaling_groups"].as_array().expect("groups").iter();
    let of_eks = groups.filter(|group| group["tags"]["eks:nodegroup-name"] == "web");
    let of_eks = of_eks.map(|group| group["name"].as_str().expect("a name")).next().expect("a group of web");
    let template = TemplateId::parse(made["launch_template"]["id"].as_str().expect("an id"));
    let version = TemplateVersion { template: template.expect("an id"), version: "2".to_owned() };
    let (source, preferences) = (LaunchSource::Unknown, RefreshPreferences::default());
    for name in [of_eks, "other"] {
        let aws = &rolling.context.aws;
        let started = aws.start_refresh(&region(), "demo", name, &source, &version, &preferences).await;
        assert_eq!(started.expect_err("denied").class(), Class::Denied, "{name}");
        let pinned = aws.pin_group(&region(), "demo", name, &source, &version).await;
        assert_eq!(pinned.expect_err("denied").class(), Class::Denied, "{name}");
        let canceled = aws.cancel_refresh(&region(), "demo", name).await;
        assert_eq!(canceled.expect_err("denied").class(), Class::Denied, "{name}");
    }
}
