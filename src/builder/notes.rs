//! The messages of a reconcile, and the objects that it wakes. Pure; part of the report.

use super::observe::Observed;
use super::outcome::{ActError, Done, Outcome, Swept};
use super::step::{Plan, Step, Sweep, Tagging, WaitReason};
use super::summary::Summary;
use super::sweep_record::delay_after_refusal;
use crate::api::conditions::{self, Phase};
use crate::api::{Key, Kind, ObjectKey, Region, reasons};
use crate::engine::{Note, ObjectHealth, Wake};

/// Returns the objects to reconcile: refreshers if images changed, and the builders whose checks this one waits for.
pub fn wake(plan: &Plan, outcome: &Outcome) -> Vec<Wake> {
    match (plan, outcome) {
        (Plan::Act { step, .. }, Outcome::Did(_)) if step.changes_images() => vec![Wake::Refreshers],
        (Plan::Wait { on: WaitReason::Fleet { others }, .. }, _) => {
            let builder = |key: &Key| ObjectKey { kind: Kind::PackerBuilder, key: key.clone() };
            others.iter().map(builder).map(Wake::Object).collect()
        }
        _ => Vec::new(),
    }
}

/// Reasons that are notified as part of a build or a problem.
const NOTIFIED_ELSEWHERE: [&str; 2] = [reasons::BUILD_FAILED, reasons::AWS_DENIED];

/// Returns the messages about what only this reconcile knows, because no status records it.
pub fn notes(observed: &Observed, plan: &Plan, outcome: &Outcome, summary: &Summary) -> Vec<Note> {
    let done = match (plan, outcome) {
        (Plan::Act { step, why }, Outcome::Did(done)) => step_note(step, why, done),
        (Plan::Act { step: Step::Sweep(sweep), .. }, Outcome::Failed(error)) => {
            Some(failed_sweep_note(observed, sweep, error))
        }
        _ => phase_note(observed, summary),
    };
    done.into_iter().chain(gone_note(observed)).collect()
}

/// Returns the message about a failed garbage collection. The last one states how to request another.
fn failed_sweep_note(observed: &Observed, sweep: &Sweep, error: &ActError) -> Note {
    let (build, name) = (&sweep.build, &observed.subject.key.name);
    let (reason, message) = if !error.class.is_refusal() || delay_after_refusal(sweep.refusals).is_some() {
        (reasons::SWEEP_FAILED, format!("could not clean up after build {build}: {error}"))
    } else {
        let asks = format!("opsy reconcile packerbuilder/{name}");
        let what = "grant the permission (deploy/iam lists all of them)";
        (
            reasons::SWEEP_GIVEN_UP,
            format!(
                "stopped cleaning up after build {build}: {error}; {what} and run {asks}, or remove the \
                 resources yourself"
            ),
        )
    };
    Note { reason: reason.into(), message, warning: true }
}

/// Returns the message about active images that are missing for the first time.
fn gone_note(observed: &Observed) -> Option<Note> {
    let gone = observed.confirmed_gone()?;
    let new: Vec<String> = gone
        .iter()
        .filter(|image| image.gone != Some(true))
        .map(|image| format!("{} ({}, {})", image.id, image.architecture, image.region))
        .collect();
    let message = format!("the active image {} does not exist in EC2 any more", new.join(", "));
    (!new.is_empty()).then(|| Note { reason: reasons::IMAGE_GONE.into(), message, warning: true })
}

/// Returns the message about a change of the reason, which is reported once.
fn phase_note(observed: &Observed, summary: &Summary) -> Option<Note> {
    let (phase, reason, message) = summary.phase.as_ref()?;
    let before = conditions::reason(observed.status.conditions.as_deref().unwrap_or_default());
    let same = before == Some(reason);
    // What needs attention, and the results of builds, are notified by `announce`, from the status.
    let elsewhere =
        matches!(phase, Phase::Reconciling | Phase::Stalled) || NOTIFIED_ELSEWHERE.contains(reason);
    // A builder that waits on purpose from its first reconcile on was created that way, so that is not news.
    let quiet = elsewhere || (before.is_none() && summary.health == ObjectHealth::Waiting);
    let warning = *phase == Phase::NotReady && summary.health != ObjectHealth::Waiting;
    (!same && !quiet).then(|| Note { reason: (*reason).into(), message: message.clone(), warning })
}

fn step_note(step: &Step, why: &str, done: &Done) -> Option<Note> {
    let note = |reason: &'static str, message: String, warning| {
        Some(Note { reason: reason.into(), message, warning })
    };
    match (step, done) {
        (_, Done::SnapshotsRefused(error)) => note(
            reasons::SNAPSHOTS_NOT_TAGGED,
            format!("the image is tagged, but its snapshots are not: {error}"),
            true,
        ),
        (_, Done::Swept(swept)) if swept.found.is_empty() => None,
        (_, Done::Swept(swept)) => note(reasons::LEFTOVERS_REMOVED, removed_text(swept), false),
        (Step::Stop { run, .. }, _) => note(reasons::BUILD_STOPPING, format!("{run}: {why}"), true),
        (Step::Activate(tagging), _) => note(reasons::IMAGE_ACTIVE, tagging_text(tagging), false),
        (Step::Demote(tagging), _) => {
            note(reasons::IMAGE_DEPRECATED, format!("{}: {why}", tagging_text(tagging)), false)
        }
        (Step::Supersede { superseded, .. }, _) => {
            note(reasons::IMAGE_SUPERSEDED, tagging_text(superseded), false)
        }
        (Step::Start { .. } | Step::Record(_) | Step::Forget(_) | Step::Sweep(_), _) => None,
    }
}

fn tagging_text(tagging: &Tagging) -> String {
    format!("{} in {}", tagging.images.join(", "), tagging.region)
}

fn removed_text(swept: &Swept) -> String {
    let Swept { found, elsewhere } = swept;
    let counts = [
        ("instances", found.instances.len()),
        ("volumes", found.volumes.len()),
        ("security groups", found.security_groups.len()),
        ("key pairs", found.key_pairs.len()),
        ("images", found.images.len() + found.partly.len()),
        ("snapshots", found.snapshots.len()),
    ];
    let words = counts.iter().filter(|(_, count)| *count > 0).map(|(what, count)| format!("{count} {what}"));
    let words = words.collect::<Vec<_>>().join(", ");
    if elsewhere.is_empty() {
        return words;
    }
    let regions: Vec<&str> = elsewhere.iter().map(Region::as_str).collect();
    format!(
        "{words}; in {}, which the template sets itself: set spec.region to that region",
        regions.join(", ")
    )
}
