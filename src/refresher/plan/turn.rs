//! Whose turn it is: the next group to move, or why none can be. Pure.

use super::super::fit::{Question, Skew, Way, skew, way};
use super::super::memory::Rollout;
use super::super::seen::{Gap, Group, Life};
use super::super::survey::Survey;
use super::super::target::Target;
use super::undone::settling;
use super::{Case, Said, said};
use crate::api::ImageId;

/// The next group.
pub enum Turn<'a> {
    Start {
        group: &'a Group,
        image: ImageId,
    },
    /// A group must come to rest first.
    Wait(Said),
    /// A person must act first.
    Stalled(Said),
    /// The target cannot be launched.
    NoImage(String),
    /// No group is left that may be moved.
    Nothing,
}

/// By name, one after another unless the spec allows more at once; DEGRADED groups come last, since their
/// image may be the cause. Somebody else's update counts, so that the cluster never loses more capacity at
/// a time than was allowed.
pub fn turn<'a>(
    case: Case<'_>,
    survey: &Survey<'a>,
    target: &Target,
    rollout: Option<&Rollout>,
) -> Result<Turn<'a>, Gap> {
    let mut waiting: Vec<&Group> =
        survey.off().filter(|group| may_move(case, group, target, rollout)).collect();
    if waiting.is_empty() {
        return Ok(Turn::Nothing);
    }
    let busy: Vec<&Group> = survey.ours().filter(|group| is_busy(group, rollout)).collect();
    if busy.len() >= case.spec.how.max_parallel {
        return Ok(Turn::Wait(said(
            "WaitingForNodeGroup",
            format!("waiting for {} to finish updating", names(&busy)),
        )));
    }
    waiting.sort_by_key(|group| group.is_degraded());
    let also = survey.images(target);
    let mut unready = Vec::new();
    for group in waiting {
        let image = match way(Question { spec: case.spec, group, target, also: &also, seen: case.seen })? {
            Way::NoImage(why) => return Ok(Turn::NoImage(why)),
            Way::Unfit(_) => continue,
            Way::To(image) => image,
        };
        let moved = rollout.and_then(|rollout| rollout.groups.get(&group.name));
        let lately = moved.is_some_and(|entry| target.has(Some(&entry.image)) && settling(case, entry));
        match &group.life {
            Life::Active(_) if !lately => return allowed(case, group, image),
            Life::Degraded(_) if !lately && unready.is_empty() && busy.is_empty() => {
                return allowed(case, group, image);
            }
            _ => unready.push(group),
        }
    }
    let words = || format!("waiting for {} to come to rest", names(&unready));
    Ok(if unready.is_empty() { Turn::Nothing } else { Turn::Wait(said("WaitingForNodeGroup", words())) })
}

/// The group may start unless its nodes would be newer than the cluster.
fn allowed<'a>(case: Case<'_>, group: &'a Group, image: ImageId) -> Result<Turn<'a>, Gap> {
    Ok(match skew(case.spec, &image, case.seen)? {
        Skew::TooNew(why) => Turn::Stalled(said("KubernetesTooNew", why)),
        Skew::Fits | Skew::TooOld(_) => Turn::Start { group, image },
    })
}

/// Not being moved already, not failed, not undone as often as may be.
fn may_move(case: Case<'_>, group: &Group, target: &Target, rollout: Option<&Rollout>) -> bool {
    let Some(rollout) = rollout else { return true };
    let Some(entry) = rollout.groups.get(&group.name) else { return true };
    let contested = entry.contested(case.now) && target.has(Some(&entry.image));
    !contested && (!rollout.open() || (!entry.open() && entry.failure.is_none()))
}

/// Updating, or about to; one that waits after a refusal keeps no other waiting.
fn is_busy(group: &Group, rollout: Option<&Rollout>) -> bool {
    let moving = rollout
        .filter(|rollout| rollout.open())
        .and_then(|rollout| rollout.groups.get(&group.name))
        .is_some_and(|entry| entry.open() && !entry.held());
    moving || group.life == Life::Updating
}

/// Why a DEGRADED group is not updated.
pub fn degraded_said(group: &Group, refusal: &str) -> Said {
    let health =
        if group.health.is_empty() { String::new() } else { format!(" ({})", group.health.join("; ")) };
    let words =
        format!("DEGRADED: {}{health}; EKS does not update it: {refusal}; repair or exclude it", group.name);
    said("NodeGroupDegraded", words)
}

fn names(groups: &[&Group]) -> String {
    groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>().join(", ")
}
