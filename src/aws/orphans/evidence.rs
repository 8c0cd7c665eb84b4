//! Evidence that a build left a resource behind: its tags, what Packer announced about it, and what EC2 knows about its
//! origin. Pure.

use std::collections::BTreeSet;

use aws_sdk_ec2::types;
use jiff::{SignedDuration, Timestamp};

use super::super::ec2::{self, SKEW, filter, tags};
use super::super::{Announced, Image, ImageState, Tags};
use crate::api::tags::{ACTIVE, BUILD, DEPRECATED, OWNER, STATUS, SUPERSEDED};
use crate::api::{ImageId, Region};

/// Values of the tag `status` that only results have.
const STATUSES: [&str; 3] = [ACTIVE, DEPRECATED, SUPERSEDED];
/// The description of every security group that Packer creates for a build.
pub const PACKERS_GROUP: &str = "Temporary group for Packer";
/// The name that Packer 1.6 gives to an instance for which the template sets none.
pub const PACKERS_INSTANCE: &str = "Packer Builder";

/// The owner and the build: the two tags of an orphan.
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

    /// Returns whether something existed before the run began. The ID of a build is unique, so for what has the tags of
    /// the build, a difference between the clocks is allowed.
    pub fn predates(&self, tags: &Tags, made: Option<Timestamp>, since: Option<Timestamp>) -> bool {
        let slack = if self.is_on(tags) { SKEW } else { SignedDuration::ZERO };
        predates(made, since.map(|since| since.checked_sub(slack).unwrap_or(since)))
    }

    /// Returns whether something belongs to the build: by its tags, or because it looks like Packer's and has no tag of
    /// a build.
    pub fn covers(&self, tags: &Tags, is_packers: bool) -> bool {
        self.is_on(tags) || (is_packers && !tags.contains_key(BUILD))
    }
}

/// Returns whether something existed before the run began. EC2 reports most times in whole seconds. What has no time
/// counts as older, because a tag can be set on anything.
pub fn predates(made: Option<Timestamp>, since: Option<Timestamp>) -> bool {
    since.is_some_and(|since| made.is_none_or(|made| made.as_second() < since.as_second()))
}

/// An image, with what EC2 knows about its origin.
#[derive(Clone, Debug)]
pub struct Found {
    pub image: Image,
    /// The instance from which it was made.
    pub instance: Option<String>,
    /// The image of which it is a copy, or from which its instance was launched.
    pub source: Option<String>,
    /// The region of that image, if EC2 reports it.
    pub source_region: Option<String>,
}

impl Found {
    pub fn of(described: types::Image) -> Option<Self> {
        let instance = described.source_instance_id().map(str::to_owned);
        let source = described.source_image_id().map(str::to_owned);
        let source_region = described.source_image_region().map(str::to_owned);
        Some(Self { image: ec2::image(described)?, instance, source, source_region })
    }

    /// Returns the image of which it is a copy. An image that was made from an instance is not a copy.
    fn copied_from(&self) -> Option<&str> {
        self.source.as_deref().filter(|_| self.instance.is_none())
    }
}

/// What is known about the images that a build made.
#[derive(Clone)]
pub struct Evidence<'a> {
    pub mark: Mark<'a>,
    pub announced: &'a Announced,
    /// Images of the build of which others are copies.
    pub sources: Sources,
    pub machines: Machines,
}

/// The instances from which images were made, as far as EC2 still shows them.
#[derive(Clone, Debug, Default)]
pub struct Machines {
    /// The instances of the build.
    pub own: BTreeSet<String>,
    pub others: BTreeSet<String>,
}

/// Announced images of which others are copies.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Images that the build made.
    pub own: BTreeSet<ImageId>,
    /// Images that EC2 does not show: Packer removes the source of copies that failed.
    pub gone: BTreeSet<ImageId>,
}

impl Sources {
    /// Classifies announced sources. Those that EC2 shows (`seen`) are the build's own if it made them.
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

/// Returns the announced images in the home region of which the found images are copies. If EC2 does not report the
/// region of a source, it is the home region.
pub fn announced_sources(found: &[Found], announced: &Announced, home: &Region) -> BTreeSet<ImageId> {
    let from_home =
        |copy: &&Found| copy.source_region.as_deref().is_none_or(|region| region == home.as_str());
    let sources = found.iter().filter(from_home).filter_map(Found::copied_from);
    let is_announced =
        |id: &&str| announced.images.iter().chain(&announced.artifacts).any(|named| named == id);
    sources.filter(is_announced).filter_map(|id| ImageId::parse(id).ok()).collect()
}

impl Evidence<'_> {
    /// Returns whether the build made an image that is not a result. The tags that a template sets say nothing about
    /// that. An announcement alone, even as an artifact of Packer, is accepted only for an image without any tag, which
    /// an interrupted Packer 1.6 leaves: a build decides itself what it announces, and can name images of others.
    pub fn is_orphan(&self, found: &Found) -> bool {
        let Found { image, .. } = found;
        let status = image.tags.get(STATUS).map(String::as_str).unwrap_or_default();
        if STATUSES.contains(&status) || image.state == ImageState::Deregistered {
            return false;
        }
        self.is_own(found)
    }

    /// Returns whether the image has no tags and was announced, and nothing shows that it belongs to another build.
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

    /// Returns whether the build made this image, result or not.
    fn is_own(&self, found: &Found) -> bool {
        let tags = &found.image.tags;
        let is_unclaimed = !tags.contains_key(BUILD) && !tags.contains_key(OWNER);
        !self.is_older(&found.image) && (self.mark.is_on(tags) || (is_unclaimed && self.made(found)))
    }

    /// Returns whether the image existed before the run. Such an image does not belong to it.
    fn is_older(&self, image: &Image) -> bool {
        self.mark.predates(&image.tags, image.created, self.announced.since)
    }

    /// Returns whether an image without the build's tags was made by the build: it was announced and nothing
    /// contradicts that, or it was made from the build's instance, or it is a copy of such an image. The last two do
    /// not count if the start of the run is not known.
    fn made(&self, found: &Found) -> bool {
        let of_machine = found.instance.as_ref().is_some_and(|id| self.machines.own.contains(id));
        let copied = found.copied_from().is_some_and(|source| {
            Sources::names(&self.sources.own, source)
                || (found.image.tags.is_empty() && Sources::names(&self.sources.gone, source))
        });
        self.is_bare(found) || (self.announced.since.is_some() && (of_machine || copied))
    }

    /// Returns whether a snapshot was created with an image. EC2 writes into its description what it was created for.
    pub fn made_with(&self, found: &Found, snapshot: &types::Snapshot) -> bool {
        let names = [Some(found.image.id.as_str()), found.instance.as_deref(), found.copied_from()];
        let description = snapshot.description().unwrap_or_default();
        let named = names.into_iter().flatten().any(|id| description.contains(id));
        named || !self.mark.predates(&tags(snapshot.tags()), ec2::started(snapshot), self.announced.since)
    }
}

/// Returns whether this is a name that Packer gives to temporary key pairs and security groups: `packer_<uuid>`.
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

/// Returns whether an instance was launched with a temporary resource of Packer, or was named by Packer.
pub fn is_packers_instance(instance: &types::Instance) -> bool {
    let mut groups = instance.security_groups().iter().filter_map(|group| group.group_name());
    instance.key_name().is_some_and(is_packers_name)
        || groups.any(is_packers_name)
        || tags(instance.tags()).get("Name").is_some_and(|name| name == PACKERS_INSTANCE)
}
