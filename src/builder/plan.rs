//! Decides what to do next, and why. Pure: the same observation at the same time gives the same plan.
//!
//! The first rule that matches applies: a live run, a wrong account, an ended run, a due garbage collection, a builder
//! that may start nothing (deleted, undeclared or suspended), an invalid spec, unknown inputs, a good image, earlier
//! failures, and only then the start of a build.

use std::time::Duration;

use jiff::Timestamp;

use super::active::Active;
use super::history::{self, Streak};
use super::inputs::{self, Wanted};
use super::judge::{judge, wanted};
use super::located::Located;
use super::observe::{Observed, Resolved};
use super::promote;
use super::spec::Spec;
use super::step::{Dependency, Plan, StallReason, Step, WaitReason, phase};
use super::wait::{RUN_REQUEUE, requeue_after, stalled, unknown};
use super::why::Why;
use super::{active, collect, commands, orphans};
use crate::api::builder::RunRecord;
use crate::api::time;
use crate::api::words::{FailureKind, RunPhase, RunResult};
use crate::api::{Seen, Undeclared};
use crate::engine::{PodSpec, Run, RunFacts, RunRequest, RunState, Stop};

/// Delay while waiting for a build slot or for the checks of other builders, which can come at any moment.
const SOON: Duration = Duration::from_secs(10);
/// A runner ends its run at the limit and then cleans up. If the run is still live after this time, the runner hangs.
const STOP_GRACE: Duration = Duration::from_secs(20 * 60);

/// Returns the plan for an observation. Every observation has one.
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let runs = match &observed.runs {
        Seen::Is(runs) => runs,
        Seen::Unknown(class, message) => return unknown(observed, Dependency::Runs, *class, message),
    };
    // Nothing else happens while a run is live, and nothing is changed in a wrong account. Ended runs are collected,
    // and their orphans removed, even if the builder is deleted, suspended or invalid: otherwise images and instances
    // would be forgotten.
    live_run(observed, runs, now)
        .or_else(|| wrong_account(observed))
        .or_else(|| collect::ended_run(observed, runs, now))
        .or_else(|| orphans::due_sweep(observed, now))
        .or_else(|| paused(observed))
        .unwrap_or_else(|| match &observed.spec {
            Err(problems) => stalled(observed, StallReason::Invalid(problems.clone())),
            Ok(spec) => plan_valid(observed, spec, now),
        })
}

/// Rule 1: waits for a live run, or stops it if it is over its limit, canceled, or its builder is being deleted.
fn live_run(observed: &Observed, runs: &[Run], now: Timestamp) -> Option<Plan> {
    let run = runs.iter().find(|run| !run.state.ended())?;
    let state = phase(&run.state);
    let waits_for = match &run.state {
        RunState::Pending(waits_for) => waits_for.clone(),
        _ => None,
    };
    // A run that is already stopping is not stopped again: it needs time for its cleanup.
    let stop = (state != RunPhase::Stopping).then(|| stop_reason(observed, run, state, now)).flatten();
    Some(match stop {
        Some((why, text)) => Plan::Act { step: Step::Stop { run: run.name.clone(), why }, why: text },
        None => Plan::Wait {
            on: WaitReason::Run { run: run.name.clone(), why: run.facts.why.clone(), state, waits_for },
            requeue: RUN_REQUEUE,
        },
    })
}

/// Returns why a live run must be stopped, if it must.
fn stop_reason(observed: &Observed, run: &Run, state: RunPhase, now: Timestamp) -> Option<(Stop, String)> {
    if observed.deleting {
        return Some((Stop::Cancelled, "the builder is being deleted".to_owned()));
    }
    if observed.cancel.as_deref() == Some(run.facts.build.as_str()) {
        return Some((Stop::Cancelled, "canceled by annotation".to_owned()));
    }
    // The limits of an invalid spec are unknown. The runner still enforces the one with which it was started.
    let spec = observed.spec.as_ref().ok()?;
    let (since, limit) = match state {
        // A run that has not started is limited by the time since its creation.
        RunPhase::Pending => (run.facts.created_at, spec.pending_limit),
        _ => (run.started_at.unwrap_or(run.facts.created_at), spec.limit.saturating_add(STOP_GRACE)),
    };
    // The wall clock may have jumped ahead, so the monotonic clock must be over the limit too.
    let late = time::between(since, now) > limit && observed.lasted.is_none_or(|lasted| lasted > limit);
    late.then(|| (Stop::Late, format!("it exceeded its limit of {}s", limit.as_secs())))
}

