//! Launch template versions and node groups: reads and changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use opsy::api::{Class, ClientToken, TemplateId};
use opsy::aws::eks::MaxUnavailable;
use opsy::aws::{Aws, Fresh, ManagedNodegroup, TemplateVersion, UpdateStatus};
use serde_json::json;

use super::{CLUSTER, edge, image, region, sdk, template};
use crate::bed::Account;

/// All groups, described.
async fn described(aws: &Aws, fresh: Fresh) -> Vec<Arc<ManagedNodegroup>> {
    let read = aws.nodegroups(region(), CLUSTER, fresh, |_| Some(fresh)).await.expect("groups");
    read.into_iter().map(|(_, read)| read.expect("wanted").group.expect("a group")).collect()
}

#[tokio::test]
async fn a_template_version_keeps_all_but_the_image_and_is_made_once() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let source = template(&seed, "web");
    let base = image(&seed["base_images"]["v20260801"]);
    let token = ClientToken::of(&["rollout", "web"]);
    account.fault(json!({ "kind": "lost", "operation": "CreateLaunchTemplateVersion", "count": 1 }));
    let make = || aws.create_template_version(region(), &source, &base, &[], "opsy test", &token);
    assert_eq!(make().await.expect("a version"), 2);
    assert_eq!(make().await.expect("the same"), 2);
    let (versions, _) =
        aws.template_versions(region(), &source.template, Fresh::Now).await.expect("versions");
    let made = versions.iter().find(|version| version.number == 2).expect("the new one");
    assert_eq!((versions.len(), made.is_default), (2, false));
    assert_eq!(made.image.as_deref(), Some(base.as_str()));
    assert_eq!(made.description.as_deref(), Some("opsy test"));
    let sdk = sdk(&account).await;
    let look = sdk.describe_launch_template_versions().launch_template_id(source.template.as_str());
    let answer = look.send().await.expect("versions");
    let data: Vec<_> = answer
        .launch_template_versions()
        .iter()
        .filter_map(|version| version.launch_template_data())
        .collect();
    assert!(data[0].user_data().is_some_and(|text| !text.is_empty()), "the seed has user data");
    assert_eq!(data[0].user_data(), data[1].user_data());
    assert_eq!(data[0].security_group_ids(), data[1].security_group_ids());
}

#[tokio::test]
async fn versions_are_read_and_deleted_in_as_many_calls_as_it_takes() {
    const MADE: i64 = 204;
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let source = template(&seed, "web");
    let base = image(&seed["base_images"]["v20260801"]);
    for number in 0..MADE {
        let token = ClientToken::of(&[&number.to_string()]);
        let made = aws.create_template_version(region(), &source, &base, &[], "many", &token).await;
        made.expect("a version");
    }
    account.clear_journal();
    let (versions, _) =
        aws.template_versions(region(), &source.template, Fresh::Now).await.expect("versions");
    let numbers: BTreeSet<i64> = versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, (1..=MADE + 1).collect());
    assert_eq!(account.count("ec2:DescribeLaunchTemplateVersions"), 2);
    let all: Vec<i64> = numbers.into_iter().collect();
    let refused = aws.delete_template_versions(region(), &source.template, &all).await.expect("a response");
    assert_eq!(
        refused.iter().map(|(number, _)| *number).collect::<Vec<_>>(),
        [1],
        "the default: {refused:?}"
    );
    assert_eq!(account.count("ec2:DeleteLaunchTemplateVersions"), 2);
    let again = aws.delete_template_versions(region(), &source.template, &[5, 6]).await;
    assert!(again.expect("a response").is_empty(), "deleted versions are not an error");
}

#[tokio::test]
async fn a_template_that_is_gone_is_not_found() {
    let (account, _) = Account::seeded();
    let gone = TemplateId::parse("lt-00000000000000bad").expect("an id");
    let error = edge(&account).await.template_versions(region(), &gone, Fresh::Now).await.expect_err("gone");
    assert_eq!(error.class(), Class::NotFound, "{error}");
}

