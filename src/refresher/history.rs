//! The record of an ended rollout in `status.history`: its result, its failures, and how long each node group took.
//! Made by `plan::end` and `plan::rollback`, written by `status`. Pure.

use jiff::SignedDuration;

use super::memory::{GroupEntry, Rollout};
use crate::api::ImageId;
use crate::api::refresher::{RecordedGroup, RolloutRecord};
use crate::api::time::between;
use crate::api::words::RolloutResult;

/// Node groups per record: status keeps ten records, and an object in the API server has a limited size.
const GROUPS: usize = 50;

/// The record of a rollout that ended with this result. `cause` is a failure that no group tells.
pub fn record(rollout: &Rollout, result: RolloutResult, cause: Option<String>) -> RolloutRecord {
    let failed = rollout
        .failures()
        .filter_map(|(name, entry)| entry.failure.as_ref().map(|failure| format!("{name}: {failure}")));
    let failures: Vec<String> = failed.chain(rollout.failure.clone()).chain(cause).collect();
    let begun = rollout.groups.iter().filter(|(_, entry)| entry.started >= rollout.started);
    let groups: Vec<RecordedGroup> = begun.take(GROUPS).map(|(name, entry)| group(name, entry)).collect();
    RolloutRecord {
        id: rollout.id.clone(),
        target: rollout.target.to_string(),
        result: result.to_string(),
        rollback_of: rollout.rollback.as_ref().map(|rollback| rollback.of.clone()),
        started_at: Some(rollout.started),
        finished_at: rollout.finished,
        failures: (!failures.is_empty()).then_some(failures),
        groups: (!groups.is_empty()).then_some(groups),
    }
}

fn group(name: &str, entry: &GroupEntry) -> RecordedGroup {
    let result = if entry.failure.is_some() { RolloutResult::Failed } else { RolloutResult::Done };
    RecordedGroup {
        name: name.to_owned(),
        previous_ami: entry.origin().image.as_ref().map(ImageId::to_string),
        target_ami: Some(entry.image.to_string()),
        result: result.to_string(),
        duration: entry.finished.map(|finished| {
            let seconds = between(entry.started, finished).as_secs();
            let duration = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            format!("{duration:#}").replace(' ', "")
        }),
    }
}
