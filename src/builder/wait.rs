//! The time until the next reconcile, and the plan after a failed read. Pure; part of the plan.

use std::time::Duration;

use super::observe::Observed;
use super::step::{Dependency, Plan, StallReason, WaitReason};
use crate::api::{Class, time};

/// Interval during a run. The engine wakes the builder when the run ends; this is for a lost wakeup.
pub const RUN_REQUEUE: Duration = Duration::from_secs(30);
/// Delay before the next reconcile continues after a step, so that AWS can show the change.
pub const NEXT_STEP: Duration = Duration::from_millis(500);
/// Interval while stalled. A person must act, but causes can also disappear by themselves.
const STALLED_REQUEUE: Duration = Duration::from_secs(3600);

/// Returns the time until the next reconcile: the builder's timer, or less if something is due sooner.
pub fn requeue_after(observed: &Observed, sooner: Option<Duration>) -> Duration {
    let timer = observed.spec.as_ref().map_or(STALLED_REQUEUE, |spec| spec.timer);
    // A garbage collection that is due but must wait, such as for a broken file, must not cause constant reconciles.
    let due = observed.sweeps().iter().filter_map(|sweep| sweep.due).filter(|due| *due > observed.now);
    let due = due.map(|due| time::between(observed.now, due)).min();
    [sooner, due].into_iter().flatten().fold(timer, Duration::min)
}

/// Returns the plan for a builder that needs attention.
pub fn stalled(observed: &Observed, why: StallReason) -> Plan {
    Plan::Stalled { why, requeue: requeue_after(observed, None).min(STALLED_REQUEUE) }
}

/// Returns the plan after a failed read: wait, or stalled if the read cannot succeed without a change by a person.
pub fn unknown(observed: &Observed, dependency: Dependency, class: Class, message: &str) -> Plan {
    match class {
        Class::Invalid => {
            stalled(observed, StallReason::Unreadable { dependency, message: message.to_owned() })
        }
        _ => Plan::Wait {
            on: WaitReason::Unknown { dependency, class, message: message.to_owned() },
            requeue: requeue_after(observed, None),
        },
    }
}
