//! Conditions as kstatus reads them. They have a type of their own, because objects that the operator stored have
//! conditions without a transition time, which the type of Kubernetes refuses.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::annotations::SUSPEND;

/// The statuses of a condition.
pub const TRUE: &str = "True";
pub const FALSE: &str = "False";
pub const UNKNOWN: &str = "Unknown";

/// The types of conditions.
pub const READY: &str = "Ready";
pub const RECONCILING: &str = "Reconciling";
pub const STALLED: &str = "Stalled";
/// Present only while it is true: the object is suspended. Ready keeps the last outcome meanwhile.
pub const SUSPENDED: &str = "Suspended";
/// Present only while it is false: the object in the cluster differs from its manifest in Git.
pub const APPLIED: &str = "Applied";
/// Conditions of the repository, each present only while it is false. Synced: the repository can be read. Pruned: what
/// it no longer declares is pruned. TakenOver: the engine has loaded its commit. Accepted: the engine has accepted all
/// of its objects. Readable: all namespaces can be read. Published: it has the status of all objects.
pub const SYNCED: &str = "Synced";
pub const PRUNED: &str = "Pruned";
pub const LOADED: &str = "TakenOver";
pub const ACCEPTED: &str = "Accepted";
pub const READABLE: &str = "Readable";
pub const PUBLISHED: &str = "Published";
/// Present only while it is false: notifications cannot be delivered.
pub const NOTIFIED: &str = "Notified";

/// One aspect of the current state of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type of the condition: Ready, Reconciling, Stalled, Suspended, Applied or Notified.
    pub r#type: String,
    /// Status of the condition: True, False or Unknown.
    pub status: String,
    /// Reason for the status, as one CamelCase word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Details of the status, as a message for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Time at which `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_transition_time: Option<Timestamp>,
    /// The `metadata.generation` of the object that the condition describes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl Condition {
    pub fn is_true(&self) -> bool {
        self.status == TRUE
    }

    pub fn is_false(&self) -> bool {
        self.status == FALSE
    }
}

/// The result of a reconcile, before it is expressed as conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The object is in sync.
    Ready,
    /// Work is in progress.
    Reconciling,
    /// No work is in progress, but the object is out of sync: it waits, backs off or is suspended.
    NotReady,
    /// A person must act.
    Stalled,
}

/// What suspends an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// `spec.suspend`, which is usually set by a commit.
    Spec,
    /// The annotation, which is usually set by a person during an incident.
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

/// Sets Ready, Reconciling and Stalled from one phase. Transition times are kept if the status did not change, and
/// other types are not changed.
pub fn set_phase(
    conditions: &mut Vec<Condition>,
    phase: Phase,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) {
    let ready = if phase == Phase::Ready { TRUE } else { FALSE };
    set(conditions, READY, ready, reason, message, generation, now);
    for (kind, holds) in [(RECONCILING, phase == Phase::Reconciling), (STALLED, phase == Phase::Stalled)] {
        if holds {
            set(conditions, kind, TRUE, reason, message, generation, now);
        } else {
            conditions.retain(|c| c.r#type != kind);
        }
    }
}

/// Sets one condition. The transition time is kept if the status did not change.
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

/// Returns whether there is an outcome to keep while the object is suspended. Work in progress has none.
pub fn has_outcome(conditions: &[Condition]) -> bool {
    conditions.iter().any(|c| c.r#type == READY) && !is_true(conditions, RECONCILING)
}

/// Keeps the last outcome and records that it holds for this generation, too.
pub fn confirm(conditions: &mut [Condition], generation: Option<i64>) {
    for condition in conditions.iter_mut().filter(|c| [READY, STALLED].contains(&c.r#type.as_str())) {
        condition.observed_generation = generation;
    }
}

/// Sets the condition Suspended, with what suspends the object and what that means, or removes it.
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
            set(conditions, SUSPENDED, TRUE, who.reason(), &message, generation, now);
        }
        None => conditions.retain(|c| c.r#type != SUSPENDED),
    }
}

/// Returns the reason that is shown for an object: Suspended while it is suspended, else the reason of Ready.
pub fn reason(conditions: &[Condition]) -> Option<&str> {
    if is_true(conditions, SUSPENDED) {
        return Some(SUSPENDED);
    }
    conditions.iter().find(|c| c.r#type == READY)?.reason.as_deref()
}

/// Returns whether a condition is true.
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    conditions.iter().any(|c| c.r#type == kind && c.status == TRUE)
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
        assert!(!has_outcome(&list), "work in progress has no outcome");
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
