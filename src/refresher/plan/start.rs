//! The start of a move, as far as it is the same for every kind of group: checks that the move is still right and may
//! begin now. Between `rollout`, which calls it for a group without a known update, and `kinds`, which prepares and
//! starts the update. Pure.

use super::super::fit::{Fit, FitQuery, find_fit, root_volume_too_small};
use super::super::memory::{GroupEntry, GroupUpdate};
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::observed::MissingFact;
use super::super::refusal::RefusalKind;
use super::super::step::Explanation;
use super::super::survey::Survey;
use super::group_move::{GroupMove, GroupPlan, MoveResult};
use super::waves::Waves;
use super::{kinds, preflight};
use crate::api::reasons;
use crate::aws::TemplateVersion;

/// No update is known to have been started: checks that the move is still right, then prepares and starts the update.
pub fn start(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    survey: &Survey<'_>,
) -> Result<GroupPlan, MissingFact> {
    let GroupMove { input, rollout, name, entry } = group_move;
    let Some(in_force) = &group.launch_template else {
        return group_move.end(MoveResult::Dropped("it has no launch template".to_owned()));
    };
    // A person, or another writer, moved the group elsewhere while it waited to be rolled back.
    let is_expected = |image| [entry.previous_image.as_ref(), Some(&entry.image)].contains(&image);
    if rollout.rollback.is_some() && !is_expected(group.image.as_ref()) {
        return group_move.end(MoveResult::Dropped("another image is in force".to_owned()));
    }
    // The version in force or the configuration changed since the entry was recorded.
    if *in_force != entry.previous || input.spec.fingerprint() != rollout.config {
        return Ok(group_move.record(rebase(group_move, group, in_force)?));
    }
    if let Some(blocked) = blocked(group_move) {
        return Ok(blocked);
    }
    if let Some(delayed) = delayed(group_move, group, survey)? {
        return Ok(delayed);
    }
    if rollout.rollback.is_none()
        && let Some(plan) = preflight::check_again(group_move, group)?
    {
        return Ok(plan);
    }
    input.observed.require_fresh_group(name)?;
    input.observed.require_fresh_template(&in_force.template)?;
    if let Some(result) = unfit(group_move, group, survey)? {
        return group_move.end(result);
    }
    // Another writer may have started an update after this group was selected.
    let is_updating = |other: &&NodeGroup| {
        let entry = rollout.groups.get(&other.name);
        let updating = entry.is_some_and(GroupEntry::is_updating);
        other.name != name && (other.lifecycle == Lifecycle::Updating || updating)
    };
    match &group.lifecycle {
        Lifecycle::Active(_) | Lifecycle::Degraded(_)
            if survey.supported().filter(is_updating).count()
                >= input.spec.policy.wave_of(group).max_parallel =>
        {
            Ok(group_move.wait("waits for another node group to finish updating"))
        }
        Lifecycle::Active(Some(ready)) | Lifecycle::Degraded(Some(ready)) => {
            kinds::prepare(group_move, group, ready, in_force)
        }
        _ => Ok(group_move.wait("is not ready yet")),
    }
}

/// How the move ends if the image does not fit the group any more.
fn unfit(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    survey: &Survey<'_>,
) -> Result<Option<MoveResult>, MissingFact> {
    let GroupMove { input, rollout, entry, .. } = group_move;
    let target = group_move.target();
    let batch = survey.images_to_read(&target);
    let (spec, observed) = (input.spec, input.observed);
    Ok(match find_fit(FitQuery { spec, group, target: &target, batch: &batch, observed })? {
        Fit::Fits(image) if image == entry.image => {
            root_volume_too_small(group, &image, observed)?.map(MoveResult::Failed)
        }
        Fit::Unfit(why) | Fit::TargetUnavailable(why) if rollout.rollback.is_some() => {
            Some(MoveResult::Failed(why))
        }
        Fit::Fits(_) => Some(MoveResult::Dropped("another image fits it now".to_owned())),
        Fit::Unfit(why) | Fit::TargetUnavailable(why) => Some(MoveResult::Dropped(why)),
    })
}

/// Since its turn came, something happened that does not let it start: a window closed, or an earlier wave got a group.
fn delayed(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    survey: &Survey<'_>,
) -> Result<Option<GroupPlan>, MissingFact> {
    let GroupMove { input, rollout, entry, .. } = group_move;
    if rollout.rollback.is_some() {
        return Ok(None);
    }
    let waves = Waves { input, survey, target: &rollout.target, rollout: Some(rollout) };
    let place = input.spec.policy.place_of(group);
    let is_later = waves.current()?.is_some_and(|current| current < place);
    let plan = match waves.delay(place) {
        _ if is_later => GroupPlan::Later,
        Some(delay) => GroupPlan::Delayed(delay),
        None => return Ok(None),
    };
    let Some(starting) = entry.update.starting else { return Ok(Some(plan)) };
    // The start was requested, and whether it succeeded is not known.
    let id = kinds::lost_update(group_move, group, starting)?;
    let starting = Some(starting).filter(|_| id.is_some());
    let update = GroupUpdate { id, starting, ..entry.update.clone() };
    Ok(Some(group_move.record(GroupEntry { update, ..entry.clone() })))
}

/// The entry for the version that is now in force. A version that was created from the former one would undo what was
/// changed, such as user data: another one is created, unless an update to it has started after all.
fn rebase(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    in_force: &TemplateVersion,
) -> Result<GroupEntry, MissingFact> {
    let entry = group_move.entry;
    let rebased = GroupEntry {
        previous: in_force.clone(),
        previous_image: group.image.clone(),
        refusal: None,
        ..entry.clone()
    };
    if *in_force == entry.previous {
        return Ok(rebased);
    }
    let starting = entry.update.starting;
    let started =
        starting.map(|starting| kinds::lost_update(group_move, group, starting)).transpose()?.flatten();
    if started.is_some() {
        let update = GroupUpdate { id: started, ..entry.update.clone() };
        return Ok(GroupEntry { update, ..rebased });
    }
    let update = GroupUpdate { starting: None, ..entry.update.clone() };
    // The version that a rollback returns to is older, and stays right.
    let new_version = entry.new_version.filter(|_| group_move.rollout.rollback.is_some());
    Ok(GroupEntry { update, new_version, ..rebased })
}

/// A refused call is not due to be retried yet.
fn blocked(group_move: GroupMove<'_>) -> Option<GroupPlan> {
    let refusal = group_move.entry.refusal.as_ref()?;
    let pause = refusal.time_to_retry(group_move.input.now);
    let reason = match refusal.kind {
        RefusalKind::Denied => reasons::AWS_DENIED,
        RefusalKind::NotNow => reasons::WAITING_FOR_NODE_GROUP,
        RefusalKind::Uncertain => reasons::UPDATE_REFUSED,
    };
    let why = Explanation::new(reason, format!("{}: {}", group_move.name, refusal.message));
    (!pause.is_zero()).then_some(GroupPlan::Blocked { kind: refusal.kind, why, pause })
}
