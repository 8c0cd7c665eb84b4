//! Executes one step. The plan has made every decision, so this is one match.

use std::sync::Arc;

use super::Context;
use super::outcome::{ActError, Done, Outcome};
use super::step::{Dependency, Step, Tagging};
use super::sweep;
use crate::api::Class;
use crate::aws::{AwsError, SweepError};
use crate::engine::{EngineError, RunRequest};
use crate::git::templates::{TemplateError, TemplateQuery};

/// Executes a step.
pub async fn act(step: &Step, ctx: &Context) -> Outcome {
    let done = match step {
        Step::Start { request, query, .. } => {
            let started = start(request, query, ctx).await;
            return started.map_or_else(Outcome::Failed, |id| Outcome::Did(Done::Started(id)));
        }
        Step::Stop { run, why } => ctx.runs.stop(run, *why).await.map_err(ActError::from),
        Step::Forget(run) => ctx.runs.forget(run).await.map_err(ActError::from),
        Step::Activate(tagging) | Step::Demote(tagging) => return tag(tagging, ctx).await,
        Step::Supersede { kept, superseded } => {
            return match tag(kept, ctx).await {
                Outcome::Did(Done::AsPlanned) => tag(superseded, ctx).await,
                Outcome::Did(refused) => match tag(superseded, ctx).await {
                    Outcome::Did(Done::AsPlanned) => Outcome::Did(refused),
                    done => done,
                },
                failed => failed,
            };
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

/// Starts a run and returns its ID.
async fn start(request: &RunRequest, query: &TemplateQuery, ctx: &Context) -> Result<String, ActError> {
    let mut request = request.clone();
    if ctx.runs.wants_files(&request) {
        request.files =
            Arc::new(ctx.templates.files(query, &request.facts.builder, &request.facts.commit).await?);
    }
    Ok(ctx.runs.start(request).await?)
}

/// Tags images and their snapshots. Plans depend only on the tags of images, so a refusal to tag a snapshot is only
/// reported.
async fn tag(tagging: &Tagging, ctx: &Context) -> Outcome {
    let Tagging { region, images, snapshots, made, tags } = tagging;
    if let Err(error) = ctx.aws.tag(region, images, tags).await {
        return Outcome::Failed(error.into());
    }
    let refused = ctx.aws.tag_snapshots(region, snapshots, *made, tags).await.err();
    Outcome::Did(refused.map_or(Done::AsPlanned, |error| Done::SnapshotsRefused(error.to_string())))
}

impl From<AwsError> for ActError {
    /// A step changes what was observed a moment ago. If EC2 does not find it now, it will show it again soon.
    fn from(error: AwsError) -> Self {
        let class = match error.class() {
            Class::NotFound => Class::TRANSIENT,
            class => class,
        };
        Self { dependency: Dependency::Aws, class, message: error.to_string() }
    }
}

impl From<SweepError> for ActError {
    fn from(error: SweepError) -> Self {
        Self { dependency: Dependency::Aws, class: error.class(), message: error.to_string() }
    }
}

impl From<EngineError> for ActError {
    fn from(error: EngineError) -> Self {
        Self { dependency: Dependency::Runs, class: error.class, message: error.message }
    }
}

impl From<TemplateError> for ActError {
    fn from(error: TemplateError) -> Self {
        Self { dependency: Dependency::Template, class: error.class, message: error.message }
    }
}
