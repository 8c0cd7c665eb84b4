//! Why something is believed to be a build's leftover: its tags, what Packer announced of it, and what EC2 knows of
//! where it comes from. Pure.

use std::collections::BTreeSet;

use aws_sdk_ec2::types;
use jiff::{SignedDuration, Timestamp};

use super::super::ec2::{self, BUILD, OWNER, SKEW, STATUS, filter, tags};
use super::super::{Announced, Image, ImageState, Tags};
use crate::api::{ImageId, Region};

/// Values of the tag `status` that only a result has.
const STATUSES: [&str; 3] = ["active", "deprecated", "superseded"];
/// What Packer writes on every security group it makes for a build.
pub const PACKERS_GROUP: &str = "Temporary group for Packer";
/// What Packer 1.6 names an instance that the template gives no name.
pub const PACKERS_INSTANCE: &str = "Packer Builder";

/// Whose and which build's: the two tags that a leftover carries.
#[derive(Clone, Copy)]
pub struct Mark<'a> {
    pub owner: &'a str,
    pub build: &'a str,
}

impl Mark<'_> {
    pub fn filters(&self) -> Vec<types::Filter> {
        let tagged = |tag, value| filter(&format!("tag:{tag}"), [value]);
        vec![tagged(BUILD, self.build), tagged(OWNER, self.owner)]
    }

    pub fn tags(&self) -> Tags {
        [(BUILD, self.build), (OWNER, self.owner)]
            .map(|(tag, value)| (tag.to_owned(), value.to_owned()))
            .into()
    }

    pub fn is_on(&self, tags: &Tags) -> bool {
        let tag = |name| tags.get(name).map(String::as_str);
        tag(BUILD) == Some(self.build) && tag(OWNER) == Some(self.owner)
    }

    /// Was this there before the run began? No other build has this one's id: where its tags are on something, the
    /// clocks may differ.
    pub fn predates(&self, tags: &Tags, made: Option<Timestamp>, since: Option<Timestamp>) -> bool {
        let slack = if self.is_on(tags) { SKEW } else { SignedDuration::ZERO };
        predates(made, since.map(|since| since.checked_sub(slack).unwrap_or(since)))
    }

    /// Ours by tag; or announced, of no build that we know, and Packer's by its looks.
    pub fn covers(&self, tags: &Tags, is_packers: bool) -> bool {
        self.is_on(tags) || (is_packers && !tags.contains_key(BUILD))
    }
}

/// Was this there before the run began? EC2 gives most of its times in whole seconds, and what has no time counts as
/// older: a tag can be set on anything.
pub fn predates(made: Option<Timestamp>, since: Option<Timestamp>) -> bool {
    since.is_some_and(|since| made.is_none_or(|made| made.as_second() < since.as_second()))
}

/// An image with what EC2 knows of its origin.
#[derive(Clone, Debug)]
pub struct Found {
    pub image: Image,
    /// The instance it was made from.
    pub instance: Option<String>,
    /// The image that it is a copy of, or that its instance was launched from.
    pub source: Option<String>,
    /// The region of that image, where EC2 names it.
    pub source_region: Option<String>,
}

impl Found {
    pub fn of(described: types::Image) -> Option<Self> {
        let instance = described.source_instance_id().map(str::to_owned);
        let source = described.source_image_id().map(str::to_owned);
        let source_region = described.source_image_region().map(str::to_owned);
        Some(Self { image: ec2::image(described)?, instance, source, source_region })
    }

    /// The image that it is a copy of. An image that was made from an instance is no copy.
    fn copied_from(&self) -> Option<&str> {
        self.source.as_deref().filter(|_| self.instance.is_none())
    }
}

/// What is known of the images that a build made.
#[derive(Clone)]
pub struct Evidence<'a> {
    pub mark: Mark<'a>,
    pub announced: &'a Announced,
    /// Images of the build that others are copies of.
    pub sources: Sources,
    pub machines: Machines,
}

/// The machines that images were made from, as far as EC2 still shows them.
#[derive(Clone, Debug, Default)]
pub struct Machines {
    /// Those of the build.
    pub own: BTreeSet<String>,
    pub others: BTreeSet<String>,
}

/// Announced images that others are copies of.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Those that the build made.
    pub own: BTreeSet<ImageId>,
    /// Those that EC2 does not show: Packer removes the source of copies that failed.
    pub gone: BTreeSet<ImageId>,
}

impl Sources {
    /// Of the announced sources, those that EC2 shows (`seen`) are the build's if it made them.
    pub fn of(announced: BTreeSet<ImageId>, seen: &[Found], evidence: &Evidence<'_>) -> Self {
        let own = seen.iter().filter(|found| evidence.is_own(found)).map(|found| found.image.id.clone());
        let own = own.filter(|id| announced.contains(id)).collect();
        let seen: BTreeSet<&ImageId> = seen.iter().map(|found| &found.image.id).collect();
        Self { own, gone: announced.into_iter().filter(|id| !seen.contains(id)).collect() }
    }

