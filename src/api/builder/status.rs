//! The status of a builder: the operator's fields, and what plans read back.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::conditions::Condition;
use crate::api::notifier::Notification;
use crate::api::tags;
use crate::api::words::RunResult;

/// Observed state of a builder. The agent reads back only `history`, `inputs`, `images`, `baseImage`, `sweeps`,
/// `notifications`, `lastHandledReconcileAt` and, in a cluster, `jobID`, `jobName`, `jobStatus` and `jobFacts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PackerBuilderStatus {
    /// State of the builder, with the values of the operator and JobFailed: Initial, FlightChecks, JobCreation,
    /// JobRunning, JobCompleted, JobFailed or AMICreated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Jobs of running builds, as recorded by the operator. Opsy does not set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Vec<ObjectReference>>,
    /// ID of the build that is running, or else of the last build.
    #[serde(default, rename = "buildID", skip_serializing_if = "Option::is_none")]
    pub build_id: Option<String>,
    /// Git commit of the build that is running, or else of the last build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Packer command that is running or ran last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Conditions of the object: Ready, Reconciling, Stalled, Suspended, Applied and Notified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Number of failures of the template with the current inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_job_count: Option<i32>,
    /// ID of the Job or process that runs the build. In a cluster it is the UID of the Job. A Job with another UID does
    /// not count as a build of this builder.
    #[serde(default, rename = "jobID", skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// Facts about the run that the agent recorded when it started it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_facts: Option<JobFacts>,
    /// Name of the run in progress, or else of the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_name: Option<String>,
    /// Status of the run `jobName`: Pending, Running or Stopping while it is in progress, and its result afterwards.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_status: Option<String>,
    /// Time at which the last run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_run: Option<Timestamp>,
    /// ID of the base image of the last run.
    #[serde(default, rename = "lastRunBaseImageID", skip_serializing_if = "Option::is_none")]
    pub last_run_base_image_id: Option<String>,
    /// ID of the image that the last successful run built.
    #[serde(default, rename = "lastRunBuiltImageID", skip_serializing_if = "Option::is_none")]
    pub last_run_built_image_id: Option<String>,
    /// Name of the temporary key pair of the last run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_key_pair: Option<String>,
    /// Why the last run failed: the Packer command and its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_message: Option<String>,
    /// ID of the temporary security group of the last run.
    #[serde(default, rename = "lastRunSecurityGroupID", skip_serializing_if = "Option::is_none")]
    pub last_run_security_group_id: Option<String>,
    /// Result of the last run: Succeeded, Superseded, Failed, TimedOut, Cancelled or Lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_status: Option<String>,
    /// Time at which `state` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_transition_time: Option<Timestamp>,
    /// Number of failures after which a person must act, as in `failurePolicy.limit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_number_of_failed_jobs: Option<i32>,
    /// The `metadata.generation` of the object that this status describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Value of the annotation `ami.opsy.dev/reconcileAt` that was handled last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Active images, one for each region and architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<LaneImage>>,
    /// Inputs from which the active images were built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputsRecord>,
    /// Base image from which the active images were built, if one was requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_image: Option<BaseImage>,
    /// Why the last build was started: Missing, Expired, Deprecated, BaseImage, Template, Spec or Retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last ten runs, newest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<RunRecord>>,
    /// Ended runs whose orphaned resources are still to be garbage-collected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweeps: Option<Vec<SweepRecord>>,
    /// Notifications that were delivered, by destination and thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Vec<Notification>>,
}

impl PackerBuilderStatus {
    /// Hash of what an image of the builder was built from, as refreshers record it; `None` if that is not known.
    pub fn inputs_digest(&self, image: &str) -> Option<String> {
        let built = |images: &Option<Vec<String>>| images.iter().flatten().any(|built| built == image);
        let run = self.history.iter().flatten().find(|run| built(&run.images));
        let inputs = run.and_then(|run| run.inputs.as_ref()).or(self.inputs.as_ref())?;
        let base = run.and_then(|run| run.base_ami.as_ref()).or(inputs.base_ami.as_ref());
        let (template, spec) = (inputs.template.as_ref()?, inputs.spec.as_ref()?);
        Some(tags::inputs_digest(template, spec, base.map_or("", String::as_str)))
    }
}

/// Facts about a run, recorded when it is started. In a cluster only this record counts: the Job has the same facts in
/// an annotation, but anyone who may patch Jobs can edit it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobFacts {
    /// ID of the build.
    pub build: String,
    /// AWS region in which Packer builds.
    pub region: String,
    /// Inputs of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputsRecord>,
    /// Why the build was started.
    pub why: String,
    /// Git commit of the build.
    pub commit: String,
    /// Time at which the run was started. Only images that were created later can be its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created_at: Option<Timestamp>,
    /// Owner that the run records in the tags of the resources that it creates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// Reference to an object in the cluster, as in the operator's status.
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

