//! A step that was not done → what to remember against its group, and what to say. Pure.

use std::time::Duration;

use super::super::act::{Failed, Failure};
use super::super::memory::{Entry, Rollout};
use super::super::plan::{Case, Said, Step};
use super::super::refusal::{Refusal, Refused};
use super::super::time::elapsed;
use super::{Ending, changed};
use crate::api::Class;
use crate::api::steady::cause;

/// How long AWS may not find what it showed before, or EKS a launch template version that EC2 lists.
const SEEN_WITHIN: Duration = Duration::from_secs(120);

/// What a step did not do. Refused for good is remembered against the group; what may be refused for this
/// group alone is remembered, too, and tried again later, so that the others go on.
pub(super) fn refused(case: Case<'_>, step: &Step, failed: Failed) -> Ending {
    let Failed { class, why, kind } = failed;
    let group = match step {
        Step::PruneVersions { after, .. } => return unpruned(case, after, class, why),
        Step::Configure { group, .. } | Step::MakeVersion { group, .. } | Step::StartUpdate { group, .. } => {
            group
        }
    };
    match (class, kind) {
        (_, Failure::MissingVersion) if just_starting(case, group) => held(case, group, Refused::NotNow, why),
        (Class::Invalid, _) => final_refusal(case, group, &explained(step, kind, why)),
        (Class::Denied, _) => held(case, group, Refused::Denied, why),
        (Class::Conflict, _) => held(case, group, Refused::NotNow, why),
        (_, Failure::Unseen) if !missed_for_long(case, group, &why) => {
            held(case, group, Refused::NotNow, why)
        }
        (_, Failure::Unsure | Failure::MissingVersion | Failure::Unseen) => {
            held(case, group, Refused::Unsure, why)
        }
        _ => Ending::failing(class, why, case.spec.timer),
    }
}

/// Versions that stay are no reason to stop.
fn unpruned(case: Case<'_>, after: &Rollout, class: Class, why: String) -> Ending {
    if class != Class::Invalid && class != Class::Denied {
        return Ending::failing(class, why, case.spec.timer);
    }
    let ending = Ending::busy(Said { reason: "RollingOut", message: why.clone() }, Duration::ZERO);
    Ending { rollout: Some(after.clone()), ..ending }.noting("VersionKept", why, true)
}

/// EKS may not see a version yet that EC2 has listed.
fn just_starting(case: Case<'_>, group: &str) -> bool {
    let entry = case.memory.rollout.as_ref().and_then(|rollout| rollout.groups.get(group));
    let starting = entry.and_then(|entry| entry.starting);
    starting.is_some_and(|starting| elapsed(starting.at, case.now) < SEEN_WITHIN)
}

/// Is it longer than a moment that AWS does not find the same?
fn missed_for_long(case: Case<'_>, group: &str, why: &str) -> bool {
    let entry = case.memory.rollout.as_ref().and_then(|rollout| rollout.groups.get(group));
    let before = entry.and_then(|entry| entry.refusal.as_ref());
    before.is_some_and(|before| {
        let long = before.kind == Refused::Unsure || elapsed(before.since, case.now) >= SEEN_WITHIN;
        long && cause(&before.message) == cause(why)
    })
}

fn explained(step: &Step, kind: Failure, why: String) -> String {
    match (step, kind) {
        (Step::MakeVersion { source, .. }, Failure::Full) => {
            format!(
                "{why}; delete versions of launch template {} that no node group uses (aws ec2 \
                 delete-launch-template-versions), then run `opsy reconcile`",
                source.template
            )
        }
        _ => why,
    }
}

fn final_refusal(case: Case<'_>, group: &str, why: &str) -> Ending {
    let known = |entry: &Entry| Entry { failure: Some(why.to_owned()), refusal: None, ..entry.clone() };
    let said = Said { reason: "RollingOut", message: format!("{group}: {why}") };
    Ending { rollout: changed(case, group, known), ..Ending::busy(said, Duration::ZERO) }
}

/// Remembers a refusal of a call for one group. The first of its kind is noted.
fn held(case: Case<'_>, group: &str, kind: Refused, why: String) -> Ending {
    let entry = case.memory.rollout.as_ref().and_then(|rollout| rollout.groups.get(group));
    let before = entry.and_then(|entry| entry.refusal.as_ref());
    let refusal = Refusal::again(before, kind, why, case.now);
    if refusal.is_final() {
        return final_refusal(case, group, &refusal.message);
    }
    let (news, words) = (refusal.since == case.now, format!("{group}: {}", refusal.message));
    let known = |entry: &Entry| Entry { refusal: Some(refusal.clone()), ..entry.clone() };
    let reason = if kind == Refused::NotNow { "WaitingForNodeGroup" } else { kind.word() };
    let said = Said { reason, message: words.clone() };
    let ending = Ending { rollout: changed(case, group, known), ..Ending::busy(said, Duration::ZERO) };
    if news && kind != Refused::NotNow { ending.noting(reason, words, true) } else { ending }
}
