//! The refresher: rolls out the target image to the node groups of an EKS cluster.
//!
//! A reconcile is observe → plan (pure) → at most one step → report:
//! - `spec` parses the object, and `schedule` its windows and freezes. `memory` outlives a reconcile: the rollout,
//!   written to status before each effect, with the `node_checks` of each group and `check_failures`.
//! - `observe` reads AWS into `observed`; `node_group` is a group as read, `images` and `lineage` interpret an image.
//!   `cluster_view` is what is known of the cluster in which the agent runs: nodes, and what runs on them.
//! - `held` remembers images that are not rolled out. `choose` chooses the `target`; `survey` compares every group with
//!   it, `support` knows which groups can be moved at all, and `fit` finds the image for a group.
//! - `plan` decides on a `step`, and `act` executes it and returns its `outcome`.
//! - `report` explains plan or outcome: `summary` states it, `status` writes it.
//! - `refusal` remembers what AWS refuses, and `history` how a rollout ended; `progress` describes an instance refresh;
//!   `causes` and `writer` name the likely cause of a failure or an undone move.

mod act;
mod causes;
mod check_failures;
mod choose;
mod cluster_view;
mod fit;
mod held;
mod history;
mod images;
mod lineage;
mod memory;
mod node_checks;
mod node_group;
mod observe;
mod observed;
mod outcome;
mod plan;
pub mod preview;
mod progress;
mod refusal;
mod report;
mod schedule;
pub mod spec;
mod status;
mod step;
mod summary;
mod support;
mod survey;
mod target;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::builder::LaneImage;
use crate::api::fence::Fence;
use crate::api::{AMIRefresher, AMIRefresherStatus, ImageId, Key, Owner, UndeclaredObjects, annotations};
use crate::aws::Aws;
use crate::engine::Pass;
use crate::engine::nodes::Nodes;
use crate::probe::Probes;
use crate::sync::Synced;
use memory::Memory;
use observed::Observed;
use plan::{PlanInput, considers_retry, plan};
use spec::Spec;
use step::Plan;
use target::Target;

/// Returns the active images of a builder.
pub type BuilderImages = Arc<dyn Fn(&Key) -> Option<Vec<LaneImage>> + Send + Sync>;

/// What every reconcile of a refresher may use.
#[derive(Clone)]
pub struct Context {
    pub aws: Aws,
    /// The active images in the status of a builder; `None` if the builder does not exist.
    pub builder_images: BuilderImages,
    pub undeclared: UndeclaredObjects,
    pub synced: watch::Receiver<Option<Arc<Synced>>>,
    pub owner: Owner,
    /// The clusters that each namespace may roll out to.
    pub clusters: Arc<Fence>,
    pub now: fn() -> Timestamp,
    /// The nodes of the cluster in which the agent runs; `None` on one machine.
    pub nodes: Option<Arc<dyn Nodes>>,
    /// Evaluates the checks of `rollout.healthCheck`.
    pub probes: Probes,
}

/// Reconciles one refresher.
pub async fn reconcile(object: Arc<AMIRefresher>, ctx: &Context) -> Pass<AMIRefresherStatus> {
    let handled = object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.clone());
    let (mut pass, considers_retry) = observe_plan_act(&object, ctx).await;
    pass.status.last_handled_reconcile_at = annotations::handled(&object.metadata, handled);
    // A reconcile that could not look at the annotation leaves it to the next one.
    if considers_retry && pass.failed.is_none() {
        pass.status.last_handled_retry =
            annotations::value(&object.metadata, annotations::RETRY).map(str::to_owned);
    }
    pass
}

/// Why the namespace of the refresher may not roll out to its cluster, if it may not.
fn cluster_refusal(spec: &Spec, ctx: &Context) -> Option<String> {
    let (namespace, cluster) = (&spec.key.namespace, &spec.cluster);
    let advice = ctx.clusters.refusal(namespace, cluster)?;
    Some(format!(
        "namespace {namespace} may not roll out to cluster {cluster}: use a cluster of the namespace, or {advice}"
    ))
}

