//! Moves a self-managed group: pins it to the launch template version in force, starts an instance refresh to the version
//! with the new image, and finds its result. Each effect is a step of its own, recorded before and found again after a
//! crash. Called by `kinds` for one group at a time. Pure.
//!
//! StartInstanceRefresh has no client token. A start whose response was lost is found among the refreshes of the group
//! by the version to which it brings the group; if it never arrived, it is repeated, which changes nothing on nodes that
//! match already.

use super::super::memory::{GroupEntry, GroupUpdate};
use super::super::node_group::{Lifecycle, NodeGroup, Ready, SelfManagedGroup};
use super::super::observed::MissingFact;
use super::super::progress::{failure, progress};
use super::super::step::{Explanation, Plan, Step};
use super::super::support::nodes_behind;
use super::group_move::{GroupMove, GroupPlan, MoveResult};
use super::new_version::{NextVersion, next_version, without_version};
use super::pin::pin;
use super::refresh::{expected_duration, preferences};
use super::{node_gate, stuck};
use crate::api::reasons;
use crate::api::time::{SKEW, between};
use crate::aws::TemplateVersion;
use crate::aws::autoscaling::{InstanceRefresh, RefreshStatus, TemplateRef, VersionRef};

/// A refresh of the group is in progress: waits, and reports once that it takes too long.
pub fn updating(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    own: &SelfManagedGroup,
) -> Result<GroupPlan, MissingFact> {
    let GroupMove { input, entry, .. } = group_move;
    let Some(active) = own.active() else { return Ok(group_move.wait("is being updated")) };
    if entry.update.id.is_none() && is_lost(group_move, active) {
        return Ok(group_move.record(found(entry, active)));
    }
    if entry.update.id.as_ref() != Some(&active.id) {
        return Ok(group_move.wait(&format!("waits for another writer: {}", progress(active))));
    }
    if let Some(cause) = group_move.unwanted().filter(|_| input.spec.paused.is_none())
        && let Some(plan) = turn_back(group_move, own, cause)
    {
        return Ok(plan);
    }
    if let Some(plan) = stuck::record_if_stuck(group_move, group)? {
        return Ok(GroupPlan::Plan(Box::new(plan)));
    }
    Ok(awaited(group_move, group, own, active))
}

/// The refresh of this move continues.
fn awaited(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    own: &SelfManagedGroup,
    active: &InstanceRefresh,
) -> GroupPlan {
    let GroupMove { input, rollout, name, entry } = group_move;
    let progress = format!("{}{}", progress(active), stuck::progress(entry));
    // In a rollback, all entries begin at the same time.
    let since = entry.update.starting.map_or(entry.started, |starting| starting.at);
    let expected = expected_duration(input.spec, group, own, rollout.rollback.is_some());
    if between(since, input.now) < expected || entry.update.overdue.is_some() {
        return group_move.wait(&format!("is being updated: {progress}"));
    }
    let message =
        format!("{name} has been updating since {since}, longer than expected for its size: {progress}");
    let hint = "check the instance refresh in the EC2 console, its new nodes, and lifecycle hooks that do not complete";
    let update = GroupUpdate { overdue: Some(input.now), ..entry.update.clone() };
    let rollout = rollout.with_group(name, GroupEntry { update, ..entry.clone() });
    let warning = Some(Explanation::new(reasons::UPDATE_OVERDUE, format!("{message}; {hint}")));
    let why = Explanation::new(reasons::ROLLING_OUT, message);
    GroupPlan::Plan(Box::new(Plan::Record { rollout, ended: None, why, warning }))
}

/// The group is at rest: the result of the move, if a refresh is known or the group runs the new image.
pub fn result(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    own: &SelfManagedGroup,
) -> Result<Option<GroupPlan>, MissingFact> {
    let GroupMove { input, entry, .. } = group_move;
    // Its refreshes are not known, which is no absence.
    if let Lifecycle::Unreadable(class, why) = &group.lifecycle {
        return Ok(Some(GroupPlan::Unknown(*class, why.clone())));
    }
    if let Some(id) = &entry.update.id {
        return result_of(group_move, group, own.refresh(id)).map(Some);
    }
    // The response to its start was lost, and the refresh has ended since.
    if let Some(lost) = lost(group_move, own) {
        return Ok(Some(group_move.record(found(entry, lost))));
    }
    // Another writer moved the group.
    let is_new = Some(&entry.image) != entry.previous_image.as_ref();
    let runs_it = group.image.as_ref() == Some(&entry.image) && nodes_behind(input.spec, group) == 0;
    if is_new && runs_it { node_gate::end_when_ready(group_move, group).map(Some) } else { Ok(None) }
}

