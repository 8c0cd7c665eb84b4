//! Whose image is it, which lane is it in, which one counts. Pure.
//!
//! An image is a builder's own when it carries our owner and the builder's key. An image of the
//! operator carries neither: it is adopted where its cluster is ours and either status names it as
//! last built or it comes from the same template repository.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::inputs;
use crate::api::builder::{InputsRecord, LaneImage, PackerBuilderStatus};
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
pub const CREATED_BY: (&str, &str) = ("created-by", "opsy");
pub const OWNER: &str = "opsy.dev/owner";
pub const BUILDER: &str = "opsy.dev/builder";
pub const TEMPLATE: &str = "opsy.dev/template";
pub const SPEC: &str = "opsy.dev/spec";
pub const COMMIT: &str = "opsy.dev/commit";
pub const BUILD: &str = "opsy.dev/build";

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
        let same_repo = image.tag(REPO).is_some_and(|repo| plain(repo) == plain(&self.repo));
        image.tag(BUILDER).is_none()
            && self.cluster.is_some()
            && image.tag(CLUSTER) == self.cluster.as_deref()
            && (named || same_repo)
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

/// An address without scheme, user, `.git` and closing slash: the same repository, however written.
fn plain(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    let rest = rest.trim_end_matches('/');
    rest.strip_suffix(".git").unwrap_or(rest).replacen(':', "/", 1).to_lowercase()
}

/// The images of this builder that carry `status=active`, newest first.
pub fn active<'a>(
    images: &'a [Located],
    subject: &Subject,
    status: &PackerBuilderStatus,
) -> Vec<(&'a Located, BuiltFrom)> {
    let mut active: Vec<(&Located, BuiltFrom)> = images
        .iter()
        .filter(|image| image.is_active())
        .filter_map(|image| Some((image, subject.built_from(image, status)?)))
        .collect();
    active.sort_by(|(a, _), (b, _)| b.age_order().cmp(&a.age_order()));
    active
}

/// The one that counts in a lane: the newest active image that can be launched.
pub fn current<'a, 'b>(
    active: &'b [(&'a Located, BuiltFrom)],
    lane: &Lane,
) -> Option<&'b (&'a Located, BuiltFrom)> {
    active.iter().find(|(image, _)| image.lane() == *lane && image.is_available())
}

/// Active images beside the one that counts. None while none counts: the last one is never demoted.
pub fn surplus<'a>(active: &[(&'a Located, BuiltFrom)], lane: &Lane) -> Vec<&'a Located> {
    let Some((keep, _)) = current(active, lane) else {
        return Vec::new();
    };
    active
        .iter()
        .map(|(image, _)| *image)
        .filter(|image| image.lane() == *lane && image.image.id != keep.image.id)
        .collect()
}

/// The lanes a builder answers for: those status names; where it names none (a lost status, an
/// adoption), those of the newest active image's build.
pub fn lanes(
    status: &PackerBuilderStatus,
    active: &[(&Located, BuiltFrom)],
    home: Option<&Region>,
) -> BTreeSet<Lane> {
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
    let here = |image: &&(&Located, BuiltFrom)| home.is_none_or(|home| image.0.region == *home);
    let Some((newest, _)) = active.iter().find(here) else {
        return BTreeSet::new();
    };
    let together = |image: &Located| {
        image.image.id == newest.image.id || (newest.build().is_some() && image.build() == newest.build())
    };
    active.iter().filter(|(image, _)| together(image)).map(|(image, _)| image.lane()).collect()
}
