//! EC2 launch templates: listing, creating and deleting their versions; and the architectures of instance types.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_sdk_ec2::types::{
    self, DeleteLaunchTemplateVersionsResponseErrorItem as Refused, LaunchTemplateErrorCode as Refusal,
    RequestLaunchTemplateData,
};

use super::ec2::reason;
use super::{Aws, AwsError, Fresh, LaunchTemplateVersion, TemplateVersion, unreadable};
use crate::api::{ClientToken, ImageId, Region, TemplateId};

/// Versions per page, the maximum of EC2.
const PAGE: i32 = 200;
/// Versions that are deleted per call, the maximum of EC2.
const DELETED: usize = 200;

/// A complete block device mapping of a launch template: a list of mappings replaces the inherited one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub device: String,
    pub virtual_name: Option<String>,
    pub no_device: Option<String>,
    /// Absent for instance stores and for devices that are left out.
    pub volume: Option<Volume>,
}

/// The EBS volume of a block device mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    pub snapshot: Option<String>,
    /// In GiB.
    pub size: Option<i32>,
    pub kind: Option<String>,
    pub iops: Option<i32>,
    pub throughput: Option<i32>,
    pub initialization_rate: Option<i32>,
    pub card: Option<i32>,
    pub encrypted: Option<bool>,
    pub kms_key: Option<String>,
    pub delete_on_termination: Option<bool>,
}

impl Aws {
    /// Returns all versions of a launch template (paged), and whether they count as read now. Shared for 5 min,
    /// single-flight, dropped on our own writes: a version never changes, but others create and delete versions.
    pub async fn template_versions(
        &self,
        region: &Region,
        template: &TemplateId,
        fresh: Fresh,
    ) -> Result<(Arc<Vec<LaunchTemplateVersion>>, bool), AwsError> {
        let ask = || async {
            let ec2 = self.0.clients.ec2(region);
            let call = ec2.sdk.describe_launch_template_versions();
            let call = call.launch_template_id(template.as_str()).max_results(PAGE);
            let pages = call.into_paginator().items().send();
            let versions: Vec<_> =
                pages.try_collect().await.map_err(ec2.failed("DescribeLaunchTemplateVersions"))?;
            Ok(Arc::new(versions.iter().filter_map(version).collect()))
        };
        self.0.templates.read(&(region.clone(), template.clone()), fresh, ask).await
    }

    /// Drops the shared response. Even a failed write may have taken effect.
    fn forget_template(&self, region: &Region, template: &TemplateId) {
        self.0.templates.drop_key(&(region.clone(), template.clone()));
    }

    /// Creates a version from `source` with only the image changed, and returns its number. If `disks` are given, they
    /// replace those of `source`: EC2 does not copy snapshot IDs by itself.
    pub async fn create_template_version(
        &self,
        region: &Region,
        source: &TemplateVersion,
        image: &ImageId,
        disks: &[Disk],
        description: &str,
        token: &ClientToken,
    ) -> Result<i64, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let mappings = (!disks.is_empty()).then(|| disks.iter().map(mapping).collect());
        let data = RequestLaunchTemplateData::builder()
            .image_id(image.as_str())
            .set_block_device_mappings(mappings)
            .build();
        let call = ec2.sdk.create_launch_template_version();
        let call = call.launch_template_id(source.template.as_str());
        let call = call.source_version(&source.version).launch_template_data(data);
        let call = call.version_description(description).client_token(token.as_str());
        let answer = call.send().await;
        self.forget_template(region, &source.template);
        let answer = answer.map_err(ec2.failed("CreateLaunchTemplateVersion"))?;
        let warnings = answer.warning().map(|warning| warning.errors()).unwrap_or_default();
        for warning in warnings {
            let why = reason(warning.code(), warning.message()).unwrap_or_default();
            tracing::warn!(template = %source.template, why, "EC2 warns about the new launch template version");
        }
        let number = answer.launch_template_version().and_then(|made| made.version_number());
        number.ok_or_else(|| unreadable("ec2:CreateLaunchTemplateVersion", "no version number"))
    }

    /// Deletes versions. Returns the numbers that EC2 refused, each with the reason. A version that is already gone
    /// counts as deleted.
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
            let answer = call.send().await;
            self.forget_template(region, template);
            let answer = answer.map_err(ec2.failed("DeleteLaunchTemplateVersions"))?;
            let kept = answer.unsuccessfully_deleted_launch_template_versions();
            refused.extend(kept.iter().filter_map(refusal));
        }
        Ok(refused)
    }
}

