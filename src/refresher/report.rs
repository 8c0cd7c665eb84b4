//! What a pass says: plan and outcome → status, conditions, notes. Pure; a pass that changes nothing
//! gives an equal status.

mod refused;
mod rows;

use std::time::Duration;

use jiff::Timestamp;

use super::act::{Done, Failed};
use super::memory::{Entry, Rollout, Starting, write_rollout};
use super::plan::{Case, Plan, Said, Step};
use super::spec::{Problem, Spec, suspension};
use super::target::{Choice, Target, choose};
use crate::api::conditions::{self, Phase, set_phase};
use crate::api::refresher::RolloutRecord;
use crate::api::{AMIRefresher, AMIRefresherStatus, Class};
use crate::aws::{Update, UpdateStatus};
use crate::engine::{Note, Pass, Standing};
use refused::refused;
use rows::{drifted, newly_unsupported, rows};

/// Ended rollouts kept in status.
const HISTORY: usize = 10;
/// How often an object is looked at that only a commit can mend; a commit wakes it by itself.
const INVALID_LOOK: Duration = Duration::from_secs(3600);

/// What it means that a refresher is suspended, while an update that was started goes on.
const NOTHING_NEW: &str = "nothing new is started";

/// What is to be written, before it is spelled out as a status.
struct Ending {
    said: Said,
    phase: Phase,
    standing: Standing,
    look: Duration,
    failed: Option<(Class, String)>,
    /// The rollout to remember, if it changed.
    rollout: Option<Rollout>,
    ended: Option<RolloutRecord>,
    notes: Vec<Note>,
}

impl Ending {
    fn new(said: Said, phase: Phase, standing: Standing, look: Duration) -> Self {
        Self { said, phase, standing, look, failed: None, rollout: None, ended: None, notes: Vec::new() }
    }

    fn busy(said: Said, look: Duration) -> Self {
        Self::new(said, Phase::Reconciling, Standing::Busy, look)
    }

    fn failing(class: Class, why: String, look: Duration) -> Self {
        let said = Said { reason: word(class), message: why.clone() };
        let ending = Self::new(said, Phase::NotReady, Standing::Failing, look);
        Self { failed: Some((class, why)), ..ending }
    }

    fn noting(mut self, reason: &'static str, message: String, warning: bool) -> Self {
        self.notes.push(Note { reason: reason.into(), message, warning });
        self
    }
}

/// The reason for a call that did not work.
fn word(class: Class) -> &'static str {
    match class {
        Class::Transient { .. } => "AwsUnavailable",
        Class::Denied => "AwsDenied",
        Class::Conflict => "WaitingForNodeGroup",
        Class::NotFound => "AwsNotFound",
        Class::Invalid => "AwsRefused",
    }
}

/// A spec that cannot be worked by: every problem with its field.
pub fn invalid(object: &AMIRefresher, problems: &[Problem], now: Timestamp) -> Pass<AMIRefresherStatus> {
    let each: Vec<String> = problems.iter().map(|(path, what)| format!("{path}: {what}")).collect();
    let said = Said { reason: "InvalidSpec", message: each.join("; ") };
    let ending = Ending::new(said, Phase::Stalled, Standing::Stalled, INVALID_LOOK);
    let status = object.status.clone().unwrap_or_default();
    finish(object, status, ending, now)
}

/// A cluster that the namespace may not roll out to: nothing was read, and what EKS does already goes on.
pub fn refused_cluster(
    object: &AMIRefresher,
    spec: &Spec,
    advice: &str,
    now: Timestamp,
) -> Pass<AMIRefresherStatus> {
    let message = format!(
        "namespace {} may not roll out to cluster {}: use a cluster of the namespace, or {advice}",
        spec.key.namespace, spec.cluster
    );
    let said = Said { reason: "ClusterNotAllowed", message };
    let ending = Ending::new(said, Phase::Stalled, Standing::Stalled, INVALID_LOOK);
    finish(object, object.status.clone().unwrap_or_default(), ending, now)
}

