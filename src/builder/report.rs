//! How a builder stands, told from one pass: phase, reason, words. Pure.
//!
//! `status` turns it into the object's status; here are the words and what the engine does next.

use std::time::Duration;

use jiff::Timestamp;

use super::images::Located;
use super::inputs;
use super::notes;
use super::observe::Observed;
use super::plan::{NEXT_STEP, RUN_LOOK};
use super::remarks;
use super::spec::Problem;
use super::status;
use super::step::{On, Plan, RunWord, Step, Stuck, What};
use super::time;
use crate::api::annotations::CANCEL;
use crate::api::builder::{PackerBuilder, PackerBuilderStatus};
use crate::api::conditions::Phase;
use crate::api::{Class, Region, RunName};
use crate::aws::Leftovers;
use crate::engine::{Pass, Standing};

/// What it means that a builder is suspended.
pub const NOTHING_NEW: &str = "nothing new is built";

/// Before the first sync nobody knows what Git says; the sync wakes everything when it is done.
const BEFORE_SYNC: Duration = Duration::from_secs(5);

/// The operator's words for `state`, in the order a build goes through them. `JOB_FAILED` is ours:
/// the operator starts over without a word.
pub mod state {
    /// The spec is invalid or was not looked at yet.
    pub const INITIAL: &str = "Initial";
    /// Something must be known, awaited or allowed before a build may start.
    pub const FLIGHT_CHECKS: &str = "FlightChecks";
    /// A build was started and waits for its turn.
    pub const JOB_CREATION: &str = "JobCreation";
    pub const JOB_RUNNING: &str = "JobRunning";
    /// Packer is done; its images are not all available yet.
    pub const JOB_COMPLETED: &str = "JobCompleted";
    pub const JOB_FAILED: &str = "JobFailed";
    /// There is a good active image.
    pub const AMI_CREATED: &str = "AMICreated";
}

/// What came of the step.
#[derive(Debug)]
pub enum Outcome {
    /// No step was due.
    Nothing,
    Did(Done),
    Failed(ActError),
}

#[derive(Debug)]
pub enum Done {
    AsPlanned,
    /// The run has this id.
    Started(String),
    /// The images are tagged; EC2 refused to tag their snapshots, and why.
    SnapshotsRefused(String),
    Swept(Box<Swept>),
}

/// What a sweep removed, and in which regions beside those that it was to look in.
#[derive(Debug, Default)]
pub struct Swept {
    pub found: Leftovers,
    pub elsewhere: Vec<Region>,
}

/// A step that did not work.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ActError {
    pub what: What,
    pub class: Class,
    pub message: String,
}

