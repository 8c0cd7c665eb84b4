//! Promotion: which images of an ended run become active, and which older ones are demoted. Pure; part of the plan.
//! `collect` calls it for the images of a run, and for the next step of their promotion.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::active::{self, Active};
use super::failures::AMBIGUOUS;
use super::judge::{good, wanted_now};
use super::located::{self, Lane, Located};
use super::observe::Observed;
use super::step::{Plan, Step, Tagging, WaitReason};
use super::subject::BuiltFrom;
use super::trust::Origin;
use super::{base, inputs, results};
use crate::api::tags;
use crate::api::time;
use crate::api::words::RunResult;
use crate::api::{ImageId, Region};
use crate::aws::{ImageState, Made, Tags};
use crate::engine::{Artifact, Run, RunState};

/// EC2 may not show an image for a while after it has returned its ID.
const APPEARS_WITHIN: Duration = Duration::from_secs(10 * 60);

/// The next step of a promotion, or its outcome.
pub enum Promotion {
    Next(Plan),
    Done(Promoted),
    /// These images can never be promoted.
    Failed(String),
}

/// A run whose images are tagged, and whose lanes have one active image each.
pub struct Promoted {
    pub result: RunResult,
    pub images: Vec<String>,
    /// The images that count now in the lanes of the run.
    pub counting: Vec<Located>,
    /// They are good: nothing has to be built for these lanes.
    pub good: bool,
    /// The base image that EC2 reports for the first image of the run.
    pub base: Option<String>,
}

/// Returns the images of a successful run. One of them must be in the builder's region: otherwise the builder would
/// never have a good image, and would build forever.
pub fn succeeded(run: &Run, artifacts: &[Artifact]) -> Result<Vec<ImageId>, String> {
    let home = &run.facts.region;
    if artifacts.iter().any(|artifact| artifact.region == *home) {
        let ids: BTreeSet<ImageId> = artifacts.iter().map(|artifact| artifact.image.clone()).collect();
        return Ok(ids.into_iter().collect());
    }
    Err(format!(
        "packer built no image in {home}, the region of the builder: pass the region to the template"
    ))
}

/// Returns the images of a run whose result cannot be read: exactly one available image per lane with the run's build
/// tag. Anything else is a failure.
pub fn lost(run: &Run, images: &[Located], why: &str) -> Result<Vec<ImageId>, String> {
    let made: Vec<&Located> =
        images.iter().filter(|image| image.tag(tags::BUILD) == Some(run.facts.build.as_str())).collect();
    let lanes: BTreeSet<Lane> = made.iter().map(|image| image.lane()).collect();
    let is_complete = made.iter().all(|image| image.is_available()) && lanes.len() == made.len();
    let at_home = lanes.iter().any(|lane| lane.region == run.facts.region);
    if is_complete && at_home {
        Ok(made.iter().map(|image| image.image.id.clone()).collect())
    } else {
        Err(format!("the result was lost: {why}"))
    }
}

/// The images of a run, as EC2 reports them.
pub enum Results<'a> {
    Ready(Vec<&'a Located>),
    Wait(WaitReason),
    Failed(Vec<String>),
}

/// Checks the images that a run named. `account` is the account of the credentials: an image of another account is not
/// a result.
pub fn results<'a>(
    run: &Run,
    ids: &[ImageId],
    images: &'a [Located],
    account: &str,
    now: Timestamp,
) -> Results<'a> {
    let overdue = time::between(run.ended_at.unwrap_or(run.facts.created_at), now) > APPEARS_WITHIN;
    let (mut ready, mut waiting, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        let found = images.iter().find(|located| located.image.id == *id);
        // Checked before the state: an image that the run did not make fails the run in any state.
        if let Some(error) = found.and_then(|located| results::rejection(run, located, account)) {
            errors.push(error);
            continue;
        }
        match found.map(|located| (located, &located.image.state)) {
            Some((located, ImageState::Available)) => ready.push(located),
            Some((_, ImageState::Pending | ImageState::Other(_))) => waiting.push(id.to_string()),
            Some((located, state)) => errors.push(failed_image(located, state)),
            None if overdue => errors.push(format!("image {id} is gone")),
            None => waiting.push(id.to_string()),
        }
    }
    // One bad image fails the run at once: waiting for the others could not change that.
    if !errors.is_empty() {
        Results::Failed(errors)
    } else if !waiting.is_empty() {
        Results::Wait(WaitReason::ImagePending { images: waiting })
    } else if let Some(error) = ambiguous(run, &ready) {
        Results::Failed(vec![error])
    } else {
        Results::Ready(ready)
    }
}

