//! `AMIRefresher`: the operator's fields with their names and meaning, and new, optional ones.

mod checks;
mod held;
mod history;
mod instance_refresh;
mod node_groups;
mod nodes;
mod policy;

use jiff::Timestamp;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::conditions::Condition;
use super::filters::AmiFilter;
use super::notifier::{Notification, Notifier};
pub use checks::{CheckFailures, HealthCheck, PrometheusCheck, SoakCheck};
pub use held::{FailedAmi, HeldAmi, RolloutRollback};
pub use history::{RecordedGroup, RolloutRecord};
pub use instance_refresh::InstanceRefreshConfig;
pub use node_groups::NodeGroups;
pub use nodes::GroupNodes;
pub use policy::{Freeze, ROLLBACK, RolloutPolicy, STOP, Wave, Window};

/// Desired state of the node groups of an EKS cluster.
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
    printcolumn = r#"{"name":"Suspended","type":"string","jsonPath":".status.conditions[?(@.type=='Suspended')].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='Ready')].message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AMIRefresherSpec {
    /// AWS region of the cluster.
    pub region: String,
    /// Name of the EKS cluster.
    pub cluster_name: String,
    /// ID of the image to roll out, whatever its age. It takes precedence over `amiFilters` and `amiFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami: Option<String>,
    /// Filters of EC2 DescribeImages that select the image to roll out: the newest eligible image of each architecture.
    /// They take precedence over `amiFrom`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_filters: Option<Vec<AmiFilter>>,
    /// Builder whose active image is rolled out. If none of `ami`, `amiFilters` and `amiFrom` is set, the newest active
    /// image that was built for the cluster is rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_from: Option<AmiFrom>,
    /// Names or globs of node groups that are never updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exclude: Option<Vec<String>>,
    /// Node groups that are updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_groups: Option<NodeGroups>,
    /// Maximum age of images, and interval between reconciles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_outs: Option<RefresherTimeOuts>,
    /// Same as `timeOuts.expiresIn`. It is accepted here because the operator's samples set it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// Same as `timeOuts.controllerTimer`. It is accepted here because the operator's samples set it here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_timer: Option<String>,
    /// How node groups are updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refresh_config: Option<RefreshConfig>,
    /// Order, pace and times of rollouts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutPolicy>,
    /// Images that are never rolled out, although `amiFilters`, `amiFrom` or the tags of the cluster select them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<HeldAmi>>,
    /// If true, no new update is started; an update that is running is finished. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Sinks that are notified of rollouts of this object. Secrets are read from the namespace of the object. Default:
    /// the notifier in `opsy.yaml`. An empty notifier turns notifications of this object off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifier: Option<Notifier>,
}

/// Source of the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmiFrom {
    /// Name of a PackerBuilder in the same namespace. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packer_builder: Option<String>,
}

/// Times of a refresher. A duration consists of a number and a unit: s, m (minutes), h, d, w or y, for example 72h or
/// 30d.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefresherTimeOuts {
    /// Maximum age of an image. An older image is not rolled out, unless `ami` names it. If absent, images of any age
    /// are rolled out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// Interval between reconciles. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_timer: Option<String>,
}

/// How node groups are updated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefreshConfig {
    /// If false, drift is reported and nothing is changed. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable: Option<bool>,
    /// If true, EKS continues an update even if pods cannot be evicted, for example because of a PodDisruptionBudget.
    /// Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// Number of nodes of a group that may be replaced at the same time, from 1 to 100. 0 counts as not set. If neither
    /// this field nor `maxUnavailablePercentage` is set, the configuration of the group is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable: Option<i32>,
    /// Percentage of the nodes of a group that may be replaced at the same time, from 1 to 100. 0 counts as not set.
    /// EKS accepts either this or `maxUnavailable`, not both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_unavailable_percentage: Option<i32>,
    /// How instance refreshes replace the nodes of self-managed groups.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_refresh: Option<InstanceRefreshConfig>,
    /// If false, all groups of a wave are updated at the same time, unless `rollout.maxParallel` is set. Default true:
    /// one group after another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_completion: Option<bool>,
}

/// Observed state of a refresher. The agent reads back only `rollout`, `targetAMI`, `nodeGroups`, `notifications`,
/// `lastHandledReconcileAt` and `lastHandledRetry`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AMIRefresherStatus {
    /// Conditions of the object: Ready, Reconciling, Stalled, Suspended, Applied and Notified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Time at which the last rollout ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_run: Option<Timestamp>,
    /// Result of the last rollout: Done, Failed, Replaced, Held or RolledBack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<String>,
    /// The `metadata.generation` of the object that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Value of the annotation `ami.opsy.dev/reconcileAt` that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Value of the annotation `ami.opsy.dev/retry` that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_retry: Option<String>,
    /// ID of the image that the node groups should run. If there is one per architecture, the IDs are separated by
    /// commas.
    #[serde(default, rename = "targetAMI", skip_serializing_if = "Option::is_none")]
    pub target_ami: Option<String>,
    /// Number of node groups that do not run the target image. Excluded and unsupported groups do not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifted: Option<i32>,
    /// Node groups of the cluster, as last observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_groups: Option<Vec<NodeGroupStatus>>,
    /// The rollout in progress, or else the last one. It is written before each effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// Images that are not rolled out again because a rollout of them failed and was rolled back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Vec<FailedAmi>>,
    /// The last ten rollouts, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<RolloutRecord>>,
    /// Notifications that were delivered, by destination and thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Vec<Notification>>,
}

