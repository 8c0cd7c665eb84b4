//! EC2's launch templates: their versions, made from others and taken away again.

use aws_sdk_ec2::types::{
    DeleteLaunchTemplateVersionsResponseErrorItem as Refused, LaunchTemplateErrorCode as Refusal,
    RequestLaunchTemplateData,
};

use super::ec2::reason;
use super::{Aws, AwsError, LaunchTemplateVersion, TemplateVersion, unreadable};
use crate::api::{ClientToken, ImageId, Region, TemplateId};

/// Versions of one page: the most EC2 hands out.
const PAGE: i32 = 200;
/// Versions deleted by one call: the most EC2 takes.
const DELETED: usize = 200;

impl Aws {
    /// Versions of a launch template (all of them, paged).
    pub async fn template_versions(
        &self,
        region: &Region,
        template: &TemplateId,
    ) -> Result<Vec<LaunchTemplateVersion>, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let call = ec2.sdk.describe_launch_template_versions();
        let call = call.launch_template_id(template.as_str()).max_results(PAGE);
        let pages = call.into_paginator().items().send();
        let versions: Vec<_> =
            pages.try_collect().await.map_err(ec2.failed("DescribeLaunchTemplateVersions"))?;
        Ok(versions.iter().filter_map(version).collect())
    }

    /// A new version made from `source` with only the image changed. Answers its number.
    pub async fn create_template_version(
        &self,
        region: &Region,
        source: &TemplateVersion,
        image: &ImageId,
        description: &str,
        token: &ClientToken,
    ) -> Result<i64, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let data = RequestLaunchTemplateData::builder().image_id(image.as_str()).build();
        let call = ec2.sdk.create_launch_template_version();
        let call = call.launch_template_id(source.template.as_str());
        let call = call.source_version(&source.version).launch_template_data(data);
        let call = call.version_description(description).client_token(token.as_str());
        let answer = call.send().await.map_err(ec2.failed("CreateLaunchTemplateVersion"))?;
        let warnings = answer.warning().map(|warning| warning.errors()).unwrap_or_default();
        for warning in warnings {
            let why = reason(warning.code(), warning.message()).unwrap_or_default();
            tracing::warn!(template = %source.template, why, "EC2 doubts the new launch template version");
        }
        let number = answer.launch_template_version().and_then(|made| made.version_number());
        number.ok_or_else(|| unreadable("ec2:CreateLaunchTemplateVersion", "no version number"))
    }

    /// Deletes versions; numbers EC2 refused come back with its reason. One that is gone already
    /// is deleted.
    pub async fn delete_template_versions(
        &self,
        region: &Region,
        template: &TemplateId,
        versions: &[i64],
    ) -> Result<Vec<(i64, String)>, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let mut refused = Vec::new();
        for batch in versions.chunks(DELETED) {
            let numbers = batch.iter().map(ToString::to_string).collect();
            let call = ec2.sdk.delete_launch_template_versions();
            let call = call.launch_template_id(template.as_str()).set_versions(Some(numbers));
            let answer = call.send().await.map_err(ec2.failed("DeleteLaunchTemplateVersions"))?;
            let kept = answer.unsuccessfully_deleted_launch_template_versions();
            refused.extend(kept.iter().filter_map(refusal));
        }
        Ok(refused)
    }
}

fn version(version: &aws_sdk_ec2::types::LaunchTemplateVersion) -> Option<LaunchTemplateVersion> {
    let data = version.launch_template_data();
    Some(LaunchTemplateVersion {
        number: version.version_number()?,
        image: data.and_then(|data| data.image_id()).map(str::to_owned),
        description: version.version_description().map(str::to_owned),
        is_default: version.default_version().unwrap_or(false),
    })
}

fn refusal(item: &Refused) -> Option<(i64, String)> {
    let error = item.response_error();
    let code = error.and_then(|error| error.code());
    if code == Some(&Refusal::LaunchTemplateVersionDoesNotExist) {
        return None;
    }
    let message = error.and_then(|error| error.message());
    let why = reason(code.map(|code| code.as_str()), message).unwrap_or_default();
    Some((item.version_number()?, why))
}
