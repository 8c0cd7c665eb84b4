//! The contract for builds: how a run of Packer is requested, and what is known of it afterwards. The engines
//! implement it with Jobs and with processes, the tests of the builder with a simulation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use opsy_runner::request as wire;

use super::error::EngineError;
use super::facts::RunFacts;
use crate::api::builder::PodSettings;
use crate::api::files::TemplateFile;
use crate::api::{ImageId, Key, Owner, Region, RunName};

/// Where builds run. The end of a run wakes its builder, so no reconcile polls.
pub trait Runs: Send + Sync {
    /// Starts a run and returns its ID. If a run with this name exists, nothing is started and that is not an error.
    /// The caller records ID and facts in the builder's status at once: an engine may recognize its own runs by them.
    fn start(&self, request: RunRequest) -> BoxFuture<'_, Result<String, EngineError>>;
    /// All runs of a builder, live and ended, that are not forgotten.
    fn of<'a>(&'a self, builder: &'a Key) -> BoxFuture<'a, Result<Vec<Run>, EngineError>>;
    /// The number of live runs of all builders.
    fn live(&self) -> BoxFuture<'_, Result<usize, EngineError>>;
    /// Whether a builder of another namespace has a live run. True for an engine that does not separate namespaces.
    fn is_live_elsewhere(&self, _namespace: &str) -> bool {
        true
    }
    /// Asks a run to stop. After its cleanup it ends as `Failure::Cancelled` or `TimedOut`, or as `NotStarted` if it
    /// waited too long to start.
    fn stop<'a>(&'a self, run: &'a RunName, why: Stop) -> BoxFuture<'a, Result<(), EngineError>>;
    /// Forgets an ended run whose result is collected. The engine deletes it, or keeps the log of a failed one for a while.
    /// After a restart, an engine may return such a run once more.
    fn forget<'a>(&'a self, run: &'a RunName) -> BoxFuture<'a, Result<(), EngineError>>;
    /// Reads the Secret with a builder's credentials for its template repository, which must be one that its builds may
    /// use. `withheld` are the Secrets that the agent uses itself.
    fn secret<'a>(
        &'a self,
        secret: &'a Key,
        withheld: &'a BTreeSet<Key>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, EngineError>>;
    /// The progress of each live run, for people. Empty for an engine that does not read Packer's output.
    fn progress(&self) -> Vec<(Key, wire::Progress)>;
    /// Whether the request must carry the template's files, because the run does not fetch them itself.
    fn wants_files(&self, _request: &RunRequest) -> bool {
        true
    }
}

/// Why a live run is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stop {
    /// A person canceled it, by annotation or by deleting the builder.
    Cancelled,
    /// It is over its limit.
    Late,
}

/// Everything that a run needs. Neither `act` nor the engine makes further choices.
#[derive(Clone, Debug)]
pub struct RunRequest {
    pub name: RunName,
    /// The owner of the run.
    pub owner: Owner,
    pub facts: RunFacts,
    /// Packer's commands in order.
    pub steps: Vec<wire::Step>,
    /// Environment without secrets (`PKR_VAR_…`, `PACKER_LOG`).
    pub env: BTreeMap<String, String>,
    /// Name of the Secret in the builder's namespace whose keys become environment variables.
    pub secret: Option<String>,
    /// The files of Packer's working directory.
    pub files: Arc<Vec<TemplateFile>>,
    /// How long the run may take.
    pub limit: Duration,
    /// How long it may wait to start.
    pub pending_limit: Duration,
    /// How it runs in a cluster.
    pub pod: PodSpec,
}

/// How a build runs in a cluster. An engine without pods ignores it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// Container image with Packer, if the builder names one.
    pub image: Option<String>,
    pub service_account: Option<String>,
    /// Secrets that the agent itself uses according to `opsy.yaml`. No build receives one of them.
    pub withheld: BTreeSet<Key>,
    /// The builder's own settings, validated.
    pub settings: PodSettings,
    pub git_sync: Option<GitSyncRun>,
}

/// git-sync fetches the repository inside the pod, without any of the agent's credentials.
#[derive(Clone, Debug, PartialEq)]
pub struct GitSyncRun {
    pub image: String,
    pub container: String,
    /// Secret with git-sync's credentials.
    pub secret: Option<String>,
    /// User name to send with the token of a Secret that has no user name.
    pub user: Option<String>,
    /// Address of the repository.
    pub repository: String,
}

impl GitSyncRun {
    /// Whether the repository is reached over SSH. The short form `host:path` is an SSH address too.
    pub fn is_ssh(&self) -> bool {
        match self.repository.split_once("://") {
            Some((scheme, _)) => scheme == "ssh",
            None => !self.repository.starts_with('/'),
        }
    }
}

/// A run as the engine observes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// ID of the Job or process. Unlike the name, it is never reused.
    pub id: String,
    pub name: RunName,
    pub facts: RunFacts,
    pub state: RunState,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Resources that Packer announced, as far as known.
    pub resources: Vec<wire::Resource>,
    pub details: ReportDetails,
}

impl Run {
    /// The images that Packer named.
    pub fn artifacts(&self) -> &[Artifact] {
        match &self.state {
            RunState::Succeeded(artifacts) => artifacts,
            _ => &self.details.artifacts,
        }
    }
}

/// What the runner reports about an ended run in addition to its outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportDetails {
    /// The command that ended the run, and which of its kind it was.
    pub command: Option<wire::Command>,
    pub place: Option<wire::Place>,
    /// Packer's name of the build that failed first or was stopped.
    pub build: Option<String>,
    /// Packer's errors, the cause first.
    pub errors: Vec<String>,
    /// The last output of that build's provisioners.
    pub output: Vec<String>,
    /// The images that Packer named, whatever the outcome.
    pub artifacts: Vec<Artifact>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    /// Not started yet. Contains what it waits for, if the engine knows.
    Pending(Option<String>),
    /// Contains Packer's progress, for people.
    Running(wire::Progress),
    Stopping,
    /// Contains at least one image.
    Succeeded(Vec<Artifact>),
    Failed(Failure),
    /// Ended without a readable result.
    Lost(String),
}

impl RunState {
    /// Whether the run is over.
    pub fn ended(&self) -> bool {
        matches!(self, Self::Succeeded(_) | Self::Failed(_) | Self::Lost(_))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Artifact {
    pub region: Region,
    pub image: ImageId,
    /// Packer's name of the build that made it, such as `amazon-ebs.node`.
    pub build: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    Packer {
        exit: Option<i32>,
        errors: Vec<String>,
    },
    TimedOut,
    Cancelled,
    NoArtifact {
        errors: Vec<String>,
    },
    /// Packer could not be started, or its files could not be written.
    NotStarted(String),
    OutOfMemory,
    /// The cluster ended it: its node was drained, ran short of a resource, or was deleted.
    Evicted(String),
}
