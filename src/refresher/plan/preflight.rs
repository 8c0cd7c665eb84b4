//! Checks the nodes of a group before its update starts. What is found is recorded with the group and reported once.
//! Called by `rollout` when the turn of a group has come, and by `managed` if its update did not start soon. Pure.

use std::time::Duration;

use super::super::cluster_view::View;
use super::super::memory::{GroupEntry, Rollout};
use super::super::node_checks::NodeChecks;
use super::super::node_group::NodeGroup;
use super::super::observed::MissingFact;
use super::super::step::{Delay, Explanation, Plan};
use super::PlanInput;
use super::admission::{Admission, admission};
use super::drain::{Findings, findings, forces, unavailable, unchecked};
use super::group_move::{GroupMove, GroupPlan, MoveResult};
use super::node_gate::is_ready_by_now;
use crate::api::reasons;
use crate::api::time::between;

/// What was found is outdated after this time: if the update has not started by then, the nodes are checked again.
const VALID: Duration = Duration::from_secs(600);

/// What was found on the nodes of a group, to be recorded with it.
pub enum Checked {
    /// With the warning, unless it was reported before.
    Done(NodeChecks, Option<Explanation>),
    /// The cluster cannot be read now.
    Wait(Explanation),
}

/// Checks the nodes of a group whose update is about to start.
pub fn check(input: PlanInput<'_>, rollout: &Rollout, group: &NodeGroup) -> Result<Checked, MissingFact> {
    let nodes = match input.observed.nodes(group)? {
        View::Absent => return Ok(Checked::Done(NodeChecks::default(), None)),
        View::Denied(why) => return Ok(denied(input, rollout, NodeChecks::default(), &why)),
        View::Unreadable(why) => return Ok(Checked::Wait(unavailable(&why))),
        View::Is(nodes) => nodes,
    };
    let total = u32::try_from(nodes.len()).ok();
    let checks = NodeChecks { total, preflight_at: Some(input.now), ..NodeChecks::default() };
    let pods = match input.observed.pods(&group.name, &nodes)? {
        View::Absent => return Ok(Checked::Done(checks, None)),
        View::Denied(why) => return Ok(denied(input, rollout, checks, &why)),
        View::Unreadable(why) => return Ok(Checked::Wait(unavailable(&why))),
        View::Is(pods) => pods,
    };
    let Findings { blocking, others } = findings(pods, forces(input.spec, group));
    let preflight: Vec<String> = blocking.into_iter().chain(others).collect();
    let warning = (!preflight.is_empty()).then(|| {
        Explanation::new(
            reasons::PREFLIGHT,
            format!("before the update of {}: {}", group.name, preflight.join("; ")),
        )
    });
    Ok(Checked::Done(NodeChecks { preflight, ..checks }, warning))
}

/// The agent may not read the nodes: reported once per rollout.
fn denied(input: PlanInput<'_>, rollout: &Rollout, checks: NodeChecks, why: &str) -> Checked {
    let found = unchecked(why);
    let is_reported = |entry: &GroupEntry| entry.nodes.preflight.contains(&found);
    let warning = (!rollout.groups.values().any(is_reported))
        .then(|| Explanation::new(reasons::NODES_UNREADABLE, found.clone()));
    Checked::Done(NodeChecks { preflight: vec![found], preflight_at: Some(input.now), ..checks }, warning)
}

/// Checks the nodes again if the turn of the group came long ago. If they hold the update back now, the group waits for
/// another turn. `None` if nothing changes.
pub fn check_again(group_move: GroupMove<'_>, group: &NodeGroup) -> Result<Option<GroupPlan>, MissingFact> {
    let GroupMove { input, rollout, name, entry } = group_move;
    let is_valid = entry.nodes.preflight_at.is_some_and(|at| between(at, input.now) < VALID);
    if is_valid || entry.update.starting.is_some() {
        return Ok(None);
    }
    // A group whose update failed halfway is not left as it is, unless its nodes became ready since.
    let is_mixed = entry.previous_image.as_ref() == Some(&entry.image);
    if is_mixed
        && let View::Is(nodes) = input.observed.nodes(group)?
        && is_ready_by_now(input.spec, entry, group, &nodes)
    {
        return group_move.end(MoveResult::Moved).map(Some);
    }
    match admission(input, group)? {
        Admission::Wait(why) => return Ok(Some(GroupPlan::Wait(why))),
        Admission::Delay(Delay { why, .. }) if !is_mixed => {
            return group_move.end(MoveResult::Dropped(why.message)).map(Some);
        }
        Admission::Delay(_) | Admission::Start | Admission::Last => {}
    }
    let others = rollout.without_group(name);
    match check(input, &others, group)? {
        Checked::Wait(why) => Ok(Some(GroupPlan::Wait(why))),
        Checked::Done(nodes, _) if nodes == NodeChecks::default() => Ok(None),
        Checked::Done(nodes, warning) => {
            let warning = warning.filter(|_| nodes.preflight != entry.nodes.preflight);
            let rollout = rollout.with_group(name, GroupEntry { nodes, ..entry.clone() });
            let why = Explanation::new(reasons::ROLLING_OUT, format!("moving {name} to {}", entry.image));
            Ok(Some(GroupPlan::Plan(Box::new(Plan::Record { rollout, ended: None, why, warning }))))
        }
    }
}
