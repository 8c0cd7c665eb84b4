//! EC2 images: finding and tagging them. Launch templates and orphaned resources of builds have files of their own.

use std::cmp::Reverse;
use std::sync::Arc;

use aws_sdk_ec2::operation::describe_images::builders::DescribeImagesFluentBuilder;
use aws_sdk_ec2::primitives::DateTime;
use aws_sdk_ec2::types;
use jiff::{SignedDuration, Timestamp};

use super::{Aging, Aws, AwsError, Fresh, Image, ImageQuery, ImageState, Machine, Made, Tags};
use crate::api::tags::{BROUGHT_BY, BUILD, STATUS};
use crate::api::{BuildId, Class, ImageId, Region};

/// Maximum difference between the clocks of EC2 and of the agent's machine.
pub(super) const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// Images per page, the maximum of EC2.
const PAGE: i32 = 1000;
/// IDs per call. Such a call cannot be paged, so it must stay small.
const IDS: usize = 100;
/// Snapshots per page.
const SNAPSHOTS: i32 = 500;
/// Resources that are tagged per call: EC2 allows 1000 and recommends fewer.
const TAGGED: usize = 200;

impl Aws {
    /// Returns all images of this account that have the tag `brought-to-you-by`, in any state, including disabled ones.
    /// Shared for 30 s, single-flight, dropped on our own writes.
    pub async fn own_images(&self, region: &Region, fresh: Fresh) -> Result<Arc<Vec<Image>>, AwsError> {
        let ask = || async {
            let (key, value) = BROUGHT_BY;
            let marked = filter(&format!("tag:{key}"), [value]);
            self.images(region, |call| call.owners("self").filters(marked)).await.map(Arc::new)
        };
        self.0.own_images.get(region, fresh, ask).await
    }

