//! `spec.rollout`: in which order, how many at once, and when node groups are moved.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::checks::HealthCheck;

/// The values of `onFailure`.
pub const STOP: &str = "Stop";
pub const ROLLBACK: &str = "Rollback";

/// Order, pace and times of rollouts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutPolicy {
    /// Waves of node groups, in the order in which they are moved. A group belongs to the first wave that selects it.
    /// Groups that no wave selects form the last wave, `remaining`. A wave starts when all groups of the earlier waves
    /// run the target image and their soak times have passed; a wave without a group to move is skipped. Default: one
    /// wave with all groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<Wave>>,
    /// Maximum number of node groups that are updated at the same time. Default 1; with
    /// `refreshConfig.waitForCompletion: false`, all groups of a wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<i32>,
    /// Times at which updates of node groups may start. An update that has started is finished, also after the end of
    /// the window. Default: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<Vec<Window>>,
    /// Periods in which no update of a node group starts, also not in a window. Updates that have started are finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freezes: Option<Vec<Freeze>>,
    /// What happens when the update of a node group fails. `Stop`: no further group is updated. `Rollback`: in addition,
    /// every group that the rollout changed is updated back to the launch template version that it had before, at any
    /// time and without waves, and the image is held. Default Stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<String>,
    /// What to do if something on the nodes of a group prevents or delays their replacement: a PodDisruptionBudget that
    /// allows no disruption, a pod without a controller, or a pod that asks not to be evicted. `Warn` reports it before
    /// the update of the group starts. `Block` starts the update only when nothing of that kind is left. The nodes must
    /// be those of the cluster in which the agent runs. Default `Warn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<String>,
    /// What must hold after the update of a group before the next group starts, and while a wave soaks. Otherwise, the
    /// rollout fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<HealthCheck>,
}

/// Wave of a rollout. It selects the groups that match all of `nodeGroups`, `labels` and `tags` that are set; at least
/// one of them is required.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Wave {
    /// Name of the wave: letters, digits, `-`, `_` and `.`, at most 63 characters. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Names or globs of node groups. A group must match one of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_groups: Option<Vec<String>>,
    /// Kubernetes labels of the EKS node group. A group must have all of them. The labels of a self-managed group are
    /// those in its tags `k8s.io/cluster-autoscaler/node-template/label/<label>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// AWS tags of the EKS node group, or of the Auto Scaling group. A group must have all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// Time after the last group of the wave was moved, before the next wave starts. At most 7d. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soak: Option<String>,
    /// `Required`: the wave starts only when the annotation `ami.opsy.dev/approve: <wave>=<ami>` approves the target
    /// image for it. If the target has one image per architecture, each of them must be approved. Default: no approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
    /// Maximum number of groups of the wave that are updated at the same time. Default: `rollout.maxParallel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<i32>,
}

/// Recurring period in which updates may start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// Times at which the window opens, as a cron expression with five fields: minute, hour, day of the month, month,
    /// day of the week. For example `0 9 * * MON-FRI`. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Time for which the window stays open. For example 8h. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Time zone of the schedule, as a name of the IANA database. For example Europe/Berlin. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// Period in which no update starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Freeze {
    /// Start of the freeze: a time such as 2026-12-18T18:00:00+01:00, or a date, which means its start in UTC. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// End of the freeze: a time, or a date, which means its end in UTC. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}
