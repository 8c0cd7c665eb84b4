//! Executes one step. Everything was decided by `plan`, so this is one match; `summary` explains the outcome.

use super::Context;
use super::node_group::name_in_aws;
use super::outcome::{ActError, ActErrorKind, Outcome};
use super::spec::Spec;
use super::step::Step;
use crate::api::Class;
use crate::aws::AwsError;

pub async fn act(step: Step, spec: &Spec, ctx: &Context) -> Outcome {
    let (aws, region, cluster) = (&ctx.aws, &spec.region, spec.cluster.as_str());
    match step {
        Step::ConfigureManaged { group, max, strategy, token, .. } => {
            let result = aws.update_config(region, cluster, &group, max, strategy.as_deref(), &token).await;
            Outcome::ManagedConfigured { group, result: result.map_err(ActError::from) }
        }
        Step::CreateVersion { group, source, image, disks, description, token } => {
            let result =
                aws.create_template_version(region, &source, &image, &disks, &description, &token).await;
            let template = source.template;
            Outcome::VersionCreated { group, template, result: result.map_err(ActError::from) }
        }
        Step::StartManagedUpdate { group, version, force, token, .. } => {
            let result = aws.update_version(region, cluster, &group, &version, force, &token).await;
            let version = version.version;
            Outcome::ManagedUpdateStarted { group, version, result: result.map_err(ActError::from) }
        }
        Step::PinGroup { group, pinned, source, version, .. } => {
            let result = aws.pin_group(region, cluster, name_in_aws(&pinned), &source, &version).await;
            Outcome::GroupPinned { group, result: result.map_err(ActError::from) }
        }
        Step::StartRefresh { group, source, version, preferences, .. } => {
            let name = name_in_aws(&group);
            let result = aws.start_refresh(region, cluster, name, &source, &version, &preferences).await;
            let version = version.version;
            Outcome::RefreshStarted { group, version, result: result.map_err(ActError::from) }
        }
        Step::CancelRefresh { group } => {
            let result = aws.cancel_refresh(region, cluster, name_in_aws(&group)).await;
            Outcome::RefreshTurnedBack { group, result: result.map_err(ActError::from) }
        }
        Step::RollBackRefresh { group } => {
            let result = aws.roll_back_refresh(region, cluster, name_in_aws(&group)).await;
            Outcome::RefreshTurnedBack { group, result: result.map_err(ActError::from) }
        }
        Step::PruneVersions { template, versions, after, .. } => {
            let result = aws.delete_template_versions(region, &template, &versions).await;
            Outcome::VersionsPruned { after, result: result.map_err(ActError::from) }
        }
    }
}

impl From<AwsError> for ActError {
    fn from(error: AwsError) -> Self {
        let kind = if error.is_missing_version() {
            ActErrorKind::MissingVersion
        } else if error.is_full() {
            ActErrorKind::TemplateFull
        } else if error.class() == Class::NotFound {
            ActErrorKind::NotVisible
        } else if error.may_be_final() {
            ActErrorKind::Uncertain
        } else {
            ActErrorKind::Other
        };
        // What a step changes was read just before. If AWS does not find it now, it will in a moment.
        let class = if kind == ActErrorKind::NotVisible { Class::TRANSIENT } else { error.class() };
        Self { class, message: error.to_string(), kind }
    }
}