/// How it stands, in words. `phase` is absent where housekeeping leaves it as it was.
pub struct Told {
    pub phase: Option<(Phase, &'static str, String)>,
    pub state: Option<&'static str>,
    pub standing: Standing,
    pub look: Duration,
    pub failed: Option<(Class, String)>,
}

/// The pass as the engine takes it.
pub fn pass(seen: &Observed, plan: &Plan, outcome: &Outcome, now: Timestamp) -> Pass<PackerBuilderStatus> {
    let mut told = tell(seen, plan, outcome);
    if let Some((_, _, message)) = &mut told.phase {
        for remark in remarks::remarks(seen, plan) {
            message.push_str(&format!("; {remark}"));
        }
    }
    let status = status::status(seen, plan, outcome, &told, now);
    Pass {
        notes: notes::notes(seen, plan, outcome, &told),
        wake: notes::wake(plan, outcome),
        look: told.look,
        standing: told.standing,
        release: matches!(plan, Plan::Wait { on: On::Deleted, .. }),
        failed: told.failed,
        status,
    }
}

/// Nothing is known yet, so nothing changes.
pub fn before_sync(object: &PackerBuilder) -> Pass<PackerBuilderStatus> {
    Pass {
        status: object.status.clone().unwrap_or_default(),
        look: BEFORE_SYNC,
        standing: Standing::Busy,
        wake: Vec::new(),
        notes: Vec::new(),
        failed: None,
        release: false,
    }
}

fn tell(seen: &Observed, plan: &Plan, outcome: &Outcome) -> Told {
    match (plan, outcome) {
        (Plan::Done { images, expires, look }, _) => tell_images(images, *expires, Standing::Settled, *look),
        (Plan::Wait { on, look }, _) => tell_wait(on, *look),
        (Plan::Stalled { why, look }, _) => tell_stalled(why, *look),
        (Plan::Act { step, .. }, Outcome::Failed(error)) => tell_failed(step, error),
        (Plan::Act { step: Step::Record(record), .. }, _) if record.good => {
            let images = record.images.as_deref().unwrap_or_default();
            let spec = seen.spec.as_ref().ok();
            let expiry = |image: &Located| inputs::expiry(image, spec?);
            tell_images(images, images.iter().filter_map(expiry).min(), Standing::Busy, NEXT_STEP)
        }
        (Plan::Act { step, why }, _) => tell_step(step, why),
    }
}

/// Ready. A build's record says so at once, so that one build is one change for those who watch.
fn tell_images(images: &[Located], expires: Option<Timestamp>, standing: Standing, look: Duration) -> Told {
    let expires = expires.map_or(String::new(), |at| format!("; expires {}", time::to_second(at)));
    let names: Vec<String> = images.iter().map(image_words).collect();
    let message = format!("{} active{expires}", names.join(", "));
    told(Phase::Ready, "ImageReady", message, state::AMI_CREATED, standing, look)
}

fn told(
    phase: Phase,
    reason: &'static str,
    message: String,
    state: &'static str,
    standing: Standing,
    look: Duration,
) -> Told {
    Told { phase: Some((phase, reason, message)), state: Some(state), standing, look, failed: None }
}

fn image_words(located: &Located) -> String {
    format!("{} ({}, {})", located.image.id, located.image.architecture, located.region)
}

const NO_BASE_IMAGE: &str = "no available image matches spec.amiFilters: check name, architecture and owner-id (in full: \
                             one with a wildcard is looked for among your own images and Amazon's only), and \
                             whether the account's Allowed AMIs setting admits its provider";
const NOT_IN_GIT: &str = "its manifest is gone from Git: nothing new is built, and it is pruned once the repository's \
                          files can be read and pruning is allowed";

/// Which failure it was, as far as it counts.
fn counted(failures: usize, limit: usize, transient: bool) -> String {
    match transient {
        true => "a cause outside of the template, which does not count".to_owned(),
        false => format!("failure {failures} of {limit}"),
    }
}

fn tell_wait(on: &On, look: Duration) -> Told {
    use Phase::{NotReady, Reconciling};
    use Standing::{Busy, Failing, Settled, Waiting};
    let say =
        |phase, reason, message: String, state, standing| told(phase, reason, message, state, standing, look);
    match on {
        On::Run { run, why, state, waits_for } => tell_run(run, why, *state, waits_for.as_deref(), look),
        On::Unknown { what, class, message } => Told {
            failed: Some((*class, message.clone())),
            ..say(NotReady, unreadable(*what, *class), message.clone(), state::FLIGHT_CHECKS, Failing)
        },
        On::ImagePending { images } => {
            let message = format!("waiting for {} to become available", images.join(", "));
            say(Reconciling, "ImagePending", message, state::JOB_COMPLETED, Busy)
        }
        On::BaseImageNotFound => {
            say(NotReady, "BaseImageNotFound", NO_BASE_IMAGE.to_owned(), state::FLIGHT_CHECKS, Failing)
        }
        On::Suspended => say(NotReady, "Suspended", NOTHING_NEW.to_owned(), state::FLIGHT_CHECKS, Waiting),
        On::NotInGit => say(NotReady, "NotInGit", NOT_IN_GIT.to_owned(), state::FLIGHT_CHECKS, Waiting),
        On::ManifestBroken { file } => {
            let message =
                format!("its manifest in {file} is broken: nothing new is built until it is fixed in Git");
            say(NotReady, "ManifestBroken", message, state::FLIGHT_CHECKS, Waiting)
        }
        On::Deleted => say(
            NotReady,
            "Deleted",
            "nothing of it is running any more".to_owned(),
            state::FLIGHT_CHECKS,
            Settled,
        ),
        On::Cancelled { build } => {
            let message = format!(
                "build {build} was canceled: to build again, run `opsy resume`, or remove the annotation {CANCEL}"
            );
            say(NotReady, "Cancelled", message, state::FLIGHT_CHECKS, Waiting)
        }
        On::Backoff { until, failures, limit, transient, error } => {
            let which = counted(*failures, *limit, *transient);
            let message = format!("{which}, next try at {}{}", time::to_second(*until), because(error));
            say(NotReady, "BuildFailed", message, state::JOB_FAILED, Failing)
        }
        // What was said of the builder before stays: nothing has changed but for the time.
        On::Ending { failed } => Told {
            phase: None,
            state: None,
            standing: if *failed { Failing } else { Waiting },
            look,
            failed: None,
        },
        On::Slot { limit, goes_first } => {
            let message = match goes_first {
                Some(other) => format!("namespaces take turns: a builder of {other} starts its build first"),
                None => format!("{limit} builds are running, as many as limits.concurrentBuilds allows"),
            };
            say(Reconciling, "ConcurrencyLimit", message, state::FLIGHT_CHECKS, Busy)
        }
        On::LastSlot { limit } => {
            let message = format!(
                "all other builds that limits.concurrentBuilds ({limit}) allows are of this namespace: the last one is for \
                 builders of other namespaces"
            );
            say(Reconciling, "ConcurrencyLimit", message, state::FLIGHT_CHECKS, Busy)
        }
        On::Fleet { .. } => {
            let message = "its image is gone or without its tags: other builders look at theirs before anything is built";
            say(Reconciling, "ImageGone", message.to_owned(), state::FLIGHT_CHECKS, Busy)
        }
    }
}

fn tell_run(run: &RunName, why: &str, state: RunWord, waits_for: Option<&str>, look: Duration) -> Told {
    let waits_for = waits_for.map_or(String::new(), |words| format!(": {words}"));
    let (reason, message, word) = match state {
        RunWord::Pending => {
            ("BuildPending", format!("{run} waits to start ({why}){waits_for}"), state::JOB_CREATION)
        }
        RunWord::Running => ("BuildRunning", format!("{run} is running ({why})"), state::JOB_RUNNING),
        RunWord::Stopping => ("BuildStopping", format!("{run} cleans up"), state::JOB_RUNNING),
    };
    told(Phase::Reconciling, reason, message, word, Standing::Busy, look)
}

fn tell_stalled(why: &Stuck, look: Duration) -> Told {
    let (reason, message, state) = match why {
        Stuck::Invalid(problems) => ("InvalidSpec", problem_words(problems), state::INITIAL),
        Stuck::AccountNotAllowed { account } => {
            let message = format!(
                "the credentials are of account {account}, which accounts in opsy.yaml does not name: nothing is touched"
            );
            ("AccountNotAllowed", message, state::FLIGHT_CHECKS)
        }
        Stuck::Unreadable { what, message } => {
            (unreadable(*what, Class::Invalid), message.clone(), state::FLIGHT_CHECKS)
        }
        Stuck::RetryLimit { failures, error } => {
            let message = format!(
                "{failures} builds of the same inputs failed: change the template, the commands or the base image, or ask for another try with opsy reconcile{}",
                because(error)
            );
            ("RetryLimit", message, state::JOB_FAILED)
        }
        Stuck::NoUse { error } => {
            let message = format!("another try of the same inputs would fail alike{}", because(error));
            ("RetryLimit", message, state::JOB_FAILED)
        }
        Stuck::AnotherOwner { images } => {
            let message = format!(
                "its status names {}, which belongs to another owner: start the agent with its --agent-id, or set the tag status of \
                 the image to deprecated to build a new one",
                images.join(", ")
            );
            ("AnotherOwner", message, state::FLIGHT_CHECKS)
        }
        Stuck::Unrecorded { images } => {
            let message = format!(
                "no recorded image is left, and {} has the tag status=active without a build that is recorded here: set \
                 its tag status to deprecated, and a new image is built",
                images.join(", ")
            );
            ("UnrecordedImage", message, state::FLIGHT_CHECKS)
        }
        Stuck::MassBuildRefused { lost, builders } => {
            let message = format!(
                "the images of {lost} of {builders} builders are gone or without their tags at once: check account, region and tags, or set limits.allowMassBuild in opsy.yaml"
            );
            ("MassBuildRefused", message, state::FLIGHT_CHECKS)
        }
    };
    told(Phase::Stalled, reason, message, state, Standing::Stalled, look)
}

fn problem_words(problems: &[Problem]) -> String {
    problems.iter().map(|(path, message)| format!("{path}: {message}")).collect::<Vec<_>>().join("; ")
}

fn because(error: &Option<String>) -> String {
    error.as_ref().map_or(String::new(), |error| format!("; last error: {error}"))
}

fn unreadable(what: What, class: Class) -> &'static str {
    match (what, class) {
        (What::Aws, Class::Denied) => "AwsDenied",
        (What::Aws, Class::Invalid) => "AwsRefused",
        (What::Aws, _) => "AwsUnavailable",
        (What::Template, Class::Invalid | Class::NotFound) => "TemplateInvalid",
        (What::Template, _) => "TemplateUnavailable",
        (What::Runs, Class::Invalid) => "BuildRefused",
        (What::Runs, _) => "EngineUnavailable",
    }
}