fn result_of(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    refresh: Option<&InstanceRefresh>,
) -> Result<GroupPlan, MissingFact> {
    let GroupMove { input, name, entry, .. } = group_move;
    // A cached read may be older than the refresh.
    input.observed.require_fresh_group(name)?;
    let Some(refresh) = refresh else {
        // The group was deleted and recreated with the same name: nothing was started on this one.
        let update = GroupUpdate { id: None, starting: None, ..entry.update.clone() };
        let attempt = entry.attempt + 1;
        return Ok(group_move.record(GroupEntry { update, attempt, ..entry.clone() }));
    };
    match failure(refresh) {
        None => node_gate::end_when_ready(group_move, group),
        Some(why) => group_move.end(match group_move.unwanted() {
            Some(cause) if is_undone(group_move, refresh) => MoveResult::Dropped(cause.to_owned()),
            Some(cause) => MoveResult::Failed(format!("{why} ({cause})")),
            None => MoveResult::Failed(why),
        }),
    }
}

/// The next step towards the refresh: pin, launch template version, record of the start, start.
pub fn prepare(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    own: &SelfManagedGroup,
    ready: &Ready,
    in_force: &TemplateVersion,
) -> Result<GroupPlan, MissingFact> {
    if let Some(plan) = pin(group_move, group, own, ready, in_force)? {
        return Ok(plan);
    }
    // Only some nodes are behind: the version in force has the image already.
    let suitable = in_force.version.parse().ok();
    let suitable = suitable.filter(|_| group.image.as_ref() == Some(&group_move.entry.image));
    match next_version(group_move, group, in_force, suitable)? {
        NextVersion::Ready(number) => Ok(start_refresh(group_move, group, own, ready, number)),
        NextVersion::Missing(starting) => {
            let id = lost(group_move, own).map(|refresh| refresh.id.clone());
            Ok(without_version(group_move, starting, id))
        }
        NextVersion::Plan(plan) => Ok(plan),
    }
}

fn start_refresh(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    own: &SelfManagedGroup,
    ready: &Ready,
    number: i64,
) -> GroupPlan {
    let GroupMove { input, rollout, name, entry } = group_move;
    let template = entry.previous.template.clone();
    let message = format!("starting an instance refresh to version {number} of {template} ({})", entry.image);
    let step = Step::StartRefresh {
        ready: ready.clone(),
        group: name.to_owned(),
        source: own.source.clone(),
        version: TemplateVersion { template, version: number.to_string() },
        preferences: preferences(input.spec, group, own, rollout.rollback.is_some()),
    };
    group_move.act(step, message)
}

/// Turns the refresh of this move back while it is in progress: EC2 Auto Scaling replaces what it replaced. A group that
/// follows an alias cannot be rolled back, and EC2 Auto Scaling may refuse it: then the refresh is canceled. `None` if no
/// refresh of this move is in progress.
fn turn_back(group_move: GroupMove<'_>, own: &SelfManagedGroup, cause: &str) -> Option<GroupPlan> {
    let GroupMove { name, entry, .. } = group_move;
    let refresh = own.refresh(entry.update.id.as_ref()?).filter(|refresh| refresh.is_active())?;
    if matches!(refresh.status, RefreshStatus::Cancelling | RefreshStatus::RollbackInProgress) {
        return Some(group_move.wait(&format!("is being turned back: {}", progress(refresh))));
    }
    let group = name.to_owned();
    let is_refused = entry.refusal.is_some();
    let (step, what) = if own.follows_alias() || is_refused {
        (Step::CancelRefresh { group }, "canceling")
    } else {
        (Step::RollBackRefresh { group }, "rolling back")
    };
    Some(group_move.act(step, format!("{what} instance refresh {}, because {cause}", refresh.id)))
}

/// Whether nothing of the refresh is left that a rollback would have to undo. After a refresh that was canceled, nodes may
/// be mixed: the rollback of a failed rollout has to include the group, while a rollout to another image finds it anyway.
fn is_undone(group_move: GroupMove<'_>, refresh: &InstanceRefresh) -> bool {
    match refresh.status {
        RefreshStatus::RollbackSuccessful => true,
        RefreshStatus::Cancelled => group_move.input.names_another_image(group_move.rollout),
        _ => false,
    }
}

/// The refresh whose start was requested without a response, if it did start.
pub fn lost<'a>(group_move: GroupMove<'_>, own: &'a SelfManagedGroup) -> Option<&'a InstanceRefresh> {
    own.refreshes.iter().find(|refresh| is_lost(group_move, refresh))
}

fn is_lost(group_move: GroupMove<'_>, refresh: &InstanceRefresh) -> bool {
    let entry = group_move.entry;
    let Some(starting) = entry.update.starting else { return false };
    let version = VersionRef::Number(starting.version);
    let to = TemplateRef { template: entry.previous.template.clone(), version };
    let since = starting.at.checked_sub(SKEW).unwrap_or(starting.at);
    // A refresh that is Pending has no start. One that ended before belongs to an earlier attempt.
    refresh.to.as_ref() == Some(&to)
        && refresh.started.is_none_or(|started| started >= since)
        && refresh.ended.is_none_or(|ended| ended >= starting.at)
}

/// The entry with the refresh that was found.
fn found(entry: &GroupEntry, refresh: &InstanceRefresh) -> GroupEntry {
    let update = GroupUpdate { id: Some(refresh.id.clone()), ..entry.update.clone() };
    GroupEntry { update, refusal: None, ..entry.clone() }
}
