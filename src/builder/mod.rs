//! The builder's driver: observe → plan → one step → report.
//!
//! `spec` reads the manifest, `observe` looks at the world, `plan` decides (pure), `act` does one
//! thing, `report` says how it stands (pure). The files beside them: `commands` (Packer's command
//! lines), `inputs` (tags, ids, what makes an image out of date), `images` (whose image, which
//! lane), `trust` (may an active image count), `base` (the base image), `judge` (is there a good image),
//! `harvest` (what an ended run leads to), `announced` (what Packer announced of it), `failures` (what a
//! failure means), `promote` (which of its images become active), `results` (is an image a result of its run),
//! `history` (failures and pauses), `fleet` (what builders know of each other), `queue` (which namespace takes a free slot next), `remarks` (what else a message
//! must name), `sweep` (removes what a run left), `lasted` (how long a run has lasted, whatever the wall clock
//! says).

pub mod access;
mod act;
pub mod advice;
mod announced;
mod base;
mod commands;
mod failures;
mod fleet;
mod harvest;
mod history;
mod images;
mod inputs;
mod judge;
mod lasted;
mod notes;
mod observe;
mod place;
mod plan;
mod pod;
mod promote;
mod queue;
mod remarks;
mod report;
mod results;
pub mod spec;
mod status;
mod step;
mod sweep;
#[cfg(test)]
mod tests;
mod time;
mod trust;

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
use report::Outcome;
pub use step::Why;
use step::{Plan, Step};

/// What every pass over a builder may use.
#[derive(Clone)]
pub struct Context {
    pub aws: Aws,
    pub templates: Templates,
    /// Whose objects may use which templates of the agent's own repository.
    pub access: Arc<TemplateAccess>,
    pub runs: Arc<dyn Runs>,
    /// The commit and settings the agent works by; `None` before the first sync.
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    pub owner: Owner,
    pub now: fn() -> Timestamp,
    pub fleet: Arc<Fleet>,
    pub watches: Arc<Watches>,
    /// The agent is about to end: no build is started any more.
    pub ending: Arc<AtomicBool>,
    pub undeclared: UndeclaredObjects,
    /// Secrets that the agent uses itself, or did: no build is given one.
    pub withheld: Arc<dyn Fn() -> BTreeSet<Key> + Send + Sync>,
    /// Is an object what its document in Git says, where one declares it?
    pub in_sync: Arc<dyn Fn(&PackerBuilder) -> bool + Send + Sync>,
}

/// One pass: looks, does at most one thing, says how the builder stands.
pub async fn reconcile(object: Arc<PackerBuilder>, ctx: &Context) -> Pass<PackerBuilderStatus> {
    let Some(synced) = ctx.synced.borrow().clone() else {
        return report::before_sync(&object);
    };
    let handled = object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.clone());
    let anew = annotations::asks_anew(&object.metadata, handled.as_deref());
    let mut pass = one_pass(&object, &synced, ctx, if anew { Fresh::Now } else { Fresh::Cached }).await;
    pass.status.last_handled_reconcile_at = annotations::handled(&object.metadata, handled);
    pass
}

async fn one_pass(
    object: &PackerBuilder,
    synced: &Synced,
    ctx: &Context,
    fresh: Fresh,
) -> Pass<PackerBuilderStatus> {
    let seen = observe::observe(object, synced, ctx, fresh).await;
    let plan = plan::plan(&seen, (ctx.now)());
    let Plan::Act { step, .. } = &plan else {
        ctx.fleet.queue(&seen.subject.key, &plan, (ctx.now)());
        return report::pass(&seen, &plan, &Outcome::Nothing, (ctx.now)());
    };
    if !step.needs_fresh_look() {
        let outcome = act::act(step, ctx).await;
        return report::pass(&seen, &plan, &outcome, (ctx.now)());
    }
    act_on_a_fresh_look(object, synced, ctx).await
}

/// Shared answers may be old: before anything is changed everything is asked again, and only what
/// the new answers call for is done.
async fn act_on_a_fresh_look(
    object: &PackerBuilder,
    synced: &Synced,
    ctx: &Context,
) -> Pass<PackerBuilderStatus> {
    let mut seen = observe::observe(object, synced, ctx, Fresh::Now).await;
    let _turn = turn_to_start(&mut seen, ctx).await;
    let plan = plan::plan(&seen, (ctx.now)());
    let outcome = match &plan {
        Plan::Act { step, .. } => act::act(step, ctx).await,
        _ => Outcome::Nothing,
    };
    ctx.fleet.queue(&seen.subject.key, &plan, (ctx.now)());
    report::pass(&seen, &plan, &outcome, (ctx.now)())
}

/// One builder at a time counts the live runs and starts its own, or two would share a last slot.
/// Nothing else waits for a turn: a slow builder delays no other.
async fn turn_to_start<'a>(seen: &mut Observed, ctx: &'a Context) -> Option<fleet::Turn<'a>> {
    let Plan::Act { step: Step::Start { .. }, .. } = plan::plan(seen, (ctx.now)()) else {
        return None;
    };
    let turn = ctx.fleet.turn().await;
    seen.live = observe::live_runs(ctx).await;
    seen.last_slot_is_others = observe::last_slot_is_others(&seen.subject, &seen.fleet, ctx);
    Some(turn)
}

impl Step {
    /// Steps that rest on answers of AWS that may be shared. The others rest on the engine's runs,
    /// which are always read anew.
    fn needs_fresh_look(&self) -> bool {
        !matches!(self, Self::Stop { .. } | Self::Record(_) | Self::Forget(_))
    }
}