/// A step that was done. Only a start and a stop say something new about the builder.
fn tell_step(step: &Step, why: &str) -> Told {
    let again = Told { phase: None, state: None, standing: Standing::Busy, look: NEXT_STEP, failed: None };
    match step {
        Step::Start { request, .. } => {
            let message = format!("{} started: {why}", request.name);
            told(Phase::Reconciling, "BuildStarted", message, state::JOB_CREATION, Standing::Busy, RUN_LOOK)
        }
        Step::Stop { run, .. } => {
            let message = format!("stopping {run}: {why}");
            told(Phase::Reconciling, "BuildStopping", message, state::JOB_RUNNING, Standing::Busy, RUN_LOOK)
        }
        _ => again,
    }
}

fn tell_failed(step: &Step, error: &ActError) -> Told {
    let failed = Some((error.class, error.message.clone()));
    let (phase, standing) = match error.class {
        Class::Invalid => (Phase::Stalled, Standing::Stalled),
        _ => (Phase::NotReady, Standing::Failing),
    };
    match step {
        // Cleaning up comes again by its own date and holds nothing else up.
        Step::Sweep(_) => {
            Told { phase: None, state: None, standing: Standing::Busy, look: NEXT_STEP, failed: None }
        }
        _ => Told {
            failed,
            ..told(
                phase,
                unreadable(error.what, error.class),
                error.message.clone(),
                state::FLIGHT_CHECKS,
                standing,
                RUN_LOOK,
            )
        },
    }
}
