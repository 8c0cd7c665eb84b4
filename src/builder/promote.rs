//! Which images of an ended run become active, and which older ones are demoted. Pure; part of the
//! plan: `harvest` asks for the images of a run, and for the next step of their promotion.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::history;
use super::images::{self, BuiltFrom, Lane, Located};
use super::inputs::{self, Wanted};
use super::observe::Observed;
use super::plan::{good, wanted};
use super::spec::Spec;
use super::step::{On, Plan, Step, Tagging};
use super::time;
use crate::api::{ImageId, Region};
use crate::aws::{ImageState, Made, Tags};
use crate::engine::{Artifact, Run};

/// EC2 may not show an image at once that it has just named.
const APPEARS_WITHIN: Duration = Duration::from_secs(10 * 60);

type Active<'a> = (&'a Located, BuiltFrom);

/// The next step of a promotion, or what came of it.
pub enum Promotion {
    Next(Plan),
    Done(Promoted),
    /// It will never work with these images.
    Failed(String),
}

/// A run whose images are tagged, and whose lanes have one active image each.
pub struct Promoted {
    pub result: &'static str,
    pub images: Vec<String>,
    /// The images that now count.
    pub counting: Vec<Located>,
    /// They are the desired state.
    pub good: bool,
}

/// A result must have an image where the builder asks for one, or it would build for ever.
pub fn succeeded(run: &Run, artifacts: &[Artifact]) -> Result<Vec<ImageId>, String> {
    let home = &run.facts.region;
    if artifacts.iter().any(|artifact| artifact.region == *home) {
        let ids: BTreeSet<ImageId> = artifacts.iter().map(|artifact| artifact.image.clone()).collect();
        return Ok(ids.into_iter().collect());
    }
    Err(format!("packer made no image in {home}, the builder's region: pass the template its region"))
}

/// A run whose result nobody can read: exactly one available image a lane with its build tag is the
/// result, else it failed.
pub fn lost(run: &Run, images: &[Located], why: &str) -> Result<Vec<ImageId>, String> {
    let made: Vec<&Located> =
        images.iter().filter(|image| image.tag(images::BUILD) == Some(run.facts.build.as_str())).collect();
    let lanes: BTreeSet<Lane> = made.iter().map(|image| image.lane()).collect();
    let whole = made.iter().all(|image| image.is_available()) && lanes.len() == made.len();
    let at_home = lanes.iter().any(|lane| lane.region == run.facts.region);
    if whole && at_home {
        Ok(made.iter().map(|image| image.image.id.clone()).collect())
    } else {
        Err(format!("the result was lost: {why}"))
    }
}

/// The images of a success, as EC2 has them.
pub enum Results<'a> {
    Ready(Vec<&'a Located>),
    Wait(On),
    Failed(Vec<String>),
}

pub fn results<'a>(run: &Run, ids: &[ImageId], images: &'a [Located], now: Timestamp) -> Results<'a> {
    let old = time::since(now, run.ended_at.unwrap_or(run.facts.created_at)) > APPEARS_WITHIN;
    let (mut ready, mut waiting, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        let found = images.iter().find(|located| located.image.id == *id);
        match found.map(|located| (located, &located.image.state)) {
            Some((located, ImageState::Available)) => ready.push(located),
            Some((_, ImageState::Pending | ImageState::Other(_))) => waiting.push(id.to_string()),
            Some((located, state)) => errors.push(failed_image(located, state)),
            None if old => errors.push(format!("image {id} is gone")),
            None => waiting.push(id.to_string()),
        }
    }
    if !errors.is_empty() {
        Results::Failed(errors)
    } else if !waiting.is_empty() {
        Results::Wait(On::ImagePending { images: waiting })
    } else {
        Results::Ready(ready)
    }
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

