//! What a plan may say: done, wait, act or stalled, and why. Made by `plan`, done by `act`, told by
//! `report`.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request::Resource;

use super::images::Located;
use super::spec::Problem;
use super::time;
use crate::api::builder::{RunRecord, SweepRecord};
use crate::api::{BuildId, Class, Key, Owner, Region, RunName};
use crate::aws::{Announced, Made, Tags};
use crate::engine::{RunRequest, Stop};
use crate::git::templates::TemplateQuery;

/// What a pass will do.
#[derive(Clone, Debug)]
pub enum Plan {
    /// All is as Git says.
    Done {
        images: Vec<Located>,
        expires: Option<Timestamp>,
        look: Duration,
    },
    Wait {
        on: On,
        look: Duration,
    },
    Act {
        step: Step,
        why: String,
    },
    /// A person must act.
    Stalled {
        why: Stuck,
        look: Duration,
    },
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq)]
pub enum On {
    Run {
        run: RunName,
        why: String,
        state: RunWord,
        /// What a run that has not started waits for, where that can be told.
        waits_for: Option<String>,
    },
    /// Something could not be read.
    Unknown {
        what: What,
        class: Class,
        message: String,
    },
    ImagePending {
        images: Vec<String>,
    },
    BaseImageNotFound,
    Suspended,
    /// Its manifest is gone from Git, and it is not pruned yet.
    NotInGit,
    /// Its manifest is in this file, which cannot be read.
    ManifestBroken {
        file: String,
    },
    Deleted,
    /// A person cancelled the last build of these inputs.
    Cancelled {
        build: String,
    },
    Backoff {
        until: Timestamp,
        failures: usize,
        limit: usize,
        /// The last failure was none of the template.
        transient: bool,
        error: Option<String>,
    },
    Slot {
        limit: usize,
        /// A slot is free, and a builder of this namespace takes it.
        goes_first: Option<String>,
    },
    /// One slot is free, and it is for the other namespaces.
    LastSlot {
        limit: usize,
    },
    /// The agent is about to end: the next one builds.
    Ending {
        /// The last build failed.
        failed: bool,
    },
    /// Other builders look at their images first.
    Fleet {
        others: Vec<Key>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunWord {
    Pending,
    Running,
    Stopping,
}

/// What could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Runs,
    Aws,
    Template,
}

/// Why a person must act.
#[derive(Clone, Debug, PartialEq)]
pub enum Stuck {
    Invalid(Vec<Problem>),
    AccountNotAllowed {
        account: String,
    },
    Unreadable {
        what: What,
        message: String,
    },
    RetryLimit {
        failures: usize,
        error: Option<String>,
    },
    /// Another try would end alike.
    NoUse {
        error: Option<String>,
    },
    /// The images that status names have the tags of another owner.
    AnotherOwner {
        images: Vec<String>,
    },
    /// No image that this agent recorded is there, but a newer one that it did not record is.
    Unrecorded {
        images: Vec<String>,
    },
    MassBuildRefused {
        lost: usize,
        builders: usize,
    },
}

/// One effect, with all that is needed to bring it about.
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
    /// A finished image that nobody needs any more.
    Supersede(Tagging),
    Sweep(Box<Sweep>),
    /// What came of a run goes into status before the run is forgotten.
    Record(Box<Record>),
    Forget(RunName),
}

/// One call that sets tags in one region.
#[derive(Clone, Debug, PartialEq)]
pub struct Tagging {
    pub region: Region,
    pub images: Vec<String>,
    /// Their snapshots, which get the tags as well where they were made with the images.
    pub snapshots: Vec<String>,
    pub made: Made,
    pub tags: Tags,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The builder's own first, then those that the run touched.
    pub regions: Vec<Region>,
    /// The owner that the run put on what it made.
    pub owner: Owner,
    /// Where these know nothing of the run, all others as well.
    pub everywhere: bool,
    pub build: BuildId,
    pub announced: Announced,
    /// How often it was looked already.
    pub looks: usize,
    /// How often in a row AWS refused it.
    pub refused: usize,
    /// Images and snapshots that are results: never swept, whatever their tags say.
    pub keep: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub name: RunName,
    pub run: RunRecord,
    /// What Packer announced.
    pub resources: Vec<Resource>,
    pub sweep: SweepRecord,
    /// The images that now count, where the run made any.
    pub images: Option<Vec<Located>>,
    /// They are what Git asks for: nothing is left to do but to tidy up.
    pub good: bool,
}

/// Why a build starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    Missing,
    Expired {
        since: Timestamp,
    },
    /// EC2 has the image as deprecated: refreshers do not take it any more.
    Deprecated {
        since: Timestamp,
    },
    BaseImage {
        from: String,
        to: String,
    },
    Template {
        from: String,
        to: String,
    },
    Spec,
    Retry {
        attempt: usize,
        of: Box<Why>,
    },
}

impl Why {
    /// The word of it, as status and runs carry it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Missing => "Missing",
            Self::Expired { .. } => "Expired",
            Self::Deprecated { .. } => "Deprecated",
            Self::BaseImage { .. } => "BaseImage",
            Self::Template { .. } => "Template",
            Self::Spec => "Spec",
            Self::Retry { .. } => "Retry",
        }
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no active image"),
            Self::Expired { since } => write!(f, "the image expired at {}", time::to_second(*since)),
            Self::Deprecated { since } => {
                write!(f, "EC2 has the image as deprecated since {}", time::to_second(*since))
            }
            Self::BaseImage { from, to } => write!(f, "the base image {to} is newer than {from}"),
            Self::Template { .. } => f.write_str("the template changed"),
            Self::Spec => f.write_str("the builder's commands or region changed"),
            Self::Retry { attempt, of } => write!(f, "attempt {attempt}: {of}"),
        }
    }
}
