//! What a reconcile reports, before it is written as a status: the reason, phase and notes of a plan or of the outcome
//! of a step, and what is to be remembered. Made for `report`, read by `status`. Pure.

mod refused;

use std::time::Duration;

use super::memory::{GroupEntry, GroupUpdate, Rollout, Starting};
use super::outcome::Outcome;
use super::plan::PlanInput;
use super::step::{Explanation, Plan};
use crate::api::Class;
use crate::api::conditions::Phase;
use crate::api::reasons;
use crate::api::refresher::RolloutRecord;
use crate::api::words::NodeGroupKind;
use crate::aws::{Update, UpdateStatus};
use crate::engine::{Note, ObjectHealth};
use refused::{not_pruned, not_turned_back, refused, template_full};

pub struct Summary {
    pub why: Explanation,
    pub phase: Phase,
    pub health: ObjectHealth,
    /// The time until the next reconcile.
    pub look: Duration,
    /// A failure that the engine backs off from.
    pub failed: Option<(Class, String)>,
    /// The rollout to remember, if it changed.
    pub rollout: Option<Rollout>,
    /// The rollout that ended, for the history.
    pub ended: Option<RolloutRecord>,
    pub notes: Vec<Note>,
}

impl Summary {
    pub fn new(why: Explanation, phase: Phase, health: ObjectHealth, look: Duration) -> Self {
        Self { why, phase, health, look, failed: None, rollout: None, ended: None, notes: Vec::new() }
    }

    fn busy(why: Explanation, look: Duration) -> Self {
        Self::new(why, Phase::Reconciling, ObjectHealth::Busy, look)
    }

    fn failing(class: Class, message: String, look: Duration) -> Self {
        let why = Explanation::new(failure_reason(class), message.clone());
        let summary = Self::new(why, Phase::NotReady, ObjectHealth::Failing, look);
        Self { failed: Some((class, message)), ..summary }
    }

    fn with_note(mut self, reason: &'static str, message: String, warning: bool) -> Self {
        self.notes.push(Note { reason: reason.into(), message, warning });
        self
    }
}

/// The reason for a call that failed.
fn failure_reason(class: Class) -> &'static str {
    match class {
        Class::Transient { .. } => reasons::AWS_UNAVAILABLE,
        Class::Denied => reasons::AWS_DENIED,
        Class::Conflict => reasons::WAITING_FOR_NODE_GROUP,
        Class::NotFound => reasons::AWS_NOT_FOUND,
        Class::Invalid => reasons::AWS_REFUSED,
    }
}

/// A plan without an effect. `timer` is the interval between reconciles of the spec.
pub fn of_plan(plan: Plan, timer: Duration) -> Summary {
    match plan {
        Plan::Done { why, look } => Summary::new(why, Phase::Ready, ObjectHealth::Settled, look),
        Plan::Wait { why, look, busy: true } => Summary::busy(why, look),
        Plan::Wait { why, look, busy: false } => {
            Summary::new(why, Phase::NotReady, ObjectHealth::Waiting, look)
        }
        Plan::Stalled { why, look } => Summary::new(why, Phase::Stalled, ObjectHealth::Stalled, look),
        Plan::Blocked { why, look } => {
            Summary::new(why, Phase::NotReady, ObjectHealth::Failing, look.min(timer))
        }
        Plan::Record { rollout, ended, why, warning } => {
            let summary = recorded(rollout, ended, why);
            match warning {
                Some(Explanation { reason, message }) => summary.with_note(reason, message, true),
                None => summary,
            }
        }
        Plan::Unknown(class, why) => Summary::failing(class, why, timer),
        // The driver reads and acts before it reports, so these mean that the next reconcile continues.
        Plan::Read(_) => {
            Summary::busy(Explanation::new(reasons::ROLLING_OUT, "reading from AWS"), Duration::ZERO)
        }
        Plan::Act { why, .. } => Summary::busy(why, Duration::ZERO),
    }
}

fn recorded(rollout: Rollout, ended: Option<RolloutRecord>, why: Explanation) -> Summary {
    Summary { rollout: Some(rollout), ended, ..Summary::busy(why, Duration::ZERO) }
}

