//! Pins self-managed groups to the number of the launch template version in force, before a version of their template is
//! created. A group on `$Latest` would launch the new version at once, before its turn, and a refresh of a group on
//! `$Latest` or `$Default` cannot be rolled back. Called by the file of each kind of group. Pure.

use super::super::node_group::{Lifecycle, NodeGroup, Ready, SelfManagedGroup};
use super::super::observed::MissingFact;
use super::super::step::Step;
use super::super::support::unsupported;
use super::group_move::{GroupMove, GroupPlan, MoveResult};
use crate::aws::TemplateVersion;
use crate::aws::autoscaling::VersionRef;

/// The step that pins the group, or another one on `$Latest` of the same template; `None` if none follows an alias.
pub fn pin(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    own: &SelfManagedGroup,
    ready: &Ready,
    in_force: &TemplateVersion,
) -> Result<Option<GroupPlan>, MissingFact> {
    if own.follows_alias() {
        return Ok(Some(pin_one(group_move, group, own, ready, in_force)));
    }
    pin_follower(group_move, in_force)
}

/// The step that pins another group on `$Latest` of this template; `None` if there is none.
pub fn pin_follower(
    group_move: GroupMove<'_>,
    in_force: &TemplateVersion,
) -> Result<Option<GroupPlan>, MissingFact> {
    let others = group_move.input.observed.groups()?.iter();
    let follower = others
        .filter(|other| other.name != group_move.name && other.is_on(&in_force.template))
        .find_map(|other| Some((other, other.self_managed_kind().filter(|other| other.follows_latest())?)));
    let Some((other, kind)) = follower else { return Ok(None) };
    if group_move.input.spec.scope.excludes(&other.name) || unsupported(other).is_some() {
        return group_move.end(MoveResult::Failed(shared_with(other, in_force))).map(Some);
    }
    group_move.input.observed.require_fresh_group(&other.name)?;
    Ok(Some(match (&other.lifecycle, &other.launch_template) {
        (Lifecycle::Active(Some(ready)), Some(of_other)) => pin_one(group_move, other, kind, ready, of_other),
        _ => group_move.wait(&format!("waits until {} can be pinned to its version", other.name)),
    }))
}

fn pin_one(
    group_move: GroupMove<'_>,
    group: &NodeGroup,
    own: &SelfManagedGroup,
    ready: &Ready,
    in_force: &TemplateVersion,
) -> GroupPlan {
    let alias = match own.source.template().map(|template| &template.version) {
        Some(VersionRef::Latest) => "$Latest",
        _ => "$Default",
    };
    let (name, version, template) = (&group.name, &in_force.version, &in_force.template);
    let what = format!("pinning {name} to version {version} of {template}, which it followed as {alias}");
    let step = Step::PinGroup {
        ready: ready.clone(),
        group: group_move.name.to_owned(),
        pinned: name.clone(),
        source: own.source.clone(),
        version: in_force.clone(),
    };
    group_move.act(step, what)
}

/// Why no version may be created: it would change what a group launches that Opsy must not touch.
fn shared_with(other: &NodeGroup, in_force: &TemplateVersion) -> String {
    let (name, template) = (&other.name, &in_force.template);
    format!(
        "its launch template {template} is shared with {name}, which follows $Latest and would launch the new version at \
         once: set {name} to a version number, or give it a launch template of its own"
    )
}
