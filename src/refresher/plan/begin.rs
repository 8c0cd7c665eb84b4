//! No rollout is in progress: chooses the target and starts a rollout if one is due. `rollout` continues it. Pure.

use super::super::choose::{TargetChoice, choose, held_back};
use super::super::fit::{VersionSkew, version_skew};
use super::super::memory::{GroupEntry, Rollback, Rollout};
use super::super::observed::MissingFact;
use super::super::spec::Source;
use super::super::step::{Explanation, Plan};
use super::super::survey::{GroupDrift, Survey, survey};
use super::super::target::Target;
use super::group_move::new_entry;
use super::turn::{NextGroup, next_group};
use super::undone::record_undone;
use super::{PlanInput, explain_pause, node_groups, record};
use crate::api::{ImageId, annotations, reasons};

pub fn begin(input: PlanInput<'_>) -> Result<Plan, MissingFact> {
    let groups = input.observed.groups()?;
    if input.retry_requested
        && let Some(again) = input.memory.rollout.as_ref().and_then(Rollout::rolled_back_again)
    {
        return Ok(record(again, "rolling back what could not be rolled back".to_owned()));
    }
    let last = input.memory.rollout.as_ref();
    if input.retry_requested
        && let Some(retried) = last.and_then(Rollout::retried)
    {
        return Ok(record(retried, "retrying what failed".to_owned()));
    }
    let images = input.observed.source_images()?;
    let held = held_back(input.spec, input.memory, images, input.owner, input.now);
    let target = match choose(input.spec, input.memory, images, input.owner, input.now) {
        TargetChoice::Chosen(target) => target,
        TargetChoice::NoneEligible { why, ambiguous: true } => {
            return Ok(input.stalled(Explanation::new(reasons::AMBIGUOUS_TARGET, why)));
        }
        TargetChoice::NoneEligible { why, ambiguous: false } => {
            if let Some((image, why)) = held {
                return Ok(input.stalled(explain_held(input, &image, &why)));
            }
            return Ok(input.idle(Explanation::new(reasons::NO_ELIGIBLE_IMAGE, why)));
        }
    };
    let survey = survey(input.spec, Some(&target), last, groups).keeping(&input.kept(), last);
    let survey = survey.with_images(input.spec, &target, input.observed)?;
    // Only moves to this target can be undone: with another one, every group is expected to change.
    if let Some(last) = last.filter(|last| last.target == target)
        && let Some(plan) = record_undone(input, last, &survey)?
    {
        return Ok(plan);
    }
    // An unreadable group does not delay groups that are known to have drifted.
    if let Some(unreadable) = survey.unreadable().filter(|_| survey.drifted().next().is_none()) {
        return Err(unreadable);
    }
    if survey.supported().next().is_none() {
        return Ok(input.idle(Explanation::new(reasons::NO_NODE_GROUPS, no_groups(input, &survey))));
    }
    if survey.drifted().next().is_none() {
        if let Some((image, why)) = held {
            return Ok(input.stalled(explain_held(input, &image, &why)));
        }
        let why = Explanation::new(reasons::UP_TO_DATE, up_to_date(&survey, &target));
        return Ok(Plan::Done { why, look: input.spec.timer });
    }
    if let Some(paused) = &input.spec.paused {
        return Ok(input.idle(explain_pause(paused, survey.drifted().count())));
    }
    if let Some(plan) = check_failed_before(input, &target).or_else(|| failed_before(input, &survey)) {
        return Ok(plan);
    }
    start(input, &survey, target)
}

