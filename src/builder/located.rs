//! An image of EC2 with its region and lane, and what its tags record. Pure.

use jiff::Timestamp;

use crate::api::builder::{InputsRecord, LaneImage};
use crate::api::tags::{self, ACTIVE, BUILD, BUILD_ID, STATUS};
use crate::api::{ImageId, Region};
use crate::aws::{Image, ImageState};

/// The scope of one active image. Demotion and lookups never cross lanes.
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

    /// Returns when the image was built, by the operator's tag or else by EC2's date. Its age is counted from then.
    pub fn built_at(&self) -> Option<Timestamp> {
        tags::created(&self.image.tags, self.image.created)
    }

    /// Returns the build ID, set by Opsy or by the operator.
    pub fn build(&self) -> Option<&str> {
        self.tag(BUILD).or_else(|| self.tag(BUILD_ID))
    }

    /// The sort key by age. EC2's date decides which of two images is newer, as for every other reader of images.
    pub fn age_order(&self) -> (Option<Timestamp>, &ImageId) {
        (self.image.created, &self.image.id)
    }

    /// Returns the IDs of the image and of its snapshots, which have the same tags.
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
            previous: None,
        }
    }
}

/// Returns the lanes in the order in which they are shown: those of the builder's own region first.
pub fn home_first(lanes: impl IntoIterator<Item = Lane>, home: &Region) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = lanes.into_iter().collect();
    lanes.sort_by_key(|lane| (lane.region != *home, lane.clone()));
    lanes
}

/// Returns the inputs that the tags of an image record.
pub fn recorded(image: &Located) -> InputsRecord {
    let tag = |name: &str| image.tag(name).map(str::to_owned);
    InputsRecord {
        base_ami: requested_base(image).map(str::to_owned),
        template: tag(tags::TEMPLATE),
        spec: tag(tags::SPEC),
    }
}

/// Returns the base image that was requested when an image was built. If the image was made from another one, an
/// additional tag names the requested one.
pub fn requested_base(image: &Located) -> Option<&str> {
    let is_id = |base: &&str| base.starts_with("ami-");
    image.tag(tags::BASE_ASKED).or_else(|| image.tag(tags::BASE)).filter(is_id)
}
