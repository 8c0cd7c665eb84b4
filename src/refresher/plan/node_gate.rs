//! The health gate: a group whose update has ended counts as moved only when all its nodes are Ready and run the new
//! image. If they do not within the limit, the move has failed, and with it the rollout. Asked by the file of each kind of
//! group before the end of a move. Pure.
//!
//! The gate needs the nodes of the cluster. For a group of another cluster, or if the agent may not read nodes, the
//! update alone decides.

use jiff::SignedDuration;

use super::super::cluster_view::{GroupNode, View};
use super::super::memory::{GroupEntry, SETTLING};
use super::super::node_checks::NodeChecks;
use super::super::node_group::NodeGroup;
use super::super::observed::MissingFact;
use super::super::spec::Spec;
use super::super::support::is_left_alone;
use super::drain::{listed, unavailable};
use super::group_move::{GroupMove, GroupPlan, MoveResult};
use crate::api::time::between;

/// The update of the group has ended: ends the move if its nodes are ready, else waits for them.
pub fn end_when_ready(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<GroupPlan, MissingFact> {
    let GroupMove { input, entry, .. } = group_move;
    let Some(limit) = input.spec.policy.health.nodes_ready_within else {
        return group_move.end(MoveResult::Moved);
    };
    let own = match input.observed.nodes(group)? {
        View::Is(own) => own,
        // The group had nodes here before the update.
        View::Absent if entry.nodes.total.is_some() => Vec::new(),
        View::Absent | View::Denied(_) => return group_move.end(MoveResult::Moved),
        View::Unreadable(why) => return Ok(GroupPlan::Wait(unavailable(&why))),
    };
    let missing = missing(input.spec, entry, group, &own);
    if missing.is_empty() {
        return group_move.end(MoveResult::Moved);
    }
    let Some(since) = entry.nodes.updated_at else {
        let nodes = NodeChecks { updated_at: Some(input.now), ..entry.nodes.clone() };
        return Ok(group_move.record(GroupEntry { nodes, ..entry.clone() }));
    };
    let is_foreign = group.image.as_ref() != Some(&entry.image) && between(since, input.now) >= SETTLING;
    if is_foreign {
        // Another writer moved the group since, which is reported as such.
        return group_move.end(MoveResult::Moved);
    }
    if between(since, input.now) < limit {
        return Ok(group_move.wait(&format!("is updated, and waits for its nodes: {missing}")));
    }
    let within = SignedDuration::try_from(limit).unwrap_or(SignedDuration::MAX);
    let why = format!("its nodes were not ready within {within:#}: {missing}");
    group_move.end(MoveResult::Failed(why))
}

/// Whether a group that shows the image although its move failed needs no other update: by now, all its nodes are ready.
pub fn is_ready_by_now(spec: &Spec, entry: &GroupEntry, group: &NodeGroup, own: &[GroupNode<'_>]) -> bool {
    let staying = own.iter().filter(|node| !node.is_leaving).count();
    staying >= usize::try_from(group.desired).unwrap_or(usize::MAX)
        && missing(spec, entry, group, own).is_empty()
}

/// What is not as it must be; empty if all is. A node that is being deleted does not count. The group may have been
/// scaled in since the update began, so that it needs no more nodes than AWS shows now. A node that a refresh leaves
/// alone because of the settings stays as it is.
fn missing(spec: &Spec, entry: &GroupEntry, group: &NodeGroup, own: &[GroupNode<'_>]) -> String {
    let image = entry.image.as_str();
    let is_spared =
        |node: &GroupNode<'_>| node.instance.is_some_and(|instance| is_left_alone(spec, instance));
    let staying: Vec<&GroupNode<'_>> = own.iter().filter(|node| !node.is_leaving).collect();
    let is_done =
        |node: &&&GroupNode<'_>| is_spared(node) || (node.image == Some(image) && node.not_ready.is_none());
    let ready = staying.iter().filter(is_done).count();
    let wanted = entry.nodes.total.unwrap_or(0).min(group.desired);
    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).max(staying.len());
    if ready >= wanted {
        return String::new();
    }
    let problem = |node: &GroupNode<'_>| match node.not_ready {
        _ if node.image != Some(image) => {
            format!("{} runs {}", node.name, node.image.unwrap_or("an unknown image"))
        }
        Some(why) => format!("{} is not Ready ({why})", node.name),
        None => String::new(),
    };
    let problems: Vec<String> =
        staying.iter().filter(|node| !is_done(node)).map(|node| problem(node)).collect();
    let problems: Vec<&str> = problems.iter().map(String::as_str).collect();
    let named = if problems.is_empty() { String::new() } else { format!(" ({})", listed(&problems)) };
    format!("{ready} of {wanted} nodes are Ready on {image}{named}")
}
