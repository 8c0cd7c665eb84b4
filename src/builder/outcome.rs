//! The outcome of a step: made by `act`, read by the report. Pure.

use super::step::Dependency;
use crate::api::{Class, Region};
use crate::aws::Orphans;

/// The outcome of the step.
#[derive(Debug)]
pub enum Outcome {
    /// No step was due.
    Nothing,
    Did(Done),
    Failed(ActError),
}

#[derive(Debug)]
pub enum Done {
    AsPlanned,
    /// The ID of the run that was started.
    Started(String),
    /// The images are tagged. Contains why EC2 refused to tag their snapshots.
    SnapshotsRefused(String),
    Swept(Box<Swept>),
}

/// What a garbage collection removed, and in which regions other than the given ones it found something.
#[derive(Debug, Default)]
pub struct Swept {
    pub found: Orphans,
    pub elsewhere: Vec<Region>,
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ActError {
    pub dependency: Dependency,
    pub class: Class,
    pub message: String,
}
