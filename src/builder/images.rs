//! Whose image is it, which lane is it in, which one counts. Pure.
//!
//! An image is a builder's own when it carries our owner and the builder's key. An image of the
//! operator carries neither: it is adopted where its cluster is ours and either status names it as
//! last built, or it comes from the same template repository and its `created-by` is this builder.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::trust::{self, Origin};
use super::{inputs, time};
use crate::api::builder::{InputsRecord, LaneImage, PackerBuilderStatus};
use crate::api::checks::plain_url;
use crate::api::{ImageId, Key, Owner, Region};
use crate::aws::{Image, ImageState};

pub const STATUS: &str = "status";
pub const ACTIVE: &str = "active";
pub const DEPRECATED: &str = "deprecated";
pub const SUPERSEDED: &str = "superseded";
pub const CLUSTER: &str = "cluster-name";
pub const REPO: &str = "packer-repo";
pub const REPO_BRANCH: &str = "packer-repo-branch";
pub const BASE: &str = "base-ami";
pub const JOB: &str = "job-id";
pub const BUILD_ID: &str = "build-id";
pub const CREATED: &str = "create-timestamp";
/// Name of the builder: by it the operator tells the images of its builders apart.
pub const CREATED_BY: &str = "created-by";
pub const OWNER: &str = "opsy.dev/owner";
pub const BUILDER: &str = "opsy.dev/builder";
pub const TEMPLATE: &str = "opsy.dev/template";
pub const SPEC: &str = "opsy.dev/spec";
pub const COMMIT: &str = "opsy.dev/commit";
pub const BUILD: &str = "opsy.dev/build";
/// The base image that was asked for, on images that were made from another one.
pub const BASE_ASKED: &str = "opsy.dev/base";

/// EC2 may show an image without the tags it has just been given.
const TAGS_APPEAR_WITHIN: Duration = Duration::from_secs(5 * 60);

/// Who the builder is, as far as tags tell: known even while its spec is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub key: Key,
    pub owner: Owner,
    pub cluster: Option<String>,
    /// Repository and branch of the template, without credentials.
    pub repo: String,
    pub branch: String,
}

/// An image of a builder that carries `status=active`, or did a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active<'a> {
    pub image: &'a Located,
    pub from: BuiltFrom,
    pub origin: Origin,
}

/// Where one active image is kept: demotion and look-ups never cross lanes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane {
    pub region: Region,
    pub architecture: String,
}

/// An image and its region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub region: Region,
    pub image: Image,
}

/// What an image of ours was built from; adoption is a variant, not a missing value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuiltFrom {
    Inputs(InputsRecord),
    Operator { base: Option<String> },
}

impl Located {
    pub fn tag(&self, name: &str) -> Option<&str> {
        self.image.tags.get(name).map(String::as_str)
    }

    pub fn lane(&self) -> Lane {
        Lane { region: self.region.clone(), architecture: self.image.architecture.clone() }
    }

    pub fn is_active(&self) -> bool {
        self.tag(STATUS) == Some(ACTIVE)
    }

    pub fn is_available(&self) -> bool {
        self.image.state == ImageState::Available
    }

    /// Age counts from the operator's tag, else from EC2's date.
    pub fn built_at(&self) -> Option<Timestamp> {
        self.tag(CREATED).and_then(|text| text.parse().ok()).or(self.image.created)
    }

    /// Build id, ours or the operator's.
    pub fn build(&self) -> Option<&str> {
        self.tag(BUILD).or_else(|| self.tag(BUILD_ID))
    }

    /// EC2's date decides which of two is newer, as for every other reader of images.
    fn age_order(&self) -> (Option<Timestamp>, &ImageId) {
        (self.image.created, &self.image.id)
    }

    /// The image and its snapshots, which carry the same tags.
    pub fn resources(&self) -> impl Iterator<Item = String> + '_ {
        std::iter::once(self.image.id.to_string()).chain(self.image.snapshots.iter().cloned())
    }

    pub fn record(&self) -> LaneImage {
        LaneImage {
            region: self.region.to_string(),
            architecture: self.image.architecture.clone(),
            id: self.image.id.to_string(),
            name: Some(self.image.name.clone()),
            since: None,
            gone: None,
        }
    }
}

impl Subject {
    /// May the image matter to this builder at all? Lists hold every builder's images.
    pub fn concerned(&self, image: &Image) -> bool {
        let tag = |name: &str| image.tags.get(name);
        tag(BUILDER).is_some_and(|builder| *builder == self.key.to_string())
            || (tag(BUILDER).is_none() && self.cluster.is_some() && tag(CLUSTER) == self.cluster.as_ref())
    }

    /// What the image was built from if it is this builder's, adopted ones included.
    pub fn built_from(&self, image: &Located, status: &PackerBuilderStatus) -> Option<BuiltFrom> {
        match image.tag(OWNER) {
            Some(owner) if owner == self.owner.as_str() => (image.tag(BUILDER)? == self.key.to_string())
                .then(|| BuiltFrom::Inputs(inputs::recorded(image))),
            Some(_) => None,
            None => self
                .adopts(image, status)
                .then(|| BuiltFrom::Operator { base: image.tag(BASE).map(str::to_owned) }),
        }
    }

    fn adopts(&self, image: &Located, status: &PackerBuilderStatus) -> bool {
        let named = status.last_run_built_image_id.as_deref() == Some(image.image.id.as_str());
        let same_repo = image.tag(REPO).is_some_and(|repo| plain_url(repo) == plain_url(&self.repo));
        let made_by_it = image.tag(CREATED_BY) == Some(self.key.name.as_str());
        image.tag(BUILDER).is_none()
            && self.cluster.is_some()
            && image.tag(CLUSTER) == self.cluster.as_deref()
            && (named || (same_repo && made_by_it))
    }

