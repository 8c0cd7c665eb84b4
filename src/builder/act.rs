//! Does one step. Every choice was made by the plan: one match.

use std::sync::Arc;

use super::Context;
use super::report::{ActError, Done, Outcome};
use super::step::{Step, Sweep, Tagging, What};
use crate::api::{Class, Region};
use crate::aws::{AwsError, Leftovers, Unswept};
use crate::engine::{RunRequest, RunsError};
use crate::git::templates::{TemplateError, TemplateQuery};

/// Brings a step about.
pub async fn act(step: &Step, ctx: &Context) -> Outcome {
    let done = match step {
        Step::Start { request, query, .. } => start(request, query, ctx).await,
        Step::Stop { run, why } => ctx.runs.stop(run, *why).await.map_err(ActError::from),
        Step::Forget(run) => ctx.runs.forget(run).await.map_err(ActError::from),
        Step::Activate(tagging) | Step::Demote(tagging) | Step::Supersede(tagging) => {
            return tag(tagging, ctx).await;
        }
        Step::Sweep(sweep) => return swept(clean(sweep, ctx).await),
        Step::Record(_) => Ok(()),
    };
    done.map_or_else(Outcome::Failed, |()| Outcome::Did(Done::AsPlanned))
}

async fn start(request: &RunRequest, query: &TemplateQuery, ctx: &Context) -> Result<(), ActError> {
    let mut request = request.clone();
    if ctx.runs.wants_files(&request) {
        request.files = Arc::new(ctx.templates.files(query, &request.facts.commit).await?);
    }
    Ok(ctx.runs.start(request).await?)
}

/// The image's tags are what counts. Its snapshots get them too where that is allowed: a refusal is only reported.
async fn tag(tagging: &Tagging, ctx: &Context) -> Outcome {
    let Tagging { region, images, snapshots, made, tags } = tagging;
    if let Err(error) = ctx.aws.tag(region, images, tags).await {
        return Outcome::Failed(error.into());
    }
    let refused = ctx.aws.tag_snapshots(region, snapshots, *made, tags).await.err();
    Outcome::Did(refused.map_or(Done::AsPlanned, |error| Done::SnapshotsRefused(error.to_string())))
}

/// Every region is swept, whatever happens in another.
async fn clean(sweep: &Sweep, ctx: &Context) -> Result<Leftovers, ActError> {
    let (mut all, mut failures) = (Leftovers::default(), Vec::new());
    for region in &sweep.regions {
        match clean_region(region, sweep, ctx).await {
            Ok(found) => all.extend(found),
            Err(error) => failures.push(error),
        }
    }
    // A refusal says more than a failure that passes.
    failures.sort_by_key(|error| !error.class.is_refusal());
    let words: Vec<String> = failures.iter().map(ToString::to_string).collect();
    let first = failures.into_iter().next();
    first.map_or(Ok(all), |first| Err(ActError { message: words.join("; "), ..first }))
}

async fn clean_region(region: &Region, sweep: &Sweep, ctx: &Context) -> Result<Leftovers, ActError> {
    let found = ctx.aws.leftovers(region, &ctx.owner, &sweep.build, &sweep.announced).await?;
    let leftovers = spare(found, sweep);
    ctx.aws.sweep(region, &leftovers).await?;
    Ok(leftovers)
}

fn swept(result: Result<Leftovers, ActError>) -> Outcome {
    result.map_or_else(Outcome::Failed, |leftovers| Outcome::Did(Done::Swept(leftovers)))
}

/// Leftovers without what is a result: EC2 may show its tags late.
fn spare(mut leftovers: Leftovers, sweep: &Sweep) -> Leftovers {
    leftovers.images.retain(|image| !sweep.keep.contains(image.as_str()));
    leftovers.partly.retain(|image| !sweep.keep.contains(image.as_str()));
    leftovers.unmarked.retain(|id| !sweep.keep.contains(id));
    leftovers.snapshots.retain(|snapshot| !sweep.keep.contains(snapshot));
    leftovers
}

impl From<AwsError> for ActError {
    /// What a step changes was seen just before: EC2 that does not find it now shows it again in a moment.
    fn from(error: AwsError) -> Self {
        let class = match error.class() {
            Class::NotFound => Class::TRANSIENT,
            class => class,
        };
        Self { what: What::Aws, class, message: error.to_string() }
    }
}

impl From<Unswept> for ActError {
    fn from(error: Unswept) -> Self {
        Self { what: What::Aws, class: error.class(), message: error.to_string() }
    }
}

impl From<RunsError> for ActError {
    fn from(error: RunsError) -> Self {
        Self { what: What::Runs, class: error.class, message: error.message }
    }
}

impl From<TemplateError> for ActError {
    fn from(error: TemplateError) -> Self {
        Self { what: What::Template, class: error.class, message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{BuildId, ImageId};
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
            build: BuildId::of(&["a"]),
            announced: Announced::default(),
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
