//! What follows from an ended run. Pure; part of the plan.
//!
//! After a success, its images become active once EC2 has all of them available, older ones are demoted, the result is
//! recorded in status, and the run is forgotten. After a failure, the result is recorded and the run is forgotten. A
//! step counts as done by its traces (tags, status, runs), so that a crash between two steps loses nothing.

use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request as wire;

use super::located::Located;
use super::observe::Observed;
use super::promote::{self, Promoted, Promotion, Results};
use super::step::{Dependency, Plan, Record, Step};
use super::wait::{requeue_after, unknown};
use super::{failures, orphans};
use crate::api::builder::RunRecord;
use crate::api::words::RunResult;
use crate::api::{Class, Seen};
use crate::engine::{Failure, ReportDetails, Run, RunState};

/// Interval of the checks whether an image has become available.
const PENDING_REQUEUE: Duration = Duration::from_secs(15);

/// What the history records about a run in addition to what the run itself contains.
struct Entry {
    result: RunResult,
    images: Vec<String>,
    errors: Vec<String>,
    /// The images that count now, if the run was promoted.
    counting: Option<Vec<Located>>,
    good: bool,
    /// The base image that EC2 reports for the images of the run.
    base: Option<String>,
}

impl Entry {
    /// The entry of a run that is recorded without images.
    fn failed(result: RunResult, errors: Vec<String>) -> Self {
        Self { result, errors, images: Vec::new(), counting: None, good: false, base: None }
    }

    fn promoted(done: Promoted) -> Self {
        let Promoted { result, images, counting, good, base } = done;
        Self { result, images, counting: Some(counting), good, base, errors: Vec::new() }
    }
}

/// Rule 2: collects the result of the oldest ended run, and forgets the run once its result is recorded.
pub fn ended_run(observed: &Observed, runs: &[Run], now: Timestamp) -> Option<Plan> {
    let run = runs.iter().filter(|run| run.state.ended()).min_by_key(|run| run.facts.created_at)?;
    let recorded = observed.history().iter().any(|record| record.id == run.facts.build.as_str());
    Some(if recorded {
        Plan::act(Step::Forget(run.name.clone()), "its result is recorded")
    } else {
        collect(observed, run, now)
    })
}

/// Returns the next step for an ended run whose result is not recorded yet.
fn collect(observed: &Observed, run: &Run, now: Timestamp) -> Plan {
    // A failure is recorded without a read of AWS, so also while AWS cannot be reached.
    if let RunState::Failed(failure) = &run.state {
        let (result, errors) = failure_result(failure, &run.details);
        return record(observed, run, Entry::failed(result, errors));
    }
    let images = match &observed.images {
        Seen::Is(images) => images,
        Seen::Unknown(class, message) => return unknown(observed, Dependency::Aws, *class, message),
    };
    let made = match &run.state {
        RunState::Succeeded(artifacts) => {
            promote::succeeded(run, artifacts).map_err(|error| (RunResult::Failed, error))
        }
        RunState::Lost(why) => promote::lost(run, images, why).map_err(|error| (RunResult::Lost, error)),
        // Not reached: `ended_run` selects only ended runs, and a failure was recorded above.
        _ => Ok(Vec::new()),
    };
    let ids = match made {
        Ok(ids) => ids,
        Err((result, error)) => {
            return record(observed, run, Entry::failed(result, vec![error]));
        }
    };
    // Only an image of the agent's own account is a result, so nothing is promoted while the account is unknown.
    let account = match &observed.account {
        Some(Seen::Is(account)) => account,
        Some(Seen::Unknown(class, message)) => return unknown(observed, Dependency::Aws, *class, message),
        None => return unknown(observed, Dependency::Aws, Class::TRANSIENT, "the account is not known yet"),
    };
    let results = promote::results(run, &ids, images, account, now);
    match results {
        Results::Ready(made) => match promote::promote(observed, run, &made, images, now) {
            Promotion::Next(plan) => plan,
            Promotion::Done(done) => record(observed, run, Entry::promoted(done)),
            Promotion::Failed(error) => record(observed, run, Entry::failed(RunResult::Failed, vec![error])),
        },
        Results::Wait(on) => Plan::Wait { on, requeue: PENDING_REQUEUE.min(requeue_after(observed, None)) },
        Results::Failed(errors) => record(observed, run, Entry::failed(RunResult::Failed, errors)),
    }
}

