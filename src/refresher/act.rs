//! Does one step. Everything was decided before; what came of it is for the report.

use super::Context;
use super::plan::Step;
use super::spec::Spec;
use crate::api::Class;
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

/// What became of a step that failed, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    pub class: Class,
    pub why: String,
    pub kind: Failure,
}

/// What must be told apart beside the class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Other,
    /// A refusal that is final once it stays the same.
    Unsure,
    /// The launch template version does not exist, or is not seen yet.
    MissingVersion,
    /// The launch template has no room for another version.
    Full,
    /// AWS does not find what was there a moment ago.
    Unseen,
}

impl From<AwsError> for Failed {
    fn from(error: AwsError) -> Self {
        let kind = if error.is_missing_version() {
            Failure::MissingVersion
        } else if error.is_full() {
            Failure::Full
        } else if error.class() == Class::NotFound {
            Failure::Unseen
        } else if error.may_be_final() {
            Failure::Unsure
        } else {
            Failure::Other
        };
        // What a step changes was seen just before: AWS that does not find it now shows it again in a moment.
        let class = if kind == Failure::Unseen { Class::TRANSIENT } else { error.class() };
        Self { class, why: error.to_string(), kind }
    }
}

pub async fn act(step: &Step, spec: &Spec, ctx: &Context) -> Result<Done, AwsError> {
    let (aws, region, cluster) = (&ctx.aws, &spec.region, spec.cluster.as_str());
    match step {
        Step::Configure { group, max, strategy, token, .. } => {
            let strategy = strategy.as_deref();
            aws.update_config(region, cluster, group, *max, strategy, token).await.map(Done::Configured)
        }
        Step::MakeVersion { source, image, disks, description, token, .. } => {
            let made = aws.create_template_version(region, source, image, disks, description, token).await;
            made.map(Done::Made)
        }
        Step::StartUpdate { group, version, force, token, .. } => {
            aws.update_version(region, cluster, group, version, *force, token).await.map(Done::Started)
        }
        Step::PruneVersions { template, versions, .. } => {
            aws.delete_template_versions(region, template, versions).await.map(Done::Pruned)
        }
    }
}
