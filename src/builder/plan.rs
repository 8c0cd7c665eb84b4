//! What to do next, and why. Pure: the same look at the same time gives the same plan.
//!
//! The rules stand in their order, first match wins: a live run, the account, an ended run, a due
//! sweep, deletion, suspension, an invalid spec, what the inputs are, a good image, earlier
//! failures, and only then a start.

use std::time::Duration;

use jiff::Timestamp;

use super::failures;
use super::harvest;
use super::history::{self, Streak};
use super::images::{self, Active, Located};
use super::inputs::{self, Wanted};
use super::judge::{judge, wanted};
use super::observe::{Observed, Resolved};
use super::promote;
use super::spec::Spec;
use super::step::{On, Plan, RunWord, Step, Stuck, What, Why};
use super::{commands, time, trust};
use crate::api::builder::RunRecord;
use crate::api::{Class, Seen, Undeclared};
use crate::engine::{PodSpec, Run, RunFacts, RunRequest, RunState, Stop};

/// An engine wakes us when a run ends; this is for the wake-up that was lost.
pub const RUN_LOOK: Duration = Duration::from_secs(30);
/// The next pass continues where this one stopped, after AWS had a moment to show what was changed.
pub const NEXT_STEP: Duration = Duration::from_millis(500);
/// A slot for a build, or other builders' looks, may come any moment.
const SOON: Duration = Duration::from_secs(10);
/// Stalled is for people, but causes also go away by themselves.
const STALLED_LOOK: Duration = Duration::from_secs(3600);
/// A runner ends its run at the limit and then cleans up; past this it is stuck.
const STOP_GRACE: Duration = Duration::from_secs(20 * 60);

/// Decides. Total: every look has a plan.
pub fn plan(seen: &Observed, now: Timestamp) -> Plan {
    let runs = match &seen.runs {
        Seen::Is(runs) => runs,
        Seen::Unknown(class, message) => return unknown(seen, What::Runs, *class, message),
    };
    live_run(seen, runs, now)
        .or_else(|| wrong_account(seen))
        .or_else(|| harvest::ended_run(seen, runs, now))
        .or_else(|| harvest::due_sweep(seen, now))
        .or_else(|| held_back(seen))
        .unwrap_or_else(|| match &seen.spec {
            Err(problems) => stalled(seen, Stuck::Invalid(problems.clone())),
            Ok(spec) => valid(seen, spec, now),
        })
}

/// Rule 1: a live run is waited for, or stopped when it is over its limit, cancelled or orphaned.
fn live_run(seen: &Observed, runs: &[Run], now: Timestamp) -> Option<Plan> {
    let run = runs.iter().find(|run| !run.state.ended())?;
    let state = match run.state {
        RunState::Pending(_) => RunWord::Pending,
        RunState::Stopping => RunWord::Stopping,
        _ => RunWord::Running,
    };
    let waits_for = match &run.state {
        RunState::Pending(waits_for) => waits_for.clone(),
        _ => None,
    };
    let stop = (state != RunWord::Stopping).then(|| stop_reason(seen, run, state, now)).flatten();
    Some(match stop {
        Some((why, text)) => Plan::Act { step: Step::Stop { run: run.name.clone(), why }, why: text },
        None => Plan::Wait {
            on: On::Run { run: run.name.clone(), why: run.facts.why.clone(), state, waits_for },
            look: RUN_LOOK,
        },
    })
}

fn stop_reason(seen: &Observed, run: &Run, state: RunWord, now: Timestamp) -> Option<(Stop, String)> {
    if seen.deleting {
        return Some((Stop::Cancelled, "the builder is deleted".to_owned()));
    }
    if seen.cancel.as_deref() == Some(run.facts.build.as_str()) {
        return Some((Stop::Cancelled, "cancelled by annotation".to_owned()));
    }
    let spec = seen.spec.as_ref().ok()?;
    let (since, limit) = match state {
        RunWord::Pending => (run.facts.created_at, spec.pending_limit),
        _ => (run.started_at.unwrap_or(run.facts.created_at), spec.limit.saturating_add(STOP_GRACE)),
    };
    // The wall clock may have jumped ahead: what was watched must be over the limit, too.
    let late = time::since(now, since) > limit && seen.lasted.is_none_or(|lasted| lasted > limit);
    late.then(|| (Stop::Late, format!("it is over its limit of {}s", limit.as_secs())))
}

/// Nothing is built, tagged or swept in an account that is not ours to touch.
fn wrong_account(seen: &Observed) -> Option<Plan> {
    let allowed = seen.accounts.as_ref()?;
    match seen.account.as_ref()? {
        Seen::Unknown(class, message) => Some(unknown(seen, What::Aws, *class, message)),
        Seen::Is(account) if allowed.contains(account) => None,
        Seen::Is(account) => Some(stalled(seen, Stuck::AccountNotAllowed { account: account.clone() })),
    }
}

