//! What the agent would do with a builder next, without doing it, for `opsy plan`. It observes and plans as a reconcile
//! does, and returns the decision. No run exists for it: a plan is about what follows from a commit.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{self, StreamExt as _};

use crate::api::builder::{InputsRecord, PackerBuilder, RunRecord};
use crate::api::words::Trigger;
use crate::api::{Assumption, Class, Facts, Key, Owner, reasons, tags, time};
use crate::aws::Fresh;
use crate::sync::Synced;

use super::Context;
use super::active;
use super::history;
use super::located;
use super::observe::{self, Observed, OwnFacts};
use super::outcome::Outcome;
use super::plan;
use super::step::{Dependency, Plan, StallReason, Step, WaitReason};
use super::summary;

/// Builders that are observed at the same time: Git, and reads of AWS that are not cached, take their time.
const AT_ONCE: usize = 16;

/// The decision about one builder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preview {
    pub key: Key,
    pub intent: Intent,
    /// The EKS cluster that its images are for.
    pub cluster: Option<String>,
    pub region: Option<String>,
    /// The lanes that a build is expected to make, as `architecture in region`.
    pub lanes: Vec<String>,
    /// The IDs of the active images.
    pub images: Vec<String>,
    /// How long its last successful build took.
    pub usual: Option<Duration>,
    /// The owner of the images that status names.
    pub owner: Option<Owner>,
    /// What could not be read, and was assumed not to have changed.
    pub assumed: Vec<Assumption>,
}

/// What would happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A build starts. The inputs are what it is made from.
    Build { trigger: Trigger, why: String, inputs: InputsRecord },
    /// The active images stay.
    Keep { message: String },
    /// Nothing is built until something changes: it is suspended, or backs off.
    Wait { message: String },
    /// A person must act.
    Stalled { message: String },
    /// Something could not be read.
    Unknown { message: String },
    /// The published status is older than the active images, so it is not known what the agent would do.
    Outdated { message: String },
}

/// Observes all builders before it decides about the first one, so that each of them knows what the others report. If it
/// is not known that `ctx` has the owner of the agent, the tags of the images decide.
pub async fn previews(
    objects: &[PackerBuilder],
    synced: &Synced,
    ctx: &Context,
    facts: Facts,
    is_owner_known: bool,
) -> Vec<Preview> {
    match facts {
        Facts::Live => live(objects, synced, ctx, is_owner_known).await,
        Facts::Recorded => recorded(objects, synced, ctx, is_owner_known).await,
    }
}

async fn live(
    objects: &[PackerBuilder],
    synced: &Synced,
    ctx: &Context,
    is_owner_known: bool,
) -> Vec<Preview> {
    let read = async |object| observe::read(object, synced, ctx, Fresh::Cached).await;
    let read: Vec<OwnFacts> = stream::iter(objects).map(read).buffered(AT_ONCE).collect().await;
    for own in &read {
        own.report(synced, ctx);
    }
    let complete = async |(object, own): (_, OwnFacts)| {
        let fleet = own.report(synced, ctx);
        observe::complete(object, own, fleet, synced, ctx).await
    };
    let observed = stream::iter(objects.iter().zip(read)).map(complete).buffered(AT_ONCE);
    observed.map(|observed| of_observed(observed, Vec::new(), is_owner_known)).collect().await
}

async fn recorded(
    objects: &[PackerBuilder],
    synced: &Synced,
    ctx: &Context,
    is_owner_known: bool,
) -> Vec<Preview> {
    let read = async |object| observe::recorded::observe(object, synced, ctx).await;
    let read: Vec<(Observed, Vec<Assumption>)> =
        stream::iter(objects).map(read).buffered(AT_ONCE).collect().await;
    let report = |observed: &Observed| {
        observe::exchange_reports(&observed.subject, &observed.status, &observed.images, synced, ctx)
    };
    for (observed, _) in &read {
        report(observed);
    }
    let decide = |(observed, assumed): (Observed, Vec<Assumption>)| {
        let fleet = report(&observed);
        of_observed(Observed { fleet, ..observed }, assumed, is_owner_known)
    };
    read.into_iter().map(decide).collect()
}

