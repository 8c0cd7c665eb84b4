//! The status of a builder: the operator's fields, images, inputs, history, sweeps, conditions. Pure; part of the
//! report.
//!
//! It starts from the status as last written and changes only what the reconcile found out, so that a reconcile that
//! finds nothing new returns an equal status.

use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request::{Resource, ResourceKind};

use super::history;
use super::judge;
use super::located::{self, Located};
use super::observe::Observed;
use super::outcome::{Done, Outcome};
use super::step::{Plan, Record, Step, Sweep, WaitReason, phase};
use super::summary::{NOTHING_NEW, Summary};
use super::sweep_record::{self, CHECK_DELAYS};
use crate::api::Class;
use crate::api::builder::{LaneImage, PackerBuilderStatus, RunRecord, SweepRecord};
use crate::api::conditions;
use crate::api::tags;
use crate::api::time;
use crate::api::words::RunPhase;
use crate::engine::{Run, RunRequest, RunState};

/// Delay before a failed garbage collection is retried: most causes pass within minutes.
const SWEEP_RETRY: Duration = Duration::from_secs(10 * 60);
/// Earlier images that are recorded per lane: more failed rollouts in a row are unlikely.
const PREVIOUS_IMAGES: usize = 5;

/// Returns the whole status after a reconcile.
pub fn status(
    observed: &Observed,
    plan: &Plan,
    outcome: &Outcome,
    summary: &Summary,
    now: Timestamp,
) -> PackerBuilderStatus {
    let mut status = observed.status.clone();
    status.observed_generation = observed.generation;
    if let Some(run) = observed.runs.known().and_then(|runs| runs.iter().find(|run| !run.state.ended())) {
        set_live_run(&mut status, run);
    }
    match (plan, outcome) {
        (Plan::Done { images, .. }, _) => set_active_images(&mut status, images, now),
        (Plan::Act { step: Step::Start { request, .. }, .. }, Outcome::Did(done)) => {
            set_started_run(&mut status, request, done);
        }
        (Plan::Act { step: Step::Record(record), .. }, Outcome::Did(_)) => {
            // The run may never have been observed while it was live.
            if let Some(run) =
                observed.runs.known().and_then(|runs| runs.iter().find(|run| run.name == record.name))
            {
                status.job_id = Some(run.id.clone());
                status.job_facts = Some(run.facts.record());
            }
            set_ended_run(&mut status, record, now);
        }
        (Plan::Act { step: Step::Sweep(sweep), .. }, Outcome::Did(done)) => {
            record_check(&mut status, sweep, done, now);
        }
        (Plan::Act { step: Step::Sweep(sweep), .. }, Outcome::Failed(error)) => {
            record_failed_check(&mut status, sweep, error.class, now);
        }
        _ => {}
    }
    mark_gone(observed, &mut status);
    forget_unusable(observed, &mut status, now);
    if let Some(base) = observed.base.known().filter(|_| requests_base(observed)) {
        status.base_image = base.remember(status.inputs.as_ref(), status.base_image.as_ref());
    }
    set_failure_count(observed, &mut status);
    // The plan waits for `Suspended` only after live runs, ended runs and due garbage collections are handled.
    let is_suspended = matches!(plan, Plan::Wait { on: WaitReason::Suspended, .. });
    let message =
        summary.phase.as_ref().filter(|_| is_suspended).map_or(NOTHING_NEW, |(.., message)| message);
    if !set_suspended(observed, &mut status, is_suspended, message, now) {
        set_conditions(observed, &mut status, summary, now);
    }
    status
}

fn set_started_run(status: &mut PackerBuilderStatus, request: &RunRequest, done: &Done) {
    // At once: in a cluster, a Job counts as a run of the builder only if status contains its ID.
    if let Done::Started(id) = done {
        status.job_id = Some(id.clone());
        status.job_facts = Some(request.facts.record());
    }
    set_job(status, request.name.as_str(), request.facts.build.as_str(), RunPhase::Pending.as_str());
    status.reason = Some(request.facts.why.clone());
    status.commit = Some(request.facts.commit.to_string());
}

/// Sets or removes the condition Suspended. Returns whether the other conditions stay as they are, so that a suspended
/// builder still shows its last outcome.
fn set_suspended(
    observed: &Observed,
    status: &mut PackerBuilderStatus,
    is_suspended: bool,
    message: &str,
    now: Timestamp,
) -> bool {
    let who = observed.suspension();
    // A builder that is not suspended does not get conditions here if it has none.
    if who.is_some() {
        status.conditions.get_or_insert_default();
    }
    let Some(conditions) = &mut status.conditions else { return false };
    conditions::set_suspended(conditions, who, message, observed.generation, time::to_second(now));
    let keeps_outcome = is_suspended && conditions::has_outcome(conditions);
    // The outcome is still valid for the new generation: `kubectl wait` compares it.
    if keeps_outcome {
        conditions::confirm(conditions, observed.generation);
    }
    keeps_outcome
}

