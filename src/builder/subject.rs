//! Which images belong to a builder. Pure.
//!
//! An image belongs to a builder if its tags name the agent's owner and the builder. An image of the operator has
//! neither tag. It is adopted if it has the builder's cluster and either status names it as last built, or it comes
//! from the same template repository and its `created-by` names this builder.

use std::time::Duration;

use jiff::Timestamp;

use super::located::{self, Located};
use crate::api::builder::{InputsRecord, PackerBuilderStatus};
use crate::api::checks::plain_url;
use crate::api::tags::{ACTIVE, BASE, BUILDER, CLUSTER, CREATED_BY, OWNER, REPO, STATUS};
use crate::api::{Key, Owner, time};
use crate::aws::Image;

/// For this long, EC2 may show an image without the tags that were just set.
const TAGS_APPEAR_WITHIN: Duration = Duration::from_secs(5 * 60);

/// The identity of a builder in tags. It is known even while the spec is invalid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub key: Key,
    pub owner: Owner,
    pub cluster: Option<String>,
    /// Repository and branch of the template, without credentials.
    pub repo: String,
    pub branch: String,
}

/// What an image of the builder was built from. Adoption is a variant, not a missing value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuiltFrom {
    Inputs(InputsRecord),
    Operator { base: Option<String> },
}

impl Subject {
    /// Returns whether the image can belong to this builder. Lists contain the images of all builders.
    pub fn may_own(&self, image: &Image) -> bool {
        let tag = |name: &str| image.tags.get(name);
        tag(BUILDER).is_some_and(|builder| *builder == self.key.to_string())
            || (tag(BUILDER).is_none() && self.cluster.is_some() && tag(CLUSTER) == self.cluster.as_ref())
    }

    /// Returns what the image was built from if it belongs to this builder or is adopted by it.
    pub fn built_from(&self, image: &Located, status: &PackerBuilderStatus) -> Option<BuiltFrom> {
        match image.tag(OWNER) {
            Some(owner) if owner == self.owner.as_str() => (image.tag(BUILDER)? == self.key.to_string())
                .then(|| BuiltFrom::Inputs(located::recorded(image))),
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

    /// Returns the recorded inputs of an image that status has named only recently and that EC2 shows without the tag
    /// `status`: new tags appear late. A missing tag is not a changed tag.
    pub fn recently_recorded(
        &self,
        image: &Located,
        status: &PackerBuilderStatus,
        now: Timestamp,
    ) -> Option<BuiltFrom> {
        let is_ours = image.tag(OWNER).is_none_or(|owner| owner == self.owner.as_str());
        let named = status.images.iter().flatten().find(|named| named.id == image.image.id.as_str())?;
        let recently = time::between(named.since?, now) < TAGS_APPEAR_WITHIN;
        (is_ours && recently && image.tag(STATUS).is_none())
            .then(|| BuiltFrom::Inputs(status.inputs.clone().unwrap_or_default()))
    }

    /// Returns whether an image that status names does not count because a tag is missing or names another owner. If
    /// its tag `status` has another value, the image was deprecated, by this agent or by a person.
    pub fn lacks_tags(&self, image: &Located, status: &PackerBuilderStatus, now: Timestamp) -> bool {
        match image.tag(STATUS) {
            Some(word) => word == ACTIVE && self.built_from(image, status).is_none(),
            None => self.recently_recorded(image, status, now).is_none(),
        }
    }

    /// Returns the owner of an image that would count if it belonged to this agent.
    pub fn foreign_owner<'a>(&self, image: &'a Located) -> Option<&'a str> {
        let other = image.tag(OWNER).filter(|owner| *owner != self.owner.as_str())?;
        let would_count = image.is_active()
            && image.tag(BUILDER) == Some(self.key.to_string().as_str())
            && image.tag(CLUSTER) == self.cluster.as_deref();
        would_count.then_some(other)
    }
}
