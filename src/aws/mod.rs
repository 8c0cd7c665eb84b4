//! The AWS edge: one SDK client per region and service, one error table, and answers shared by all
//! objects of a pass. It reads and does; what to do is decided elsewhere.

mod clients;
mod credentials;
mod direct;
pub mod ec2;
pub mod eks;
mod error;
mod leftovers;
pub mod owners;
mod shared;
mod templates;
#[cfg(test)]
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_config::identity::IdentityCache;
use aws_config::{ConfigLoader, SdkConfig};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::api::network::Network;
use crate::api::{Class, ImageId, Region, TemplateId, checks};
use clients::Clients;
pub use clients::{Attempt, defaults};
use credentials::Source;
pub use error::AwsError;
pub use leftovers::Unswept;
use shared::Shared;
pub use templates::{Disk, Volume};

/// Own images and node groups change by our own writes, which drop them, and by slow things.
const KEEP: Duration = Duration::from_secs(30);
/// A role may be pointed to another account while its access keys live on.
const KEEP_ACCOUNT: Duration = Duration::from_secs(3600);
/// Base images appear weekly, and a cluster is upgraded twice a year.
const KEEP_FOUND: Duration = Duration::from_secs(300);
/// What an instance type is never changes.
const KEEP_TYPES: Duration = Duration::from_secs(24 * 3600);

/// May an answer of a few seconds ago do?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// A shared answer will do (30 s for own images and node groups, 5 min for base images).
    Cached,
    /// Ask now; the answer replaces the shared one.
    Now,
}

pub type Tags = BTreeMap<String, String>;

/// An AMI, as far as we look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub id: ImageId,
    pub name: String,
    pub owner_id: String,
    pub architecture: String,
    pub state: ImageState,
    /// EC2's own words on why it failed.
    pub state_reason: Option<String>,
    pub created: Option<Timestamp>,
    pub deprecated: Option<Timestamp>,
    pub tags: Tags,
    pub snapshots: Vec<String>,
    /// The image that it was made from: that of the instance, or for a copy the one copied.
    pub source: Option<ImageId>,
    pub machine: Machine,
}

/// What an image needs of the machine it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `windows`, or empty for all others.
    pub platform: String,
    /// Device name of the root volume; empty where EC2 gives none.
    pub root_device: String,
    /// Size of the root volume's snapshot in GiB.
    pub root_size: Option<i32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    Available,
    Pending,
    /// failed, invalid, error.
    Failed,
    Disabled,
    Deregistered,
    /// A word this version does not know.
    Other(String),
}

/// One EC2 filter, checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter {
    pub name: String,
    pub values: Vec<String>,
}

/// A query for images of others: always with owners, never every public image.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageQuery {
    pub region: Region,
    pub owners: Vec<String>,
    pub filters: Vec<Filter>,
}

/// What an ended build may have left behind, found by build tag and announced ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub instances: Vec<String>,
    pub volumes: Vec<String>,
    pub security_groups: Vec<String>,
    /// Key pair names.
    pub key_pairs: Vec<String>,
    /// Images that are no result, to be removed with their snapshots.
    pub images: Vec<ImageId>,
    /// Images that are no result and have snapshots that the build did not make: those stay.
    pub partly: Vec<ImageId>,
    pub snapshots: Vec<String>,
    /// Images and snapshots among these that do not carry the build's tags, and those tags.
    pub unmarked: Vec<String>,
    pub marks: Tags,
}

impl Leftovers {
    /// These and those of another region.
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

/// What the run announced, for leftovers that carry no tag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Announced {
    pub instances: Vec<String>,
    pub security_groups: Vec<String>,
    pub key_pairs: Vec<String>,
    pub images: Vec<String>,
    pub volumes: Vec<String>,
    /// Images that Packer named as its result in a machine-readable line.
    pub artifacts: Vec<String>,
    /// When the run was started, where it is known: what is older is none of it.
    pub since: Option<Timestamp>,
    /// The region that the run made its images in, where it is known: its copies come from there.
    pub home: Option<Region>,
}

/// Which snapshots of an image belong to it: a template may map one that others use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Those that were made since then, or a little earlier where they carry the build's tag: clocks differ.
    Since(Timestamp),
    /// Those that carry a `status` tag.
    Marked,
}

/// A managed node group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodegroup {
    pub name: String,
    /// ACTIVE, UPDATING, DEGRADED, CREATING, DELETING, …
    pub status: String,
    /// `CUSTOM` when the launch template names the image.
    pub ami_type: String,
    /// With `CUSTOM` the image id in force.
    pub release_version: Option<String>,
    /// Only of groups created with a launch template.
    pub launch_template: Option<TemplateVersion>,
    pub max_unavailable: Option<i32>,
    pub max_unavailable_percentage: Option<i32>,
    /// DEFAULT or MINIMAL, where EKS says so.
    pub update_strategy: Option<String>,
    /// `code: message` of each health issue.
    pub health: Vec<String>,
    /// Where the group itself names them, not its launch template.
    pub instance_types: Vec<String>,
    /// Nodes that it should have.
    pub desired: Option<i32>,
    pub tags: Tags,
}

/// A launch template version by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateVersion {
    pub template: TemplateId,
    /// A number, as text.
    pub version: String,
}

/// One version of a launch template, as far as we look at it.
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
    /// `code: message (resource ids)` of each error.
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

/// Clients and shared answers of all regions. Cheap to clone.
#[derive(Clone)]
pub struct Aws(Arc<Inner>);

