//! Resources that an ended build left in EC2, and their removal. They are found by the build's tags and by what Packer
//! announced. What was only announced counts if it looks like a temporary resource of Packer, since a provisioner can
//! print any ID.

mod evidence;

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{self, SnapshotReturnCodes as Codes};
use futures::future::try_join_all;
use jiff::Timestamp;

use super::ec2::{filter, moment, started, tags};
use super::{Announced, Aws, AwsError, Image, Orphans, Tags};
use crate::api::{BuildId, Class, ImageId, Owner, Region};
use evidence::{
    Evidence, Found, Machines, Mark, Sources, is_packers_group, is_packers_instance, is_packers_name,
};

/// Items per page, the maximum of all these calls.
const PAGE: i32 = 500;
/// States of an instance that has costs or can be started again.
const ALIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];

impl Aws {
    /// Returns what a build left behind: by the tag `opsy.dev/build=<build>` of this owner, and by announced IDs.
    /// Snapshots of the returned images are removed with their image.
    pub async fn orphans(
        &self,
        region: &Region,
        owner: &Owner,
        build: &BuildId,
        announced: &Announced,
    ) -> Result<Orphans, AwsError> {
        let mark = Mark { owner: owner.as_str(), build: build.as_str() };
        let look = Look { aws: self, region, mark, since: announced.since };
        let (instances, volumes, security_groups, key_pairs, images, snapshots) = futures::try_join!(
            look.instances(&announced.instances),
            look.volumes(),
            look.security_groups(&announced.security_groups),
            look.key_pairs(&announced.key_pairs),
            look.images(announced),
            look.snapshots(),
        )?;
        let mut left = Orphans { instances, volumes, security_groups, key_pairs, ..Orphans::default() };
        let held: BTreeSet<&String> = images.iter().flat_map(|found| &found.image.snapshots).collect();
        left.snapshots = snapshots.into_iter().filter(|id| !held.contains(id)).collect();
        let evidence = look.evidence(&images, announced).await?;
        let images: Vec<&Found> = images.iter().filter(|found| evidence.is_orphan(found)).collect();
        self.divide(region, &evidence, &images, &mut left).await?;
        Ok(left)
    }

    /// Images whose snapshots all belong to the build are removed with them. Of the other images, only the snapshots
    /// that belong to it are removed.
    async fn divide(
        &self,
        region: &Region,
        evidence: &Evidence<'_>,
        images: &[&Found],
        left: &mut Orphans,
    ) -> Result<(), AwsError> {
        let ids: BTreeSet<&String> = images.iter().flat_map(|found| &found.image.snapshots).collect();
        let described = if ids.is_empty() {
            Vec::new()
        } else {
            self.snapshots(region, vec![filter("snapshot-id", ids)]).await?
        };
        let made = |found: &Found, id: &String| {
            let snapshot = described.iter().find(|snapshot| snapshot.snapshot_id() == Some(id));
            snapshot.is_some_and(|snapshot| evidence.made_with(found, snapshot))
        };
        for found in images {
            let Image { id, snapshots, .. } = &found.image;
            let own: Vec<String> =
                snapshots.iter().filter(|snapshot| made(found, snapshot)).cloned().collect();
            if own.len() == snapshots.len() || evidence.announced.since.is_none() {
                left.images.push(id.clone());
            } else {
                left.partly.push(id.clone());
                left.snapshots.extend(own.iter().cloned());
            }
            if !evidence.mark.is_on(&found.image.tags) {
                left.unmarked.extend(std::iter::once(id.to_string()).chain(own));
                left.marks = evidence.mark.tags();
            }
        }
        Ok(())
    }