/// All images are available: tag them, demote older ones, then record.
pub fn promote(
    seen: &Observed,
    run: &Run,
    made: &[&Located],
    images: &[Located],
    now: Timestamp,
) -> Promotion {
    let active = images::active(images, &seen.subject, &seen.status);
    if let Some(untagged) = made.iter().find(|image| !is_promoted(image, run)) {
        if let Some(words) = made.iter().find_map(|image| too_many_tags(image, seen, run)) {
            return Promotion::Failed(words);
        }
        return Promotion::Next(tag_result(seen, run, made, &active, &untagged.region, now));
    }
    let lanes: BTreeSet<Lane> = made.iter().map(|image| image.lane()).collect();
    let older = lanes.iter().find_map(|lane| demotion(&active, lane));
    if let Some(step) = older {
        return Promotion::Next(act(step, "a newer image is active"));
    }
    let counting: Vec<Located> = lanes
        .iter()
        .filter_map(|lane| images::current(&active, lane))
        .map(|(image, _)| (*image).clone())
        .collect();
    let is_result = counting.iter().any(|image| made.iter().any(|result| result.image.id == image.image.id));
    let result = if is_result { history::SUCCEEDED } else { history::SUPERSEDED };
    let images = made.iter().map(|image| image.image.id.to_string()).collect();
    let good = wanted_now(seen).is_some_and(|(spec, wanted)| {
        lanes.iter().all(|lane| good(lane, &active, &wanted, spec, now).is_ok())
    });
    Promotion::Done(Promoted { result, images, counting, good })
}

/// Did the run's tags arrive? A template may set `status` itself, so that alone says nothing.
fn is_promoted(image: &Located, run: &Run) -> bool {
    image.tag(images::STATUS).is_some()
        && image.tag(images::BUILD) == Some(run.facts.build.as_str())
        && image.tag(images::JOB) == Some(run.name.as_str())
}

/// Tags that a resource of EC2 may have; those of AWS itself do not count.
const MOST_TAGS: usize = 50;

/// EC2 would refuse our tags beside those of the template, for ever.
fn too_many_tags(image: &Located, seen: &Observed, run: &Run) -> Option<String> {
    let ours = inputs::image_tags(&seen.subject, run, images::ACTIVE);
    let theirs =
        image.image.tags.keys().filter(|name| !name.starts_with("aws:") && !ours.contains_key(*name));
    let theirs = theirs.count();
    (theirs + ours.len() > MOST_TAGS).then(|| {
        format!(
            "image {} has {theirs} tags of the template, and needs {} of Opsy: EC2 allows {MOST_TAGS}, so set at most {} in the template",
            image.image.id,
            ours.len(),
            MOST_TAGS - ours.len()
        )
    })
}

/// One call for one region: what counts becomes active, what is no longer needed superseded.
fn tag_result(
    seen: &Observed,
    run: &Run,
    made: &[&Located],
    active: &[Active<'_>],
    region: &Region,
    now: Timestamp,
) -> Plan {
    let untagged = made.iter().copied().filter(|image| image.region == *region && !is_promoted(image, run));
    let (unneeded, needed): (Vec<&Located>, Vec<&Located>) =
        untagged.partition(|image| superseded(seen, run, &image.lane(), active, now));
    let made_by = Made::Since(run.facts.created_at);
    if needed.is_empty() {
        let tags = inputs::image_tags(&seen.subject, run, images::SUPERSEDED);
        return act(
            Step::Supersede(tagging(region, &unneeded, made_by, tags)),
            "the inputs moved on while it was built",
        );
    }
    let tags = inputs::image_tags(&seen.subject, run, images::ACTIVE);
    act(Step::Activate(tagging(region, &needed, made_by, tags)), "all its images are available")
}

/// Is the run's image of a lane no longer wanted? Only where its inputs are no longer those wanted
/// and the lane has an image that is still good. While the inputs cannot be read, a finished build
/// is the best there is.
fn superseded(seen: &Observed, run: &Run, lane: &Lane, active: &[Active<'_>], now: Timestamp) -> bool {
    let Some((spec, wanted)) = wanted_now(seen) else {
        return false;
    };
    let from = BuiltFrom::Inputs(run.facts.inputs.clone());
    let moved_on = inputs::moved_on(&from, Some(run.facts.created_at), &wanted, &spec.rebuild_on).is_some();
    moved_on && good(lane, active, &wanted, spec, now).is_ok()
}

fn wanted_now(seen: &Observed) -> Option<(&Spec, Wanted<'_>)> {
    let spec = seen.spec.as_ref().ok()?;
    Some((spec, wanted(spec, seen.template.known()?, seen.base.known()?)?))
}

/// Demotes every active image of a lane but the one that counts.
pub fn demotion(active: &[Active<'_>], lane: &Lane) -> Option<Step> {
    let older = images::surplus(active, lane);
    let tags = Tags::from([(images::STATUS.to_owned(), images::DEPRECATED.to_owned())]);
    (!older.is_empty()).then(|| Step::Demote(tagging(&lane.region, &older, Made::Marked, tags)))
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

fn act(step: Step, why: &str) -> Plan {
    Plan::Act { step, why: why.to_owned() }
}
