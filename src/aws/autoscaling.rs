//! EC2 Auto Scaling: the self-managed groups of a cluster, their lifecycle hooks, and the pin of a group to a launch
//! template version. Instance refreshes are in `refreshes`, and what a group launches in `source`.

mod refreshes;
mod source;

use std::sync::Arc;

use aws_sdk_autoscaling::types;

use super::shared::{Aging, Shared};
use super::{Aws, AwsError, Fresh, HOLD_GROUPS, KEEP, Tags, TemplateVersion};
use crate::api::{ImageId, Region, TemplateId};
use refreshes::Refreshes;
pub use refreshes::{InstanceRefresh, RefreshPreferences, RefreshStatus};
pub use source::{LaunchSource, Policy, TemplateRef, VersionRef};

/// Groups per page, the maximum of EC2 Auto Scaling. A page may be shorter although others follow.
const PAGE: i32 = 100;
/// The transition of hooks that run before an instance is terminated.
const TERMINATING: &str = "autoscaling:EC2_INSTANCE_TERMINATING";

/// An Auto Scaling group with the tag of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoScalingGroup {
    pub name: String,
    pub source: LaunchSource,
    pub instances: Vec<Member>,
    /// Number of instances that the group should have.
    pub desired: Option<i32>,
    pub tags: Tags,
    /// New instances are protected from scale-in.
    pub protects_new: bool,
    /// The group is being deleted.
    pub is_deleting: bool,
    /// Only a certain service of AWS may change the group.
    pub has_operator: bool,
}

/// An instance of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub id: String,
    /// The launch template version that it was launched from.
    pub version: Option<TemplateVersion>,
    /// Its image, if an override of a mixed instances policy names it.
    pub image: Option<ImageId>,
    /// InService, Pending, Standby, Terminating, …
    pub state: String,
    /// It is protected from scale-in.
    pub is_protected: bool,
}

/// A shared response: all groups with the tag of a cluster, sorted by name.
type Listed = Arc<Vec<AutoScalingGroup>>;

/// Responses that are shared by all callers.
pub(super) struct Responses {
    /// By region and cluster.
    groups: Shared<(Region, String), Listed, AwsError>,
    /// By region and group.
    refreshes: Shared<(Region, String), Refreshes, AwsError>,
    /// By region and group.
    hooks: Shared<(Region, String), Vec<String>, AwsError>,
}

impl Responses {
    pub(super) fn new(aging: Aging) -> Self {
        Self {
            groups: Shared::new(KEEP, aging).holding(HOLD_GROUPS),
            refreshes: Shared::new(KEEP, aging).holding(HOLD_GROUPS),
            hooks: Shared::new(KEEP, aging),
        }
    }
}

impl Aws {
    /// Returns all Auto Scaling groups with the tag of a cluster, including those that EKS owns, and whether they
    /// count as read now. One call returns 100 groups with their instances. Shared for 30 s, single-flight, dropped on
    /// our own writes.
    pub async fn auto_scaling_groups(
        &self,
        region: &Region,
        cluster: &str,
        fresh: Fresh,
    ) -> Result<(Listed, bool), AwsError> {
        let key = (region.clone(), cluster.to_owned());
        let ask = || async {
            let autoscaling = self.0.clients.autoscaling(region);
            let tag = format!("tag:kubernetes.io/cluster/{cluster}");
            let owned = types::Filter::builder().name(tag).values("owned").build();
            let call = autoscaling.sdk.describe_auto_scaling_groups().filters(owned).max_records(PAGE);
            let pages = call.into_paginator().items().send();
            let groups: Vec<_> =
                pages.try_collect().await.map_err(autoscaling.failed("DescribeAutoScalingGroups"))?;
            let mut groups: Vec<AutoScalingGroup> = groups.iter().filter_map(group_of).collect();
            groups.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(Arc::new(groups))
        };
        self.0.autoscaling.groups.read(&key, fresh, ask).await
    }

    /// Returns the names of the lifecycle hooks that run before an instance of the group is terminated. Shared for
    /// 30 s.
    pub async fn terminating_hooks(&self, region: &Region, group: &str) -> Result<Vec<String>, AwsError> {
        let ask = || async {
            let autoscaling = self.0.clients.autoscaling(region);
            let call = autoscaling.sdk.describe_lifecycle_hooks().auto_scaling_group_name(group);
            let answer = call.send().await.map_err(autoscaling.failed("DescribeLifecycleHooks"))?;
            let hooks = answer.lifecycle_hooks().iter();
            let terminating = hooks.filter(|hook| hook.lifecycle_transition() == Some(TERMINATING));
            Ok(terminating.filter_map(|hook| hook.lifecycle_hook_name().map(str::to_owned)).collect())
        };
        self.0.autoscaling.hooks.get(&(region.clone(), group.to_owned()), Fresh::Cached, ask).await
    }

    /// Sets the launch template version of a group, with everything else of what it launches as it is.
    pub async fn pin_group(
        &self,
        region: &Region,
        cluster: &str,
        group: &str,
        source: &LaunchSource,
        version: &TemplateVersion,
    ) -> Result<(), AwsError> {
        let autoscaling = self.0.clients.autoscaling(region);
        let (template, policy) = source.with_version(version);
        let call = autoscaling.sdk.update_auto_scaling_group().auto_scaling_group_name(group);
        let call = call.set_launch_template(template).set_mixed_instances_policy(policy);
        let answer = call.send().await;
        self.forget_auto_scaling_groups(region, cluster);
        answer.map(drop).map_err(autoscaling.failed("UpdateAutoScalingGroup"))
    }

    /// Drops the shared response. Even a failed write may have taken effect.
    fn forget_auto_scaling_groups(&self, region: &Region, cluster: &str) {
        self.0.autoscaling.groups.drop_key(&(region.clone(), cluster.to_owned()));
    }
}

fn group_of(group: &types::AutoScalingGroup) -> Option<AutoScalingGroup> {
    let tags = group.tags().iter();
    let tags =
        tags.filter_map(|tag| Some((tag.key()?.to_owned(), tag.value().unwrap_or_default().to_owned())));
    Some(AutoScalingGroup {
        name: group.auto_scaling_group_name()?.to_owned(),
        source: source::of(group),
        instances: group.instances().iter().map(member).collect(),
        desired: group.desired_capacity(),
        tags: tags.collect(),
        protects_new: group.new_instances_protected_from_scale_in().unwrap_or(false),
        // EC2 Auto Scaling sets a status only while a group is being deleted.
        is_deleting: group.status().is_some(),
        has_operator: group.operator().is_some(),
    })
}

fn member(instance: &types::Instance) -> Member {
    let version = instance.launch_template().and_then(|template| {
        let (template, version) = (template.launch_template_id()?, template.version()?);
        Some(TemplateVersion { template: TemplateId::parse(template).ok()?, version: version.to_owned() })
    });
    Member {
        id: instance.instance_id().unwrap_or_default().to_owned(),
        version,
        image: instance.image_id().and_then(|id| ImageId::parse(id).ok()),
        state: instance.lifecycle_state().map(|state| state.as_str().to_owned()).unwrap_or_default(),
        is_protected: instance.protected_from_scale_in().unwrap_or(false),
    }
}

#[cfg(test)]
mod tests;
