//! Turns a plan and the outcome of its step into phase, reason and message of the builder. Pure; part of the report.

use std::time::Duration;

use jiff::Timestamp;

use super::inputs;
use super::located::Located;
use super::observe::Observed;
use super::outcome::{ActError, Outcome};
use super::step::{Dependency, Plan, StallReason, Step, WaitReason};
use super::wait::{NEXT_STEP, RUN_REQUEUE};
use crate::api::annotations::CANCEL;
use crate::api::checks::Problem;
use crate::api::conditions::Phase;
use crate::api::words::RunPhase;
use crate::api::{Class, RunName, reasons, time};
use crate::engine::ObjectHealth;

/// The effect of a suspension.
pub const NOTHING_NEW: &str = "nothing new is built";

/// The operator's values of `state`, in the order in which a build goes through them. `JOB_FAILED` is Opsy's own: the
/// operator starts over without reporting a failure.
pub mod state {
    /// The spec is invalid or has not been read yet.
    pub const INITIAL: &str = "Initial";
    /// Something must be known, awaited or allowed before a build may start.
    pub const FLIGHT_CHECKS: &str = "FlightChecks";
    /// A build was started and does not run yet.
    pub const JOB_CREATION: &str = "JobCreation";
    pub const JOB_RUNNING: &str = "JobRunning";
    /// Packer is done, but not all of its images are available yet.
    pub const JOB_COMPLETED: &str = "JobCompleted";
    pub const JOB_FAILED: &str = "JobFailed";
    /// There is a good active image.
    pub const AMI_CREATED: &str = "AMICreated";
}

