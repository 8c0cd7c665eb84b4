//! May an active image count? Pure; part of `images`.
//!
//! Anyone who may set tags can make an image look like a builder's. Only what a run of this agent recorded counts, and,
//! while the status names no image, what carries every tag of a promotion: it is adopted.

use jiff::Timestamp;

use super::history;
use super::images::{self, Active, Located, Subject};
use crate::api::builder::{PackerBuilderStatus, RunRecord};
use crate::api::{BuildId, RunName};

/// How an active image came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The status or the history of the builder names it.
    Recorded,
    /// The status names no image yet, and this one has the tags of one that was promoted.
    Adopted,
    /// Its build came to nothing, or was not promoted: the template set the tag `status`.
    NotPromoted,
    /// It looks promoted, but nothing of this agent names it.
    Unrecorded,
}

impl Origin {
    pub fn counts(self) -> bool {
        matches!(self, Self::Recorded | Self::Adopted)
    }
}

/// How an image with this builder's tags came to be known.
pub fn origin(subject: &Subject, image: &Located, status: &PackerBuilderStatus) -> Origin {
    let id = image.image.id.as_str();
    let history = status.history.as_deref().unwrap_or_default();
    let named = status.images.iter().flatten().any(|named| named.id == id)
        || status.last_run_built_image_id.as_deref() == Some(id)
        || history.iter().any(|run| run.images.iter().flatten().any(|made| made == id));
    if named {
        return Origin::Recorded;
    }
    let of_build = |run: &&RunRecord| image.tag(images::BUILD) == Some(run.id.as_str());
    if history.iter().find(of_build).is_some_and(came_to_nothing) || !looks_promoted(subject, image) {
        return Origin::NotPromoted;
    }
    let is_empty = status.images.iter().flatten().next().is_none();
    if is_empty { Origin::Adopted } else { Origin::Unrecorded }
}

fn came_to_nothing(run: &RunRecord) -> bool {
    !matches!(run.result.as_str(), history::SUCCEEDED | history::SUPERSEDED)
}

/// Has it the tag that only a promotion gives? Images of the operator have none of ours.
fn looks_promoted(subject: &Subject, image: &Located) -> bool {
    let job = |build: &str| Some(RunName::of(&subject.key.name, &BuildId::parse(build).ok()?));
    match image.tag(images::BUILD) {
        Some(build) => job(build).is_some_and(|job| image.tag(images::JOB) == Some(job.as_str())),
        None => image.tag(images::OWNER).is_none(),
    }
}

/// Active images that nothing recorded and that are newer than all that is recorded: a status that was lost in part
/// would look the same, so nothing is built in their place.
pub fn unrecorded<'a>(active: &[Active<'a>], status: &PackerBuilderStatus) -> Vec<&'a Located> {
    let runs = status.history.iter().flatten().filter_map(|run| run.ended_at.max(run.started_at));
    let since = status.images.iter().flatten().filter_map(|image| image.since);
    let recorded: Option<Timestamp> = runs.chain(since).max();
    let unrecorded = active.iter().filter(|active| active.origin == Origin::Unrecorded);
    let newer = |image: &&Located| image.is_available() && image.image.created > recorded;
    unrecorded.map(|active| active.image).filter(newer).collect()
}
