//! What depends on the kind of a node group while it is moved: the one place that selects the file of the kind. Called by
//! `rollout` and `start`. Pure.

use super::super::memory::Starting;
use super::super::node_group::{GroupKind, NodeGroup, Ready};
use super::super::observed::MissingFact;
use super::group_move::{GroupMove, GroupPlan, MoveResult};
use super::{managed, self_managed};
use crate::aws::TemplateVersion;

/// An update of the group is in progress.
pub fn updating(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<GroupPlan, MissingFact> {
    match &group.kind {
        GroupKind::Managed(managed) => managed::updating(group_move, group, managed),
        GroupKind::SelfManaged(own) => self_managed::updating(group_move, group, own),
    }
}

/// The group is at rest: the result of the move, if there is one.
pub fn result(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<Option<GroupPlan>, MissingFact> {
    match &group.kind {
        GroupKind::Managed(_) => managed::result(group_move, group),
        GroupKind::SelfManaged(own) => self_managed::result(group_move, group, own),
    }
}

/// The next step towards the update of a group that may start now.
pub fn prepare(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    ready: &Ready,
    in_force: &TemplateVersion,
) -> Result<GroupPlan, MissingFact> {
    match &group.kind {
        GroupKind::Managed(managed) => managed::prepare(group_move, group, managed, ready, in_force),
        GroupKind::SelfManaged(own) => self_managed::prepare(group_move, group, own, ready, in_force),
    }
}

/// The ID of the update whose start was requested without a response, if it did start.
pub fn lost_update(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    starting: Starting,
) -> Result<Option<String>, MissingFact> {
    match &group.kind {
        GroupKind::Managed(_) => managed::lost_update(group_move, starting),
        GroupKind::SelfManaged(own) => {
            group_move.input.observed.require_fresh_group(group_move.name)?;
            Ok(self_managed::lost(group_move, own).map(|refresh| refresh.id.clone()))
        }
    }
}

/// The end of a move that belongs to a group of another kind with the same name; `None` if it belongs to this group.
pub fn of_another_kind(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
) -> Result<Option<GroupPlan>, MissingFact> {
    if group.kind.word() == group_move.entry.kind {
        return Ok(None);
    }
    let why = format!("the group of that name is {} now", group.kind.word());
    group_move.end(MoveResult::Dropped(why)).map(Some)
}