fn start(input: PlanInput<'_>, survey: &Survey<'_>, target: Target) -> Result<Plan, MissingFact> {
    let last = input.memory.rollout.as_ref();
    Ok(match next_group(input, survey, &target, last)? {
        NextGroup::Start { image, .. } => return start_rollout(input, survey, target, &image),
        NextGroup::Wait(why) => input.busy(why),
        NextGroup::Delay(delay) => input.delayed(delay),
        NextGroup::Stalled(why) => input.stalled(why),
        NextGroup::TargetUnavailable(why) => match input.spec.source {
            // Only a person can choose another image.
            Source::Image(_) => {
                let message = format!("{why}: set ami to another image");
                input.stalled(Explanation::new(reasons::NO_ELIGIBLE_IMAGE, message))
            }
            _ => input.idle(Explanation::new(reasons::NO_ELIGIBLE_IMAGE, why)),
        },
        NextGroup::NoneLeft => {
            // A group that cannot be read may be one of an earlier wave.
            if let Some(unreadable) = survey.unreadable() {
                return Err(unreadable);
            }
            // Groups have drifted, none failed before, and none may be moved: another writer undid the moves too often.
            input.stalled(Explanation::new(reasons::ANOTHER_WRITER, explain_contested(input, survey)))
        }
    })
}

/// Records the new rollout. No group is moved yet: the next reconcile begins with the first one.
fn start_rollout(
    input: PlanInput<'_>,
    survey: &Survey<'_>,
    target: Target,
    image: &ImageId,
) -> Result<Plan, MissingFact> {
    input.observed.require_fresh_groups(survey.drifted().map(|group| group.name.as_str()))?;
    input.observed.require_fresh_source_images()?;
    let last = input.memory.rollout.as_ref();
    let message = format!("rolling out {target} to {}", node_groups(survey.drifted().count()));
    let warning = match version_skew(input.spec, image, input.observed)? {
        VersionSkew::TooOld(why) => Some(Explanation::new(reasons::KUBERNETES_TOO_OLD, why)),
        VersionSkew::Supported | VersionSkew::TooNew(_) => None,
    };
    let config = input.spec.fingerprint();
    let mut rollout = Rollout::begin(&input.spec.key, target, config, last, input.now);
    // A group that shows the target although its update failed must be updated once more: its nodes may be mixed.
    let showing: Vec<_> =
        survey.drifted().filter(|group| rollout.target.contains(group.image.as_ref())).collect();
    for group in showing {
        if let (Some(in_force), Some(image)) = (group.launch_template.clone(), group.image.clone()) {
            let entry = new_entry(input, last, group, in_force, image);
            rollout = rollout.with_group(&group.name, entry);
        }
    }
    Ok(Plan::Record { rollout, ended: None, why: Explanation::new(reasons::ROLLING_OUT, message), warning })
}

/// A check failed with this target, and nothing has changed since: its rollout is not continued.
fn check_failed_before(input: PlanInput<'_>, target: &Target) -> Option<Plan> {
    let last = input.memory.rollout.as_ref().filter(|last| last.config == input.spec.fingerprint())?;
    let failure = last.failure.as_ref().filter(|_| last.target == *target)?;
    let message = format!(
        "the rollout of {target} has failed: {failure}; not continued until the image or refreshConfig changes; to \
         continue, run `opsy reconcile` or set the annotation ami.opsy.dev/retry: {target}"
    );
    Some(input.stalled(Explanation::new(reasons::UPDATE_FAILED, message)))
}

/// The same image failed on a group, and nothing has changed since: it is not retried.
fn failed_before(input: PlanInput<'_>, survey: &Survey<'_>) -> Option<Plan> {
    let last = input.memory.rollout.as_ref().filter(|last| last.config == input.spec.fingerprint())?;
    let is_unchanged = |name: &str, entry: &GroupEntry| match survey.group(name) {
        Some((group, GroupDrift::Drifted(Some(image)))) => {
            let shows_image = group.image.as_ref() == Some(&entry.image);
            let same_version = group.launch_template.as_ref() == Some(&entry.previous);
            *image == entry.image && (shows_image || same_version)
        }
        _ => false,
    };
    let failures: Vec<String> = last
        .failures()
        .filter(|(name, entry)| is_unchanged(name, entry))
        .filter_map(|(name, entry)| {
            let failure = entry.failure.as_ref()?;
            Some(format!("{name} could not be moved to {}: {failure}", entry.image))
        })
        .collect();
    if failures.is_empty() {
        return None;
    }
    let message = format!(
        "{}; not retried until the image, refreshConfig or the launch template version of the group changes; to retry \
         now, run `opsy reconcile` or set the annotation ami.opsy.dev/retry: {}",
        failures.join("; "),
        last.target
    );
    Some(input.stalled(Explanation::new(reasons::UPDATE_FAILED, message)))
}

