//! Moves an EKS managed node group: sets its update configuration, creates a launch template version with the new
//! image, starts the EKS update, and finds its result. Each effect is a step of its own, recorded before and found
//! again after a crash. Called by `rollout` for one group at a time. Pure.

use std::time::Duration;

use super::super::causes;
use super::super::fit::{Fit, FitQuery, disks_to_send, find_fit, root_volume_too_small};
use super::super::memory::{GroupEntry, ManagedUpdate, Starting};
use super::super::node_group::{Lifecycle, ManagedGroup, NodeGroup, Ready};
use super::super::observed::MissingFact;
use super::super::refusal::RefusalKind;
use super::super::step::{Explanation, Plan, Step};
use super::super::survey::Survey;
use super::group_move::{GroupMove, GroupPlan, MoveResult};
use super::versions::Mark;
use super::waves::Waves;
use crate::api::reasons;
use crate::api::time::{SKEW, between};
use crate::aws::{LaunchTemplateVersion, TemplateVersion, Update, UpdateStatus};

/// EKS certainly remembers a client token for this long. After that, an update whose response was lost is searched for
/// by its launch template version.
const TOKEN_TRUST: Duration = Duration::from_secs(600);
/// A new version may not be listed yet. After this time it counts as deleted by another writer.
const LISTED_WITHIN: Duration = Duration::from_secs(120);
/// What every update may take to start new nodes.
const EXPECTED_UPDATE: Duration = Duration::from_secs(3600);
/// EKS drains a node for this long before it gives up.
const EXPECTED_DRAIN: Duration = Duration::from_secs(15 * 60);

/// The group is UPDATING: waits, and reports once that the update takes too long.
pub fn updating(group_move: GroupMove<'_>, group: &NodeGroup, managed: &ManagedGroup) -> GroupPlan {
    let GroupMove { input, rollout, name, entry } = group_move;
    let Some(id) = &entry.update.id else { return group_move.wait("is being updated") };
    // In a rollback, all entries begin at the same time.
    let since = entry.update.starting.map_or(entry.started, |starting| starting.at);
    let too_long =
        |than: &str| format!("has been updating since {since}, longer than expected{than} (update {id})");
    if entry.update.overdue.is_some() {
        return group_move.wait(&too_long(""));
    }
    if between(since, input.now) < expected_duration(group, managed) {
        return group_move.wait("is being updated");
    }
    let message = format!("{name} {}", too_long(" for its size"));
    let hint = "check the update in the EKS console, its new nodes, and pods that cannot be evicted";
    let update = ManagedUpdate { overdue: Some(input.now), ..entry.update.clone() };
    let rollout = rollout.with_group(name, GroupEntry { update, ..entry.clone() });
    let warning = Some(Explanation::new(reasons::UPDATE_OVERDUE, format!("{message}: {hint}")));
    let why = Explanation::new(reasons::ROLLING_OUT, message);
    GroupPlan::Plan(Box::new(Plan::Record { rollout, ended: None, why, warning }))
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
        let update = ManagedUpdate { id: Some(id), ..group_move.entry.update.clone() };
        return Ok(Some(group_move.record(GroupEntry { update, ..group_move.entry.clone() })));
    }
    group_move.end(MoveResult::Moved).map(Some)
}