impl Aws {
    /// Returns the architectures that any of these instance types supports. Shared for a day.
    pub async fn architectures(
        &self,
        region: &Region,
        instance_types: &[String],
    ) -> Result<BTreeSet<String>, AwsError> {
        let ask = || async {
            let ec2 = self.0.clients.ec2(region);
            let kinds = instance_types.iter().map(|kind| types::InstanceType::from(kind.as_str())).collect();
            let answer = ec2.sdk.describe_instance_types().set_instance_types(Some(kinds)).send().await;
            let answer = answer.map_err(ec2.failed("DescribeInstanceTypes"))?;
            let processors = answer.instance_types().iter().filter_map(|kind| kind.processor_info());
            let found = processors.flat_map(|processor| processor.supported_architectures());
            Ok(found.map(|architecture| architecture.as_str().to_owned()).collect())
        };
        self.0.architectures.get(&(region.clone(), instance_types.to_vec()), Fresh::Cached, ask).await
    }
}

fn version(version: &types::LaunchTemplateVersion) -> Option<LaunchTemplateVersion> {
    let data = version.launch_template_data();
    Some(LaunchTemplateVersion {
        number: version.version_number()?,
        image: data.and_then(|data| data.image_id()).map(str::to_owned),
        description: version.version_description().map(str::to_owned),
        is_default: version.default_version().unwrap_or(false),
        instance_type: data.and_then(|data| data.instance_type()).map(|kind| kind.as_str().to_owned()),
        disks: data.map(|data| data.block_device_mappings().iter().map(disk).collect()).unwrap_or_default(),
    })
}

fn disk(mapping: &types::LaunchTemplateBlockDeviceMapping) -> Disk {
    Disk {
        device: mapping.device_name().unwrap_or_default().to_owned(),
        virtual_name: mapping.virtual_name().map(str::to_owned),
        no_device: mapping.no_device().map(str::to_owned),
        volume: mapping.ebs().map(|ebs| Volume {
            snapshot: ebs.snapshot_id().map(str::to_owned),
            size: ebs.volume_size(),
            kind: ebs.volume_type().map(|kind| kind.as_str().to_owned()),
            iops: ebs.iops(),
            throughput: ebs.throughput(),
            initialization_rate: ebs.volume_initialization_rate(),
            card: ebs.ebs_card_index(),
            encrypted: ebs.encrypted(),
            kms_key: ebs.kms_key_id().map(str::to_owned),
            delete_on_termination: ebs.delete_on_termination(),
        }),
    }
}

fn mapping(disk: &Disk) -> types::LaunchTemplateBlockDeviceMappingRequest {
    let ebs = disk.volume.as_ref().map(|volume| {
        types::LaunchTemplateEbsBlockDeviceRequest::builder()
            .set_snapshot_id(volume.snapshot.clone())
            .set_volume_size(volume.size)
            .set_volume_type(volume.kind.as_deref().map(types::VolumeType::from))
            .set_iops(volume.iops)
            .set_throughput(volume.throughput)
            .set_volume_initialization_rate(volume.initialization_rate)
            .set_ebs_card_index(volume.card)
            .set_encrypted(volume.encrypted)
            .set_kms_key_id(volume.kms_key.clone())
            .set_delete_on_termination(volume.delete_on_termination)
            .build()
    });
    types::LaunchTemplateBlockDeviceMappingRequest::builder()
        .device_name(&disk.device)
        .set_virtual_name(disk.virtual_name.clone())
        .set_no_device(disk.no_device.clone())
        .set_ebs(ebs)
        .build()
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