    fn has(&self, source: &str) -> bool {
        Self::names(&self.own, source) || Self::names(&self.gone, source)
    }

    fn names(ids: &BTreeSet<ImageId>, source: &str) -> bool {
        ids.iter().any(|id| id.as_str() == source)
    }
}

/// The announced images of the home region that the images found are copies of. Where EC2 does not name
/// the region of a source, it is the home region.
pub fn announced_sources(found: &[Found], announced: &Announced, home: &Region) -> BTreeSet<ImageId> {
    let from_home =
        |copy: &&Found| copy.source_region.as_deref().is_none_or(|region| region == home.as_str());
    let sources = found.iter().filter(from_home).filter_map(Found::copied_from);
    let is_announced =
        |id: &&str| announced.images.iter().chain(&announced.artifacts).any(|named| named == id);
    sources.filter(is_announced).filter_map(|id| ImageId::parse(id).ok()).collect()
}

impl Evidence<'_> {
    /// An image that is no result and that the build made. A template's own tags say nothing about that. An
    /// announcement alone, also as Packer's artifact, is believed of an image without any tag, which an interrupted
    /// Packer 1.6 leaves: a build decides itself what is announced, and can name images of others.
    pub fn leaves(&self, found: &Found) -> bool {
        let Found { image, .. } = found;
        let status = image.tags.get(STATUS).map(String::as_str).unwrap_or_default();
        if STATUSES.contains(&status) || image.state == ImageState::Deregistered {
            return false;
        }
        self.is_own(found)
    }

    /// Was it announced, and does nothing show that it is another's?
    fn is_bare(&self, found: &Found) -> bool {
        let mut named = self.announced.images.iter().chain(&self.announced.artifacts);
        let is_others = found.instance.as_ref().is_some_and(|id| self.machines.others.contains(id));
        let copied = found.copied_from();
        let is_copy_of_others = copied.is_some_and(|source| !self.sources.has(source));
        found.image.tags.is_empty()
            && !is_others
            && !is_copy_of_others
            && named.any(|id| *id == found.image.id.as_str())
    }

    /// Did the build make this image, result or not?
    fn is_own(&self, found: &Found) -> bool {
        let tags = &found.image.tags;
        let is_unclaimed = !tags.contains_key(BUILD) && !tags.contains_key(OWNER);
        !self.is_older(&found.image) && (self.mark.is_on(tags) || (is_unclaimed && self.made(found)))
    }

    /// Nothing that was there before the run is its own.
    fn is_older(&self, image: &Image) -> bool {
        self.mark.predates(&image.tags, image.created, self.announced.since)
    }

    /// It was made from the build's machine, or is a copy of such an image. Of a run whose start is not known that is not
    /// enough.
    fn made(&self, found: &Found) -> bool {
        let of_machine = found.instance.as_ref().is_some_and(|id| self.machines.own.contains(id));
        let copied = found.copied_from().is_some_and(|source| {
            Sources::names(&self.sources.own, source)
                || (found.image.tags.is_empty() && Sources::names(&self.sources.gone, source))
        });
        self.is_bare(found) || (self.announced.since.is_some() && (of_machine || copied))
    }

    /// Was this snapshot of an image made with it? EC2 writes into its description what it was made for.
    pub fn made_with(&self, found: &Found, snapshot: &types::Snapshot) -> bool {
        let names = [Some(found.image.id.as_str()), found.instance.as_deref(), found.copied_from()];
        let description = snapshot.description().unwrap_or_default();
        let named = names.into_iter().flatten().any(|id| description.contains(id));
        named || !self.mark.predates(&tags(snapshot.tags()), ec2::started(snapshot), self.announced.since)
    }
}

/// `packer_<uuid>`: what Packer calls its temporary key pairs and security groups.
pub fn is_packers_name(name: &str) -> bool {
    let Some(uuid) = name.strip_prefix("packer_") else {
        return false;
    };
    let parts: Vec<&str> = uuid.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && uuid.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

pub fn is_packers_group(group: &types::SecurityGroup) -> bool {
    group.group_name().is_some_and(is_packers_name) && group.description() == Some(PACKERS_GROUP)
}

/// Launched with one of Packer's temporary things, or named by Packer.
pub fn is_packers_instance(instance: &types::Instance) -> bool {
    let mut groups = instance.security_groups().iter().filter_map(|group| group.group_name());
    instance.key_name().is_some_and(is_packers_name)
        || groups.any(is_packers_name)
        || tags(instance.tags()).get("Name").is_some_and(|name| name == PACKERS_INSTANCE)
}
