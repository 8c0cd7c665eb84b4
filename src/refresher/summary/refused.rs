//! A step that failed: what is remembered about its group, and what is reported. A final refusal is recorded as a
//! failure of the group; any other refusal of a call for one group is retried later, so that the other groups continue.
//! Pure.

use std::time::Duration;

use super::super::memory::{GroupEntry, Rollout};
use super::super::outcome::{ActError, ActErrorKind};
use super::super::plan::PlanInput;
use super::super::refusal::{Refusal, RefusalKind};
use super::super::step::Explanation;
use super::{Summary, changed, recorded};
use crate::api::reasons;
use crate::api::steady::cause;
use crate::api::time::between;
use crate::api::{Class, TemplateId};

/// AWS may not find what it has just returned, and EKS a launch template version that EC2 lists, for this long.
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);

/// A call for one group that AWS refused.
pub(super) fn refused(input: PlanInput<'_>, group: &str, error: ActError) -> Summary {
    let ActError { class, message, kind } = error;
    match (class, kind) {
        // EKS may not see the new version yet, although EC2 lists it.
        (_, ActErrorKind::MissingVersion) if has_just_started(input, group) => {
            blocked(input, group, RefusalKind::NotNow, message)
        }
        (Class::Invalid, _) => failed(input, group, &message),
        (Class::Denied, _) => blocked(input, group, RefusalKind::Denied, message),
        (Class::Conflict, _) => blocked(input, group, RefusalKind::NotNow, message),
        (_, ActErrorKind::NotVisible) if !is_missing_for_long(input, group, &message) => {
            blocked(input, group, RefusalKind::NotNow, message)
        }
        (_, ActErrorKind::Uncertain | ActErrorKind::MissingVersion | ActErrorKind::NotVisible) => {
            blocked(input, group, RefusalKind::Uncertain, message)
        }
        // The call did not reach AWS, or AWS did not process it: the engine backs off.
        (Class::Transient { .. } | Class::NotFound, ActErrorKind::Other | ActErrorKind::TemplateFull) => {
            Summary::failing(class, message, input.spec.timer)
        }
    }
}

/// A refresh that could not be turned back. A final refusal is remembered, so that it is canceled instead of rolled back;
/// if that is refused as well, the engine backs off. If it has just ended, the next reconcile finds its result.
pub(super) fn not_turned_back(input: PlanInput<'_>, group: &str, error: ActError) -> Summary {
    match error.class {
        Class::Invalid if entry(input, group).is_some_and(|entry| entry.refusal.is_none()) => {
            blocked(input, group, RefusalKind::Uncertain, error.message)
        }
        Class::Conflict => {
            Summary::busy(Explanation::new(reasons::ROLLING_OUT, error.message), input.rollout_look())
        }
        class => Summary::failing(class, error.message, input.spec.timer),
    }
}

/// Adds the remedy if the launch template has reached its limit of versions.
pub(super) fn template_full(mut error: ActError, template: &TemplateId) -> ActError {
    if (error.class, error.kind) == (Class::Invalid, ActErrorKind::TemplateFull) {
        error.message.push_str(&format!(
            "; delete versions of launch template {template} that no node group uses (aws ec2 \
             delete-launch-template-versions), then run `opsy reconcile`"
        ));
    }
    error
}

/// Versions that could not be deleted are reported and do not stop the rollout.
pub(super) fn not_pruned(input: PlanInput<'_>, after: Rollout, error: ActError) -> Summary {
    let ActError { class, message, .. } = error;
    if class != Class::Invalid && class != Class::Denied {
        return Summary::failing(class, message, input.spec.timer);
    }
    let why = Explanation::new(reasons::ROLLING_OUT, message.clone());
    recorded(after, None, why).with_note(reasons::VERSION_KEPT, message, true)
}

fn entry<'a>(input: PlanInput<'a>, group: &str) -> Option<&'a GroupEntry> {
    input.memory.rollout.as_ref().and_then(|rollout| rollout.groups.get(group))
}

fn has_just_started(input: PlanInput<'_>, group: &str) -> bool {
    let starting = entry(input, group).and_then(|entry| entry.update.starting);
    starting.is_some_and(|starting| between(starting.at, input.now) < VISIBLE_WITHIN)
}

/// Whether AWS has not found the same thing for longer than a change needs to become visible.
fn is_missing_for_long(input: PlanInput<'_>, group: &str, message: &str) -> bool {
    let last = entry(input, group).and_then(|entry| entry.refusal.as_ref());
    last.is_some_and(|last| {
        let is_long = last.kind == RefusalKind::Uncertain || between(last.since, input.now) >= VISIBLE_WITHIN;
        is_long && cause(&last.message) == cause(message)
    })
}

/// The refusal is final: it is the failure of the group.
fn failed(input: PlanInput<'_>, group: &str, message: &str) -> Summary {
    let with_failure =
        |entry: &GroupEntry| GroupEntry { failure: Some(message.to_owned()), refusal: None, ..entry.clone() };
    let why = Explanation::new(reasons::ROLLING_OUT, format!("{group}: {message}"));
    Summary { rollout: changed(input, group, with_failure), ..Summary::busy(why, Duration::ZERO) }
}

/// Remembers the refusal; the call is retried later. The first refusal with a cause is reported as an Event.
fn blocked(input: PlanInput<'_>, group: &str, kind: RefusalKind, message: String) -> Summary {
    let last = entry(input, group).and_then(|entry| entry.refusal.as_ref());
    let refusal = Refusal::after(last, kind, message, input.now);
    if refusal.is_final() {
        return failed(input, group, &refusal.message);
    }
    let is_new = refusal.since == input.now;
    let message = format!("{group}: {}", refusal.message);
    let reason = if kind == RefusalKind::NotNow { reasons::WAITING_FOR_NODE_GROUP } else { kind.word() };
    let with_refusal = |entry: &GroupEntry| GroupEntry { refusal: Some(refusal.clone()), ..entry.clone() };
    let why = Explanation::new(reason, message.clone());
    let summary =
        Summary { rollout: changed(input, group, with_refusal), ..Summary::busy(why, Duration::ZERO) };
    if is_new && kind != RefusalKind::NotNow { summary.with_note(reason, message, true) } else { summary }
}
