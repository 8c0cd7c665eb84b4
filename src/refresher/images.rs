//! What the facts and tags of one image mean: who built it, its state in words, and whether it is eligible as a target.
//! Used by `choose` and `fit`. Pure.

use jiff::Timestamp;

use super::held::FailedImages;
use super::spec::Spec;
use crate::api::{Key, tags, time};
use crate::aws::{Image, ImageState};

/// For an image that EC2 does not return. EC2 does not tell these two cases apart.
pub const NOT_FOUND: &str = "no longer exists or is no longer shared with this account";

/// What makes an image eligible as a target.
#[derive(Clone, Copy)]
pub struct Eligibility<'a> {
    pub spec: &'a Spec,
    pub failed: &'a FailedImages,
    /// If false, images that are held are eligible, too.
    pub holds: bool,
    pub now: Timestamp,
}

impl Eligibility<'_> {
    /// Whether an image is eligible; the error is the reason why it is not.
    pub fn check(self, image: &Image) -> Result<(), String> {
        check_facts(self.spec, image, self.now)?;
        if !self.holds {
            return Ok(());
        }
        if let Some(held) = self.spec.held.iter().find(|held| held.image == image.id) {
            return Err(held.to_string());
        }
        self.failed.holds(image).map_or(Ok(()), Err)
    }
}

fn check_facts(spec: &Spec, image: &Image, now: Timestamp) -> Result<(), String> {
    if image.state != ImageState::Available {
        return Err(format!("{} is {}", image.id, image.state_and_reason()));
    }
    if image.deprecated.is_some_and(|at| at <= now) {
        return Err(format!("{} is deprecated", image.id));
    }
    // Other accounts cannot see tags, so the tag is required only on an image that has those of Opsy.
    if tags::is_built_by_opsy(&image.tags) && !tags::is_active(&image.tags) {
        let status = image.tags.get(tags::STATUS).map_or("(none)", String::as_str);
        return Err(format!("{} has tag status={status}, not active", image.id));
    }
    // The tag first: it survives a copy of the image, EC2's date does not.
    match (spec.expires_in, tags::created(&image.tags, image.created)) {
        (Some(limit), Some(created)) if time::between(created, now) > limit => {
            Err(format!("{} is older than expiresIn", image.id))
        }
        (Some(_), None) => Err(format!("the age of {} is unknown", image.id)),
        _ => Ok(()),
    }
}

/// The builder that the tags of an image name: `opsy.dev/builder`, or `created-by` on an image of the operator, whose
/// builder is then assumed to be in the namespace of the refresher.
pub fn builder_of(spec: &Spec, image: &Image) -> Option<Key> {
    if let Some(builder) = image.tags.get(tags::BUILDER) {
        let (namespace, name) = builder.split_once('/')?;
        return Some(Key { namespace: namespace.to_owned(), name: name.to_owned() });
    }
    let name = image.tags.get(tags::CREATED_BY)?.clone();
    Some(Key { namespace: spec.key.namespace.clone(), name })
}
