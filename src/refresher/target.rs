//! The target: the image, one per architecture, that all node groups should run. `choose` decides on it, status and the
//! rollout record it. Pure.

use std::collections::BTreeSet;
use std::fmt;

use crate::api::ImageId;

/// One image per architecture. As a string, the IDs are joined with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Vec<ImageId>);

impl Target {
    /// Sorts the images, so that the same images are the same target. `None` if there is no image.
    pub fn of(images: impl IntoIterator<Item = ImageId>) -> Option<Self> {
        let images: BTreeSet<ImageId> = images.into_iter().collect();
        (!images.is_empty()).then(|| Self(images.into_iter().collect()))
    }

    /// The target that consists of exactly this image.
    pub fn single(image: ImageId) -> Self {
        Self(vec![image])
    }

    pub fn parse(text: &str) -> Option<Self> {
        let images: Result<Vec<ImageId>, _> = text.split(',').map(ImageId::parse).collect();
        images.ok().and_then(Self::of)
    }

    pub fn images(&self) -> &[ImageId] {
        &self.0
    }

    pub fn contains(&self, image: Option<&ImageId>) -> bool {
        image.is_some_and(|image| self.0.contains(image))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let images: Vec<&str> = self.0.iter().map(ImageId::as_str).collect();
        f.write_str(&images.join(","))
    }
}
