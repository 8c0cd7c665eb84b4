//! `PackerBuilder`: the operator's fields with their names and meaning, and new, optional ones.
//!
//! Every field is an `Option`: the defaults are in `builder::spec`, so that no API server persists them, and unusual
//! objects still decode.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filters::AmiFilter;
use super::notifier::Notifier;

mod pod;
mod status;

pub use pod::*;
pub use status::*;

/// Desired state of a machine image that is built with Packer.
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
    printcolumn = r#"{"name":"Suspended","type":"string","jsonPath":".status.conditions[?(@.type=='Suspended')].status"}"#,
    printcolumn = r#"{"name":"Message","type":"string","priority":1,"jsonPath":".status.conditions[?(@.type=='Ready')].message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PackerBuilderSpec {
    /// Filters of EC2 DescribeImages that select the base image: the newest image that matches all of them. If no
    /// filter selects an owner, images of the own account and of Amazon are searched. The ID of the base image and the
    /// region are passed to Packer as the variables `ami_id` and `region`. Without filters, no base image is looked up,
    /// and neither variable is passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ami_filters: Option<Vec<AmiFilter>>,
    /// Name of the EKS cluster that the images are for. It becomes the image tag `cluster-name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_name: Option<String>,
    /// AWS region in which the image is built, for example us-east-1. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Expiry of images, interval between reconciles, and time limits of builds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_outs: Option<BuilderTimeOuts>,
    /// Settings of git-sync, and the credentials for `builder.repoURL`. Without `gitSync.image`, the agent delivers the
    /// files of the template to the build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_sync: Option<GitSync>,
    /// Sinks that are notified of builds of this object. Secrets are read from the namespace of the object. Default:
    /// the notifier in `opsy.yaml`. An empty notifier turns notifications of this object off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifier: Option<Notifier>,
    /// Template and commands of the build, and how the build is executed. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builder: Option<BuilderRun>,
    /// If true, no new build is started; a build that is running is finished. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
    /// Reasons to replace an image: Expired, BaseImage, Template and Spec. Default all. An image that the operator
    /// built is replaced for a newer base image only if this field is set. A missing image is always built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild_on: Option<Vec<String>>,
    /// How failed builds are retried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_policy: Option<FailurePolicy>,
}

/// Times of a builder. A duration consists of a number and a unit: s, m (minutes), h, d, w or y, for example 72h or
/// 30d.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuilderTimeOuts {
    /// Age at which an image expires and is replaced, for example `30d`. If absent, images do not expire by age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
    /// Interval between reconciles, for example `1h`. Default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller_timer: Option<String>,
    /// Time limit of one build. A build that runs longer is stopped and fails. Default 2h, at most 24h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// Time that a build may wait to start. Default 10m, at most 1h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
}

/// Settings of git-sync, and credentials of the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GitSync {
    /// Container image of git-sync 4. If set, the pod of a build fetches the repository itself, at the commit of the
    /// build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Name of the git-sync container. Default git-sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the Secret that contains the credentials for `builder.repoURL`: the keys `username` and `token` (or
    /// `password`), `GITSYNC_USERNAME` and `GITSYNC_PASSWORD`, `ssh` and `known_hosts`, or those of a GitHub App.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Template and commands of a build, and how the build is executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BuilderRun {
    /// URL of the repository that contains the template, without credentials. Default: the repository that the agent
    /// reads.
    #[serde(default, rename = "repoURL", skip_serializing_if = "Option::is_none")]
    pub repo_url: Option<String>,
    /// Branch of the repository. Default: the default branch of `repoURL`, or the branch that the agent reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Directory of the template, relative to the repository root. A build receives all files in it, and a change in it
    /// triggers a rebuild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// Container image that contains Packer, for builds in a cluster. Default: the Packer image that the agent is
    /// configured with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Kind of image, as in manifests of the operator. It has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_type: Option<String>,
    /// Name of the Secret whose keys become environment variables of Packer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Name of the ServiceAccount of the pod of a build in a cluster. Default: the ServiceAccount `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_service_account_name: Option<String>,
    /// If true, the log of a build includes the detailed log of Packer (PACKER_LOG=1). Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<bool>,
    /// Packer commands. They run in the order init, validate, build, whatever their order in the list. Missing commands
    /// are added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<Command>>,
    /// Working directory of Packer. With `Repository`, it is the repository root. With `Template`, it is the directory
    /// of the template, for templates that refer to files relative to it (`scripts/x.sh`, `../shared`); if `workingDir`
    /// names a template below `dir`, it is `dir`. Paths in `args` are relative to the working directory, while `dir`,
    /// `workingDir`, `variablesFile` and `inputs` are always relative to the repository root. Default Repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_from: Option<String>,
    /// Globs of further files of the repository that the template reads. A build receives them, and a change in them
    /// triggers a rebuild. A template at the repository root without `inputs` is rebuilt after a change in any file
    /// except Opsy's own files and those that `.opsyignore` lists. With `inputs`, it is rebuilt only after a change in
    /// the Packer files at the root or in the inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inputs: Option<Vec<String>>,
    /// Settings of the pod of a build in a cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodSettings>,
}

/// Packer command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// Subcommand of Packer: init, validate or build. Required.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_command: Option<String>,
    /// Additional arguments, one per entry. Variables files among them (`-var-file=x`) trigger a rebuild, as
    /// `variablesFile` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Packer variables, which are passed to validate and build with -var.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables: Option<BTreeMap<String, String>>,
    /// Variables file, relative to the repository root. A change in it triggers a rebuild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variables_file: Option<String>,
    /// Template argument: a directory or file, relative to the repository root. Default: `dir`, else the repository
    /// root. If it is a file, a build also receives the other files of its directory, but of these only the file
    /// itself, `dir`, variables files and `inputs` trigger a rebuild.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// What Packer does when a build fails: cleanup, abort or run-cleanup-provisioner. `ask` is refused, because it
    /// needs a person at a terminal. Default: the default of Packer, which is cleanup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_error: Option<String>,
    /// Value that is passed to Packer with -color.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<bool>,
    /// If true, Packer writes its detailed log (PACKER_LOG=1). The option -debug of Packer is never passed, because it
    /// waits for a person. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub debug: Option<bool>,
}

/// How failed builds are retried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailurePolicy {
    /// Number of failures of the template with the same inputs after which no build is started until a person acts.
    /// Failures with a cause outside of the template do not count. From 1 to 10, default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10))]
    pub limit: Option<i32>,
    /// Delay before the first retry. It doubles with each further failure. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// Longest delay between retries. Default 6h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<String>,
}
