//! Calls with the parameter `DryRun`: EC2 checks whether the caller may make the call, and does nothing. For
//! `opsy check`. Only EC2 has them.

use aws_sdk_ec2::types::{LaunchTemplateSpecification, RequestLaunchTemplateData, Tag};

use super::ec2::{filter, tags};
use super::{Aws, AwsError, Fresh, TemplateVersion};
use crate::api::Region;
use crate::api::tags::{BUILD, STATUS};

/// EC2's error codes for a call that it would and would not have made.
const ALLOWED: &str = "DryRunOperation";
const DENIED: &str = "UnauthorizedOperation";
/// States of instances that can be terminated.
const LIVE: [&str; 4] = ["pending", "running", "stopping", "stopped"];

/// A call to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    Describe(Listing),
    Change(Change),
    /// The removal of a resource, by its ID; key pairs have a name.
    Remove(Resource, String),
}

/// Operations that list resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    Images,
    InstanceTypes,
    Instances,
    KeyPairs,
    LaunchTemplateVersions,
    Regions,
    SecurityGroups,
    Snapshots,
    Volumes,
}

/// Operations that promote and roll out an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Sets the tag `status` of an image.
    Tag {
        image: String,
        status: String,
    },
    /// Creates a version from `source` with this image.
    CreateVersion {
        source: TemplateVersion,
        image: Option<String>,
    },
    DeleteVersion(TemplateVersion),
    Launch {
        template: TemplateVersion,
        instance_type: Option<String>,
    },
}

/// Resources that builds leave behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    Image,
    Instance,
    KeyPair,
    SecurityGroup,
    Snapshot,
    Volume,
}

impl Listing {
    pub const ALL: [Self; 9] = [
        Self::Images,
        Self::InstanceTypes,
        Self::Instances,
        Self::KeyPairs,
        Self::LaunchTemplateVersions,
        Self::Regions,
        Self::SecurityGroups,
        Self::Snapshots,
        Self::Volumes,
    ];

    fn operation(self) -> &'static str {
        match self {
            Self::Images => "DescribeImages",
            Self::InstanceTypes => "DescribeInstanceTypes",
            Self::Instances => "DescribeInstances",
            Self::KeyPairs => "DescribeKeyPairs",
            Self::LaunchTemplateVersions => "DescribeLaunchTemplateVersions",
            Self::Regions => "DescribeRegions",
            Self::SecurityGroups => "DescribeSecurityGroups",
            Self::Snapshots => "DescribeSnapshots",
            Self::Volumes => "DescribeVolumes",
        }
    }
}

impl Change {
    fn operation(&self) -> &'static str {
        match self {
            Self::Tag { .. } => "CreateTags",
            Self::CreateVersion { .. } => "CreateLaunchTemplateVersion",
            Self::DeleteVersion(_) => "DeleteLaunchTemplateVersions",
            Self::Launch { .. } => "RunInstances",
        }
    }
}

impl Resource {
    pub const ALL: [Self; 6] =
        [Self::Image, Self::Instance, Self::KeyPair, Self::SecurityGroup, Self::Snapshot, Self::Volume];

    /// Returns the operation that removes it.
    pub fn removal(self) -> &'static str {
        match self {
            Self::Image => "DeregisterImage",
            Self::Instance => "TerminateInstances",
            Self::KeyPair => "DeleteKeyPair",
            Self::SecurityGroup => "DeleteSecurityGroup",
            Self::Snapshot => "DeleteSnapshot",
            Self::Volume => "DeleteVolume",
        }
    }
}

impl Trial {
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Describe(listing) => listing.operation(),
            Self::Change(change) => change.operation(),
            Self::Remove(resource, _) => resource.removal(),
        }
    }
}

/// What EC2 says about a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allowed,
    Denied(String),
    /// The server made the call: it ignores DryRun. Nothing that changes something must be tried there.
    Ignored,
    /// Any other response: it shows neither.
    Undetermined(String),
}

impl Verdict {
    fn of(response: Result<(), AwsError>) -> Self {
        match response {
            Ok(()) => Self::Ignored,
            Err(error) => match error.code() {
                Some(ALLOWED) => Self::Allowed,
                Some(DENIED) => Self::Denied(error.message().to_owned()),
                _ => Self::Undetermined(error.message().to_owned()),
            },
        }
    }
}

/// Sends a call as a dry run. All calls of this file that would change something are sent by it.
macro_rules! dry {
    ($ec2:ident, $operation:expr, $call:expr) => {
        $call.dry_run(true).send().await.map(drop).map_err($ec2.failed($operation))
    };
}

impl Aws {
    /// Asks EC2 whether the caller may make a call. EC2 does nothing then. Another server may ignore the parameter, so try
    /// listings first.
    pub async fn dry_run(&self, region: &Region, trial: &Trial) -> Verdict {
        Verdict::of(match trial {
            Trial::Describe(listing) => self.try_listing(region, *listing).await,
            Trial::Change(change) => self.try_change(region, change).await,
            Trial::Remove(resource, id) => self.try_removal(region, *resource, id).await,
        })
    }