/// The state of the builder, for people. `phase` is `None` if it does not change.
pub struct Summary {
    pub phase: Option<(Phase, &'static str, String)>,
    pub state: Option<&'static str>,
    pub health: ObjectHealth,
    pub requeue: Duration,
    pub failed: Option<(Class, String)>,
}

/// Returns the summary of a plan and of the outcome of its step.
pub fn summary(observed: &Observed, plan: &Plan, outcome: &Outcome) -> Summary {
    match (plan, outcome) {
        (Plan::Done { images, expires, requeue }, _) => {
            of_images(images, *expires, ObjectHealth::Settled, *requeue)
        }
        (Plan::Wait { on, requeue }, _) => of_wait(on, *requeue),
        (Plan::Stalled { why, requeue }, _) => of_stalled(why, *requeue),
        (Plan::Act { step, .. }, Outcome::Failed(error)) => of_failed_step(step, error),
        (Plan::Act { step: Step::Record(record), .. }, _) if record.good => {
            let images = record.images.as_deref().unwrap_or_default();
            let spec = observed.spec.as_ref().ok();
            let expiry = |image: &Located| inputs::expiry(image, spec?);
            of_images(images, images.iter().filter_map(expiry).min(), ObjectHealth::Busy, NEXT_STEP)
        }
        (Plan::Act { step, why }, _) => of_step(step, why),
    }
}

/// The builder is ready. The step that records a build already reports this, so that a build is one change of status.
fn of_images(
    images: &[Located],
    expires: Option<Timestamp>,
    health: ObjectHealth,
    requeue: Duration,
) -> Summary {
    let expires = expires.map_or(String::new(), |at| format!("; expires {}", time::to_second(at)));
    let names: Vec<String> = images.iter().map(image_text).collect();
    let message = format!("{} active{expires}", names.join(", "));
    new(Phase::Ready, reasons::IMAGE_READY, message, state::AMI_CREATED, health, requeue)
}

fn new(
    phase: Phase,
    reason: &'static str,
    message: String,
    state: &'static str,
    health: ObjectHealth,
    requeue: Duration,
) -> Summary {
    Summary { phase: Some((phase, reason, message)), state: Some(state), health, requeue, failed: None }
}

fn image_text(located: &Located) -> String {
    format!("{} ({}, {})", located.image.id, located.image.architecture, located.region)
}

const NO_BASE_IMAGE: &str = "no available image matches spec.amiFilters: check name, architecture and \
                             owner-id (with a wildcard, it matches only your own images and those of \
                             Amazon), and whether the Allowed AMIs setting of the account allows the \
                             provider of the image";
const NOT_IN_GIT: &str = "its manifest was removed from Git: nothing new is built, and the object is pruned \
                          once all files of the repository can be read and pruning is allowed";

/// Describes how the last failure counts toward the limit.
fn describe_failure(failures: usize, limit: usize, transient: bool) -> String {
    match transient {
        true => "the last failure was not caused by the template and does not count".to_owned(),
        false => format!("failure {failures} of {limit}"),
    }
}

fn of_wait(on: &WaitReason, requeue: Duration) -> Summary {
    use ObjectHealth::{Busy, Failing, Settled, Waiting};
    use Phase::{NotReady, Reconciling};
    use state::{FLIGHT_CHECKS, JOB_COMPLETED, JOB_FAILED};
    // What people asked for, or what only they end.
    let rests = |reason, message| new(NotReady, reason, message, FLIGHT_CHECKS, Waiting, requeue);
    // Everything is ready for a build, but other builders go first.
    let queued = |reason, message| new(Reconciling, reason, message, FLIGHT_CHECKS, Busy, requeue);
    match on {
        WaitReason::Run { run, why, state, waits_for } => {
            of_run(run, why, *state, waits_for.as_deref(), requeue)
        }
        WaitReason::Unknown { dependency, class, message } => {
            let reason = failure_reason(*dependency, *class);
            let failed = Some((*class, message.clone()));
            let summary = new(NotReady, reason, message.clone(), FLIGHT_CHECKS, Failing, requeue);
            Summary { failed, ..summary }
        }
        WaitReason::ImagePending { images } => {
            let message = format!("waiting for {} to become available", images.join(", "));
            new(Reconciling, reasons::IMAGE_PENDING, message, JOB_COMPLETED, Busy, requeue)
        }
        WaitReason::BaseImageNotFound => {
            let message = NO_BASE_IMAGE.to_owned();
            new(NotReady, reasons::BASE_IMAGE_NOT_FOUND, message, FLIGHT_CHECKS, Failing, requeue)
        }
        WaitReason::Suspended => rests(reasons::SUSPENDED, NOTHING_NEW.to_owned()),
        WaitReason::NotInGit => rests(reasons::NOT_IN_GIT, NOT_IN_GIT.to_owned()),
        WaitReason::ManifestBroken { file } => rests(
            reasons::MANIFEST_BROKEN,
            format!("its manifest in {file} is broken: nothing new is built until it is fixed in Git"),
        ),
        WaitReason::Deleted => {
            let message = "no build of it is running any more".to_owned();
            new(NotReady, reasons::DELETED, message, FLIGHT_CHECKS, Settled, requeue)
        }
        WaitReason::Cancelled { build } => rests(reasons::CANCELLED, canceled(build)),
        WaitReason::Backoff { until, failures, limit, transient, error } => {
            let (which, until) = (describe_failure(*failures, *limit, *transient), time::to_second(*until));
            let message = format!("{which}, next attempt at {until}{}", last_error(error));
            new(NotReady, reasons::BUILD_FAILED, message, JOB_FAILED, Failing, requeue)
        }
        // The conditions stay as they are: nothing about the builder has changed.
        WaitReason::Ending { failed } => Summary {
            phase: None,
            state: None,
            health: if *failed { Failing } else { Waiting },
            requeue,
            failed: None,
        },
        WaitReason::Slot { limit, goes_first } => {
            queued(reasons::CONCURRENCY_LIMIT, slot_message(*limit, goes_first.as_deref()))
        }
        WaitReason::LastSlot { limit } => queued(reasons::CONCURRENCY_LIMIT, last_slot_message(*limit)),
        WaitReason::Fleet { .. } => queued(reasons::IMAGE_GONE, FLEET.to_owned()),
    }
}

fn canceled(build: &str) -> String {
    format!(
        "build {build} was canceled: to build again, run `opsy resume`, or remove the annotation {CANCEL}"
    )
}

const FLEET: &str = "its image is gone or lacks its tags: the images of other builders are checked before anything is \
                     built";

fn slot_message(limit: usize, goes_first: Option<&str>) -> String {
    match goes_first {
        Some(other) => {
            format!("namespaces take turns: a builder of namespace {other} starts its build first")
        }
        None => format!("{limit} builds are running, as many as limits.concurrentBuilds allows"),
    }
}

fn last_slot_message(limit: usize) -> String {
    format!(
        "this namespace uses all other slots of limits.concurrentBuilds ({limit}): the last one is reserved for builders \
         of other namespaces"
    )
}

fn of_run(run: &RunName, why: &str, state: RunPhase, waits_for: Option<&str>, requeue: Duration) -> Summary {
    let waits_for = waits_for.map_or(String::new(), |words| format!(": {words}"));
    let (reason, message, word) = match state {
        RunPhase::Pending => (
            reasons::BUILD_PENDING,
            format!("{run} is waiting to start ({why}){waits_for}"),
            state::JOB_CREATION,
        ),
        RunPhase::Running => {
            (reasons::BUILD_RUNNING, format!("{run} is running ({why})"), state::JOB_RUNNING)
        }
        RunPhase::Stopping => (reasons::BUILD_STOPPING, format!("{run} is cleaning up"), state::JOB_RUNNING),
    };
    new(Phase::Reconciling, reason, message, word, ObjectHealth::Busy, requeue)
}

fn of_stalled(why: &StallReason, requeue: Duration) -> Summary {
    let (reason, message, state) = match why {
        StallReason::Invalid(problems) => (reasons::INVALID_SPEC, problems_text(problems), state::INITIAL),
        StallReason::AccountNotAllowed { account } => {
            let message = format!(
                "the AWS credentials belong to account {account}, which accounts in opsy.yaml does not list: \
                 nothing is changed"
            );
            (reasons::ACCOUNT_NOT_ALLOWED, message, state::FLIGHT_CHECKS)
        }
        StallReason::Unreadable { dependency, message } => {
            (failure_reason(*dependency, Class::Invalid), message.clone(), state::FLIGHT_CHECKS)
        }
        StallReason::RetryLimit { failures, error } => {
            let message = format!(
                "{failures} builds of the same inputs failed: change the template, the commands or the base \
                 image, or request another attempt with `opsy reconcile`{}",
                last_error(error)
            );
            (reasons::RETRY_LIMIT, message, state::JOB_FAILED)
        }
        StallReason::NoUse { error } => {
            let message =
                format!("another build of the same inputs would fail in the same way{}", last_error(error));
            (reasons::RETRY_LIMIT, message, state::JOB_FAILED)
        }
        StallReason::AnotherOwner { images } => {
            let message = format!(
                "the recorded image {} belongs to another owner: start the agent with the --agent-id of that \
                 owner, or set the tag status of the image to deprecated to build a new one",
                images.join(", ")
            );
            (reasons::ANOTHER_OWNER, message, state::FLIGHT_CHECKS)
        }
        StallReason::Unrecorded { images } => {
            let message = format!(
                "no recorded image is left, and {} has the tag status=active although no recorded build made \
                 it: set its tag status to deprecated to build a new image",
                images.join(", ")
            );
            (reasons::UNRECORDED_IMAGE, message, state::FLIGHT_CHECKS)
        }
        StallReason::MassBuildRefused { lost, builders } => {
            let message = format!(
                "the images of {lost} of {builders} builders are gone or lack their tags at the same time: \
                 check account, region and tags, or set limits.allowMassBuild in opsy.yaml to build them \
                 again"
            );
            (reasons::MASS_BUILD_REFUSED, message, state::FLIGHT_CHECKS)
        }
    };
    new(Phase::Stalled, reason, message, state, ObjectHealth::Stalled, requeue)
}

fn problems_text(problems: &[Problem]) -> String {
    problems.iter().map(|(path, message)| format!("{path}: {message}")).collect::<Vec<_>>().join("; ")
}

fn last_error(error: &Option<String>) -> String {
    error.as_ref().map_or(String::new(), |error| format!("; last error: {error}"))
}

/// Returns the reason of a failed read or step.
fn failure_reason(dependency: Dependency, class: Class) -> &'static str {
    match (dependency, class) {
        (Dependency::Aws, Class::Denied) => reasons::AWS_DENIED,
        (Dependency::Aws, Class::Invalid) => reasons::AWS_REFUSED,
        (Dependency::Aws, _) => reasons::AWS_UNAVAILABLE,
        (Dependency::Template, Class::Invalid | Class::NotFound) => reasons::TEMPLATE_INVALID,
        (Dependency::Template, _) => reasons::TEMPLATE_UNAVAILABLE,
        (Dependency::Runs, Class::Invalid) => reasons::BUILD_REFUSED,
        (Dependency::Runs, _) => reasons::ENGINE_UNAVAILABLE,
    }
}