/// Rule 3: nothing new starts. A deleted builder goes no further either.
fn held_back(seen: &Observed) -> Option<Plan> {
    let on = if seen.deleting {
        On::Deleted
    } else if seen.undeclared == Some(Undeclared::Gone) {
        On::NotInGit
    } else if seen.suspension().is_some() {
        On::Suspended
    } else if let Some(Undeclared::Broken { file }) = &seen.undeclared {
        On::ManifestBroken { file: file.clone() }
    } else {
        return None;
    };
    Some(Plan::Wait { on, look: look(seen, None) })
}

/// Rules 4 and 5: what would be built is known, or it is waited for.
fn valid(seen: &Observed, spec: &Spec, now: Timestamp) -> Plan {
    let template = match &seen.template {
        Seen::Is(template) => template,
        Seen::Unknown(class, message) => return unknown(seen, What::Template, *class, message),
    };
    let base = match &seen.base {
        Seen::Is(base) => base,
        Seen::Unknown(class, message) => return unknown(seen, What::Aws, *class, message),
    };
    let all = match &seen.images {
        Seen::Is(images) => images,
        Seen::Unknown(class, message) => return unknown(seen, What::Aws, *class, message),
    };
    let Some(wanted) = wanted(seen, spec, template, base) else {
        return Plan::Wait { on: On::BaseImageNotFound, look: look(seen, None) };
    };
    let active = images::active(all, &seen.subject, &seen.status, now);
    match judge(seen, spec, &wanted, &active, now) {
        Ok(good) => settled(seen, spec, &active, &good, now),
        Err(Why::Missing) if !of_another_owner(seen, all).is_empty() => {
            stalled(seen, Stuck::AnotherOwner { images: of_another_owner(seen, all) })
        }
        Err(Why::Missing) if !trust::unrecorded(&active, &seen.status).is_empty() => {
            let unrecorded = trust::unrecorded(&active, &seen.status);
            let images = unrecorded.iter().map(|image| image.image.id.to_string()).collect();
            stalled(seen, Stuck::Unrecorded { images })
        }
        Err(why) => build(&Build { seen, spec, wanted: &wanted, template, all }, why, now),
    }
}

/// Images that status names and that now have the tags of another owner: most likely the agent's own owner changed.
fn of_another_owner(seen: &Observed, all: &[Located]) -> Vec<String> {
    let named = |image: &&Located| {
        seen.status.images.iter().flatten().any(|named| named.id == image.image.id.as_str())
    };
    let foreign = all.iter().filter(named).filter(|image| seen.subject.foreign_owner(image).is_some());
    foreign.map(|image| image.image.id.to_string()).collect()
}

/// All good: older active images are demoted, one lane at a time, then there is nothing to do.
fn settled(seen: &Observed, spec: &Spec, active: &[Active<'_>], good: &[&Located], now: Timestamp) -> Plan {
    if let Some(step) = good.iter().find_map(|image| promote::demotion(seen, active, &image.lane())) {
        return Plan::Act { step, why: "a newer image is active".to_owned() };
    }
    let expires = good.iter().filter_map(|image| inputs::expiry(image, spec)).min();
    Plan::Done {
        images: good.iter().map(|image| (*image).clone()).collect(),
        expires,
        look: look(seen, expires.map(|at| time::until(now, at))),
    }
}

/// What a start is made of.
struct Build<'a> {
    seen: &'a Observed,
    spec: &'a Spec,
    wanted: &'a Wanted<'a>,
    template: &'a Resolved,
    all: &'a [Located],
}

