//! Images that are held: not rolled out although a source offers them. A person lists them in `spec.held`; a rollout that
//! failed and is rolled back adds its image to `status.held`. Respected by `choose`, made by `plan::rollback`. Pure.

use std::fmt;

use jiff::Timestamp;

use crate::api::builder::InputsRecord;
use crate::api::refresher::FailedAmi;
use crate::api::{ImageId, tags};
use crate::aws::Image;

/// At most this many failed images are remembered. Older ones have long been replaced.
const REMEMBERED: usize = 20;

/// An image that a person holds back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub image: ImageId,
    pub reason: Option<String>,
}

/// An image whose rollout failed and was rolled back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub image: ImageId,
    /// Why its rollout failed.
    pub reason: String,
    pub since: Timestamp,
    /// Hash of what it was built from, if its tags contain that.
    pub inputs: Option<String>,
    /// `ami` named it at that time, and has named no other image since.
    pub named: bool,
}

/// The failed images of a refresher, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailedImages(Vec<Failed>);

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Some(reason) => write!(f, "{} is held: {reason}", self.image),
            None => write!(f, "{} is held by spec.held", self.image),
        }
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is held since its rollout failed: {}", self.image, self.reason)
    }
}

/// Hash of what an image was built from: its template, spec and base image. `None` if its tags do not contain them.
fn inputs(image: &Image) -> Option<String> {
    let tag = |name: &str| image.tags.get(name).map(String::as_str);
    let (template, spec) = (tag(tags::TEMPLATE)?, tag(tags::SPEC)?);
    Some(tags::inputs_digest(template, spec, tag(tags::BASE).unwrap_or_default()))
}

impl Failed {
    /// `ami` is the image that the spec names.
    pub fn new(
        image: &ImageId,
        facts: Option<&Image>,
        reason: String,
        ami: Option<&ImageId>,
        now: Timestamp,
    ) -> Self {
        let named = ami == Some(image);
        Self { image: image.clone(), reason, since: now, inputs: facts.and_then(inputs), named }
    }

    /// Why this failure holds an image: it is the same, or was built from the same inputs.
    pub fn holds(&self, image: &Image) -> Option<String> {
        if self.image == image.id {
            return Some(self.to_string());
        }
        let is_same = self.inputs.is_some() && self.inputs == inputs(image);
        is_same.then(|| {
            format!(
                "{} is held: it was built from the same inputs as {}, whose rollout failed: {}",
                image.id, self.image, self.reason
            )
        })
    }
}

impl FailedImages {
    pub fn read(written: Option<&Vec<FailedAmi>>) -> Self {
        let failed = |failed: &FailedAmi| {
            Some(Failed {
                image: ImageId::parse(failed.ami.clone()).ok()?,
                reason: failed.reason.clone().unwrap_or_default(),
                since: failed.since?,
                inputs: failed.inputs.clone(),
                named: failed.named == Some(true),
            })
        };
        Self(written.into_iter().flatten().filter_map(failed).collect())
    }

    /// As `status.held` has them.
    pub fn write(&self) -> Option<Vec<FailedAmi>> {
        let failed = |failed: &Failed| FailedAmi {
            ami: failed.image.to_string(),
            reason: Some(failed.reason.clone()),
            since: Some(failed.since),
            inputs: failed.inputs.clone(),
            named: failed.named.then_some(true),
        };
        (!self.0.is_empty()).then(|| self.0.iter().map(failed).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &ImageId> {
        self.0.iter().map(|failed| &failed.image)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn contains(&self, image: &ImageId) -> bool {
        self.0.iter().any(|failed| failed.image == *image)
    }

    /// Why an image is held.
    pub fn holds(&self, image: &Image) -> Option<String> {
        self.0.iter().rev().find_map(|failed| failed.holds(image))
    }

    /// Why an image that is built from these inputs will be held.
    pub fn holds_built_from(&self, inputs: &InputsRecord) -> Option<String> {
        let (template, spec) = (inputs.template.as_deref()?, inputs.spec.as_deref()?);
        let hash = tags::inputs_digest(template, spec, inputs.base_ami.as_deref().unwrap_or_default());
        let failed = self.0.iter().rev().find(|failed| failed.inputs.as_ref() == Some(&hash))?;
        let (image, reason) = (&failed.image, &failed.reason);
        Some(format!("it is built from the same inputs as {image}, whose rollout failed: {reason}"))
    }

    /// The failure of an image that `ami` named then and still names.
    pub fn named(&self, image: &ImageId) -> Option<&Failed> {
        self.0.iter().rev().find(|failed| failed.named && failed.image == *image)
    }

    #[must_use]
    pub fn with(mut self, failed: Failed) -> Self {
        self.0.retain(|known| known.image != failed.image);
        self.0.push(failed);
        let surplus = self.0.len().saturating_sub(REMEMBERED);
        self.0.drain(..surplus);
        self
    }

    /// Without what holds an image, if its facts are known, or else without the image itself.
    #[must_use]
    pub fn released(mut self, image: &ImageId, facts: Option<&Image>) -> Self {
        let holds = |failed: &Failed| facts.is_some_and(|facts| failed.holds(facts).is_some());
        self.0.retain(|failed| failed.image != *image && !holds(failed));
        self
    }

    /// What a change of `ami` releases: naming an image releases it, and naming another one makes that possible again.
    #[must_use]
    pub fn with_ami(mut self, ami: Option<&ImageId>) -> Self {
        let Some(ami) = ami else {
            self.0.iter_mut().for_each(|failed| failed.named = false);
            return self;
        };
        self.0.retain(|failed| failed.image != *ami || failed.named);
        self.0.iter_mut().filter(|failed| failed.image != *ami).for_each(|failed| failed.named = false);
        self
    }
}
