//! `status.history`: the last rollouts, and what happened to each node group in them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Record of an ended rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRecord {
    /// ID of the rollout.
    pub id: String,
    /// ID of the image that was rolled out. If there was one per architecture, the IDs are separated by commas.
    pub target: String,
    /// Result of the rollout: Done, Failed, Replaced, Held or RolledBack.
    pub result: String,
    /// ID of the failed rollout that this one rolled back. If absent, this was no rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback_of: Option<String>,
    /// Time at which the rollout was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time at which the rollout ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// Node groups that failed, each with the error of EKS or EC2 Auto Scaling, and any other cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Vec<String>>,
    /// Node groups whose update was begun, up to 50.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<RecordedGroup>>,
}

/// One node group of an ended rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RecordedGroup {
    /// Name of the node group.
    pub name: String,
    /// ID of the image in force before the update.
    #[serde(default, rename = "previousAMI", skip_serializing_if = "Option::is_none")]
    pub previous_ami: Option<String>,
    /// ID of the image to which the group was updated.
    #[serde(default, rename = "targetAMI", skip_serializing_if = "Option::is_none")]
    pub target_ami: Option<String>,
    /// Result for this group: Done or Failed.
    pub result: String,
    /// Duration of the update of the group, for example 12m30s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
}
