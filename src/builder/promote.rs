//! Which images of an ended run become active, and which older ones are demoted. Pure; part of the
//! plan: `harvest` asks for the images of a run, and for the next step of their promotion.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::failures::AMBIGUOUS;
use super::history;
use super::images::{self, Active, BuiltFrom, Lane, Located};
use super::judge::{good, wanted_now};
use super::observe::Observed;
use super::step::{On, Plan, Step, Tagging};
use super::trust::Origin;
use super::{base, inputs, results, time};
use crate::api::{ImageId, Region};
use crate::aws::{ImageState, Made, Tags};
use crate::engine::{Artifact, Run, RunState};

/// EC2 may not show an image at once that it has just named.
const APPEARS_WITHIN: Duration = Duration::from_secs(10 * 60);

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
    /// The base image that EC2 names for the first of them.
    pub base: Option<String>,
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

/// `account` is the one that the credentials belong to: an image of another one is no result.
pub fn results<'a>(
    run: &Run,
    ids: &[ImageId],
    images: &'a [Located],
    account: &str,
    now: Timestamp,
) -> Results<'a> {
    let old = time::since(now, run.ended_at.unwrap_or(run.facts.created_at)) > APPEARS_WITHIN;
    let (mut ready, mut waiting, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for id in ids {
        let found = images.iter().find(|located| located.image.id == *id);
        if let Some(error) = found.and_then(|located| results::refused(run, located, account)) {
            errors.push(error);
            continue;
        }
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
    } else if let Some(error) = ambiguous(run, &ready) {
        Results::Failed(vec![error])
    } else {
        Results::Ready(ready)
    }
}

/// Why none of several results of one lane can be active: which of them is meant cannot be known.
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
            "choose a source with -only in the args of the build command, such as -only={first} (in a JSON template, \
             the part after the dot), and give others a builder of their own"
        ),
        None => "let the template make one".to_owned(),
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

/// All images are available: tag them, demote older ones, then record.
pub fn promote(
    seen: &Observed,
    run: &Run,
    made: &[&Located],
    images: &[Located],
    now: Timestamp,
) -> Promotion {
    let is_made = |image: &Located| made.iter().any(|result| result.image.id == image.image.id);
    let mut active = images::active(images, &seen.subject, &seen.status, now);
    for result in active.iter_mut().filter(|active| is_made(active.image) && is_promoted(active.image, run)) {
        result.origin = Origin::Recorded;
    }
    if let Some(untagged) = made.iter().find(|image| !is_promoted(image, run)) {
        if let Some(words) = made.iter().find_map(|image| too_many_tags(image, seen, run, made)) {
            return Promotion::Failed(words);
        }
        return Promotion::Next(tag_results(seen, run, made, &active, untagged, now));
    }
    let lanes: BTreeSet<Lane> = made.iter().map(|image| image.lane()).collect();
    if let Some(step) = lanes.iter().find_map(|lane| demotion(seen, &active, lane)) {
        return Promotion::Next(act(step, "a newer image is active"));
    }
    let home_first = images::home_first(lanes.iter().cloned(), &run.facts.region);
    let counting: Vec<&Located> = home_first
        .iter()
        .filter_map(|lane| images::current(&active, lane))
        .map(|active| active.image)
        .collect();
    let whole = counting.len() == lanes.len() && counting.iter().all(|image| is_made(image));
    if let Some(plan) = dropped_lane(seen, run, &active, &lanes).filter(|_| whole) {
        return Promotion::Next(plan);
    }
    let is_result = counting.iter().any(|image| is_made(image));
    let result = if is_result { history::SUCCEEDED } else { history::SUPERSEDED };
    let good = wanted_now(seen).is_some_and(|(spec, wanted)| {
        lanes.iter().all(|lane| good(lane, &active, &wanted, spec, now).is_ok())
    });
    let first = |lane: &Lane| made.iter().find(|image| image.lane() == *lane);
    let results: Vec<&Located> = home_first.iter().filter_map(first).copied().collect();
    Promotion::Done(Promoted {
        result,
        images: results.iter().map(|image| image.image.id.to_string()).collect(),
        base: results.first().and_then(|image| base_of(seen, run, image, made)),
        counting: counting.into_iter().cloned().collect(),
        good,
    })
}

