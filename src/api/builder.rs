//! `PackerBuilder`: the operator's fields with their names and meaning, and our new, optional ones.
//!
//! Everything is `Option`: defaults live in `builder::spec`, so none is ever persisted by an API
//! server, and odd objects still decode.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::notifier::Notifier;

mod pod;
mod status;

pub use pod::*;
pub use status::*;

/// Builds machine images with Packer when they are missing, expired or out of date.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "ami.opsy.dev",
    version = "v1alpha1",
    kind = "PackerBuilder",
    doc = "PackerBuilder keeps a machine image built from a Packer template: it builds a new image when there is none, or when the image has expired, its base image is outdated, or its template or spec has changed.",
    plural = "packerbuilders",
    singular = "packerbuilder",
    shortname = "pb",
    namespaced,
    status = "PackerBuilderStatus",
    derive = "PartialEq",
    derive = "Default",
    printcolumn = r#"{"name":"State","type":"string","jsonPath":".status.state"}"#,
    printcolumn = r#"{"name":"Base Image","type":"string","jsonPath":".status.lastRunBaseImageID"}"#,
    printcolumn = r#"{"name":"Built Image","type":"string","jsonPath":".status.lastRunBuiltImageID"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name":"Suspended","type":"string","jsonPath":".status.conditions[?(@.type=='Suspended')].status"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PackerBuilderSpec {
    /// How to find the base image: EC2 DescribeImages filters. Without it no base image is looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_filters: Option<Vec<AmiFilter>>,
    /// Name of the EKS cluster the images are for; becomes the tag `cluster-name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// AWS region the image is built in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// When images expire, how often to look, and how long a build may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_outs: Option<BuilderTimeOuts>,
    /// How a build in a cluster gets the repository, if not from the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_sync: Option<GitSync>,
    /// Who hears of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifier: Option<Notifier>,
    /// What Packer runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<BuilderRun>,
    /// Start nothing new while true; what runs is finished. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// What makes a good image out of date: Expired, BaseImage, Template, Spec. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild_on: Option<Vec<String>>,
    /// How failures are repeated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,
}

/// One EC2 filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AmiFilter {
    /// Name of the filter, as EC2 DescribeImages knows it; also `owner-id` and `owner-alias`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Any of these matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<String>>,
}

/// Times of a builder. Durations are a number and a unit: s, m (minutes), h, d, w, y.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuilderTimeOuts {
    /// Age at which an image is rebuilt, like `30d`. Absent means never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// How often to look, like `1h`. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_timer: Option<String>,
    /// How long one build may run. Default 2h, at most 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// How long a build may wait to start. Default 10m, at most 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
}

/// git-sync, for builds in a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSync {
    /// Image of git-sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Name of the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Secret with git-sync's credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// What Packer runs, and where its template is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuilderRun {
    /// Repository of the template. Absent means the repository this manifest is in.
    #[serde(default, rename = "repoURL", skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    /// Branch of `repoURL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Folder of the template in the repository. A build gets everything in it, and a change in it rebuilds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Container image with Packer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The operator's word for the kind of image; kept, and without effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_type: Option<String>,
    /// Secret whose keys become Packer's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// ServiceAccount of a build in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_service_account_name: Option<String>,
    /// Packer's own log in the run's log. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<bool>,
    /// Packer's commands. They run as init, validate, build; missing ones are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<Command>>,
    /// Packer's working directory: `Repository` is the repository's root, `Template` the folder of the template,
    /// for templates that name their scripts from there (`scripts/x.sh`, `../shared`); it is `dir` where `workingDir`
    /// names a template below `dir`. Paths in `args` are relative to it; `dir`, `workingDir`, `variablesFile` and
    /// `inputs` are relative to the root always. Default Repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_from: Option<String>,
    /// Globs of further files of the repository that the template reads: a build gets them, and a change in them
    /// rebuilds. Without `inputs`, a template at the repository's root is rebuilt by a change in any file but
    /// Opsy's own and those that `.opsyignore` names; with them, by the Packer files at the root and these alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    /// How the build's pod runs in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,
}

/// One of Packer's commands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// init, validate or build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_command: Option<String>,
    /// Further arguments, one each. Variables files in them (`-var-file=x`) count as `variablesFile` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Packer variables, passed with -var to validate and build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<BTreeMap<String, String>>,
    /// Variables file, relative to the repository root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables_file: Option<String>,
    /// The template argument: a folder or file, relative to the repository root. Default `dir`, else the root.
    /// With a file, a build gets the rest of its folder too, but a change rebuilds only in the file itself, in
    /// `dir` and in `inputs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// cleanup, abort, ask or run-cleanup-provisioner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<String>,
    /// Passed to Packer as -color.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<bool>,
    /// Let Packer tell all it does (PACKER_LOG=1). Its own -debug would wait for a person. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<bool>,
}

/// How failed builds are repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailurePolicy {
    /// Failures of the template with the same inputs after which a person must act. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub limit: Option<i32>,
    /// Pause after the first failure; doubles each time. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// Longest pause. Default 6h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<String>,
}