/// The object is being deleted: node groups stay as they are, and nothing holds it back.
pub fn deleted(object: &AMIRefresher, now: Timestamp) -> Pass<AMIRefresherStatus> {
    let said = Said { reason: "Deleted", message: "being deleted; node groups stay as they are".to_owned() };
    let ending = Ending::new(said, Phase::NotReady, Standing::Settled, INVALID_LOOK);
    finish(object, object.status.clone().unwrap_or_default(), ending, now)
}

/// A plan that does nothing to the world.
pub fn planned(object: &AMIRefresher, case: Case<'_>, plan: Plan) -> Pass<AMIRefresherStatus> {
    let timer = case.spec.timer;
    let ending = match plan {
        Plan::Done { said, look } => Ending::new(said, Phase::Ready, Standing::Settled, look),
        Plan::Wait { said, look, busy: true } => Ending::busy(said, look),
        Plan::Wait { said, look, busy: false } => Ending::new(said, Phase::NotReady, Standing::Waiting, look),
        Plan::Stalled { said, look } => Ending::new(said, Phase::Stalled, Standing::Stalled, look),
        Plan::Held { said, look } => Ending::new(said, Phase::NotReady, Standing::Failing, look.min(timer)),
        Plan::Record { rollout, ended, said, warning } => {
            let ending = recorded(rollout, ended, said);
            match warning {
                Some(Said { reason, message }) => ending.noting(reason, message, true),
                None => ending,
            }
        }
        Plan::Unknown(class, why) => Ending::failing(class, why, timer),
        // The driver looks and acts before it reports: both mean that the next pass goes on.
        Plan::Look(_) => {
            Ending::busy(Said { reason: "RollingOut", message: "looking".to_owned() }, Duration::ZERO)
        }
        Plan::Act { said, .. } => Ending::busy(said, Duration::ZERO),
    };
    told(object, case, ending)
}

fn recorded(rollout: Rollout, ended: Option<RolloutRecord>, said: Said) -> Ending {
    Ending { rollout: Some(rollout), ended, ..Ending::busy(said, Duration::ZERO) }
}

/// A step that was done, or refused.
pub fn acted(
    object: &AMIRefresher,
    case: Case<'_>,
    step: &Step,
    said: Said,
    done: Result<Done, Failed>,
) -> Pass<AMIRefresherStatus> {
    let ending = match done {
        Ok(done) => succeeded(case, step, said, done),
        Err(failed) => refused(case, step, failed),
    };
    told(object, case, ending)
}

fn succeeded(case: Case<'_>, step: &Step, said: Said, done: Done) -> Ending {
    let message = said.message.clone();
    let soon = case.rolling();
    match (step, done) {
        (Step::PruneVersions { after, .. }, Done::Pruned(left)) => {
            let ending = Ending { rollout: Some(after.clone()), ..Ending::busy(said, Duration::ZERO) };
            left.into_iter().fold(ending, |ending, (version, why)| {
                ending.noting(
                    "VersionKept",
                    format!("launch template version {version} could not be deleted: {why}"),
                    true,
                )
            })
        }
        (Step::StartUpdate { group, version, .. }, Done::Started(update)) => {
            let made = version.version.parse().ok();
            let known = |entry: &Entry| Entry {
                update: Some(update.id.clone()),
                made,
                refusal: None,
                ..entry.clone()
            };
            let waits = format!("{group}: waiting for EKS update {}", update.id);
            Ending { rollout: changed(case, group, known), ..Ending::busy(said, soon) }
                .noting("Waiting", waits, false)
        }
        (Step::MakeVersion { group, .. }, Done::Made(number)) => {
            // It may not be listed at once: the wait for that begins now.
            let starting = Some(Starting { version: number, at: case.now });
            let known =
                |entry: &Entry| Entry { made: Some(number), starting, refusal: None, ..entry.clone() };
            Ending { rollout: changed(case, group, known), ..Ending::busy(said, Duration::ZERO) }.noting(
                "VersionMade",
                message,
                false,
            )
        }
        (Step::Configure { group, .. }, Done::Configured(update)) => configured(case, group, said, &update),
        // A step answers in its own kind; anything else is looked at again.
        (_, _) => Ending::busy(said, soon),
    }
}