/// Rules 7 and 8: not after too many failures, not too soon, not all at once; then start.
fn build(build: &Build<'_>, why: Why, now: Timestamp) -> Plan {
    let seen = build.seen;
    let history = seen.status.history.as_deref().unwrap_or_default();
    let streak = history::streak(history, &build.wanted.inputs);
    if let Some(plan) = earlier_failures(seen, build.spec, &streak, now).or_else(|| fleet_guard(seen)) {
        return plan;
    }
    if seen.ending {
        return Plan::Wait { on: On::Ending { failed: streak.attempts > 0 }, look: look(seen, None) };
    }
    match &seen.live {
        Seen::Unknown(class, message) => return unknown(seen, What::Runs, *class, message),
        Seen::Is(live) if *live >= seen.concurrent_builds => {
            let on = On::Slot { limit: seen.concurrent_builds, goes_first: None };
            return Plan::Wait { on, look: SOON };
        }
        // A namespace could otherwise hold all slots, with long builds or with such that never start.
        Seen::Is(live)
            if seen.last_slot_is_others
                && seen.concurrent_builds > 1
                && live + 1 == seen.concurrent_builds =>
        {
            return Plan::Wait { on: On::LastSlot { limit: seen.concurrent_builds }, look: SOON };
        }
        Seen::Is(_) => {
            if let Some(goes_first) = seen.fleet.goes_first.clone() {
                let on = On::Slot { limit: seen.concurrent_builds, goes_first: Some(goes_first) };
                return Plan::Wait { on, look: SOON };
            }
        }
    }
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

fn earlier_failures(seen: &Observed, spec: &Spec, streak: &Streak<'_>, now: Timestamp) -> Option<Plan> {
    let last = streak.last?;
    if last.result == history::CANCELLED && seen.cancel.as_deref() == Some(last.id.as_str()) {
        let on = On::Cancelled { build: last.id.clone() };
        return Some(Plan::Wait { on, look: look(seen, None) });
    }
    let error = last.explained();
    let count = streak.failures;
    if last.failure.as_deref() == Some(failures::FINAL) {
        return Some(stalled(seen, Stuck::NoUse { error }));
    }
    if count >= spec.failures.limit {
        return Some(stalled(seen, Stuck::RetryLimit { failures: count, error }));
    }
    let until = history::next_try(streak, &spec.failures, now).filter(|until| *until > now)?;
    let transient = !history::counts(last);
    let on = On::Backoff { until, failures: count, limit: spec.failures.limit, transient, error };
    Some(Plan::Wait { on, look: look(seen, Some(time::until(now, until))) })
}

/// Where the image that status names is gone, the other builders are looked at first.
fn fleet_guard(seen: &Observed) -> Option<Plan> {
    if seen.lost() != Some(true) || seen.allow_mass_build {
        return None;
    }
    if seen.fleet.mass_loss() {
        let why = Stuck::MassBuildRefused { lost: seen.fleet.lost, builders: seen.fleet.builders };
        return Some(stalled(seen, why));
    }
    let others = seen.fleet.outstanding.clone();
    (!others.is_empty()).then_some(Plan::Wait { on: On::Fleet { others }, look: SOON })
}

fn request(build: &Build<'_>, why: &Why, history: &[RunRecord], now: Timestamp) -> RunRequest {
    let Build { seen, spec, wanted, template, all } = build;
    let runs = seen.runs.known().map(Vec::as_slice).unwrap_or_default();
    let images: Vec<&Located> =
        all.iter().filter(|image| seen.subject.built_from(image, &seen.status).is_some()).collect();
    let previous = history::previous(history, runs, &images);
    let id = inputs::build_id(&seen.subject, &wanted.inputs, previous.as_deref());
    // An undeclared variable is an error to Packer: both are passed only where a base image is asked for.
    let injected: Vec<(&str, &str)> = wanted
        .base
        .map_or_else(Vec::new, |base| vec![("ami_id", base.id.as_str()), ("region", spec.region.as_str())]);
    RunRequest {
        name: inputs::run_name(&seen.subject.key.name, &id),
        owner: seen.subject.owner.clone(),
        steps: commands::steps(&spec.commands, &injected),
        env: inputs::environment(&seen.subject, &id, spec.debug),
        secret: spec.secret.clone(),
        files: std::sync::Arc::default(),
        limit: spec.limit,
        pending_limit: spec.pending_limit,
        pod: pod(seen, spec, template),
        facts: RunFacts {
            builder: seen.subject.key.clone(),
            build: id,
            region: spec.region.clone(),
            inputs: wanted.inputs.clone(),
            why: why.word().to_owned(),
            commit: template.commit.clone(),
            created_at: now,
            owner: Some(seen.subject.owner.clone()),
        },
    }
}

/// git-sync fetches the repository whose template was looked at.
fn pod(seen: &Observed, spec: &Spec, template: &Resolved) -> PodSpec {
    let mut pod = PodSpec { withheld: seen.withheld.clone(), ..spec.pod.clone() };
    if let Some(sync) = &mut pod.git_sync {
        sync.repository.clone_from(&template.url);
    }
    pod
}

/// Until the next look: the builder's timer, or sooner what is due before.
pub fn look(seen: &Observed, sooner: Option<Duration>) -> Duration {
    let timer = seen.spec.as_ref().map_or(STALLED_LOOK, |spec| spec.timer);
    // A sweep that is due but must wait (a broken file in the repository) is no reason to look all the time.
    let due = seen.sweeps().iter().filter_map(|sweep| sweep.due).filter(|due| *due > seen.now);
    let due = due.map(|due| time::until(seen.now, due)).min();
    [sooner, due].into_iter().flatten().fold(timer, Duration::min)
}

fn stalled(seen: &Observed, why: Stuck) -> Plan {
    Plan::Stalled { why, look: look(seen, None).min(STALLED_LOOK) }
}

/// A failed read: waited for, or where it will fail for ever as written, a person's turn.
pub fn unknown(seen: &Observed, what: What, class: Class, message: &str) -> Plan {
    match class {
        Class::Invalid => stalled(seen, Stuck::Unreadable { what, message: message.to_owned() }),
        _ => Plan::Wait {
            on: On::Unknown { what, class, message: message.to_owned() },
            look: look(seen, None),
        },
    }
}
