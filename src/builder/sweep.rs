//! Garbage collection: removes what an ended run left in EC2. One of the builder's steps; `orphans` decides when.

use futures::{StreamExt, stream};

use super::Context;
use super::outcome::{ActError, Swept};
use super::step::Sweep;
use crate::api::{Class, Region};
use crate::aws::{AwsError, Orphans};

/// Regions to sweep at once. An account has about twenty regions, and each needs six requests.
const REGIONS_AT_ONCE: usize = 4;

/// Removes the orphans of a run in every region. A failure in one region does not affect the others.
pub async fn clean(sweep: &Sweep, ctx: &Context) -> Result<Swept, ActError> {
    let (mut swept, mut failures) = (Swept::default(), Vec::new());
    // Everything is found before anything is removed, and the home region is swept last: its images are the evidence
    // that copies in other regions belong to the build.
    let mut found = Vec::new();
    for region in &sweep.regions {
        match find(region, sweep, ctx).await {
            Ok(orphans) => found.push((region, orphans)),
            Err(error) => failures.push(error),
        }
    }
    for (region, orphans) in found.into_iter().rev() {
        match ctx.aws.sweep(region, &orphans).await {
            Ok(()) => swept.found.extend(orphans),
            Err(error) => failures.push(error.into()),
        }
    }
    let others = match other_regions(sweep, &swept.found, ctx).await {
        Ok(others) => others,
        Err(error) => {
            failures.push(error.into());
            Vec::new()
        }
    };
    let cleaned = others.into_iter().map(|region| async move {
        let found = clean_region(&region, sweep, ctx).await;
        (region, found)
    });
    let mut cleaned = stream::iter(cleaned).buffered(REGIONS_AT_ONCE);
    while let Some((region, result)) = cleaned.next().await {
        match result {
            Ok(found) if found.is_empty() => {}
            Ok(found) => {
                swept.found.extend(found);
                swept.elsewhere.push(region);
            }
            Err(error) => failures.push(error),
        }
    }
    failed(failures).map_or(Ok(swept), Err)
}

/// Combines all failures into one. Refusals come first, because other failures pass by themselves.
fn failed(mut failures: Vec<ActError>) -> Option<ActError> {
    failures.sort_by_key(|error| !error.class.is_refusal());
    let words: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let first = failures.into_iter().next()?;
    Some(ActError { message: words.join("; "), ..first })
}

/// Returns the other regions of the account, if the run may have worked in one of them.
async fn other_regions(sweep: &Sweep, found: &Orphans, ctx: &Context) -> Result<Vec<Region>, AwsError> {
    let Some(home) = sweep.regions.first().filter(|_| sweep.everywhere && found.is_empty()) else {
        return Ok(Vec::new());
    };
    // The home region knows the run's instance, so the run worked there.
    if ctx.aws.knows_instance(home, &sweep.announced.instances).await? {
        return Ok(Vec::new());
    }
    let mut regions = ctx.aws.enabled_regions(home).await?;
    regions.retain(|region| !sweep.regions.contains(region));
    Ok(regions)
}

async fn clean_region(region: &Region, sweep: &Sweep, ctx: &Context) -> Result<Orphans, ActError> {
    let orphans = find(region, sweep, ctx).await?;
    ctx.aws.sweep(region, &orphans).await?;
    Ok(orphans)
}

/// Finds the orphans of a run in one region.
async fn find(region: &Region, sweep: &Sweep, ctx: &Context) -> Result<Orphans, ActError> {
    let found = match ctx.aws.orphans(region, &sweep.owner, &sweep.build, &sweep.announced).await {
        // An organization may deny a region to everybody. Then the build created nothing there either.
        Err(error) if error.class() == Class::Denied && !sweep.regions.contains(region) => {
            return Ok(Orphans::default());
        }
        found => found?,
    };
    Ok(spare(found, sweep))
}

/// Leaves out results. They are known by ID, because EC2 may not show their tags yet.
fn spare(mut orphans: Orphans, sweep: &Sweep) -> Orphans {
    orphans.images.retain(|image| !sweep.spared.contains(image.as_str()));
    orphans.partly.retain(|image| !sweep.spared.contains(image.as_str()));
    orphans.unmarked.retain(|id| !sweep.spared.contains(id));
    orphans.snapshots.retain(|snapshot| !sweep.spared.contains(snapshot));
    orphans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BuildId, ImageId, Owner};
    use crate::aws::Announced;

    #[test]
    fn a_sweep_spares_results_and_their_snapshots() {
        let image = |id: &str| ImageId::parse(id).expect("an id written by hand");
        let found = Orphans {
            instances: vec!["i-1".into()],
            images: vec![image("ami-00000001"), image("ami-00000002")],
            snapshots: vec!["snap-1".into(), "snap-2".into()],
            ..Orphans::default()
        };
        let spared = ["ami-00000001".to_owned(), "snap-1".to_owned()].into();
        let sweep = Sweep {
            regions: vec![Region::parse("us-east-1").expect("a region written by hand")],
            owner: Owner::parse("agent-1").expect("an owner written by hand"),
            build: BuildId::of(&["a"]),
            announced: Announced::default(),
            everywhere: false,
            checks: 0,
            refusals: 0,
            spared,
        };
        let left = spare(found, &sweep);
        assert_eq!(left.images, [image("ami-00000002")]);
        assert_eq!(left.snapshots, ["snap-2"]);
        assert_eq!(left.instances, ["i-1"]);
    }
}
