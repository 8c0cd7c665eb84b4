//! The interface between an engine and the runner: the request (`request.json`) and the report
//! (`result.json`, or the termination message of a pod).
//!
//! An engine writes the request; only the runner writes progress and result. A request contains no
//! secrets: the runner receives them as environment variables, and `secrets` only names them for masking.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The request. This and the following constants are names in the directory of a run.
pub const REQUEST: &str = "request.json";
/// The runner holds an exclusive lock on this file as long as it is alive.
pub const LOCK: &str = "lock";
/// The directory with the repository's files at one commit. Packer runs in it or in a directory below it.
pub const WORK: &str = "work";
/// What Packer is doing now, for display only; replaced atomically.
pub const PROGRESS: &str = "progress.json";
/// The report; written once, atomically.
pub const RESULT: &str = "result.json";
/// Packer's human-readable output, with secrets masked.
pub const LOG: &str = "packer.log";
/// An engine creates this file to ask the runner to stop the build, as an alternative to SIGTERM.
pub const STOP: &str = "stop";
/// Written and synced to disk before `packer build` starts. A directory that contains it never starts a build again.
pub const STARTED: &str = "started";
/// The archive of the repository's files at one commit, if the engine delivers them as an archive.
pub const FILES: &str = "files.tar.gz";
/// The resources that Packer has announced so far, one JSON object per line: all that is known about a lost run.
pub const ANNOUNCED: &str = "announced.jsonl";

/// One Packer run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The Packer executable: a path, or a name looked up in PATH.
    pub packer: String,
    /// Commands in the order in which they run. The first failure ends the run. The images of several builds are
    /// reported in one result.
    pub steps: Vec<Step>,
    /// Additional environment variables, without secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Network settings of the agent as environment variables, without secrets. Each one applies only if the
    /// environment contains no variable of this name, compared case-insensitively.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, String>,
    /// Names of environment variables whose values are masked in everything that is written.
    /// Values shorter than 4 bytes are not masked: that would make the output unreadable and protect nothing.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// A directory with one file per secret, such as a mounted Secret. The contents of the files are masked as well.
    #[serde(default)]
    pub secrets_dir: Option<String>,
    /// Seconds that the whole run may take before it is stopped.
    pub limit_seconds: u64,
    /// Seconds that Packer has to clean up after SIGTERM before its process group is killed.
    pub grace_seconds: u64,
    /// A directory of Packer plugins that all runs share, if any.
    #[serde(default)]
    pub plugins: Option<String>,
}

/// One Packer command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub command: Command,
    /// The arguments after the subcommand; the template is the last one. The runner adds the flags for
    /// machine-readable output itself and drops `-color`, `-machine-readable` and `-timestamp-ui`.
    pub args: Vec<String>,
    /// The directory below `work` in which Packer runs; absent means `work` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
}

/// Packer's subcommands, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    Init,
    Validate,
    Build,
}

/// What Packer is doing now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// `init`, `validate` or `build`.
    pub command: String,
    /// Packer's last human-readable line, for example `Waiting for AMI to become ready...`.
    pub line: String,
    /// Unix seconds.
    pub at: i64,
    /// Seconds since the start of the run, measured by a monotonic clock. Older runners do not set it.
    #[serde(default)]
    pub elapsed: u64,
}

/// The result of a run. Its JSON is smaller than 4 KiB, the limit of a termination message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub outcome: Outcome,
    /// The command that ended the run.
    #[serde(default)]
    pub command: Option<Command>,
    /// Packer's exit code; absent if Packer was killed or never started.
    #[serde(default)]
    pub exit: Option<i32>,
    /// Images that Packer named as artifacts. If the run did not succeed, they are orphans to garbage-collect.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// AWS IDs and names that Packer announced (instance, key pair, security group, image, region). They are
    /// read from human-readable text, which a provisioner can imitate while it runs. Before garbage collection
    /// touches a resource, the resource's own tags or creation time must confirm it.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// The position of the command among the commands of its kind, if there are several.
    #[serde(default)]
    pub place: Option<Place>,
    /// Packer's name of the build that failed first or was stopped.
    #[serde(default)]
    pub build: Option<String>,
    /// Packer's errors, the cause first, truncated to fit.
    #[serde(default)]
    pub errors: Vec<String>,
    /// The last lines that the provisioners of this build printed, newest last, truncated to fit.
    #[serde(default)]
    pub output: Vec<String>,
    /// Unix seconds.
    pub started_at: i64,
    pub ended_at: i64,
}

/// The position of a command among the commands of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Counted from 1.
    pub number: usize,
    /// How many commands of this kind there are.
    pub of: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every command exited with 0, and Packer named at least one image ID.
    Succeeded,
    /// Packer ran and exited with another code, or was killed by a signal.
    Failed,
    /// Packer exited with 0 without naming an image ID.
    NoArtifact,
    TimedOut,
    Cancelled,
    /// Packer could not be started: it is absent or not executable, or the request is invalid.
    NotStarted,
    /// The runner was killed while Packer was building, so the result of the build is unknown.
    /// The next runner of the directory writes this after it has killed what was left of the build.
    Lost,
}

/// One image in one region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Artifact {
    pub region: String,
    pub image: String,
    /// Packer's name of the build, for example `amazon-ebs.node`.
    pub build: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    pub kind: ResourceKind,
    /// An ID (`i-…`, `ami-…`) or a name (`packer_<uuid>`), as Packer printed it.
    pub id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKind {
    Instance,
    KeyPair,
    SecurityGroup,
    Image,
    Volume,
    /// A region to which images are copied.
    Region,
}
