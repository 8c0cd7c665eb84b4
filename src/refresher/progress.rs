//! An instance refresh in words: its progress while it runs, and its result. Progress is stated in coarse steps, so that
//! the status is not written for every instance. Used by `plan` and the rows of the status. Pure.

use crate::api::steady::cause;
use crate::aws::autoscaling::{InstanceRefresh, RefreshStatus};

/// Steps in which a percentage is stated.
const STEP: i32 = 25;
/// Parts of reasons that do not pass by themselves. All others change with every instance.
const OBSTACLES: [&str; 4] = ["protected", "Standby", "insufficient data", "unhealthy"];
/// Parts of reasons, and what they usually mean.
const CAUSES: [(&[&str], &str); 3] = [
    (
        &["insufficient data", "unhealthy", "health check"],
        "the new nodes did not become healthy. Often the image does not start, or the health check grace period is too \
         short: check the named instances",
    ),
    (
        &["protected", "Standby"],
        "set refreshConfig.instanceRefresh.scaleInProtectedInstances or standbyInstances to replace such nodes",
    ),
    (
        &["launch template", "capacity", "quota", "limit", "not supported"],
        "no instance could be launched: check capacity, quotas, free addresses in the subnets, and permissions for the \
         KMS key of the volumes",
    ),
];

/// What a refresh does, and how far it is.
pub fn progress(refresh: &InstanceRefresh) -> String {
    let percentage = refresh.percentage.unwrap_or(0).clamp(0, 100) / STEP * STEP;
    let what = match &refresh.status {
        RefreshStatus::Pending => "is about to start".to_owned(),
        RefreshStatus::Baking => "has replaced all nodes and waits for its bake time".to_owned(),
        RefreshStatus::Cancelling => "is being canceled".to_owned(),
        RefreshStatus::RollbackInProgress => "is being rolled back".to_owned(),
        RefreshStatus::Other(status) => format!("has status {status}"),
        _ => format!("is {percentage}% complete or more"),
    };
    let obstacle = obstacle(refresh).map(|why| format!(": {why}")).unwrap_or_default();
    format!("instance refresh {} {what}{obstacle}", refresh.id)
}

/// Why a refresh does not continue, without the instances, which change.
fn obstacle(refresh: &InstanceRefresh) -> Option<String> {
    let reason = refresh.reason.as_deref()?;
    OBSTACLES.iter().any(|part| reason.contains(part)).then(|| cause(reason))
}

/// Why a refresh that has ended did not succeed; `None` if it did.
pub fn failure(refresh: &InstanceRefresh) -> Option<String> {
    let result = match &refresh.status {
        RefreshStatus::Successful => return None,
        RefreshStatus::Failed => "failed".to_owned(),
        RefreshStatus::Cancelled => "was canceled".to_owned(),
        RefreshStatus::RollbackSuccessful => "was rolled back".to_owned(),
        RefreshStatus::RollbackFailed => "failed, and so did its rollback".to_owned(),
        other => format!("ended with status {}", word(other)),
    };
    let reason = refresh.reason.as_deref().unwrap_or("EC2 Auto Scaling reported no reason");
    let reason = reason.trim_end_matches('.');
    let likely = CAUSES.iter().find(|(parts, _)| parts.iter().any(|part| reason.contains(part)));
    let hint = likely.map(|(_, hint)| format!(". Likely cause: {hint}")).unwrap_or_default();
    Some(format!("instance refresh {} {result}: {reason}{hint}", refresh.id))
}

fn word(status: &RefreshStatus) -> String {
    match status {
        RefreshStatus::Other(status) => status.clone(),
        known => format!("{known:?}"),
    }
}
