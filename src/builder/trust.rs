//! Whether an active image may count. Pure; part of `active`.
//!
//! Anyone who may set tags can make an image look like a builder's. Therefore an image counts only if a run of this
//! agent recorded it. While status names no image, an image that has every tag of a promotion is adopted.

use super::history;
use super::located::Located;
use super::subject::Subject;
use crate::api::builder::{PackerBuilderStatus, RunRecord};
use crate::api::tags;
use crate::api::words::RunResult;
use crate::api::{BuildId, RunName};

/// Where an active image comes from, as far as the agent knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Status or its history names it.
    Recorded,
    /// Status names no image yet, and this one has the tags of a promotion.
    Adopted,
    /// Its build failed or was not promoted: the template set the tag `status`.
    NotPromoted,
    /// It has the tags of a promotion, but no record of this agent names it.
    Unrecorded,
}

impl Origin {
    /// Returns whether the image may be the one that counts in its lane.
    pub fn counts(self) -> bool {
        matches!(self, Self::Recorded | Self::Adopted)
    }
}

/// Returns where an image with this builder's tags comes from.
pub fn origin(subject: &Subject, image: &Located, status: &PackerBuilderStatus) -> Origin {
    let id = image.image.id.as_str();
    let history = status.history.as_deref().unwrap_or_default();
    let named = status.images.iter().flatten().any(|named| named.id == id)
        || status.last_run_built_image_id.as_deref() == Some(id)
        || history.iter().any(|run| run.images.iter().flatten().any(|made| made == id));
    if named {
        return Origin::Recorded;
    }
    let of_build = |run: &&RunRecord| image.tag(tags::BUILD) == Some(run.id.as_str());
    if history.iter().find(of_build).is_some_and(has_no_result) || !has_promotion_tags(subject, image) {
        return Origin::NotPromoted;
    }
    let is_empty = status.images.iter().flatten().next().is_none();
    if is_empty { Origin::Adopted } else { Origin::Unrecorded }
}

fn has_no_result(run: &RunRecord) -> bool {
    !matches!(history::result(run), Some(RunResult::Succeeded | RunResult::Superseded))
}

/// Returns whether the image has the tag that only a promotion sets. Images of the operator have no tag of Opsy.
fn has_promotion_tags(subject: &Subject, image: &Located) -> bool {
    let job = |build: &str| Some(RunName::of(&subject.key.name, &BuildId::parse(build).ok()?));
    match image.tag(tags::BUILD) {
        Some(build) => job(build).is_some_and(|job| image.tag(tags::JOB) == Some(job.as_str())),
        None => image.tag(tags::OWNER).is_none(),
    }
}
