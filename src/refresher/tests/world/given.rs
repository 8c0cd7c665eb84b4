//! What the simulated world begins with: the refresher, images, and the IDs of images and launch templates.

use jiff::Timestamp;

use crate::api::refresher::{AmiFrom, RefreshConfig};
use crate::api::{AMIRefresher, AMIRefresherSpec, ImageId, TemplateId};
use crate::aws::{Image, ImageState};

/// A refresher of the images of a builder. `at_once`: all groups of a wave are updated at the same time.
pub fn refresher(at_once: bool) -> AMIRefresher {
    let refresh_config = RefreshConfig { wait_for_completion: Some(!at_once), ..RefreshConfig::default() };
    let spec = AMIRefresherSpec {
        region: "us-east-1".to_owned(),
        cluster_name: "demo".to_owned(),
        ami_from: Some(AmiFrom { packer_builder: Some("base".to_owned()) }),
        refresh_config: Some(refresh_config),
        ..AMIRefresherSpec::default()
    };
    let mut object = AMIRefresher::new("nodes", spec);
    object.metadata.namespace = Some("default".to_owned());
    object.metadata.generation = Some(1);
    object
}

pub fn image_id(number: usize) -> ImageId {
    ImageId::parse(format!("ami-{number:08x}")).expect("hex")
}

pub fn template_id(number: usize) -> TemplateId {
    TemplateId::parse(format!("lt-{number:08x}")).expect("hex")
}

/// Two images each are built from the same inputs.
pub fn image(number: usize, created: Timestamp) -> Image {
    let (id, template) = (&image_id(number), format!("v1:{}", number / 2));
    let tags = [
        ("brought-to-you-by", "opsy-the-ami-operator"),
        ("status", "active"),
        ("cluster-name", "demo"),
        ("opsy.dev/builder", "default/base"),
        ("opsy.dev/template", template.as_str()),
        ("opsy.dev/spec", "v1:1"),
    ];
    Image {
        id: id.clone(),
        name: format!("node-{id}"),
        owner_id: "111111111111".to_owned(),
        architecture: "x86_64".to_owned(),
        state: ImageState::Available,
        state_reason: None,
        created: Some(created),
        deprecated: None,
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        snapshots: Vec::new(),
        source: None,
        machine: crate::aws::Machine::default(),
    }
}
