//! `AMIRefresher`: the operator's fields with their names and meaning, and our new, optional ones.

use jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::builder::AmiFilter;
use super::conditions::Condition;
use super::notifier::{Notification, Notifier};

/// Rolls an image out to the node groups of an EKS cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ami.opsy.dev",
    version = "v1alpha1",
    kind = "AMIRefresher",
    doc = "AMIRefresher keeps the node groups of an Amazon EKS cluster on one machine image: it rolls a new image out to them, group by group.",
    plural = "amirefreshers",
    singular = "amirefresher",
    shortname = "ar",
    namespaced,
    status = "AMIRefresherStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"Cluster","type":"string","jsonPath":".spec.clusterName"}"#,
    printcolumn = r#"{"name":"Target","type":"string","jsonPath":".status.targetAMI"}"#,
    printcolumn = r#"{"name":"Drifted","type":"integer","jsonPath":".status.drifted"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Suspended","type":"string","jsonPath":".status.conditions[?(@.type=='Suspended')].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AMIRefresherSpec {
    /// AWS region of the cluster.
    pub region: String,
    /// Name of the EKS cluster.
    pub cluster_name: String,
    /// Exactly this image, whatever its age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami: Option<String>,
    /// The newest eligible image these EC2 filters find.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_filters: Option<Vec<AmiFilter>>,
    /// The image of a builder in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_from: Option<AmiFrom>,
    /// Node groups to leave alone: names or globs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    /// Which node groups to roll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_groups: Option<NodeGroups>,
    /// Which images are too old, and how often to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_outs: Option<RefresherTimeOuts>,
    /// The same as `timeOuts.expiresIn`; the operator's samples put it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// The same as `timeOuts.controllerTimer`; the operator's samples put it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_timer: Option<String>,
    /// How to roll.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_config: Option<RefreshConfig>,
    /// Start nothing new while true; what runs is finished. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Who hears of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifier: Option<Notifier>,
}

/// Where the image comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmiFrom {
    /// Name of the PackerBuilder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packer_builder: Option<String>,
}

/// Which node groups are rolled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroups {
    /// Globs; a group must match one. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub include: Option<Vec<String>>,
}

/// Times of a refresher. Durations are a number and a unit: s, m (minutes), h, d, w, y.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefresherTimeOuts {
    /// Images older than this are not rolled out. Absent means any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// How often to look. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_timer: Option<String>,
}

/// How node groups are rolled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshConfig {
    /// false reports drift and changes nothing. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// EKS's force: go on when pods cannot be evicted. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// Nodes of a group that may be replaced at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<i32>,
    /// The same as a percentage; EKS takes only one of the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable_percentage: Option<i32>,
    /// false, written out, updates all groups at once. Default one after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_completion: Option<bool>,
}

/// What is known of a refresher. Phase is output; only `rollout` and `targetAMI` are read back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AMIRefresherStatus {
    /// Ready, Reconciling, Stalled and Published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// When the last rollout ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_run: Option<Timestamp>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<String>,
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The annotation `ami.opsy.dev/reconcileAt` that was last handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The annotation `ami.opsy.dev/retry` that was last handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_retry: Option<String>,
    /// The image the groups should run.
    #[serde(default, rename = "targetAMI", skip_serializing_if = "Option::is_none")]
    pub target_ami: Option<String>,
    /// How many groups of ours run something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifted: Option<i32>,
    /// The node groups of the cluster, as last seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_groups: Option<Vec<NodeGroupStatus>>,
    /// The rollout under way or last ended; written before each effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// The last ten rollouts, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<RolloutRecord>>,
    /// What sinks were told, story by story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Vec<Notification>>,
}

/// One node group as last seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroupStatus {
    /// Name of the node group.
    pub name: String,
    /// Managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Image its launch template version names.
    #[serde(default, rename = "currentAMI", skip_serializing_if = "Option::is_none")]
    pub current_ami: Option<String>,
    /// Current, Pending, Updating, Failed, Unsupported, Excluded, Drifted, Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// EKS update under way.
    #[serde(default, rename = "updateID", skip_serializing_if = "Option::is_none")]
    pub update_id: Option<String>,
    /// Why it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When its update was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When its update ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
}

/// A rollout pins its target until it is done, failed, or `ami` changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Id of the rollout.
    pub id: String,
    /// Image it rolls out.
    pub target: String,
    /// Hash of how it was asked to roll: a change lets a failed update be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// The groups it moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<RolloutGroup>>,
}

/// What a rollout remembers of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutGroup {
    /// Name of the node group.
    pub name: String,
    /// Image it is moved to.
    #[serde(default, rename = "targetAMI", skip_serializing_if = "Option::is_none")]
    pub target_ami: Option<String>,
    /// Its launch template.
    #[serde(default, rename = "launchTemplateID", skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    /// Launch template version made for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Launch template version in force before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_version: Option<String>,
    /// Image in force before.
    #[serde(default, rename = "previousAMI", skip_serializing_if = "Option::is_none")]
    pub previous_ami: Option<String>,
    /// How often the update was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// Last EKS update of this rollout.
    #[serde(default, rename = "updateID", skip_serializing_if = "Option::is_none")]
    pub update_id: Option<String>,
    /// What EKS said when it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// The launch template version that an update is about to start with; written before the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_version: Option<String>,
    /// When that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub starting_at: Option<Timestamp>,
    /// The last call for this group that AWS refused and that is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// When an update was found to run longer than expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub overdue_at: Option<Timestamp>,
    /// When somebody else was found to have undone the move, within the last week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub undone_at: Option<Vec<Timestamp>>,
    /// What was found then, and who is likely to have done it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<String>,
    /// When this image was moved to this group, within the last week.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub moved_at: Option<Vec<Timestamp>>,
    /// When its update was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When its update ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
}

/// A call for a node group that AWS refused and that is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// AwsDenied, NotNow, or UpdateRefused, which becomes a failure when it stays the same for 15 minutes.
    pub reason: String,
    /// What AWS answered.
    pub message: String,
    /// Since when it is the same answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
    /// When the call was last tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last: Option<Timestamp>,
}

/// One ended rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutRecord {
    /// Id of the rollout.
    pub id: String,
    /// Image it rolled out.
    pub target: String,
    /// Done, Failed or Replaced.
    pub result: String,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// Groups that failed, and what EKS said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Vec<String>>,
}