/// A step that was executed, or that failed.
pub fn of_outcome(input: PlanInput<'_>, why: Explanation, outcome: Outcome) -> Summary {
    match outcome {
        Outcome::ManagedConfigured { group, result: Ok(update) } => configured(input, &group, why, &update),
        Outcome::VersionCreated { group, result: Ok(number), .. } => {
            version_created(input, &group, why, number)
        }
        Outcome::ManagedUpdateStarted { group, version, result: Ok(update) } => {
            update_started(input, &group, why, &version, &update.id)
        }
        Outcome::RefreshStarted { group, version, result: Ok(id) } => {
            update_started(input, &group, why, &version, &id)
        }
        Outcome::GroupPinned { result: Ok(()), .. } => {
            let message = why.message.clone();
            Summary::busy(why, Duration::ZERO).with_note(reasons::NODE_GROUP_PINNED, message, false)
        }
        Outcome::RefreshTurnedBack { result: Ok(()), .. } => {
            let message = why.message.clone();
            let look = input.rollout_look();
            Summary::busy(why, look).with_note(reasons::UPDATE_TURNED_BACK, message, true)
        }
        Outcome::VersionsPruned { after, result: Ok(kept) } => pruned(after, why, kept),
        Outcome::ManagedConfigured { group, result: Err(error) }
        | Outcome::ManagedUpdateStarted { group, result: Err(error), .. }
        | Outcome::GroupPinned { group, result: Err(error) }
        | Outcome::RefreshStarted { group, result: Err(error), .. } => refused(input, &group, error),
        Outcome::RefreshTurnedBack { group, result: Err(error) } => not_turned_back(input, &group, error),
        Outcome::VersionCreated { group, template, result: Err(error) } => {
            refused(input, &group, template_full(error, &template))
        }
        Outcome::VersionsPruned { after, result: Err(error) } => not_pruned(input, after, error),
    }
}

fn configured(input: PlanInput<'_>, group: &str, why: Explanation, update: &Update) -> Summary {
    let message = why.message.clone();
    let summary = Summary::busy(why, input.rollout_look());
    if !matches!(update.status, UpdateStatus::Failed | UpdateStatus::Cancelled) {
        return summary.with_note(reasons::UPDATE_STARTED, message, false);
    }
    let failure = format!("maxUnavailable could not be set: {}", update.errors.join("; "));
    let with_failure = |entry: &GroupEntry| GroupEntry { failure: Some(failure.clone()), ..entry.clone() };
    Summary { rollout: changed(input, group, with_failure), look: Duration::ZERO, ..summary }
}

fn version_created(input: PlanInput<'_>, group: &str, why: Explanation, number: i64) -> Summary {
    let message = why.message.clone();
    let with_version = |entry: &GroupEntry| {
        // The version may not be listed at once: the wait for that begins now.
        let starting = Some(Starting { version: number, at: input.now });
        let update = GroupUpdate { starting, ..entry.update.clone() };
        GroupEntry { new_version: Some(number), update, refusal: None, ..entry.clone() }
    };
    let rollout = changed(input, group, with_version);
    Summary { rollout, ..Summary::busy(why, Duration::ZERO) }.with_note(reasons::VERSION_MADE, message, false)
}

fn update_started(input: PlanInput<'_>, group: &str, why: Explanation, version: &str, id: &str) -> Summary {
    let with_update = |entry: &GroupEntry| GroupEntry {
        update: GroupUpdate { id: Some(id.to_owned()), ..entry.update.clone() },
        new_version: version.parse().ok(),
        refusal: None,
        ..entry.clone()
    };
    let kind = input.memory.rollout.as_ref().and_then(|rollout| Some(rollout.groups.get(group)?.kind));
    let what = if kind == Some(NodeGroupKind::SelfManaged) { "instance refresh" } else { "EKS update" };
    let message = format!("{group}: waiting for {what} {id}");
    let rollout = changed(input, group, with_update);
    Summary { rollout, ..Summary::busy(why, input.rollout_look()) }.with_note(
        reasons::WAITING,
        message,
        false,
    )
}

/// `kept` are the versions that EC2 did not delete.
fn pruned(after: Rollout, why: Explanation, kept: Vec<(i64, String)>) -> Summary {
    let summary = recorded(after, None, why);
    kept.into_iter().fold(summary, |summary, (version, why)| {
        let message = format!("launch template version {version} could not be deleted: {why}");
        summary.with_note(reasons::VERSION_KEPT, message, true)
    })
}

/// The rollout with the entry of one group changed.
fn changed(input: PlanInput<'_>, group: &str, change: impl Fn(&GroupEntry) -> GroupEntry) -> Option<Rollout> {
    let rollout = input.memory.rollout.as_ref()?;
    rollout.groups.get(group).map(|entry| rollout.with_group(group, change(entry)))
}
