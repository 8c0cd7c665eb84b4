//! A builder's status: the operator's fields, and what plans read back.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::conditions::Condition;
use crate::api::notifier::Notification;

/// What is known of a builder. Phase is output; only `history`, `inputs`, `images`, `sweeps` and,
/// in a cluster, `jobID` and `jobFacts` are read back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PackerBuilderStatus {
    /// The operator's state words, for people and old dashboards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The live run's Job, where builds are Jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Vec<ObjectReference>>,
    /// Build id of the run under way, else of the last.
    #[serde(default, rename = "buildID", skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// Commit the run under way is built from, else that of the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Packer's command that is running or ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Ready, Reconciling, Stalled and Published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Failed builds with these inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_job_count: Option<i32>,
    /// Id of the Job or process that runs the build. In a cluster it is the uid of the Job: a Job with another uid is not
    /// a build of this builder.
    #[serde(default, rename = "jobID", skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// What the agent recorded about that run when it started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_facts: Option<JobFacts>,
    /// Name of the run under way, else of the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// How that run stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<String>,
    /// When the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_run: Option<Timestamp>,
    /// Base image of the last run.
    #[serde(default, rename = "lastRunBaseImageID", skip_serializing_if = "Option::is_none")]
    pub last_run_base_image_id: Option<String>,
    /// Image the last successful run built.
    #[serde(default, rename = "lastRunBuiltImageID", skip_serializing_if = "Option::is_none")]
    pub last_run_built_image_id: Option<String>,
    /// Temporary key pair of the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_key_pair: Option<String>,
    /// Why the last run failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_message: Option<String>,
    /// Temporary security group of the last run.
    #[serde(default, rename = "lastRunSecurityGroupID", skip_serializing_if = "Option::is_none")]
    pub last_run_security_group_id: Option<String>,
    /// How the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<String>,
    /// When `state` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_transition_time: Option<Timestamp>,
    /// Failures after which a person must act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_number_of_failed_jobs: Option<i32>,
    /// The generation this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// The annotation `ami.opsy.dev/reconcileAt` that was last handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// The active images, one for each region and architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<LaneImage>>,
    /// What the active images were built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputsRecord>,
    /// The base image that the active images were built from, as far as one is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<BaseImage>,
    /// Why the last build was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last ten runs, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<RunRecord>>,
    /// Leftovers of ended runs still to be looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweeps: Option<Vec<SweepRecord>>,
    /// What sinks were told, story by story.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Vec<Notification>>,
}

/// What a run is of, recorded when it was started. In a cluster only this counts: the Job has the same in an annotation,
/// which everybody can edit who may patch Jobs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobFacts {
    /// Build ID.
    pub build: String,
    /// Region in which Packer builds.
    pub region: String,
    /// What it is built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputsRecord>,
    /// Why it was started.
    pub why: String,
    /// Commit it is built from.
    pub commit: String,
    /// When it was started: only what was created later can be its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created_at: Option<Timestamp>,
    /// Owner whose tags the run puts on what it creates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// An object of the cluster, as the operator's status refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// The active image of one lane.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaneImage {
    /// Region the image is in.
    pub region: String,
    /// x86_64 or arm64.
    pub architecture: String,
    /// Image id.
    pub id: String,
    /// Name of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Since when it is the active image of its region and architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
    /// True while the image is not in EC2 any more and no other has taken its place. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<bool>,
}

/// A base image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseImage {
    /// Image id.
    pub id: String,
    /// Name of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created: Option<Timestamp>,
    /// True if it cannot be seen any more: withdrawn by its owner, or no longer shared. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<bool>,
}

/// What a build is made from; absent means it was not known or not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputsRecord {
    /// The base image.
    #[serde(default, rename = "baseAMI", skip_serializing_if = "Option::is_none")]
    pub base_ami: Option<String>,
    /// Tag value `opsy.dev/template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Tag value `opsy.dev/spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
}

/// One ended run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// Build id.
    pub id: String,
    /// Succeeded, Failed, Cancelled, TimedOut, Superseded, Lost.
    pub result: String,
    /// Why it was started: Missing, Expired, Deprecated, BaseImage, Template, Spec, Retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Commit it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// What it was built from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputsRecord>,
    /// Images it built, those of the builder's own region first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<String>>,
    /// The base image that EC2 names for what it built, where it is not the one in `inputs`.
    #[serde(default, rename = "baseAMI", skip_serializing_if = "Option::is_none")]
    pub base_ami: Option<String>,
    /// When it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ended_at: Option<Timestamp>,
    /// What a failure means: Template (counts toward `failurePolicy.limit`), Transient (a cause outside of the
    /// template: tried again with growing pauses, without a limit), or Final (another try would end alike).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Packer's command that ended the run: init, validate, build, or one of several such as `build 2 of 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Packer's name of the build that failed first, or that was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packer_build: Option<String>,
    /// Error lines, the cause first; at most five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<String>>,
    /// What the provisioners of the failed build printed last; at most eight lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Vec<String>>,
    /// What to do about a known cause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// Somebody asked for another try since: the failure counts no longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
}

/// What Packer says of every script that fails.
const SCRIPT_FAILED: &str = "exit status";

impl RunRecord {
    /// Did it come to nothing for a fault?
    pub fn has_failed(&self) -> bool {
        matches!(self.result.as_str(), "Failed" | "TimedOut" | "Lost")
    }

    /// Why the run failed: the step, the cause, and what a failed script printed last.
    pub fn cause(&self) -> Option<String> {
        let cause = self.errors.as_ref()?.first()?;
        let step = match (&self.step, &self.packer_build) {
            (Some(step), Some(build)) => format!("{step} ({build}): "),
            (Some(step), None) => format!("{step}: "),
            _ => String::new(),
        };
        let last = self.output.as_ref().and_then(|lines| lines.last());
        let printed = last.filter(|_| cause.contains(SCRIPT_FAILED));
        let printed = printed.map_or(String::new(), |line| format!(" (it printed last: {line})"));
        Some(format!("{step}{cause}{printed}"))
    }

    /// The cause, and what to do about it where that is known.
    pub fn explained(&self) -> Option<String> {
        let advice = self.advice.as_ref().map_or(String::new(), |advice| format!("; {advice}"));
        Some(format!("{}{advice}", self.cause()?))
    }
}

/// An ended run whose leftovers are still to be looked for: images appear late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepRecord {
    /// Build id.
    pub id: String,
    /// Owner whose tags the run put on what it made; absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Region to look in.
    pub region: String,
    /// Further regions that the run touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// The run was cut off before it said where it worked: the next look is in all regions of the account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everywhere: Option<bool>,
    /// When the run was started: nothing older is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// When to look next.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub due: Option<Timestamp>,
    /// How often it was looked already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<i32>,
    /// How often in a row AWS refused a look or a removal. After the fourth time Opsy waits until a reconcile is
    /// asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<i32>,
    /// Ids and names Packer announced, as `kind=id`; `artifact=id` is an image that Packer named as its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Vec<String>>,
}
