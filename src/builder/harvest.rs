//! What an ended run leads to, and what is cleaned up after it. Pure; part of the plan.
//!
//! A success: activate its images once EC2 has all of them available, demote older ones, record,
//! forget. A failure: record, forget. Each step is found done by what it left (tags, status, runs),
//! so a crash between any two continues where it stopped.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::history;
use super::images::{self, BuiltFrom, Lane, Located};
use super::inputs::{self, Wanted};
use super::observe::Observed;
use super::plan::{good, look, unknown, wanted};
use super::spec::Spec;
use super::step::{On, Plan, Record, Step, Sweep, Tagging, What};
use super::time;
use crate::api::builder::{RunRecord, SweepRecord};
use crate::api::{BuildId, ImageId, Region, Seen};
use crate::aws::{ImageState, Tags};
use crate::engine::{Artifact, Failure, Run, RunState};

/// EC2 may not show an image at once that it has just named.
const APPEARS_WITHIN: Duration = Duration::from_secs(10 * 60);
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
/// How long a machine is kept that a failed build leaves on purpose.
const KEPT_MACHINE: Duration = Duration::from_secs(24 * 3600);

type Active<'a> = (&'a Located, BuiltFrom);

/// What goes into history about a run, beside what the run knows itself.
#[derive(Default)]
struct Entry {
    result: &'static str,
    images: Vec<String>,
    errors: Vec<String>,
    /// The images that now count.
    counting: Option<Vec<Located>>,
    good: bool,
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
        let (result, errors) = failure_words(failure);
        return record(seen, run, Entry { result, errors, ..Entry::default() });
    }
    let images = match &seen.images {
        Seen::Is(images) => images,
        Seen::Unknown(class, message) => return unknown(seen, What::Aws, *class, message),
    };
    let made = match &run.state {
        RunState::Succeeded(artifacts) => succeeded(run, artifacts).map_err(|error| (history::FAILED, error)),
        RunState::Lost(why) => lost(run, images, why).map_err(|error| (history::LOST, error)),
        _ => Ok(Vec::new()),
    };
    let results = match made {
        Ok(ids) => results(run, &ids, images, now),
        Err((result, error)) => {
            return record(seen, run, Entry { result, errors: vec![error], ..Entry::default() });
        }
    };
    match results {
        Results::Ready(made) => promote(seen, run, &made, images, now),
        Results::Wait(on) => Plan::Wait { on, look: PENDING_LOOK.min(look(seen, None)) },
        Results::Failed(errors) => {
            record(seen, run, Entry { result: history::FAILED, errors, ..Entry::default() })
        }
    }
}

/// A failure as history has it: one word and the error lines.
fn failure_words(failure: &Failure) -> (&'static str, Vec<String>) {
    let failed = |lines: Vec<String>| (history::FAILED, lines);
    match failure {
        Failure::TimedOut => (history::TIMED_OUT, vec!["the build took too long and was stopped".to_owned()]),
        Failure::Cancelled => (history::CANCELLED, Vec::new()),
        Failure::Packer { errors, .. } if !errors.is_empty() => failed(errors.clone()),
        Failure::Packer { exit: Some(code), .. } => failed(vec![format!("packer exited with {code}")]),
        Failure::Packer { exit: None, .. } => failed(vec!["packer was killed".to_owned()]),
        Failure::NoArtifact { errors } => {
            let nothing = "packer exited with 0 but named no image".to_owned();
            failed(errors.iter().cloned().chain([nothing]).collect())
        }
        Failure::NotStarted(error) => failed(vec![error.clone()]),
        Failure::OutOfMemory => {
            let words = "the build ran out of memory: raise spec.builder.pod.resources.limits.memory";
            failed(vec![words.to_owned()])
        }
        Failure::Evicted(words) => failed(vec![format!("the build's pod was evicted: {words}")]),
    }
}

/// A result must have an image where the builder asks for one, or it would build for ever.
fn succeeded(run: &Run, artifacts: &[Artifact]) -> Result<Vec<ImageId>, String> {
    let home = &run.facts.region;
    if artifacts.iter().any(|artifact| artifact.region == *home) {
        let ids: BTreeSet<ImageId> = artifacts.iter().map(|artifact| artifact.image.clone()).collect();
        return Ok(ids.into_iter().collect());
    }
    Err(format!("packer made no image in {home}, the builder's region: pass the template its region"))
}

