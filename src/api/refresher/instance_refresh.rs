//! `spec.refreshConfig.instanceRefresh`: how instance refreshes replace the nodes of self-managed groups.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Preferences of the instance refreshes of self-managed groups. What is not set is decided by EC2 Auto Scaling.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstanceRefreshConfig {
    /// Percentage of the desired number of nodes that must stay in service, from 0 to 100. Default: what
    /// `maxUnavailable` or `maxUnavailablePercentage` leaves. If none of them is set, the instance maintenance policy of
    /// the group applies, else 90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_healthy_percentage: Option<i32>,
    /// Percentage of the desired number of nodes that may run at the same time, from 100 to 200, and at most 100 more
    /// than `minHealthyPercentage`, which must be set too. With 100 and more, a new node can start before an old one is
    /// terminated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_healthy_percentage: Option<i32>,
    /// Time after its start until a new node counts as ready. Default: the instance warmup of the group, else its health
    /// check grace period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_warmup: Option<String>,
    /// Percentages of replaced nodes at which the refresh waits for `checkpointDelay`, in ascending order. The last one
    /// must be 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_percentages: Option<Vec<i32>>,
    /// Time that the refresh waits at each checkpoint, at most 48h. Default 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint_delay: Option<String>,
    /// What happens to nodes that are protected from scale-in: `Refresh` replaces them, `Ignore` leaves them on the old
    /// image, `Wait` waits for an hour until the protection is removed. Default: `Refresh` if the group protects new
    /// nodes, as the cluster autoscaler requires on some groups, else `Wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_in_protected_instances: Option<String>,
    /// What happens to nodes in standby: `Terminate` replaces them, `Ignore` leaves them on the old image, `Wait` waits
    /// for an hour until they are back in service. Default `Wait`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standby_instances: Option<String>,
}