/// The decision for an observation. Pure.
pub(super) fn of_observed(mut observed: Observed, assumed: Vec<Assumption>, is_owner_known: bool) -> Preview {
    let owner = if is_owner_known { None } else { recorded_owner(&observed) };
    if let Some(owner) = &owner {
        observed.subject.owner = owner.clone();
    }
    // Garbage collection comes first in a reconcile, and prevents nothing.
    observed.status.sweeps = None;
    let now = observed.now;
    let plan = plan::plan(&observed, now);
    let spec = observed.spec.as_ref().ok();
    let known = observed.images.known().map(Vec::as_slice).unwrap_or_default();
    let active = active::active(known, &observed.subject, &observed.status, now);
    let lanes = active::lanes(&observed.status, &active, spec.map(|spec| &spec.region));
    let lanes = match spec {
        Some(spec) => located::home_first(lanes, &spec.region),
        None => lanes.into_iter().collect(),
    };
    Preview {
        key: observed.subject.key.clone(),
        intent: intent(&observed, &plan),
        cluster: observed.subject.cluster.clone(),
        region: spec.map(|spec| spec.region.to_string()),
        images: lanes
            .iter()
            .filter_map(|lane| active::current(&active, lane))
            .map(|active| active.image.image.id.to_string())
            .collect(),
        lanes: lanes.iter().map(|lane| format!("{} in {}", lane.architecture, lane.region)).collect(),
        usual: usual(observed.history()),
        owner,
        assumed,
    }
}

fn intent(observed: &Observed, plan: &Plan) -> Intent {
    if let Plan::Act { step, why } = plan {
        return match step {
            Step::Start { request, .. } => Intent::Build {
                trigger: Trigger::parse(&request.facts.why).unwrap_or(Trigger::Missing),
                why: why.clone(),
                inputs: request.facts.inputs.clone(),
            },
            _ => Intent::Keep { message: why.clone() },
        };
    }
    if let Plan::Stalled { why: StallReason::Unrecorded { images }, .. } = plan
        && !is_published(observed, reasons::UNRECORDED_IMAGE)
    {
        let images = images.join(", ");
        let message = format!(
            "the published status does not name {images}, which is active: most likely the status is older than the \
             image. Plan again after the agent has published; if it publishes by pull request, merge that one first, or \
             fetch its branch"
        );
        return Intent::Outdated { message };
    }
    let phase = summary::summary(observed, plan, &Outcome::Nothing).phase;
    let message = phase.map(|(_, _, message)| message).unwrap_or_default();
    match plan {
        Plan::Done { .. } | Plan::Act { .. } => Intent::Keep { message },
        // It was read, and what the manifest names is not there.
        Plan::Wait {
            on:
                WaitReason::Unknown { dependency: Dependency::Template, class: Class::NotFound, .. }
                | WaitReason::BaseImageNotFound,
            ..
        } => Intent::Stalled { message },
        Plan::Wait { on: WaitReason::Unknown { .. }, .. } => Intent::Unknown { message },
        Plan::Wait { on: WaitReason::Suspended, .. } => {
            Intent::Wait { message: format!("suspended: {message}") }
        }
        Plan::Wait { .. } => Intent::Wait { message },
        Plan::Stalled { .. } => Intent::Stalled { message },
    }
}

/// Whether the agent has published a condition with this reason.
fn is_published(observed: &Observed, reason: &str) -> bool {
    let conditions = observed.status.conditions.as_deref().unwrap_or_default();
    conditions.iter().any(|condition| condition.reason.as_deref() == Some(reason))
}

/// The owner in the tags of the images that status names, if they have the same one. The agent may have an owner that
/// only its cluster knows.
fn recorded_owner(observed: &Observed) -> Option<Owner> {
    let named = |id: &str| observed.status.images.iter().flatten().any(|image| image.id == id);
    let images = observed.images.known()?.iter().filter(|image| named(image.image.id.as_str()));
    let owners: BTreeSet<&str> = images.filter_map(|image| image.tag(tags::OWNER)).collect();
    match owners.into_iter().collect::<Vec<_>>().as_slice() {
        [one] => Owner::parse(*one).ok(),
        _ => None,
    }
}

fn usual(history: &[RunRecord]) -> Option<Duration> {
    let succeeded = |run: &&RunRecord| history::result(run).is_some_and(|result| !result.is_failure());
    let run =
        history.iter().filter(succeeded).find(|run| run.started_at.is_some() && run.ended_at.is_some())?;
    Some(time::between(run.started_at?, run.ended_at?))
}
