//! A rollout is under way: take it one step further. Pure.

use std::time::Duration;

use super::super::memory::{Entry, Rollout};
use super::super::refusal::Refused;
use super::super::seen::{Gap, Group};
use super::super::spec::Source;
use super::super::survey::{Survey, survey};
use super::super::target::{Choice, choose};
use super::moving::{Move, Next, begun, next, under_way};
use super::turn::{Turn, degraded_said, turn};
use super::undone::undone;
use super::{Case, Plan, Said, groups, paused_said, recorded, said};
use crate::api::{Class, ImageId};

/// Why a rollout starts no further group.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Closing {
    Failed,
    Replaced,
}

/// What stands in the way of the groups being moved, and of the next one.
#[derive(Default)]
struct Rest {
    waits: Vec<Said>,
    stalls: Vec<Said>,
    held: Vec<(Refused, Said, Duration)>,
    unknown: Option<(Class, String)>,
}

pub fn advance(case: Case<'_>, rollout: &Rollout) -> Result<Plan, Gap> {
    if case.asked
        && let Some(forgiven) = rollout.forgiven()
    {
        return Ok(recorded(forgiven, "what failed or was refused is tried again".to_owned()));
    }
    let survey = survey(case.spec, Some(&rollout.target), Some(rollout), case.seen.groups()?);
    if case.seen.partial {
        return waiting(case, rollout, &survey).ok_or(Gap::Look(super::Need::FreshGroups));
    }
    if let Some(plan) = undone(case, rollout, &survey)? {
        return Ok(plan);
    }
    if superseded(case, rollout, &survey)? {
        return Ok(finish(case, rollout, "Replaced", None));
    }
    let closing = closing(case, rollout);
    let mut rest = Rest::default();
    for (name, entry) in rollout.moving() {
        match next(Move { case, rollout, name, entry }, &survey, closing.is_some())? {
            Next::Plan(plan) => return Ok(*plan),
            Next::Wait(said) => rest.waits.push(said),
            Next::Held { kind, said, wait } => {
                rest.held.push((kind, degraded(&survey, name, kind, said), wait))
            }
            Next::Unknown(class, why) => rest.unknown = Some((class, why)),
            Next::Paused => {}
        }
    }
    if closing.is_none() && case.spec.paused.is_none() {
        match turn(case, &survey, &rollout.target, Some(rollout))? {
            Turn::Start { group, image } => return begin_group(case, rollout, group, image),
            Turn::NoImage(why) if rest.waits.is_empty() => {
                return Ok(finish(case, rollout, "Failed", Some(why)));
            }
            Turn::Stalled(_) if rest.waits.is_empty() && newer(case, rollout).is_some() => {
                return Ok(finish(case, rollout, "Replaced", None));
            }
            Turn::Wait(said) => rest.waits.push(said),
            Turn::Stalled(said) => rest.stalls.push(said),
            Turn::NoImage(_) | Turn::Nothing => {}
        }
    }
    match rest.plan(case, rollout)? {
        Some(plan) => Ok(plan),
        None => close(case, rollout, &survey, closing),
    }
}

/// Only groups with an update were read: do all of them still run?
fn waiting(case: Case<'_>, rollout: &Rollout, survey: &Survey<'_>) -> Option<Plan> {
    let mut rest = Rest::default();
    for (name, entry) in rollout.moving().filter(|(_, entry)| !entry.held()) {
        let (group, _) = survey.verdict(name)?;
        match under_way(Move { case, rollout, name, entry }, group)? {
            Next::Plan(plan) => return Some(*plan),
            Next::Wait(said) => rest.waits.push(said),
            _ => return None,
        }
    }
    rest.plan(case, rollout).ok()?
}

/// A DEGRADED group that EKS does not update needs a person, however often it is tried.
fn degraded(survey: &Survey<'_>, name: &str, kind: Refused, held: Said) -> Said {
    match survey.verdict(name) {
        Some((group, _)) if group.is_degraded() && kind == Refused::NotNow => {
            degraded_said(group, &held.message)
        }
        _ => held,
    }
}

impl Rest {
    /// What to say while nothing can be done; nothing where nothing stands in the way.
    fn plan(mut self, case: Case<'_>, rollout: &Rollout) -> Result<Option<Plan>, Gap> {
        if let Some(mut first) = self.waits.into_iter().next() {
            if let Some(newer) = newer(case, rollout) {
                first.message.push_str(&format!("; {newer} is next"));
            }
            return Ok(Some(case.busy(first)));
        }
        if let Some((class, why)) = self.unknown {
            return Err(Gap::Unknown(class, why));
        }
        if let Some(said) = self.stalls.into_iter().next() {
            return Ok(Some(case.stalled(said.reason, said.message)));
        }
        let look = self.held.iter().map(|(_, _, wait)| *wait).min();
        self.held.sort_by_key(|(kind, _, _)| match kind {
            Refused::Denied => 0,
            Refused::Unsure => 1,
            Refused::NotNow => 2,
        });
        let first = self.held.into_iter().next().zip(look);
        Ok(first.map(|((kind, said, _), look)| held(case, kind, said, look)))
    }
}

