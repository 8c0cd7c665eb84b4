//! Writes a summary as the whole status of the object: target, node groups, rollout, history and conditions. The last
//! step of the report. Pure.

mod delays;
mod rows;
mod waves;

use jiff::Timestamp;

use super::choose::{TargetChoice, choose};
use super::memory::{Rollout, write_rollout};
use super::plan::PlanInput;
use super::plan::waves::Waves;
use super::spec::suspension;
use super::step::Explanation;
use super::summary::Summary;
use super::survey::survey;
use super::target::Target;
use crate::api::conditions::{self, set_phase};
use crate::api::refresher::{self as crd, RolloutRecord, RolloutWave};
use crate::api::{AMIRefresher, AMIRefresherStatus};
use crate::engine::Pass;
use rows::{count_drifted, newly_unsupported, rows};
use waves::WaveRows;

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
    let delay = summary.why.delay();
    summary.notes.extend(delays::newly_delayed(&before, &summary.why));
    if let Some(groups) = input.observed.groups.known() {
        let rows = rows(input, groups, target.as_ref(), rollout.as_ref(), &before, delay.is_some());
        summary.notes.extend(newly_unsupported(&before, &rows));
        status.drifted = target.as_ref().map(|_| count_drifted(&rows));
        status.node_groups = Some(rows);
    }
    if let Some(rollout) = &rollout {
        let waves = waves(input, rollout, &status, delay);
        status.rollout = Some(crd::Rollout { waves, ..write_rollout(rollout) });
        status.held = rollout.failed.write();
    }
    finish(object, status, summary, input.now)
}

/// The rows of the waves. Those of an ended rollout stay as they were at its end.
fn waves(
    input: PlanInput<'_>,
    rollout: &Rollout,
    status: &AMIRefresherStatus,
    delay: Option<&str>,
) -> Option<Vec<RolloutWave>> {
    let before = status.rollout.as_ref().filter(|before| before.id == rollout.id);
    let has_ended = before.is_some_and(|before| before.finished_at.is_some());
    let before = before.and_then(|before| before.waves.clone());
    let Some(groups) = input.observed.groups.known().filter(|_| !has_ended) else { return before };
    let survey = survey(input.spec, Some(&rollout.target), Some(rollout), groups);
    let waves = Waves { input, survey: &survey, target: &rollout.target, rollout: Some(rollout) };
    let groups = status.node_groups.as_deref().unwrap_or_default();
    let before = before.unwrap_or_default();
    WaveRows { input, waves, rollout, groups, delay, before: &before }.rows()
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
pub fn current_target(input: PlanInput<'_>, rollout: Option<&Rollout>) -> Option<Target> {
    if let Some(rollout) = rollout.filter(|rollout| rollout.is_open()) {
        return Some(rollout.target.clone());
    }
    let images = input.observed.source_images.known();
    match images.map(|images| choose(input.spec, input.memory, images, input.owner, input.now)) {
        Some(TargetChoice::Chosen(target)) => Some(target),
        Some(TargetChoice::NoneEligible { .. }) | None => input.memory.target.clone(),
    }
}
