//! The engine: where objects, status and secrets live (`Home`), where builds run (`Runs`), and the
//! one loop that drives both reconcilers.

pub mod board;
pub mod drive;
pub mod ended;
mod facts;
pub mod feed;
pub mod kubernetes;
pub mod objects;
mod packed;
pub mod standalone;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use opsy_runner::request as wire;

use crate::api::builder::PodSettings;
use crate::api::checks::{is_label, is_object_name};
use crate::api::files::TemplateFile;
use crate::api::{Class, CommitId, ImageId, Key, ObjectKey, Owner, Region, RunName};
use crate::manifest::Document;
pub use facts::RunFacts;

/// Where builds run. An exit wakes the builder; nobody polls inside a reconcile.
pub trait Runs: Send + Sync {
    /// Starts a run, and answers its id. Starting a run whose name exists is not an error and starts nothing. Its id
    /// and facts belong into the builder's status at once: an engine may read there which runs are its own.
    fn start(&self, request: RunRequest) -> BoxFuture<'_, Result<String, RunsError>>;
    /// All runs of a builder, live and ended, that were not forgotten.
    fn of<'a>(&'a self, builder: &'a Key) -> BoxFuture<'a, Result<Vec<Run>, RunsError>>;
    /// How many runs of any builder are live.
    fn live(&self) -> BoxFuture<'_, Result<usize, RunsError>>;
    /// Is a run of a builder of another namespace live? True where an engine need not tell namespaces apart.
    fn is_live_elsewhere(&self, _namespace: &str) -> bool {
        true
    }
    /// Asks a run to stop; it ends with `Failure::Cancelled` or `TimedOut` once cleaned up, or with
    /// `NotStarted` where it waited too long to start.
    fn stop<'a>(&'a self, run: &'a RunName, why: Stop) -> BoxFuture<'a, Result<(), RunsError>>;
    /// Drops an ended, harvested run.
    fn forget<'a>(&'a self, run: &'a RunName) -> BoxFuture<'a, Result<(), RunsError>>;
    /// The Secret of a builder with credentials for its template repository: one that its builds may use. `withheld` are
    /// those that the agent itself uses.
    fn secret<'a>(
        &'a self,
        secret: &'a Key,
        withheld: &'a BTreeSet<Key>,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, RunsError>>;
    /// What each live run is doing, for people; empty where an engine does not follow Packer's words.
    fn progress(&self) -> Vec<(Key, wire::Progress)>;
    /// Must the template's files be handed over, or does the run fetch them by itself?
    fn wants_files(&self, _request: &RunRequest) -> bool {
        true
    }
}

/// Why a live run is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Stop {
    /// A person wants it, by annotation or by deleting the builder.
    Cancelled,
    /// It is over its limit.
    Late,
}

/// What an engine could not do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct RunsError {
    pub class: Class,
    pub message: String,
}

/// Everything a run needs, complete: `act` and the engine make no choices.
#[derive(Clone, Debug)]
pub struct RunRequest {
    pub name: RunName,
    /// Whose run it is.
    pub owner: Owner,
    pub facts: RunFacts,
    /// Packer's commands in order.
    pub steps: Vec<wire::Step>,
    /// Environment without secrets (`PKR_VAR_…`, `PACKER_LOG`).
    pub env: BTreeMap<String, String>,
    /// Name of the secret in the builder's namespace whose keys become environment.
    pub secret: Option<String>,
    /// Packer's working directory.
    pub files: Arc<Vec<TemplateFile>>,
    /// How long the run may take, and may wait to start.
    pub limit: Duration,
    pub pending_limit: Duration,
    /// How it runs in a cluster.
    pub pod: PodSpec,
}

/// How a build runs in a cluster; an engine without pods has no use for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodSpec {
    /// Container image with Packer, where the builder names one.
    pub image: Option<String>,
    pub service_account: Option<String>,
    /// Secrets that the agent uses by `opsy.yaml`: no build is given one.
    pub withheld: BTreeSet<Key>,
    /// The builder's own settings, checked.
    pub settings: PodSettings,
    pub git_sync: Option<GitSyncRun>,
}

