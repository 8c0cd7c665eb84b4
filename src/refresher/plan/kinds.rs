//! What depends on the kind of a node group while it is moved: the one place that selects the file of the kind. Called by
//! `rollout` and `start`. Pure.

use super::super::memory::Starting;
use super::super::node_group::{GroupKind, NodeGroup, Ready};
use super::super::observed::MissingFact;
use super::group_move::{GroupMove, GroupPlan};
use super::managed;
use crate::aws::TemplateVersion;

/// An update of the group is in progress.
pub fn updating(group_move: GroupMove<'_>, group: &NodeGroup) -> GroupPlan {
    let GroupKind::Managed(managed) = &group.kind;
    managed::updating(group_move, group, managed)
}

/// The group is at rest: the result of the move, if there is one.
pub fn result(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<Option<GroupPlan>, MissingFact> {
    let GroupKind::Managed(_) = &group.kind;
    managed::result(group_move, group)
}

/// The next step towards the update of a group that may start now.
pub fn prepare(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    ready: &Ready,
    in_force: &TemplateVersion,
) -> Result<GroupPlan, MissingFact> {
    let GroupKind::Managed(managed) = &group.kind;
    managed::prepare(group_move, group, managed, ready, in_force)
}

/// The ID of the update whose start was requested without a response, if it did start.
pub fn lost_update(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    starting: Starting,
) -> Result<Option<String>, MissingFact> {
    let GroupKind::Managed(_) = &group.kind;
    managed::lost_update(group_move, starting)
}