/// A run whose result nobody can read: exactly one available image a lane with its build tag is the
/// result, else it failed.
fn lost(run: &Run, images: &[Located], why: &str) -> Result<Vec<ImageId>, String> {
    let made: Vec<&Located> =
        images.iter().filter(|image| image.tag(images::BUILD) == Some(run.facts.build.as_str())).collect();
    let lanes: BTreeSet<Lane> = made.iter().map(|image| image.lane()).collect();
    let whole = made.iter().all(|image| image.is_available()) && lanes.len() == made.len();
    let at_home = lanes.iter().any(|lane| lane.region == run.facts.region);
    if whole && at_home {
        Ok(made.iter().map(|image| image.image.id.clone()).collect())
    } else {
        Err(format!("the result was lost: {why}"))
    }
}

/// The images of a success, as EC2 has them.
enum Results<'a> {
    Ready(Vec<&'a Located>),
    Wait(On),
    Failed(Vec<String>),
}

fn results<'a>(run: &Run, ids: &[ImageId], images: &'a [Located], now: Timestamp) -> Results<'a> {
    let old = time::since(now, run.ended_at.unwrap_or(run.facts.created_at)) > APPEARS_WITHIN;
    let (mut ready, mut waiting, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        let found = images.iter().find(|located| located.image.id == *id);
        match found.map(|located| (located, &located.image.state)) {
            Some((located, ImageState::Available)) => ready.push(located),
            Some((_, ImageState::Pending | ImageState::Other(_))) => waiting.push(id.to_string()),
            Some((located, state)) => errors.push(failed_image(located, state)),
            None if old => errors.push(format!("image {id} is gone")),
            None => waiting.push(id.to_string()),
        }
    }
    if !errors.is_empty() {
        Results::Failed(errors)
    } else if !waiting.is_empty() {
        Results::Wait(On::ImagePending { images: waiting })
    } else {
        Results::Ready(ready)
    }
}

fn failed_image(located: &Located, state: &ImageState) -> String {
    let word = match state {
        ImageState::Disabled => "is disabled",
        ImageState::Deregistered => "is gone",
        _ => "failed",
    };
    let reason = located.image.state_reason.as_deref().unwrap_or("EC2 gives no reason");
    format!("image {} {word}: {reason}", located.image.id)
}

/// All images are available: tag them, demote older ones, then record.
fn promote(seen: &Observed, run: &Run, made: &[&Located], images: &[Located], now: Timestamp) -> Plan {
    let active = images::active(images, &seen.subject, &seen.status);
    if let Some(untagged) = made.iter().find(|image| !is_promoted(image, run)) {
        return tag_result(seen, run, made, &active, &untagged.region, now);
    }
    let lanes: BTreeSet<Lane> = made.iter().map(|image| image.lane()).collect();
    let older = lanes.iter().find_map(|lane| demotion(&active, lane));
    if let Some(step) = older {
        return act(step, "a newer image is active");
    }
    let counting: Vec<Located> = lanes
        .iter()
        .filter_map(|lane| images::current(&active, lane))
        .map(|(image, _)| (*image).clone())
        .collect();
    let is_result = counting.iter().any(|image| made.iter().any(|result| result.image.id == image.image.id));
    let result = if is_result { history::SUCCEEDED } else { history::SUPERSEDED };
    let images = made.iter().map(|image| image.image.id.to_string()).collect();
    let good = wanted_now(seen).is_some_and(|(spec, wanted)| {
        lanes.iter().all(|lane| good(lane, &active, &wanted, spec, now).is_ok())
    });
    record(seen, run, Entry { result, images, counting: Some(counting), good, ..Entry::default() })
}

/// Did the run's tags arrive? A template may set `status` itself, so that alone says nothing.
fn is_promoted(image: &Located, run: &Run) -> bool {
    image.tag(images::STATUS).is_some()
        && image.tag(images::BUILD) == Some(run.facts.build.as_str())
        && image.tag(images::JOB) == Some(run.name.as_str())
}

