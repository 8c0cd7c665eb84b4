//! A rollout is in progress: continues every group that is being moved, starts the next one, and ends the rollout when
//! nothing is left. `begin` started it. Pure.

use std::time::Duration;

use super::super::memory::{GroupEntry, GroupUpdate, Rollout, SETTLING};
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::observed::{MissingFact, Need};
use super::super::refusal::RefusalKind;
use super::super::step::{Delay, Explanation, Plan};
use super::super::survey::{GroupDrift, Survey, survey};
use super::end::{end_or_pause, is_replaced, newer_target, stopping};
use super::finish::finish;
use super::group_move::{GroupMove, GroupPlan, MoveResult, new_entry};
use super::preflight::{self, Checked};
use super::soak_checks::{self, Checked as SoakChecked};
use super::start::start;
use super::turn::{NextGroup, next_group};
use super::undone::record_undone;
use super::{PlanInput, kinds, record, rollback};
use crate::api::reasons;
use crate::api::time::between;
use crate::api::words::RolloutResult;
use crate::api::{Class, ImageId};

/// What prevents progress now, collected over all groups of the rollout.
#[derive(Default)]
struct Obstacles {
    waits: Vec<Explanation>,
    stalls: Vec<Explanation>,
    blocked: Vec<BlockedGroup>,
    unreadable: Option<(Class, String)>,
    delays: Vec<Delay>,
}

struct BlockedGroup {
    kind: RefusalKind,
    why: Explanation,
    /// Until the call is retried.
    pause: Duration,
}

pub fn advance(input: PlanInput<'_>, rollout: &Rollout) -> Result<Plan, MissingFact> {
    if input.retry_requested
        && let Some(retried) = rollout.retried()
    {
        return Ok(record(retried, "retrying what failed or was refused".to_owned()));
    }
    let survey = survey(input.spec, Some(&rollout.target), Some(rollout), input.observed.groups()?);
    let survey = survey.keeping(&input.kept(), Some(rollout));
    if input.observed.partial {
        // Only groups whose update is awaited were read. While they update, nothing else has to be known.
        return await_updates(input, rollout, &survey)?.ok_or(MissingFact::NotRead(Need::OtherGroups));
    }
    if let Some(plan) = record_undone(input, rollout, &survey)? {
        return Ok(plan);
    }
    if is_replaced(input, rollout, &survey)? {
        return Ok(finish(input, rollout, RolloutResult::Replaced, None));
    }
    let stopping = stopping(input, rollout);
    let mut obstacles = Obstacles::default();
    for (name, entry) in rollout.moving() {
        let group_move = GroupMove { input, rollout, name, entry };
        match next_for_group(group_move, &survey, stopping.is_some())? {
            GroupPlan::Plan(plan) => return Ok(*plan),
            GroupPlan::Wait(why) => obstacles.waits.push(why),
            GroupPlan::Blocked { kind, why, pause } => {
                let why = explain_blocked(&survey, name, kind, why);
                obstacles.blocked.push(BlockedGroup { kind, why, pause });
            }
            GroupPlan::Unknown(class, why) => obstacles.unreadable = Some((class, why)),
            GroupPlan::Delayed(delay) => obstacles.delays.push(delay),
            GroupPlan::Later => {}
        }
    }
    if stopping.is_none()
        && rollout.rollback.is_none()
        && input.spec.paused.is_none()
        && let Some(plan) = check_and_start(input, rollout, &survey, &mut obstacles)?
    {
        return Ok(plan);
    }
    match obstacles.into_plan(input, rollout)? {
        Some(plan) => Ok(plan),
        None => end_or_pause(input, rollout, &survey, stopping),
    }
}

/// The plan if all groups that were read are still updating; `None` if more has to be read.
fn await_updates(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
) -> Result<Option<Plan>, MissingFact> {
    let mut obstacles = Obstacles::default();
    for (name, entry) in rollout.moving().filter(|(_, entry)| !entry.is_blocked()) {
        let Some((group, _)) = survey.group(name) else { return Ok(None) };
        match in_transition(GroupMove { input, rollout, name, entry }, group)? {
            Some(GroupPlan::Plan(plan)) => return Ok(Some(*plan)),
            Some(GroupPlan::Wait(why)) => obstacles.waits.push(why),
            _ => return Ok(None),
        }
    }
    Ok(obstacles.into_plan(input, rollout).ok().flatten())
}

