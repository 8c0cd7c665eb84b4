//! Does one step. Every choice was made by the plan: one match.

use std::sync::Arc;

use super::Context;
use super::report::{ActError, Done, Outcome};
use super::step::{Step, Tagging, What};
use super::sweep;
use crate::api::Class;
use crate::aws::{AwsError, Unswept};
use crate::engine::{RunRequest, RunsError};
use crate::git::templates::{TemplateError, TemplateQuery};

/// Brings a step about.
pub async fn act(step: &Step, ctx: &Context) -> Outcome {
    let done = match step {
        Step::Start { request, query, .. } => {
            let started = start(request, query, ctx).await;
            return started.map_or_else(Outcome::Failed, |id| Outcome::Did(Done::Started(id)));
        }
        Step::Stop { run, why } => ctx.runs.stop(run, *why).await.map_err(ActError::from),
        Step::Forget(run) => ctx.runs.forget(run).await.map_err(ActError::from),
        Step::Activate(tagging) | Step::Demote(tagging) | Step::Supersede(tagging) => {
            return tag(tagging, ctx).await;
        }
        Step::Sweep(sweep) => {
            return sweep::clean(sweep, ctx)
                .await
                .map_or_else(Outcome::Failed, |swept| Outcome::Did(Done::Swept(Box::new(swept))));
        }
        Step::Record(_) => Ok(()),
    };
    done.map_or_else(Outcome::Failed, |()| Outcome::Did(Done::AsPlanned))
}

/// Answers the run's id.
async fn start(request: &RunRequest, query: &TemplateQuery, ctx: &Context) -> Result<String, ActError> {
    let mut request = request.clone();
    if ctx.runs.wants_files(&request) {
        request.files =
            Arc::new(ctx.templates.files(query, &request.facts.builder, &request.facts.commit).await?);
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
