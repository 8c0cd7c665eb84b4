//! Writes a summary as the whole status of the object: target, node groups, rollout, history and conditions. The last
//! step of the report. Pure.

mod rows;

use jiff::Timestamp;

use super::choose::{TargetChoice, choose};
use super::memory::{Rollout, write_rollout};
use super::plan::PlanInput;
use super::spec::suspension;
use super::step::Explanation;
use super::summary::Summary;
use super::target::Target;
use crate::api::conditions::{self, set_phase};
use crate::api::refresher::RolloutRecord;
use crate::api::{AMIRefresher, AMIRefresherStatus};
use crate::engine::Pass;
use rows::{count_drifted, newly_unsupported, rows};

/// Ended rollouts kept in status.
const HISTORY: usize = 10;

/// The message of the condition Suspended while updates that were started continue.
const NOTHING_NEW: &str = "no further update is started";

/// The status after a reconcile that read from AWS.
pub fn observed(
    object: &AMIRefresher,
    input: PlanInput<'_>,
    mut summary: Summary,
) -> Pass<AMIRefresherStatus> {
    let before = object.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let rollout = summary.rollout.take().or_else(|| input.memory.rollout.clone());
    let target = current_target(input, rollout.as_ref());
    status.target_ami = target.as_ref().map(Target::to_string);
    // If the node groups could not be read, the last rows stay.
    if let Some(groups) = input.observed.groups.known() {
        let rows = rows(input, groups, target.as_ref(), rollout.as_ref(), &before);
        summary.notes.extend(newly_unsupported(&before, &rows));
        status.drifted = target.as_ref().map(|_| count_drifted(&rows));
        status.node_groups = Some(rows);
    }
    if rollout.is_some() {
        status.rollout = rollout.as_ref().map(write_rollout);
    }
    finish(object, status, summary, input.now)
}

/// The status after a reconcile that read nothing: only conditions change.
pub fn unobserved(object: &AMIRefresher, summary: Summary, now: Timestamp) -> Pass<AMIRefresherStatus> {
    finish(object, object.status.clone().unwrap_or_default(), summary, now)
}

fn finish(
    object: &AMIRefresher,
    mut status: AMIRefresherStatus,
    summary: Summary,
    now: Timestamp,
) -> Pass<AMIRefresherStatus> {
    let generation = object.metadata.generation;
    let mut conditions = status.conditions.take().unwrap_or_default();
    let Explanation { reason, message } = summary.why;
    let is_suspended = reason == conditions::SUSPENDED;
    let suspended_message = if is_suspended { &message } else { NOTHING_NEW };
    conditions::set_suspended(&mut conditions, suspension(object), suspended_message, generation, now);
    // While it is suspended, Ready keeps the outcome of the last rollout.
    if is_suspended && conditions::has_outcome(&conditions) {
        conditions::confirm(&mut conditions, generation);
    } else {
        set_phase(&mut conditions, summary.phase, reason, &message, generation, now);
    }
    status.conditions = Some(conditions);
    status.observed_generation = generation;
    if let Some(record) = summary.ended {
        add_to_history(&mut status, record);
    }
    Pass {
        status,
        look: summary.look,
        health: summary.health,
        release: object.metadata.deletion_timestamp.is_some(),
        wake: Vec::new(),
        notes: summary.notes,
        failed: summary.failed,
    }
}

/// Replaces a record with the same ID: a reconcile that is repeated after a lost write records the rollout once.
fn add_to_history(status: &mut AMIRefresherStatus, record: RolloutRecord) {
    status.last_run = record.finished_at;
    status.last_run_status = Some(record.result.clone());
    let mut history = status.history.take().unwrap_or_default();
    history.retain(|old| old.id != record.id);
    history.insert(0, record);
    history.truncate(HISTORY);
    status.history = Some(history);
}

/// The target of the rollout in progress, else the chosen one, else the last one.
fn current_target(input: PlanInput<'_>, rollout: Option<&Rollout>) -> Option<Target> {
    if let Some(rollout) = rollout.filter(|rollout| rollout.is_open()) {
        return Some(rollout.target.clone());
    }
    let images = input.observed.source_images.known();
    match images.map(|images| choose(input.spec, input.memory, images, input.owner, input.now)) {
        Some(TargetChoice::Chosen(target)) => Some(target),
        Some(TargetChoice::NoneEligible { .. }) | None => input.memory.target.clone(),
    }
}