/// Active image of one region and architecture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaneImage {
    /// AWS region of the image.
    pub region: String,
    /// Architecture of the image: x86_64 or arm64.
    pub architecture: String,
    /// ID of the image.
    pub id: String,
    /// Name of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time since which the image has been the active one of its region and architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub since: Option<Timestamp>,
    /// True while the image does not exist in EC2 any more and no other image has replaced it. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<bool>,
    /// IDs of the images that were active before in the same region and architecture, newest first, at most five. An
    /// image that is deprecated, not available or deregistered is removed. While a refresher holds the image,
    /// `amis.json` names the first of these that none holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Vec<String>>,
}

/// Base image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BaseImage {
    /// ID of the image.
    pub id: String,
    /// Name of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Time at which the image was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub created: Option<Timestamp>,
    /// True if the image is not visible any more, because its owner withdrew it or no longer shares it. Absent
    /// otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<bool>,
}

/// Inputs of a build. An absent value was not known or not requested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InputsRecord {
    /// ID of the base image.
    #[serde(default, rename = "baseAMI", skip_serializing_if = "Option::is_none")]
    pub base_ami: Option<String>,
    /// Hash of the files of the template, as in the image tag `opsy.dev/template`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// Hash of the settings of the build, as in the image tag `opsy.dev/spec`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<String>,
}

/// Record of an ended run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// ID of the build.
    pub id: String,
    /// Result of the run: Succeeded, Superseded, Failed, TimedOut, Cancelled or Lost.
    pub result: String,
    /// Why the build was started: Missing, Expired, Deprecated, BaseImage, Template, Spec or Retry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Git commit of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// Inputs of the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<InputsRecord>,
    /// IDs of the images that the run built, those in the builder's own region first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<String>>,
    /// ID of the base image that EC2 reports for the built images, if it is not the one in `inputs`.
    #[serde(default, rename = "baseAMI", skip_serializing_if = "Option::is_none")]
    pub base_ami: Option<String>,
    /// Time at which the run was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time at which the run ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub ended_at: Option<Timestamp>,
    /// Kind of the failure: Template (counts toward `failurePolicy.limit`), Transient (a cause outside of the template;
    /// retried without a limit, with growing delays) or Final (another build of the same inputs would fail in the same
    /// way).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Packer command with which the run ended: init, validate, build, or one of several, such as `build 2 of 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
    /// Name that Packer gives to the build that failed first, or that was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packer_build: Option<String>,
    /// Error messages, the cause first, at most five.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Vec<String>>,
    /// Last lines of output of the provisioners in the failed build, at most eight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Vec<String>>,
    /// Remedy, if the cause is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
    /// True if a person has requested another attempt since. The failure then does not count any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<bool>,
}

/// What Packer reports for every script that fails.
const SCRIPT_FAILED: &str = "exit status";

impl RunRecord {
    /// Returns whether the run failed. A canceled or superseded run did not.
    pub fn has_failed(&self) -> bool {
        RunResult::parse(&self.result).is_some_and(RunResult::is_failure)
    }

    /// Returns why the run failed: the step, the cause, and the last output of a failed script.
    pub fn cause(&self) -> Option<String> {
        let cause = self.errors.as_ref()?.first()?;
        let step = match (&self.step, &self.packer_build) {
            (Some(step), Some(build)) => format!("{step} ({build}): "),
            (Some(step), None) => format!("{step}: "),
            _ => String::new(),
        };
        let last = self.output.as_ref().and_then(|lines| lines.last());
        let printed = last.filter(|_| cause.contains(SCRIPT_FAILED));
        let printed = printed.map_or(String::new(), |line| format!(" (last output: {line})"));
        Some(format!("{step}{cause}{printed}"))
    }

    /// Returns the cause, and the remedy if it is known.
    pub fn explained(&self) -> Option<String> {
        let advice = self.advice.as_ref().map_or(String::new(), |advice| format!("; {advice}"));
        Some(format!("{}{advice}", self.cause()?))
    }
}

/// Ended run whose orphaned resources are still to be garbage-collected. It is checked several times, because images
/// appear late.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SweepRecord {
    /// ID of the build.
    pub id: String,
    /// Owner that the run recorded in the tags of the resources that it created. Absent in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// AWS region in which the run built.
    pub region: String,
    /// Further AWS regions in which the run created resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regions: Option<Vec<String>>,
    /// True if the run was interrupted before it reported its regions. The next check then covers all regions of the
    /// account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub everywhere: Option<bool>,
    /// Time at which the run was started. Nothing older is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub started_at: Option<Timestamp>,
    /// Time of the next check.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub due: Option<Timestamp>,
    /// Number of checks made so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks: Option<i32>,
    /// Number of consecutive times that AWS refused a check or a removal. After the fourth time, Opsy stops until a
    /// reconcile is requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<i32>,
    /// IDs and names of resources that Packer announced, as `kind=id`. `artifact=id` is an image that Packer named as
    /// its result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced: Option<Vec<String>>,
}