/// The images for which an unhandled annotation requests a retry.
fn retried_images(object: &AMIRefresher) -> Option<Target> {
    let handled = object.status.as_ref().and_then(|status| status.last_handled_retry.as_deref());
    let requested =
        annotations::value(&object.metadata, annotations::RETRY).filter(|value| Some(*value) != handled);
    Target::parse(requested?.trim())
}

/// Whether a person requested to retry what failed: by a reconcile, or by naming an image of the rollout.
fn retry_requested(object: &AMIRefresher, memory: &Memory, retried: Option<&Target>) -> bool {
    let handled = object.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
    annotations::reconcile_requested(&object.metadata, handled)
        || retried.into_iter().flat_map(Target::images).any(|image| is_of_rollout(image, memory))
}

/// Whether the rollout moves groups to this image.
fn is_of_rollout(image: &ImageId, memory: &Memory) -> bool {
    memory.rollout.as_ref().is_some_and(|rollout| {
        rollout.target.contains(Some(image)) || rollout.groups.values().any(|entry| entry.image == *image)
    })
}

/// Returns also whether it could look at the annotation that requests a retry.
async fn observe_plan_act(object: &AMIRefresher, ctx: &Context) -> (Pass<AMIRefresherStatus>, bool) {
    let now = (ctx.now)();
    if object.metadata.deletion_timestamp.is_some() {
        return (report::deleted(object, now), false);
    }
    let spec = match spec::parse(object) {
        Ok(spec) => match (ctx.undeclared)(&spec.key) {
            Some(undeclared) => spec.undeclared(undeclared),
            None => spec,
        },
        Err(problems) => return (report::invalid(object, &problems, now), false),
    };
    if let Some(why) = cluster_refusal(&spec, ctx) {
        return (report::cluster_not_allowed(object, why, now), false);
    }
    let memory = Memory::read(object.status.as_ref());
    let retried = retried_images(object);
    let retry_requested = retry_requested(object, &memory, retried.as_ref());
    let asked = Asked { retry_requested, retried: retried.as_ref(), now };
    let (observed, plan) = decide(&spec, &memory, ctx, asked).await;
    let input = asked.input(&spec, &memory, &observed, ctx);
    let pass = match plan {
        Plan::Act { step, why } => {
            let outcome = act::act(step, &spec, ctx).await;
            report::acted(object, input, why, outcome)
        }
        plan => report::planned(object, input, plan),
    };
    (pass, considers_retry(input))
}

/// What a reconcile decides by, besides the object and what was observed.
#[derive(Clone, Copy)]
struct Asked<'a> {
    retry_requested: bool,
    retried: Option<&'a Target>,
    now: Timestamp,
}

impl<'a> Asked<'a> {
    fn input(
        self,
        spec: &'a Spec,
        memory: &'a Memory,
        observed: &'a Observed,
        ctx: &'a Context,
    ) -> PlanInput<'a> {
        let Self { retry_requested, retried, now } = self;
        PlanInput { spec, owner: &ctx.owner, memory, observed, now, retry_requested, retried }
    }
}

async fn decide(spec: &Spec, memory: &Memory, ctx: &Context, asked: Asked<'_>) -> (Observed, Plan) {
    let observed = observe::observe(spec, memory, ctx, asked.retry_requested).await;
    decide_by(observed, spec, memory, ctx, asked).await
}

/// Observes until the plan needs no further read, and returns both. The plan is pure, so planning again after each read
/// costs nothing. No read is requested twice, so this ends.
async fn decide_by(
    mut observed: Observed,
    spec: &Spec,
    memory: &Memory,
    ctx: &Context,
    asked: Asked<'_>,
) -> (Observed, Plan) {
    loop {
        match plan(asked.input(spec, memory, &observed, ctx)) {
            Plan::Read(need) => observed = observe::read(observed, need, spec, memory, ctx).await,
            plan => return (observed, plan),
        }
    }
}
