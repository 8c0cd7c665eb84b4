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
mod types;

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
pub use types::{
    Announced, Filter, Image, ImageQuery, ImageState, Instance, LaunchTemplateVersion, Machine, Made,
    ManagedNodegroup, Orphans, TemplateVersion, Update, UpdateStatus,
};

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
    /// By the number of times that the access key has changed.
    accounts: Shared<u64, String, AwsError>,
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
            accounts: Shared::new(identity::KEEP_ACCOUNT, aging),
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
