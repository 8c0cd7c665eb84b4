//! An image as EC2 reports it: what EC2 itself records, and apart from it what the tags of the image name. Anyone who may
//! tag the image can write the tags. Pure.

use jiff::Timestamp;
use serde::Serialize;

use super::commit::{self, Message};
use crate::api::tags::{self, Tags};
use crate::api::{BuildId, CommitId, ImageId, Kind, Region};
use crate::aws::Image;
use crate::cli::outline::Outline;

/// Begins each line that comes from tags, since they prove nothing.
const BY_TAGS: &str = "according to its tags: ";

/// An image in EC2.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Registered {
    pub region: String,
    pub name: String,
    /// The account that owns the image.
    pub account: String,
    pub state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deprecated_from: Option<Timestamp>,
    /// The image of the instance from which it was made, or the image of which it is a copy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_image: Option<ImageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_tags: Option<ByTags>,
}

/// What the tags of an image name. A tag without a valid value counts as absent.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ByTags {
    pub builder: String,
    /// The agent, by its owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<CommitId>,
    /// Author and subject of this commit.
    #[serde(flatten)]
    pub message: Option<Message>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_image: Option<ImageId>,
}

impl Registered {
    pub fn new(region: &Region, image: &Image) -> Self {
        Self {
            region: region.to_string(),
            name: image.name.clone(),
            account: image.owner_id.clone(),
            state: image.state_and_reason(),
            created: image.created,
            deprecated_from: image.deprecated,
            source_image: image.source.clone(),
            by_tags: ByTags::new(&image.tags),
        }
    }

    /// What EC2 itself records about the image.
    pub fn line(&self) -> String {
        let Self { region, name, account, state, .. } = self;
        let created = self.created.map_or(String::new(), |at| format!("  created {at}"));
        let deprecated = self.deprecated_from.map_or(String::new(), |at| format!("  deprecated from {at}"));
        let source = self.source_image.as_ref().map_or(String::new(), |id| format!("  made from {id}"));
        format!("EC2: {name}  {region}  account {account}  {state}{created}{deprecated}{source}")
    }
}

impl ByTags {
    /// Reads the tags of Opsy and of the operator. Returns `None` if they name no builder.
    fn new(tags: &Tags) -> Option<Self> {
        let tag = |name: &str| tags.get(name).filter(|value| !value.is_empty()).cloned();
        // Other tools use this name, too.
        let of_operator = || tag(tags::CREATED_BY).filter(|_| tags::is_built_by_opsy(tags));
        let builder = tag(tags::BUILDER).or_else(of_operator)?;
        let build = tag(tags::BUILD).filter(|build| BuildId::parse(build.as_str()).is_ok());
        Some(Self {
            builder: format!("{}/{builder}", Kind::PackerBuilder),
            owner: tag(tags::OWNER),
            status: tag(tags::STATUS),
            build: build.or_else(|| tag(tags::BUILD_ID)),
            job: tag(tags::JOB),
            created: tags::created(tags, None),
            repository: tag(tags::REPO),
            commit: tag(tags::COMMIT).and_then(|commit| CommitId::parse(commit).ok()),
            message: None,
            template: tag(tags::TEMPLATE),
            base_image: tag(tags::BASE).and_then(|base| ImageId::parse(base).ok()),
        })
    }

    /// What the tags name: the builder with the build and its commit, and the base image.
    pub fn outlines(&self) -> Vec<Outline> {
        let line = |text: String| Outline::line(format!("{BY_TAGS}{text}"));
        let commit = self.commit.as_ref().map(|commit| {
            line(commit::line(commit.as_str(), self.repository.as_deref(), self.message.as_ref()))
        });
        let created = self.created.map_or(String::new(), |at| format!("  {at}"));
        // Images of the operator name no commit.
        let build = self.build.as_ref().map(|build| line(format!("build {build}{created}")).with(commit));
        let owner = self.owner.as_ref().map_or(String::new(), |owner| format!("  owner {owner}"));
        let status = self.status.as_ref().map_or(String::new(), |status| format!("  status {status}"));
        let builder = line(format!("built by {}{owner}{status}", self.builder)).with(build);
        let base = self.base_image.as_ref().map(|base| line(format!("base image {base}")));
        [builder].into_iter().chain(base).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROUGHT_BY: (&str, &str) = tags::BROUGHT_BY;

    fn named(tags: &[(&str, &str)]) -> Option<ByTags> {
        ByTags::new(&tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn an_image_has_the_builder_that_its_tags_name() {
        for (tags, builder) in [
            (&[(tags::BUILDER, "prod/node"), BROUGHT_BY][..], Some("PackerBuilder/prod/node")),
            // The image of a run that was never collected.
            (&[(tags::BUILDER, "prod/node")], Some("PackerBuilder/prod/node")),
            (
                &[(tags::BUILDER, "prod/node"), (tags::CREATED_BY, "old"), BROUGHT_BY],
                Some("PackerBuilder/prod/node"),
            ),
            // An image of the operator, and one of another tool.
            (&[(tags::CREATED_BY, "node"), BROUGHT_BY], Some("PackerBuilder/node")),
            (&[(tags::CREATED_BY, "terraform")], None),
            (&[(tags::BUILDER, ""), BROUGHT_BY], None),
            (&[BROUGHT_BY], None),
            (&[], None),
        ] {
            assert_eq!(named(tags).map(|found| found.builder).as_deref(), builder, "{tags:?}");
        }
    }

    #[test]
    fn a_tag_without_a_valid_value_counts_as_absent() {
        let builder = (tags::BUILDER, "prod/node");
        let found = named(&[
            builder,
            (tags::BUILD, "../../etc"),
            (tags::BUILD_ID, "42"),
            (tags::COMMIT, "main"),
            (tags::BASE, "the newest"),
            (tags::CREATED, "yesterday"),
            (tags::OWNER, ""),
        ]);
        let found = found.expect("a builder");
        assert_eq!(found.build.as_deref(), Some("42"), "the operator's");
        assert_eq!((found.commit, found.base_image, found.created, found.owner), (None, None, None, None));
    }
}