    /// Returns the enabled regions of the account.
    pub async fn enabled_regions(&self, region: &Region) -> Result<Vec<Region>, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let answer = ec2.sdk.describe_regions().send().await.map_err(ec2.failed("DescribeRegions"))?;
        let named = answer.regions().iter().filter_map(|region| region.region_name());
        Ok(named.filter_map(|name| Region::parse(name).ok()).collect())
    }

    /// Removes orphans, instances first. What must wait for another resource (a security group in use) is left for
    /// the next sweep, and what is gone counts as removed. A failure does not affect the others.
    pub async fn sweep(&self, region: &Region, orphans: &Orphans) -> Result<(), SweepError> {
        let broom = Broom { aws: self, region };
        let mut failures = Vec::new();
        let mut swept = |kind: &str, id: &str, result: Result<(), AwsError>| match result {
            Err(error) if !matches!(error.class(), Class::NotFound | Class::Conflict) => {
                failures.push((format!("{kind} {id}"), error));
            }
            _ => {}
        };
        if !orphans.unmarked.is_empty() {
            // A policy may allow only the removal of resources with the build's tags. If it does not allow setting the
            // tags either, it is the removal below that is refused.
            let _ = self.tag(region, &orphans.unmarked, &orphans.marks).await;
        }
        for id in &orphans.instances {
            swept("instance", id, broom.terminate(id).await);
        }
        for id in &orphans.volumes {
            swept("volume", id, broom.delete_volume(id).await);
        }
        for id in &orphans.security_groups {
            swept("security group", id, broom.delete_security_group(id).await);
        }
        for name in &orphans.key_pairs {
            swept("key pair", name, broom.delete_key_pair(name).await);
        }
        for id in &orphans.images {
            swept("image", id.as_str(), broom.deregister(id, true).await);
        }
        for id in &orphans.partly {
            swept("image", id.as_str(), broom.deregister(id, false).await);
        }
        for id in &orphans.snapshots {
            swept("snapshot", id, broom.delete_snapshot(id).await);
        }
        self.forget_images(region);
        SweepError::of(region, failures).map_or(Ok(()), Err)
    }
}

/// What a sweep could not remove, and why. A refusal takes precedence over a transient failure.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{error} (not removed in {region}: {})", left.join(", "))]
pub struct SweepError {
    region: Region,
    left: Vec<String>,
    error: AwsError,
}

impl SweepError {
    fn of(region: &Region, failures: Vec<(String, AwsError)>) -> Option<Self> {
        let (left, errors): (Vec<String>, Vec<AwsError>) = failures.into_iter().unzip();
        let refused = errors.iter().find(|error| error.class().is_refusal());
        let error = refused.or(errors.first())?.clone();
        Some(Self { region: region.clone(), left, error })
    }

    pub fn class(&self) -> Class {
        self.error.class()
    }
}

/// The reads for one build. Announced IDs are sent as filters: unlike a list of IDs, a filter does not fail because of
/// an ID that is gone, and can be paged.
struct Look<'a> {
    aws: &'a Aws,
    region: &'a Region,
    mark: Mark<'a>,
    /// When the run began. Anything older does not belong to it, whatever its tags say.
    since: Option<Timestamp>,
}

