//! Observes base images: those that the filters find, and those that are recorded.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::unknown;
use crate::api::builder::PackerBuilderStatus;
use crate::api::{ImageId, Region, Seen};
use crate::aws::{Fresh, Image};
use crate::builder::Context;
use crate::builder::active::{self, Active};
use crate::builder::base::{self, Base};
use crate::builder::located::{self, Located};
use crate::builder::spec::Spec;
use crate::builder::subject::Subject;
use crate::engine::{Run, RunState};

/// Reads the images that match the filters of the base image. All builders with these filters share them.
pub async fn find_bases(spec: Option<&Spec>, ctx: &Context, fresh: Fresh) -> Seen<Arc<Vec<Image>>> {
    let Some(query) = spec.and_then(|spec| spec.base.as_ref()) else {
        return Seen::Is(Arc::default());
    };
    ctx.aws.find_images(query, fresh).await.map_or_else(unknown, Seen::Is)
}

/// What the choice of a base image depends on, besides the images found.
pub struct BaseFacts<'a> {
    pub subject: &'a Subject,
    pub status: &'a PackerBuilderStatus,
    pub images: &'a Seen<Vec<Located>>,
    pub runs: &'a Seen<Vec<Run>>,
    pub now: Timestamp,
}

impl BaseFacts<'_> {
    fn active(&self) -> Vec<Active<'_>> {
        let images = self.images.known().map(Vec::as_slice).unwrap_or_default();
        active::active(images, self.subject, self.status, self.now)
    }

    fn choose(&self, found: &[Image], home: &Region) -> (Option<Image>, Vec<String>) {
        let lanes = active::lanes(self.status, &self.active(), Some(home));
        let of_home = lanes.iter().filter(|lane| lane.region == *home);
        let architectures = of_home.map(|lane| lane.architecture.as_str()).collect();
        let recorded = self.status.inputs.as_ref().and_then(|inputs| inputs.base_ami.as_deref());
        let recorded = found.iter().find(|image| Some(image.id.as_str()) == recorded);
        base::choose(found, &architectures, recorded.map(|image| image.architecture.as_str()), self.now)
    }

    /// Returns the base images that were requested for the builder's active images and ended runs.
    fn recorded(&self) -> BTreeSet<ImageId> {
        let active = self.active();
        let of_images = active.iter().filter_map(|active| located::requested_base(active.image));
        let of_runs = self.ended().filter_map(|run| run.facts.inputs.base_ami.as_deref());
        of_images.chain(of_runs).filter_map(|id| ImageId::parse(id).ok()).collect()
    }

    /// Returns the images that EC2 reports as the source of what an ended run made.
    fn sources(&self) -> BTreeSet<ImageId> {
        let mut made = BTreeSet::new();
        for run in self.ended() {
            if let RunState::Succeeded(artifacts) = &run.state {
                made.extend(artifacts.iter().map(|artifact| &artifact.image));
            }
        }
        let images = self.images.known().into_iter().flatten();
        let sources =
            images.filter(|image| made.contains(&image.image.id)).filter_map(|i| i.image.source.as_ref());
        sources.filter(|source| !made.contains(source)).cloned().collect()
    }

    fn ended(&self) -> impl Iterator<Item = &Run> {
        self.runs.known().into_iter().flatten().filter(|run| run.state.ended())
    }
}

/// Chooses the base image. Recorded base images other than the chosen one are read too, to find out which one is newer.
pub async fn observe_base(
    found: Seen<Arc<Vec<Image>>>,
    facts: &BaseFacts<'_>,
    spec: Option<&Spec>,
    ctx: &Context,
) -> Seen<Base> {
    let found = match found {
        Seen::Is(found) => found,
        Seen::Unknown(class, message) => return Seen::Unknown(class, message),
    };
    let Some(spec) = spec else { return Seen::Is(Base::default()) };
    let (found, architectures) = facts.choose(&found, &spec.region);
    let mut looked_up = facts.sources();
    looked_up.extend(found.iter().flat_map(|_| facts.recorded()));
    looked_up.retain(|id| found.as_ref().is_none_or(|found| found.id != *id));
    let ids: Vec<ImageId> = looked_up.iter().cloned().collect();
    let recorded = match ids.is_empty() {
        true => Ok(Vec::new()),
        false => ctx.aws.images_by_id(&spec.region, &ids).await,
    };
    recorded.map_or_else(unknown, |recorded| Seen::Is(Base { found, architectures, recorded, looked_up }))
}
