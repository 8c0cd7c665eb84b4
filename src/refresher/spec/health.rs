//! Parses `rollout.preflight` and `rollout.healthCheck`: what must hold before and after the update of a group. Part of
//! `spec`. Pure.

use std::time::Duration;

use crate::api::checks::{Problems, written};
use crate::api::refresher::RolloutPolicy;
use crate::api::words::PreflightMode;

/// A new node needs a few minutes to start and join, and EKS has already seen it join.
const NODES_READY_WITHIN: Duration = Duration::from_secs(600);

/// What must hold before and after the update of a group.
#[derive(Clone, Debug)]
pub struct HealthPolicy {
    pub preflight: PreflightMode,
    /// How long the nodes of an updated group may take to become ready; `None` turns the check off.
    pub nodes_ready_within: Option<Duration>,
}

pub(super) fn health(policy: &RolloutPolicy, problems: &mut Problems) -> HealthPolicy {
    let mode = written(policy.preflight.as_ref());
    if let Some(mode) = mode {
        let words: Vec<&str> = PreflightMode::ALL.iter().map(|word| word.as_str()).collect();
        problems.word("spec.rollout.preflight", mode, &words);
    }
    let within = policy.health_check.as_ref().and_then(|check| check.nodes_ready_within.as_ref());
    let within = problems.duration("spec.rollout.healthCheck.nodesReadyWithin", within);
    HealthPolicy {
        preflight: mode.and_then(PreflightMode::parse).unwrap_or(PreflightMode::Warn),
        nodes_ready_within: Some(within.unwrap_or(NODES_READY_WITHIN)).filter(|within| !within.is_zero()),
    }
}