impl Look<'_> {
    fn predates(&self, tags: &Tags, made: Option<Timestamp>) -> bool {
        self.mark.predates(tags, made, self.since)
    }

    async fn instances(&self, announced: &[String]) -> Result<Vec<String>, AwsError> {
        let reads = self.searches(&[("instance-id", announced)]).into_iter().map(|mut search| {
            search.push(filter("instance-state-name", ALIVE));
            self.aws.described_instances(self.region, search)
        });
        let found = try_join_all(reads).await?;
        let ours =
            found.iter().flatten().filter(|i| self.mark.covers(&tags(i.tags()), is_packers_instance(i)));
        let ours = ours.filter(|i| !self.predates(&tags(i.tags()), moment(i.launch_time())));
        Ok(unique(ours.filter_map(|instance| instance.instance_id())))
    }

    /// Finds volumes by tag only: nothing else shows that Packer created a volume.
    async fn volumes(&self) -> Result<Vec<String>, AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let call = ec2.sdk.describe_volumes().set_filters(Some(self.mark.filters()));
        let call = call.filters(filter("status", ["available"])).max_results(PAGE);
        let found = call.into_paginator().items().send().try_collect().await;
        let found: Vec<types::Volume> = found.map_err(ec2.failed("DescribeVolumes"))?;
        let ours = found.iter().filter(|v| !self.predates(&tags(v.tags()), moment(v.create_time())));
        Ok(unique(ours.filter_map(|volume| volume.volume_id())))
    }

    async fn security_groups(&self, announced: &[String]) -> Result<Vec<String>, AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let (ids, names): (Vec<String>, Vec<String>) =
            announced.iter().cloned().partition(|text| text.starts_with("sg-"));
        let searches = self.searches(&[("group-id", &ids), ("group-name", &names)]);
        let reads = searches.into_iter().map(|search| {
            let call = ec2.sdk.describe_security_groups().set_filters(Some(search));
            call.max_results(PAGE).into_paginator().items().send().try_collect()
        });
        let pages = try_join_all(reads).await.map_err(ec2.failed("DescribeSecurityGroups"))?;
        let found = pages.iter().flat_map(|page: &Vec<types::SecurityGroup>| page);
        let ours = found.filter(|g| self.mark.covers(&tags(g.tags()), is_packers_group(g)));
        Ok(unique(ours.filter_map(|group| group.group_id())))
    }

    async fn key_pairs(&self, announced: &[String]) -> Result<Vec<String>, AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let reads = self.searches(&[("key-name", announced)]).into_iter().map(|search| {
            // DescribeKeyPairs has no pages.
            ec2.sdk.describe_key_pairs().set_filters(Some(search)).send()
        });
        let pages = try_join_all(reads).await.map_err(ec2.failed("DescribeKeyPairs"))?;
        let found = pages.iter().flat_map(|page| page.key_pairs());
        let ours = found.filter(|key| {
            let is_packers = key.key_name().is_some_and(is_packers_name);
            let (tags, made) = (tags(key.tags()), moment(key.create_time()));
            self.mark.covers(&tags, is_packers) && !(made.is_some() && self.predates(&tags, made))
        });
        Ok(unique(ours.filter_map(|key| key.key_name())))
    }

    /// Returns the images of the build, both orphaned and kept ones: snapshots of the kept ones must stay. Copies name
    /// the image from which they were made, and images the instance.
    async fn images(&self, announced: &Announced) -> Result<Vec<Found>, AwsError> {
        let named: Vec<String> = announced.images.iter().chain(&announced.artifacts).cloned().collect();
        let searches = [
            ("image-id", named.as_slice()),
            ("source-image-id", &named),
            ("source-instance-id", &announced.instances),
        ];
        let reads = self.searches(&searches).into_iter().map(|search| {
            self.aws.described_images(self.region, |call| call.owners("self").set_filters(Some(search)))
        });
        let found = try_join_all(reads).await?.into_iter().flatten();
        let mut images: Vec<Found> = found.filter_map(Found::of).collect();
        images.sort_by(|a, b| a.image.id.cmp(&b.image.id));
        images.dedup_by(|a, b| a.image.id == b.image.id);
        Ok(images)
    }

    /// Returns what is known about the images found. The announced images of which they may be copies are in the region
    /// where the run made its images.
    async fn evidence<'a>(
        &'a self,
        found: &[Found],
        announced: &'a Announced,
    ) -> Result<Evidence<'a>, AwsError> {
        let machines = self.machines(self.region, found, announced).await?;
        let evidence = Evidence { mark: self.mark, announced, sources: Sources::default(), machines };
        let home = announced.home.as_ref().unwrap_or(self.region);
        let named = evidence::announced_sources(found, announced, home);
        if named.is_empty() {
            return Ok(evidence);
        }
        let search = vec![filter("image-id", named.iter().map(ImageId::as_str))];
        let seen = self.aws.described_images(home, |call| call.set_filters(Some(search))).await?;
        let seen: Vec<Found> = seen.into_iter().filter_map(Found::of).collect();
        let at_home = self.machines(home, &seen, announced).await?;
        let sources = Sources::of(named, &seen, &Evidence { machines: at_home, ..evidence.clone() });
        Ok(Evidence { sources, ..evidence })
    }

    /// Returns the instances from which images were made. An instance belongs to the build by its tags. Without them,
    /// it must be announced, look like Packer's, not be older than the run, and have no tag of another build, because a
    /// build can announce any ID.
    async fn machines(
        &self,
        region: &Region,
        images: &[Found],
        announced: &Announced,
    ) -> Result<Machines, AwsError> {
        let ids: BTreeSet<&str> = images.iter().filter_map(|found| found.instance.as_deref()).collect();
        if ids.is_empty() {
            return Ok(Machines::default());
        }
        let found = self.aws.described_instances(region, vec![filter("instance-id", ids)]).await?;
        let (own, others): (Vec<_>, Vec<_>) = found.iter().partition(|instance| {
            let tags = tags(instance.tags());
            let is_named = announced.instances.iter().any(|id| Some(id.as_str()) == instance.instance_id());
            self.mark.covers(&tags, is_named && is_packers_instance(instance))
                && !self.predates(&tags, moment(instance.launch_time()))
        });
        let ids = |instances: Vec<&types::Instance>| {
            instances.into_iter().filter_map(|instance| instance.instance_id().map(str::to_owned)).collect()
        };
        Ok(Machines { own: ids(own), others: ids(others) })
    }

    async fn snapshots(&self) -> Result<Vec<String>, AwsError> {
        let found = self.aws.snapshots(self.region, self.mark.filters()).await?;
        let ours = found.iter().filter(|s| !self.predates(&tags(s.tags()), started(s)));
        Ok(unique(ours.filter_map(|snapshot| snapshot.snapshot_id())))
    }

    /// Returns one search by the build's tags, and one for each kind of announced ID.
    fn searches(&self, announced: &[(&str, &[String])]) -> Vec<Vec<types::Filter>> {
        let named = announced.iter().filter(|(_, values)| !values.is_empty());
        let named = named.map(|(name, values)| vec![filter(name, *values)]);
        std::iter::once(self.mark.filters()).chain(named).collect()
    }
}

