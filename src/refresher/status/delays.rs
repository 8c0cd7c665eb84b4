//! Events about groups that may not start: a soak, a window, a freeze, or what runs on their nodes. No record comes with
//! them, so the last status tells whether they were reported. A missing approval is an Event of its notification. Pure.

use super::super::step::Explanation;
use crate::api::AMIRefresherStatus;
use crate::api::conditions;
use crate::api::reasons;
use crate::engine::Note;

/// A note if this delay is new. A change of the text, such as of the name of a pod, is not.
pub(super) fn newly_delayed(before: &AMIRefresherStatus, why: &Explanation) -> Option<Note> {
    let known = conditions::reason(before.conditions.as_deref().unwrap_or_default());
    let is_new = known != Some(why.reason) && why.reason != reasons::WAITING_FOR_APPROVAL;
    let message = why.delay().filter(|_| is_new)?;
    let warning = why.reason == reasons::PREFLIGHT_FAILED;
    Some(Note { reason: why.reason.into(), message: message.to_owned(), warning })
}
