//! What the story of a rollout says if it rolls back one that failed. Pure.

use super::super::Tone;
use crate::api::reasons;
use crate::api::refresher::{AMIRefresherSpec, ROLLBACK, Rollout};
use crate::api::words::RolloutResult;

/// Reason, tone and title of the head of the story. `None` if the rollout is no rollback.
pub fn head(
    name: &str,
    rollout: &Rollout,
    result: Option<RolloutResult>,
) -> Option<(&'static str, Tone, String)> {
    rollout.rollback.as_ref()?;
    let target = &rollout.target;
    Some(match result {
        Some(RolloutResult::RolledBack | RolloutResult::Done) => {
            (reasons::ROLLED_BACK, Tone::Person, format!("{name}: rolled back to {target}"))
        }
        Some(RolloutResult::Failed) => {
            (reasons::ROLLOUT_FAILED, Tone::Person, format!("{name}: rollback to {target} failed"))
        }
        Some(RolloutResult::Replaced | RolloutResult::Held) => {
            (reasons::ROLLOUT_REPLACED, Tone::Good, format!("{name}: rollback to {target} was replaced"))
        }
        None => (reasons::ROLLING_BACK, Tone::Bad, format!("{name}: rolling back to {target}")),
    })
}

/// Whether a rollout that fails is rolled back.
pub fn is_wanted(spec: &AMIRefresherSpec) -> bool {
    spec.rollout.as_ref().and_then(|policy| policy.on_failure.as_deref()) == Some(ROLLBACK)
}

/// Why the rollout is rolled back.
pub fn cause(rollout: &Rollout) -> Option<String> {
    let rollback = rollout.rollback.as_ref()?;
    let failed = Some(rollback.target.as_str()).filter(|target| !target.is_empty())?;
    Some(match rollback.reason.as_deref() {
        Some(reason) => format!("{failed} failed: {reason}"),
        None => format!("{failed} failed"),
    })
}

/// What a person can do after the rollback.
pub fn advice(rollout: &Rollout) -> Option<String> {
    let failed = &rollout.rollback.as_ref()?.target;
    Some(format!(
        "If the image is the cause, fix it and build a new one, which Opsy then rolls out. To roll {failed} out again, \
         set the annotation ami.opsy.dev/retry: {failed}."
    ))
}
