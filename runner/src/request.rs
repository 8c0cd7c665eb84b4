//! The wire between an engine and the runner: what to run (`request.json`) and what came of it
//! (`result.json`, or a pod's termination message).
//!
//! An engine writes the request, the runner alone writes progress and result. Secrets are not in
//! here: they reach the runner as environment, and `secrets` only names them for masking.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// File names inside a run's folder.
pub const REQUEST: &str = "request.json";
/// The runner holds an exclusive lock on this file for as long as it lives: liveness is the lock.
pub const LOCK: &str = "lock";
/// The repository's files at one commit, inside the run's folder. Packer works in it, or in a folder below it.
pub const WORK: &str = "work";
/// What Packer is doing now; replaced atomically, for people only.
pub const PROGRESS: &str = "progress.json";
/// The outcome; replaced atomically, written once.
pub const RESULT: &str = "result.json";
/// Packer's output as a person would read it, secrets masked.
pub const LOG: &str = "packer.log";
/// An engine creates this file to ask the runner to stop the build (beside SIGTERM).
pub const STOP: &str = "stop";
/// Written, and on disk, before `packer build` starts: a folder that has it builds no more.
pub const STARTED: &str = "started";
/// The repository's files at one commit, packed, where an engine hands them over so.
pub const FILES: &str = "files.tar.gz";
/// The resources Packer announced so far, one JSON object a line: what is known of a lost run.
pub const ANNOUNCED: &str = "announced.jsonl";

/// One Packer run: the commands in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The Packer executable: a path, or a name looked up in PATH.
    pub packer: String,
    /// Commands in the order to run them; the first failure ends the run. Images of several builds are one result.
    pub steps: Vec<Step>,
    /// Extra environment, no secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Environment of the agent's network, without secrets: each counts only where the environment has no variable of
    /// this name in any spelling.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub defaults: BTreeMap<String, String>,
    /// Names of environment variables whose values are masked in everything that is written.
    /// Values shorter than 4 bytes are not: masking them would shred every line and hide nothing.
    #[serde(default)]
    pub secrets: Vec<String>,
    /// A folder with a file for each secret, as a mounted Secret is: what the files hold is masked as well.
    #[serde(default)]
    pub secrets_dir: Option<String>,
    /// Seconds the whole run may take before it is stopped.
    pub limit_seconds: u64,
    /// Seconds Packer gets to clean up after SIGTERM before its group is killed.
    pub grace_seconds: u64,
    /// A folder of Packer plugins shared by all runs, if any.
    #[serde(default)]
    pub plugins: Option<String>,
}

/// One Packer command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    pub command: Command,
    /// Everything after the sub-command, template argument last. The runner adds the flags for
    /// machine-readable output itself and drops `-color`, `-machine-readable` and `-timestamp-ui`.
    pub args: Vec<String>,
    /// Folder below `work` that Packer runs in; absent means `work` itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
}

/// Packer's sub-commands, in the order they run.
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
    /// Packer's last line for people, e.g. `Waiting for AMI to become ready...`.
    pub line: String,
    /// Unix seconds.
    pub at: i64,
    /// Seconds since the runner began, by a monotonic clock. Absent from a runner of an older version.
    #[serde(default)]
    pub elapsed: u64,
}

/// What came of a run. Under 4 KiB as JSON, since a termination message holds no more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub outcome: Outcome,
    /// The command that ended the run.
    #[serde(default)]
    pub command: Option<Command>,
    /// Packer's exit code; absent when it was killed or never started.
    #[serde(default)]
    pub exit: Option<i32>,
    /// Images Packer named as artifacts; of a run that did not succeed they are leftovers.
    #[serde(default)]
    pub artifacts: Vec<Artifact>,
    /// AWS ids and names Packer announced (instance, key pair, security group, image, region). They are
    /// read from text for people, which a provisioner can imitate once it runs: before a sweep
    /// touches one, the resource's own tags or creation time must agree.
    #[serde(default)]
    pub resources: Vec<Resource>,
    /// Which command of its kind it was, where there are several.
    #[serde(default)]
    pub place: Option<Place>,
    /// Packer's name of the build that failed first, or that was stopped.
    #[serde(default)]
    pub build: Option<String>,
    /// Packer's error lines, the cause first, cut to fit.
    #[serde(default)]
    pub errors: Vec<String>,
    /// What that build's provisioners printed last, newest last, cut to fit.
    #[serde(default)]
    pub output: Vec<String>,
    /// Unix seconds.
    pub started_at: i64,
    pub ended_at: i64,
}

/// One of several commands of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// From 1.
    pub number: usize,
    pub of: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Each command exited with 0, and there is at least one image id.
    Succeeded,
    /// Packer ran and exited with something else, or was killed by a signal.
    Failed,
    /// Exit 0 without an image id.
    NoArtifact,
    TimedOut,
    Cancelled,
    /// Packer could not be started at all (absent, not executable, unreadable request).
    NotStarted,
    /// The runner was killed while Packer was building: what became of the build is not known.
    /// Written by the next runner of the folder, after it ended what was left of the build.
    Lost,
}

/// One image in one region, duplicates removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Artifact {
    pub region: String,
    pub image: String,
    /// Packer's name of the build, e.g. `amazon-ebs.node`.
    pub build: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    pub kind: ResourceKind,
    /// An id (`i-…`, `ami-…`) or a name (`packer_<uuid>`), as Packer printed it.
    pub id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKind {
    Instance,
    KeyPair,
    SecurityGroup,
    Image,
    Volume,
    /// A region that images are copied to.
    Region,
}
