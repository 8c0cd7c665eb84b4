//! The end of a rollout: its result is recorded, and nothing of it is moved any more. Pure.

use super::super::history;
use super::super::memory::Rollout;
use super::super::step::{Explanation, Plan};
use super::{PlanInput, node_groups};
use crate::api::reasons;
use crate::api::words::RolloutResult;

/// Records the end of the rollout, with a cause that no failure of a group tells.
pub fn finish(input: PlanInput<'_>, rollout: &Rollout, result: RolloutResult, cause: Option<String>) -> Plan {
    let mut ended = Rollout { finished: Some(input.now), ..rollout.clone() };
    ended.groups.retain(|_, entry| !entry.is_open());
    let moved = ended.groups.values().filter(|entry| entry.failure.is_none()).count();
    let target = &ended.target;
    let result_word = match result {
        RolloutResult::RolledBack => "done".to_owned(),
        _ => result.as_str().to_lowercase(),
    };
    let what = if ended.rollback.is_some() { "rollback to" } else { "rollout of" };
    let message = format!("{what} {target}: {result_word}, {} moved", node_groups(moved));
    let record = history::record(&ended, result, cause);
    let why = Explanation::new(reasons::ROLLING_OUT, message);
    Plan::Record { rollout: ended, ended: Some(record), why, warning: None }
}
