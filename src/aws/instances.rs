//! EC2 instances: how they are found, and the image that each runs. `orphans` decides which of them a build left behind.

use aws_sdk_ec2::types;

use super::ec2::filter;
use super::{Aws, AwsError, Filter, Instance};
use crate::api::{ImageId, Region};

/// Instances per page, the maximum of EC2.
const PAGE: i32 = 1000;

impl Aws {
    /// Returns the instances that a filter finds. EC2 shows terminated instances for an hour. Never shared.
    pub async fn instances(&self, region: &Region, wanted: &Filter) -> Result<Vec<Instance>, AwsError> {
        let found = self.described_instances(region, vec![filter(&wanted.name, &wanted.values)]).await?;
        Ok(found.into_iter().filter_map(instance).collect())
    }

    /// Returns whether the region knows one of these instances. EC2 shows terminated instances for an hour.
    pub async fn knows_instance(&self, region: &Region, ids: &[String]) -> Result<bool, AwsError> {
        if ids.is_empty() {
            return Ok(false);
        }
        let found = self.described_instances(region, vec![filter("instance-id", ids)]).await?;
        Ok(!found.is_empty())
    }

    /// Returns all pages of a DescribeInstances, as EC2 describes the instances.
    pub(super) async fn described_instances(
        &self,
        region: &Region,
        filters: Vec<types::Filter>,
    ) -> Result<Vec<types::Instance>, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let call = ec2.sdk.describe_instances().set_filters(Some(filters)).max_results(PAGE);
        let found = call.into_paginator().items().send().try_collect().await;
        let found: Vec<types::Reservation> = found.map_err(ec2.failed("DescribeInstances"))?;
        Ok(found.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default()).collect())
    }
}

/// Converts an instance of EC2. An instance without a valid image ID is left out.
fn instance(instance: types::Instance) -> Option<Instance> {
    Some(Instance {
        image: ImageId::parse(instance.image_id()?).ok()?,
        state: instance.state().and_then(|state| state.name()).map(|name| name.as_str().to_owned()),
        id: instance.instance_id?,
    })
}
