//! What the history says: failures of the same inputs, how long to pause, which run was last. Pure.
//!
//! A failure is an entry with its build id, upserted and counted, never a number that is increased.

use std::time::Duration;

use jiff::Timestamp;

use super::failures;
use super::images::Located;
use super::spec::Failures;
use super::time::{self, SKEW};
use crate::api::builder::{InputsRecord, RunRecord};
use crate::engine::Run;

pub const SUCCEEDED: &str = "Succeeded";
pub const SUPERSEDED: &str = "Superseded";
pub const FAILED: &str = "Failed";
pub const TIMED_OUT: &str = "TimedOut";
pub const CANCELLED: &str = "Cancelled";
pub const LOST: &str = "Lost";

/// As many runs as the retry limit may count.
pub const LENGTH: usize = 10;
/// Pauses are spread by up to a tenth, so that builders that failed together do not return together.
const JITTER: u32 = 10;

/// What earlier runs of the same inputs came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Streak<'a> {
    /// Failures of the template since the last success, or since somebody asked for another try.
    pub failures: usize,
    /// All failures since then, whatever their cause.
    pub attempts: usize,
    /// The newest run of these inputs, if it came to nothing.
    pub last: Option<&'a RunRecord>,
}

/// Failures for these inputs, newer than the last success. Cancelled runs are none.
pub fn streak<'a>(history: &'a [RunRecord], inputs: &InputsRecord) -> Streak<'a> {
    let mut streak = Streak::default();
    let since_success = history.iter().take_while(|record| record.result != SUCCEEDED);
    let same = since_success.filter(|record| record.inputs.as_ref() == Some(inputs));
    for record in same.take_while(|record| record.reset != Some(true)) {
        streak.last = streak.last.or(Some(record));
        let failed = is_failure(record);
        streak.attempts += usize::from(failed);
        streak.failures += usize::from(failed && counts(record));
    }
    streak
}

fn is_failure(record: &RunRecord) -> bool {
    matches!(record.result.as_str(), FAILED | TIMED_OUT | LOST)
}

/// Is it the template's failure? A record of an older version does not say otherwise.
pub fn counts(record: &RunRecord) -> bool {
    record.failure.as_deref() != Some(failures::TRANSIENT)
}

/// Somebody asked for another try: failures until then count no longer. Where no time is known it is now.
pub fn reset(history: &mut [RunRecord], asked: Option<Timestamp>) {
    let until = |record: &&mut RunRecord| {
        is_failure(record) && asked.is_none_or(|asked| record.ended_at.is_none_or(|ended| ended <= asked))
    };
    for record in history.iter_mut().filter(until) {
        record.reset = Some(true);
    }
}

/// When the next try is due, after a failure or a cancelled run. A run that ended in times to come is from a
/// clock that was set back since, and delays nothing.
pub fn next_try(streak: &Streak<'_>, policy: &Failures, now: Timestamp) -> Option<Timestamp> {
    let last = streak.last.filter(|last| last.result != SUPERSEDED)?;
    let ended = last.ended_at.or(last.started_at).filter(|ended| time::until(now, *ended) <= SKEW)?;
    time::after(ended, pause(streak.attempts.max(1), &last.id, policy))
}

/// The pause after so many failures: doubled each time up to the longest, plus a little that depends
/// on the build alone.
fn pause(failures: usize, build: &str, policy: &Failures) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
    let pause = policy.backoff.saturating_mul(1 << doublings).min(policy.max_backoff);
    let spread = build.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    pause + pause * (spread % JITTER) / (JITTER * JITTER)
}

/// The history with a run entered: in its old place if it is there already, else in front.
pub fn enter(history: &mut Vec<RunRecord>, record: RunRecord) {
    match history.iter_mut().find(|old| old.id == record.id) {
        Some(old) => *old = record,
        None => history.insert(0, record),
    }
    history.truncate(LENGTH);
}

/// Build id of the run before the next one: the newest that status, the engine or an image knows.
/// The order of the history counts, not its dates: clocks are set back now and then.
pub fn previous(history: &[RunRecord], runs: &[Run], images: &[&Located]) -> Option<String> {
    let unrecorded = |build: &str| !history.iter().any(|record| record.id == build);
    let recorded = history.first().map(|last| (last.ended_at.or(last.started_at), last.id.as_str()));
    let live = runs.iter().map(|run| (run.ended_at.or(Some(run.facts.created_at)), run.facts.build.as_str()));
    let tagged = images.iter().filter_map(|image| Some((image.built_at(), image.build()?)));
    let others = live.chain(tagged).filter(|(_, build)| unrecorded(build));
    // Of two with the same date the recorded one is the later one.
    others.max().into_iter().chain(recorded).max_by_key(|(at, _)| *at).map(|(_, build)| build.to_owned())
}
