//! A rollout has failed: holds its image and rolls back the groups that it changed, if the spec asks for that. A rollback
//! is a rollout of its own, in which every group has its previous image as target. It ignores waves, windows and freezes.
//! Called by `rollout` and `end`; `managed` moves the groups. Pure.

use std::collections::BTreeMap;

use super::super::cluster_view::View;
use super::super::held::{Failed, FailedImages};
use super::super::history;
use super::super::memory::{GroupEntry, Origin, Rollback, Rollout, SETTLING};
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::observed::{MissingFact, SourceImages};
use super::super::step::{Explanation, Plan};
use super::super::support::nodes_behind;
use super::super::survey::Survey;
use super::super::target::Target;
use super::finish::finish;
use super::group_move::new_entry;
use super::{PlanInput, explain_pause, node_groups, record};
use crate::api::ImageId;
use crate::api::reasons;
use crate::api::time::{after, to_second};
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
    if let Some(plan) = wait_until_shown(input, rollout, survey, &changed) {
        return Ok(plan);
    }
    let (groups, remarks) = going_back(input, survey, &changed)?;
    let ended = Rollout { finished: Some(input.now), ..rollout.clone() };
    let record = history::record(&ended, RolloutResult::Failed, cause.clone());
    let reason = record.failures.clone().unwrap_or_default().join("; ");
    let failed = hold(input, rollout, &[reason.clone(), remarks.clone()].concat())?;
    let Some(target) = Target::of(groups.values().map(|entry| entry.image.clone())) else {
        // Nothing was changed, or it was changed back already.
        let rollout = Rollout { failed, ..rollout.clone() };
        return Ok(finish(input, &rollout, RolloutResult::Failed, cause));
    };
    let message = format!(
        "rolling {} back to {target}, because {} failed{remarks}",
        node_groups(groups.len()),
        rollout.target
    );
    let mut back =
        Rollout::begin(&input.spec.key, target, input.spec.fingerprint(), Some(rollout), input.now);
    let reason = [reason, remarks].concat();
    back.rollback = Some(Rollback { of: rollout.id.clone(), target: rollout.target.clone(), reason });
    (back.groups, back.failed) = (groups, failed);
    let warning = Some(Explanation::new(reasons::ROLLING_BACK, message.clone()));
    let why = Explanation::new(reasons::ROLLING_OUT, message);
    Ok(Plan::Record { rollout: back, ended: Some(record), why, warning })
}

/// Waits until AWS certainly shows the updates that succeeded: a group that still shows its former version would not be
/// rolled back.
fn wait_until_shown(
    input: PlanInput<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
    changed: &BTreeMap<&str, &GroupEntry>,
) -> Option<Plan> {
    // A group that shows the image already needs no further time.
    let is_unseen = |name: &str, entry: &GroupEntry| {
        let image = survey.group(name).and_then(|(group, _)| group.image.as_ref());
        entry.is_settling(input.now) && image != Some(&entry.image)
    };
    let settling = changed.iter().filter(|(name, entry)| is_unseen(name, entry));
    let (name, entry) = settling.max_by_key(|(_, entry)| entry.finished)?;
    let until = to_second(after(entry.finished?, SETTLING)?);
    let message = format!(
        "rollout of {} failed: its rollback starts at {until}, when AWS certainly shows the update of {name}",
        rollout.target
    );
    Some(input.busy(Explanation::new(reasons::ROLLING_OUT, message)))
}

/// The entries of the groups to roll back, and what a person should know about them, as a part of the reason.
fn going_back(
    input: PlanInput<'_>,
    survey: &Survey<'_>,
    changed: &BTreeMap<&str, &GroupEntry>,
) -> Result<(BTreeMap<String, GroupEntry>, String), MissingFact> {
    let (mut groups, mut remarks) = (BTreeMap::new(), String::new());
    for (name, moved) in changed {
        let Some((group, _)) = survey.group(name) else { continue };
        if let Some(image) = failed_before(input, name, moved) {
            remarks.push_str(&format!("; {name} is not rolled back, because {image} failed on it, too"));
            continue;
        }
        let is_mixed = shows_new(input, group, moved)
            || match may_be_mixed(input, group, moved)? {
                Some(why) => {
                    remarks.push_str(&format!(
                        "; {name} is rolled back although EKS shows its former version: {why}"
                    ));
                    true
                }
                None => false,
            };
        if let Some(entry) = entry_back(input, group, moved).filter(|_| is_mixed) {
            groups.insert((*name).to_owned(), entry);
        }
    }
    Ok((groups, remarks))
}

/// The image to which a group would return, if it failed on it, too.
fn failed_before(input: PlanInput<'_>, name: &str, entry: &GroupEntry) -> Option<ImageId> {
    let image = entry.origin().image?;
    input.memory.failed_pairs.contains(&(name.to_owned(), image.clone())).then_some(image)
}

fn had_image(entry: &GroupEntry) -> bool {
    entry.origin().image.as_ref() == Some(&entry.image)
}

/// The new version is in force, or nodes of a self-managed group differ from the one in force. After an instance refresh
/// that failed, the group has its former version in force, and some nodes may run the new image.
fn shows_new(input: PlanInput<'_>, group: &NodeGroup, moved: &GroupEntry) -> bool {
    group.image.as_ref() == Some(&moved.image) || nodes_behind(input.spec, group) > 0
}

/// Why nodes of a managed group may run the new image although EKS shows the former version; `None` if none does. A
/// failed update may have replaced some. Without nodes that can be read, this is assumed: an update to the version in
/// force replaces only what differs.
fn may_be_mixed(
    input: PlanInput<'_>,
    group: &NodeGroup,
    moved: &GroupEntry,
) -> Result<Option<String>, MissingFact> {
    let is_back = group.image.is_some() && group.image == moved.origin().image;
    if group.self_managed_kind().is_some() || !moved.update_failed() || !is_back {
        return Ok(None);
    }
    let in_force = group.image.as_ref().map(ImageId::as_str);
    Ok(match input.observed.nodes(group)? {
        View::Is(nodes) => {
            let other = nodes.iter().find(|node| !node.is_leaving && node.image != in_force);
            other.map(|node| format!("{} runs {}", node.name, node.image.unwrap_or("an unknown image")))
        }
        View::Absent => Some("its update failed, and which image its nodes run is not known".to_owned()),
        View::Denied(why) | View::Unreadable(why) => {
            Some(format!("its update failed, and its nodes cannot be read ({why})"))
        }
    })
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

/// The entry that moves a group back; `None` if it had the image before.
fn entry_back(input: PlanInput<'_>, group: &NodeGroup, moved: &GroupEntry) -> Option<GroupEntry> {
    let in_force = group.launch_template.clone().filter(|_| !had_image(moved))?;
    let Origin { version, image } = moved.origin();
    Some(GroupEntry {
        kind: moved.kind,
        wave: moved.wave.clone(),
        attempt: moved.attempt + 1,
        // The version that was in force before: it only has to be created again if another writer deleted it.
        new_version: version.parse().ok(),
        ..new_entry(input, None, group, in_force, image?)
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

/// Whether it is known which failures hold this image: it failed itself, or the tags with its inputs were read.
pub fn knows_what_holds(input: PlanInput<'_>, image: &ImageId) -> bool {
    let Some(rollout) = &input.memory.rollout else { return true };
    if rollout.failed.is_empty() || rollout.failed.contains(image) {
        return true;
    }
    match input.observed.source_images.known() {
        None => false,
        Some(SourceImages::Built(built)) => !built.iter().any(|(id, facts)| id == image && facts.is_none()),
        Some(_) => true,
    }
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