    async fn try_listing(&self, region: &Region, listing: Listing) -> Result<(), AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let (sdk, operation) = (&ec2.sdk, listing.operation());
        match listing {
            Listing::Images => dry!(ec2, operation, sdk.describe_images().owners("self")),
            Listing::InstanceTypes => dry!(ec2, operation, sdk.describe_instance_types()),
            Listing::Instances => dry!(ec2, operation, sdk.describe_instances()),
            Listing::KeyPairs => dry!(ec2, operation, sdk.describe_key_pairs()),
            Listing::LaunchTemplateVersions => {
                // Without a template, EC2 requires that the versions are named by an alias.
                dry!(ec2, operation, sdk.describe_launch_template_versions().versions("$Latest"))
            }
            Listing::Regions => dry!(ec2, operation, sdk.describe_regions()),
            Listing::SecurityGroups => dry!(ec2, operation, sdk.describe_security_groups()),
            Listing::Snapshots => dry!(ec2, operation, sdk.describe_snapshots().owner_ids("self")),
            Listing::Volumes => dry!(ec2, operation, sdk.describe_volumes()),
        }
    }

    async fn try_change(&self, region: &Region, change: &Change) -> Result<(), AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let (sdk, operation) = (&ec2.sdk, change.operation());
        match change {
            Change::Tag { image, status } => {
                let tag = Tag::builder().key(STATUS).value(status).build();
                dry!(ec2, operation, sdk.create_tags().resources(image).tags(tag))
            }
            Change::CreateVersion { source: TemplateVersion { template, version }, image } => {
                let data = RequestLaunchTemplateData::builder().set_image_id(image.clone()).build();
                let call = sdk.create_launch_template_version().launch_template_id(template.as_str());
                dry!(ec2, operation, call.launch_template_data(data).source_version(version))
            }
            Change::DeleteVersion(TemplateVersion { template, version }) => {
                let call = sdk.delete_launch_template_versions().launch_template_id(template.as_str());
                dry!(ec2, operation, call.versions(version))
            }
            Change::Launch { template: TemplateVersion { template, version }, instance_type } => {
                let launch = LaunchTemplateSpecification::builder();
                let launch = launch.launch_template_id(template.as_str()).version(version).build();
                let call = sdk.run_instances().launch_template(launch).min_count(1).max_count(1);
                let instance_type = instance_type.as_deref().map(Into::into);
                dry!(ec2, operation, call.set_instance_type(instance_type))
            }
        }
    }

    async fn try_removal(&self, region: &Region, resource: Resource, id: &str) -> Result<(), AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let (sdk, operation) = (&ec2.sdk, resource.removal());
        match resource {
            Resource::Image => dry!(ec2, operation, sdk.deregister_image().image_id(id)),
            Resource::Instance => dry!(ec2, operation, sdk.terminate_instances().instance_ids(id)),
            Resource::KeyPair => dry!(ec2, operation, sdk.delete_key_pair().key_name(id)),
            Resource::SecurityGroup => dry!(ec2, operation, sdk.delete_security_group().group_id(id)),
            Resource::Snapshot => dry!(ec2, operation, sdk.delete_snapshot().snapshot_id(id)),
            Resource::Volume => dry!(ec2, operation, sdk.delete_volume().volume_id(id)),
        }
    }

    /// Returns a resource that a build has left in the region, if there is one. Images and snapshots with the tag
    /// `status` are results, which are never removed.
    pub async fn of_builds(&self, region: &Region, resource: Resource) -> Result<Option<String>, AwsError> {
        let ec2 = self.0.clients.ec2(region);
        let tagged = filter("tag-key", [BUILD]);
        macro_rules! first {
            ($call:expr, $operation:literal, $list:ident, $id:ident) => {{
                let answer = $call.send().await.map_err(ec2.failed($operation))?;
                Ok(answer.$list().first().and_then(|found| found.$id()).map(str::to_owned))
            }};
        }
        match resource {
            Resource::Image => {
                let images = self.own_images(region, Fresh::Cached).await?;
                let left =
                    images.iter().find(|one| one.tags.contains_key(BUILD) && !one.tags.contains_key(STATUS));
                Ok(left.map(|image| image.id.to_string()))
            }
            Resource::Snapshot => {
                let snapshots = self.snapshots(region, vec![tagged]).await?;
                let left = snapshots.iter().find(|one| !tags(one.tags()).contains_key(STATUS));
                Ok(left.and_then(|snapshot| snapshot.snapshot_id()).map(str::to_owned))
            }
            Resource::Instance => {
                let call = ec2.sdk.describe_instances().filters(tagged);
                let answer = call.filters(filter("instance-state-name", LIVE)).send().await;
                let answer = answer.map_err(ec2.failed("DescribeInstances"))?;
                let mut found = answer.reservations().iter().flat_map(|reserved| reserved.instances());
                Ok(found.find_map(|instance| instance.instance_id()).map(str::to_owned))
            }
            Resource::KeyPair => {
                first!(ec2.sdk.describe_key_pairs().filters(tagged), "DescribeKeyPairs", key_pairs, key_name)
            }
            Resource::SecurityGroup => {
                let call = ec2.sdk.describe_security_groups().filters(tagged);
                first!(call, "DescribeSecurityGroups", security_groups, group_id)
            }
            Resource::Volume => {
                first!(ec2.sdk.describe_volumes().filters(tagged), "DescribeVolumes", volumes, volume_id)
            }
        }
    }
}
