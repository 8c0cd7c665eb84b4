//! Observes the images of a builder: the cached lists, and by ID what they do not show.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;

use super::unknown;
use crate::api::builder::PackerBuilderStatus;
use crate::api::{ImageId, Region, Seen};
use crate::aws::{AwsError, Fresh, Image};
use crate::builder::Context;
use crate::builder::located::Located;
use crate::builder::spec::Spec;
use crate::builder::subject::Subject;
use crate::engine::{Run, RunState};

/// What to read in one region: the IDs that status names as active or active before, the IDs that a run has just made, and
/// lost runs.
#[derive(Default)]
struct RegionQuery<'a> {
    named: BTreeSet<ImageId>,
    made: BTreeSet<ImageId>,
    lost: Vec<&'a Run>,
}

/// Returns what to read in the builder's own region and in those of its images and runs.
fn region_queries<'a>(
    spec: Option<&Spec>,
    status: &PackerBuilderStatus,
    runs: &'a [Run],
) -> BTreeMap<Region, RegionQuery<'a>> {
    let mut region_queries: BTreeMap<Region, RegionQuery<'a>> = BTreeMap::new();
    region_queries.extend(spec.map(|spec| (spec.region.clone(), RegionQuery::default())));
    for image in status.images.iter().flatten() {
        let Ok(region) = Region::parse(image.region.as_str()) else { continue };
        let ids = std::iter::once(&image.id).chain(image.previous.iter().flatten());
        let ids = ids.filter_map(|id| ImageId::parse(id.as_str()).ok());
        region_queries.entry(region).or_default().named.extend(ids);
    }
    for run in runs.iter().filter(|run| run.state.ended()) {
        let home = region_queries.entry(run.facts.region.clone()).or_default();
        match &run.state {
            RunState::Lost(_) => home.lost.push(run),
            RunState::Succeeded(artifacts) => {
                for artifact in artifacts {
                    region_queries
                        .entry(artifact.region.clone())
                        .or_default()
                        .made
                        .insert(artifact.image.clone());
                }
            }
            _ => {}
        }
    }
    region_queries
}

/// Reads the builder's images: the cached lists, and by ID the images that they do not show or that a run has just
/// made.
pub async fn observe_images(
    subject: &Subject,
    spec: Option<&Spec>,
    status: &PackerBuilderStatus,
    runs: &Seen<Vec<Run>>,
    ctx: &Context,
    fresh: Fresh,
) -> Seen<Vec<Located>> {
    let runs = runs.known().map(Vec::as_slice).unwrap_or_default();
    let region_queries = region_queries(spec, status, runs);
    let reads =
        region_queries.iter().map(|(region, query)| observe_region(subject, region, query, ctx, fresh));
    let all: Result<Vec<Vec<Located>>, AwsError> = join_all(reads).await.into_iter().collect();
    all.map_or_else(unknown, |all| Seen::Is(all.into_iter().flatten().collect()))
}

/// Reads the builder's images in one region.
async fn observe_region(
    subject: &Subject,
    region: &Region,
    query: &RegionQuery<'_>,
    ctx: &Context,
    fresh: Fresh,
) -> Result<Vec<Located>, AwsError> {
    let RegionQuery { named, made, lost } = query;
    let listed = ctx.aws.own_images(region, fresh).await?;
    let relevant = listed.iter().filter(|image| subject.may_own(image) || named.contains(&image.id));
    let mut all: BTreeMap<ImageId, Image> = relevant.map(|image| (image.id.clone(), image.clone())).collect();
    // Images that a run has just made are always read by ID, because a cached list may show an old state of them.
    let unlisted = named.iter().filter(|id| !all.contains_key(id)).chain(made.iter());
    let by_id: Vec<ImageId> = unlisted.cloned().collect::<BTreeSet<_>>().into_iter().collect();
    if !by_id.is_empty() {
        all.extend(
            ctx.aws.images_by_id(region, &by_id).await?.into_iter().map(|image| (image.id.clone(), image)),
        );
    }
    // The images of a lost run can only be found by their build tag.
    for run in lost {
        let of_build = ctx.aws.images_of_build(region, &run.facts.build).await?;
        all.extend(of_build.into_iter().map(|image| (image.id.clone(), image)));
    }
    Ok(all.into_values().map(|image| Located { region: region.clone(), image }).collect())
}