/// Returns the error of a run that made several images for one lane: nothing shows which of them is meant.
fn ambiguous(run: &Run, ready: &[&Located]) -> Option<String> {
    let mut lanes: BTreeMap<Lane, Vec<&Located>> = BTreeMap::new();
    for image in ready {
        lanes.entry(image.lane()).or_default().push(image);
    }
    let (lane, several) = lanes.into_iter().find(|(_, images)| images.len() > 1)?;
    let RunState::Succeeded(artifacts) = &run.state else { return None };
    let source = |image: &&Located| {
        let artifact = artifacts.iter().find(|artifact| artifact.image == image.image.id);
        artifact.map_or("", |artifact| artifact.build.as_str()).to_owned()
    };
    let made: Vec<String> =
        several.iter().map(|image| format!("{} by {}", image.image.id, source(image))).collect();
    let sources: BTreeSet<String> = several.iter().map(source).collect();
    let remedy = match sources.first().filter(|_| sources.len() > 1) {
        Some(first) => format!(
            "choose a source with -only in the args of the build command, such as -only={first} (in a JSON \
             template, the part after the dot), and create a separate builder for each of the others"
        ),
        None => "change the template so that it makes only one".to_owned(),
    };
    Some(format!(
        "{AMBIGUOUS}: the build made {} images for {} in {}, and only one can be active: {}; {remedy}",
        several.len(),
        lane.architecture,
        lane.region,
        made.join(", ")
    ))
}

fn failed_image(located: &Located, state: &ImageState) -> String {
    let word = match state {
        ImageState::Disabled => "is disabled",
        ImageState::Deregistered => "is gone",
        _ => "failed",
    };
    let reason = located.image.state_reason.as_deref().unwrap_or("EC2 gives no reason");
    format!("image {} {word}: {reason}", located.image.id)
}