/// git-sync fetches the repository in the pod: nothing of the agent's credentials goes there.
#[derive(Clone, Debug, PartialEq)]
pub struct GitSyncRun {
    pub image: String,
    pub container: String,
    /// Secret with git-sync's credentials.
    pub secret: Option<String>,
    /// User name for a token of a Secret that has none.
    pub user: Option<String>,
    /// Where the repository is reached.
    pub repository: String,
}

impl GitSyncRun {
    /// Is the repository reached over SSH? `host:path` is such an address, too.
    pub fn is_ssh(&self) -> bool {
        match self.repository.split_once("://") {
            Some((scheme, _)) => scheme == "ssh",
            None => !self.repository.starts_with('/'),
        }
    }
}

/// A run as the engine sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Id of the Job or process: unlike its name, never used again.
    pub id: String,
    pub name: RunName,
    pub facts: RunFacts,
    pub state: RunState,
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// What Packer announced, as far as known.
    pub resources: Vec<wire::Resource>,
    pub said: Said,
}

impl Run {
    /// Images that Packer named.
    pub fn artifacts(&self) -> &[Artifact] {
        match &self.state {
            RunState::Succeeded(artifacts) => artifacts,
            _ => &self.said.artifacts,
        }
    }
}

/// What the runner reports of a run that ended, beside its outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    /// The command that ended the run, and which of its kind it was.
    pub command: Option<wire::Command>,
    pub place: Option<wire::Place>,
    /// Packer's name of the build that failed first, or that was stopped.
    pub build: Option<String>,
    /// Packer's errors, the cause first.
    pub errors: Vec<String>,
    /// What the provisioners of that build printed last.
    pub output: Vec<String>,
    /// Images that Packer named, whatever came of the run.
    pub artifacts: Vec<Artifact>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RunState {
    /// Not started yet, and what it waits for, where an engine can tell.
    Pending(Option<String>),
    /// What Packer is doing, for people.
    Running(wire::Progress),
    Stopping,
    /// At least one image.
    Succeeded(Vec<Artifact>),
    Failed(Failure),
    /// Ended without a result anybody can read.
    Lost(String),
}

impl RunState {
    /// Is the run over?
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
    /// Packer could not be started, or its files not be laid out.
    NotStarted(String),
    /// It was ended for lack of memory.
    OutOfMemory,
    /// The cluster ended it: a node was drained, ran short of something, or was taken away.
    Evicted(String),
}