/// One call for one region: what counts becomes active, what is no longer needed superseded.
fn tag_result(
    seen: &Observed,
    run: &Run,
    made: &[&Located],
    active: &[Active<'_>],
    region: &Region,
    now: Timestamp,
) -> Plan {
    let untagged = made.iter().copied().filter(|image| image.region == *region && !is_promoted(image, run));
    let (unneeded, needed): (Vec<&Located>, Vec<&Located>) =
        untagged.partition(|image| superseded(seen, run, &image.lane(), active, now));
    if needed.is_empty() {
        let tags = inputs::image_tags(&seen.subject, run, images::SUPERSEDED);
        return act(
            Step::Supersede(tagging(region, &unneeded, tags)),
            "the inputs moved on while it was built",
        );
    }
    let tags = inputs::image_tags(&seen.subject, run, images::ACTIVE);
    act(Step::Activate(tagging(region, &needed, tags)), "all its images are available")
}

/// Is the run's image of a lane no longer wanted? Only where its inputs are no longer those wanted
/// and the lane has an image that is still good. While the inputs cannot be read, a finished build
/// is the best there is.
fn superseded(seen: &Observed, run: &Run, lane: &Lane, active: &[Active<'_>], now: Timestamp) -> bool {
    let Some((spec, wanted)) = wanted_now(seen) else {
        return false;
    };
    let from = BuiltFrom::Inputs(run.facts.inputs.clone());
    let moved_on = inputs::moved_on(&from, Some(run.facts.created_at), &wanted, &spec.rebuild_on).is_some();
    moved_on && good(lane, active, &wanted, spec, now).is_ok()
}

fn wanted_now(seen: &Observed) -> Option<(&Spec, Wanted<'_>)> {
    let spec = seen.spec.as_ref().ok()?;
    Some((spec, wanted(spec, seen.template.known()?, seen.base.known()?)?))
}

/// Demotes every active image of a lane but the one that counts.
pub fn demotion(active: &[Active<'_>], lane: &Lane) -> Option<Step> {
    let older = images::surplus(active, lane);
    let tags = Tags::from([(images::STATUS.to_owned(), images::DEPRECATED.to_owned())]);
    (!older.is_empty()).then(|| Step::Demote(tagging(&lane.region, &older, tags)))
}

fn tagging(region: &Region, located: &[&Located], tags: Tags) -> Tagging {
    Tagging {
        region: region.clone(),
        images: located.iter().map(|image| image.image.id.to_string()).collect(),
        resources: located.iter().flat_map(|image| image.resources()).collect(),
        tags,
    }
}

fn record(seen: &Observed, run: &Run, entry: Entry) -> Plan {
    let facts = &run.facts;
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let sweep = sweep_record(seen, run, &entry.images);
    let record = RunRecord {
        id: facts.build.to_string(),
        result: entry.result.to_owned(),
        why: Some(facts.why.clone()),
        commit: Some(facts.commit.to_string()),
        inputs: Some(facts.inputs.clone()),
        images: list(entry.images),
        started_at: Some(run.started_at.unwrap_or(facts.created_at)),
        ended_at: Some(run.ended_at.unwrap_or(facts.created_at)),
        errors: list(entry.errors),
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

/// When to look for what the run left. Its results are not among what is looked for.
fn sweep_record(seen: &Observed, run: &Run, results: &[String]) -> SweepRecord {
    let ended = run.ended_at.unwrap_or(run.facts.created_at);
    let keeps = results.is_empty()
        && seen
            .spec
            .as_ref()
            .is_ok_and(|spec| spec.commands.iter().any(super::commands::PackerCommand::keeps_machine));
    // A machine that is kept for a person gets one look, late.
    let (wait, looks) = if keeps { (KEPT_MACHINE, LOOKS.len() - 1) } else { (LOOKS[0], 0) };
    let announced: Vec<String> = run
        .resources
        .iter()
        .filter(|resource| !results.contains(&resource.id))
        .map(super::observe::announced_word)
        .collect();
    SweepRecord {
        id: run.facts.build.to_string(),
        region: run.facts.region.to_string(),
        due: time::after(ended, wait),
        looks: i32::try_from(looks).ok(),
        announced: (!announced.is_empty()).then_some(announced),
    }
}

/// Leftovers of ended, recorded runs, when a look for them is due. Not while a file of the
/// repository is broken or the images cannot be read: what is a result is then not certain.
pub fn due_sweep(seen: &Observed, now: Timestamp) -> Option<Plan> {
    let images = seen.images.known().filter(|_| seen.complete)?;
    let mut due = seen.sweeps().iter().filter(|sweep| sweep.due.is_none_or(|due| due <= now));
    let sweep = due.find_map(|record| sweep(seen, record, images))?;
    Some(act(Step::Sweep(sweep), "an ended build may have left something"))
}

/// A record that cannot be read is left alone: it names nothing that could be looked for.
fn sweep(seen: &Observed, record: &SweepRecord, images: &[Located]) -> Option<Sweep> {
    Some(Sweep {
        region: Region::parse(record.region.as_str()).ok()?,
        build: BuildId::parse(record.id.as_str()).ok()?,
        announced: super::observe::announced(record.announced.as_deref().unwrap_or_default()),
        looks: usize::try_from(record.looks.unwrap_or(0)).unwrap_or(LOOKS.len()),
        keep: keep(seen, images),
    })
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
