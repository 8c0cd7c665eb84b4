//! Garbage collection: removes what an ended run left in EC2. One of the builder's steps; `harvest` says when.

use futures::{StreamExt, stream};

use super::Context;
use super::report::{ActError, Swept};
use super::step::Sweep;
use crate::api::{Class, Region};
use crate::aws::{AwsError, Leftovers};

/// An account has about twenty regions, and each is asked six questions.
const REGIONS_AT_ONCE: usize = 4;

/// Every region is swept, whatever happens in another.
pub async fn clean(sweep: &Sweep, ctx: &Context) -> Result<Swept, ActError> {
    let (mut swept, mut failures) = (Swept::default(), Vec::new());
    // Everything is found before anything is removed, and the home region comes last: the images there show that copies
    // elsewhere are the build's.
    let mut found = Vec::new();
    for region in &sweep.regions {
        match find(region, sweep, ctx).await {
            Ok(leftovers) => found.push((region, leftovers)),
            Err(error) => failures.push(error),
        }
    }
    for (region, leftovers) in found.into_iter().rev() {
        match ctx.aws.sweep(region, &leftovers).await {
            Ok(()) => swept.found.extend(leftovers),
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

/// All failures as one. A refusal says more than a failure that passes.
fn failed(mut failures: Vec<ActError>) -> Option<ActError> {
    failures.sort_by_key(|error| !error.class.is_refusal());
    let words: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let first = failures.into_iter().next()?;
    Some(ActError { message: words.join("; "), ..first })
}

/// The account's regions that are not looked in anyway, where the run may have worked in one of them.
async fn other_regions(sweep: &Sweep, found: &Leftovers, ctx: &Context) -> Result<Vec<Region>, AwsError> {
    let Some(home) = sweep.regions.first().filter(|_| sweep.everywhere && found.is_empty()) else {
        return Ok(Vec::new());
    };
    if ctx.aws.knows_instance(home, &sweep.announced.instances).await? {
        return Ok(Vec::new());
    }
    let mut regions = ctx.aws.enabled_regions(home).await?;
    regions.retain(|region| !sweep.regions.contains(region));
    Ok(regions)
}

async fn clean_region(region: &Region, sweep: &Sweep, ctx: &Context) -> Result<Leftovers, ActError> {
    let leftovers = find(region, sweep, ctx).await?;
    ctx.aws.sweep(region, &leftovers).await?;
    Ok(leftovers)
}

async fn find(region: &Region, sweep: &Sweep, ctx: &Context) -> Result<Leftovers, ActError> {
    let found = match ctx.aws.leftovers(region, &sweep.owner, &sweep.build, &sweep.announced).await {
        // An organization may close a region to everybody: then the build made nothing in it either.
        Err(error) if error.class() == Class::Denied && !sweep.regions.contains(region) => {
            return Ok(Leftovers::default());
        }
        found => found?,
    };
    Ok(spare(found, sweep))
}

/// Leftovers without what is a result: EC2 may show its tags late.
fn spare(mut leftovers: Leftovers, sweep: &Sweep) -> Leftovers {
    leftovers.images.retain(|image| !sweep.keep.contains(image.as_str()));
    leftovers.partly.retain(|image| !sweep.keep.contains(image.as_str()));
    leftovers.unmarked.retain(|id| !sweep.keep.contains(id));
    leftovers.snapshots.retain(|snapshot| !sweep.keep.contains(snapshot));
    leftovers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BuildId, ImageId, Owner};
    use crate::aws::Announced;

    #[test]
    fn a_sweep_spares_results_and_their_snapshots() {
        let image = |id: &str| ImageId::parse(id).expect("an id written by hand");
        let found = Leftovers {
            instances: vec!["i-1".into()],
            images: vec![image("ami-00000001"), image("ami-00000002")],
            snapshots: vec!["snap-1".into(), "snap-2".into()],
            ..Leftovers::default()
        };
        let keep = ["ami-00000001".to_owned(), "snap-1".to_owned()].into();
        let sweep = Sweep {
            regions: vec![Region::parse("us-east-1").expect("a region written by hand")],
            owner: Owner::parse("agent-1").expect("an owner written by hand"),
            build: BuildId::of(&["a"]),
            announced: Announced::default(),
            everywhere: false,
            looks: 0,
            refused: 0,
            keep,
        };
        let left = spare(found, &sweep);
        assert_eq!(left.images, [image("ami-00000002")]);
        assert_eq!(left.snapshots, ["snap-2"]);
        assert_eq!(left.instances, ["i-1"]);
    }
}