/// Returns the result and the errors of a failed run as the history records them, the cause first.
fn failure_result(failure: &Failure, details: &ReportDetails) -> (RunResult, Vec<String>) {
    let failed = |lines: Vec<String>| (RunResult::Failed, lines);
    match failure {
        Failure::TimedOut => {
            let late = "the build took too long and was stopped".to_owned();
            (RunResult::TimedOut, std::iter::once(late).chain(details.errors.iter().cloned()).collect())
        }
        Failure::Cancelled => (RunResult::Cancelled, details.errors.clone()),
        Failure::Packer { errors, .. } if !errors.is_empty() => failed(errors.clone()),
        Failure::Packer { exit: Some(code), .. } => failed(vec![format!("packer exited with {code}")]),
        Failure::Packer { exit: None, .. } => failed(vec!["packer was killed".to_owned()]),
        Failure::NoArtifact { errors } => {
            let nothing = "packer exited with 0 but reported no image".to_owned();
            failed(std::iter::once(nothing).chain(errors.iter().cloned()).collect())
        }
        Failure::NotStarted(error) => failed(vec![error.clone()]),
        Failure::OutOfMemory => {
            let words = "the build ran out of memory: raise spec.builder.pod.resources.limits.memory";
            failed(vec![words.to_owned()])
        }
        Failure::Evicted(words) => failed(vec![format!("the build's pod was evicted: {words}")]),
    }
}

/// Returns the step that records an ended run in status.
fn record(observed: &Observed, run: &Run, mut entry: Entry) -> Plan {
    let (facts, details) = (&run.facts, &run.details);
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let sweep = orphans::sweep_record(observed, run, &entry.images);
    // Before the errors are cut: the remedy may depend on a part that is not recorded.
    let verdict = failures::judge(run, entry.result, &entry.errors);
    entry.errors.truncate(MAX_ERRORS);
    for error in &mut entry.errors {
        shorten(error);
    }
    // Where Packer stopped is of interest only if the run failed or was canceled.
    let stopped = verdict.is_some() || entry.result == RunResult::Cancelled;
    let record = RunRecord {
        id: facts.build.to_string(),
        result: entry.result.to_string(),
        why: Some(facts.why.clone()),
        commit: Some(facts.commit.to_string()),
        inputs: Some(facts.inputs.clone()),
        images: list(entry.images),
        // Recorded only if it is not the requested base image, which is in `inputs`.
        base_ami: entry.base.filter(|base| facts.inputs.base_ami.as_ref() != Some(base)),
        started_at: Some(run.started_at.unwrap_or(facts.created_at)),
        ended_at: Some(run.ended_at.unwrap_or(facts.created_at)),
        failure: verdict.as_ref().map(|verdict| verdict.kind.to_string()),
        step: details.command.filter(|_| stopped).map(|command| step_text(command, details.place)),
        packer_build: details.build.clone().filter(|_| stopped),
        errors: list(entry.errors),
        output: list(details.output.clone()).filter(|_| stopped),
        advice: verdict.and_then(|verdict| verdict.advice),
        reset: None,
    };
    let record = Record {
        run: record,
        sweep,
        images: entry.counting,
        good: entry.good,
        resources: run.resources.clone(),
        name: run.name.clone(),
    };
    Plan::act(Step::Record(Box::new(record)), "the build ended")
}

fn step_text(command: wire::Command, place: Option<wire::Place>) -> String {
    let word = match command {
        wire::Command::Init => "init",
        wire::Command::Validate => "validate",
        wire::Command::Build => "build",
    };
    place.map_or_else(|| word.to_owned(), |place| format!("{word} {} of {}", place.number, place.of))
}

/// Number and length of the errors in the history: it contains ten runs and is published to Git.
const MAX_ERRORS: usize = 5;
const MAX_ERROR_LENGTH: usize = 1000;

fn shorten(error: &mut String) {
    if let Some((at, _)) = error.char_indices().nth(MAX_ERROR_LENGTH) {
        error.truncate(at);
        error.push('…');
    }
}
