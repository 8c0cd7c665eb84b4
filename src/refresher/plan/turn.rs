//! Whose turn it is: the next group to move, or why none can be. Pure.

use super::super::memory::{Entry, Rollout};
use super::super::observe::{Gap, Group, Life};
use super::super::survey::{Survey, Way, way};
use super::super::target::Target;
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
    /// A group needs a person first.
    Stalled(Said),
    /// The target cannot be launched.
    NoImage(String),
    /// No group is left that may be moved.
    Nothing,
}

/// By name, one after another unless the spec allows more at once. Somebody else's update counts, so
/// that the cluster never loses more capacity at a time than was allowed.
pub fn turn<'a>(
    case: Case<'_>,
    survey: &Survey<'a>,
    target: &Target,
    rollout: Option<&Rollout>,
) -> Result<Turn<'a>, Gap> {
    let waiting: Vec<&Group> = survey.off().filter(|group| may_move(case, group, target, rollout)).collect();
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
    let degraded: Vec<&Group> = survey.ours().filter(|group| group.life == Life::Degraded).collect();
    if !degraded.is_empty() && case.spec.how.max_parallel == 1 {
        return Ok(Turn::Stalled(degraded_said(&degraded)));
    }
    let also = survey.images(target);
    let mut unready = Vec::new();
    for group in waiting {
        match (way(group, target, &also, case.seen)?, &group.life) {
            (Way::NoImage(why), _) => return Ok(Turn::NoImage(why)),
            (Way::Unfit(_), _) => {}
            (Way::To(image), Life::Active(_)) => return Ok(Turn::Start { group, image }),
            (Way::To(_), _) => unready.push(group),
        }
    }
    Ok(rest(&unready))
}

/// Groups are left, but none of them is ready.
fn rest<'a>(unready: &[&'a Group]) -> Turn<'a> {
    let degraded: Vec<&Group> =
        unready.iter().filter(|group| group.life == Life::Degraded).copied().collect();
    if unready.is_empty() {
        Turn::Nothing
    } else if degraded.len() == unready.len() {
        Turn::Stalled(degraded_said(&degraded))
    } else {
        Turn::Wait(said("WaitingForNodeGroup", format!("waiting for {} to become ACTIVE", names(unready))))
    }
}

/// Not being moved already, not failed, not moved as often as may be.
fn may_move(case: Case<'_>, group: &Group, target: &Target, rollout: Option<&Rollout>) -> bool {
    let Some(rollout) = rollout else { return true };
    let Some(entry) = rollout.groups.get(&group.name) else { return true };
    let contested = entry.contested(case.now) && target.has(Some(&entry.image));
    !contested && (!rollout.open() || (!entry.open() && entry.failure.is_none()))
}

fn is_busy(group: &Group, rollout: Option<&Rollout>) -> bool {
    let moving = rollout
        .filter(|rollout| rollout.open())
        .and_then(|rollout| rollout.groups.get(&group.name))
        .is_some_and(Entry::open);
    moving || group.life == Life::Updating
}

/// Why a degraded group stops a rollout.
pub fn degraded_said(groups: &[&Group]) -> Said {
    let each: Vec<String> = groups
        .iter()
        .map(|group| {
            let health = if group.health.is_empty() {
                String::new()
            } else {
                format!(" ({})", group.health.join("; "))
            };
            format!("{}{health}", group.name)
        })
        .collect();
    said("NodeGroupDegraded", format!("DEGRADED: {}; repair or exclude it", each.join(", ")))
}

fn names(groups: &[&Group]) -> String {
    groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>().join(", ")
}
