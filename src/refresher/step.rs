//! What a plan decides: done, wait, stalled, blocked, record, read, or one step, each with its reason. Made by `plan`,
//! executed by `act`, put into words by `summary`. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::memory::Rollout;
use super::node_group::Ready;
use super::observed::Need;
use crate::api::reasons;
use crate::api::refresher::RolloutRecord;
use crate::api::{Class, ClientToken, ImageId, TemplateId};
use crate::aws::autoscaling::{LaunchSource, RefreshPreferences};
use crate::aws::eks::MaxUnavailable;
use crate::aws::{Disk, TemplateVersion};

/// What to do next. `look` is the time until the next reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All groups run the target.
    Done { why: Explanation, look: Duration },
    /// Nothing can be done now. `busy`: something is in progress that ends by itself.
    Wait { why: Explanation, look: Duration, busy: bool },
    /// A person must act.
    Stalled { why: Explanation, look: Duration },
    /// AWS refuses the calls that are left; they are retried.
    Blocked { why: Explanation, look: Duration },
    /// Write this to status first; the next reconcile acts on it. The warning becomes an Event, once.
    Record { rollout: Rollout, ended: Option<RolloutRecord>, why: Explanation, warning: Option<Explanation> },
    /// Execute this step.
    Act { step: Step, why: Explanation },
    /// Read this and plan again.
    Read(Need),
    /// A read failed.
    Unknown(Class, String),
}

/// One effect, with everything that is needed to execute it. The name of a step that applies to one kind of node group
/// contains the kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Sets how many nodes of a managed group may be unavailable during an update.
    ConfigureManaged {
        ready: Ready,
        group: String,
        max: MaxUnavailable,
        /// The update strategy in force, which the call would reset otherwise.
        strategy: Option<String>,
        token: ClientToken,
    },
    /// Copies a launch template version with another image.
    CreateVersion {
        group: String,
        source: TemplateVersion,
        image: ImageId,
        /// All disks, if EC2 would not copy some of them; else empty.
        disks: Vec<Disk>,
        description: String,
        token: ClientToken,
    },
    /// Starts the EKS update of a managed group to a launch template version.
    StartManagedUpdate {
        ready: Ready,
        group: String,
        version: TemplateVersion,
        force: bool,
        token: ClientToken,
    },
    /// Sets a self-managed group to the number of the version that it launches already.
    PinGroup {
        ready: Ready,
        /// The group that is moved. It may be another one on the same launch template.
        group: String,
        pinned: String,
        source: LaunchSource,
        version: TemplateVersion,
    },
    /// Starts the instance refresh of a self-managed group to a launch template version.
    StartRefresh {
        ready: Ready,
        group: String,
        /// What the group launches now, of which everything but the version is kept.
        source: LaunchSource,
        version: TemplateVersion,
        preferences: RefreshPreferences,
    },
    /// Cancels the instance refresh of a self-managed group.
    CancelRefresh { group: String },
    /// Lets EC2 Auto Scaling roll back the instance refresh of a self-managed group.
    RollBackRefresh { group: String },
    /// Deletes launch template versions that nothing uses; `after` is the rollout to record then.
    PruneVersions { group: String, template: TemplateId, versions: Vec<i64>, after: Rollout },
}

/// Reason and message of a condition or an Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// One CamelCase word.
    pub reason: &'static str,
    /// A sentence for people.
    pub message: String,
}

/// Why no group may start now, although one is left to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    pub why: Explanation,
    /// When this ends by itself.
    pub until: Option<Timestamp>,
}

impl Explanation {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The message, if it explains a `Delay`.
    pub fn delay(&self) -> Option<&str> {
        let reasons = [
            reasons::SOAKING,
            reasons::WAITING_FOR_APPROVAL,
            reasons::WAITING_FOR_WINDOW,
            reasons::FROZEN,
            reasons::PREFLIGHT_FAILED,
            reasons::WAITING_FOR_BUILD,
        ];
        reasons.contains(&self.reason).then_some(self.message.as_str())
    }
}
