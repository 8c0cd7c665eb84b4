//! The memory as status stores it: `status.rollout` and `status.held`, read leniently and written whole. Part of `memory`.
//! Pure.

use std::collections::BTreeSet;

use super::{GroupEntry, GroupUpdate, Memory, Origin, Rollback, Rollout, Starting};
use crate::api::refresher as crd;
use crate::api::words::{GroupState, NodeGroupKind, RolloutResult};
use crate::api::{AMIRefresherStatus, ImageId, TemplateId};
use crate::aws::TemplateVersion;
use crate::refresher::check_failures;
use crate::refresher::held::FailedImages;
use crate::refresher::node_checks::NodeChecks;
use crate::refresher::refusal::{Refusal, RefusalKind};
use crate::refresher::target::Target;

impl Memory {
    /// Reads the memory from status. Entries that cannot be parsed count as lost.
    pub fn read(status: Option<&AMIRefresherStatus>) -> Self {
        let Some(status) = status else { return Self::default() };
        Self {
            rollout: status.rollout.as_ref().and_then(|rollout| {
                Some(Rollout { failed: FailedImages::read(status.held.as_ref()), ..read_rollout(rollout)? })
            }),
            target: status.target_ami.as_deref().and_then(Target::parse),
            failed_pairs: read_failed_pairs(status.history.as_deref().unwrap_or_default()),
            pending: status
                .node_groups
                .iter()
                .flatten()
                .filter_map(|row| GroupState::parse(row.state.as_deref()?))
                .any(|state| {
                    matches!(state, GroupState::Pending | GroupState::Drifted | GroupState::Unknown)
                }),
        }
    }
}

/// The history has the newest rollout first.
fn read_failed_pairs(history: &[crd::RolloutRecord]) -> BTreeSet<(String, ImageId)> {
    let mut failed = BTreeSet::new();
    for group in history.iter().rev().flat_map(|record| record.groups.iter().flatten()) {
        let Some(image) = group.target_ami.clone().and_then(|id| ImageId::parse(id).ok()) else { continue };
        let pair = (group.name.clone(), image);
        match group.result == RolloutResult::Failed.as_str() {
            true => failed.insert(pair),
            false => failed.remove(&pair),
        };
    }
    failed
}

fn read_rollout(rollout: &crd::Rollout) -> Option<Rollout> {
    let groups = rollout.groups.iter().flatten();
    Some(Rollout {
        id: rollout.id.clone(),
        target: Target::parse(&rollout.target)?,
        config: rollout.config.clone().unwrap_or_default(),
        started: rollout.started_at?,
        finished: rollout.finished_at,
        groups: groups.filter_map(|group| Some((group.name.clone(), read_entry(group)?))).collect(),
        rollback: rollout.rollback.as_ref().and_then(read_rollback),
        failed: FailedImages::default(),
        check_failures: check_failures::read(rollout.checks.as_ref()),
        failure: rollout.failure.clone(),
    })
}

fn read_rollback(rollback: &crd::RolloutRollback) -> Option<Rollback> {
    let target = Target::parse(&rollback.target)?;
    Some(Rollback { of: rollback.of.clone(), target, reason: rollback.reason.clone().unwrap_or_default() })
}

fn read_entry(group: &crd::RolloutGroup) -> Option<GroupEntry> {
    let kind = group.kind.as_deref().and_then(NodeGroupKind::parse);
    Some(GroupEntry {
        kind: kind.unwrap_or(NodeGroupKind::Managed),
        image: ImageId::parse(group.target_ami.clone()?).ok()?,
        wave: group.wave.clone(),
        previous: TemplateVersion {
            template: TemplateId::parse(group.launch_template_id.clone()?).ok()?,
            version: group.source_version.clone().or_else(|| group.previous_version.clone())?,
        },
        previous_image: read_image(match group.source_version {
            Some(_) => group.source_ami.as_ref(),
            None => group.previous_ami.as_ref(),
        }),
        origin: group.source_version.as_ref().and_then(|_| {
            let image = read_image(group.previous_ami.as_ref());
            Some(Origin { version: group.previous_version.clone()?, image })
        }),
        attempt: group.attempts.and_then(|attempts| u32::try_from(attempts).ok())?,
        new_version: group.version.as_deref().and_then(|version| version.parse().ok()),
        update: GroupUpdate {
            id: group.update_id.clone(),
            starting: read_starting(group),
            overdue: group.overdue_at,
        },
        failure: group.last_failure.clone(),
        refusal: group.refusal.as_ref().and_then(read_refusal),
        nodes: NodeChecks::read(group.nodes.as_ref()),
        moved_at: group.moved_at.clone().unwrap_or_default(),
        undone_at: group.undone_at.clone().unwrap_or_default(),
        undone_by: group.undone_by.clone(),
        started: group.started_at?,
        finished: group.finished_at,
    })
}

