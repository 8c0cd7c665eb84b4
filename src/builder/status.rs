//! The status of a builder: the operator's fields, images, inputs, history, sweeps, conditions.
//! Pure; part of the report.
//!
//! It starts from what was written last and changes only what the pass found out, so that a pass
//! that finds nothing new gives an equal status.

use std::time::Duration;

use jiff::Timestamp;
use opsy_runner::request::{Resource, ResourceKind};

use super::harvest::{self, LOOKS};
use super::history;
use super::images::{self, Located};
use super::observe::Observed;
use super::report::{Done, NOTHING_NEW, Outcome, Told};
use super::step::{On, Plan, Record, Step, Sweep};
use super::time;
use super::{inputs, judge};
use crate::api::Class;
use crate::api::builder::{LaneImage, PackerBuilderStatus, RunRecord, SweepRecord};
use crate::api::conditions;
use crate::engine::{Run, RunState};

/// A sweep that failed comes again after this.
const SWEEP_AGAIN: Duration = Duration::from_secs(10 * 60);

/// The whole status after a pass.
pub fn status(
    seen: &Observed,
    plan: &Plan,
    outcome: &Outcome,
    told: &Told,
    now: Timestamp,
) -> PackerBuilderStatus {
    let mut status = seen.status.clone();
    status.observed_generation = seen.generation;
    if let Some(run) = seen.runs.known().and_then(|runs| runs.iter().find(|run| !run.state.ended())) {
        live_run(&mut status, run);
    }
    match (plan, outcome) {
        (Plan::Done { images, .. }, _) => active_images(&mut status, images, now),
        (Plan::Act { step: Step::Start { request, .. }, .. }, Outcome::Did(done)) => {
            if let Done::Started(id) = done {
                status.job_id = Some(id.clone());
                status.job_facts = Some(request.facts.record());
            }
            job(&mut status, request.name.as_str(), request.facts.build.as_str(), "Pending");
            status.reason = Some(request.facts.why.clone());
            status.commit = Some(request.facts.commit.to_string());
        }
        (Plan::Act { step: Step::Record(record), .. }, Outcome::Did(_)) => {
            if let Some(run) =
                seen.runs.known().and_then(|runs| runs.iter().find(|run| run.name == record.name))
            {
                status.job_id = Some(run.id.clone());
                status.job_facts = Some(run.facts.record());
            }
            ended_run(&mut status, record, now);
        }
        (Plan::Act { step: Step::Sweep(sweep), .. }, Outcome::Did(done)) => {
            swept(&mut status, sweep, done, now);
        }
        (Plan::Act { step: Step::Sweep(sweep), .. }, Outcome::Failed(error)) => {
            sweep_failed(&mut status, sweep, error.class, now);
        }
        _ => {}
    }
    mark_gone(seen, &mut status);
    if let Some(base) = seen.base.known().filter(|_| asks_for_base(seen)) {
        status.base_image = base.remember(status.inputs.as_ref(), status.base_image.as_ref());
    }
    count_failures(seen, &mut status);
    let rests = matches!(plan, Plan::Wait { on: On::Suspended, .. });
    let words = told.phase.as_ref().filter(|_| rests).map_or(NOTHING_NEW, |(.., message)| message);
    if !suspend(seen, &mut status, rests, words, now) {
        say(seen, &mut status, told, now);
    }
    status
}

/// Says who suspended it. True where the last outcome stays as it was said: it rests, and has one.
fn suspend(
    seen: &Observed,
    status: &mut PackerBuilderStatus,
    rests: bool,
    words: &str,
    now: Timestamp,
) -> bool {
    let who = seen.suspension();
    if who.is_some() {
        status.conditions.get_or_insert_default();
    }
    let Some(conditions) = &mut status.conditions else { return false };
    conditions::set_suspended(conditions, who, words, seen.generation, time::to_second(now));
    let keeps = rests && conditions::has_outcome(conditions);
    if keeps {
        conditions::confirm(conditions, seen.generation);
    }
    keeps
}

fn say(seen: &Observed, status: &mut PackerBuilderStatus, told: &Told, now: Timestamp) {
    let now = time::to_second(now);
    if let Some(state) = told.state.filter(|state| status.state.as_deref() != Some(state)) {
        status.state = Some(state.to_owned());
        status.last_transition_time = Some(now);
    }
    if let Some((phase, reason, message)) = &told.phase {
        let conditions = status.conditions.get_or_insert_default();
        conditions::set_phase(conditions, *phase, reason, message, seen.generation, now);
    }
}

/// One that is named already keeps its date, also where an older version gave it none.
fn active_images(status: &mut PackerBuilderStatus, images: &[Located], now: Timestamp) {
    let before = status.images.take().unwrap_or_default();
    let record = |image: &Located| {
        let named = before.iter().find(|named| named.id == image.image.id.as_str());
        LaneImage { since: named.map_or(Some(time::to_second(now)), |named| named.since), ..image.record() }
    };
    status.images = Some(images.iter().map(record).collect());
    // Of an image whose tags EC2 does not show yet, what is recorded stands.
    if let Some(tagged) = images.iter().find(|image| image.tag(images::STATUS).is_some()) {
        status.inputs = Some(inputs::recorded(tagged));
    }
}

