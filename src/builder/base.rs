//! The base image: which of the images found a build is made from, what is known of recorded base images, and from
//! which one a result was made according to EC2. Pure; `observe` reads what is needed.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::located::Located;
use crate::api::ImageId;
use crate::api::builder::{BaseImage, InputsRecord};
use crate::aws::{Image, ImageState};

/// The base image that was found, and those that are recorded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Base {
    pub found: Option<Image>,
    /// Architectures of all images that the filters match, if there is more than one.
    pub architectures: Vec<String>,
    /// Recorded base images that still exist.
    pub recorded: Vec<Image>,
    /// The base images that were looked up by ID. One that is not in `recorded` does not exist any more.
    pub looked_up: BTreeSet<ImageId>,
}

impl Base {
    /// Returns a base image by its ID, if it was observed.
    pub fn known(&self, id: &str) -> Option<&Image> {
        self.found.iter().chain(&self.recorded).find(|image| image.id.as_str() == id)
    }

    /// Returns whether a base image was looked up and not found.
    pub fn is_gone(&self, id: &str) -> bool {
        self.known(id).is_none() && self.looked_up.iter().any(|other| other.as_str() == id)
    }

    /// Returns the base image of these inputs for status. One that does not exist any more keeps its name and date.
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

/// Chooses the base image of a build from the images found, which are sorted newest first. If they have several
/// architectures, the lanes of the builder decide: a newer image of another architecture does not fit them. Returns the
/// image, and the architectures if there was a choice.
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

/// Returns the base image that EC2 reports for a result: the image of its instance. A copy is traced back to the image
/// that was copied. If EC2 reports none, or one that does not exist (the unencrypted image from which an encrypted one
/// was copied is deleted), returns the requested one.
pub fn made_from(
    image: &Located,
    results: &[&Located],
    requested: Option<&str>,
    base: Option<&Base>,
) -> Option<String> {
    let original = |source: &ImageId| results.iter().find(|result| result.image.id == *source);
    let source = image.image.source.as_ref();
    let source =
        source.map_or(source, |id| original(id).map_or(Some(id), |image| image.image.source.as_ref()));
    let there =
        |id: &&ImageId| requested == Some(id.as_str()) || base.is_none_or(|base| !base.is_gone(id.as_str()));
    source.filter(there).map(ToString::to_string).or_else(|| requested.map(str::to_owned))
}
