//! A rollout has failed: holds its image and rolls back the groups that it changed, if the spec asks for that. A rollback
//! is a rollout of its own, in which every group has its previous image as target. It ignores waves, windows and freezes.
//! Called by `rollout` and `end`; `managed` moves the groups. Pure.

use std::collections::BTreeMap;

use super::super::held::{Failed, FailedImages};
use super::super::history;
use super::super::memory::{GroupEntry, GroupUpdate, Rollback, Rollout};
use super::super::node_checks::NodeChecks;
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::observed::MissingFact;
use super::super::step::{Explanation, Plan};
use super::super::support::nodes_behind;
use super::super::survey::Survey;
use super::super::target::Target;
use super::finish::finish;
use super::{PlanInput, explain_pause, node_groups, record};
use crate::api::ImageId;
use crate::api::reasons;
use crate::api::words::RolloutResult;

/// Ends a rollout that failed. `cause` is a failure that no group tells.
pub fn fail(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
    cause: Option<String>,
) -> Result<Plan, MissingFact> {
    if !input.spec.policy.rolls_back || rollout.rollback.is_some() {
        return Ok(finish(input, rollout, RolloutResult::Failed, cause));
    }
    // A group that had the image before cannot return, and says nothing about the image.
    if cause.is_none() && rollout.failure.is_none() && rollout.failures().all(|(_, entry)| had_image(entry)) {
        return Ok(finish(input, rollout, RolloutResult::Failed, None));
    }
    let changed = changed(rollout);
    input.observed.require_fresh_groups(changed.keys().copied())?;
    if let Some(unreadable) = changed.keys().find_map(|name| unreadable(survey.group(name)?.0)) {
        return Err(unreadable);
    }
    if changed.values().any(|entry| entry.is_settling(input.now)) {
        let message = format!("rollout of {} failed: waiting until EKS shows all updates", rollout.target);
        return Ok(input.busy(Explanation::new(reasons::ROLLING_OUT, message)));
    }
    let ended = Rollout { finished: Some(input.now), ..rollout.clone() };
    let record = history::record(&ended, RolloutResult::Failed, cause);
    let reason = record.failures.clone().unwrap_or_default().join("; ");
    let reason = [reason, not_returning(input, &changed)].concat();
    let failed = hold(input, rollout, &reason)?;
    let groups: BTreeMap<String, GroupEntry> = changed
        .into_iter()
        .filter(|(name, entry)| !failed_before(input, name, entry))
        .filter_map(|(name, entry)| Some((name.to_owned(), entry_back(input, survey.group(name)?.0, entry)?)))
        .collect();
    let Some(target) = Target::of(groups.values().map(|entry| entry.image.clone())) else {
        // Nothing was changed, or it was changed back already.
        let ended = Plan::Record {
            rollout: Rollout { failed, ..ended },
            ended: Some(record),
            why: Explanation::new(
                reasons::ROLLING_OUT,
                format!("rollout of {} failed: {reason}", rollout.target),
            ),
            warning: None,
        };
        return Ok(ended);
    };
    let message =
        format!("rolling {} back to {target}, because {} failed", node_groups(groups.len()), rollout.target);
    let mut back =
        Rollout::begin(&input.spec.key, target, input.spec.fingerprint(), Some(rollout), input.now);
    back.rollback = Some(Rollback { of: rollout.id.clone(), target: rollout.target.clone(), reason });
    (back.groups, back.failed) = (groups, failed);
    let warning = Some(Explanation::new(reasons::ROLLING_BACK, message.clone()));
    let why = Explanation::new(reasons::ROLLING_OUT, message);
    Ok(Plan::Record { rollout: back, ended: Some(record), why, warning })
}

/// The image to which a group would return failed on it, too.
fn failed_before(input: PlanInput<'_>, name: &str, entry: &GroupEntry) -> bool {
    let pair = |image: &ImageId| (name.to_owned(), image.clone());
    entry.previous_image.as_ref().is_some_and(|image| input.memory.failed_pairs.contains(&pair(image)))
}

/// The groups that stay as they are for that reason, as a part of the reason of the failure.
fn not_returning(input: PlanInput<'_>, changed: &BTreeMap<&str, &GroupEntry>) -> String {
    let staying = changed.iter().filter(|(name, entry)| failed_before(input, name, entry));
    staying
        .filter_map(|(name, entry)| {
            let image = entry.previous_image.as_ref()?;
            Some(format!("; {name} is not rolled back, because {image} failed on it, too"))
        })
        .collect()
}

