//! Chooses the target from the images that its source offers: `ami`, `amiFilters`, `amiFrom`, or the images built for
//! the cluster. Called by `plan` and the report. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::held::FailedImages;
use super::images::{Eligibility, NOT_FOUND, builder_of};
use super::memory::Memory;
use super::observed::SourceImages;
use super::spec::{Source, Spec};
use super::target::Target;
use crate::api::{ImageId, Key, Owner, tags};
use crate::aws::Image;

/// At most this many ineligible images are named in a message: enough to see what is wrong.
const NAMED_IMAGES: usize = 3;

/// The target, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetChoice {
    Chosen(Target),
    /// No image is eligible, so nothing changes.
    NoneEligible {
        why: String,
        /// Several builders compete: a person must name one of them.
        ambiguous: bool,
    },
}

/// Chooses the target. `owner` matters only if the spec names no source: then the images of this owner count.
pub fn choose(
    spec: &Spec,
    memory: &Memory,
    images: &SourceImages,
    owner: &Owner,
    now: Timestamp,
) -> TargetChoice {
    let none = FailedImages::default();
    let failed = failed_of(memory).unwrap_or(&none);
    choose_eligible(Eligibility { spec, failed, holds: true, now }, memory, images, owner)
}

/// The images that would be chosen if they were not held. Groups that run one of them stay on it.
pub fn kept(
    spec: &Spec,
    memory: &Memory,
    images: &SourceImages,
    owner: &Owner,
    now: Timestamp,
) -> Vec<ImageId> {
    let none = FailedImages::default();
    let failed = failed_of(memory).unwrap_or(&none);
    // Most refreshers hold nothing.
    if spec.held.is_empty() && failed.is_empty() {
        return Vec::new();
    }
    let rules = |holds| Eligibility { spec, failed, holds, now };
    let TargetChoice::Chosen(target) = choose_eligible(rules(false), memory, images, owner) else {
        return Vec::new();
    };
    let is_held = |id: &&ImageId| images.get(id).is_some_and(|image| rules(true).check(image).is_err());
    target.images().iter().filter(is_held).cloned().collect()
}

/// Why the image that the source offers first is not rolled out again: its rollout failed. `None` if it is not held.
pub fn held_back(
    spec: &Spec,
    memory: &Memory,
    images: &SourceImages,
    owner: &Owner,
    now: Timestamp,
) -> Option<(ImageId, String)> {
    let failed = failed_of(memory).filter(|failed| !failed.is_empty())?;
    if let Source::Image(image) = &spec.source {
        return failed.named(image).map(|failed| (image.clone(), failed.to_string()));
    }
    let rules = Eligibility { spec, failed, holds: false, now };
    let TargetChoice::Chosen(target) = choose_eligible(rules, memory, images, owner) else { return None };
    let held = |id: &ImageId| Some((id.clone(), failed.holds(images.get(id)?)?));
    target.images().iter().find_map(held)
}

fn failed_of(memory: &Memory) -> Option<&FailedImages> {
    memory.rollout.as_ref().map(|rollout| &rollout.failed)
}

fn choose_eligible(
    rules: Eligibility<'_>,
    memory: &Memory,
    images: &SourceImages,
    owner: &Owner,
) -> TargetChoice {
    let spec = rules.spec;
    match (&spec.source, images) {
        (Source::Image(image), _) => match rules.failed.named(image) {
            Some(failed) => none(failed.to_string()),
            None => TargetChoice::Chosen(Target::single(image.clone())),
        },
        (_, SourceImages::Tagged { images, recorded }) => {
            choose_for_cluster(rules, memory, (images, recorded), owner)
        }
        (_, SourceImages::Filtered(images)) => {
            newest(rules, &images.iter().collect::<Vec<_>>(), &no_match(spec))
        }
        // The builder is missing: the last target stays in force.
        (Source::Builder(builder), SourceImages::NoBuilder | SourceImages::Named) => match &memory.target {
            Some(target) => TargetChoice::Chosen(target.clone()),
            None => none(format!("PackerBuilder {builder} does not exist")),
        },
        (Source::Builder(builder), SourceImages::Built(images)) => {
            choose_from_builder(rules, builder, images)
        }
        (_, SourceImages::NoBuilder | SourceImages::Named | SourceImages::Built(_)) => {
            none("the spec names no image".to_owned())
        }
    }
}

fn none(why: String) -> TargetChoice {
    TargetChoice::NoneEligible { why, ambiguous: false }
}

/// The newest eligible image per architecture. `if_empty` is the reason if there are no images at all.
fn newest(rules: Eligibility<'_>, images: &[&Image], if_empty: &str) -> TargetChoice {
    let mut newest_first = images.to_vec();
    newest_first.sort_by(|a, b| (b.created, &b.name, &b.id).cmp(&(a.created, &a.name, &a.id)));
    let mut by_architecture: BTreeMap<&str, &ImageId> = BTreeMap::new();
    let mut ineligible = Vec::new();
    for image in newest_first {
        match rules.check(image) {
            Ok(()) => {
                by_architecture.entry(&image.architecture).or_insert(&image.id);
            }
            Err(why) => ineligible.push(why),
        }
    }
    Target::of(by_architecture.into_values().cloned())
        .map_or_else(|| none(summarize(&ineligible, if_empty)), TargetChoice::Chosen)
}