/// Returns the next step after all images of the run are available: tag them, then demote older ones, then record the
/// run.
pub fn promote(
    observed: &Observed,
    run: &Run,
    made: &[&Located],
    images: &[Located],
    now: Timestamp,
) -> Promotion {
    let is_made = |image: &Located| made.iter().any(|result| result.image.id == image.image.id);
    let mut active = active::active(images, &observed.subject, &observed.status, now);
    // Status names the new images only after the run is recorded. Until then, the run shows that they may count.
    for result in active.iter_mut().filter(|active| is_made(active.image) && is_promoted(active.image, run)) {
        result.origin = Origin::Recorded;
    }
    if let Some(untagged) = made.iter().find(|image| !is_promoted(image, run)) {
        // All images are checked before the first one is tagged, so that a run that fails here leaves none active.
        if let Some(error) = made.iter().find_map(|image| too_many_tags(image, observed, run, made)) {
            return Promotion::Failed(error);
        }
        return Promotion::Next(tag_results(observed, run, made, &active, untagged, now));
    }
    let lanes: BTreeSet<Lane> = made.iter().map(|image| image.lane()).collect();
    // Only after activation: no lane is ever without an active image.
    if let Some(step) = lanes.iter().find_map(|lane| demotion(observed, &active, lane)) {
        return Promotion::Next(Plan::act(step, "a newer image is active"));
    }
    let home_first = located::home_first(lanes.iter().cloned(), &run.facts.region);
    let counting: Vec<&Located> = home_first
        .iter()
        .filter_map(|lane| active::current(&active, lane))
        .map(|active| active.image)
        .collect();
    // A superseded run does not show which lanes are still built, so it drops none.
    let is_complete = counting.len() == lanes.len() && counting.iter().all(|image| is_made(image));
    if let Some(plan) = dropped_lane(observed, run, &active, &lanes).filter(|_| is_complete) {
        return Promotion::Next(plan);
    }
    let is_result = counting.iter().any(|image| is_made(image));
    let result = if is_result { RunResult::Succeeded } else { RunResult::Superseded };
    let good = wanted_now(observed).is_some_and(|(spec, wanted)| {
        lanes.iter().all(|lane| good(lane, &active, &wanted, spec, now).is_ok())
    });
    let first = |lane: &Lane| made.iter().find(|image| image.lane() == *lane);
    let results: Vec<&Located> = home_first.iter().filter_map(first).copied().collect();
    Promotion::Done(Promoted {
        result,
        images: results.iter().map(|image| image.image.id.to_string()).collect(),
        base: results.first().and_then(|image| base_of(observed, run, image, made)),
        counting: counting.into_iter().cloned().collect(),
        good,
    })
}

