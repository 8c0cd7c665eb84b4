//! Parses `spec.refreshConfig.instanceRefresh` into the preferences of instance refreshes, by the rules of EC2 Auto
//! Scaling. Part of `spec`. Pure.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::api::checks::{Problems, written};
use crate::api::refresher::InstanceRefreshConfig;
use crate::aws::autoscaling::RefreshPreferences;

const PATH: &str = "spec.refreshConfig.instanceRefresh";
const MIN_HEALTHY: RangeInclusive<i32> = 0..=100;
const MAX_HEALTHY: RangeInclusive<i32> = 100..=200;
/// Maximum difference between the two.
const SPREAD: i32 = 100;
const CHECKPOINT: RangeInclusive<i32> = 1..=100;
/// Maximum of CheckpointDelay.
const LONGEST_DELAY: Duration = Duration::from_secs(48 * 3600);
/// A refresh replaces nodes for at most 14 days.
const LONGEST_WARMUP: Duration = Duration::from_secs(14 * 24 * 3600);

pub(super) fn preferences(
    config: Option<&InstanceRefreshConfig>,
    problems: &mut Problems,
) -> RefreshPreferences {
    let Some(config) = config else { return RefreshPreferences::default() };
    let (min, max) = (config.min_healthy_percentage, config.max_healthy_percentage);
    percentage("minHealthyPercentage", min, &MIN_HEALTHY, problems);
    percentage("maxHealthyPercentage", max, &MAX_HEALTHY, problems);
    check_spread(min, max, problems);
    let checkpoints = config.checkpoint_percentages.clone().unwrap_or_default();
    check_checkpoints(&checkpoints, problems);
    let delay = seconds("checkpointDelay", config.checkpoint_delay.as_ref(), LONGEST_DELAY, "48h", problems);
    if delay.is_some() && checkpoints.is_empty() {
        let message = "needs checkpointPercentages: set them, for example [20, 100], or remove this field";
        problems.add(format!("{PATH}.checkpointDelay"), message);
    }
    let warmup = config.instance_warmup.as_ref();
    let protected = config.scale_in_protected_instances.as_ref();
    let standby = config.standby_instances.as_ref();
    RefreshPreferences {
        min_healthy: min,
        max_healthy: max,
        warmup: seconds("instanceWarmup", warmup, LONGEST_WARMUP, "14d", problems),
        checkpoints,
        checkpoint_delay: delay,
        protected: word("scaleInProtectedInstances", protected, &["Refresh", "Ignore", "Wait"], problems),
        standby: word("standbyInstances", standby, &["Terminate", "Ignore", "Wait"], problems),
    }
}

fn percentage(field: &str, value: Option<i32>, range: &RangeInclusive<i32>, problems: &mut Problems) {
    if let Some(value) = value.filter(|value| !range.contains(value)) {
        let message = format!("must be between {} and {}, but is {value}", range.start(), range.end());
        problems.add(format!("{PATH}.{field}"), message);
    }
}

fn check_spread(min: Option<i32>, max: Option<i32>, problems: &mut Problems) {
    let path = format!("{PATH}.maxHealthyPercentage");
    match (min, max) {
        (None, Some(_)) => problems.add(path, "needs minHealthyPercentage: set it as well"),
        (Some(min), Some(max)) if MIN_HEALTHY.contains(&min) && max.saturating_sub(min) > SPREAD => {
            problems.add(path, format!("must be at most 100 more than minHealthyPercentage, which is {min}"));
        }
        _ => {}
    }
}

fn check_checkpoints(checkpoints: &[i32], problems: &mut Problems) {
    let path = format!("{PATH}.checkpointPercentages");
    for (index, value) in checkpoints.iter().enumerate().filter(|(_, value)| !CHECKPOINT.contains(value)) {
        problems.add(format!("{path}[{index}]"), format!("must be between 1 and 100, but is {value}"));
    }
    if !checkpoints.is_sorted_by(|a, b| a < b) {
        problems.add(&path, "must be in ascending order, without duplicates");
    }
    if checkpoints.last().is_some_and(|last| *last != 100) {
        problems.add(path, "must end with 100: otherwise the rest of the group would stay on the old image");
    }
}

fn seconds(
    field: &str,
    text: Option<&String>,
    longest: Duration,
    written_as: &str,
    problems: &mut Problems,
) -> Option<i32> {
    let path = format!("{PATH}.{field}");
    let time = problems.duration(&path, text)?;
    if time > longest {
        problems.add(path, format!("must be at most {written_as}"));
        return None;
    }
    i32::try_from(time.as_secs()).ok()
}

fn word(field: &str, text: Option<&String>, words: &[&str], problems: &mut Problems) -> Option<String> {
    let text = written(text)?;
    problems.word(format!("{PATH}.{field}"), text, words);
    Some(text.to_owned())
}
