//! What an ended run leads to, and what is cleaned up after it. Pure; part of the plan.
//!
//! A success: activate its images once EC2 has all of them available, demote older ones, record,
//! forget. A failure: record, forget. Each step is found done by what it left (tags, status, runs),
//! so a crash between any two continues where it stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request::{self as wire, ResourceKind};

use super::announced;
use super::images::{self, Located};
use super::observe::Observed;
use super::plan::{look, unknown};
use super::promote::{self, Promoted, Promotion, Results};
use super::step::{Plan, Record, Step, Sweep, What};
use super::time;
use super::{failures, history};
use crate::api::builder::{RunRecord, SweepRecord};
use crate::api::{BuildId, Class, Owner, Region, Seen};
use crate::engine::{Failure, Run, RunState, Said};

/// How often to ask whether an image has become available.
const PENDING_LOOK: Duration = Duration::from_secs(15);
/// Looks for leftovers, each so long after the one before: at once; when what depended on a stopped
/// instance is free; after half an hour and a day in all, since images and instances appear late.
pub const LOOKS: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_secs(5 * 60),
    Duration::from_secs(25 * 60),
    Duration::from_secs(23 * 3600 + 30 * 60),
];
/// Pauses after looks that AWS refused: people grant permissions. After one more refusal Opsy gives up until
/// somebody asks again.
const REFUSED: [Duration; 3] =
    [Duration::from_secs(6 * 3600), Duration::from_secs(24 * 3600), Duration::from_secs(7 * 24 * 3600)];
/// How long a machine is kept that a failed build leaves on purpose.
const KEPT_MACHINE: Duration = Duration::from_secs(24 * 3600);

/// Clocks of an agent and of its nodes differ by less.
const CLOCKS_DIFFER: Duration = Duration::from_secs(3600);

/// What goes into history about a run, beside what the run knows itself.
#[derive(Default)]
struct Entry {
    result: &'static str,
    images: Vec<String>,
    errors: Vec<String>,
    /// The images that now count.
    counting: Option<Vec<Located>>,
    good: bool,
    /// The base image that EC2 names for them.
    base: Option<String>,
}

impl Entry {
    fn promoted(done: Promoted) -> Self {
        let Promoted { result, images, counting, good, base } = done;
        Self { result, images, counting: Some(counting), good, base, errors: Vec::new() }
    }
}

/// Rule 2: ended runs that are not forgotten yet, the oldest first.
pub fn ended_run(seen: &Observed, runs: &[Run], now: Timestamp) -> Option<Plan> {
    let run = runs.iter().filter(|run| run.state.ended()).min_by_key(|run| run.facts.created_at)?;
    let recorded = seen.history().iter().any(|record| record.id == run.facts.build.as_str());
    Some(if recorded {
        act(Step::Forget(run.name.clone()), "its outcome is recorded")
    } else {
        harvest(seen, run, now)
    })
}

fn harvest(seen: &Observed, run: &Run, now: Timestamp) -> Plan {
    if let RunState::Failed(failure) = &run.state {
        let (result, errors) = failure_words(failure, &run.said);
        return record(seen, run, Entry { result, errors, ..Entry::default() });
    }
    let images = match &seen.images {
        Seen::Is(images) => images,
        Seen::Unknown(class, message) => return unknown(seen, What::Aws, *class, message),
    };
    let made = match &run.state {
        RunState::Succeeded(artifacts) => {
            promote::succeeded(run, artifacts).map_err(|error| (history::FAILED, error))
        }
        RunState::Lost(why) => promote::lost(run, images, why).map_err(|error| (history::LOST, error)),
        _ => Ok(Vec::new()),
    };
    let ids = match made {
        Ok(ids) => ids,
        Err((result, error)) => {
            return record(seen, run, Entry { result, errors: vec![error], ..Entry::default() });
        }
    };
    let account = match &seen.account {
        Some(Seen::Is(account)) => account,
        Some(Seen::Unknown(class, message)) => return unknown(seen, What::Aws, *class, message),
        None => return unknown(seen, What::Aws, Class::TRANSIENT, "the account is not known yet"),
    };
    let results = promote::results(run, &ids, images, account, now);
    match results {
        Results::Ready(made) => match promote::promote(seen, run, &made, images, now) {
            Promotion::Next(plan) => plan,
            Promotion::Done(done) => record(seen, run, Entry::promoted(done)),
            Promotion::Failed(error) => {
                record(seen, run, Entry { result: history::FAILED, errors: vec![error], ..Entry::default() })
            }
        },
        Results::Wait(on) => Plan::Wait { on, look: PENDING_LOOK.min(look(seen, None)) },
        Results::Failed(errors) => {
            record(seen, run, Entry { result: history::FAILED, errors, ..Entry::default() })
        }
    }
}

