//! The AWS edge: one SDK client per region and service, one error table, and responses that all objects share. It only
//! reads and writes; what to do is decided elsewhere.

pub mod autoscaling;
mod causes;
mod clients;
mod codes;
mod credentials;
mod direct;
pub mod dry_run;
pub mod ec2;
pub mod eks;
mod error;
#[cfg(test)]
mod fake;
mod identity;
mod instances;
mod orphans;
pub mod owners;
mod shared;
mod templates;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::{ConfigLoader, SdkConfig};
use jiff::Timestamp;

use crate::api::network::Network;
pub use crate::api::tags::Tags;
use crate::api::{Class, ImageId, Region, TemplateId, checks};
use clients::Clients;
pub use clients::{Attempt, defaults};
use credentials::Source;
pub use error::AwsError;
pub use identity::Identity;
pub use orphans::SweepError;
pub use shared::Aging;
use shared::Shared;
pub use templates::{Disk, Volume};

/// Own images and node groups change by our own writes, which drop the shared response, and otherwise slowly.
const KEEP: Duration = Duration::from_secs(30);
/// A rollout in progress accepts an older response for groups that it does not move.
const HOLD_GROUPS: Duration = Duration::from_secs(900);
/// Base images appear weekly, and a cluster is upgraded twice a year.
const KEEP_FOUND: Duration = Duration::from_secs(300);
/// These are read when they matter. Callers that wait at the same time share one call.
const KEEP_NOTHING: Duration = Duration::ZERO;
/// The properties of an instance type never change.
const KEEP_TYPES: Duration = Duration::from_secs(24 * 3600);

/// Whether a read may use a shared response. In a plan, what was read once counts as read now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// A shared response is enough (30 s for own images and node groups, 5 min for base images).
    Cached,
    /// A shared response that was requested less than this long ago is enough.
    Within(Duration),
    /// AWS is asked now, and the response replaces the shared one.
    Now,
}

/// An AMI, with the properties that Opsy uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: ImageId,
    pub name: String,
    pub owner_id: String,
    pub architecture: String,
    pub state: ImageState,
    /// Why the image failed, as reported by EC2.
    pub state_reason: Option<String>,
    pub created: Option<Timestamp>,
    pub deprecated: Option<Timestamp>,
    pub tags: Tags,
    pub snapshots: Vec<String>,
    /// The image from which it was made: the image of the instance, or for a copy the copied image.
    pub source: Option<ImageId>,
    pub machine: Machine,
}

impl Image {
    /// An available image of which only the ID and the name are known.
    pub fn named(id: ImageId, name: String) -> Self {
        Self {
            id,
            name,
            owner_id: String::new(),
            architecture: String::new(),
            state: ImageState::Available,
            state_reason: None,
            created: None,
            deprecated: None,
            tags: Tags::new(),
            snapshots: Vec::new(),
            source: None,
            machine: Machine::default(),
        }
    }

    /// Returns the state, with the reason if EC2 reports one.
    pub fn state_and_reason(&self) -> String {
        match &self.state_reason {
            Some(reason) => format!("{} ({reason})", self.state),
            None => self.state.to_string(),
        }
    }
}

/// What an image requires of the machine that it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `windows`, or empty for all other platforms.
    pub platform: String,
    /// Device name of the root volume. It is empty if EC2 reports none.
    pub root_device: String,
    /// Size of the root volume's snapshot in GiB.
    pub root_size: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    Available,
    Pending,
    /// EC2's states failed, invalid and error.
    Failed,
    Disabled,
    Deregistered,
    /// A state that this version does not know.
    Other(String),
}

impl fmt::Display for ImageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Available => "available",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
            Self::Deregistered => "deregistered",
            Self::Other(state) => state,
        })
    }
}

/// An instance, with the properties that Opsy uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub id: String,
    pub image: ImageId,
    /// pending, running, stopped, terminated, …
    pub state: Option<String>,
}

/// A validated EC2 filter.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter {
    pub name: String,
    pub values: Vec<String>,
}

/// A query for images of others. It always has image owners, so that it never searches all public images.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageQuery {
    pub region: Region,
    pub owners: Vec<String>,
    pub filters: Vec<Filter>,
}

/// Resources that an ended build may have left behind, found by build tag and announced IDs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orphans {
    pub instances: Vec<String>,
    pub volumes: Vec<String>,
    pub security_groups: Vec<String>,
    /// Key pair names.
    pub key_pairs: Vec<String>,
    /// Images that are not a result. They are removed with their snapshots.
    pub images: Vec<ImageId>,
    /// Images that are not a result and have snapshots that the build did not create. Those snapshots stay.
    pub partly: Vec<ImageId>,
    pub snapshots: Vec<String>,
    /// Images and snapshots among these that do not have the build's tags.
    pub unmarked: Vec<String>,
    /// The build's tags.
    pub marks: Tags,
}