/// Sets `state` and the conditions from the summary. Parts that the summary does not contain stay as they are.
fn set_conditions(observed: &Observed, status: &mut PackerBuilderStatus, summary: &Summary, now: Timestamp) {
    let now = time::to_second(now);
    if let Some(state) = summary.state.filter(|state| status.state.as_deref() != Some(state)) {
        status.state = Some(state.to_owned());
        status.last_transition_time = Some(now);
    }
    if let Some((phase, reason, message)) = &summary.phase {
        let conditions = status.conditions.get_or_insert_default();
        conditions::set_phase(conditions, *phase, reason, message, observed.generation, now);
    }
}

/// Records the active images. An image that is already recorded keeps its date, even if an older version recorded none,
/// and the images before it.
fn set_active_images(status: &mut PackerBuilderStatus, images: &[Located], now: Timestamp) {
    let before = status.images.take().unwrap_or_default();
    let record = |image: &Located| {
        let image = image.record();
        match before.iter().find(|named| named.id == image.id) {
            Some(named) => LaneImage { since: named.since, previous: named.previous.clone(), ..image },
            None => {
                let previous = previous(&before, &image);
                LaneImage { since: Some(time::to_second(now)), previous, ..image }
            }
        }
    };
    status.images = Some(images.iter().map(record).collect());
    // EC2 may not show the tags of an image yet. Then the recorded inputs are kept.
    if let Some(tagged) = images.iter().find(|image| image.tag(tags::STATUS).is_some()) {
        status.inputs = Some(located::recorded(tagged));
    }
}

/// Returns the images of a lane before a new one, newest first.
fn previous(before: &[LaneImage], image: &LaneImage) -> Option<Vec<String>> {
    let lane = |image: &LaneImage| (image.region.clone(), image.architecture.clone());
    let last = before.iter().find(|last| lane(last) == lane(image))?;
    let existing = (last.gone != Some(true)).then_some(&last.id);
    let ids = existing.into_iter().chain(last.previous.iter().flatten()).filter(|id| **id != image.id);
    let ids: Vec<String> = ids.take(PREVIOUS_IMAGES).cloned().collect();
    (!ids.is_empty()).then_some(ids)
}

/// Marks the recorded images that do not exist any more. They stay in the list, because their lanes still need an
/// image, and the mark keeps readers from using them.
fn mark_gone(observed: &Observed, status: &mut PackerBuilderStatus) {
    let Some(gone) = observed.confirmed_gone() else { return };
    for named in status.images.iter_mut().flatten() {
        named.gone = gone.iter().any(|gone| gone.id == named.id).then_some(true);
    }
}

/// Forgets the images before an active one to which no file must go back: EC2 shows them as deprecated or not available,
/// or they do not exist any more.
fn forget_unusable(observed: &Observed, status: &mut PackerBuilderStatus, now: Timestamp) {
    let Some(images) = observed.images.known() else { return };
    let is_credible = observed.absence_is_credible();
    let is_usable = |id: &String| match images.iter().find(|image| image.image.id.as_str() == id) {
        Some(image) => image.is_available() && image.image.deprecated.is_none_or(|at| at > now),
        None => !is_credible,
    };
    for named in status.images.iter_mut().flatten() {
        let left: Vec<String> =
            named.previous.take().unwrap_or_default().into_iter().filter(is_usable).collect();
        named.previous = (!left.is_empty()).then_some(left);
    }
}

fn requests_base(observed: &Observed) -> bool {
    observed.spec.as_ref().is_ok_and(|spec| spec.base.is_some())
}

fn set_job(status: &mut PackerBuilderStatus, name: &str, build: &str, word: &str) {
    status.build_id = Some(build.to_owned());
    status.job_name = Some(name.to_owned());
    status.job_status = Some(word.to_owned());
}

/// Sets the operator's fields of the live run.
fn set_live_run(status: &mut PackerBuilderStatus, run: &Run) {
    status.job_id = Some(run.id.clone());
    status.job_facts = Some(run.facts.record());
    set_job(status, run.name.as_str(), run.facts.build.as_str(), phase(&run.state).as_str());
    status.reason = Some(run.facts.why.clone());
    status.commit = Some(run.facts.commit.to_string());
    if let RunState::Running(progress) = &run.state {
        status.command = Some(progress.command.clone()).filter(|command| !command.is_empty());
    }
}

