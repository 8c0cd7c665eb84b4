//! Selects the group that is moved next, or says why none can be. Called by `begin` and `rollout`. Pure.

use super::super::fit::{Fit, FitQuery, VersionSkew, find_fit, version_skew};
use super::super::memory::Rollout;
use super::super::node_group::{Lifecycle, NodeGroup};
use super::super::observed::MissingFact;
use super::super::step::{Delay, Explanation};
use super::super::survey::Survey;
use super::super::target::Target;
use super::PlanInput;
use super::admission::{Admission, admission};
use super::waves::Waves;
use crate::api::ImageId;
use crate::api::reasons;

pub enum NextGroup<'a> {
    Start {
        group: &'a NodeGroup,
        image: ImageId,
    },
    /// Another update has to end first.
    Wait(Explanation),
    /// A group is left, and none may start now: a soak, a missing approval, a window or a freeze.
    Delay(Delay),
    /// A person must act first.
    Stalled(Explanation),
    /// An image of the target cannot be launched.
    TargetUnavailable(String),
    /// No group is left that may be moved.
    NoneLeft,
}

/// Selects the next group of the first wave that is not done, by name. DEGRADED groups come last, because their own
/// image may be the cause, and the group that hosts the agent after them. Updates by other writers count toward `max_parallel`, so that the cluster never loses more
/// capacity at a time than the spec allows.
pub fn next_group<'a>(
    input: PlanInput<'_>,
    survey: &Survey<'a>,
    target: &Target,
    rollout: Option<&Rollout>,
) -> Result<NextGroup<'a>, MissingFact> {
    let policy = &input.spec.policy;
    let waves = Waves { input, survey, target, rollout };
    let Some(place) = waves.current()? else { return Ok(NextGroup::NoneLeft) };
    let is_candidate =
        |group: &&NodeGroup| policy.place_of(group) == place && may_move(input, group, target, rollout);
    let candidates: Vec<&NodeGroup> = survey.drifted().filter(is_candidate).collect();
    if candidates.is_empty() {
        let is_updating = |group: &&NodeGroup| {
            policy.place_of(group) == place && group.lifecycle == Lifecycle::Updating && policy.has_waves()
        };
        let updating: Vec<&NodeGroup> = survey.supported().filter(is_updating).collect();
        return Ok(match updating.as_slice() {
            [] => NextGroup::NoneLeft,
            updating => wait_for(updating, "finish updating"),
        });
    }
    let delay = waves.delay(place);
    let may_begin = |group: &NodeGroup| delay.is_none() && policy.place_of(group) == place;
    let busy: Vec<&NodeGroup> =
        survey.supported().filter(|group| is_busy(group, rollout, may_begin(group))).collect();
    if busy.len() >= policy.waves[place].max_parallel {
        return Ok(wait_for(&busy, "finish updating"));
    }
    let candidates = Candidates { groups: candidates, busy: &busy, is_delayed: delay.is_some() };
    let next = select(input, survey, target, rollout, candidates)?;
    Ok(match (next, delay) {
        (NextGroup::Start { .. }, Some(delay)) => NextGroup::Delay(delay),
        (next, _) => next,
    })
}

/// The groups of a wave that may be moved.
struct Candidates<'a, 'b> {
    groups: Vec<&'a NodeGroup>,
    /// Groups that are updating or about to.
    busy: &'b [&'a NodeGroup],
    /// The wave may not start now, so that nothing has to be known of the nodes of its groups.
    is_delayed: bool,
}

