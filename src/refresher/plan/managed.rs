//! Moves an EKS managed node group: sets its update configuration, starts the EKS update to the launch template version
//! with the new image, and finds its result. Each effect is a step of its own, recorded before and found again after a
//! crash. Called by `kinds` for one group at a time. Pure.

use std::time::Duration;

use super::super::causes;
use super::super::memory::{GroupEntry, GroupUpdate, Starting};
use super::super::node_group::{ManagedGroup, NodeGroup, Ready};
use super::super::observed::MissingFact;
use super::super::step::{Explanation, Plan, Step};
use super::group_move::{GroupMove, GroupPlan, MoveResult};
use super::new_version::{NextVersion, next_version, without_version};
use super::pin::pin_follower;
use super::{node_gate, stuck};
use crate::api::reasons;
use crate::api::time::{SKEW, between};
use crate::aws::{TemplateVersion, Update, UpdateStatus};

/// EKS certainly remembers a client token for this long. After that, an update whose response was lost is searched for
/// by its launch template version.
const TOKEN_TRUST: Duration = Duration::from_secs(600);
/// What every update may take to start new nodes.
const EXPECTED_UPDATE: Duration = Duration::from_secs(3600);
/// EKS drains a node for this long before it gives up.
const EXPECTED_DRAIN: Duration = Duration::from_secs(15 * 60);

/// The group is UPDATING: waits, and reports once that the update takes too long.
pub fn updating(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    managed: &ManagedGroup,
) -> Result<GroupPlan, MissingFact> {
    let GroupMove { input, rollout, name, entry } = group_move;
    let Some(id) = &entry.update.id else { return Ok(group_move.wait("is being updated")) };
    if let Some(plan) = stuck::record_if_stuck(group_move, group)? {
        return Ok(GroupPlan::Plan(Box::new(plan)));
    }
    let progress = [stuck::progress(entry), unwanted(group_move)].concat();
    // In a rollback, all entries begin at the same time.
    let since = entry.update.starting.map_or(entry.started, |starting| starting.at);
    let too_long =
        |than: &str| format!("has been updating since {since}, longer than expected{than} (update {id})");
    if entry.update.overdue.is_some() {
        return Ok(group_move.wait_with(&too_long(""), &progress));
    }
    if between(since, input.now) < expected_duration(group, managed) {
        return Ok(group_move.wait_with("is being updated", &progress));
    }
    let message = format!("{name} {}", too_long(" for its size"));
    let hint = "check the update in the EKS console, its new nodes, and pods that cannot be evicted";
    let update = GroupUpdate { overdue: Some(input.now), ..entry.update.clone() };
    let rollout = rollout.with_group(name, GroupEntry { update, ..entry.clone() });
    let warning = Some(Explanation::new(reasons::UPDATE_OVERDUE, format!("{message}: {hint}")));
    let why = Explanation::new(reasons::ROLLING_OUT, message);
    Ok(GroupPlan::Plan(Box::new(Plan::Record { rollout, ended: None, why, warning })))
}

/// EKS cancels no update of a node group, so that one that is not wanted any more goes on.
fn unwanted(group_move: GroupMove<'_>) -> String {
    match group_move.unwanted() {
        Some(cause) => format!("; {cause}, and EKS cannot cancel an update: it has to end first"),
        None => String::new(),
    }
}

/// How long the update of a group of this size may take.
fn expected_duration(group: &NodeGroup, managed: &ManagedGroup) -> Duration {
    let max = &managed.max_unavailable;
    let percentage = max.percentage.and_then(|percentage| u32::try_from(percentage).ok());
    let count = max.count.and_then(|count| u32::try_from(count).ok());
    let at_once = count.or(percentage.map(|percentage| group.desired * percentage / 100));
    let at_once = at_once.unwrap_or(1).max(1);
    EXPECTED_UPDATE + EXPECTED_DRAIN * group.desired.div_ceil(at_once)
}