/// What another writer undid, for the person who must find it.
fn explain_contested(input: PlanInput<'_>, survey: &Survey<'_>) -> String {
    let last = input.memory.rollout.as_ref();
    let contested: Vec<String> = survey
        .drifted()
        .filter_map(|group| {
            let entry = last?.groups.get(&group.name)?;
            let message = entry.undone_by.clone()?;
            let times = entry.undone_at.len();
            Some(format!("{message}; found {times} times, so the group is not moved again for now"))
        })
        .collect();
    format!("{}; when this is resolved, run `opsy reconcile` to continue", contested.join("; "))
}

/// The newest image is not rolled out again after its rollout failed.
fn explain_held(input: PlanInput<'_>, image: &ImageId, why: &str) -> Explanation {
    let last = input.memory.rollout.as_ref().filter(|last| last.rollback.is_some());
    let not_back: Vec<String> = last
        .into_iter()
        .flat_map(Rollout::failures)
        .filter_map(|(name, entry)| {
            Some(format!("{name} could not be rolled back: {}", entry.failure.as_ref()?))
        })
        .collect();
    let not_back = match not_back.as_slice() {
        [] => back(last, image),
        groups => format!("; {}; to try that again, run `opsy reconcile`", groups.join("; ")),
    };
    let message = format!(
        "{why}{not_back}; it stays held until the template, spec or base image changes; to roll it out anyway, set the \
         annotation {}: {image}",
        annotations::RETRY
    );
    Explanation::new(reasons::IMAGE_HELD, message)
}

/// Where the node groups are after the rollback of an image, as a part of a message.
fn back(rollback: Option<&Rollout>, image: &ImageId) -> String {
    let of_image = |failed: &Rollback| failed.target.contains(Some(image));
    match rollback.filter(|back| back.rollback.as_ref().is_some_and(of_image)) {
        Some(back) => format!("; its node groups were rolled back to {}", back.target),
        None => String::new(),
    }
}

fn up_to_date(survey: &Survey<'_>, target: &Target) -> String {
    let degraded: String = survey
        .degraded_on_target()
        .map(|group| format!("; {} is DEGRADED: {}", group.name, group.health.join("; ")))
        .collect();
    format!("{} on {target}{}{degraded}", node_groups(survey.supported().count()), not_moved(survey))
}

fn no_groups(input: PlanInput<'_>, survey: &Survey<'_>) -> String {
    if survey.groups.is_empty() {
        let (cluster, scope) = (&input.spec.cluster, &input.spec.scope);
        let own = format!("self-managed groups (tag kubernetes.io/cluster/{cluster}: owned)");
        return match (scope.managed, scope.self_managed) {
            (true, true) => format!("cluster {cluster} has neither managed node groups nor {own}"),
            (false, true) => format!("cluster {cluster} has no {own}"),
            (_, false) => format!("cluster {cluster} has no managed node groups"),
        };
    }
    let excluded = survey.groups.iter().filter(|(_, drift)| *drift == GroupDrift::Excluded).count();
    format!("no node group to update: {excluded} excluded{}", not_moved(survey))
}

/// The groups that are in scope but cannot be moved, with the reasons.
fn not_moved(survey: &Survey<'_>) -> String {
    survey
        .groups
        .iter()
        .filter_map(|(group, drift)| match drift {
            GroupDrift::Unsupported(why) | GroupDrift::Unusable(why) => {
                Some(format!("; {} {why}", group.name))
            }
            GroupDrift::Unknown(_, why) => Some(format!("; {} cannot be read: {why}", group.name)),
            GroupDrift::Excluded | GroupDrift::Current | GroupDrift::Drifted(_) => None,
        })
        .collect()
}