    /// Returns images by ID. A deregistered or unknown image is left out. EC2 is asked now; if no response ages, only for
    /// images that are not among the own ones, and once.
    pub async fn images_by_id(&self, region: &Region, ids: &[ImageId]) -> Result<Vec<Image>, AwsError> {
        let mut found = self.listed(region, ids).await;
        let mut others = ids.to_vec();
        others.retain(|id| found.iter().all(|image| image.id != *id));
        others.sort();
        others.dedup();
        if !others.is_empty() {
            let key = (region.clone(), others);
            let ask = || self.read_by_id(region, &key.1);
            found.extend(self.0.images_by_id.get(&key, Fresh::Now, ask).await?);
        }
        found.retain(|image| image.state != ImageState::Deregistered);
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Those of the images that the list of own images has, if it does not age. Without the list, none.
    async fn listed(&self, region: &Region, ids: &[ImageId]) -> Vec<Image> {
        let own = match self.0.aging {
            Aging::Never if !ids.is_empty() => self.own_images(region, Fresh::Cached).await.ok(),
            _ => None,
        };
        let own = own.iter().flat_map(|own| own.iter());
        own.filter(|image| ids.contains(&image.id)).cloned().collect()
    }

    async fn read_by_id(&self, region: &Region, ids: &[ImageId]) -> Result<Vec<Image>, AwsError> {
        let mut found = Vec::new();
        let mut batches: Vec<&[ImageId]> = ids.chunks(IDS).collect();
        while let Some(batch) = batches.pop() {
            match self.images_of_batch(region, batch).await {
                Ok(images) => found.extend(images),
                // One unknown ID fails the whole call: halve the batch until that ID is alone.
                Err(error) if error.is_unknown_id() => {
                    let (left, right) = batch.split_at(batch.len() / 2);
                    batches.extend([left, right].into_iter().filter(|_| batch.len() > 1));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Returns the images that a query finds, newest first, deprecated ones last. Shared for 5 min per query.
    pub async fn find_images(&self, query: &ImageQuery, fresh: Fresh) -> Result<Arc<Vec<Image>>, AwsError> {
        if query.owners.is_empty() {
            let why = "a lookup without an image owner would search all public images";
            return Err(AwsError::new(Class::Invalid, "ec2:DescribeImages", why));
        }
        let ask = || async {
            let filters = query.filters.iter().map(|f| filter(&f.name, &f.values)).collect();
            let owners = Some(query.owners.clone());
            let ask = |call: DescribeImagesFluentBuilder| call.set_owners(owners).set_filters(Some(filters));
            let mut images = self.images(&query.region, ask).await?;
            newest_first(&mut images, (self.0.now)());
            Ok(Arc::new(images))
        };
        self.0.found_images.get(query, fresh, ask).await
    }

    /// Returns our images in any state that have the tag `opsy.dev/build=<build>`, which both the tags of a run and the
    /// tags of a result include.
    pub async fn images_of_build(&self, region: &Region, build: &BuildId) -> Result<Vec<Image>, AwsError> {
        let tagged = filter(&format!("tag:{BUILD}"), [build.as_str()]);
        self.images(region, |call| call.owners("self").filters(tagged)).await
    }

    /// Sets tags on those of the account's own snapshots that belong to an image.
    pub async fn tag_snapshots(
        &self,
        region: &Region,
        snapshots: &[String],
        made: Made,
        tags: &Tags,
    ) -> Result<(), AwsError> {
        if snapshots.is_empty() {
            return Ok(());
        }
        let found = self.snapshots(region, vec![filter("snapshot-id", snapshots)]).await?;
        let of_build = |snapshot: &types::Snapshot| {
            tags.contains_key(BUILD) && self::tags(snapshot.tags()).get(BUILD) == tags.get(BUILD)
        };
        let belongs = |snapshot: &&types::Snapshot| match made {
            Made::Since(since) => started(snapshot)
                .is_some_and(|at| at >= since || (of_build(snapshot) && since.duration_since(at) <= SKEW)),
            Made::Marked => snapshot.tags().iter().any(|tag| tag.key() == Some(STATUS)),
        };
        let ids = found.iter().filter(belongs).filter_map(|snapshot| snapshot.snapshot_id());
        let ids: Vec<String> = ids.map(str::to_owned).collect();
        if ids.is_empty() { Ok(()) } else { self.tag(region, &ids, tags).await }
    }

    /// Returns own snapshots that the filters find.
    pub(super) async fn snapshots(
        &self,
        region: &Region,
        filters: Vec<types::Filter>,
    ) -> Result<Vec<types::Snapshot>, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let call = ec2.sdk.describe_snapshots().owner_ids("self").set_filters(Some(filters));
        let found = call.max_results(SNAPSHOTS).into_paginator().items().send().try_collect().await;
        found.map_err(ec2.failed("DescribeSnapshots"))
    }

    /// Sets tags on images or snapshots, and overwrites existing ones.
    pub async fn tag(&self, region: &Region, resources: &[String], tags: &Tags) -> Result<(), AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let tags: Vec<types::Tag> =
            tags.iter().map(|(k, v)| types::Tag::builder().key(k).value(v).build()).collect();
        for batch in resources.chunks(TAGGED) {
            let call = ec2.sdk.create_tags().set_resources(Some(batch.to_vec()));
            let done = call.set_tags(Some(tags.clone())).send().await;
            // Even a failed call may have taken effect.
            self.forget_images(region);
            done.map_err(ec2.failed("CreateTags"))?;
        }
        Ok(())
    }

    /// Drops the shared response, which a write to images makes stale.
    pub(super) fn forget_images(&self, region: &Region) {
        self.0.own_images.drop_key(region);
    }

    /// Returns all pages of a DescribeImages, including the states that EC2 hides by default.
    pub(super) async fn images(
        &self,
        region: &Region,
        ask: impl FnOnce(DescribeImagesFluentBuilder) -> DescribeImagesFluentBuilder,
    ) -> Result<Vec<Image>, AwsError> {
        Ok(self.described_images(region, ask).await?.into_iter().filter_map(image).collect())
    }

    /// As `images`, but as EC2 describes them.
    pub(super) async fn described_images(
        &self,
        region: &Region,
        ask: impl FnOnce(DescribeImagesFluentBuilder) -> DescribeImagesFluentBuilder,
    ) -> Result<Vec<types::Image>, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let call = ask(ec2.sdk.describe_images()).include_deprecated(true).include_disabled(true);
        let pages = call.max_results(PAGE).into_paginator().items().send();
        pages.try_collect().await.map_err(ec2.failed("DescribeImages"))
    }

    /// Returns images by ID in one call, which cannot be paged.
    async fn images_of_batch(&self, region: &Region, ids: &[ImageId]) -> Result<Vec<Image>, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let ids = ids.iter().map(ToString::to_string).collect();
        let call = ec2.sdk.describe_images().set_image_ids(Some(ids));
        let answer = call.include_deprecated(true).include_disabled(true).send().await;
        let answer = answer.map_err(ec2.failed("DescribeImages"))?;
        Ok(answer.images.unwrap_or_default().into_iter().filter_map(image).collect())
    }
}

/// Returns an EC2 filter. Its values are alternatives.
pub(super) fn filter<V: ToString>(name: &str, values: impl IntoIterator<Item = V>) -> types::Filter {
    let values = values.into_iter().map(|value| value.to_string()).collect();
    types::Filter::builder().name(name).set_values(Some(values)).build()
}

/// Converts tags of EC2.
pub(super) fn tags(tags: &[types::Tag]) -> Tags {
    let pairs = tags.iter().filter_map(|tag| Some((tag.key()?, tag.value().unwrap_or_default())));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Sorts images, which EC2 returns in no order. Deprecated images come last, whatever their age. Images of the same age
/// are sorted by name.
fn newest_first(images: &mut [Image], now: Timestamp) {
    images.sort_by_cached_key(|image| {
        let deprecated = image.deprecated.is_some_and(|at| at <= now);
        (deprecated, Reverse(image.created), image.name.clone(), image.id.clone())
    });
}

/// Returns when a snapshot was started.
pub(super) fn started(snapshot: &types::Snapshot) -> Option<Timestamp> {
    moment(snapshot.start_time())
}

/// Converts a time of EC2, to the second.
pub(super) fn moment(time: Option<&DateTime>) -> Option<Timestamp> {
    Timestamp::from_second(time?.secs()).ok()
}

/// Converts a time of EKS or EC2 Auto Scaling, which has fractions of a second.
pub(super) fn instant(time: Option<&DateTime>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// Converts an image of EC2. An image without a valid ID is left out.
pub(super) fn image(image: types::Image) -> Option<Image> {
    let id = ImageId::parse(image.image_id()?).ok()?;
    let disks = image.block_device_mappings().iter();
    let snapshots = disks.filter_map(|disk| disk.ebs()?.snapshot_id()).map(str::to_owned).collect();
    Some(Image {
        id,
        name: image.name().unwrap_or_default().to_owned(),
        owner_id: image.owner_id().unwrap_or_default().to_owned(),
        architecture: image.architecture().map(|a| a.as_str().to_owned()).unwrap_or_default(),
        state: state(image.state()),
        state_reason: image.state_reason().and_then(|why| reason(why.code(), why.message())),
        created: image.creation_date().and_then(|at| at.parse().ok()),
        deprecated: image.deprecation_time().and_then(|at| at.parse().ok()),
        tags: tags(image.tags()),
        source: image.source_image_id().and_then(|id| ImageId::parse(id).ok()),
        snapshots,
        machine: machine(&image),
    })
}

fn machine(image: &types::Image) -> Machine {
    let root = image.root_device_name().unwrap_or_default();
    let disk = image.block_device_mappings().iter().find(|disk| disk.device_name() == Some(root));
    Machine {
        platform: image.platform().map(|platform| platform.as_str().to_lowercase()).unwrap_or_default(),
        root_device: root.to_owned(),
        root_size: disk.and_then(|disk| disk.ebs()?.volume_size()),
    }
}

fn state(state: Option<&types::ImageState>) -> ImageState {
    use types::ImageState as Theirs;
    match state {
        Some(Theirs::Available) => ImageState::Available,
        Some(Theirs::Pending) => ImageState::Pending,
        Some(Theirs::Failed | Theirs::Invalid | Theirs::Error) => ImageState::Failed,
        Some(Theirs::Disabled) => ImageState::Disabled,
        Some(Theirs::Deregistered) => ImageState::Deregistered,
        other => ImageState::Other(other.map(|s| s.as_str().to_owned()).unwrap_or_default()),
    }
}

/// Returns `code: message`, or the part that is given.
pub(super) fn reason(code: Option<&str>, message: Option<&str>) -> Option<String> {
    match (code, message) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (code, message) => code.or(message).map(str::to_owned),
    }
}
