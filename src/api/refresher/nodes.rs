//! `status.rollout.groups[].nodes`: what the nodes of a group showed before, during and after its update.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Nodes of a group, as observed in the cluster in which the agent runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GroupNodes {
    /// Number of nodes before the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i32>,
    /// What was found on the nodes before the update: what prevents or delays the eviction of pods, and what is lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preflight: Option<Vec<String>>,
    /// Time at which this was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub preflight_at: Option<Timestamp>,
    /// Number of nodes that the update has not replaced yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<i32>,
    /// Time since which this number has been the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub left_since: Option<Timestamp>,
    /// Time at which the nodes were last counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub counted_at: Option<Timestamp>,
    /// PodDisruptionBudgets and pods that prevent the update from replacing further nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<String>,
    /// Time at which EKS had updated the group. From then on, all nodes must become Ready within
    /// `rollout.healthCheck.nodesReadyWithin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub updated_at: Option<Timestamp>,
}