impl Orphans {
    /// Adds the resources of another region.
    pub fn extend(&mut self, others: Self) {
        self.instances.extend(others.instances);
        self.volumes.extend(others.volumes);
        self.security_groups.extend(others.security_groups);
        self.key_pairs.extend(others.key_pairs);
        self.images.extend(others.images);
        self.partly.extend(others.partly);
        self.snapshots.extend(others.snapshots);
        self.unmarked.extend(others.unmarked);
        self.marks.extend(others.marks);
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a run announced, for orphaned resources without tags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    pub instances: Vec<String>,
    pub security_groups: Vec<String>,
    pub key_pairs: Vec<String>,
    pub images: Vec<String>,
    pub volumes: Vec<String>,
    /// Images that Packer named as its result in a machine-readable line.
    pub artifacts: Vec<String>,
    /// When the run was started, if that is known. Anything older does not belong to it.
    pub since: Option<Timestamp>,
    /// The region in which the run made its images, if that is known. Its copies come from there.
    pub home: Option<Region>,
}

/// Which snapshots of an image belong to it: a template may map a snapshot that others use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Snapshots that were created since then, or slightly earlier if they have the build's tag, because clocks differ.
    Since(Timestamp),
    /// Snapshots with a `status` tag.
    Marked,
}

/// A managed node group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ManagedNodegroup {
    pub name: String,
    /// ACTIVE, UPDATING, DEGRADED, CREATING, DELETING, …
    pub status: String,
    /// `CUSTOM` if the launch template names the image.
    pub ami_type: String,
    /// With `CUSTOM`, the ID of the image in force.
    pub release_version: Option<String>,
    /// Only for groups that were created with a launch template.
    pub launch_template: Option<TemplateVersion>,
    pub max_unavailable: Option<i32>,
    pub max_unavailable_percentage: Option<i32>,
    /// DEFAULT or MINIMAL, if EKS reports it.
    pub update_strategy: Option<String>,
    /// `code: message` of each health issue.
    pub health: Vec<String>,
    /// Present if the group itself names them, instead of its launch template.
    pub instance_types: Vec<String>,
    /// Number of nodes that the group should have.
    pub desired: Option<i32>,
    /// Names of the Auto Scaling groups that EKS created for it.
    pub auto_scaling_groups: Vec<String>,
    pub tags: Tags,
    /// Kubernetes labels that EKS gives to the nodes.
    pub labels: Tags,
}

/// A launch template version by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateVersion {
    pub template: TemplateId,
    /// A number, as a string.
    pub version: String,
}

/// A version of a launch template, with the properties that Opsy uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LaunchTemplateVersion {
    pub number: i64,
    pub image: Option<String>,
    pub description: Option<String>,
    pub is_default: bool,
    pub instance_type: Option<String>,
    pub disks: Vec<Disk>,
}

/// An update of a node group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub id: String,
    /// VersionUpdate, ConfigUpdate, …
    pub kind: String,
    pub status: UpdateStatus,
    /// `code: message (resource IDs)` of each error.
    pub errors: Vec<String>,
    pub created: Option<Timestamp>,
    /// Parameter names and values as EKS reports them (LaunchTemplateVersion, …).
    pub params: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpdateStatus {
    InProgress,
    Successful,
    Failed,
    Cancelled,
    Other(String),
}

/// Clients and shared responses of all regions. Cheap to clone.
#[derive(Clone)]
pub struct Aws(Arc<Inner>);

struct Inner {
    clients: Clients,
    now: fn() -> Timestamp,
    aging: Aging,
    own_images: Shared<Region, Arc<Vec<Image>>, AwsError>,
    found_images: Shared<ImageQuery, Arc<Vec<Image>>, AwsError>,
    /// By region and sorted IDs.
    images_by_id: Shared<(Region, Vec<ImageId>), Vec<Image>, AwsError>,
    autoscaling: autoscaling::Responses,
    nodegroup_names: Shared<(Region, String), Arc<Vec<String>>, AwsError>,
    nodegroups: Shared<(Region, String, String), eks::Kept, AwsError>,
    updates: Shared<eks::UpdateKey, Update, AwsError>,
    ended_updates: Mutex<HashMap<eks::UpdateKey, Update>>,
    update_ids: Shared<(Region, String, String), Vec<String>, AwsError>,
    templates: Shared<(Region, TemplateId), Arc<Vec<LaunchTemplateVersion>>, AwsError>,
    clusters: Shared<(Region, String), String, AwsError>,
    architectures: Shared<(Region, Vec<String>), BTreeSet<String>, AwsError>,
    account: tokio::sync::Mutex<Option<identity::Asked>>,
    /// The account, if no response ages.
    only_account: Shared<(), String, AwsError>,
}

