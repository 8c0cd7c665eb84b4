//! What a pass tells people, and whom it wakes. Pure; part of the report.

use super::harvest::pause_refused;
use super::observe::Observed;
use super::report::{ActError, Done, Outcome, Swept, Told};
use super::step::{On, Plan, Step, Sweep, Tagging};
use crate::api::conditions::{self, Phase};
use crate::api::{Key, Kind, ObjectKey, Region};
use crate::engine::{Note, Standing, Wake};

/// Refreshers look at images; builders that were waited for look at theirs.
pub fn wake(plan: &Plan, outcome: &Outcome) -> Vec<Wake> {
    match (plan, outcome) {
        (Plan::Act { step, .. }, Outcome::Did(_)) if step.changes_images() => vec![Wake::Refreshers],
        (Plan::Wait { on: On::Fleet { others }, .. }, _) => {
            let builder = |key: &Key| ObjectKey { kind: Kind::PackerBuilder, key: key.clone() };
            others.iter().map(builder).map(Wake::Object).collect()
        }
        _ => Vec::new(),
    }
}

/// Reasons that are told by the story of a build or a trouble.
const TOLD_ELSEWHERE: [&str; 2] = ["BuildFailed", "AwsDenied"];

/// What only this pass knows: it is in no status.
pub fn notes(seen: &Observed, plan: &Plan, outcome: &Outcome, told: &Told) -> Vec<Note> {
    let done = match (plan, outcome) {
        (Plan::Act { step, why }, Outcome::Did(done)) => step_note(step, why, done),
        (Plan::Act { step: Step::Sweep(sweep), .. }, Outcome::Failed(error)) => {
            Some(unswept(seen, sweep, error))
        }
        _ => phase_note(seen, told),
    };
    done.into_iter().chain(gone_note(seen)).collect()
}

/// A sweep that did not work. The last one says how to ask for another.
fn unswept(seen: &Observed, sweep: &Sweep, error: &ActError) -> Note {
    let (build, name) = (&sweep.build, &seen.subject.key.name);
    let (reason, message) = if !error.class.is_refusal() || pause_refused(sweep.refused).is_some() {
        ("SweepFailed", format!("could not clean up after build {build}: {error}"))
    } else {
        let asks = format!("opsy reconcile packerbuilder/{name}");
        let what = "grant the permission (deploy/iam has all of them)";
        (
            "SweepGivenUp",
            format!(
                "gave up cleaning up after build {build}: {error}; {what} and run {asks}, or remove it by hand"
            ),
        )
    };
    Note { reason: reason.into(), message, warning: true }
}

/// An active image that is gone is told when it is first missed.
fn gone_note(seen: &Observed) -> Option<Note> {
    let gone = seen.gone_for_sure()?;
    let new: Vec<String> = gone
        .iter()
        .filter(|image| image.gone != Some(true))
        .map(|image| format!("{} ({}, {})", image.id, image.architecture, image.region))
        .collect();
    let message = format!("the active image {} is gone from EC2", new.join(", "));
    (!new.is_empty()).then(|| Note { reason: "ImageGone".into(), message, warning: true })
}

/// A change of how it stands is told once.
fn phase_note(seen: &Observed, told: &Told) -> Option<Note> {
    let (phase, reason, message) = told.phase.as_ref()?;
    let before = conditions::reason(seen.status.conditions.as_deref().unwrap_or_default());
    let same = before == Some(reason);
    // What needs a person, and what a build comes to, is told by `announce`, from the status.
    let elsewhere = matches!(phase, Phase::Reconciling | Phase::Stalled) || TOLD_ELSEWHERE.contains(reason);
    // One that rests from its first day on is as people made it.
    let quiet = elsewhere || (before.is_none() && told.standing == Standing::Waiting);
    let warning = *phase == Phase::NotReady && told.standing != Standing::Waiting;
    (!same && !quiet).then(|| Note { reason: (*reason).into(), message: message.clone(), warning })
}

fn step_note(step: &Step, why: &str, done: &Done) -> Option<Note> {
    let note = |reason: &'static str, message: String, warning| {
        Some(Note { reason: reason.into(), message, warning })
    };
    match (step, done) {
        (_, Done::SnapshotsRefused(error)) => {
            note("SnapshotsNotTagged", format!("the image is tagged, its snapshots are not: {error}"), true)
        }
        (_, Done::Swept(swept)) if swept.found.is_empty() => None,
        (_, Done::Swept(swept)) => note("LeftoversRemoved", leftover_words(swept), false),
        (Step::Stop { run, .. }, _) => note("BuildStopping", format!("{run}: {why}"), true),
        (Step::Activate(tagging), _) => note("ImageActive", tagging_words(tagging), false),
        (Step::Demote(tagging), _) => {
            note("ImageDeprecated", format!("{}: {why}", tagging_words(tagging)), false)
        }
        (Step::Supersede(tagging), _) => note("ImageSuperseded", tagging_words(tagging), false),
        (Step::Start { .. } | Step::Record(_) | Step::Forget(_) | Step::Sweep(_), _) => None,
    }
}

fn tagging_words(tagging: &Tagging) -> String {
    format!("{} in {}", tagging.images.join(", "), tagging.region)
}

fn leftover_words(swept: &Swept) -> String {
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
    format!("{words}; in {}, which the template names itself: set spec.region to it", regions.join(", "))
}

impl Step {
    fn changes_images(&self) -> bool {
        match self {
            Self::Activate(_) | Self::Demote(_) => true,
            Self::Record(record) => record.images.is_some(),
            _ => false,
        }
    }
}
