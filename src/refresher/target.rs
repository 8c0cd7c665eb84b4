//! Which image the groups should run, and why an image does not qualify. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;

use super::memory::Memory;
use super::seen::Found;
use super::spec::{Source, Spec};
use super::time::elapsed;
use crate::api::{ImageId, Key, Owner};
use crate::aws::ec2::BROUGHT_BY;
use crate::aws::{Image, ImageState};

/// Of an image that EC2 does not show: which of the two, it does not say.
pub const UNSEEN: &str =
    "cannot be seen any more (it was deregistered, or is no longer shared with this account)";
/// How many unfit images a message names: enough to see what is wrong.
const NAMED: usize = 3;

/// The wanted image, one for each architecture; text joins several with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Vec<ImageId>);

impl Target {
    /// Sorted, so that the same images are the same target. `None` of no image.
    pub fn of(images: impl IntoIterator<Item = ImageId>) -> Option<Self> {
        let images: BTreeSet<ImageId> = images.into_iter().collect();
        (!images.is_empty()).then(|| Self(images.into_iter().collect()))
    }

    pub fn parse(text: &str) -> Option<Self> {
        let images: Result<Vec<ImageId>, _> = text.split(',').map(ImageId::parse).collect();
        images.ok().and_then(Self::of)
    }

    pub fn images(&self) -> &[ImageId] {
        &self.0
    }

    pub fn has(&self, image: Option<&ImageId>) -> bool {
        image.is_some_and(|image| self.0.contains(image))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images: Vec<&str> = self.0.iter().map(ImageId::as_str).collect();
        f.write_str(&images.join(","))
    }
}

/// What the source of the target comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    Is(Target),
    /// No image qualifies: nothing changes, and why.
    Nothing {
        why: String,
        ambiguous: bool,
    },
}

/// Chooses the target; `owner` is whose images count where nothing is named.
pub fn choose(spec: &Spec, memory: &Memory, found: &Found, owner: &Owner, now: Timestamp) -> Choice {
    match (&spec.source, found) {
        (Source::Image(image), _) => only(image),
        (_, Found::Tagged { images, recorded }) => of_cluster(spec, memory, (images, recorded), owner, now),
        (_, Found::Images(images)) => newest(spec, &images.iter().collect::<Vec<_>>(), &unfound(spec), now),
        (Source::Builder(builder), Found::NoBuilder | Found::Named) => match &memory.target {
            Some(target) => Choice::Is(target.clone()),
            None => nothing(format!("there is no PackerBuilder {builder}")),
        },
        (Source::Builder(builder), Found::Built(images)) => of_builder(spec, builder, images, now),
        (_, Found::NoBuilder | Found::Named | Found::Built(_)) => {
            nothing("nothing names an image".to_owned())
        }
    }
}

/// Does an image qualify as a target? If not, why not.
pub fn eligible(spec: &Spec, image: &Image, now: Timestamp) -> Result<(), String> {
    if image.state != ImageState::Available {
        return Err(format!("{} is {}", image.id, state(image)));
    }
    if image.deprecated.is_some_and(|at| at <= now) {
        return Err(format!("{} is deprecated", image.id));
    }
    let status = image.tags.get("status").map(String::as_str);
    if brought(image) && status != Some("active") {
        return Err(format!("{} has tag status={}, not active", image.id, status.unwrap_or("(none)")));
    }
    match (spec.expires_in, born(image)) {
        (Some(limit), Some(born)) if elapsed(born, now) > limit => {
            Err(format!("{} is older than expiresIn", image.id))
        }
        (Some(_), None) => Err(format!("the age of {} is not known", image.id)),
        _ => Ok(()),
    }
}

/// EC2's state in words.
pub fn state(image: &Image) -> String {
    let word = match &image.state {
        ImageState::Available => "available",
        ImageState::Pending => "pending",
        ImageState::Failed => "failed",
        ImageState::Disabled => "disabled",
        ImageState::Deregistered => "deregistered",
        ImageState::Other(word) => word,
    };
    match &image.state_reason {
        Some(reason) => format!("{word} ({reason})"),
        None => word.to_owned(),
    }
}

fn only(image: &ImageId) -> Choice {
    Choice::Is(Target(vec![image.clone()]))
}

fn nothing(why: String) -> Choice {
    Choice::Nothing { why, ambiguous: false }
}

/// Carries the tags Opsy and the operator put on what they built.
fn brought(image: &Image) -> bool {
    image.tags.get(BROUGHT_BY.0).is_some_and(|value| value == BROUGHT_BY.1)
}

/// When it was made: by its own tag, which survives a copy, else as EC2 says.
fn born(image: &Image) -> Option<Timestamp> {
    let tag = image.tags.get("create-timestamp");
    let tagged =
        tag.and_then(|text| text.parse().ok().or_else(|| Timestamp::from_second(text.parse().ok()?).ok()));
    tagged.or(image.created)
}

/// The newest eligible image of each architecture.
fn newest(spec: &Spec, images: &[&Image], none: &str, now: Timestamp) -> Choice {
    let mut sorted = images.to_vec();
    sorted.sort_by(|a, b| (b.created, &b.name, &b.id).cmp(&(a.created, &a.name, &a.id)));
    let mut lanes: BTreeMap<&str, &ImageId> = BTreeMap::new();
    let mut unfit = Vec::new();
    for image in sorted {
        match eligible(spec, image, now) {
            Ok(()) => {
                lanes.entry(&image.architecture).or_insert(&image.id);
            }
            Err(why) => unfit.push(why),
        }
    }
    Target::of(lanes.into_values().cloned()).map_or_else(|| nothing(refusal(&unfit, none)), Choice::Is)
}

