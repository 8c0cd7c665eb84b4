//! The outcome of a step: one variant per step, with what the report needs to record it, so that a result can never be
//! paired with another step. Made by `act`, read by `summary`. Pure.

use super::memory::Rollout;
use crate::api::{Class, TemplateId};
use crate::aws::Update;

/// What AWS returned for a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Of `Step::ConfigureManaged`.
    ManagedConfigured { group: String, result: Result<Update, ActError> },
    /// Of `Step::CreateVersion`: the number of the new version.
    VersionCreated { group: String, template: TemplateId, result: Result<i64, ActError> },
    /// Of `Step::StartManagedUpdate`; `version` is the number of the launch template version.
    ManagedUpdateStarted { group: String, version: String, result: Result<Update, ActError> },
    /// Of `Step::PinGroup`.
    GroupPinned { group: String, result: Result<(), ActError> },
    /// Of `Step::StartRefresh`: the ID of the refresh. `version` is the number of the launch template version.
    RefreshStarted { group: String, version: String, result: Result<String, ActError> },
    /// Of `Step::CancelRefresh` and `Step::RollBackRefresh`.
    RefreshTurnedBack { group: String, result: Result<(), ActError> },
    /// Of `Step::PruneVersions`: the versions that EC2 did not delete, each with its reason.
    VersionsPruned { after: Rollout, result: Result<Vec<(i64, String)>, ActError> },
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActError {
    pub class: Class,
    pub message: String,
    pub kind: ActErrorKind,
}

/// What the class does not tell and the report has to distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActErrorKind {
    Other,
    /// A refusal that is final once it has stayed the same for a while.
    Uncertain,
    /// The launch template version does not exist, or is not visible yet.
    MissingVersion,
    /// The launch template has reached its limit of versions.
    TemplateFull,
    /// AWS does not find what it returned a moment ago.
    NotVisible,
}
