//! The active images of a builder, and which one counts in each lane. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::located::{Lane, Located};
use super::subject::{BuiltFrom, Subject};
use super::trust::{self, Origin};
use crate::api::Region;
use crate::api::builder::PackerBuilderStatus;

/// An image of a builder that has the tag `status=active`, or that was given it a moment ago.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Active<'a> {
    pub image: &'a Located,
    pub from: BuiltFrom,
    pub origin: Origin,
}

/// Returns the images of this builder with the tag `status=active`, newest first. Not all of them count: see `trust`.
pub fn active<'a>(
    images: &'a [Located],
    subject: &Subject,
    status: &PackerBuilderStatus,
    now: Timestamp,
) -> Vec<Active<'a>> {
    let from = |image: &Located| match image.is_active() {
        true => subject.built_from(image, status),
        false => subject.recently_recorded(image, status, now),
    };
    let origin = |image: &Located| trust::origin(subject, image, status);
    let mut active: Vec<Active<'_>> = images
        .iter()
        .filter_map(|image| Some(Active { image, from: from(image)?, origin: origin(image) }))
        .collect();
    active.sort_by(|a, b| b.image.age_order().cmp(&a.image.age_order()));
    active
}

/// Returns the image that counts in a lane: the newest recorded or adopted one that can be launched.
pub fn current<'a, 'b>(active: &'b [Active<'a>], lane: &Lane) -> Option<&'b Active<'a>> {
    active.iter().find(|active| active.counts_in(lane))
}

/// Returns the active images of a lane other than the one that counts. Empty if none counts: the last active image of a
/// lane is never demoted.
pub fn surplus<'a, 'b>(active: &'b [Active<'a>], lane: &Lane) -> Vec<&'b Active<'a>> {
    let Some(counting) = current(active, lane) else {
        return Vec::new();
    };
    let others = active.iter().filter(|other| other.image.lane() == *lane);
    let others = others.filter(|other| other.image.image.id != counting.image.image.id);
    others.filter(|other| other.may_be_demoted_for(counting)).collect()
}

/// Returns the active images in lanes other than these.
pub fn elsewhere<'a, 'b>(active: &'b [Active<'a>], lanes: &BTreeSet<Lane>) -> Vec<&'b Active<'a>> {
    let newest = active.iter().find(|active| active.origin.counts());
    let others = active.iter().filter(|other| !lanes.contains(&other.image.lane()));
    others.filter(|other| newest.is_some_and(|newest| other.may_be_demoted_for(newest))).collect()
}

impl Active<'_> {
    fn counts_in(&self, lane: &Lane) -> bool {
        self.origin.counts() && self.image.lane() == *lane && self.image.is_available()
    }

    /// An unrecorded image that is newer may be one that a lost status named, so it is not demoted.
    fn may_be_demoted_for(&self, newest: &Self) -> bool {
        self.origin != Origin::Unrecorded || self.image.age_order() < newest.image.age_order()
    }
}

/// Returns the lanes for which the builder must have an image: those that status names. If it names none (a lost
/// status, an adoption), they are the lanes of the build that made the newest active image.
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
    // A builder whose region was changed has no lane there yet, and its images in other regions do not count.
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

/// Returns active images that no run recorded and that are newer than everything recorded. A status of which a part was
/// lost would look the same, so nothing is built in their place.
pub fn unrecorded<'a>(active: &[Active<'a>], status: &PackerBuilderStatus) -> Vec<&'a Located> {
    let runs = status.history.iter().flatten().filter_map(|run| run.ended_at.max(run.started_at));
    let since = status.images.iter().flatten().filter_map(|image| image.since);
    let recorded: Option<Timestamp> = runs.chain(since).max();
    let unrecorded = active.iter().filter(|active| active.origin == Origin::Unrecorded);
    let newer = |image: &&Located| image.is_available() && image.image.created > recorded;
    unrecorded.map(|active| active.image).filter(newer).collect()
}
