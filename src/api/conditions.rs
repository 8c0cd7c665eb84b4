//! Conditions as kstatus reads them. Our own type, since objects stored by the old operator have
//! conditions without a transition time, which Kubernetes' own type refuses.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Condition types.
pub const READY: &str = "Ready";
pub const RECONCILING: &str = "Reconciling";
pub const STALLED: &str = "Stalled";
pub const PUBLISHED: &str = "Published";
/// Only there while it is false: the object in the cluster is not what Git says.
pub const APPLIED: &str = "Applied";
/// The repository's own, and only there while they are false: it can be read, what it no longer has is
/// pruned, a home takes its commit and all of its objects, and all namespaces can be read.
pub const SYNCED: &str = "Synced";
pub const PRUNED: &str = "Pruned";
pub const TAKEN_OVER: &str = "TakenOver";
pub const ACCEPTED: &str = "Accepted";
pub const READABLE: &str = "Readable";
/// Only there while it is false: people are not told what they are to hear.
pub const NOTIFIED: &str = "Notified";

/// One condition of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Ready, Reconciling, Stalled, Published, Applied or Notified.
    pub r#type: String,
    /// True, False or Unknown.
    pub status: String,
    /// One CamelCase word for machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_transition_time: Option<Timestamp>,
    /// The generation this was said of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What a pass found out about an object, before it is spelled out as conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// All is as Git says.
    Ready,
    /// Work is under way.
    Reconciling,
    /// Nothing is under way, but not all is as Git says: waiting, backing off, suspended.
    NotReady,
    /// A person must act.
    Stalled,
}

/// Sets Ready, Reconciling and Stalled in `conditions` from one phase, keeping transition times
/// where the status did not change, and leaving other types alone.
pub fn set_phase(
    conditions: &mut Vec<Condition>,
    phase: Phase,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let ready = if phase == Phase::Ready { "True" } else { "False" };
    set(conditions, READY, ready, reason, message, generation, now);
    for (kind, holds) in [(RECONCILING, phase == Phase::Reconciling), (STALLED, phase == Phase::Stalled)] {
        if holds {
            set(conditions, kind, "True", reason, message, generation, now);
        } else {
            conditions.retain(|c| c.r#type != kind);
        }
    }
}

/// Sets one condition, keeping its transition time where the status did not change.
pub fn set(
    conditions: &mut Vec<Condition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let since = conditions
        .iter()
        .find(|c| c.r#type == kind && c.status == status)
        .and_then(|c| c.last_transition_time)
        .unwrap_or(now);
    let condition = Condition {
        r#type: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(since),
        observed_generation: generation,
    };
    match conditions.iter_mut().find(|c| c.r#type == kind) {
        Some(found) => *found = condition,
        None => conditions.push(condition),
    }
}

/// Says that publishing fails. A refusal that stands is not mended by a server that is away.
pub fn set_unpublished(
    conditions: &mut Vec<Condition>,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let refused = |found: &Condition| {
        found.r#type == PUBLISHED && found.status == "False" && found.reason.as_deref() == Some("PushRefused")
    };
    if reason == "PushRefused" || !conditions.iter().any(refused) {
        set(conditions, PUBLISHED, "False", reason, message, generation, now);
    }
}

/// Does a condition hold?
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|c| c.r#type == kind && c.status == "True")
}
