//! What Packer announced, as the record of a sweep keeps it: `kind=id`. Pure; part of `harvest`.

use jiff::Timestamp;
use opsy_runner::request::{Resource, ResourceKind};

use crate::api::Region;
use crate::aws::Announced;

/// `kind=id`, as a sweep's record keeps what Packer announced.
pub fn word(resource: &Resource) -> String {
    format!("{}={}", kind_word(resource.kind), resource.id)
}

fn kind_word(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Instance => "instance",
        ResourceKind::KeyPair => "keyPair",
        ResourceKind::SecurityGroup => "securityGroup",
        ResourceKind::Image => "image",
        ResourceKind::Volume => "volume",
        ResourceKind::Region => "region",
    }
}

/// The word for an image that Packer named as a result.
pub const ARTIFACT: &str = "artifact";

/// What a sweep's record says was announced; words it does not know are left out.
pub fn parse(words: &[String], since: Option<Timestamp>, home: Option<&Region>) -> Announced {
    let named = |kind: &str| -> Vec<String> {
        let ids = words.iter().filter_map(|word| word.split_once('='));
        ids.filter(|(word, _)| *word == kind).map(|(_, id)| id.to_owned()).collect()
    };
    let of = |kind: ResourceKind| named(kind_word(kind));
    Announced {
        instances: of(ResourceKind::Instance),
        security_groups: of(ResourceKind::SecurityGroup),
        key_pairs: of(ResourceKind::KeyPair),
        images: of(ResourceKind::Image),
        volumes: of(ResourceKind::Volume),
        artifacts: named(ARTIFACT),
        since,
        home: home.cloned(),
    }
}