struct Inner {
    clients: Clients,
    now: fn() -> Timestamp,
    own_images: Shared<Region, Arc<Vec<Image>>, AwsError>,
    found_images: Shared<ImageQuery, Arc<Vec<Image>>, AwsError>,
    nodegroup_names: Shared<(Region, String), Arc<Vec<String>>, AwsError>,
    nodegroups: Shared<(Region, String, String), Option<Arc<Nodegroup>>, AwsError>,
    clusters: Shared<(Region, String), String, AwsError>,
    architectures: Shared<(Region, Vec<String>), BTreeSet<String>, AwsError>,
    account: tokio::sync::Mutex<Option<Asked>>,
}

/// An account that was asked for: it stands for the credentials of then.
struct Asked {
    account: String,
    key: Option<String>,
    at: Instant,
}

impl Asked {
    /// Is it still the account of what is used now?
    fn stands(&self, key: Option<&str>, now: Instant) -> bool {
        self.key.as_deref() == key && now.duration_since(self.at) < KEEP_ACCOUNT
    }
}

impl Aws {
    /// Credentials, region and endpoint come from the SDK's standard environment; `profile` is the one that
    /// is named there.
    #[expect(clippy::disallowed_methods, reason = "the edge's own clock, for what is deprecated")]
    ///
    /// # Errors
    /// The profile's `endpoint_url` is not an address, or a proxy or certificate authority cannot be used.
    pub async fn from_env(profile: Option<String>, network: &Network) -> Result<Self, AwsError> {
        let http = direct::client(network)?;
        let load = move || defaults().http_client(http.clone());
        let aws = Self::of(profile, load, Timestamp::now).await;
        match aws.0.clients.config().endpoint_url().map(|url| (url, checks::endpoint(url))) {
            Some((url, Err(why))) => {
                let words = format!("endpoint_url of the AWS profile, {url:?}, {why}");
                Err(AwsError::new(Class::Invalid, "aws", words))
            }
            _ => Ok(aws),
        }
    }

    /// By the standard environment that `load` begins with.
    async fn of(
        profile: Option<String>,
        load: impl Fn() -> ConfigLoader + Send + Sync + 'static,
        now: fn() -> Timestamp,
    ) -> Self {
        let cache = IdentityCache::lazy().load_timeout(credentials::LOAD).build();
        let begun = load().identity_cache(cache).region(credentials::region_or(credentials::FALLBACK));
        let source = Source::new(profile, Box::new(load));
        let config = begun.credentials_provider(source.clone()).load().await;
        Self::made(config, Some(source), now)
    }

    /// By a configuration made from [`defaults`] that has its credentials.
    pub fn with(config: SdkConfig, now: fn() -> Timestamp) -> Self {
        Self::made(config, None, now)
    }

    fn made(config: SdkConfig, source: Option<Source>, now: fn() -> Timestamp) -> Self {
        Self(Arc::new(Inner {
            clients: Clients::new(config, source),
            now,
            own_images: Shared::new(KEEP),
            found_images: Shared::new(KEEP_FOUND),
            nodegroup_names: Shared::new(KEEP),
            nodegroups: Shared::new(KEEP),
            clusters: Shared::new(KEEP_FOUND),
            architectures: Shared::new(KEEP_TYPES),
            account: tokio::sync::Mutex::default(),
        }))
    }

    /// What its clients are made by: credentials, endpoint, time-outs.
    pub fn config(&self) -> SdkConfig {
        self.0.clients.config().clone()
    }

    /// The account the credentials are of. It is asked for again when they change, and once an hour.
    pub async fn account(&self, region: &Region) -> Result<String, AwsError> {
        let mut asked = self.0.account.lock().await;
        let key = self.0.clients.key();
        if let Some(known) = asked.as_ref().filter(|known| known.stands(key.as_deref(), Instant::now())) {
            return Ok(known.account.clone());
        }
        *asked = None;
        let at = Instant::now();
        let sts = self.0.clients.sts(region);
        let answer = sts.sdk.get_caller_identity().send().await;
        let identity = answer.map_err(sts.failed("GetCallerIdentity"))?;
        let account = identity.account.ok_or_else(|| unreadable("sts:GetCallerIdentity", "no account"))?;
        // The first call of all reads the credentials. Had they changed in mid-call, whose answer is it?
        let now = self.0.clients.key();
        if key.is_none() || key == now {
            *asked = Some(Asked { account: account.clone(), key: now, at });
        }
        Ok(account)
    }

    /// Attempts so far by operation and result, like `ec2:DescribeImages 200`.
    pub fn calls(&self) -> BTreeMap<String, u64> {
        let mut calls = BTreeMap::new();
        for (attempt, count) in self.attempts() {
            let status = attempt.status.map_or_else(|| "unanswered".to_owned(), |code| code.to_string());
            *calls.entry(format!("{}:{} {status}", attempt.service, attempt.operation)).or_default() += count;
        }
        calls
    }

    /// Attempts so far, for metrics.
    pub fn attempts(&self) -> BTreeMap<Attempt, u64> {
        self.0.clients.attempts()
    }
}

impl fmt::Debug for Aws {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Aws")
    }
}

/// Nothing in here is ever left half-changed, so a panic elsewhere does not matter.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer that lacks what it must have: a passing fault of the service, not ours.
fn unreadable(operation: &str, lacks: &str) -> AwsError {
    AwsError::new(Class::TRANSIENT, operation, format!("the answer has {lacks}"))
}

#[cfg(test)]
mod tests;
