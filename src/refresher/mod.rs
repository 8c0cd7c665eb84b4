//! The refresher: rolls the wanted image out to the node groups of a cluster.
//!
//! One pass of the driver is observe → plan → at most one step → report. `spec` reads the manifest,
//! `target` chooses the image, `survey` says how each group stands, `plan` decides, `act` does it,
//! `report` tells. `memory` is what outlives a pass: it is written to status before the effect it
//! describes, so that a crash at any point is taken up where it happened.

mod act;
mod memory;
mod observe;
mod plan;
mod report;
pub mod spec;
mod survey;
mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::builder::LaneImage;
use crate::api::{AMIRefresher, AMIRefresherStatus, Key, Owner, annotations};
use crate::aws::Aws;
use crate::engine::Pass;
use crate::sync::Synced;
use memory::Memory;
use plan::{Case, Plan, plan};
use spec::{Paused, Spec};

/// Looks the active images of a builder up.
pub type BuilderImages = Arc<dyn Fn(&Key) -> Option<Vec<LaneImage>> + Send + Sync>;

/// What every pass over a refresher may use.
#[derive(Clone)]
pub struct Context {
    pub aws: Aws,
    /// The active images of a builder as its status has them; `None` when there is no such builder.
    pub builder_images: BuilderImages,
    /// Is the manifest of a refresher gone from Git while it is not pruned?
    pub is_undeclared: Arc<dyn Fn(&Key) -> bool + Send + Sync>,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    pub owner: Owner,
    pub now: fn() -> Timestamp,
}

/// One pass over a refresher.
pub async fn reconcile(object: Arc<AMIRefresher>, ctx: &Context) -> Pass<AMIRefresherStatus> {
    let handled = object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.clone());
    let anew = annotations::asks_anew(&object.metadata, handled.as_deref());
    let mut pass = one_pass(&object, ctx, anew).await;
    pass.status.last_handled_reconcile_at = annotations::handled(&object.metadata, handled);
    pass
}

/// The plan asks for what it must see; no need is asked for twice.
async fn one_pass(object: &AMIRefresher, ctx: &Context, anew: bool) -> Pass<AMIRefresherStatus> {
    let now = (ctx.now)();
    if object.metadata.deletion_timestamp.is_some() {
        return report::deleted(object, now);
    }
    let spec = match spec::parse(object) {
        Ok(spec) if (ctx.is_undeclared)(&spec.key) => Spec { paused: Some(Paused::NotInGit), ..spec },
        Ok(spec) => spec,
        Err(problems) => return report::invalid(object, &problems, now),
    };
    let memory = Memory::read(object.status.as_ref());
    let mut seen = observe::look(&spec, &memory, ctx, anew).await;
    loop {
        let case = Case { spec: &spec, owner: &ctx.owner, memory: &memory, seen: &seen, now };
        match plan(case) {
            Plan::Look(need) => seen = observe::closer(seen, need, &spec, ctx).await,
            Plan::Act { step, said } => {
                let done = act::act(&step, &spec, ctx).await;
                let done = done.map_err(|error| (error.class(), error.to_string()));
                return report::acted(object, case, &step, said, done);
            }
            plan => return report::planned(object, case, plan),
        }
    }
}