fn had_image(entry: &GroupEntry) -> bool {
    entry.previous_image.as_ref() == Some(&entry.image)
}

/// A failed read is no absence: the group may have to return.
fn unreadable(group: &NodeGroup) -> Option<MissingFact> {
    match &group.lifecycle {
        Lifecycle::Unreadable(class, why) => Some(MissingFact::Unreadable(*class, why.clone())),
        _ => None,
    }
}

/// The groups that a rollout changed, as far as EKS accepted an update of them.
fn changed(rollout: &Rollout) -> BTreeMap<&str, &GroupEntry> {
    let is_changed =
        |entry: &GroupEntry| entry.started >= rollout.started && (entry.is_moved() || entry.update_failed());
    let changed = rollout.groups.iter().filter(|(_, entry)| is_changed(entry));
    changed.map(|(name, entry)| (name.as_str(), entry)).collect()
}

/// The failed images with those of this rollout.
fn hold(input: PlanInput<'_>, rollout: &Rollout, reason: &str) -> Result<FailedImages, MissingFact> {
    let batch = rollout.target.images().iter().cloned().collect();
    let mut failed = rollout.failed.clone();
    for image in rollout.target.images() {
        let facts = input.observed.image(image, &batch)?;
        failed = failed.with(Failed::new(image, facts, reason.to_owned(), input.spec.ami(), input.now));
    }
    Ok(failed)
}

/// The entry that moves a group back; `None` if it is back already, or if another writer moved it elsewhere. After an
/// instance refresh that failed, the group has its former version in force, and some nodes may run the new image.
fn entry_back(input: PlanInput<'_>, group: &NodeGroup, moved: &GroupEntry) -> Option<GroupEntry> {
    let is_changed = group.image.as_ref() == Some(&moved.image) || nodes_behind(input.spec, group) > 0;
    let in_force = group.launch_template.clone().filter(|_| is_changed && !had_image(moved))?;
    Some(GroupEntry {
        kind: moved.kind,
        image: moved.previous_image.clone()?,
        wave: moved.wave.clone(),
        previous: in_force,
        previous_image: group.image.clone(),
        attempt: moved.attempt + 1,
        // The version that was in force before: it only has to be created again if another writer deleted it.
        new_version: moved.previous.version.parse().ok(),
        update: GroupUpdate::default(),
        failure: None,
        refusal: None,
        nodes: NodeChecks::default(),
        moved_at: Vec::new(),
        undone_at: Vec::new(),
        undone_by: None,
        started: input.now,
        finished: None,
    })
}

/// No group is moving any more: the rollback has ended, or it is paused halfway.
pub fn end_or_pause(input: PlanInput<'_>, rollout: &Rollout, is_replaced: bool) -> Plan {
    if is_replaced {
        return finish(input, rollout, RolloutResult::Replaced, None);
    }
    let left = rollout.moving().count();
    if let Some(paused) = input.spec.paused.as_ref().filter(|_| left > 0) {
        return input.idle(explain_pause(paused, left));
    }
    let failed = rollout.failures().next().is_some();
    let result = if failed { RolloutResult::Failed } else { RolloutResult::RolledBack };
    finish(input, rollout, result, None)
}

/// Records that an image is not held any more: `ami` or an annotation names it.
pub fn release(input: PlanInput<'_>) -> Option<Plan> {
    let rollout = input.memory.rollout.as_ref()?;
    let mut failed = rollout.failed.clone().with_ami(input.spec.ami());
    for image in input.retried.iter().flat_map(|target| target.images()) {
        let facts = input.observed.source_images.known().and_then(|images| images.get(image));
        failed = failed.released(image, facts);
    }
    let released: Vec<&str> =
        rollout.failed.iter().filter(|image| !failed.contains(image)).map(ImageId::as_str).collect();
    let message = match released.as_slice() {
        [] => "ami names another image".to_owned(),
        released => format!("{} may be rolled out again", released.join(", ")),
    };
    (failed != rollout.failed).then(|| record(Rollout { failed, ..rollout.clone() }, message))
}