/// Demotes the images of a lane for which the newest build made no image: they would stay active forever, and
/// refreshers would still choose them. Not after a lost run, because it is unknown what the run made in other regions.
fn dropped_lane(
    observed: &Observed,
    run: &Run,
    active: &[Active<'_>],
    lanes: &BTreeSet<Lane>,
) -> Option<Plan> {
    if !matches!(run.state, RunState::Succeeded(_)) {
        return None;
    }
    let dropped = may_demote(observed, active::elsewhere(active, lanes));
    let lane = dropped.first()?.lane();
    let of_lane: Vec<&Located> = dropped.into_iter().filter(|image| image.lane() == lane).collect();
    let why = format!("the newest build makes no image for {} in {}", lane.architecture, lane.region);
    Some(Plan::act(Step::Demote(demotion_of(&lane.region, &of_lane)), &why))
}

/// Returns whether the image has the tags of this run's promotion. A template may set `status` itself, so that tag
/// alone proves nothing.
fn is_promoted(image: &Located, run: &Run) -> bool {
    image.tag(tags::STATUS).is_some()
        && image.tag(tags::BUILD) == Some(run.facts.build.as_str())
        && image.tag(tags::JOB) == Some(run.name.as_str())
}

/// Maximum number of tags of an EC2 resource. Those of AWS itself do not count.
const MAX_TAGS: usize = 50;

/// Returns the error for an image whose own tags leave too little room for those of Opsy. EC2 would refuse them each
/// time.
fn too_many_tags(image: &Located, observed: &Observed, run: &Run, made: &[&Located]) -> Option<String> {
    let base = base_of(observed, run, image, made);
    let opsy_tags = inputs::image_tags(&observed.subject, run, base.as_deref(), tags::ACTIVE);
    let own_tags =
        image.image.tags.keys().filter(|name| !name.starts_with("aws:") && !opsy_tags.contains_key(*name));
    let own_tags = own_tags.count();
    (own_tags + opsy_tags.len() > MAX_TAGS).then(|| {
        format!(
            "image {} has {own_tags} tags from the template and needs {} tags of Opsy, but EC2 allows \
             {MAX_TAGS}: set at most {} tags in the template",
            image.image.id,
            opsy_tags.len(),
            MAX_TAGS - opsy_tags.len()
        )
    })
}

/// Returns the step that tags the images of one region and one base image: those that are needed as active, and if
/// there are none, the others as superseded.
fn tag_results(
    observed: &Observed,
    run: &Run,
    made: &[&Located],
    active: &[Active<'_>],
    first: &Located,
    now: Timestamp,
) -> Plan {
    let base = base_of(observed, run, first, made);
    // One call sets the same tags on all of its images, and the base image is one of the tags.
    let same_call = |image: &&Located| {
        image.region == first.region
            && !is_promoted(image, run)
            && base_of(observed, run, image, made) == base
    };
    let replacing = |image: &Located| better(observed, run, &image.lane(), active, now);
    let (unneeded, needed): (Vec<&Located>, Vec<&Located>) =
        made.iter().copied().filter(same_call).partition(|image| replacing(image).is_some());
    let tags = |status| inputs::image_tags(&observed.subject, run, base.as_deref(), status);
    let made_by = Made::Since(run.facts.created_at);
    if needed.is_empty() {
        let superseded = tagging(&first.region, &unneeded, made_by, tags(tags::SUPERSEDED));
        let better: Vec<&Located> = unneeded.iter().filter_map(|image| replacing(image)).collect();
        let kept = tagging(&first.region, &better, Made::Marked, status_tag(tags::ACTIVE));
        return Plan::act(Step::Supersede { kept, superseded }, "the inputs changed during the build");
    }
    let tagging = tagging(&first.region, &needed, made_by, tags(tags::ACTIVE));
    Plan::act(Step::Activate(tagging), "all images of the build are available")
}

fn base_of(observed: &Observed, run: &Run, image: &Located, made: &[&Located]) -> Option<String> {
    base::made_from(image, made, run.facts.inputs.base_ami.as_deref(), observed.base.known())
}

/// Returns the image of a lane that is better than the run's: the inputs of the run are outdated, and this one is good.
/// While the desired inputs are unknown, a finished build is the best image there is.
fn better<'a>(
    observed: &Observed,
    run: &Run,
    lane: &Lane,
    active: &[Active<'a>],
    now: Timestamp,
) -> Option<&'a Located> {
    let (spec, wanted) = wanted_now(observed)?;
    let from = BuiltFrom::Inputs(run.facts.inputs.clone());
    let is_outdated =
        inputs::input_change(&from, Some(run.facts.created_at), &wanted, &spec.rebuild_on).is_some();
    good(lane, active, &wanted, spec, now).ok().filter(|_| is_outdated)
}

/// Returns the step that demotes every active image of a lane except the one that counts.
pub fn demotion(observed: &Observed, active: &[Active<'_>], lane: &Lane) -> Option<Step> {
    let older = may_demote(observed, active::surplus(active, lane));
    (!older.is_empty()).then(|| Step::Demote(demotion_of(&lane.region, &older)))
}

/// Leaves out adopted images of the operator that may belong to another builder: those that its status names, and all
/// of them until every builder of the same name has reported.
fn may_demote<'a>(observed: &Observed, images: Vec<&Active<'a>>) -> Vec<&'a Located> {
    let fleet = &observed.fleet;
    let own = |active: &&Active<'_>| match active.from {
        BuiltFrom::Inputs(_) => true,
        BuiltFrom::Operator { .. } => {
            fleet.namesakes.is_empty() && !fleet.claimed.contains(&active.image.image.id)
        }
    };
    images.into_iter().filter(own).map(|active| active.image).collect()
}

fn demotion_of(region: &Region, older: &[&Located]) -> Tagging {
    tagging(region, older, Made::Marked, status_tag(tags::DEPRECATED))
}

fn status_tag(status: &str) -> Tags {
    Tags::from([(tags::STATUS.to_owned(), status.to_owned())])
}

fn tagging(region: &Region, located: &[&Located], made: Made, tags: Tags) -> Tagging {
    Tagging {
        region: region.clone(),
        images: located.iter().map(|image| image.image.id.to_string()).collect(),
        snapshots: located.iter().flat_map(|image| image.image.snapshots.iter().cloned()).collect(),
        made,
        tags,
    }
}
