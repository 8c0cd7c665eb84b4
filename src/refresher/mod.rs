//! The refresher: rolls the wanted image out to the node groups of a cluster.
//!
//! One pass of the driver is observe → plan → at most one step → report. `spec` reads the manifest,
//! `target` chooses the image, `fit` compares it with a group (`lineage`: what an image was made from),
//! `survey` gives the verdict on each group, `plan` decides, `act` does it, `report` writes status and notes.
//! `refusal`, `causes` and `writer` explain what AWS and others do. `memory` is what outlives a pass: it is written to status before the effect it
//! describes, so that a crash at any point is taken up where it happened.

mod act;
mod causes;
mod fit;
mod lineage;
mod memory;
mod observe;
mod plan;
mod refusal;
mod report;
mod seen;
pub mod spec;
mod survey;
mod target;
#[cfg(test)]
mod tests;
mod time;
mod writer;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::builder::LaneImage;
use crate::api::fence::Fence;
use crate::api::{AMIRefresher, AMIRefresherStatus, ImageId, Key, Owner, UndeclaredObjects, annotations};
use crate::aws::Aws;
use crate::engine::Pass;
use crate::sync::Synced;
use memory::Memory;
use plan::{Case, Plan, plan};

/// Looks the active images of a builder up.
pub type BuilderImages = Arc<dyn Fn(&Key) -> Option<Vec<LaneImage>> + Send + Sync>;

/// What every pass over a refresher may use.
#[derive(Clone)]
pub struct Context {
    pub aws: Aws,
    /// The active images of a builder as its status has them; `None` when there is no such builder.
    pub builder_images: BuilderImages,
    pub undeclared: UndeclaredObjects,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    pub owner: Owner,
    /// Which clusters each namespace may roll out to.
    pub clusters: Arc<Fence>,
    pub now: fn() -> Timestamp,
}

/// One reconcile of a refresher.
pub async fn reconcile(object: Arc<AMIRefresher>, ctx: &Context) -> Pass<AMIRefresherStatus> {
    let before = object.status.as_ref();
    let handled = before.and_then(|status| status.last_handled_reconcile_at.clone());
    let fresh = annotations::asks_anew(&object.metadata, handled.as_deref());
    let mut pass = one_pass(&object, ctx, fresh).await;
    pass.status.last_handled_reconcile_at = annotations::handled(&object.metadata, handled);
    // What could not be read could not be tried again.
    if pass.failed.is_none() {
        pass.status.last_handled_retry =
            annotations::value(&object.metadata, annotations::RETRY).map(str::to_owned);
    }
    pass
}

/// Does a new annotation ask to try this rollout's images again?
fn retries(object: &AMIRefresher, memory: &Memory) -> bool {
    let handled = object.status.as_ref().and_then(|status| status.last_handled_retry.as_deref());
    let asked =
        annotations::value(&object.metadata, annotations::RETRY).filter(|asked| Some(*asked) != handled);
    let image = asked.and_then(|asked| ImageId::parse(asked.trim()).ok());
    let rollout = memory.rollout.as_ref();
    image.is_some_and(|image| {
        rollout.is_some_and(|rollout| {
            rollout.target.has(Some(&image)) || rollout.groups.values().any(|entry| entry.image == image)
        })
    })
}

/// The plan asks for what it must see; no need is asked for twice.
async fn one_pass(object: &AMIRefresher, ctx: &Context, fresh: bool) -> Pass<AMIRefresherStatus> {
    let now = (ctx.now)();
    if object.metadata.deletion_timestamp.is_some() {
        return report::deleted(object, now);
    }
    let spec = match spec::parse(object) {
        Ok(spec) => match (ctx.undeclared)(&spec.key) {
            Some(undeclared) => spec.undeclared(undeclared),
            None => spec,
        },
        Err(problems) => return report::invalid(object, &problems, now),
    };
    if let Some(advice) = ctx.clusters.refuses(&spec.key.namespace, &spec.cluster) {
        return report::refused_cluster(object, &spec, &advice, now);
    }
    let memory = Memory::read(object.status.as_ref());
    let asked = fresh || retries(object, &memory);
    let mut seen = observe::look(&spec, &memory, ctx, asked).await;
    loop {
        let case = Case { spec: &spec, owner: &ctx.owner, memory: &memory, seen: &seen, now, asked };
        match plan(case) {
            Plan::Look(need) => seen = observe::closer(seen, need, &spec, ctx).await,
            Plan::Act { step, said } => {
                let done = act::act(&step, &spec, ctx).await.map_err(act::Failed::from);
                return report::acted(object, case, &step, said, done);
            }
            plan => return report::planned(object, case, plan),
        }
    }
}