/// Node group, as last observed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeGroupStatus {
    /// Name of the node group.
    pub name: String,
    /// Kind of the node group: Managed or SelfManaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Wave of the node group, if the refresher has waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<String>,
    /// ID of the image in the launch template version of the group.
    #[serde(default, rename = "currentAMI", skip_serializing_if = "Option::is_none")]
    pub current_ami: Option<String>,
    /// State of the node group: Current, Pending, Updating, Failed, Unsupported, Excluded, Drifted or Unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// ID of the last EKS update or instance refresh that Opsy started in this rollout.
    #[serde(default, rename = "updateID", skip_serializing_if = "Option::is_none")]
    pub update_id: Option<String>,
    /// Why the node group is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Time at which the update of the group was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time at which the update of the group ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
}

/// Rollout of an image. Its target does not change until it is done or has failed, or until `ami` changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// ID of the rollout.
    pub id: String,
    /// ID of the image that is rolled out. If there is one per architecture, the IDs are separated by commas.
    pub target: String,
    /// Hash of the settings of the update. After a change of these settings, a failed update may be tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Time at which the rollout was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time at which the rollout ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// Node groups whose update was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<RolloutGroup>>,
    /// Waves of the rollout, in order, if the refresher has waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<RolloutWave>>,
    /// Checks that failed while a wave soaked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<CheckFailures>>,
    /// Why the rollout has failed, if it is not the failure of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The failed rollout that this one rolls back. If absent, this is no rollback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<RolloutRollback>,
}

/// Progress of one wave in a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutWave {
    /// Name of the wave.
    pub name: String,
    /// State of the wave: Pending, Waiting, Updating, Soaking, Done, Skipped or Failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What the wave waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether the wave may start, if it requires an approval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<bool>,
    /// Number of groups of the wave that run the target image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<i32>,
    /// Number of groups of the wave, without those that are excluded or cannot be moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<i32>,
    /// Time at which the first group of the wave was begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time at which the last group of the wave was moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
    /// Time at which the soak of the wave ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub soak_until: Option<Timestamp>,
}

/// Record of one node group in a rollout.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutGroup {
    /// Name of the node group.
    pub name: String,
    /// Kind of the node group: SelfManaged, or absent for a managed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Wave in which the group is updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wave: Option<String>,
    /// ID of the image to which the group is updated.
    #[serde(default, rename = "targetAMI", skip_serializing_if = "Option::is_none")]
    pub target_ami: Option<String>,
    /// ID of the launch template of the group.
    #[serde(default, rename = "launchTemplateID", skip_serializing_if = "Option::is_none")]
    pub launch_template_id: Option<String>,
    /// Launch template version that was created for the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Launch template version in force before the first update of the group in this rollout. A rollback returns to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_version: Option<String>,
    /// ID of the image in force before the first update of the group in this rollout.
    #[serde(default, rename = "previousAMI", skip_serializing_if = "Option::is_none")]
    pub previous_ami: Option<String>,
    /// Launch template version in force before the last update, if the group was updated more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_version: Option<String>,
    /// ID of the image in force before the last update, if the group was updated more than once.
    #[serde(default, rename = "sourceAMI", skip_serializing_if = "Option::is_none")]
    pub source_ami: Option<String>,
    /// Number of times that the update was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// ID of the last EKS update or instance refresh in this rollout.
    #[serde(default, rename = "updateID", skip_serializing_if = "Option::is_none")]
    pub update_id: Option<String>,
    /// Error of EKS or EC2 Auto Scaling, if the update failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure: Option<String>,
    /// Launch template version with which an update is about to start. It is written before the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub starting_version: Option<String>,
    /// Time at which `startingVersion` was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub starting_at: Option<Timestamp>,
    /// The last call for this group that AWS refused and that is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// Time at which the update was found to take longer than expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub overdue_at: Option<Timestamp>,
    /// What its nodes showed, if they are nodes of the cluster in which the agent runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<GroupNodes>,
    /// Times within the last week at which another writer was found to have undone the update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub undone_at: Option<Vec<Timestamp>>,
    /// What was found at the last of these times, and the likely writer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<String>,
    /// Times within the last week at which the group was updated to this image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Vec<String>>")]
    pub moved_at: Option<Vec<Timestamp>>,
    /// Time at which the update of the group was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time at which the update of the group ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub finished_at: Option<Timestamp>,
}

/// Call for a node group that AWS refused and that is tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    /// Kind of the refusal: AwsDenied, NotNow or UpdateRefused. UpdateRefused becomes a failure if the response stays
    /// the same for 15 minutes.
    pub reason: String,
    /// Response of AWS.
    pub message: String,
    /// Time since which the response has been the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
    /// Time of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last: Option<Timestamp>,
}