/// All that is left was refused, and is tried again later.
fn held(case: Case<'_>, kind: Refused, said: Said, look: Duration) -> Plan {
    match (kind, said.reason) {
        (_, "NodeGroupDegraded") => Plan::Stalled { said, look: look.min(case.spec.timer) },
        (Refused::NotNow, _) => Plan::Wait { said, look, busy: true },
        (Refused::Denied | Refused::Unsure, _) => Plan::Held { said, look },
    }
}

/// Nothing moves any more: paused half-way, or over.
fn close(
    case: Case<'_>,
    rollout: &Rollout,
    survey: &Survey<'_>,
    closing: Option<Closing>,
) -> Result<Plan, Gap> {
    let left = survey.off().count();
    let again = |group: &Group| rollout.groups.get(&group.name).is_some_and(|entry| entry.failure.is_none());
    match (closing, &case.spec.paused) {
        (Some(Closing::Failed), _) => return Ok(finish(case, rollout, "Failed", None)),
        (Some(Closing::Replaced), _) => return Ok(finish(case, rollout, "Replaced", None)),
        (None, Some(paused)) if left > 0 => return Ok(case.idle(paused_said(paused, left))),
        _ => {}
    }
    if let Some(unknown) = survey.unknown() {
        return Err(unknown);
    }
    Ok(if survey.off().any(again) {
        finish(case, rollout, "Failed", Some("somebody else moved a group back".to_owned()))
    } else if rollout.failures().next().is_some() {
        finish(case, rollout, "Failed", None)
    } else {
        finish(case, rollout, "Done", None)
    })
}

fn finish(case: Case<'_>, rollout: &Rollout, result: &str, further: Option<String>) -> Plan {
    let mut ended = Rollout { finished: Some(case.now), ..rollout.clone() };
    ended.groups.retain(|_, entry| !entry.open());
    let moved = ended.groups.values().filter(|entry| entry.failure.is_none()).count();
    let words = format!("rollout of {}: {}, {} moved", ended.target, result.to_lowercase(), groups(moved));
    let record = ended.record(result, further);
    Plan::Record { rollout: ended, ended: Some(record), said: said("RollingOut", words), warning: None }
}

fn closing(case: Case<'_>, rollout: &Rollout) -> Option<Closing> {
    if rollout.groups.values().any(Entry::tried_and_failed) {
        return Some(Closing::Failed);
    }
    let named = match &case.spec.source {
        Source::Image(image) => !rollout.target.has(Some(image)),
        _ => false,
    };
    named.then_some(Closing::Replaced)
}

/// A newer image is there, no update is in progress, and every remaining group is refused or DEGRADED.
fn superseded(case: Case<'_>, rollout: &Rollout, survey: &Survey<'_>) -> Result<bool, Gap> {
    let paused = case.spec.paused.is_some();
    if paused || newer(case, rollout).is_none() || !rollout.moving().all(|(_, entry)| entry.held()) {
        return Ok(false);
    }
    let stuck = |group: &Group| {
        let entry = rollout.groups.get(&group.name);
        group.is_degraded() || entry.is_some_and(|entry| entry.held() || entry.failure.is_some())
    };
    if survey.off().next().is_none() {
        return Ok(false);
    }
    let refined = survey.clone().refined(case.spec, &rollout.target, case.seen)?;
    Ok(refined.off().all(stuck))
}

/// What the source of the target offers now, if it is something else.
fn newer(case: Case<'_>, rollout: &Rollout) -> Option<String> {
    let found = case.seen.found.known()?;
    match choose(case.spec, case.memory, found, case.owner, case.now) {
        Choice::Is(target) if target != rollout.target => Some(target.to_string()),
        _ => None,
    }
}

/// Remembers that a group's turn has come, before anything is done to it.
fn begin_group(case: Case<'_>, rollout: &Rollout, group: &Group, image: ImageId) -> Result<Plan, Gap> {
    case.seen.fresh_groups()?;
    let Some(before) = group.template.clone() else {
        return Err(Gap::Unknown(Class::Invalid, format!("{} lost its launch template", group.name)));
    };
    let entry = begun(case, Some(rollout), group, before, image);
    let words = format!("moving {} to {}", group.name, entry.image);
    Ok(recorded(rollout.with(&group.name, entry), words))
}
