//! Instance refreshes: reading, starting, canceling and rolling them back. EC2 Auto Scaling runs at most one per group.

use std::sync::Arc;

use aws_sdk_autoscaling::types::{self, InstanceRefreshStatus as Status};
use jiff::Timestamp;

use super::super::ec2::instant;
use super::super::{Aws, AwsError, Fresh, TemplateVersion, unreadable};
use super::source::{LaunchSource, TemplateRef, desired};
use crate::api::Region;

/// Refreshes per page, the maximum of EC2 Auto Scaling.
const PAGE: i32 = 100;
/// Pages that are read. AWS returns the refreshes of six weeks, newest first, so these are the last 1000.
const PAGES: usize = 10;

/// An instance refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRefresh {
    pub id: String,
    pub status: RefreshStatus,
    /// Why it has this status.
    pub reason: Option<String>,
    /// Absent while it is Pending.
    pub started: Option<Timestamp>,
    pub ended: Option<Timestamp>,
    pub percentage: Option<i32>,
    /// The launch template of the configuration that it brings the group to, if it has one.
    pub to: Option<TemplateRef>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshStatus {
    Pending,
    InProgress,
    Baking,
    Cancelling,
    RollbackInProgress,
    Successful,
    Failed,
    Cancelled,
    RollbackSuccessful,
    RollbackFailed,
    /// A status that this version does not know.
    Other(String),
}

/// How an instance refresh replaces instances. What is absent is decided by EC2 Auto Scaling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefreshPreferences {
    pub min_healthy: Option<i32>,
    pub max_healthy: Option<i32>,
    /// In seconds.
    pub warmup: Option<i32>,
    pub checkpoints: Vec<i32>,
    /// In seconds.
    pub checkpoint_delay: Option<i32>,
    /// Refresh, Ignore or Wait.
    pub protected: Option<String>,
    /// Terminate, Ignore or Wait.
    pub standby: Option<String>,
}

/// A shared response: the refreshes of a group, newest first.
pub(super) type Refreshes = Arc<Vec<InstanceRefresh>>;

impl InstanceRefresh {
    /// Whether it may still change the group. A status that this version does not know counts until it has an end.
    pub fn is_active(&self) -> bool {
        match self.status {
            RefreshStatus::Pending
            | RefreshStatus::InProgress
            | RefreshStatus::Baking
            | RefreshStatus::Cancelling
            | RefreshStatus::RollbackInProgress => true,
            RefreshStatus::Other(_) => self.ended.is_none(),
            _ => false,
        }
    }
}

impl Aws {
    /// Returns the refreshes of a group, newest first, and whether they count as read now. Shared for 30 s,
    /// single-flight, dropped on our own writes.
    pub async fn instance_refreshes(
        &self,
        region: &Region,
        group: &str,
        fresh: Fresh,
    ) -> Result<(Refreshes, bool), AwsError> {
        let key = (region.clone(), group.to_owned());
        // The SDK has no paginator for this call.
        let ask = || async {
            let autoscaling = self.0.clients.autoscaling(region);
            let (mut refreshes, mut token) = (Vec::new(), None);
            for _ in 0..PAGES {
                let call = autoscaling.sdk.describe_instance_refreshes().auto_scaling_group_name(group);
                let answer = call.max_records(PAGE).set_next_token(token.take()).send().await;
                let page = answer.map_err(autoscaling.failed("DescribeInstanceRefreshes"))?;
                refreshes.extend(page.instance_refreshes().iter().filter_map(refresh));
                token = page.next_token.filter(|token| !token.is_empty());
                if token.is_none() {
                    break;
                }
            }
            Ok(Arc::new(refreshes))
        };
        self.0.autoscaling.refreshes.read(&key, fresh, ask).await
    }

