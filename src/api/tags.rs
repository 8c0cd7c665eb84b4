//! The tags of images: the operator's contract and those of Opsy, each name once, and how they are read. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{ids, time};

/// Tags by their names.
pub type Tags = BTreeMap<String, String>;

/// Marks every image that the operator or Opsy built.
pub const BROUGHT_BY: (&str, &str) = ("brought-to-you-by", "opsy-the-ami-operator");

/// Says which image of a lane is in use: `ACTIVE`, `DEPRECATED` or `SUPERSEDED`.
pub const STATUS: &str = "status";
pub const ACTIVE: &str = "active";
pub const DEPRECATED: &str = "deprecated";
pub const SUPERSEDED: &str = "superseded";

pub const CLUSTER: &str = "cluster-name";
/// Name of the builder, by which the operator distinguishes the images of its builders.
pub const CREATED_BY: &str = "created-by";
pub const REPO: &str = "packer-repo";
pub const REPO_BRANCH: &str = "packer-repo-branch";
pub const BASE: &str = "base-ami";
pub const JOB: &str = "job-id";
pub const BUILD_ID: &str = "build-id";
pub const CREATED: &str = "create-timestamp";

pub const OWNER: &str = "opsy.dev/owner";
pub const BUILDER: &str = "opsy.dev/builder";
pub const TEMPLATE: &str = "opsy.dev/template";
pub const SPEC: &str = "opsy.dev/spec";
pub const COMMIT: &str = "opsy.dev/commit";
pub const BUILD: &str = "opsy.dev/build";
/// The base image that was requested, on images that were made from another one.
pub const BASE_ASKED: &str = "opsy.dev/base";

/// EC2 has existed since 2006: an older date is not one of an image.
const FIRST_IMAGE: i64 = 1_136_073_600;

/// Returns when an image was created, from which its age is counted: the tag, else EC2's date. Older versions of the
/// operator wrote Unix seconds, newer ones RFC 3339. A number that cannot be such a time is ignored.
pub fn created(tags: &Tags, by_ec2: Option<Timestamp>) -> Option<Timestamp> {
    let text = tags.get(CREATED).map(|text| text.trim());
    let is_plausible = |at: &Timestamp| {
        let latest = by_ec2.and_then(|by_ec2| time::after(by_ec2, time::SKEW));
        at.as_second() >= FIRST_IMAGE && latest.is_none_or(|latest| *at <= latest)
    };
    let unix = |text: &str| Timestamp::from_second(text.parse().ok()?).ok().filter(is_plausible);
    text.and_then(|text| text.parse().ok().or_else(|| unix(text))).or(by_ec2)
}

/// Returns a hash of what an image was built from: the values of `TEMPLATE`, `SPEC` and `BASE`.
pub fn inputs_digest(template: &str, spec: &str, base: &str) -> String {
    ids::digest(&["inputs", template, spec, base])[..16].to_owned()
}

/// Returns whether the tags include the one that Opsy and the operator set on the images that they build.
pub fn is_built_by_opsy(tags: &Tags) -> bool {
    let (key, value) = BROUGHT_BY;
    tags.get(key).is_some_and(|found| found == value)
}

/// Returns whether the tags say that the image is the active one.
pub fn is_active(tags: &Tags) -> bool {
    tags.get(STATUS).is_some_and(|status| status == ACTIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_the_age_of_its_tag_if_that_can_be_one() {
        let at = |text: &str| text.parse::<Timestamp>().expect("a time");
        let by_ec2 = at("2024-02-01T00:00:00Z");
        for (tag, expected) in [
            ("2024-01-31T12:00:00Z", at("2024-01-31T12:00:00Z")),
            (" 1706702400 ", at("2024-01-31T12:00:00Z")),
            // A date without separators is no Unix time.
            ("20240131", by_ec2),
            ("2024013112", by_ec2),
            ("1706702400000", by_ec2),
            ("yesterday", by_ec2),
            ("", by_ec2),
        ] {
            let tags = Tags::from([(CREATED.to_owned(), tag.to_owned())]);
            assert_eq!(created(&tags, Some(by_ec2)), Some(expected), "{tag:?}");
        }
        assert_eq!(created(&Tags::new(), None), None);
    }
}