fn read_image(id: Option<&String>) -> Option<ImageId> {
    id.cloned().and_then(|id| ImageId::parse(id).ok())
}

fn read_starting(group: &crd::RolloutGroup) -> Option<Starting> {
    Some(Starting { version: group.starting_version.as_deref()?.parse().ok()?, at: group.starting_at? })
}

fn read_refusal(refusal: &crd::Refusal) -> Option<Refusal> {
    Some(Refusal {
        kind: RefusalKind::parse(&refusal.reason),
        message: refusal.message.clone(),
        since: refusal.since?,
        last: refusal.last?,
    })
}

/// The rollout as `status.rollout` has it.
pub fn write_rollout(rollout: &Rollout) -> crd::Rollout {
    let groups: Vec<_> = rollout.groups.iter().map(|(name, entry)| write_entry(name, entry)).collect();
    crd::Rollout {
        id: rollout.id.clone(),
        target: rollout.target.to_string(),
        config: Some(rollout.config.clone()),
        started_at: Some(rollout.started),
        finished_at: rollout.finished,
        groups: (!groups.is_empty()).then_some(groups),
        waves: None,
        rollback: rollout.rollback.as_ref().map(|rollback| crd::RolloutRollback {
            of: rollback.of.clone(),
            target: rollback.target.to_string(),
            reason: Some(rollback.reason.clone()),
        }),
        checks: check_failures::write(&rollout.check_failures),
        failure: rollout.failure.clone(),
    }
}

fn write_entry(name: &str, entry: &GroupEntry) -> crd::RolloutGroup {
    let starting = entry.update.starting;
    let Origin { version: previous_version, image: previous_image } = entry.origin();
    let is_repeated = entry.origin.is_some();
    let image = |image: Option<&ImageId>| image.map(ImageId::to_string);
    // A managed group is the rule, also in the status of earlier versions.
    let kind = Some(entry.kind).filter(|kind| *kind != NodeGroupKind::Managed);
    crd::RolloutGroup {
        name: name.to_owned(),
        kind: kind.map(|kind| kind.to_string()),
        wave: entry.wave.clone(),
        target_ami: Some(entry.image.to_string()),
        launch_template_id: Some(entry.previous.template.to_string()),
        version: entry.new_version.map(|version| version.to_string()),
        previous_version: Some(previous_version),
        previous_ami: image(previous_image.as_ref()),
        source_version: is_repeated.then(|| entry.previous.version.clone()),
        source_ami: image(entry.previous_image.as_ref().filter(|_| is_repeated)),
        attempts: Some(i32::try_from(entry.attempt).unwrap_or(i32::MAX)),
        update_id: entry.update.id.clone(),
        last_failure: entry.failure.clone(),
        starting_version: starting.map(|starting| starting.version.to_string()),
        starting_at: starting.map(|starting| starting.at),
        refusal: entry.refusal.as_ref().map(|refusal| crd::Refusal {
            reason: refusal.kind.word().to_owned(),
            message: refusal.message.clone(),
            since: Some(refusal.since),
            last: Some(refusal.last),
        }),
        overdue_at: entry.update.overdue,
        nodes: entry.nodes.write(),
        undone_at: (!entry.undone_at.is_empty()).then(|| entry.undone_at.clone()),
        undone_by: entry.undone_by.clone(),
        moved_at: (!entry.moved_at.is_empty()).then(|| entry.moved_at.clone()),
        started_at: Some(entry.started),
        finished_at: entry.finished,
    }
}