#[tokio::test]
async fn node_groups_are_described_once_for_all() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let reads = join_all((0..6).map(|_| described(&aws, Fresh::Cached))).await;
    let groups = reads.into_iter().next_back().expect("six reads");
    assert_eq!(
        groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(),
        ["batch", "legacy", "system", "web"]
    );
    let web = &groups[3];
    assert_eq!((web.status.as_str(), web.ami_type.as_str()), ("ACTIVE", "CUSTOM"));
    assert_eq!(web.release_version, seed["initial_image"].as_str().map(str::to_owned));
    assert_eq!(web.launch_template, Some(template(&seed, "web")));
    assert_eq!(groups[1].launch_template, None);
    assert_eq!((account.count("eks:ListNodegroups"), account.count("eks:DescribeNodegroup")), (1, 4));
    account.post("node-group", json!({ "name": "web", "status": "DEGRADED", "message": "no room" }));
    let groups = described(&aws, Fresh::Now).await;
    assert_eq!(groups[3].health, ["AsgInstanceLaunchFailures: no room"]);
}

#[tokio::test]
async fn a_group_deleted_while_we_look_is_left_out_but_a_missing_cluster_is_an_error() {
    let (account, _) = Account::seeded();
    let aws = edge(&account).await;
    account.fault(json!({
        "kind": "error", "operation": "DescribeNodegroup", "params": { "nodegroupName": "^web$" },
        "code": "ResourceNotFoundException", "message": "No node group found for name: web.", "status": 404,
    }));
    let groups = described(&aws, Fresh::Now).await;
    assert_eq!(groups.iter().map(|g| g.name.as_str()).collect::<Vec<_>>(), ["batch", "legacy", "system"]);
    let error = aws.nodegroup_names(region(), "nowhere", Fresh::Now).await.expect_err("no cluster");
    assert_eq!(error.class(), Class::NotFound, "{error}");
}

#[tokio::test]
async fn an_update_runs_to_its_end_and_a_busy_group_is_a_conflict() {
    let (account, seed) = Account::seeded();
    let aws = edge(&account).await;
    let (source, base) = (template(&seed, "web"), image(&seed["base_images"]["v20260801"]));
    let token = ClientToken::of(&["rollout"]);
    let made =
        aws.create_template_version(region(), &source, &base, &[], "opsy", &token).await.expect("a version");
    let target = TemplateVersion { version: made.to_string(), ..source };
    account.fault(json!({ "kind": "lost", "operation": "UpdateNodegroupVersion", "count": 1 }));
    let update = aws.update_version(region(), CLUSTER, "web", &target, false, &token).await.expect("started");
    assert_eq!((update.kind.as_str(), &update.status), ("VersionUpdate", &UpdateStatus::InProgress));
    assert_eq!(update.params["LaunchTemplateVersion"], "2");
    let other = ClientToken::of(&["another"]);
    let busy = aws.update_version(region(), CLUSTER, "web", &target, false, &other).await.expect_err("busy");
    assert_eq!(busy.class(), Class::Conflict, "{busy}");
    account.post("clock", json!({ "advance": 3600 }));
    let seen = aws.update(region(), CLUSTER, "web", &update.id).await.expect("an update");
    assert_eq!(seen.status, UpdateStatus::Successful);
    let ids = aws.update_ids(region(), CLUSTER, "web").await.expect("ids");
    assert_eq!(ids, [update.id], "the call whose response was lost was carried out once");
    let groups = described(&aws, Fresh::Cached).await;
    assert_eq!(groups[3].release_version.as_deref(), Some(base.as_str()));
}

/// EKS may reset fields that are not sent.
#[tokio::test]
async fn a_config_update_shows_in_the_group_and_keeps_its_strategy() {
    let (account, _) = Account::seeded();
    account.post("settings", json!({ "config_update_resets": true }));
    let aws = edge(&account).await;
    let max = MaxUnavailable { count: None, percentage: Some(40) };
    let token = ClientToken::of(&["config"]);
    let minimal = Some("MINIMAL");
    aws.update_config(region(), CLUSTER, "web", max, minimal, &token).await.expect("started");
    account.post("clock", json!({ "advance": 3600 }));
    let groups = described(&aws, Fresh::Cached).await;
    assert_eq!((groups[3].max_unavailable, groups[3].max_unavailable_percentage), (None, Some(40)));
    assert_eq!(groups[3].update_strategy.as_deref(), Some("MINIMAL"));
}
