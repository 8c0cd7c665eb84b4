//! The report: turns a reconcile of a builder into the `Pass` that the engine writes, with status, message, notes, and
//! the time of the next reconcile. Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::observe::Observed;
use super::outcome::Outcome;
use super::step::{Plan, WaitReason};
use super::{notes, remarks, status, summary};
use crate::api::builder::{PackerBuilder, PackerBuilderStatus};
use crate::engine::{ObjectHealth, Pass};

/// Delay before the first sync, until which the desired state is unknown. The sync then wakes all objects.
const BEFORE_SYNC: Duration = Duration::from_secs(5);

/// Returns the result of a reconcile for the engine.
pub fn pass(
    observed: &Observed,
    plan: &Plan,
    outcome: &Outcome,
    now: Timestamp,
) -> Pass<PackerBuilderStatus> {
    let mut summary = summary::summary(observed, plan, outcome);
    if let Some((_, _, message)) = &mut summary.phase {
        for remark in remarks::remarks(observed, plan) {
            message.push_str(&format!("; {remark}"));
        }
    }
    let status = status::status(observed, plan, outcome, &summary, now);
    Pass {
        notes: notes::notes(observed, plan, outcome, &summary),
        wake: notes::wake(plan, outcome),
        look: summary.requeue,
        health: summary.health,
        release: matches!(plan, Plan::Wait { on: WaitReason::Deleted, .. }),
        failed: summary.failed,
        status,
    }
}

/// Returns the result of a reconcile before the first sync: nothing is known yet, so nothing changes.
pub fn before_sync(object: &PackerBuilder) -> Pass<PackerBuilderStatus> {
    Pass {
        status: object.status.clone().unwrap_or_default(),
        look: BEFORE_SYNC,
        health: ObjectHealth::Busy,
        wake: Vec::new(),
        notes: Vec::new(),
        failed: None,
        release: false,
    }
}