/// Selects one of the groups that may be moved.
fn select<'a>(
    input: PlanInput<'_>,
    survey: &Survey<'a>,
    target: &Target,
    rollout: Option<&Rollout>,
    candidates: Candidates<'a, '_>,
) -> Result<NextGroup<'a>, MissingFact> {
    let Candidates { groups: mut candidates, busy, is_delayed } = candidates;
    // A group that was just moved may still show its old image: moving it again would be an unneeded update.
    let just_moved = |group: &NodeGroup| {
        let entry = rollout.and_then(|rollout| rollout.groups.get(&group.name));
        entry.is_some_and(|entry| target.contains(Some(&entry.image)) && entry.is_settling(input.now))
    };
    // DEGRADED groups start only when all others have settled. Until a group can start, no facts about it are needed.
    let may_start =
        |group: &&NodeGroup| matches!(group.lifecycle, Lifecycle::Active(_)) && !just_moved(group);
    if !busy.is_empty() && !candidates.iter().any(may_start) {
        return Ok(wait_for(busy, "finish updating"));
    }
    candidates.sort_by_key(|group| group.is_degraded());
    let batch = survey.images_to_read(target);
    let mut not_ready = Vec::new();
    let mut later = Later::default();
    for group in candidates {
        let query = FitQuery { spec: input.spec, group, target, batch: &batch, observed: input.observed };
        let image = match find_fit(query)? {
            Fit::TargetUnavailable(why) => return Ok(NextGroup::TargetUnavailable(why)),
            Fit::Unfit(_) => continue,
            Fit::Fits(image) => image,
        };
        match &group.lifecycle {
            Lifecycle::Active(_) if !just_moved(group) => {}
            Lifecycle::Degraded(_) if !just_moved(group) && not_ready.is_empty() && busy.is_empty() => {}
            _ => {
                not_ready.push(group);
                continue;
            }
        }
        match if is_delayed { Admission::Start } else { admission(input, group)? } {
            Admission::Start => return check_version(input, group, image),
            Admission::Last => later.last = Some((group, image)),
            Admission::Delay(delay) => later.delays.push(delay),
            Admission::Wait(why) => return Ok(NextGroup::Wait(why)),
        }
    }
    if !not_ready.is_empty() {
        return Ok(wait_for(&not_ready, "settle"));
    }
    match later {
        Later { last: Some(_), .. } if !busy.is_empty() => Ok(wait_for(busy, "finish updating")),
        Later { last: Some((group, image)), .. } => check_version(input, group, image),
        Later { delays, .. } => Ok(delays.into_iter().next().map_or(NextGroup::NoneLeft, NextGroup::Delay)),
    }
}

/// The candidates that do not start before the others.
#[derive(Default)]
struct Later<'a> {
    /// The group that hosts the agent.
    last: Option<(&'a NodeGroup, ImageId)>,
    /// Why others may not start now.
    delays: Vec<Delay>,
}

fn wait_for<'a>(groups: &[&NodeGroup], what: &str) -> NextGroup<'a> {
    let message = format!("waiting for {} to {what}", names(groups));
    NextGroup::Wait(Explanation::new(reasons::WAITING_FOR_NODE_GROUP, message))
}

/// The group may start, unless its nodes would be newer than the control plane.
fn check_version<'a>(
    input: PlanInput<'_>,
    group: &'a NodeGroup,
    image: ImageId,
) -> Result<NextGroup<'a>, MissingFact> {
    Ok(match version_skew(input.spec, &image, input.observed)? {
        VersionSkew::TooNew(why) => NextGroup::Stalled(Explanation::new(reasons::KUBERNETES_TOO_NEW, why)),
        VersionSkew::Supported | VersionSkew::TooOld(_) => NextGroup::Start { group, image },
    })
}

/// Whether a drifted group may be moved: it is not being moved, did not fail in this rollout, and was not undone too
/// often.
fn may_move(input: PlanInput<'_>, group: &NodeGroup, target: &Target, rollout: Option<&Rollout>) -> bool {
    let Some(rollout) = rollout else { return true };
    let Some(entry) = rollout.groups.get(&group.name) else { return true };
    let contested = entry.is_contested(input.now) && target.contains(Some(&entry.image));
    !contested && (!rollout.is_open() || (!entry.is_open() && entry.failure.is_none()))
}

/// Whether a group is updating or about to. A group that is blocked by a refusal, or that may not begin now, does not
/// delay the others.
fn is_busy(group: &NodeGroup, rollout: Option<&Rollout>, may_begin: bool) -> bool {
    let moving = rollout
        .filter(|rollout| rollout.is_open())
        .and_then(|rollout| rollout.groups.get(&group.name))
        .is_some_and(|entry| entry.is_open() && !entry.is_blocked() && (may_begin || entry.has_begun()));
    moving || group.lifecycle == Lifecycle::Updating
}

fn names(groups: &[&NodeGroup]) -> String {
    groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>().join(", ")
}
