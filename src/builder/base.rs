//! The base image: which of those found a build is made from, what is known of recorded ones, and which one
//! EC2 says a result was made from. Pure; `observe` reads what is needed for it.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::images::Located;
use crate::api::ImageId;
use crate::api::builder::{BaseImage, InputsRecord};
use crate::aws::{Image, ImageState};

/// The base image found, and those recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    pub found: Option<Image>,
    /// Architectures of all images that the filters match, where that is more than one.
    pub architectures: Vec<String>,
    /// Recorded base images that still exist.
    pub recorded: Vec<Image>,
    /// All that were looked up: one that is not among the recorded ones is gone.
    pub asked: BTreeSet<ImageId>,
}

impl Base {
    /// What is known of a base image.
    pub fn known(&self, id: &str) -> Option<&Image> {
        self.found.iter().chain(&self.recorded).find(|image| image.id.as_str() == id)
    }

    /// Was a base image looked up and not found?
    pub fn is_gone(&self, id: &str) -> bool {
        self.known(id).is_none() && self.asked.iter().any(|asked| asked.as_str() == id)
    }

    /// What status says of the base image of these inputs. One that is gone keeps its name and its date.
    pub fn remember(&self, inputs: Option<&InputsRecord>, before: Option<&BaseImage>) -> Option<BaseImage> {
        let id = inputs?.base_ami.as_deref()?;
        let before = before.filter(|before| before.id == id).cloned();
        if let Some(image) = self.known(id) {
            let name = Some(image.name.clone());
            return Some(BaseImage { id: id.to_owned(), name, created: image.created, gone: None });
        }
        let unknown = || BaseImage { id: id.to_owned(), ..BaseImage::default() };
        let gone = self.is_gone(id).then_some(true);
        gone.map_or(before.clone(), |_| Some(BaseImage { gone, ..before.unwrap_or_else(unknown) }))
    }
}

/// Chooses the base image of a build among those found, which are sorted newest first. Where they are of
/// several architectures, the builder's own lanes decide: a newer image of another architecture is none for
/// them. Answers the image, and the architectures where it had to choose.
pub fn choose(
    found: &[Image],
    lanes: &BTreeSet<&str>,
    recorded: Option<&str>,
    now: Timestamp,
) -> (Option<Image>, Vec<String>) {
    let available: Vec<&Image> = found.iter().filter(|image| image.state == ImageState::Available).collect();
    let in_use = |image: &&&Image| image.deprecated.is_none_or(|at| at > now);
    let architectures: BTreeSet<&str> =
        available.iter().filter(in_use).map(|image| image.architecture.as_str()).collect();
    let of = |architecture: &str| available.iter().find(|image| image.architecture == architecture);
    let recorded = recorded.filter(|architecture| lanes.contains(architecture));
    let own = recorded.into_iter().chain(lanes.iter().copied()).find_map(of);
    let chosen = own.or(available.first()).map(|image| (*image).clone());
    let several = architectures.len() > 1;
    let architectures = architectures.into_iter().filter(|_| several).map(str::to_owned).collect();
    (chosen, architectures)
}

/// The base image that EC2 names for a result: that of its instance; a copy is traced to the image copied.
/// Where EC2 names none, or one that is not there (the unencrypted image that an encrypted one is copied
/// from is deleted), it is the one asked for.
pub fn made_from(
    image: &Located,
    results: &[&Located],
    asked: Option<&str>,
    base: Option<&Base>,
) -> Option<String> {
    let original = |source: &ImageId| results.iter().find(|result| result.image.id == *source);
    let source = image.image.source.as_ref();
    let source =
        source.map_or(source, |id| original(id).map_or(Some(id), |image| image.image.source.as_ref()));
    let there =
        |id: &&ImageId| asked == Some(id.as_str()) || base.is_none_or(|base| !base.is_gone(id.as_str()));
    source.filter(there).map(ToString::to_string).or_else(|| asked.map(str::to_owned))
}
