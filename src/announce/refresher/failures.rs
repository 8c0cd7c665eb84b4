//! What a rollout's story says about groups that failed: the whole channel sees the first failure, the thread every other
//! one. Pure.

use super::super::{Message, Tone, Weight, message};
use crate::api::reasons;
use crate::api::refresher::RolloutGroup;

/// Returns the group that failed first and its error.
pub fn first<'a>(groups: &[&'a RolloutGroup]) -> Option<(&'a str, &'a str)> {
    let failed = groups.iter().copied().filter(|group| group.last_failure.is_some());
    // The end of a move is recorded after its failure, so that a group without one is the last one that failed.
    let first = failed.min_by_key(|group| (group.finished_at.is_none(), group.finished_at, &group.name))?;
    Some((first.name.as_str(), first.last_failure.as_deref()?))
}

/// Returns the message about the first failure. If the rollout was interrupted, only the thread sees it.
pub fn reply(title: String, failure: &str, is_interrupted: bool) -> Message {
    let (reason, tone, weight) = match is_interrupted {
        true => (reasons::UPDATE_FAILED, Tone::Bad, Weight::Detail),
        false => (reasons::ROLLOUT_FAILING, Tone::Person, Weight::Loud),
    };
    let mut reply = message("failed", reason, tone, weight, title);
    reply.text = failure.to_owned();
    reply
}