/// The filters match nothing: names the owners that were searched.
fn no_match(spec: &Spec) -> String {
    match &spec.source {
        Source::Filters(query) => format!(
            "amiFilters match no image owned by {} (to search other owners, add an owner-id filter)",
            query.owners.join(" or ")
        ),
        _ => "no image was found".to_owned(),
    }
}

fn summarize(ineligible: &[String], if_empty: &str) -> String {
    if ineligible.is_empty() {
        return if_empty.to_owned();
    }
    let mut why = ineligible.iter().take(NAMED_IMAGES).cloned().collect::<Vec<_>>().join("; ");
    if ineligible.len() > NAMED_IMAGES {
        why.push_str(&format!("; and {} more", ineligible.len() - NAMED_IMAGES));
    }
    why
}

/// The images that the builder's status names, if they also have the builder's tags. Both are required: the agent does
/// not see the tags of images in other accounts, and a status may have been seeded from Git, where anyone who can push
/// can write it.
fn choose_from_builder(
    rules: Eligibility<'_>,
    builder: &Key,
    built: &[(ImageId, Option<Image>)],
) -> TargetChoice {
    let spec = rules.spec;
    let found = built.iter().filter_map(|(_, image)| image.as_ref());
    let has_tags = |image: &&Image| {
        tags::is_built_by_opsy(&image.tags) && builder_of(spec, image).as_ref() == Some(builder)
    };
    let (of_builder, others): (Vec<&Image>, Vec<&Image>) = found.partition(has_tags);
    let missing = built.iter().find(|(_, image)| image.is_none());
    let if_empty = match (missing, others.first()) {
        (Some((id, _)), _) => format!("{id} {NOT_FOUND}"),
        (None, Some(image)) => format!("{} does not have the tags of PackerBuilder {builder}", image.id),
        (None, None) => format!("PackerBuilder {builder} has no image in {} yet", spec.region),
    };
    newest(rules, &of_builder, &if_empty)
}

/// The spec names no source: the images that exactly one builder of the refresher's own namespace built for this
/// cluster and names in its status. An image of the last target stays eligible even if its builder no longer exists.
fn choose_for_cluster(
    rules: Eligibility<'_>,
    memory: &Memory,
    (images, recorded): (&[Image], &BTreeSet<ImageId>),
    owner: &Owner,
) -> TargetChoice {
    let spec = rules.spec;
    let for_cluster = images.iter().filter(|image| {
        tags::is_built_by_opsy(&image.tags)
            && image.tags.get(tags::CLUSTER).is_some_and(|name| *name == spec.cluster)
    });
    // Images of the operator have no owner tag and count as this agent's.
    let is_own = |image: &&Image| image.tags.get(tags::OWNER).is_none_or(|other| other == owner.as_str());
    let (own, others): (Vec<&Image>, Vec<&Image>) = for_cluster.partition(is_own);
    let is_vouched_for = |image: &&Image| {
        let in_namespace =
            builder_of(spec, image).is_some_and(|builder| builder.namespace == spec.key.namespace);
        let in_use = memory.target.as_ref().is_some_and(|target| target.contains(Some(&image.id)));
        in_use || (in_namespace && recorded.contains(&image.id))
    };
    let (vouched_for, unrecorded): (Vec<&Image>, Vec<&Image>) = own.into_iter().partition(is_vouched_for);
    if let Some(why) = ambiguous(rules, &vouched_for) {
        return TargetChoice::NoneEligible { why, ambiguous: true };
    }
    let unrecorded = unrecorded.into_iter().find(|image| rules.check(image).is_ok());
    let if_empty = match unrecorded {
        Some(image) => not_recorded(spec, image),
        None => none_for_cluster(spec, &others),
    };
    newest(rules, &vouched_for, &if_empty)
}

/// More than one builder has an eligible image of the same architecture.
fn ambiguous(rules: Eligibility<'_>, images: &[&Image]) -> Option<String> {
    let spec = rules.spec;
    let mut builders: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for image in images.iter().filter(|image| rules.check(image).is_ok()) {
        let builder = builder_of(spec, image).map(|builder| builder.to_string()).unwrap_or_default();
        builders.entry(&image.architecture).or_default().insert(builder);
    }
    let several = builders.values().find(|builders| builders.len() > 1)?;
    let names: Vec<&str> = several.iter().map(String::as_str).collect();
    Some(format!(
        "several builders build images for cluster {}: {}; choose one with amiFrom",
        spec.cluster,
        names.join(", ")
    ))
}

/// Tags alone are not trusted: anyone who may tag images in the account can write them.
fn not_recorded(spec: &Spec, image: &Image) -> String {
    let builder =
        builder_of(spec, image).map(|builder| format!(" as PackerBuilder {builder}")).unwrap_or_default();
    format!(
        "{} is tagged for cluster {}{builder}, but no PackerBuilder in namespace {} names it in its status; to roll it \
         out anyway, set ami",
        image.id, spec.cluster, spec.key.namespace
    )
}

fn none_for_cluster(spec: &Spec, others: &[&Image]) -> String {
    let other = others.iter().find_map(|image| Some((&image.id, image.tags.get(tags::OWNER)?)));
    match other {
        Some((id, owner)) => {
            format!("{id} belongs to another owner: only an agent with --agent-id {owner} rolls it out")
        }
        None => format!(
            "no image has the tag cluster-name={}: set ami, amiFilters or amiFrom, or build an image",
            spec.cluster
        ),
    }
}
