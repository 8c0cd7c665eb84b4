//! Events about groups that may not start because of what runs on their nodes. No record comes with them, so the last
//! status tells whether they were reported. Pure.

use super::super::step::Explanation;
use crate::api::AMIRefresherStatus;
use crate::api::conditions::READY;
use crate::api::reasons;
use crate::engine::Note;

/// The holds that are reported as Events. The others end at a known time, or were announced.
const REPORTED: [&str; 2] = [reasons::PREFLIGHT_FAILED, reasons::WAITING_FOR_BUILD];

/// A note if this hold is new. A change of the text, such as of the name of a pod, is not.
pub(super) fn newly_held(before: &AMIRefresherStatus, why: &Explanation) -> Option<Note> {
    let mut conditions = before.conditions.iter().flatten();
    let ready = conditions.find(|condition| condition.r#type == READY);
    let is_known = ready.and_then(|ready| ready.reason.as_deref()) == Some(why.reason);
    (REPORTED.contains(&why.reason) && !is_known).then(|| Note {
        reason: why.reason.into(),
        message: why.message.clone(),
        warning: why.reason == reasons::PREFLIGHT_FAILED,
    })
}