/// Where objects and their status live.
pub trait Home: Send + Sync {
    /// Waits until it is known what there is; without that neither `known` nor `load` can be relied on.
    fn ready(&self) -> BoxFuture<'_, Result<(), HomeError>>;
    /// This owner's objects that are there, whether a manifest names them or not, and the file of the manifest that
    /// was applied last, where that is recorded: what may be pruned.
    fn known(&self, owner: &Owner) -> BTreeMap<ObjectKey, Option<String>>;
    /// Brings the objects in line with a commit. What cannot be done at once is this home's to try again;
    /// an error means that the commit was not taken over at all.
    fn load(&self, commit: Load) -> BoxFuture<'_, Result<(), HomeError>>;
    /// Writes the whole status of an object, if it is still the version that was looked at.
    fn write_status(&self, update: StatusUpdate) -> BoxFuture<'_, Result<(), HomeError>>;
    /// Lets a deleted object go: nothing of it runs any more.
    fn release<'a>(&'a self, object: &'a ObjectKey) -> BoxFuture<'a, Result<(), HomeError>>;
    /// Shows people a note where they look at the object. Never in the way of a pass.
    fn tell(&self, object: &ObjectKey, note: &Note);
    /// Keys and values of a secret, read anew each time. One that is not there (`NotFound`) or may not be
    /// read (`Denied`) is told with what to do.
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, String>, HomeError>>;
    /// What the agent itself is to remember beyond its end, as it was kept last.
    fn memory(&self) -> BoxFuture<'_, Result<Option<String>, HomeError>>;
    /// Keeps it: a few kilobytes, written seldom.
    fn keep(&self, memory: String) -> BoxFuture<'_, Result<(), HomeError>>;
    /// The commit that a person accepts by `opsy accept` as one to continue from, if any.
    fn accepted(&self) -> BoxFuture<'_, Result<Option<CommitId>, HomeError>>;
    /// Removes that request, unless it is for another commit now.
    fn remove_accepted(&self, commit: CommitId) -> BoxFuture<'_, Result<(), HomeError>>;
    /// Notes whose objects the agent works for, so that only a person changes that.
    fn note_owner<'a>(&'a self, owner: &'a Owner) -> BoxFuture<'a, Result<(), HomeError>>;
    /// Why an object is not as Git says, where that is so: reason and message of `Applied=False`.
    fn unapplied(&self, object: &ObjectKey) -> Option<(&'static str, String)>;
    /// Is what is known of the object nothing to work by: too old, or not what Git says? Then no pass acts by it.
    fn is_frozen(&self, _object: &ObjectKey) -> bool {
        false
    }
    /// Is this generation of the object what its document says? True where no document declares it.
    fn is_in_sync(&self, _object: &ObjectKey, _generation: Option<i64>) -> bool {
        true
    }
    /// Namespaces whose objects cannot be read, and why. They are not worked on meanwhile; all others are.
    fn unreadable(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
    /// Ends when objects can be read again that could not when the last commit was loaded: it is to be loaded again.
    fn returned(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

/// A commit as a home takes it over.
pub struct Load {
    /// Everything that is to be there.
    pub documents: Vec<Document>,
    /// Whose objects these are.
    pub owner: Owner,
    /// Objects to delete: the prune guard has let them go.
    pub remove: Vec<ObjectKey>,
    /// Objects Git no longer has that stay all the same.
    pub kept: Vec<ObjectKey>,
    /// Published status, for an object that has none.
    pub seed: Seed,
}

/// The published status of an object, if there is one.
pub type Seed = Box<dyn Fn(&ObjectKey) -> Option<serde_json::Value> + Send + Sync>;

/// A status to write: everything `drive` knows of it.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusUpdate {
    pub object: ObjectKey,
    /// The resourceVersion the pass looked at: a stale pass gets `Class::Conflict`.
    pub seen: Option<String>,
    pub status: serde_json::Value,
}

/// What a home could not do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct HomeError {
    pub class: Class,
    pub message: String,
}

impl HomeError {
    /// A name that leads nowhere, or elsewhere: an object is told to people before its spec is known to be good.
    fn unless_named(namespace: &str, name: &str) -> Result<(), Self> {
        if is_label(namespace) && is_object_name(name) {
            return Ok(());
        }
        Err(Self {
            class: Class::Invalid,
            message: format!("{namespace:?}/{name:?} is not the name of a secret"),
        })
    }
}

/// What one pass over an object found and did; `drive` writes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass<S> {
    /// The whole status; written if it differs from the object's.
    pub status: S,
    /// When to look again if nothing wakes it before.
    pub look: Duration,
    /// How the object stands, for `--once`, exit codes and people.
    pub standing: Standing,
    /// Other objects that should look again because of what was done.
    pub wake: Vec<Wake>,
    /// Words for people about what was done or found, once each.
    pub notes: Vec<Note>,
    /// A failure to back off from; `look` is then only the longest wait.
    pub failed: Option<(Class, String)>,
    /// The object is being deleted and nothing of it runs any more: it may go.
    pub release: bool,
}

/// How an object stands after a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// All is as Git says; nothing of ours is under way.
    Settled,
    /// Something of ours is under way, or the next pass will do something.
    Busy,
    /// Waits for a person or a time on purpose (suspended, disabled).
    Waiting,
    /// Failed; will be tried again later.
    Failing,
    /// A person must act.
    Stalled,
}

/// Whom to wake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    Object(ObjectKey),
    /// Every refresher: an image changed.
    Refreshers,
}

/// Something worth telling: goes to logs now, and to people's channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// One CamelCase word for machines.
    pub reason: Cow<'static, str>,
    pub message: String,
    pub warning: bool,
}
