//! The launch template version to which the update of a group starts: the one that was created for the move, else a new
//! one. Used by the file of each kind of group, which starts the update. Pure.

use std::time::Duration;

use super::super::fit::disks_to_send;
use super::super::memory::{GroupEntry, GroupUpdate, Starting};
use super::super::node_group::NodeGroup;
use super::super::observed::MissingFact;
use super::super::step::Step;
use super::group_move::{GroupMove, GroupPlan};
use super::versions::Mark;
use crate::api::time::between;
use crate::aws::{LaunchTemplateVersion, TemplateVersion};

/// A new version may not be listed yet. After this time it counts as deleted by another writer.
const LISTED_WITHIN: Duration = Duration::from_secs(120);

/// What comes next for the version.
pub enum NextVersion {
    /// The start with this version was recorded: it can be requested.
    Ready(i64),
    /// The version that an update is about to start with is not listed: another writer deleted it, before or after the
    /// update started.
    Missing(Starting),
    Plan(GroupPlan),
}

/// Returns what comes next for the version of a move. `suitable` is the number of a version that needs not be created.
pub fn next_version(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    in_force: &TemplateVersion,
    suitable: Option<i64>,
) -> Result<NextVersion, MissingFact> {
    let GroupMove { input, entry, .. } = group_move;
    let mark = Mark::new(input, &entry.image, in_force);
    let versions = input.observed.template_versions(&in_force.template)?.unwrap_or_default();
    let is_listed = |number: i64| versions.iter().any(|version| version.number == number);
    if let Some(starting) = entry.update.starting {
        return Ok(if is_listed(starting.version) {
            NextVersion::Ready(starting.version)
        } else if between(starting.at, input.now) < LISTED_WITHIN {
            NextVersion::Plan(group_move.wait("waits until its launch template version is listed"))
        } else {
            NextVersion::Missing(starting)
        });
    }
    let of_entry = |version: &LaunchTemplateVersion| {
        entry.new_version == Some(version.number) && version.image.as_deref() == Some(entry.image.as_str())
    };
    let recorded = versions.iter().find(|version| of_entry(version)).map(|version| version.number);
    let created =
        || versions.iter().filter(|version| mark.matches(version)).map(|version| version.number).max();
    let Some(version) = recorded.or(suitable).or_else(created) else {
        return create_version(group_move, group, in_force, &mark).map(NextVersion::Plan);
    };
    let starting = Some(Starting { version, at: input.now });
    let update = GroupUpdate { starting, ..entry.update.clone() };
    let entry = GroupEntry { update, new_version: Some(version), ..entry.clone() };
    Ok(NextVersion::Plan(group_move.record(entry)))
}

/// The version of a start is missing. `id` is the update that was started with it after all, if there is one.
pub fn without_version(group_move: GroupMove<'_>, starting: Starting, id: Option<String>) -> GroupPlan {
    let starting = Some(starting).filter(|_| id.is_some());
    let update = GroupUpdate { id, starting, ..group_move.entry.update.clone() };
    group_move.record(GroupEntry { update, new_version: None, ..group_move.entry.clone() })
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
