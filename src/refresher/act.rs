//! Does one step. Everything was decided before; what came of it is for the report.

use super::Context;
use super::plan::Step;
use super::spec::Spec;
use crate::aws::{AwsError, Update};

/// What a step came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Configured(Update),
    /// Number of the new launch template version.
    Made(i64),
    Started(Update),
    /// Versions EC2 would not delete, and its reasons.
    Pruned(Vec<(i64, String)>),
}

pub async fn act(step: &Step, spec: &Spec, ctx: &Context) -> Result<Done, AwsError> {
    let (aws, region, cluster) = (&ctx.aws, &spec.region, spec.cluster.as_str());
    match step {
        Step::Configure { group, max, token, .. } => {
            aws.update_config(region, cluster, group, *max, token).await.map(Done::Configured)
        }
        Step::MakeVersion { source, image, description, token, .. } => {
            aws.create_template_version(region, source, image, description, token).await.map(Done::Made)
        }
        Step::StartUpdate { group, version, force, token, .. } => {
            aws.update_version(region, cluster, group, version, *force, token).await.map(Done::Started)
        }
        Step::PruneVersions { template, versions, .. } => {
            aws.delete_template_versions(region, template, versions).await.map(Done::Pruned)
        }
    }
}