/// Prevents every change in an account that `accounts` in `opsy.yaml` does not list.
fn wrong_account(observed: &Observed) -> Option<Plan> {
    let allowed = observed.accounts.as_ref()?;
    // Absent if no region is known in which to ask. Then the spec is invalid, and no garbage collection is due.
    match observed.account.as_ref()? {
        Seen::Unknown(class, message) => Some(unknown(observed, Dependency::Aws, *class, message)),
        Seen::Is(account) if allowed.contains(account) => None,
        Seen::Is(account) => {
            Some(stalled(observed, StallReason::AccountNotAllowed { account: account.clone() }))
        }
    }
}

/// Rule 3: starts nothing for a builder that is being deleted, is not in Git, is suspended, or has a broken manifest.
fn paused(observed: &Observed) -> Option<Plan> {
    let on = if observed.deleting {
        WaitReason::Deleted
    } else if observed.undeclared == Some(Undeclared::Gone) {
        WaitReason::NotInGit
    } else if observed.suspension().is_some() {
        // Reported before a broken manifest, because it still holds after the file is fixed.
        WaitReason::Suspended
    } else if let Some(Undeclared::Broken { file }) = &observed.undeclared {
        WaitReason::ManifestBroken { file: file.clone() }
    } else {
        return None;
    };
    Some(Plan::Wait { on, requeue: requeue_after(observed, None) })
}

/// Rules 4 and 5: waits until everything is known from which a build would be made, then judges the active images.
fn plan_valid(observed: &Observed, spec: &Spec, now: Timestamp) -> Plan {
    let template = match &observed.template {
        Seen::Is(template) => template,
        Seen::Unknown(class, message) => return unknown(observed, Dependency::Template, *class, message),
    };
    let base = match &observed.base {
        Seen::Is(base) => base,
        Seen::Unknown(class, message) => return unknown(observed, Dependency::Aws, *class, message),
    };
    let all = match &observed.images {
        Seen::Is(images) => images,
        Seen::Unknown(class, message) => return unknown(observed, Dependency::Aws, *class, message),
    };
    let Some(wanted) = wanted(observed, spec, template, base) else {
        return Plan::Wait { on: WaitReason::BaseImageNotFound, requeue: requeue_after(observed, None) };
    };
    let active = active::active(all, &observed.subject, &observed.status, now);
    match judge(observed, spec, &wanted, &active, now) {
        Ok(good) => settled(observed, spec, &active, &good, now),
        // The recorded images exist, but not for this agent. Rebuilding all of them would most likely be a mistake.
        Err(Why::Missing) if !images_of_another_owner(observed, all).is_empty() => {
            stalled(observed, StallReason::AnotherOwner { images: images_of_another_owner(observed, all) })
        }
        // Either a part of the status was lost, or somebody else tagged the image. Only a person can decide.
        Err(Why::Missing) if !active::unrecorded(&active, &observed.status).is_empty() => {
            let unrecorded = active::unrecorded(&active, &observed.status);
            let images = unrecorded.iter().map(|image| image.image.id.to_string()).collect();
            stalled(observed, StallReason::Unrecorded { images })
        }
        Err(why) => start_build(&Build { observed, spec, wanted: &wanted, template, all }, why, now),
    }
}