/// No image is found: where was it looked for?
fn unfound(spec: &Spec) -> String {
    match &spec.source {
        Source::Filters(query) => format!(
            "amiFilters find no image among those of {} (an owner-id filter names others)",
            query.owners.join(" and ")
        ),
        _ => "no image is found".to_owned(),
    }
}

fn refusal(unfit: &[String], none: &str) -> String {
    if unfit.is_empty() {
        return none.to_owned();
    }
    let mut why = unfit.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if unfit.len() > NAMED {
        why.push_str(&format!("; and {} more", unfit.len() - NAMED));
    }
    why
}

/// The images that a builder names in its status. Its tags must be on them, too: tags of others' images cannot be seen,
/// and a status may have been seeded from Git, where everybody who can push writes it.
fn of_builder(spec: &Spec, builder: &Key, built: &[(ImageId, Option<Image>)], now: Timestamp) -> Choice {
    let there = built.iter().filter_map(|(_, image)| image.as_ref());
    let is_built = |image: &&Image| brought(image) && built_by(spec, image).as_ref() == Some(builder);
    let (there, others): (Vec<&Image>, Vec<&Image>) = there.partition(is_built);
    let gone = built.iter().find(|(_, image)| image.is_none());
    let none = match (gone, others.first()) {
        (Some((id, _)), _) => format!("{id} {UNSEEN}"),
        (None, Some(image)) => format!("{} does not have the tags of PackerBuilder {builder}", image.id),
        (None, None) => format!("the builder has no image in {} yet", spec.region),
    };
    newest(spec, &there, &none, now)
}

/// The builder that an image names as its own: `opsy.dev/builder`, or the name in `created-by` of the operator's.
pub fn built_by(spec: &Spec, image: &Image) -> Option<Key> {
    if let Some(builder) = image.tags.get("opsy.dev/builder") {
        let (namespace, name) = builder.split_once('/')?;
        return Some(Key { namespace: namespace.to_owned(), name: name.to_owned() });
    }
    let name = image.tags.get("created-by")?.clone();
    Some(Key { namespace: spec.key.namespace.clone(), name })
}

/// Nothing is named: what one builder of the refresher's own namespace made for this cluster and names in its status.
/// Its target so far stays in use although its builder is gone.
fn of_cluster(
    spec: &Spec,
    memory: &Memory,
    (images, recorded): (&[Image], &BTreeSet<ImageId>),
    owner: &Owner,
    now: Timestamp,
) -> Choice {
    let tag = |image: &Image, key: &str| image.tags.get(key).cloned();
    let built = images
        .iter()
        .filter(|image| brought(image) && tag(image, "cluster-name").as_deref() == Some(&spec.cluster));
    let (ours, others): (Vec<&Image>, Vec<&Image>) =
        built.partition(|image| tag(image, "opsy.dev/owner").is_none_or(|other| other == owner.as_str()));
    let is_known = |image: &Image| {
        let here = built_by(spec, image).is_some_and(|builder| builder.namespace == spec.key.namespace);
        let in_use = memory.target.as_ref().is_some_and(|target| target.has(Some(&image.id)));
        in_use || (here && recorded.contains(&image.id))
    };
    let (known, unknown): (Vec<&Image>, Vec<&Image>) = ours.into_iter().partition(|image| is_known(image));
    let mut builders: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for image in known.iter().filter(|image| eligible(spec, image, now).is_ok()) {
        let builder = built_by(spec, image).map(|builder| builder.to_string()).unwrap_or_default();
        builders.entry(&image.architecture).or_default().insert(builder);
    }
    if let Some(several) = builders.values().find(|several| several.len() > 1) {
        let names: Vec<&str> = several.iter().map(String::as_str).collect();
        let why = format!(
            "several builders make images for cluster {}: {}; name one with amiFrom",
            spec.cluster,
            names.join(", ")
        );
        return Choice::Nothing { why, ambiguous: true };
    }
    let unknown = unknown.into_iter().find(|image| eligible(spec, image, now).is_ok());
    let none = match unknown {
        Some(image) => unrecorded(spec, image),
        None => no_image_of_cluster(spec, &others),
    };
    newest(spec, &known, &none, now)
}

/// Tags alone are not believed: everybody who may tag images of the account writes them.
fn unrecorded(spec: &Spec, image: &Image) -> String {
    let named =
        built_by(spec, image).map(|builder| format!(" as PackerBuilder {builder}")).unwrap_or_default();
    format!(
        "{} is tagged for cluster {}{named}, but no PackerBuilder of namespace {} has it in its status; if it is \
         the image you want, name it with ami",
        image.id, spec.cluster, spec.key.namespace
    )
}

fn no_image_of_cluster(spec: &Spec, others: &[&Image]) -> String {
    let hint = "give ami, amiFilters or amiFrom, or build one";
    let other = others.iter().find_map(|image| Some((&image.id, image.tags.get("opsy.dev/owner")?)));
    match other {
        Some((id, owner)) => {
            format!("{id} belongs to another owner: --agent-id {owner} would make it this agent's")
        }
        None => format!("no image is tagged cluster-name={}: {hint}", spec.cluster),
    }
}