/// The group is at rest: the result of the move, if an update is known or the group shows the new image.
pub fn result(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<Option<GroupPlan>, MissingFact> {
    // The group may show the new image although the update failed, so a known update comes first.
    if let Some(id) = &group_move.entry.update.id {
        return result_of_update(group_move, group, id).map(Some);
    }
    if !shows_new_image(group_move, group) {
        return Ok(None);
    }
    // No update is known: the response to its start was lost, or another writer moved the group.
    if let Some(starting) = group_move.entry.update.starting
        && let Some(id) = lost_update(group_move, starting)?
    {
        let update = GroupUpdate { id: Some(id), ..group_move.entry.update.clone() };
        return Ok(Some(group_move.record(GroupEntry { update, ..group_move.entry.clone() })));
    }
    node_gate::end_when_ready(group_move, group).map(Some)
}

fn result_of_update(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    id: &str,
) -> Result<GroupPlan, MissingFact> {
    let entry = group_move.entry;
    let Some(update) = group_move.input.observed.update(group_move.name, id)? else {
        // The group was deleted and recreated with the same name: nothing was started on this one.
        let update = GroupUpdate { id: None, starting: None, ..entry.update.clone() };
        let attempt = entry.attempt + 1;
        return Ok(group_move.record(GroupEntry { update, attempt, ..entry.clone() }));
    };
    let failed = |result: &str| {
        let errors = match update.errors.as_slice() {
            [] => "EKS reported no error".to_owned(),
            errors => errors.join("; "),
        };
        let mixed = match shows_new_image(group_move, group) {
            true => "; EKS shows the new version, so nodes may be mixed",
            false => "",
        };
        let cause = causes::explain(&update.errors, entry.nodes.blocked_by.as_deref());
        MoveResult::Failed(format!("update {id} {result}: {errors}{mixed}{cause}"))
    };
    match &update.status {
        UpdateStatus::InProgress => Ok(group_move.wait("is being updated")),
        UpdateStatus::Successful => node_gate::end_when_ready(group_move, group),
        UpdateStatus::Failed => group_move.end(failed("failed")),
        UpdateStatus::Cancelled => group_move.end(failed("was canceled")),
        UpdateStatus::Other(status) => group_move.end(failed(&format!("ended with status {status}"))),
    }
}

/// Whether the group shows the new image, and did not when the move began.
fn shows_new_image(group_move: GroupMove<'_>, group: &NodeGroup) -> bool {
    let new_image = Some(&group_move.entry.image);
    group.image.as_ref() == new_image && group_move.entry.previous_image.as_ref() != new_image
}

/// The next step towards the update: configuration, launch template version, record of the start, start.
pub fn prepare(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    managed: &ManagedGroup,
    ready: &Ready,
    in_force: &TemplateVersion,
) -> Result<GroupPlan, MissingFact> {
    let GroupMove { input, entry, .. } = group_move;
    let is_old = |starting: &Starting| between(starting.at, input.now) > TOKEN_TRUST;
    if let Some(starting) = entry.update.starting.filter(is_old) {
        // The start may have succeeded, and EKS may have forgotten its token: repeating it could start a second update.
        let id = lost_update(group_move, starting)?;
        let starting = Some(Starting { at: input.now, ..starting });
        let update = GroupUpdate { id, starting, ..entry.update.clone() };
        return Ok(group_move.record(GroupEntry { update, ..entry.clone() }));
    }
    if let Some(plan) = configure(group_move, managed, ready) {
        return Ok(plan);
    }
    if let Some(plan) = pin_follower(group_move, in_force)? {
        return Ok(plan);
    }
    match next_version(group_move, group, in_force, None)? {
        NextVersion::Ready(number) => Ok(start_update(group_move, ready, in_force, number)),
        NextVersion::Missing(starting) => {
            let id = lost_update(group_move, starting)?;
            Ok(without_version(group_move, starting, id))
        }
        NextVersion::Plan(plan) => Ok(plan),
    }
}

/// Sets `maxUnavailable` if it differs from the spec.
fn configure(group_move: GroupMove<'_>, managed: &ManagedGroup, ready: &Ready) -> Option<GroupPlan> {
    let wanted = group_move.input.spec.update.max_unavailable;
    let max = wanted.filter(|wanted| *wanted != managed.max_unavailable)?;
    let parts = ["config", &format!("{:?}/{:?}", max.count, max.percentage)];
    let step = Step::ConfigureManaged {
        ready: ready.clone(),
        group: group_move.name.to_owned(),
        max,
        strategy: managed.update_strategy.clone(),
        token: group_move.rollout.client_token(group_move.name, &parts),
    };
    Some(group_move.act(step, "setting maxUnavailable".to_owned()))
}

fn start_update(
    group_move: GroupMove<'_>,
    ready: &Ready,
    in_force: &TemplateVersion,
    number: i64,
) -> GroupPlan {
    let GroupMove { input, rollout, name, entry } = group_move;
    let (attempt, version) = (entry.attempt.to_string(), number.to_string());
    let force = input.spec.update.force;
    let parts = ["update", entry.image.as_str(), &attempt, &version, if force { "force" } else { "" }];
    let token = rollout.client_token(name, &parts);
    let message = format!("updating to version {version} of {} ({})", in_force.template, entry.image);
    let version = TemplateVersion { template: in_force.template.clone(), version };
    let step =
        Step::StartManagedUpdate { ready: ready.clone(), group: name.to_owned(), version, force, token };
    group_move.act(step, message)
}

/// The ID of the update whose start was requested without a response, if it did start.
pub fn lost_update(group_move: GroupMove<'_>, starting: Starting) -> Result<Option<String>, MissingFact> {
    let since = starting.at.checked_sub(SKEW).unwrap_or(starting.at);
    let is_it = |update: &&Update| {
        let version = update.params.get("LaunchTemplateVersion").and_then(|version| version.parse().ok());
        let recent = update.created.is_some_and(|created| created >= since);
        update.kind == "VersionUpdate" && recent && version == Some(starting.version)
    };
    let updates = group_move.input.observed.all_updates(group_move.name)?.iter().filter(is_it);
    Ok(updates.max_by_key(|update| update.created).map(|update| update.id.clone()))
}