/// What the move of one group needs next. The rules in this function are the same for every kind of group.
fn next_for_group(
    group_move: GroupMove<'_>,
    survey: &Survey<'_>,
    stopping: bool,
) -> Result<GroupPlan, MissingFact> {
    let Some((group, drift)) = survey.group(group_move.name) else {
        return group_move.end(MoveResult::Dropped("the node group no longer exists".to_owned()));
    };
    if let Some(plan) = kinds::of_another_kind(group_move, group)? {
        return Ok(plan);
    }
    if let Some(plan) = in_transition(group_move, group)? {
        return Ok(plan);
    }
    if let Some(error) = &group_move.entry.failure {
        return group_move.end(MoveResult::Failed(error.clone()));
    }
    if let Some(plan) = kinds::result(group_move, group)? {
        return Ok(plan);
    }
    match drift {
        _ if stopping => drop_unstarted(group_move, group),
        GroupDrift::Excluded => group_move.end(MoveResult::Dropped("it is excluded".to_owned())),
        GroupDrift::Unknown(class, why) => Ok(GroupPlan::Unknown(*class, why.clone())),
        GroupDrift::Unsupported(why) | GroupDrift::Unusable(why) => {
            group_move.end(MoveResult::Dropped(why.clone()))
        }
        GroupDrift::Current | GroupDrift::Drifted(_) if group_move.input.spec.paused.is_some() => {
            Ok(GroupPlan::Later)
        }
        GroupDrift::Current | GroupDrift::Drifted(_) => start(group_move, group, survey),
    }
}

