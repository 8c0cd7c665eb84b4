//! Does one step. Every choice was made by the plan: one match.

use std::sync::Arc;

use super::Context;
use super::report::{ActError, Done, Outcome};
use super::step::{Step, Sweep, Tagging, What};
use crate::aws::{AwsError, Leftovers};
use crate::engine::{RunRequest, RunsError};
use crate::git::templates::{TemplateError, TemplateQuery};

/// Brings a step about.
pub async fn act(step: &Step, ctx: &Context) -> Outcome {
    let done = match step {
        Step::Start { request, query, .. } => start(request, query, ctx).await,
        Step::Stop { run, why } => ctx.runs.stop(run, *why).await.map_err(ActError::from),
        Step::Forget(run) => ctx.runs.forget(run).await.map_err(ActError::from),
        Step::Activate(tagging) | Step::Demote(tagging) | Step::Supersede(tagging) => tag(tagging, ctx).await,
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

async fn tag(tagging: &Tagging, ctx: &Context) -> Result<(), ActError> {
    Ok(ctx.aws.tag(&tagging.region, &tagging.resources, &tagging.tags).await?)
}

async fn clean(sweep: &Sweep, ctx: &Context) -> Result<Leftovers, ActError> {
    let found = ctx.aws.leftovers(&sweep.region, &ctx.owner, &sweep.build, &sweep.announced).await?;
    let leftovers = spare(found, sweep);
    ctx.aws.sweep(&sweep.region, &leftovers).await?;
    Ok(leftovers)
}

fn swept(result: Result<Leftovers, ActError>) -> Outcome {
    result.map_or_else(Outcome::Failed, |leftovers| Outcome::Did(Done::Swept(leftovers)))
}

/// Leftovers without what is a result: EC2 may show its tags late.
fn spare(mut leftovers: Leftovers, sweep: &Sweep) -> Leftovers {
    leftovers.images.retain(|image| !sweep.keep.contains(image.as_str()));
    leftovers.snapshots.retain(|snapshot| !sweep.keep.contains(snapshot));
    leftovers
}

impl From<AwsError> for ActError {
    fn from(error: AwsError) -> Self {
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
    use crate::api::{BuildId, ImageId, Region};
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
            region: Region::parse("us-east-1").expect("a region written by hand"),
            build: BuildId::of(&["a"]),
            announced: Announced::default(),
            looks: 0,
            keep,
        };
        let left = spare(found, &sweep);
        assert_eq!(left.images, [image("ami-00000002")]);
        assert_eq!(left.snapshots, ["snap-2"]);
        assert_eq!(left.instances, ["i-1"]);
    }
}