/// An image that is gone keeps its place: the lane still needs one, and readers must not be sent to it.
fn mark_gone(seen: &Observed, status: &mut PackerBuilderStatus) {
    let Some(gone) = seen.gone_for_sure() else { return };
    for named in status.images.iter_mut().flatten() {
        named.gone = gone.iter().any(|gone| gone.id == named.id).then_some(true);
    }
}

fn asks_for_base(seen: &Observed) -> bool {
    seen.spec.as_ref().is_ok_and(|spec| spec.base.is_some())
}

fn job(status: &mut PackerBuilderStatus, name: &str, build: &str, word: &str) {
    status.build_id = Some(build.to_owned());
    status.job_name = Some(name.to_owned());
    status.job_status = Some(word.to_owned());
}

fn live_run(status: &mut PackerBuilderStatus, run: &Run) {
    let word = match &run.state {
        RunState::Pending(_) => "Pending",
        RunState::Stopping => "Stopping",
        _ => "Running",
    };
    status.job_id = Some(run.id.clone());
    status.job_facts = Some(run.facts.record());
    job(status, run.name.as_str(), run.facts.build.as_str(), word);
    status.reason = Some(run.facts.why.clone());
    status.commit = Some(run.facts.commit.to_string());
    if let RunState::Running(progress) = &run.state {
        status.command = Some(progress.command.clone()).filter(|command| !command.is_empty());
    }
}

fn ended_run(status: &mut PackerBuilderStatus, record: &Record, now: Timestamp) {
    let run = &record.run;
    job(status, record.name.as_str(), &run.id, &run.result);
    status.reason = run.why.clone();
    status.commit = run.commit.clone();
    last_run(status, run, &record.resources);
    if let Some(images) = record.images.as_ref().filter(|images| !images.is_empty()) {
        active_images(status, images, now);
    }
    history::enter(status.history.get_or_insert_default(), run.clone());
    let sweeps = status.sweeps.get_or_insert_default();
    // One that was given up is kept as long as its run is remembered.
    let history = status.history.as_deref().unwrap_or_default();
    let remembered = |old: &SweepRecord| history.iter().any(|run| run.id == old.id);
    sweeps.retain(|old| old.id != record.sweep.id && (!harvest::is_given_up(old) || remembered(old)));
    sweeps.push(record.sweep.clone());
}

/// The operator's fields of the last run.
fn last_run(status: &mut PackerBuilderStatus, run: &RunRecord, resources: &[Resource]) {
    let named = |kind: ResourceKind| {
        resources.iter().find(|resource| resource.kind == kind).map(|found| found.id.clone())
    };
    status.last_run = run.ended_at.map(time::to_second);
    status.last_run_status = Some(run.result.clone());
    status.last_run_message = run.cause();
    let asked = || run.inputs.as_ref().and_then(|inputs| inputs.base_ami.clone());
    status.last_run_base_image_id = run.base_ami.clone().or_else(asked);
    status.last_run_key_pair = named(ResourceKind::KeyPair);
    // Packer announces a group by its name; only an id is one.
    status.last_run_security_group_id = named(ResourceKind::SecurityGroup).filter(|id| id.starts_with("sg-"));
    if let Some(image) = run.images.as_ref().and_then(|images| images.first()) {
        status.last_run_built_image_id = Some(image.clone());
    }
}

/// The next look is due, or it was the last.
fn swept(status: &mut PackerBuilderStatus, sweep: &Sweep, done: &Done, now: Timestamp) {
    let looks = sweep.looks + 1;
    let next = LOOKS.get(looks).and_then(|wait| time::after(now, *wait));
    let sweeps = status.sweeps.get_or_insert_default();
    sweeps.retain(|record| record.id != sweep.build.as_str() || next.is_some());
    for record in sweeps.iter_mut().filter(|record| record.id == sweep.build.as_str()) {
        record.looks = i32::try_from(looks).ok();
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

/// A look that did not work comes again later and holds nothing else up meanwhile; one that is refused again
/// and again does not.
fn sweep_failed(status: &mut PackerBuilderStatus, sweep: &Sweep, class: Class, now: Timestamp) {
    let refused = class.is_refusal().then_some(sweep.refused + 1);
    let wait = if class.is_refusal() { harvest::pause_refused(sweep.refused) } else { Some(SWEEP_AGAIN) };
    for record in status.sweeps.iter_mut().flatten().filter(|record| record.id == sweep.build.as_str()) {
        record.refused = refused.and_then(|refused| i32::try_from(refused).ok()).or(record.refused);
        record.due = wait.and_then(|wait| time::after(now, wait)).map(time::to_second);
    }
}

/// Failures of the inputs wanted now; kept as it was while those are not known.
fn count_failures(seen: &Observed, status: &mut PackerBuilderStatus) {
    let Ok(spec) = &seen.spec else { return };
    status.max_number_of_failed_jobs = i32::try_from(spec.failures.limit).ok();
    let (Some(template), Some(base)) = (seen.template.known(), seen.base.known()) else { return };
    let Some(wanted) = judge::wanted(seen, spec, template, base) else { return };
    let failures = history::streak(status.history.as_deref().unwrap_or_default(), &wanted.inputs).failures;
    status.failed_job_count = i32::try_from(failures).ok();
}