/// The rollout is ending, and no update of the group is known. One may have started without a response.
fn drop_unstarted(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<GroupPlan, MissingFact> {
    let entry = group_move.entry;
    if let Some(starting) = entry.update.starting {
        if let Some(id) = kinds::lost_update(group_move, group, starting)? {
            let update = GroupUpdate { id: Some(id), ..entry.update.clone() };
            return Ok(group_move.record(GroupEntry { update, ..entry.clone() }));
        }
        if between(starting.at, group_move.input.now) < SETTLING {
            return Ok(group_move.wait("may be starting its update"));
        }
    }
    group_move.end(MoveResult::Dropped("the rollout is ending".to_owned()))
}

/// What to wait for while the group cannot be changed.
fn in_transition(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<Option<GroupPlan>, MissingFact> {
    Ok(match &group.lifecycle {
        Lifecycle::Updating => Some(kinds::updating(group_move, group)?),
        Lifecycle::Creating => Some(group_move.wait("is being created")),
        Lifecycle::Deleting => Some(group_move.wait("is being deleted")),
        _ => None,
    })
}

/// The plan that starts the next group, unless a check of the wave that soaks fails.
fn check_and_start(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
    obstacles: &mut Obstacles,
) -> Result<Option<Plan>, MissingFact> {
    match soak_checks::check(input, rollout, survey)? {
        SoakChecked::Failed(plan) => Ok(Some(*plan)),
        SoakChecked::Delay(delay) => {
            obstacles.delays.push(delay);
            Ok(None)
        }
        SoakChecked::Good { again } => {
            let plan = start_next_group(input, rollout, survey, obstacles)?;
            for delay in &mut obstacles.delays {
                delay.until = delay.until.into_iter().chain(again).min();
            }
            Ok(plan)
        }
    }
}

/// The plan that starts the next group, or ends a rollout that cannot start one. Everything else is an obstacle.
fn start_next_group(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
    obstacles: &mut Obstacles,
) -> Result<Option<Plan>, MissingFact> {
    // The rollout does not end while a group is still being moved.
    let none_awaited = obstacles.waits.is_empty();
    match next_group(input, survey, &rollout.target, Some(rollout))? {
        NextGroup::Start { group, image } => return begin_group(input, rollout, group, image).map(Some),
        NextGroup::TargetUnavailable(why) if none_awaited => {
            return rollback::fail(input, rollout, survey, Some(why)).map(Some);
        }
        NextGroup::Stalled(_) if none_awaited && newer_target(input, rollout).is_some() => {
            return Ok(Some(finish(input, rollout, RolloutResult::Replaced, None)));
        }
        NextGroup::Wait(why) => obstacles.waits.push(why),
        NextGroup::Delay(delay) => obstacles.delays.push(delay),
        NextGroup::Stalled(why) => obstacles.stalls.push(why),
        NextGroup::TargetUnavailable(_) | NextGroup::NoneLeft => {}
    }
    Ok(None)
}

/// Records that the move of a group begins, before anything is done to the group.
fn begin_group(
    input: PlanInput<'_>,
    rollout: &Rollout,
    group: &NodeGroup,
    image: ImageId,
) -> Result<Plan, MissingFact> {
    input.observed.require_fresh_group(&group.name)?;
    let Some(in_force) = group.launch_template.clone() else {
        let why = format!("{} no longer has a launch template", group.name);
        return Err(MissingFact::Unreadable(Class::Invalid, why));
    };
    let (nodes, warning) = match preflight::check(input, rollout, group)? {
        Checked::Done(nodes, warning) => (nodes, warning),
        Checked::Wait(why) => return Ok(input.busy(why)),
    };
    let entry = GroupEntry { nodes, ..new_entry(input, Some(rollout), group, in_force, image) };
    let why = Explanation::new(reasons::ROLLING_OUT, format!("moving {} to {}", group.name, entry.image));
    Ok(Plan::Record { rollout: rollout.with_group(&group.name, entry), ended: None, why, warning })
}

/// A DEGRADED group that EKS does not update needs a person, however often the call is retried.
fn explain_blocked(survey: &Survey<'_>, name: &str, kind: RefusalKind, why: Explanation) -> Explanation {
    match survey.group(name) {
        Some((group, _)) if group.is_degraded() && kind == RefusalKind::NotNow => {
            let health = group.health.join("; ");
            let health = if health.is_empty() { health } else { format!(" ({health})") };
            let message = format!(
                "node group {name}{health} is DEGRADED, and EKS does not update it: {}; repair or exclude it",
                why.message
            );
            Explanation::new(reasons::NODE_GROUP_DEGRADED, message)
        }
        _ => why,
    }
}

impl Obstacles {
    /// The plan that reports the most relevant obstacle; `None` if there is none.
    fn into_plan(mut self, input: PlanInput<'_>, rollout: &Rollout) -> Result<Option<Plan>, MissingFact> {
        if let Some(mut first) = self.waits.into_iter().next() {
            if let Some(newer) = newer_target(input, rollout) {
                first.message.push_str(&format!("; {newer} is next"));
            }
            return Ok(Some(input.busy(first)));
        }
        if let Some((class, why)) = self.unreadable {
            return Err(MissingFact::Unreadable(class, why));
        }
        if let Some(why) = self.stalls.into_iter().next() {
            return Ok(Some(input.stalled(why)));
        }
        let look = self.blocked.iter().map(|group| group.pause).min();
        // What a person can resolve comes first.
        self.blocked.sort_by_key(|group| match group.kind {
            RefusalKind::Denied => 0,
            RefusalKind::Uncertain => 1,
            RefusalKind::NotNow => 2,
        });
        if let Some((group, look)) = self.blocked.into_iter().next().zip(look) {
            return Ok(Some(blocked_plan(input, group, look)));
        }
        Ok(self.delays.into_iter().next().map(|mut delay| {
            if let Some(newer) = newer_target(input, rollout) {
                delay.why.message.push_str(&format!("; {newer} is next"));
            }
            input.delayed(delay)
        }))
    }
}

/// All that is left was refused and is retried later.
fn blocked_plan(input: PlanInput<'_>, group: BlockedGroup, look: Duration) -> Plan {
    let BlockedGroup { kind, why, .. } = group;
    match (kind, why.reason) {
        (_, reasons::NODE_GROUP_DEGRADED) => Plan::Stalled { why, look: look.min(input.spec.timer) },
        (RefusalKind::NotNow, _) => Plan::Wait { why, look, busy: true },
        (RefusalKind::Denied | RefusalKind::Uncertain, _) => Plan::Blocked { why, look },
    }
}
