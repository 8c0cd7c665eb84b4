//! Conditions as kstatus reads them. Our own type, since objects stored by the old operator have
//! conditions without a transition time, which Kubernetes' own type refuses.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotations::SUSPEND;

/// Condition types.
pub const READY: &str = "Ready";
pub const RECONCILING: &str = "Reconciling";
pub const STALLED: &str = "Stalled";
pub const PUBLISHED: &str = "Published";
/// Only there while it is true: people have suspended the object. Ready keeps the last outcome meanwhile.
pub const SUSPENDED: &str = "Suspended";
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
    /// Ready, Reconciling, Stalled, Suspended, Published, Applied or Notified.
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

/// Who suspended an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// The spec, so mostly a commit.
    Spec,
    /// The annotation, so mostly a person in a hurry.
    Annotation,
    Both,
}

impl Suspension {
    pub fn of(spec: bool, annotation: bool) -> Option<Self> {
        match (spec, annotation) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::Spec),
            (false, true) => Some(Self::Annotation),
            (false, false) => None,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Spec => "Spec",
            Self::Annotation => "Annotation",
            Self::Both => "SpecAndAnnotation",
        }
    }

    fn words(self) -> String {
        match self {
            Self::Spec => "suspended by spec.suspend".to_owned(),
            Self::Annotation => format!("suspended by the annotation {SUSPEND}"),
            Self::Both => format!("suspended by spec.suspend and the annotation {SUSPEND}"),
        }
    }
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

/// Is there an outcome to keep while the object is suspended? Work that was under way has none.
pub fn has_outcome(conditions: &[Condition]) -> bool {
    conditions.iter().any(|c| c.r#type == READY) && !is_true(conditions, RECONCILING)
}

/// Leaves the last outcome as it was said; it is that of this generation, too.
pub fn confirm(conditions: &mut [Condition], generation: Option<i64>) {
    for condition in conditions.iter_mut().filter(|c| [READY, STALLED].contains(&c.r#type.as_str())) {
        condition.observed_generation = generation;
    }
}

/// Says who suspended the object and what that means, or that nobody did.
pub fn set_suspended(
    conditions: &mut Vec<Condition>,
    who: Option<Suspension>,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    match who {
        Some(who) => {
            let message = format!("{}: {message}", who.words());
            set(conditions, SUSPENDED, "True", who.reason(), &message, generation, now);
        }
        None => conditions.retain(|c| c.r#type != SUSPENDED),
    }
}

/// The reason of how an object stands: that it is suspended, or that of Ready.
pub fn reason(conditions: &[Condition]) -> Option<&str> {
    if is_true(conditions, SUSPENDED) {
        return Some(SUSPENDED);
    }
    conditions.iter().find(|c| c.r#type == READY)?.reason.as_deref()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn who_suspends_is_said_beside_the_last_outcome() {
        let mut list = Vec::new();
        assert!(!has_outcome(&list));
        set_phase(&mut list, Phase::Reconciling, "BuildRunning", "x", Some(1), at(0));
        assert!(!has_outcome(&list), "what was under way came to nothing yet");
        set_phase(&mut list, Phase::Ready, "ImageReady", "x", Some(1), at(1));
        assert!(has_outcome(&list));
        for (spec, annotation, reason, words) in [
            (true, false, "Spec", "suspended by spec.suspend: y"),
            (false, true, "Annotation", "suspended by the annotation ami.opsy.dev/suspend: y"),
            (
                true,
                true,
                "SpecAndAnnotation",
                "suspended by spec.suspend and the annotation ami.opsy.dev/suspend: y",
            ),
        ] {
            set_suspended(&mut list, Suspension::of(spec, annotation), "y", Some(2), at(2));
            confirm(&mut list, Some(2));
            let found = list.iter().find(|c| c.r#type == SUSPENDED).expect("said");
            assert_eq!((found.reason.as_deref(), found.message.as_deref()), (Some(reason), Some(words)));
            assert!(is_true(&list, READY) && list.iter().all(|c| c.observed_generation == Some(2)));
        }
        assert_eq!(super::reason(&list), Some("Suspended"));
        set_suspended(&mut list, Suspension::of(false, false), "y", Some(3), at(3));
        assert_eq!(super::reason(&list), Some("ImageReady"));
    }
}