/// The removals, one resource per call: a list with one unknown ID fails as a whole.
struct Broom<'a> {
    aws: &'a Aws,
    region: &'a Region,
}

impl Broom<'_> {
    async fn terminate(&self, id: &str) -> Result<(), AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let done = ec2.sdk.terminate_instances().instance_ids(id).send().await;
        done.map(drop).map_err(ec2.failed("TerminateInstances"))
    }

    async fn delete_volume(&self, id: &str) -> Result<(), AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let done = ec2.sdk.delete_volume().volume_id(id).send().await;
        done.map(drop).map_err(ec2.failed("DeleteVolume"))
    }

    async fn delete_security_group(&self, id: &str) -> Result<(), AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let done = ec2.sdk.delete_security_group().group_id(id).send().await;
        done.map(drop).map_err(ec2.failed("DeleteSecurityGroup"))
    }

    async fn delete_key_pair(&self, name: &str) -> Result<(), AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let done = ec2.sdk.delete_key_pair().key_name(name).send().await;
        done.map(drop).map_err(ec2.failed("DeleteKeyPair"))
    }

    async fn delete_snapshot(&self, id: &str) -> Result<(), AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let done = ec2.sdk.delete_snapshot().snapshot_id(id).send().await;
        done.map(drop).map_err(ec2.failed("DeleteSnapshot"))
    }

    /// Deregisters an image, with its snapshots if they belong to it. EC2 reports success even if it could not delete a
    /// snapshot. Such a snapshot is then deleted by itself, which returns the reason.
    async fn deregister(&self, id: &ImageId, with_snapshots: bool) -> Result<(), AwsError> {
        let ec2 = self.aws.0.clients.ec2(self.region);
        let call = ec2.sdk.deregister_image().image_id(id.as_str());
        let answer = call.delete_associated_snapshots(with_snapshots).send().await;
        let answer = answer.map_err(ec2.failed("DeregisterImage"))?;
        let kept = answer
            .delete_snapshot_results()
            .iter()
            .filter(|result| !matches!(result.return_code(), Some(Codes::Success | Codes::WarnSkipped)));
        for id in kept.filter_map(|result| result.snapshot_id()) {
            self.delete_snapshot(id).await?;
        }
        Ok(())
    }
}

fn unique<'a>(ids: impl Iterator<Item = &'a str>) -> Vec<String> {
    let ids: BTreeSet<&str> = ids.collect();
    ids.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