    /// Starts a refresh of a group to what it launches now, with another version, and returns its ID. The call has no
    /// client token: if the response is lost, the refresh is found among those of the group.
    pub async fn start_refresh(
        &self,
        region: &Region,
        cluster: &str,
        group: &str,
        source: &LaunchSource,
        version: &TemplateVersion,
        preferences: &RefreshPreferences,
    ) -> Result<String, AwsError> {
        let autoscaling = self.0.clients.autoscaling(region);
        let (template, policy) = source.with_version(version);
        let desired = types::DesiredConfiguration::builder()
            .set_launch_template(template)
            .set_mixed_instances_policy(policy)
            .build();
        let call = autoscaling.sdk.start_instance_refresh().auto_scaling_group_name(group);
        let call = call.strategy(types::RefreshStrategy::Rolling).desired_configuration(desired);
        let answer = call.preferences(sent(preferences)).send().await;
        self.forget_refreshes(region, cluster, group);
        let answer = answer.map_err(autoscaling.failed("StartInstanceRefresh"))?;
        answer.instance_refresh_id.ok_or_else(|| unreadable("autoscaling:StartInstanceRefresh", "no ID"))
    }

    /// Cancels the refresh of a group. Instances that were replaced stay.
    pub async fn cancel_refresh(&self, region: &Region, cluster: &str, group: &str) -> Result<(), AwsError> {
        let autoscaling = self.0.clients.autoscaling(region);
        let answer = autoscaling.sdk.cancel_instance_refresh().auto_scaling_group_name(group).send().await;
        self.forget_refreshes(region, cluster, group);
        answer.map(drop).map_err(autoscaling.failed("CancelInstanceRefresh"))
    }

    /// Rolls the refresh of a group back: EC2 Auto Scaling replaces what it replaced.
    pub async fn roll_back_refresh(
        &self,
        region: &Region,
        cluster: &str,
        group: &str,
    ) -> Result<(), AwsError> {
        let autoscaling = self.0.clients.autoscaling(region);
        let answer = autoscaling.sdk.rollback_instance_refresh().auto_scaling_group_name(group).send().await;
        self.forget_refreshes(region, cluster, group);
        answer.map(drop).map_err(autoscaling.failed("RollbackInstanceRefresh"))
    }

    /// Drops the shared responses. Even a failed write may have taken effect.
    fn forget_refreshes(&self, region: &Region, cluster: &str, group: &str) {
        self.0.autoscaling.refreshes.drop_key(&(region.clone(), group.to_owned()));
        self.forget_auto_scaling_groups(region, cluster);
    }
}

/// Instances that match the configuration already are always left alone, so that a repeated start changes nothing.
fn sent(preferences: &RefreshPreferences) -> types::RefreshPreferences {
    let checkpoints = Some(preferences.checkpoints.clone()).filter(|checkpoints| !checkpoints.is_empty());
    let protected = preferences.protected.as_deref().map(types::ScaleInProtectedInstances::from);
    types::RefreshPreferences::builder()
        .skip_matching(true)
        .set_min_healthy_percentage(preferences.min_healthy)
        .set_max_healthy_percentage(preferences.max_healthy)
        .set_instance_warmup(preferences.warmup)
        .set_checkpoint_percentages(checkpoints)
        .set_checkpoint_delay(preferences.checkpoint_delay)
        .set_scale_in_protected_instances(protected)
        .set_standby_instances(preferences.standby.as_deref().map(types::StandbyInstances::from))
        .build()
}

fn refresh(refresh: &types::InstanceRefresh) -> Option<InstanceRefresh> {
    Some(InstanceRefresh {
        id: refresh.instance_refresh_id()?.to_owned(),
        status: status(refresh.status()),
        reason: refresh.status_reason().map(str::to_owned),
        started: instant(refresh.start_time()),
        ended: instant(refresh.end_time()),
        percentage: refresh.percentage_complete(),
        to: refresh.desired_configuration().and_then(desired),
    })
}

fn status(status: Option<&Status>) -> RefreshStatus {
    match status {
        Some(Status::Pending) => RefreshStatus::Pending,
        Some(Status::InProgress) => RefreshStatus::InProgress,
        Some(Status::Baking) => RefreshStatus::Baking,
        Some(Status::Cancelling) => RefreshStatus::Cancelling,
        Some(Status::RollbackInProgress) => RefreshStatus::RollbackInProgress,
        Some(Status::Successful) => RefreshStatus::Successful,
        Some(Status::Failed) => RefreshStatus::Failed,
        Some(Status::Cancelled) => RefreshStatus::Cancelled,
        Some(Status::RollbackSuccessful) => RefreshStatus::RollbackSuccessful,
        Some(Status::RollbackFailed) => RefreshStatus::RollbackFailed,
        other => RefreshStatus::Other(other.map(|s| s.as_str().to_owned()).unwrap_or_default()),
    }
}