/// The step was executed. Only a start and a stop change what is reported about the builder.
fn of_step(step: &Step, why: &str) -> Summary {
    let unchanged =
        Summary { phase: None, state: None, health: ObjectHealth::Busy, requeue: NEXT_STEP, failed: None };
    match step {
        Step::Start { request, .. } => {
            let message = format!("{} started: {why}", request.name);
            new(
                Phase::Reconciling,
                reasons::BUILD_STARTED,
                message,
                state::JOB_CREATION,
                ObjectHealth::Busy,
                RUN_REQUEUE,
            )
        }
        Step::Stop { run, .. } => {
            let message = format!("stopping {run}: {why}");
            new(
                Phase::Reconciling,
                reasons::BUILD_STOPPING,
                message,
                state::JOB_RUNNING,
                ObjectHealth::Busy,
                RUN_REQUEUE,
            )
        }
        _ => unchanged,
    }
}

/// The step failed. Nothing was recorded, so the next reconcile repeats it.
fn of_failed_step(step: &Step, error: &ActError) -> Summary {
    let failed = Some((error.class, error.message.clone()));
    let (phase, health) = match error.class {
        Class::Invalid => (Phase::Stalled, ObjectHealth::Stalled),
        _ => (Phase::NotReady, ObjectHealth::Failing),
    };
    match step {
        // A failed garbage collection is retried at its own time and blocks nothing else.
        Step::Sweep(_) => {
            Summary { phase: None, state: None, health: ObjectHealth::Busy, requeue: NEXT_STEP, failed: None }
        }
        _ => Summary {
            failed,
            ..new(
                phase,
                failure_reason(error.dependency, error.class),
                error.message.clone(),
                state::FLIGHT_CHECKS,
                health,
                RUN_REQUEUE,
            )
        },
    }
}
