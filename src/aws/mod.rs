//! The AWS edge: one SDK client per region and service, one error table, and answers shared by all
//! objects of a pass. It reads and does; what to do is decided elsewhere.

mod clients;
pub mod ec2;
pub mod eks;
mod error;
mod leftovers;
mod shared;
mod templates;
#[cfg(test)]
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use jiff::Timestamp;
use tokio::sync::OnceCell;

use crate::api::{Class, ImageId, Region, TemplateId};
use clients::Clients;
pub use clients::{Attempt, defaults};
pub use error::AwsError;
use shared::Shared;

/// Own images and node groups change by our own writes, which drop them, and by slow things.
const KEEP: Duration = Duration::from_secs(30);
/// Base images appear weekly.
const KEEP_FOUND: Duration = Duration::from_secs(300);

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
}

/// Which snapshots of an image belong to it: a template may map one that others use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// Those that were made since then.
    Since(Timestamp),
    /// Those that carry a `status` tag.
    Marked,
}

/// A managed node group.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// `code: message` of each health issue.
    pub health: Vec<String>,
}

/// A launch template version by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateVersion {
    pub template: TemplateId,
    /// A number, as text.
    pub version: String,
}

/// One version of a launch template, as far as we look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchTemplateVersion {
    pub number: i64,
    pub image: Option<String>,
    pub description: Option<String>,
    pub is_default: bool,
}

/// An update of a node group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    pub id: String,
    /// VersionUpdate, ConfigUpdate, …
    pub kind: String,
    pub status: UpdateStatus,
    /// `code: message` of each error.
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
    nodegroups: Shared<(Region, String), Arc<Vec<Nodegroup>>, AwsError>,
    account: OnceCell<String>,
}

impl Aws {
    /// Credentials, region and endpoint come from the SDK's standard environment.
    #[expect(clippy::disallowed_methods, reason = "the edge's own clock, for what is deprecated")]
    pub async fn from_env() -> Self {
        Self::with(defaults().load().await, Timestamp::now)
    }

    /// By a configuration made from [`defaults`].
    pub fn with(config: SdkConfig, now: fn() -> Timestamp) -> Self {
        Self(Arc::new(Inner {
            clients: Clients::new(config),
            now,
            own_images: Shared::new(KEEP),
            found_images: Shared::new(KEEP_FOUND),
            nodegroups: Shared::new(KEEP),
            account: OnceCell::new(),
        }))
    }

    /// What its clients are made by: credentials, endpoint, time-outs.
    pub fn config(&self) -> SdkConfig {
        self.0.clients.config().clone()
    }

    /// The account the credentials are of (asked once).
    pub async fn account(&self, region: &Region) -> Result<String, AwsError> {
        let asked = self.0.account.get_or_try_init(|| async {
            let sts = self.0.clients.sts(region);
            let answer = sts.sdk.get_caller_identity().send().await;
            let identity = answer.map_err(sts.failed("GetCallerIdentity"))?;
            identity.account.ok_or_else(|| unreadable("sts:GetCallerIdentity", "no account"))
        });
        asked.await.cloned()
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

/// An answer that lacks what it must have: a passing fault of the service, not ours.
fn unreadable(operation: &str, lacks: &str) -> AwsError {
    AwsError::new(Class::TRANSIENT, operation, format!("the answer has {lacks}"))
}

#[cfg(test)]
mod tests;