/// Returns the images that status names and that have the tags of another owner. Most likely the agent's owner changed.
fn images_of_another_owner(observed: &Observed, all: &[Located]) -> Vec<String> {
    let named = |image: &&Located| {
        observed.status.images.iter().flatten().any(|named| named.id == image.image.id.as_str())
    };
    let foreign = all.iter().filter(named).filter(|image| observed.subject.foreign_owner(image).is_some());
    foreign.map(|image| image.image.id.to_string()).collect()
}

/// Every lane has a good image: demotes older active images, one lane at a time, until nothing is left to do.
fn settled(
    observed: &Observed,
    spec: &Spec,
    active: &[Active<'_>],
    good: &[&Located],
    now: Timestamp,
) -> Plan {
    if let Some(step) = good.iter().find_map(|image| promote::demotion(observed, active, &image.lane())) {
        return Plan::Act { step, why: "a newer image is active".to_owned() };
    }
    let expires = good.iter().filter_map(|image| inputs::expiry(image, spec)).min();
    Plan::Done {
        images: good.iter().map(|image| (*image).clone()).collect(),
        expires,
        requeue: requeue_after(observed, expires.map(|at| time::between(now, at))),
    }
}

/// What the start of a build depends on.
struct Build<'a> {
    observed: &'a Observed,
    spec: &'a Spec,
    wanted: &'a Wanted<'a>,
    template: &'a Resolved,
    all: &'a [Located],
}

/// Rules 7 and 8: starts a build, unless there were too many failures, the last one is too recent, too many images are
/// missing at once, or no slot is free.
fn start_build(build: &Build<'_>, why: Why, now: Timestamp) -> Plan {
    let observed = build.observed;
    let history = observed.status.history.as_deref().unwrap_or_default();
    let streak = history::streak(history, &build.wanted.inputs);
    if let Some(plan) = earlier_failures(observed, build.spec, &streak, now).or_else(|| fleet_guard(observed))
    {
        return plan;
    }
    // This agent would not observe the end of the build, so the next one starts it.
    if observed.ending {
        return Plan::Wait {
            on: WaitReason::Ending { failed: streak.attempts > 0 },
            requeue: requeue_after(observed, None),
        };
    }
    match &observed.live {
        // Nothing is started on an unknown value: the limit could be exceeded.
        Seen::Unknown(class, message) => return unknown(observed, Dependency::Runs, *class, message),
        Seen::Is(live) if *live >= observed.concurrent_builds => {
            let on = WaitReason::Slot { limit: observed.concurrent_builds, goes_first: None };
            return Plan::Wait { on, requeue: SOON };
        }
        // Otherwise one namespace could occupy all slots, with long builds or with builds that never start. A single
        // slot is not reserved, or no namespace could ever use it.
        Seen::Is(live)
            if observed.last_slot_is_reserved
                && observed.concurrent_builds > 1
                && live + 1 == observed.concurrent_builds =>
        {
            return Plan::Wait {
                on: WaitReason::LastSlot { limit: observed.concurrent_builds },
                requeue: SOON,
            };
        }
        Seen::Is(_) => {
            // A slot is free, but the last build of another waiting namespace started longer ago.
            if let Some(goes_first) = observed.fleet.goes_first.clone() {
                let on = WaitReason::Slot { limit: observed.concurrent_builds, goes_first: Some(goes_first) };
                return Plan::Wait { on, requeue: SOON };
            }
        }
    }
    // After a failure, the build is reported as a retry, together with the reason of the first attempt.
    let why = match streak.attempts {
        0 => why,
        attempts => Why::Retry { attempt: attempts + 1, of: Box::new(why) },
    };
    let request = request(build, &why, history, now);
    let text = why.to_string();
    Plan::Act {
        step: Step::Start { request: Box::new(request), query: build.spec.template.clone() },
        why: text,
    }
}