/// Records the result of an ended run, and schedules the garbage collection after it.
fn set_ended_run(status: &mut PackerBuilderStatus, record: &Record, now: Timestamp) {
    let run = &record.run;
    set_job(status, record.name.as_str(), &run.id, &run.result);
    status.reason = run.why.clone();
    status.commit = run.commit.clone();
    set_last_run(status, run, &record.resources);
    // Without an active image, the recorded ones are kept: they show which lanes need an image.
    if let Some(images) = record.images.as_ref().filter(|images| !images.is_empty()) {
        set_active_images(status, images, now);
    }
    history::upsert(status.history.get_or_insert_default(), run.clone());
    let sweeps = status.sweeps.get_or_insert_default();
    // A garbage collection that was given up can be requested again as long as its run is in the history.
    let history = status.history.as_deref().unwrap_or_default();
    let remembered = |old: &SweepRecord| history.iter().any(|run| run.id == old.id);
    sweeps.retain(|old| old.id != record.sweep.id && (!sweep_record::is_given_up(old) || remembered(old)));
    sweeps.push(record.sweep.clone());
}

/// Sets the operator's fields of the last run.
fn set_last_run(status: &mut PackerBuilderStatus, run: &RunRecord, resources: &[Resource]) {
    let named = |kind: ResourceKind| {
        resources.iter().find(|resource| resource.kind == kind).map(|found| found.id.clone())
    };
    status.last_run = run.ended_at.map(time::to_second);
    status.last_run_status = Some(run.result.clone());
    status.last_run_message = run.cause();
    let requested = || run.inputs.as_ref().and_then(|inputs| inputs.base_ami.clone());
    status.last_run_base_image_id = run.base_ami.clone().or_else(requested);
    status.last_run_key_pair = named(ResourceKind::KeyPair);
    // Packer may announce a security group by its name, but the field contains an ID.
    status.last_run_security_group_id = named(ResourceKind::SecurityGroup).filter(|id| id.starts_with("sg-"));
    if let Some(image) = run.images.as_ref().and_then(|images| images.first()) {
        status.last_run_built_image_id = Some(image.clone());
    }
}

/// Records a check for orphans: schedules the next one, or removes the record after the last one.
fn record_check(status: &mut PackerBuilderStatus, sweep: &Sweep, done: &Done, now: Timestamp) {
    let checks = sweep.checks + 1;
    let next = CHECK_DELAYS.get(checks).and_then(|wait| time::after(now, *wait));
    let sweeps = status.sweeps.get_or_insert_default();
    sweeps.retain(|record| record.id != sweep.build.as_str() || next.is_some());
    for record in sweeps.iter_mut().filter(|record| record.id == sweep.build.as_str()) {
        record.looks = i32::try_from(checks).ok();
        // Nothing was refused, and all regions were searched if that was necessary. Later checks only cover the regions
        // in which something was found.
        (record.refused, record.everywhere) = (None, None);
        if let Done::Swept(swept) = done {
            let regions = record.regions.take().into_iter().flatten();
            let regions: Vec<String> =
                regions.chain(swept.elsewhere.iter().map(ToString::to_string)).collect();
            record.regions = (!regions.is_empty()).then_some(regions);
        }
        record.due = next.map(time::to_second);
    }
    if sweeps.is_empty() {
        status.sweeps = None;
    }
}

/// Schedules another attempt after a failed check, which blocks nothing else meanwhile. After too many refusals in a
/// row, none is scheduled.
fn record_failed_check(status: &mut PackerBuilderStatus, sweep: &Sweep, class: Class, now: Timestamp) {
    let refused = class.is_refusal().then_some(sweep.refusals + 1);
    let wait = if class.is_refusal() {
        sweep_record::delay_after_refusal(sweep.refusals)
    } else {
        Some(SWEEP_RETRY)
    };
    for record in status.sweeps.iter_mut().flatten().filter(|record| record.id == sweep.build.as_str()) {
        record.refused = refused.and_then(|refused| i32::try_from(refused).ok()).or(record.refused);
        record.due = wait.and_then(|wait| time::after(now, wait)).map(time::to_second);
    }
}

/// Sets the number of failures of the desired inputs. It stays the same while these are unknown.
fn set_failure_count(observed: &Observed, status: &mut PackerBuilderStatus) {
    let Ok(spec) = &observed.spec else { return };
    status.max_number_of_failed_jobs = i32::try_from(spec.failures.limit).ok();
    let (Some(template), Some(base)) = (observed.template.known(), observed.base.known()) else { return };
    let Some(wanted) = judge::wanted(observed, spec, template, base) else { return };
    let failures = history::streak(status.history.as_deref().unwrap_or_default(), &wanted.inputs).failures;
    status.failed_job_count = i32::try_from(failures).ok();
}
