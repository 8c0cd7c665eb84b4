//! No rollout is under way: is one due? Pure.

use super::super::fit::{Skew, skew};
use super::super::memory::{Entry, Rollout};
use super::super::seen::Gap;
use super::super::spec::Source;
use super::super::survey::{Survey, Verdict, survey};
use super::super::target::{Choice, Target, choose};
use super::moving::begun;
use super::turn::{Turn, turn};
use super::undone::undone;
use super::{Case, Plan, groups, paused_said, recorded, said};

pub fn begin(case: Case<'_>) -> Result<Plan, Gap> {
    let all = case.seen.groups()?;
    let found = case.seen.found()?;
    let target = match choose(case.spec, case.memory, found, case.owner, case.now) {
        Choice::Is(target) => target,
        Choice::Nothing { why, ambiguous: true } => return Ok(case.stalled("AmbiguousTarget", why)),
        Choice::Nothing { why, ambiguous: false } => return Ok(case.idle(said("NoEligibleImage", why))),
    };
    let last = case.memory.rollout.as_ref();
    if case.asked
        && let Some(forgiven) = last.and_then(Rollout::forgiven)
    {
        return Ok(recorded(forgiven, "what failed is tried again".to_owned()));
    }
    let survey = survey(case.spec, Some(&target), last, all).refined(case.spec, &target, case.seen)?;
    if let Some(last) = last.filter(|last| last.target == target)
        && let Some(plan) = undone(case, last, &survey)?
    {
        return Ok(plan);
    }
    if let Some(unknown) = survey.unknown().filter(|_| survey.off().next().is_none()) {
        return Err(unknown);
    }
    if survey.ours().next().is_none() {
        return Ok(case.idle(said("NoNodeGroups", no_groups(case, &survey))));
    }
    if survey.off().next().is_none() {
        return Ok(Plan::Done {
            said: said("UpToDate", up_to_date(&survey, &target)),
            look: case.spec.timer,
        });
    }
    if let Some(paused) = &case.spec.paused {
        return Ok(case.idle(paused_said(paused, survey.off().count())));
    }
    if let Some(plan) = failed_before(case, &survey) {
        return Ok(plan);
    }
    start(case, &survey, target)
}

fn start(case: Case<'_>, survey: &Survey<'_>, target: Target) -> Result<Plan, Gap> {
    let last = case.memory.rollout.as_ref();
    Ok(match turn(case, survey, &target, last)? {
        Turn::Start { image, .. } => {
            case.seen.fresh_groups()?;
            case.seen.fresh_found()?;
            let words = format!("rolling {target} out to {}", groups(survey.off().count()));
            let warning = match skew(case.spec, &image, case.seen)? {
                Skew::TooOld(why) => Some(said("KubernetesTooOld", why)),
                Skew::Fits | Skew::TooNew(_) => None,
            };
            let config = case.spec.fingerprint();
            let mut rollout = Rollout::begin(&case.spec.key, target, config, last, case.now);
            // What shows the target although its update failed must be updated once more.
            let shown: Vec<_> =
                survey.off().filter(|group| rollout.target.has(group.image.as_ref())).collect();
            for group in shown {
                if let (Some(before), Some(image)) = (group.template.clone(), group.image.clone()) {
                    rollout = rollout.with(&group.name, begun(case, last, group, before, image));
                }
            }
            Plan::Record { rollout, ended: None, said: said("RollingOut", words), warning }
        }
        Turn::Wait(said) => case.busy(said),
        Turn::Stalled(said) => case.stalled(said.reason, said.message),
        Turn::NoImage(why) => match case.spec.source {
            Source::Image(_) => case.stalled("NoEligibleImage", format!("{why}: name another image in ami")),
            _ => case.idle(said("NoEligibleImage", why)),
        },
        Turn::Nothing => case.stalled("AnotherWriter", contested(case, survey)),
    })
}

/// The same image failed on a group, and nothing changed since: it is not tried again.
fn failed_before(case: Case<'_>, survey: &Survey<'_>) -> Option<Plan> {
    let last = case.memory.rollout.as_ref().filter(|last| last.config == case.spec.fingerprint())?;
    let still = |name: &str, entry: &Entry| match survey.verdict(name) {
        Some((group, Verdict::Off(Some(to)))) => {
            let shown = group.image.as_ref() == Some(&entry.image);
            *to == entry.image && (shown || group.template.as_ref() == Some(&entry.before))
        }
        _ => false,
    };
    let failures: Vec<String> = last
        .failures()
        .filter(|(name, entry)| still(name, entry))
        .filter_map(|(name, entry)| {
            let failure = entry.failure.as_ref()?;
            Some(format!("{name} could not be moved to {}: {failure}", entry.image))
        })
        .collect();
    let target = &last.target;
    let hint = format!(
        "not tried again until the image, refreshConfig or the group's launch template version changes, or somebody \
         asks: `opsy reconcile`, or the annotation ami.opsy.dev/retry: {target}"
    );
    (!failures.is_empty()).then(|| case.stalled("UpdateFailed", format!("{}; {hint}", failures.join("; "))))
}

/// Names both versions and the likely writer, for the person who must find it.
fn contested(case: Case<'_>, survey: &Survey<'_>) -> String {
    let last = case.memory.rollout.as_ref();
    let fights: Vec<String> = survey
        .off()
        .filter_map(|group| {
            let entry = last?.groups.get(&group.name)?;
            let words = entry.undone_by.clone()?;
            Some(format!(
                "{words}; this was found {} times, so it is not moved again for now",
                entry.undone.len()
            ))
        })
        .collect();
    format!("{}; once it is settled, `opsy reconcile` goes on", fights.join("; "))
}

fn up_to_date(survey: &Survey<'_>, target: &Target) -> String {
    let degraded: String = survey
        .degraded_on_target()
        .map(|group| format!("; {} is DEGRADED: {}", group.name, group.health.join("; ")))
        .collect();
    format!("{} on {target}{}{degraded}", groups(survey.ours().count()), besides(survey))
}

fn no_groups(case: Case<'_>, survey: &Survey<'_>) -> String {
    if survey.groups.is_empty() {
        return format!("cluster {} has no managed node groups", case.spec.cluster);
    }
    let excluded = survey.groups.iter().filter(|(_, verdict)| *verdict == Verdict::Excluded).count();
    format!("no node group to roll: {excluded} excluded{}", besides(survey))
}

/// Groups that are in scope and yet not rolled, with why.
fn besides(survey: &Survey<'_>) -> String {
    survey
        .groups
        .iter()
        .filter_map(|(group, verdict)| match verdict {
            Verdict::Unsupported(why) | Verdict::Gone(why) => Some(format!("; {} {why}", group.name)),
            Verdict::Unknown(_, why) => Some(format!("; {} cannot be read: {why}", group.name)),
            _ => None,
        })
        .collect()
}
