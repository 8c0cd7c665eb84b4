//! What a plan decides: done, wait, act or stalled, each with its reason. Made by `plan`, executed by `act`, put into
//! words by `summary`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request::Resource;

use super::located::Located;
use crate::api::builder::{RunRecord, SweepRecord};
use crate::api::checks::Problem;
use crate::api::words::RunPhase;
use crate::api::{BuildId, Class, Key, Owner, Region, RunName};
use crate::aws::{Announced, Made, Tags};
use crate::engine::{RunRequest, RunState, Stop};
use crate::git::templates::TemplateQuery;

/// What to do next. `requeue` is the time until the next reconcile.
#[derive(Clone, Debug)]
pub enum Plan {
    /// Every lane has a good active image.
    Done {
        images: Vec<Located>,
        expires: Option<Timestamp>,
        requeue: Duration,
    },
    Wait {
        on: WaitReason,
        requeue: Duration,
    },
    Act {
        step: Step,
        why: String,
    },
    /// Needs attention: a person must act.
    Stalled {
        why: StallReason,
        requeue: Duration,
    },
}

/// Returns the phase of a live run.
pub fn phase(state: &RunState) -> RunPhase {
    match state {
        RunState::Pending(_) => RunPhase::Pending,
        RunState::Stopping => RunPhase::Stopping,
        _ => RunPhase::Running,
    }
}

impl Plan {
    pub fn act(step: Step, why: &str) -> Self {
        Self::Act { step, why: why.to_owned() }
    }
}

/// What a plan waits for.
#[derive(Clone, Debug, PartialEq)]
pub enum WaitReason {
    Run {
        run: RunName,
        why: String,
        state: RunPhase,
        /// What a run that has not started waits for, if the engine knows.
        waits_for: Option<String>,
    },
    /// Something could not be read.
    Unknown {
        dependency: Dependency,
        class: Class,
        message: String,
    },
    ImagePending {
        images: Vec<String>,
    },
    BaseImageNotFound,
    Suspended,
    /// Its manifest was removed from Git, and the object is not pruned yet.
    NotInGit,
    /// Its manifest is in this file, which cannot be read.
    ManifestBroken {
        file: String,
    },
    Deleted,
    /// A person canceled the last build of these inputs.
    Cancelled {
        build: String,
    },
    Backoff {
        until: Timestamp,
        failures: usize,
        limit: usize,
        /// The cause of the last failure is outside of the template.
        transient: bool,
        error: Option<String>,
    },
    Slot {
        limit: usize,
        /// The namespace that takes the free slot first; `None` if no slot is free.
        goes_first: Option<String>,
    },
    /// One slot is free, and it is reserved for other namespaces.
    LastSlot {
        limit: usize,
    },
    /// The agent is about to exit; the next one starts the build.
    Ending {
        /// The last build failed.
        failed: bool,
    },
    /// Other builders must check their images first.
    Fleet {
        others: Vec<Key>,
    },
}

/// What a read or a step depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    Runs,
    Aws,
    Template,
}

/// Why a person must act.
#[derive(Clone, Debug, PartialEq)]
pub enum StallReason {
    Invalid(Vec<Problem>),
    AccountNotAllowed {
        account: String,
    },
    Unreadable {
        dependency: Dependency,
        message: String,
    },
    RetryLimit {
        failures: usize,
        error: Option<String>,
    },
    /// Another build would fail in the same way.
    NoUse {
        error: Option<String>,
    },
    /// The images that status names have the tags of another owner.
    AnotherOwner {
        images: Vec<String>,
    },
    /// No image that this agent recorded exists, but a newer one that it did not record does.
    Unrecorded {
        images: Vec<String>,
    },
    MassBuildRefused {
        lost: usize,
        builders: usize,
    },
}

/// One effect, with everything that is needed to execute it.
#[derive(Clone, Debug)]
pub enum Step {
    Start {
        request: Box<RunRequest>,
        query: TemplateQuery,
    },
    Stop {
        run: RunName,
        why: Stop,
    },
    Activate(Tagging),
    Demote(Tagging),
    /// Marks finished images that are not needed any more, after those that are needed instead were marked as active
    /// again: EC2 may still show an image as active that was demoted a moment ago.
    Supersede {
        kept: Tagging,
        superseded: Tagging,
    },
    /// Garbage-collects the orphans of an ended run.
    Sweep(Box<Sweep>),
    /// Records the result of a run in status, before the run is forgotten.
    Record(Box<Record>),
    Forget(RunName),
}

impl Step {
    /// Returns whether the step depends on reads of AWS, which may be cached. The others depend only on the runs of the
    /// engine, which are never cached.
    pub fn needs_fresh_observation(&self) -> bool {
        match self {
            Self::Start { .. }
            | Self::Activate(_)
            | Self::Demote(_)
            | Self::Supersede { .. }
            | Self::Sweep(_) => true,
            Self::Stop { .. } | Self::Record(_) | Self::Forget(_) => false,
        }
    }

    /// Returns whether the step may change the images from which refreshers choose.
    pub fn changes_images(&self) -> bool {
        match self {
            Self::Activate(_) | Self::Demote(_) | Self::Supersede { .. } => true,
            Self::Record(record) => record.images.is_some(),
            Self::Start { .. } | Self::Stop { .. } | Self::Sweep(_) | Self::Forget(_) => false,
        }
    }
}

/// One call that sets tags in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagging {
    pub region: Region,
    pub images: Vec<String>,
    /// Their snapshots. Those that were created with the images get the tags too.
    pub snapshots: Vec<String>,
    pub made: Made,
    pub tags: Tags,
}

/// A garbage collection of the orphans of one build.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The run's own region first, then the others that it used.
    pub regions: Vec<Region>,
    /// The owner in the tags that the run set.
    pub owner: Owner,
    /// If these regions contain no trace of the run, all others are searched too.
    pub everywhere: bool,
    pub build: BuildId,
    pub announced: Announced,
    /// Number of checks made so far.
    pub checks: usize,
    /// Number of consecutive checks that AWS refused.
    pub refusals: usize,
    /// Images and snapshots that are results. They are never removed, whatever their tags are.
    pub spared: BTreeSet<String>,
}

/// The result of a run, to be recorded in status.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub name: RunName,
    pub run: RunRecord,
    /// The resources that Packer announced.
    pub resources: Vec<Resource>,
    pub sweep: SweepRecord,
    /// The images that count now, if the run was promoted.
    pub images: Option<Vec<Located>>,
    /// They are good: only housekeeping is left to do.
    pub good: bool,
}
