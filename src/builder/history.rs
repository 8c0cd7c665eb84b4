//! What the history shows: failures of the same inputs, the delay before the next attempt, and the previous run. Pure.
//!
//! A failure is an entry with its build ID. It is upserted, and entries are counted; no counter is ever incremented.

use std::time::Duration;

use jiff::Timestamp;

use super::located::Located;
use super::spec::Failures;
use crate::api::backoff;
use crate::api::builder::{InputsRecord, RunRecord};
use crate::api::time::{self, SKEW};
use crate::api::words::{FailureKind, RunResult};
use crate::engine::Run;

/// Maximum number of runs in the history. The failure limit cannot be higher, because failures are counted there.
pub const MAX_RUNS: usize = 10;
/// Delays are spread by up to a tenth, so that builders that failed together do not retry together.
const JITTER: u32 = 10;

/// The failures of the same inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Streak<'a> {
    /// Failures of the template since the last success, or since a person requested another attempt.
    pub failures: usize,
    /// All failures since then, whatever their cause.
    pub attempts: usize,
    /// The newest run of these inputs, if it did not succeed.
    pub last: Option<&'a RunRecord>,
}

/// Returns the failures of these inputs since the last success. A canceled run is not a failure.
pub fn streak<'a>(history: &'a [RunRecord], inputs: &InputsRecord) -> Streak<'a> {
    let mut streak = Streak::default();
    let since_success = history.iter().take_while(|record| result(record) != Some(RunResult::Succeeded));
    let same = since_success.filter(|record| record.inputs.as_ref() == Some(inputs));
    for record in same.take_while(|record| record.reset != Some(true)) {
        streak.last = streak.last.or(Some(record));
        let failed = record.has_failed();
        streak.attempts += usize::from(failed);
        streak.failures += usize::from(failed && counts_toward_limit(record));
    }
    streak
}

/// Returns the result of a run, or `None` if only a newer version knows it.
pub fn result(record: &RunRecord) -> Option<RunResult> {
    RunResult::parse(&record.result)
}

/// Returns whether a failure counts toward the limit. One that an older version recorded without a kind does.
pub fn counts_toward_limit(record: &RunRecord) -> bool {
    record.failure.as_deref() != Some(FailureKind::Transient.as_str())
}

/// Resets the failures until a person requested another attempt, so that they no longer count. If the time of the
/// request is unknown, all failures are reset.
pub fn reset(history: &mut [RunRecord], asked: Option<Timestamp>) {
    let until = |record: &&mut RunRecord| {
        record.has_failed() && asked.is_none_or(|asked| record.ended_at.is_none_or(|ended| ended <= asked))
    };
    for record in history.iter_mut().filter(until) {
        record.reset = Some(true);
    }
}

/// Returns when the next attempt is due after a failed or canceled run. If the run ended in the future, the clock was
/// set back since, and the run causes no delay.
pub fn next_attempt(streak: &Streak<'_>, policy: &Failures, now: Timestamp) -> Option<Timestamp> {
    let last = streak.last.filter(|last| result(last) != Some(RunResult::Superseded))?;
    let ended = last.ended_at.or(last.started_at).filter(|ended| time::between(now, *ended) <= SKEW)?;
    time::after(ended, delay(streak.attempts.max(1), &last.id, policy))
}

/// Returns the delay after this many failures. The spread depends only on the build, so each call returns the same
/// delay.
fn delay(failures: usize, build: &str, policy: &Failures) -> Duration {
    let failures = u32::try_from(failures).unwrap_or(u32::MAX);
    let delay = backoff::doubled(policy.backoff, policy.max_backoff, failures);
    backoff::spread(delay, JITTER, &[build])
}

/// Upserts a run: replaces its entry, or inserts it as the first one.
pub fn upsert(history: &mut Vec<RunRecord>, record: RunRecord) {
    match history.iter_mut().find(|old| old.id == record.id) {
        Some(old) => *old = record,
        None => history.insert(0, record),
    }
    history.truncate(MAX_RUNS);
}

/// Returns the ID of the newest build that status, the engine or an image knows. Within the history, the position
/// decides and not the date, because clocks can be set back.
pub fn previous(history: &[RunRecord], runs: &[Run], images: &[&Located]) -> Option<String> {
    let unrecorded = |build: &str| !history.iter().any(|record| record.id == build);
    let recorded = history.first().map(|last| (last.ended_at.or(last.started_at), last.id.as_str()));
    let live = runs.iter().map(|run| (run.ended_at.or(Some(run.facts.created_at)), run.facts.build.as_str()));
    let tagged = images.iter().filter_map(|image| Some((image.built_at(), image.build()?)));
    let others = live.chain(tagged).filter(|(_, build)| unrecorded(build));
    // `max_by_key` returns the last of two equal ones: of two runs with the same date, the recorded one is the later
    // one.
    others.max().into_iter().chain(recorded).max_by_key(|(at, _)| *at).map(|(_, build)| build.to_owned())
}
