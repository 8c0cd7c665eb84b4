//! How the instance refresh of a self-managed group replaces its nodes, and how long it may take: the settings of the
//! spec, and what follows from them and from the group. Used by `self_managed`. Pure.

use std::time::Duration;

use super::super::node_group::{NodeGroup, SelfManagedGroup};
use super::super::spec::Spec;
use crate::aws::autoscaling::RefreshPreferences;
use crate::aws::eks::MaxUnavailable;

/// What every refresh may take to start nodes.
const EXPECTED_REFRESH: Duration = Duration::from_secs(3600);
/// What the drain and the start of a node may take, without its warmup.
const EXPECTED_NODE: Duration = Duration::from_secs(15 * 60);
/// The percentage that EC2 Auto Scaling keeps in service by default.
const DEFAULT_MIN_HEALTHY: u64 = 90;
/// The delay of EC2 Auto Scaling at a checkpoint by default.
const DEFAULT_DELAY: i32 = 3600;

/// The preferences of a refresh. What the spec does not set, and what does not follow from it, is left to EC2 Auto
/// Scaling. A rollback has no checkpoints: it restores what ran before, so that there is nothing to watch.
pub fn preferences(
    spec: &Spec,
    group: &NodeGroup,
    own: &SelfManagedGroup,
    is_rollback: bool,
) -> RefreshPreferences {
    let mut set = spec.update.refresh.clone();
    if is_rollback {
        (set.checkpoints, set.checkpoint_delay) = (Vec::new(), None);
    }
    let max = spec.update.max_unavailable;
    // Where the group protects new nodes, every node is protected: a refresh that waits for a person would never end.
    let protected = set.protected.clone().or_else(|| own.protects_new.then(|| "Refresh".to_owned()));
    RefreshPreferences {
        min_healthy: set.min_healthy.or_else(|| max.and_then(|max| min_healthy(max, group.desired))),
        protected,
        ..set
    }
}

/// The percentage of nodes that stays in service if this many are unavailable. EC2 Auto Scaling rounds up how many nodes
/// that is, so the percentage is rounded down. A group without nodes needs none.
fn min_healthy(max: MaxUnavailable, desired: u32) -> Option<i32> {
    if let Some(percentage) = max.percentage {
        return Some((100 - percentage).clamp(0, 100));
    }
    let count = u32::try_from(max.count?).ok()?;
    let kept = u64::from(desired.saturating_sub(count));
    if desired == 0 { None } else { i32::try_from(kept * 100 / u64::from(desired)).ok() }
}

/// How long the refresh of a group of this size may take.
pub fn expected_duration(
    spec: &Spec,
    group: &NodeGroup,
    own: &SelfManagedGroup,
    is_rollback: bool,
) -> Duration {
    let preferences = preferences(spec, group, own, is_rollback);
    let seconds = |value: i32| Duration::from_secs(u64::try_from(value).unwrap_or(0));
    let min = preferences.min_healthy.and_then(|min| u64::try_from(min).ok()).unwrap_or(DEFAULT_MIN_HEALTHY);
    let at_once = (u64::from(group.desired) * (100 - min.min(100)) / 100).max(1);
    let batches = u32::try_from(u64::from(group.desired).div_ceil(at_once)).unwrap_or(u32::MAX);
    let warmup = preferences.warmup.map(seconds).unwrap_or_default();
    let checkpoints = u32::try_from(preferences.checkpoints.len()).unwrap_or(u32::MAX);
    let delay = seconds(preferences.checkpoint_delay.unwrap_or(DEFAULT_DELAY)).saturating_mul(checkpoints);
    let nodes = (EXPECTED_NODE + warmup).saturating_mul(batches);
    EXPECTED_REFRESH.saturating_add(nodes).saturating_add(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// EC2 Auto Scaling keeps this many nodes in service.
    fn kept(max: MaxUnavailable, desired: u32) -> u32 {
        let percentage =
            min_healthy(max, desired).and_then(|min| u32::try_from(min).ok()).expect("a percentage");
        (desired * percentage).div_ceil(100)
    }

    #[test]
    fn a_number_of_unavailable_nodes_leaves_the_others_in_service() {
        for desired in 1..=200 {
            for count in 1..=100_i32 {
                let max = MaxUnavailable { count: Some(count), percentage: None };
                let unavailable = desired - kept(max, desired);
                let wanted = u32::try_from(count).expect("positive").min(desired);
                assert!(unavailable >= wanted, "{count} of {desired}: only {unavailable} may be replaced");
                assert!(
                    unavailable <= wanted + desired / 100,
                    "{count} of {desired}: {unavailable} are replaced"
                );
            }
        }
        assert_eq!(min_healthy(MaxUnavailable { count: Some(1), percentage: None }, 0), None);
        assert_eq!(min_healthy(MaxUnavailable { count: None, percentage: Some(34) }, 3), Some(66));
    }
}
