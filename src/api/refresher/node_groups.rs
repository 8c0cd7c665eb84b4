//! `spec.nodeGroups`: which node groups of the cluster are updated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Selection of node groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroups {
    /// Names or globs of the node groups to update. A group must match one of them. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
    /// If true, the managed node groups of the cluster are updated. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<bool>,
    /// If true, self-managed node groups are updated: the EC2 Auto Scaling groups with the tag
    /// `kubernetes.io/cluster/<clusterName>: owned` that EKS does not own. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub self_managed: Option<bool>,
    /// If true, self-managed groups are also updated if they have no lifecycle hook for terminating instances. Their
    /// nodes are then terminated without being drained. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_without_drain: Option<bool>,
}
