//! Whether a group may start now, as far as its nodes tell: the group that hosts the agent comes last, one that hosts a
//! build waits until the build has ended, and with `rollout.preflight: Block` so does one whose pods prevent or delay its
//! update. Asked by `turn` for a group whose turn has come. Pure.

use std::time::Duration;

use super::super::cluster_view::{GroupNode, View};
use super::super::node_group::NodeGroup;
use super::super::observed::MissingFact;
use super::super::step::{Delay, Explanation};
use super::PlanInput;
use super::drain::{findings, forces, unavailable, unchecked};
use crate::api::reasons;
use crate::api::time::after;
use crate::api::words::PreflightMode;
use crate::engine::nodes::{BuildPod, Hosts};

/// How soon it is checked again whether a build has ended.
const BUILD_AGAIN: Duration = Duration::from_secs(60);
/// How soon the pods on the nodes are checked again: this reads all pods of the cluster.
const PODS_AGAIN: Duration = Duration::from_secs(300);

pub enum Admission {
    Start,
    /// It hosts the agent: it starts when no other group is left that may start.
    Last,
    /// It may not start now. Other groups may.
    Delay(Delay),
    /// The cluster cannot be read now.
    Wait(Explanation),
}

pub fn admission(input: PlanInput<'_>, group: &NodeGroup) -> Result<Admission, MissingFact> {
    let blocks = input.spec.policy.health.preflight == PreflightMode::Block;
    let nodes = match input.observed.nodes(group)? {
        View::Absent => return Ok(Admission::Start),
        View::Denied(why) if blocks => {
            return Ok(delay(input, failed(group, &[unchecked(&why)]), PODS_AGAIN));
        }
        View::Denied(_) => return Ok(Admission::Start),
        View::Unreadable(why) => return Ok(Admission::Wait(unavailable(&why))),
        View::Is(nodes) => nodes,
    };
    let hosts = match input.observed.hosts()? {
        View::Is(hosts) => hosts.clone(),
        View::Unreadable(why) => return Ok(Admission::Wait(unavailable(&why))),
        View::Absent | View::Denied(_) => Hosts::default(),
    };
    let is_there = |node: &str| nodes.iter().any(|own| own.name == node);
    let builds: Vec<&BuildPod> = hosts.builds.iter().filter(|build| is_there(&build.node)).collect();
    if !builds.is_empty() {
        return Ok(delay(input, building(group, &builds), BUILD_AGAIN));
    }
    if blocks && let Some(delayed) = preflight(input, group, &nodes)? {
        return Ok(delayed);
    }
    Ok(if hosts.agent.as_deref().is_some_and(is_there) { Admission::Last } else { Admission::Start })
}

/// What holds the group back with `rollout.preflight: Block`.
fn preflight(
    input: PlanInput<'_>,
    group: &NodeGroup,
    nodes: &[GroupNode<'_>],
) -> Result<Option<Admission>, MissingFact> {
    let found = match input.observed.pods(&group.name, nodes)? {
        View::Absent => return Ok(None),
        View::Denied(why) => vec![unchecked(&why)],
        View::Unreadable(why) => return Ok(Some(Admission::Wait(unavailable(&why)))),
        View::Is(pods) => findings(pods, forces(input.spec, group)).blocking,
    };
    Ok((!found.is_empty()).then(|| delay(input, failed(group, &found), PODS_AGAIN)))
}

fn delay(input: PlanInput<'_>, why: Explanation, again: Duration) -> Admission {
    Admission::Delay(Delay { why, until: after(input.now, again) })
}

fn failed(group: &NodeGroup, found: &[String]) -> Explanation {
    let message = format!("{} is not updated (rollout.preflight is Block): {}", group.name, found.join("; "));
    Explanation::new(reasons::PREFLIGHT_FAILED, message)
}

fn building(group: &NodeGroup, builds: &[&BuildPod]) -> Explanation {
    let mut builders: Vec<String> =
        builds.iter().map(|build| format!("{}/{}", build.namespace, build.builder)).collect();
    builders.sort();
    builders.dedup();
    let message = format!(
        "{} hosts a build of {}: its update starts when the build has ended",
        group.name,
        builders.join(", ")
    );
    Explanation::new(reasons::WAITING_FOR_BUILD, message)
}