impl Aws {
    /// Reads credentials, region and endpoint from the SDK's standard environment. `profile` is the profile that is set
    /// there.
    ///
    /// # Errors
    /// The profile's `endpoint_url` is not an address, or a proxy or certificate authority cannot be used.
    pub async fn from_env(profile: Option<String>, network: &Network) -> Result<Self, AwsError> {
        Self::from_env_with(profile, network, Aging::By(clock)).await
    }

    /// As `from_env`, for a process that only reads: every question is asked once.
    ///
    /// # Errors
    /// As `from_env`.
    pub async fn snapshot_from_env(profile: Option<String>, network: &Network) -> Result<Self, AwsError> {
        Self::from_env_with(profile, network, Aging::Never).await
    }

    async fn from_env_with(
        profile: Option<String>,
        network: &Network,
        aging: Aging,
    ) -> Result<Self, AwsError> {
        let http = direct::client(network)?;
        let load = move || defaults().http_client(http.clone());
        let aws = Self::of(profile, load, clock, aging).await;
        match aws.0.clients.config().endpoint_url().map(|url| (url, checks::endpoint(url))) {
            Some((url, Err(why))) => {
                let words = format!("endpoint_url of the AWS profile, {url:?}, {why}");
                Err(AwsError::new(Class::Invalid, "aws", words))
            }
            _ => Ok(aws),
        }
    }

    /// Creates it from the standard environment with which `load` begins.
    async fn of(
        profile: Option<String>,
        load: impl Fn() -> ConfigLoader + Send + Sync + 'static,
        now: fn() -> Timestamp,
        aging: Aging,
    ) -> Self {
        let cache = IdentityCache::lazy().load_timeout(credentials::LOAD).build();
        let begun = load().identity_cache(cache).region(credentials::region_or(credentials::FALLBACK));
        let source = Source::new(profile, Box::new(load));
        let config = begun.credentials_provider(source.clone()).load().await;
        Self::made(config, Some(source), now, aging)
    }

    /// Creates it from a configuration made with [`defaults`] that has credentials.
    pub fn with(config: SdkConfig, now: fn() -> Timestamp) -> Self {
        Self::made(config, None, now, Aging::By(now))
    }

    fn made(config: SdkConfig, source: Option<Source>, now: fn() -> Timestamp, aging: Aging) -> Self {
        Self(Arc::new(Inner {
            clients: Clients::new(config, source),
            now,
            aging,
            own_images: Shared::new(KEEP, aging),
            found_images: Shared::new(KEEP_FOUND, aging),
            images_by_id: Shared::new(KEEP_NOTHING, aging),
            autoscaling: autoscaling::Responses::new(aging),
            nodegroup_names: Shared::new(KEEP, aging).holding(HOLD_GROUPS),
            nodegroups: Shared::new(KEEP, aging).holding(HOLD_GROUPS),
            updates: Shared::new(KEEP_NOTHING, aging),
            ended_updates: Mutex::default(),
            update_ids: Shared::new(KEEP_NOTHING, aging),
            templates: Shared::new(KEEP_FOUND, aging),
            clusters: Shared::new(KEEP_FOUND, aging),
            architectures: Shared::new(KEEP_TYPES, aging),
            account: tokio::sync::Mutex::default(),
            only_account: Shared::new(KEEP_NOTHING, aging),
        }))
    }

    /// Returns the configuration of the clients: credentials, endpoint, timeouts.
    pub fn config(&self) -> SdkConfig {
        self.0.clients.config().clone()
    }

    /// Returns the number of attempts so far by operation and result, for example `ec2:DescribeImages 200`.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let mut calls = BTreeMap::new();
        for (attempt, count) in self.attempts() {
            let status = attempt.status.map_or_else(|| "unanswered".to_owned(), |code| code.to_string());
            *calls.entry(format!("{}:{} {status}", attempt.service, attempt.operation)).or_default() += count;
        }
        calls
    }

    /// Returns the attempts so far, for metrics.
    pub fn attempts(&self) -> BTreeMap<Attempt, u64> {
        self.0.clients.attempts()
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aws")
    }
}

/// The edge's own clock, which decides what is deprecated and how old a response is.
#[expect(clippy::disallowed_methods, reason = "the edge has a clock of its own")]
fn clock() -> Timestamp {
    Timestamp::now()
}

/// Returns the error for a response without a required part, which is a transient fault of the service.
fn unreadable(operation: &str, lacks: &str) -> AwsError {
    AwsError::new(Class::TRANSIENT, operation, format!("the response has {lacks}"))
}

#[cfg(test)]
mod tests;
