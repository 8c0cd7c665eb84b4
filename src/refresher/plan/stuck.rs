//! An update that replaces no further node: names the PodDisruptionBudgets and pods that hold it up. Asked by the file of
//! each kind of group while one is updating. Pure.
//!
//! The nodes of the group are counted at intervals, and only if their number stays the same, the pods on those that are
//! left are read. All times and counts are recorded, so that a restart changes nothing. EKS gives up on a node after 15
//! minutes, so that a budget that was named before the update is looked for as soon as the drain may have begun.

use std::time::Duration;

use super::super::cluster_view::{GroupNode, View};
use super::super::memory::GroupEntry;
use super::super::node_checks::NodeChecks;
use super::super::node_group::NodeGroup;
use super::super::observed::MissingFact;
use super::super::step::{Explanation, Plan};
use super::drain::{forces, held_by_budgets, is_of_budget, is_same_budget, listed};
use super::group_move::GroupMove;
use crate::api::reasons;
use crate::api::time::between;
use crate::engine::nodes::NodePod;

/// EKS first starts new nodes, which takes minutes.
const FIRST_COUNT: Duration = Duration::from_secs(300);
const COUNT_AGAIN: Duration = Duration::from_secs(120);
/// A node without anything that holds it up is drained within this time. EKS gives up on a node after 15 minutes.
const STUCK_AFTER: Duration = Duration::from_secs(240);
/// The same for a drain that a budget is expected to hold up. Such a budget is read again before it is named.
const EXPECTED_AFTER: Duration = Duration::from_secs(30);

/// The record of what holds the update up, if it is time to find out; `None` if not.
pub fn record_if_stuck(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<Option<Plan>, MissingFact> {
    let GroupMove { input, rollout, name, entry } = group_move;
    let checks = &entry.nodes;
    let is_expected = !forces(input.spec, group) && checks.preflight.iter().any(|found| is_of_budget(found));
    let again = if is_expected { EXPECTED_AFTER } else { COUNT_AGAIN };
    let counted = checks.counted_at.is_some_and(|at| between(at, input.now) < again);
    let began = entry.update.starting.map_or(entry.started, |starting| starting.at);
    let is_early = between(began, input.now) < FIRST_COUNT;
    if counted || (is_early && !is_expected) {
        return Ok(None);
    }
    // Whatever cannot be read now is not known. The update goes on all the same.
    let View::Is(nodes) = input.observed.nodes(group)? else { return Ok(None) };
    if is_early && !nodes.iter().any(|node| is_new(node, entry)) {
        return Ok(None);
    }
    let old: Vec<GroupNode<'_>> =
        nodes.into_iter().filter(|node| node.image != Some(entry.image.as_str())).collect();
    let left = u32::try_from(old.len()).ok();
    let since = checks.left_since.filter(|_| left == checks.left).unwrap_or(input.now);
    let unchanged = between(since, input.now);
    let draining: Vec<GroupNode<'_>> = old.into_iter().filter(|node| may_drain(group, node)).collect();
    let is_stuck =
        !draining.is_empty() && unchanged >= if is_expected { EXPECTED_AFTER } else { STUCK_AFTER };
    let blocked_by = match is_stuck {
        true => match input.observed.pods(name, &draining)? {
            View::Is(pods) if unchanged < STUCK_AFTER => expected_blockers(pods, checks),
            View::Is(pods) => blockers(pods, forces(input.spec, group)),
            _ => None,
        },
        false => None,
    };
    let warning = blocked_by.as_ref().filter(|_| checks.blocked_by.is_none()).map(|what| {
        Explanation::new(reasons::UPDATE_BLOCKED, format!("the update of {name} is blocked: {what}"))
    });
    let nodes = NodeChecks {
        left,
        left_since: Some(since),
        counted_at: Some(input.now),
        blocked_by,
        ..checks.clone()
    };
    let entry = GroupEntry { nodes, ..entry.clone() };
    let message = format!("{name} is being updated ({}){}", entry.image, progress(&entry));
    let (rollout, why) = (rollout.with_group(name, entry), Explanation::new(reasons::ROLLING_OUT, message));
    Ok(Some(Plan::Record { rollout, ended: None, why, warning }))
}

/// Whether a node may be the one that is being drained. EC2 Auto Scaling names the instances that it terminates, and
/// waits for other reasons, too.
fn may_drain(group: &NodeGroup, node: &GroupNode<'_>) -> bool {
    node.is_leaving || group.self_managed_kind().is_none()
}

/// A node that the update added, and that is ready. EKS begins to drain the others when there is one.
fn is_new(node: &GroupNode<'_>, entry: &GroupEntry) -> bool {
    node.image == Some(entry.image.as_str()) && node.not_ready.is_none()
}

/// What the last count found, for the message about the update.
pub fn progress(entry: &GroupEntry) -> String {
    let left = match (entry.nodes.left, entry.nodes.total) {
        (Some(left), Some(total)) if left > 0 => format!(", {left} of {total} nodes are not replaced yet"),
        _ => String::new(),
    };
    match &entry.nodes.blocked_by {
        Some(what) => format!("{left}: {what}"),
        None => left,
    }
}

/// The budgets that were named before the update and still hold it up. The pods may be others by now.
fn expected_blockers(pods: &[NodePod], checks: &NodeChecks) -> Option<String> {
    let staying: Vec<&NodePod> = pods.iter().filter(|pod| !pod.is_terminating).collect();
    let was_named = |found: &String| checks.preflight.iter().any(|named| is_same_budget(named, found));
    let held: Vec<String> = held_by_budgets(&staying).into_iter().filter(was_named).collect();
    (!held.is_empty()).then(|| held.join("; "))
}

/// The budgets that hold the drain up, else the pods that do not end.
fn blockers(pods: &[NodePod], force: bool) -> Option<String> {
    let staying: Vec<&NodePod> = pods.iter().filter(|pod| !pod.is_terminating).collect();
    let held = if force { Vec::new() } else { held_by_budgets(&staying) };
    if !held.is_empty() {
        return Some(held.join("; "));
    }
    let ending: Vec<&str> =
        pods.iter().filter(|pod| pod.is_terminating).map(|pod| pod.name.as_str()).collect();
    (!ending.is_empty()).then(|| format!("these pods were evicted and have not ended: {}", listed(&ending)))
}