/// A lane that the newest build does not make any more: its image would stay active for ever, and go on being
/// chosen. Not after a lost run: what it made in other regions is not known.
fn dropped_lane(seen: &Observed, run: &Run, active: &[Active<'_>], lanes: &BTreeSet<Lane>) -> Option<Plan> {
    if !matches!(run.state, RunState::Succeeded(_)) {
        return None;
    }
    let dropped = may_demote(seen, images::elsewhere(active, lanes));
    let lane = dropped.first()?.lane();
    let of_lane: Vec<&Located> = dropped.into_iter().filter(|image| image.lane() == lane).collect();
    let why = format!("the newest build makes no image for {} in {}", lane.architecture, lane.region);
    Some(act(Step::Demote(demoted(&lane.region, &of_lane)), &why))
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
fn too_many_tags(image: &Located, seen: &Observed, run: &Run, made: &[&Located]) -> Option<String> {
    let base = base_of(seen, run, image, made);
    let ours = inputs::image_tags(&seen.subject, run, base.as_deref(), images::ACTIVE);
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

/// One call for images of one region and one base image: what counts becomes active, what is no longer needed
/// superseded.
fn tag_results(
    seen: &Observed,
    run: &Run,
    made: &[&Located],
    active: &[Active<'_>],
    first: &Located,
    now: Timestamp,
) -> Plan {
    let base = base_of(seen, run, first, made);
    let together = |image: &&Located| {
        image.region == first.region && !is_promoted(image, run) && base_of(seen, run, image, made) == base
    };
    let (unneeded, needed): (Vec<&Located>, Vec<&Located>) = made
        .iter()
        .copied()
        .filter(together)
        .partition(|image| superseded(seen, run, &image.lane(), active, now));
    let tags = |status| inputs::image_tags(&seen.subject, run, base.as_deref(), status);
    let made_by = Made::Since(run.facts.created_at);
    if needed.is_empty() {
        let tagging = tagging(&first.region, &unneeded, made_by, tags(images::SUPERSEDED));
        return act(Step::Supersede(tagging), "the inputs moved on while it was built");
    }
    let tagging = tagging(&first.region, &needed, made_by, tags(images::ACTIVE));
    act(Step::Activate(tagging), "all its images are available")
}

fn base_of(seen: &Observed, run: &Run, image: &Located, made: &[&Located]) -> Option<String> {
    base::made_from(image, made, run.facts.inputs.base_ami.as_deref(), seen.base.known())
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

/// Demotes every active image of a lane but the one that counts.
pub fn demotion(seen: &Observed, active: &[Active<'_>], lane: &Lane) -> Option<Step> {
    let older = may_demote(seen, images::surplus(active, lane));
    (!older.is_empty()).then(|| Step::Demote(demoted(&lane.region, &older)))
}

/// Images of the operator may be another builder's: not those that its status names, and none before all
/// builders of this name have been heard.
fn may_demote<'a>(seen: &Observed, images: Vec<&Active<'a>>) -> Vec<&'a Located> {
    let fleet = &seen.fleet;
    let own = |active: &&Active<'_>| match active.from {
        BuiltFrom::Inputs(_) => true,
        BuiltFrom::Operator { .. } => {
            fleet.namesakes.is_empty() && !fleet.claimed.contains(&active.image.image.id)
        }
    };
    images.into_iter().filter(own).map(|active| active.image).collect()
}

fn demoted(region: &Region, older: &[&Located]) -> Tagging {
    let tags = Tags::from([(images::STATUS.to_owned(), images::DEPRECATED.to_owned())]);
    tagging(region, older, Made::Marked, tags)
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
