//! Where the target of a refresher comes from, so that a plan knows which builds change it. Pure.

use std::collections::BTreeSet;

use crate::api::glob::Matcher;
use crate::api::{Key, tags};
use crate::aws::{Filter, Image};
use crate::refresher::images::builder_of;
use crate::refresher::observed::SourceImages;
use crate::refresher::spec::{Source, Spec};

/// The prefix of an EC2 filter for the value of a tag.
const TAG: &str = "tag:";

/// Where the target comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// `ami` names it.
    Fixed,
    /// The images of this builder.
    Builder(Key),
    /// The images that were built for the cluster in this region.
    Cluster { cluster: String, region: String },
    /// The images that match filters, and the builders of those that match now.
    Filters { filters: Vec<Filter>, region: String, builders: BTreeSet<Key> },
}

/// A builder, as far as its images can be selected by it.
#[derive(Clone, Copy, Debug)]
pub struct BuiltBy<'a> {
    pub key: &'a Key,
    pub cluster: Option<&'a str>,
    pub region: Option<&'a str>,
}

impl ImageSource {
    pub fn of(spec: &Spec, images: Option<&SourceImages>) -> Self {
        let region = spec.region.to_string();
        match &spec.source {
            Source::Image(_) => Self::Fixed,
            Source::Builder(builder) => Self::Builder(builder.clone()),
            Source::Cluster => Self::Cluster { cluster: spec.cluster.clone(), region },
            Source::Filters(query) => {
                let found: &[Image] = match images {
                    Some(SourceImages::Filtered(images)) => images,
                    _ => &[],
                };
                let builders = found.iter().filter_map(|image| builder_of(spec, image)).collect();
                Self::Filters { filters: query.filters.clone(), region, builders }
            }
        }
    }

    /// Whether a new image of this builder is expected to become the target.
    pub fn takes(&self, built: BuiltBy<'_>) -> bool {
        match self {
            Self::Fixed => false,
            Self::Builder(builder) => builder == built.key,
            Self::Cluster { cluster, region } => {
                built.cluster == Some(cluster.as_str()) && built.region == Some(region.as_str())
            }
            Self::Filters { filters, region, builders } => {
                built.region == Some(region.as_str())
                    && (builders.contains(built.key) || selected_by_tags(filters, built))
            }
        }
    }
}

/// Whether the filters select images by tags, and all of those tags are ones that Opsy gives to the images of this
/// builder. Other filters, such as a name, cannot be known before the build.
fn selected_by_tags(filters: &[Filter], built: BuiltBy<'_>) -> bool {
    let of_tags = || filters.iter().filter_map(|filter| Some((filter.name.strip_prefix(TAG)?, filter)));
    let names_it = |name: &str| [tags::BUILDER, tags::CREATED_BY, tags::CLUSTER].contains(&name);
    of_tags().any(|(name, _)| names_it(name)) && of_tags().all(|(name, filter)| has_tag(name, filter, built))
}

fn has_tag(name: &str, filter: &Filter, built: BuiltBy<'_>) -> bool {
    let key = built.key.to_string();
    let value = match name {
        tags::BUILDER => key.as_str(),
        tags::CREATED_BY => built.key.name.as_str(),
        tags::STATUS => tags::ACTIVE,
        name if name == tags::BROUGHT_BY.0 => tags::BROUGHT_BY.1,
        tags::CLUSTER => match built.cluster {
            Some(cluster) => cluster,
            None => return false,
        },
        _ => return false,
    };
    filter.values.iter().any(|wanted| match wanted.contains(['*', '?']) {
        false => wanted == value,
        // In EC2, an asterisk of a filter also matches a slash.
        true => {
            let plain = value.replace('/', "_");
            Matcher::new(&wanted.replace('/', "_")).is_ok_and(|wanted| wanted.is_match(&plain))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(filters: &[(&str, &str)]) -> ImageSource {
        let filter = |(name, value): &(&str, &str)| Filter {
            name: (*name).to_owned(),
            values: vec![(*value).to_owned()],
        };
        ImageSource::Filters {
            filters: filters.iter().map(filter).collect(),
            region: "us-east-1".to_owned(),
            builders: BTreeSet::new(),
        }
    }

    #[test]
    fn filters_take_the_images_of_a_builder_if_they_name_it_by_its_tags() {
        let key = Key { namespace: "default".to_owned(), name: "node".to_owned() };
        let built = BuiltBy { key: &key, cluster: Some("demo"), region: Some("us-east-1") };
        for (filters, takes) in [
            (vec![("tag:created-by", "node"), ("tag:status", "active")], true),
            (vec![("tag:created-by", "no*"), ("name", "eks-*")], true),
            (vec![("tag:cluster-name", "demo")], true),
            (vec![("tag:opsy.dev/builder", "default/*")], true),
            (vec![("tag:created-by", "other")], false),
            (vec![("tag:cluster-name", "demo"), ("tag:team", "a")], false),
            (vec![("tag:status", "active")], false),
            (vec![("name", "eks-*")], false),
        ] {
            assert_eq!(source(&filters).takes(built), takes, "{filters:?}");
        }
        let elsewhere = BuiltBy { region: Some("eu-west-1"), ..built };
        assert!(!source(&[("tag:created-by", "node")]).takes(elsewhere));
    }
}
