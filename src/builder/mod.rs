//! The builder: observe → plan → one step → report.
//!
//! ```text
//! spec (manifest → settings) ─┐
//! observe (AWS, Git, engine) ─┴─> plan ─> step ─> act ─> outcome ─> report ─> status, message, notes
//! ```
//! The plan, in the order of its rules: `collect` (what follows from an ended run) with `promote`, `results` and
//! `failures`; `orphans` (what is garbage-collected after a run) with `sweep_record`; `judge` (whether every lane has a
//! good image) with `inputs` and `why`; `history` (earlier failures); `wait` (the time until the next reconcile).
//!
//! Images: `located` (an image, its lane and its tags), `subject` (which images belong to the builder), `trust` (which
//! of them may count), `active` (which one counts in each lane), `base` (the base image).
//!
//! The report: `summary` (phase, reason, message), `remarks` (additions to the message), `status`, `notes`.
//!
//! Also: `commands` and `pod` (parts of the spec), `place` (where Packer runs), `access` (which templates a builder may
//! use), `advice` (notes of `opsy validate`), `fleet` and `queue` (what builders know of each other, and which one
//! starts its build next), `lasted` (how long a run has lasted by a monotonic clock), `sweep` (removes orphans).

pub mod access;
mod act;
mod active;
pub mod advice;
mod base;
mod collect;
mod commands;
mod failures;
mod fleet;
mod history;
mod inputs;
mod judge;
mod lasted;
mod located;
mod notes;
mod observe;
mod orphans;
mod outcome;
mod place;
mod plan;
mod pod;
pub mod preview;
mod promote;
mod queue;
mod remarks;
mod report;
mod results;
mod setters;
pub mod spec;
mod status;
mod step;
mod subject;
mod summary;
mod sweep;
mod sweep_record;
#[cfg(test)]
mod tests;
mod trust;
mod wait;
mod why;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::{Key, Owner, PackerBuilder, PackerBuilderStatus, UndeclaredObjects, annotations};
use crate::aws::{Aws, Fresh};
use crate::engine::{Pass, Runs};
use crate::git::templates::Templates;
use crate::sync::Synced;
use access::TemplateAccess;
pub use fleet::Fleet;
pub use lasted::Watches;
use observe::Observed;
use outcome::Outcome;
pub use setters::SetterGuard;
use step::{Plan, Step};
pub use why::Why;

/// What every reconcile of a builder needs.
#[derive(Clone)]
pub struct Context {
    pub aws: Aws,
    pub templates: Templates,
    /// Which namespaces may use which templates of the agent's own repository.
    pub access: Arc<TemplateAccess>,
    pub runs: Arc<dyn Runs>,
    /// The synced commit and its settings; `None` before the first sync.
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    pub owner: Owner,
    pub now: fn() -> Timestamp,
    pub fleet: Arc<Fleet>,
    pub watches: Arc<Watches>,
    /// The agent is about to exit: no new build is started.
    pub ending: Arc<AtomicBool>,
    pub undeclared: UndeclaredObjects,
    /// Returns the Secrets that the agent uses or has used itself. No build receives one of them.
    pub withheld: Arc<dyn Fn() -> BTreeSet<Key> + Send + Sync>,
    /// Returns whether an object matches its manifest in Git. True for an object that no manifest declares.
    pub in_sync: Arc<dyn Fn(&PackerBuilder) -> bool + Send + Sync>,
}

/// Reconciles a builder: observes it, executes at most one step, and returns the result.
pub async fn reconcile(object: Arc<PackerBuilder>, ctx: &Context) -> Pass<PackerBuilderStatus> {
    let Some(synced) = ctx.synced.borrow().clone() else {
        return report::before_sync(&object);
    };
    let handled = object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.clone());
    let requested = annotations::reconcile_requested(&object.metadata, handled.as_deref());
    let mut pass =
        reconcile_synced(&object, &synced, ctx, if requested { Fresh::Now } else { Fresh::Cached }).await;
    pass.status.last_handled_reconcile_at = annotations::handled(&object.metadata, handled);
    pass
}

/// Reconciles a builder after the first sync.
///
/// `plan` is called up to three times: for the first observation, for a fresh one to learn whether a build would start,
/// and once more under the permit. It is pure, so asking it twice costs nothing, and the same observation gives the
/// same plan.
async fn reconcile_synced(
    object: &PackerBuilder,
    synced: &Synced,
    ctx: &Context,
    fresh: Fresh,
) -> Pass<PackerBuilderStatus> {
    let observed = observe::observe(object, synced, ctx, fresh).await;
    let plan = plan::plan(&observed, (ctx.now)());
    let Plan::Act { step, .. } = &plan else {
        ctx.fleet.update_queue(&observed.subject.key, &plan, (ctx.now)());
        return report::pass(&observed, &plan, &Outcome::Nothing, (ctx.now)());
    };
    if !step.needs_fresh_observation() {
        let outcome = act::act(step, ctx).await;
        return report::pass(&observed, &plan, &outcome, (ctx.now)());
    }
    act_on_fresh_observation(object, synced, ctx).await
}

/// Observes everything again without the cache before a change. Cached reads may be old, so only the step that the
/// fresh observation requires is executed.
async fn act_on_fresh_observation(
    object: &PackerBuilder,
    synced: &Synced,
    ctx: &Context,
) -> Pass<PackerBuilderStatus> {
    let mut observed = observe::observe(object, synced, ctx, Fresh::Now).await;
    let _permit = permit_to_start(&mut observed, ctx).await;
    let plan = plan::plan(&observed, (ctx.now)());
    let outcome = match &plan {
        Plan::Act { step, .. } => act::act(step, ctx).await,
        _ => Outcome::Nothing,
    };
    ctx.fleet.update_queue(&observed.subject.key, &plan, (ctx.now)());
    report::pass(&observed, &plan, &outcome, (ctx.now)())
}

/// Takes the permit to start a build if the plan is to start one, and then counts the live runs again. Without the
/// permit, two builders could take the same last slot. No other step needs it, so a slow builder does not delay others.
async fn permit_to_start<'a>(observed: &mut Observed, ctx: &'a Context) -> Option<fleet::StartPermit<'a>> {
    let Plan::Act { step: Step::Start { .. }, .. } = plan::plan(observed, (ctx.now)()) else {
        return None;
    };
    let permit = ctx.fleet.start_permit().await;
    observed.live = observe::live_runs(ctx).await;
    observed.last_slot_is_reserved = observe::last_slot_is_reserved(&observed.subject, &observed.fleet, ctx);
    Some(permit)
}
