//! The end of a rollout: why it starts no further group, when a newer target replaces it, and with which result it
//! ends. Called by `rollout`. Pure.

use super::super::choose::{TargetChoice, choose};
use super::super::memory::Rollout;
use super::super::node_group::NodeGroup;
use super::super::observed::MissingFact;
use super::super::step::Plan;
use super::super::survey::Survey;
use super::finish::finish;
use super::waves::Waves;
use super::{PlanInput, explain_pause, rollback};
use crate::api::words::RolloutResult;

/// Why a rollout starts no further group. It ends as soon as no group is moving any more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stopping {
    /// An update or a check failed.
    Failed,
    /// `ami` names another image.
    Replaced,
    /// `held` names an image of the target.
    Held,
}

pub fn stopping(input: PlanInput<'_>, rollout: &Rollout) -> Option<Stopping> {
    if rollout.has_failed() {
        return Some(Stopping::Failed);
    }
    let is_held = || {
        rollout.rollback.is_none()
            && input.spec.held.iter().any(|held| rollout.target.contains(Some(&held.image)))
    };
    match input.names_another_image(rollout) {
        true => Some(Stopping::Replaced),
        false => is_held().then_some(Stopping::Held),
    }
}

/// The target that the source offers now, if it differs from that of the rollout.
pub fn newer_target(input: PlanInput<'_>, rollout: &Rollout) -> Option<String> {
    let images = input.observed.source_images.known()?;
    match choose(input.spec, input.memory, images, input.owner, input.now) {
        TargetChoice::Chosen(target) if target != rollout.target => Some(target.to_string()),
        _ => None,
    }
}

/// Whether a newer target replaces the rollout: there is one, no update is in progress, and every remaining group is
/// refused or DEGRADED. The newer image may be the fix for these groups.
pub fn is_replaced(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
) -> Result<bool, MissingFact> {
    let paused = input.spec.paused.is_some();
    let none_updating = rollout.moving().all(|(_, entry)| entry.is_blocked());
    let is_rollback = rollout.rollback.is_some();
    if paused
        || is_rollback
        || !none_updating
        || newer_target(input, rollout).is_none()
        || survey.drifted().next().is_none()
    {
        return Ok(false);
    }
    let is_stuck = |group: &NodeGroup| {
        let entry = rollout.groups.get(&group.name);
        group.is_degraded() || entry.is_some_and(|entry| entry.is_blocked() || entry.failure.is_some())
    };
    // A drifted group that no image of the target fits does not count as remaining, and one of a later wave may not
    // start.
    let survey = survey.clone().with_images(input.spec, &rollout.target, input.observed)?;
    let waves = Waves { input, survey: &survey, target: &rollout.target, rollout: Some(rollout) };
    let current = waves.current()?;
    let is_current = |group: &&NodeGroup| Some(input.spec.policy.place_of(group)) == current;
    let left: Vec<&NodeGroup> = survey.drifted().filter(is_current).collect();
    Ok(!left.is_empty() && left.into_iter().all(is_stuck))
}

/// No group is moving any more: the rollout has ended, or it is paused halfway.
pub fn end_or_pause(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
    stopping: Option<Stopping>,
) -> Result<Plan, MissingFact> {
    if rollout.rollback.is_some() {
        return Ok(rollback::end_or_pause(input, rollout, stopping.is_some()));
    }
    let drifted = survey.drifted().count();
    match (stopping, &input.spec.paused) {
        (Some(Stopping::Failed), _) => return rollback::fail(input, rollout, survey, None),
        (Some(Stopping::Replaced), _) => return Ok(finish(input, rollout, RolloutResult::Replaced, None)),
        (Some(Stopping::Held), _) => return Ok(finish(input, rollout, RolloutResult::Held, None)),
        (None, Some(paused)) if drifted > 0 => return Ok(input.idle(explain_pause(paused, drifted))),
        (None, _) => {}
    }
    if let Some(unreadable) = survey.unreadable() {
        return Err(unreadable);
    }
    let was_moved_back =
        |group: &NodeGroup| rollout.groups.get(&group.name).is_some_and(|entry| entry.failure.is_none());
    Ok(if survey.drifted().any(was_moved_back) {
        finish(
            input,
            rollout,
            RolloutResult::Failed,
            Some("another writer moved a node group back".to_owned()),
        )
    } else if rollout.failures().next().is_some() {
        return rollback::fail(input, rollout, survey, None);
    } else {
        finish(input, rollout, RolloutResult::Done, None)
    })
}