/// Rule 7: earlier failures of the same inputs delay the next attempt, or prevent it.
fn earlier_failures(observed: &Observed, spec: &Spec, streak: &Streak<'_>, now: Timestamp) -> Option<Plan> {
    let last = streak.last?;
    // The annotation still names this build, so the cancellation is still in force for its inputs.
    if history::result(last) == Some(RunResult::Cancelled)
        && observed.cancel.as_deref() == Some(last.id.as_str())
    {
        let on = WaitReason::Cancelled { build: last.id.clone() };
        return Some(Plan::Wait { on, requeue: requeue_after(observed, None) });
    }
    let error = last.explained();
    let count = streak.failures;
    // Another build would fail in the same way, so the remaining attempts are not used.
    if last.failure.as_deref() == Some(FailureKind::Final.as_str()) {
        return Some(stalled(observed, StallReason::NoUse { error }));
    }
    if count >= spec.failures.limit {
        return Some(stalled(observed, StallReason::RetryLimit { failures: count, error }));
    }
    let until = history::next_attempt(streak, &spec.failures, now).filter(|until| *until > now)?;
    let transient = !history::counts_toward_limit(last);
    let on = WaitReason::Backoff { until, failures: count, limit: spec.failures.limit, transient, error };
    Some(Plan::Wait { on, requeue: requeue_after(observed, Some(time::between(now, until))) })
}

/// If an image that status names is missing, waits until the other builders have checked theirs. If too many are
/// missing at once, something other than the images is wrong, and nothing is built.
fn fleet_guard(observed: &Observed) -> Option<Plan> {
    // A builder that lost no image, such as a new one, may build during a mass loss.
    if observed.lost() != Some(true) || observed.allow_mass_build {
        return None;
    }
    if observed.fleet.mass_loss() {
        let why =
            StallReason::MassBuildRefused { lost: observed.fleet.lost, builders: observed.fleet.builders };
        return Some(stalled(observed, why));
    }
    let others = observed.fleet.outstanding.clone();
    (!others.is_empty()).then_some(Plan::Wait { on: WaitReason::Fleet { others }, requeue: SOON })
}

/// Returns the run request of a build.
fn request(build: &Build<'_>, why: &Why, history: &[RunRecord], now: Timestamp) -> RunRequest {
    let Build { observed, spec, wanted, template, all } = build;
    let runs = observed.runs.known().map(Vec::as_slice).unwrap_or_default();
    let images: Vec<&Located> =
        all.iter().filter(|image| observed.subject.built_from(image, &observed.status).is_some()).collect();
    let previous = history::previous(history, runs, &images);
    let id = inputs::build_id(&observed.subject, &wanted.inputs, previous.as_deref());
    // Packer rejects a variable that the template does not declare, so both are passed only if a base image is
    // requested.
    let injected: Vec<(&str, &str)> = wanted
        .base
        .map_or_else(Vec::new, |base| vec![("ami_id", base.id.as_str()), ("region", spec.region.as_str())]);
    RunRequest {
        name: inputs::run_name(&observed.subject.key.name, &id),
        owner: observed.subject.owner.clone(),
        steps: commands::steps(&spec.commands, &injected),
        env: inputs::environment(&observed.subject, &id, spec.debug),
        secret: spec.secret.clone(),
        files: std::sync::Arc::default(),
        limit: spec.limit,
        pending_limit: spec.pending_limit,
        pod: pod(observed, spec, template),
        facts: RunFacts {
            builder: observed.subject.key.clone(),
            build: id,
            region: spec.region.clone(),
            inputs: wanted.inputs.clone(),
            why: why.trigger().to_string(),
            commit: template.commit.clone(),
            created_at: now,
            owner: Some(observed.subject.owner.clone()),
        },
    }
}

/// Returns the pod settings. git-sync fetches the repository in which the template was resolved.
fn pod(observed: &Observed, spec: &Spec, template: &Resolved) -> PodSpec {
    let mut pod = PodSpec { withheld: observed.withheld.clone(), ..spec.pod.clone() };
    if let Some(sync) = &mut pod.git_sync {
        sync.repository.clone_from(&template.url);
    }
    pod
}