/// A failure as history has it: one word and the error lines, the cause first.
fn failure_words(failure: &Failure, said: &Said) -> (&'static str, Vec<String>) {
    let failed = |lines: Vec<String>| (history::FAILED, lines);
    match failure {
        Failure::TimedOut => {
            let late = "the build took too long and was stopped".to_owned();
            (history::TIMED_OUT, std::iter::once(late).chain(said.errors.iter().cloned()).collect())
        }
        Failure::Cancelled => (history::CANCELLED, said.errors.clone()),
        Failure::Packer { errors, .. } if !errors.is_empty() => failed(errors.clone()),
        Failure::Packer { exit: Some(code), .. } => failed(vec![format!("packer exited with {code}")]),
        Failure::Packer { exit: None, .. } => failed(vec!["packer was killed".to_owned()]),
        Failure::NoArtifact { errors } => {
            let nothing = "packer exited with 0 but named no image".to_owned();
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

fn record(seen: &Observed, run: &Run, mut entry: Entry) -> Plan {
    let (facts, said) = (&run.facts, &run.said);
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let sweep = sweep_record(seen, run, &entry.images);
    let verdict = failures::judge(run, entry.result, &entry.errors);
    entry.errors.truncate(MOST_ERRORS);
    for error in &mut entry.errors {
        shorten(error);
    }
    let stopped = verdict.is_some() || entry.result == history::CANCELLED;
    let record = RunRecord {
        id: facts.build.to_string(),
        result: entry.result.to_owned(),
        why: Some(facts.why.clone()),
        commit: Some(facts.commit.to_string()),
        inputs: Some(facts.inputs.clone()),
        images: list(entry.images),
        base_ami: entry.base.filter(|base| facts.inputs.base_ami.as_ref() != Some(base)),
        started_at: Some(run.started_at.unwrap_or(facts.created_at)),
        ended_at: Some(run.ended_at.unwrap_or(facts.created_at)),
        failure: verdict.as_ref().map(|verdict| verdict.class.to_owned()),
        step: said.command.filter(|_| stopped).map(|command| step_words(command, said.place)),
        packer_build: said.build.clone().filter(|_| stopped),
        errors: list(entry.errors),
        output: list(said.output.clone()).filter(|_| stopped),
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
    act(Step::Record(Box::new(record)), "the build ended")
}

fn step_words(command: wire::Command, place: Option<wire::Place>) -> String {
    let word = match command {
        wire::Command::Init => "init",
        wire::Command::Validate => "validate",
        wire::Command::Build => "build",
    };
    place.map_or_else(|| word.to_owned(), |place| format!("{word} {} of {}", place.number, place.of))
}

/// Errors kept in the history, and the longest of them: it holds ten runs, and goes to Git.
const MOST_ERRORS: usize = 5;
const LONGEST_ERROR: usize = 1000;

fn shorten(error: &mut String) {
    if let Some((at, _)) = error.char_indices().nth(LONGEST_ERROR) {
        error.truncate(at);
        error.push('…');
    }
}

/// When to look for what the run left, and where. Its results are not among what is looked for.
fn sweep_record(seen: &Observed, run: &Run, results: &[String]) -> SweepRecord {
    let ended = run.ended_at.unwrap_or(run.facts.created_at);
    let keeps = results.is_empty()
        && seen
            .spec
            .as_ref()
            .is_ok_and(|spec| spec.commands.iter().any(super::commands::PackerCommand::keeps_machine));
    // All looks at what is kept for a person come later: its group and volumes are free only once the machine is gone.
    let wait = if keeps { KEPT_MACHINE } else { LOOKS[0] };
    let resources = run.resources.iter().filter(|resource| resource.kind != ResourceKind::Region);
    let resources = resources.filter(|resource| !results.contains(&resource.id));
    let artifacts = run.artifacts().iter().map(|artifact| artifact.image.to_string());
    let artifacts = artifacts.filter(|image| !results.contains(image));
    let announced: Vec<String> = resources
        .map(announced::word)
        .chain(artifacts.map(|image| format!("{}={image}", announced::ARTIFACT)))
        .collect();
    let regions = touched(run);
    let everywhere = regions.is_empty() && is_cut_off(run, keeps);
    SweepRecord {
        id: run.facts.build.to_string(),
        owner: Some(run.facts.owner.as_ref().unwrap_or(&seen.subject.owner).to_string()),
        region: run.facts.region.to_string(),
        regions: (!regions.is_empty()).then_some(regions),
        everywhere: everywhere.then_some(true),
        started_at: Some(run.facts.created_at),
        due: time::after(ended, wait),
        looks: Some(0),
        refused: None,
        announced: (!announced.is_empty()).then_some(announced),
    }
}

/// Did the run leave its machine where it was, and no word on where that is? A template may name a region of its own,
/// and Packer says it with its images alone. A Packer that ended by itself has cleaned up.
fn is_cut_off(run: &Run, keeps_machine: bool) -> bool {
    let started = run.started_at.is_some();
    let cut_off = match &run.state {
        RunState::Lost(_) => true,
        RunState::Failed(Failure::Packer { exit, .. }) => exit.is_none() || keeps_machine,
        RunState::Failed(Failure::NotStarted(_) | Failure::NoArtifact { .. }) => false,
        RunState::Failed(_) => started,
        _ => false,
    };
    cut_off && run.artifacts().is_empty()
}

/// Regions beside the builder's own: those that Packer copied to, and those of its images.
fn touched(run: &Run) -> Vec<String> {
    let copied = run.resources.iter().filter(|resource| resource.kind == ResourceKind::Region);
    let copied = copied.filter_map(|resource| Region::parse(resource.id.as_str()).ok());
    let all = copied.chain(run.artifacts().iter().map(|artifact| artifact.region.clone()));
    let others: BTreeSet<Region> = all.filter(|region| *region != run.facts.region).collect();
    others.iter().map(ToString::to_string).collect()
}

/// Leftovers of ended, recorded runs, when a look for them is due. Not while a file of the
/// repository is broken or the images cannot be read: what is a result is then not certain.
pub fn due_sweep(seen: &Observed, now: Timestamp) -> Option<Plan> {
    // Where only certain accounts may be touched, it must be known that this is one of them.
    let is_allowed =
        seen.accounts.is_none() || seen.account.as_ref().is_some_and(|seen| seen.known().is_some());
    let images = seen.images.known().filter(|_| seen.complete && is_allowed)?;
    let mut due = seen.sweeps().iter().filter(|sweep| is_due(sweep, now));
    let sweep = due.find_map(|record| sweep(seen, record, images))?;
    Some(act(Step::Sweep(Box::new(sweep)), "an ended build may have left something"))
}

fn is_due(record: &SweepRecord, now: Timestamp) -> bool {
    !is_given_up(record) && record.due.is_none_or(|due| due <= now)
}

/// The pause after a refusal that follows on so many others; none where it is the last one.
pub fn pause_refused(before: usize) -> Option<Duration> {
    REFUSED.get(before).copied()
}

/// AWS refused it too often.
pub fn is_given_up(record: &SweepRecord) -> bool {
    refusals(record) > REFUSED.len()
}

fn refusals(record: &SweepRecord) -> usize {
    usize::try_from(record.refused.unwrap_or(0)).unwrap_or(0)
}

/// A date that is further away than any pause is from a clock that was set back since: the pause begins now.
pub fn bound(sweeps: &mut [SweepRecord], now: Timestamp) {
    for record in sweeps {
        let refused = refusals(record).checked_sub(1).and_then(pause_refused);
        let longest = refused.unwrap_or(KEPT_MACHINE);
        if record.due.is_some_and(|due| time::until(now, due) > longest + CLOCKS_DIFFER) {
            record.due = time::after(now, longest).map(time::to_second);
        }
    }
}

/// Somebody asks again: what AWS refused is looked for at once.
pub fn ask_again(sweeps: &mut [SweepRecord]) {
    for record in sweeps.iter_mut().filter(|record| record.refused.is_some()) {
        (record.refused, record.due) = (None, None);
    }
}

/// A record that cannot be read is left alone: it names nothing that could be looked for.
fn sweep(seen: &Observed, record: &SweepRecord, images: &[Located]) -> Option<Sweep> {
    let regions = regions(record)?;
    let words = record.announced.as_deref().unwrap_or_default();
    let announced = announced::parse(words, record.started_at, regions.first());
    Some(Sweep {
        regions,
        owner: record.owner.as_deref().map_or_else(|| Ok(seen.subject.owner.clone()), Owner::parse).ok()?,
        everywhere: record.everywhere == Some(true),
        build: BuildId::parse(record.id.as_str()).ok()?,
        announced,
        looks: usize::try_from(record.looks.unwrap_or(0)).unwrap_or(LOOKS.len()),
        refused: refusals(record),
        keep: keep(seen, images),
    })
}

fn regions(record: &SweepRecord) -> Option<Vec<Region>> {
    let home = Region::parse(record.region.as_str()).ok()?;
    let others = record.regions.iter().flatten().filter_map(|region| Region::parse(region.as_str()).ok());
    Some(std::iter::once(home).chain(others).collect())
}

/// Every image known to be a result, with its snapshots.
fn keep(seen: &Observed, images: &[Located]) -> BTreeSet<String> {
    let history = seen.history().iter().filter_map(|record| record.images.as_ref()).flatten().cloned();
    let status = seen.status.images.iter().flatten().map(|image| image.id.clone());
    let mut keep: BTreeSet<String> = history.chain(status).collect();
    for located in images {
        if located.tag(images::STATUS).is_some() || keep.contains(located.image.id.as_str()) {
            keep.extend(located.resources());
        }
    }
    keep
}

fn act(step: Step, why: &str) -> Plan {
    Plan::Act { step, why: why.to_owned() }
}
