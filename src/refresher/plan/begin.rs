//! No rollout is under way: is one due? Pure.

use super::super::memory::Rollout;
use super::super::observe::Gap;
use super::super::spec::Source;
use super::super::survey::{Survey, Verdict, survey};
use super::super::target::{Choice, Target, choose};
use super::turn::{Turn, turn};
use super::{Case, Plan, groups, paused_said, said};

pub fn begin(case: Case<'_>) -> Result<Plan, Gap> {
    let all = case.seen.groups()?;
    let found = case.seen.found()?;
    let target = match choose(case.spec, case.memory, found, case.owner, case.now) {
        Choice::Is(target) => target,
        Choice::Nothing { why, ambiguous: true } => return Ok(case.stalled("AmbiguousTarget", why)),
        Choice::Nothing { why, ambiguous: false } => return Ok(case.idle(said("NoEligibleImage", why))),
    };
    let survey = survey(case.spec, Some(&target), all).refined(&target, case.seen)?;
    if survey.ours().next().is_none() {
        return Ok(case.idle(said("NoNodeGroups", no_groups(case, &survey))));
    }
    if survey.off().next().is_none() {
        return Ok(Plan::Done {
            said: said("UpToDate", up_to_date(&survey, &target)),
            look: case.spec.timer,
        });
    }
    if let Some(paused) = case.spec.paused {
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
        Turn::Start { .. } => {
            case.seen.fresh_groups()?;
            case.seen.fresh_found()?;
            let words = format!("rolling {target} out to {}", groups(survey.off().count()));
            let config = case.spec.fingerprint();
            let rollout = Rollout::begin(&case.spec.key, target, config, last, case.now);
            Plan::Record { rollout, ended: None, said: said("RollingOut", words) }
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
    let still = |name: &str, image, before| match survey.verdict(name) {
        Some((group, Verdict::Off(Some(to)))) => to == image && group.template.as_ref() == Some(before),
        _ => false,
    };
    let failures: Vec<String> = last
        .failures()
        .filter(|(name, entry)| still(name, &entry.image, &entry.before))
        .filter_map(|(name, entry)| {
            entry
                .failure
                .as_ref()
                .map(|failure| format!("{name} could not be moved to {}: {failure}", entry.image))
        })
        .collect();
    let hint =
        "not tried again until the image, refreshConfig or the group's launch template version changes";
    (!failures.is_empty()).then(|| case.stalled("UpdateFailed", format!("{}; {hint}", failures.join("; "))))
}

/// Names both versions, for the person who must find the other writer.
fn contested(case: Case<'_>, survey: &Survey<'_>) -> String {
    let last = case.memory.rollout.as_ref();
    let version = |version: Option<String>| version.unwrap_or_else(|| "(unknown)".to_owned());
    let fights: Vec<String> = survey
        .off()
        .filter_map(|group| {
            let entry = last?.groups.get(&group.name)?;
            Some(format!(
                "{} was moved to {} (version {}) {} times within a day, and somebody else put version {} back",
                group.name,
                entry.image,
                version(entry.made.map(|made| made.to_string())),
                entry.moves.len(),
                version(group.template.as_ref().map(|force| force.version.clone())),
            ))
        })
        .collect();
    format!("{}: find who else sets it", fights.join("; "))
}

fn up_to_date(survey: &Survey<'_>, target: &Target) -> String {
    format!("{} on {target}{}", groups(survey.ours().count()), besides(survey))
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
            _ => None,
        })
        .collect()
}