    /// The active image that status names, shown without its tags: EC2 shows what was just written late. A
    /// missing tag is no change of a tag.
    fn just_recorded(
        &self,
        image: &Located,
        status: &PackerBuilderStatus,
        now: Timestamp,
    ) -> Option<BuiltFrom> {
        let is_ours = image.tag(OWNER).is_none_or(|owner| owner == self.owner.as_str());
        let named = status.images.iter().flatten().find(|named| named.id == image.image.id.as_str())?;
        let recently = time::since(now, named.since?) < TAGS_APPEAR_WITHIN;
        (is_ours && recently && image.tag(STATUS).is_none())
            .then(|| BuiltFrom::Inputs(status.inputs.clone().unwrap_or_default()))
    }

    /// Does an image that status names not count for want of a tag, or for another owner's? One whose tag `status`
    /// has another word was deprecated, by this agent or by a person.
    pub fn lacks_tags(&self, image: &Located, status: &PackerBuilderStatus, now: Timestamp) -> bool {
        match image.tag(STATUS) {
            Some(word) => word == ACTIVE && self.built_from(image, status).is_none(),
            None => self.just_recorded(image, status, now).is_none(),
        }
    }

    /// An image that would count if it were not another owner's: that owner.
    pub fn foreign_owner<'a>(&self, image: &'a Located) -> Option<&'a str> {
        let other = image.tag(OWNER).filter(|owner| *owner != self.owner.as_str())?;
        let would_count = image.is_active()
            && image.tag(BUILDER) == Some(self.key.to_string().as_str())
            && image.tag(CLUSTER) == self.cluster.as_deref();
        would_count.then_some(other)
    }
}

/// The images of this builder that carry `status=active`, newest first. Not all of them count: see `trust`.
pub fn active<'a>(
    images: &'a [Located],
    subject: &Subject,
    status: &PackerBuilderStatus,
    now: Timestamp,
) -> Vec<Active<'a>> {
    let from = |image: &Located| match image.is_active() {
        true => subject.built_from(image, status),
        false => subject.just_recorded(image, status, now),
    };
    let origin = |image: &Located| trust::origin(subject, image, status);
    let mut active: Vec<Active<'_>> = images
        .iter()
        .filter_map(|image| Some(Active { image, from: from(image)?, origin: origin(image) }))
        .collect();
    active.sort_by(|a, b| b.image.age_order().cmp(&a.image.age_order()));
    active
}

/// The one that counts in a lane: the newest recorded image that can be launched.
pub fn current<'a, 'b>(active: &'b [Active<'a>], lane: &Lane) -> Option<&'b Active<'a>> {
    active.iter().find(|active| active.counts_in(lane))
}

/// Active images beside the one that counts. None while none counts: the last one is never demoted.
pub fn surplus<'a, 'b>(active: &'b [Active<'a>], lane: &Lane) -> Vec<&'b Active<'a>> {
    let Some(keep) = current(active, lane) else {
        return Vec::new();
    };
    let others = active.iter().filter(|other| other.image.lane() == *lane);
    let others = others.filter(|other| other.image.image.id != keep.image.image.id);
    others.filter(|other| other.may_be_demoted_for(keep)).collect()
}

/// Active images in lanes that are not among these.
pub fn elsewhere<'a, 'b>(active: &'b [Active<'a>], lanes: &BTreeSet<Lane>) -> Vec<&'b Active<'a>> {
    let newest = active.iter().find(|active| active.origin.counts());
    let others = active.iter().filter(|other| !lanes.contains(&other.image.lane()));
    others.filter(|other| newest.is_some_and(|newest| other.may_be_demoted_for(newest))).collect()
}

impl Active<'_> {
    fn counts_in(&self, lane: &Lane) -> bool {
        self.origin.counts() && self.image.lane() == *lane && self.image.is_available()
    }

    /// One that nothing recorded and that is newer may be what a lost status named: it stays as it is.
    fn may_be_demoted_for(&self, newest: &Self) -> bool {
        self.origin != Origin::Unrecorded || self.image.age_order() < newest.image.age_order()
    }
}

/// The lanes in the order people read them: those of the builder's own region first.
pub fn home_first(lanes: impl IntoIterator<Item = Lane>, home: &Region) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = lanes.into_iter().collect();
    lanes.sort_by_key(|lane| (lane.region != *home, lane.clone()));
    lanes
}

/// The lanes a builder answers for: those status names; where it names none (a lost status, an
/// adoption), those of the newest active image's build.
pub fn lanes(status: &PackerBuilderStatus, active: &[Active<'_>], home: Option<&Region>) -> BTreeSet<Lane> {
    let recorded: BTreeSet<Lane> = status
        .images
        .iter()
        .flatten()
        .filter_map(|image| {
            let region = Region::parse(image.region.as_str()).ok()?;
            Some(Lane { region, architecture: image.architecture.clone() })
        })
        .collect();
    // A builder that moved to another region has no lane yet: what is elsewhere does not count.
    if recorded.iter().any(|lane| home.is_none_or(|home| lane.region == *home)) {
        return recorded;
    }
    let known = || active.iter().filter(|active| active.origin.counts()).map(|active| active.image);
    let Some(newest) = known().find(|image| home.is_none_or(|home| image.region == *home)) else {
        return BTreeSet::new();
    };
    let together = |image: &Located| {
        image.image.id == newest.image.id || (newest.build().is_some() && image.build() == newest.build())
    };
    known().filter(|image| together(image)).map(Located::lane).collect()
}