fn result_of_update(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    id: &str,
) -> Result<GroupPlan, MissingFact> {
    let entry = group_move.entry;
    let Some(update) = group_move.input.observed.update(group_move.name, id)? else {
        // The group was deleted and recreated with the same name: nothing was started on this one.
        let update = ManagedUpdate { id: None, starting: None, ..entry.update.clone() };
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
        MoveResult::Failed(format!("update {id} {result}: {errors}{mixed}{}", causes::hint(&update.errors)))
    };
    match &update.status {
        UpdateStatus::InProgress => Ok(group_move.wait("is being updated")),
        UpdateStatus::Successful => group_move.end(MoveResult::Moved),
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

/// No update is known to have been started: checks that the move is still right, then prepares and starts the update.
pub fn start(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    managed: &ManagedGroup,
    survey: &Survey<'_>,
) -> Result<GroupPlan, MissingFact> {
    let GroupMove { input, rollout, name, entry } = group_move;
    let Some(in_force) = &group.launch_template else {
        return group_move.end(MoveResult::Dropped("it has no launch template".to_owned()));
    };
    // The version in force or the configuration changed since the entry was recorded.
    if *in_force != entry.previous || input.spec.fingerprint() != rollout.config {
        return Ok(group_move.record(rebase(group_move, group, in_force)?));
    }
    if let Some(blocked) = blocked(group_move) {
        return Ok(blocked);
    }
    if let Some(held) = held(group_move, group, survey)? {
        return Ok(held);
    }
    input.observed.require_fresh_group(name)?;
    input.observed.require_fresh_template(&in_force.template)?;
    let target = group_move.target();
    let batch = survey.images_to_read(&target);
    let (spec, observed) = (input.spec, input.observed);
    match find_fit(FitQuery { spec, group, target: &target, batch: &batch, observed })? {
        Fit::Fits(image) if image == entry.image => {}
        Fit::Unfit(why) | Fit::TargetUnavailable(why) if rollout.rollback.is_some() => {
            return group_move.end(MoveResult::Failed(why));
        }
        Fit::Fits(_) => return group_move.end(MoveResult::Dropped("another image fits it now".to_owned())),
        Fit::Unfit(why) | Fit::TargetUnavailable(why) => return group_move.end(MoveResult::Dropped(why)),
    }
    if let Some(why) = root_volume_too_small(group, &entry.image, observed)? {
        return group_move.end(MoveResult::Failed(why));
    }
    // Another writer may have started an update after this group was selected.
    let is_updating = |other: &&NodeGroup| {
        let entry = rollout.groups.get(&other.name);
        let updating = entry.is_some_and(GroupEntry::is_updating);
        other.name != name && (other.lifecycle == Lifecycle::Updating || updating)
    };
    match &group.lifecycle {
        Lifecycle::Active(_) | Lifecycle::Degraded(_)
            if survey.supported().filter(is_updating).count() >= spec.policy.wave_of(group).max_parallel =>
        {
            Ok(group_move.wait("waits for another node group to finish updating"))
        }
        Lifecycle::Active(Some(ready)) | Lifecycle::Degraded(Some(ready)) => {
            prepare(group_move, group, managed, ready, in_force)
        }
        _ => Ok(group_move.wait("is not ready yet")),
    }
}

/// Since its turn came, something happened that does not let it start: a window closed, or an earlier wave got a group.
fn held(
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
    let plan = match waves.hold(place) {
        _ if is_later => GroupPlan::Later,
        Some(hold) => GroupPlan::Held(hold),
        None => return Ok(None),
    };
    let Some(starting) = entry.update.starting else { return Ok(Some(plan)) };
    // The start was requested, and whether it succeeded is not known.
    let id = lost_update(group_move, starting)?;
    let starting = Some(starting).filter(|_| id.is_some());
    let update = ManagedUpdate { id, starting, ..entry.update.clone() };
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
    let started = starting.map(|starting| lost_update(group_move, starting)).transpose()?.flatten();
    if started.is_some() {
        let update = ManagedUpdate { id: started, ..entry.update.clone() };
        return Ok(GroupEntry { update, ..rebased });
    }
    let update = ManagedUpdate { starting: None, ..entry.update.clone() };
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

/// The next step towards the update: configuration, launch template version, record of the start, start.
fn prepare(
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
        let update = ManagedUpdate { id, starting, ..entry.update.clone() };
        return Ok(group_move.record(GroupEntry { update, ..entry.clone() }));
    }
    if let Some(plan) = configure(group_move, managed, ready) {
        return Ok(plan);
    }
    let mark = Mark::new(input, &entry.image, in_force);
    let versions = input.observed.template_versions(&in_force.template)?.unwrap_or_default();
    let is_right = |version: &LaunchTemplateVersion| mark.matches(version) || group_move.returns_to(version);
    let created = versions.iter().filter(|version| is_right(version)).map(|version| version.number);
    let created: Vec<i64> = created.collect();
    let reusable = entry.new_version.filter(|number| created.contains(number)).or(created.into_iter().max());
    let is_listed = |number: i64| versions.iter().any(|version| version.number == number);
    match (entry.update.starting, reusable) {
        (Some(starting), _) if is_listed(starting.version) => {
            Ok(start_update(group_move, ready, in_force, starting.version))
        }
        (Some(starting), _) => version_not_listed(group_move, starting),
        (None, Some(version)) => {
            let starting = Some(Starting { version, at: input.now });
            let update = ManagedUpdate { starting, ..entry.update.clone() };
            Ok(group_move.record(GroupEntry { update, new_version: Some(version), ..entry.clone() }))
        }
        (None, None) => create_version(group_move, group, in_force, &mark),
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

/// The version that an update is about to start with is not listed: it is too new, or another writer deleted it, before
/// or after the update started.
fn version_not_listed(group_move: GroupMove<'_>, starting: Starting) -> Result<GroupPlan, MissingFact> {
    if between(starting.at, group_move.input.now) < LISTED_WITHIN {
        return Ok(group_move.wait("waits until its launch template version is listed"));
    }
    let id = lost_update(group_move, starting)?;
    let starting = Some(starting).filter(|_| id.is_some());
    let update = ManagedUpdate { id, starting, ..group_move.entry.update.clone() };
    Ok(group_move.record(GroupEntry { update, new_version: None, ..group_move.entry.clone() }))
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

fn create_version(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    in_force: &TemplateVersion,
    mark: &Mark,
) -> Result<GroupPlan, MissingFact> {
    let GroupMove { input, rollout, name, entry } = group_move;
    if entry.new_version.is_some() && between(entry.started, input.now) < LISTED_WITHIN {
        return Ok(group_move.wait("waits until its launch template version is listed"));
    }
    // If a version was created and then deleted, the token must differ: EC2 would return the deleted one.
    let deleted = entry.new_version.map(|number| number.to_string()).unwrap_or_default();
    let attempt = entry.attempt.to_string();
    let parts = ["version", entry.image.as_str(), &in_force.version, &attempt, &deleted];
    let disks = disks_to_send(group, &entry.image, input.observed)?;
    let snapshots: Vec<&str> =
        disks.iter().filter_map(|disk| disk.volume.as_ref()?.snapshot.as_deref()).collect();
    let with_snapshots = match snapshots.as_slice() {
        [] => String::new(),
        snapshots => format!(" and the snapshots {}", snapshots.join(", ")),
    };
    let (template, version, image) = (&in_force.template, &in_force.version, &entry.image);
    let message =
        format!("creating a version of {template} from version {version} with {image}{with_snapshots}");
    let step = Step::CreateVersion {
        group: name.to_owned(),
        source: in_force.clone(),
        image: image.clone(),
        disks,
        description: mark.description(&rollout.id),
        token: rollout.client_token(name, &parts),
    };
    Ok(group_move.act(step, message))
}

/// The ID of the update whose start was requested without a response, if it did start.
fn lost_update(group_move: GroupMove<'_>, starting: Starting) -> Result<Option<String>, MissingFact> {
    let since = starting.at.checked_sub(SKEW).unwrap_or(starting.at);
    let is_it = |update: &&Update| {
        let version = update.params.get("LaunchTemplateVersion").and_then(|version| version.parse().ok());
        let recent = update.created.is_some_and(|created| created >= since);
        update.kind == "VersionUpdate" && recent && version == Some(starting.version)
    };
    let updates = group_move.input.observed.all_updates(group_move.name)?.iter().filter(is_it);
    Ok(updates.max_by_key(|update| update.created).map(|update| update.id.clone()))
}