fn configured(case: Case<'_>, group: &str, said: Said, update: &Update) -> Ending {
    let message = said.message.clone();
    let ending = Ending::busy(said, case.rolling());
    if !matches!(update.status, UpdateStatus::Failed | UpdateStatus::Cancelled) {
        return ending.noting("UpdateStarted", message, false);
    }
    let failure = format!("maxUnavailable could not be set: {}", update.errors.join("; "));
    let known = |entry: &Entry| Entry { failure: Some(failure.clone()), ..entry.clone() };
    Ending { rollout: changed(case, group, known), look: Duration::ZERO, ..ending }
}

/// The rollout with one entry changed.
fn changed(case: Case<'_>, group: &str, change: impl Fn(&Entry) -> Entry) -> Option<Rollout> {
    let rollout = case.memory.rollout.as_ref()?;
    rollout.groups.get(group).map(|entry| rollout.with(group, change(entry)))
}

/// The whole status of a pass that saw the world.
fn told(object: &AMIRefresher, case: Case<'_>, mut ending: Ending) -> Pass<AMIRefresherStatus> {
    let before = object.status.clone().unwrap_or_default();
    let mut status = before.clone();
    let rollout = ending.rollout.take().or_else(|| case.memory.rollout.clone());
    let target = target(case, rollout.as_ref());
    status.target_ami = target.as_ref().map(Target::to_string);
    if let Some(groups) = case.seen.groups.known() {
        let rows = rows(case, groups, target.as_ref(), rollout.as_ref(), &before);
        ending.notes.extend(newly_unsupported(&before, &rows));
        status.drifted = target.as_ref().map(|_| drifted(&rows));
        status.node_groups = Some(rows);
    }
    if rollout.is_some() {
        status.rollout = rollout.as_ref().map(write_rollout);
    }
    finish(object, status, ending, case.now)
}

fn finish(
    object: &AMIRefresher,
    mut status: AMIRefresherStatus,
    ending: Ending,
    now: Timestamp,
) -> Pass<AMIRefresherStatus> {
    let generation = object.metadata.generation;
    let mut conditions = status.conditions.take().unwrap_or_default();
    let Said { reason, message } = ending.said;
    let rests = reason == conditions::SUSPENDED;
    let words = if rests { &message } else { NOTHING_NEW };
    conditions::set_suspended(&mut conditions, suspension(object), words, generation, now);
    if rests && conditions::has_outcome(&conditions) {
        conditions::confirm(&mut conditions, generation);
    } else {
        set_phase(&mut conditions, ending.phase, reason, &message, generation, now);
    }
    status.conditions = Some(conditions);
    status.observed_generation = generation;
    if let Some(record) = ending.ended {
        remember(&mut status, record);
    }
    Pass {
        status,
        look: ending.look,
        standing: ending.standing,
        release: object.metadata.deletion_timestamp.is_some(),
        wake: Vec::new(),
        notes: ending.notes,
        failed: ending.failed,
    }
}

/// Upserts by id: a pass that is repeated after a lost write records the same rollout once.
fn remember(status: &mut AMIRefresherStatus, record: RolloutRecord) {
    status.last_run = record.finished_at;
    status.last_run_status = Some(record.result.clone());
    let mut history = status.history.take().unwrap_or_default();
    history.retain(|old| old.id != record.id);
    history.insert(0, record);
    history.truncate(HISTORY);
    status.history = Some(history);
}

/// What the groups should run: pinned by a rollout under way, else as chosen, else as before.
fn target(case: Case<'_>, rollout: Option<&Rollout>) -> Option<Target> {
    if let Some(rollout) = rollout.filter(|rollout| rollout.open()) {
        return Some(rollout.target.clone());
    }
    let choice =
        case.seen.found.known().map(|found| choose(case.spec, case.memory, found, case.owner, case.now));
    match choice {
        Some(Choice::Is(target)) => Some(target),
        _ => case.memory.target.clone(),
    }
}
