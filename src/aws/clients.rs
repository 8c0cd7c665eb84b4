//! The SDK's clients: one per region and service, created on first use and shared, so that the SDK's retry allowance
//! and its connections are shared, too. Every attempt is counted here.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_ec2::config::interceptors::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef,
};
use aws_sdk_ec2::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_ec2::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::interceptors::context::Error;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata, OrchestratorError};
use aws_smithy_runtime_api::client::result::ConnectorError;

use super::credentials::Source;
use super::{AwsError, error};
use crate::api::Region;
use crate::api::lock::lock;

/// AWS accepts a connection within milliseconds.
const CONNECT: Duration = Duration::from_secs(3);
/// Time limit of one attempt: a full page of images takes seconds, and anything longer is a lost response.
const ATTEMPT: Duration = Duration::from_secs(20);
/// Time limit of a call with all its attempts: a reconcile must end while its object still needs the response.
const CALL: Duration = Duration::from_secs(50);
/// Number of attempts. The SDK retries what passes within seconds; longer outages are left to the backoff of the
/// object.
const ATTEMPTS: u32 = 3;
/// Longest delay between attempts, so that all of them fit into a call.
const PAUSE: Duration = Duration::from_secs(5);

/// Returns the SDK's standard environment with our limits: the SDK itself has no timeouts.
pub fn defaults() -> ConfigLoader {
    let limits = TimeoutConfig::builder()
        .connect_timeout(CONNECT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(CALL)
        .build();
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS).with_max_backoff(PAUSE);
    let name = AppName::new(concat!("opsy-", env!("CARGO_PKG_VERSION")))
        .expect("a package name and version contain only what an app name may contain");
    aws_config::defaults(BehaviorVersion::latest())
        .timeout_config(limits)
        .retry_config(retries)
        .app_name(name)
}

/// One service in one region.
pub(super) struct Service<C> {
    pub(super) sdk: C,
    /// `ec2`, as IAM writes it.
    name: &'static str,
    /// The host that requests are sent to. An error about a server that does not respond names it.
    host: Arc<OnceLock<String>>,
}

impl<C> Service<C> {
    /// Returns a function that converts the SDK's error of an operation into ours.
    pub(super) fn failed<E>(&self, operation: &str) -> impl FnOnce(SdkError<E, HttpResponse>) -> AwsError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let operation = format!("{}:{operation}", self.name);
        let host = Arc::clone(&self.host);
        move |error| {
            let error = AwsError::of_call(operation, host.get().map(String::as_str), &error);
            tracing::debug!(%error, class = ?error.class(), "AWS call failed");
            error
        }
    }
}

/// All clients that were created so far.
pub(super) struct Clients {
    config: SdkConfig,
    /// The source of the credentials in `config`, unless they were given.
    source: Option<Source>,
    attempts: Attempts,
    autoscaling: PerRegion<aws_sdk_autoscaling::Client>,
    ec2: PerRegion<aws_sdk_ec2::Client>,
    eks: PerRegion<aws_sdk_eks::Client>,
    sts: PerRegion<aws_sdk_sts::Client>,
}

/// The number of attempts so far.
type Attempts = Arc<Mutex<BTreeMap<Attempt, u64>>>;

/// A kind of attempt: the operation and its result.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attempt {
    /// `ec2`, as IAM writes it.
    pub service: &'static str,
    /// `DescribeImages`.
    pub operation: String,
    /// HTTP status, if there was a response.
    pub status: Option<u16>,
    /// One of `ok`, `throttled`, `denied`, `not_found`, `conflict`, `invalid`, `refused`, `server`, `timeout`,
    /// `transport`.
    pub result: &'static str,
}

type PerRegion<C> = Mutex<HashMap<Region, Arc<Service<C>>>>;

impl Clients {
    pub(super) fn config(&self) -> &SdkConfig {
        &self.config
    }

    pub(super) fn new(config: SdkConfig, source: Option<Source>) -> Self {
        Self {
            config,
            source,
            attempts: Arc::default(),
            autoscaling: Mutex::default(),
            ec2: Mutex::default(),
            eks: Mutex::default(),
            sts: Mutex::default(),
        }
    }

    pub(super) fn autoscaling(&self, region: &Region) -> Arc<Service<aws_sdk_autoscaling::Client>> {
        made_once(&self.autoscaling, region, || {
            self.service("autoscaling", region, |region, watch| {
                let config = aws_sdk_autoscaling::config::Builder::from(&self.config);
                aws_sdk_autoscaling::Client::from_conf(config.region(region).interceptor(watch).build())
            })
        })
    }

    pub(super) fn ec2(&self, region: &Region) -> Arc<Service<aws_sdk_ec2::Client>> {
        made_once(&self.ec2, region, || {
            self.service("ec2", region, |region, watch| {
                let config = aws_sdk_ec2::config::Builder::from(&self.config);
                aws_sdk_ec2::Client::from_conf(config.region(region).interceptor(watch).build())
            })
        })
    }

    pub(super) fn eks(&self, region: &Region) -> Arc<Service<aws_sdk_eks::Client>> {
        made_once(&self.eks, region, || {
            self.service("eks", region, |region, watch| {
                let config = aws_sdk_eks::config::Builder::from(&self.config);
                aws_sdk_eks::Client::from_conf(config.region(region).interceptor(watch).build())
            })
        })
    }

    pub(super) fn sts(&self, region: &Region) -> Arc<Service<aws_sdk_sts::Client>> {
        made_once(&self.sts, region, || {
            self.service("sts", region, |region, watch| {
                let config = aws_sdk_sts::config::Builder::from(&self.config);
                aws_sdk_sts::Client::from_conf(config.region(region).interceptor(watch).build())
            })
        })
    }

    /// Returns how many times the access key of the credentials in use has changed. Credentials that were given do not
    /// change.
    pub(super) fn key_changes(&self) -> u64 {
        self.source.as_ref().map_or(0, Source::key_changes)
    }

    pub(super) fn attempts(&self) -> BTreeMap<Attempt, u64> {
        lock(&self.attempts).clone()
    }

    fn service<C>(
        &self,
        name: &'static str,
        region: &Region,
        make: impl FnOnce(aws_config::Region, Watch) -> C,
    ) -> Service<C> {
        if let Some(source) = &self.source {
            source.in_region(region);
        }
        let host = Arc::<OnceLock<String>>::default();
        let watch = Watch { name, host: Arc::clone(&host), attempts: Arc::clone(&self.attempts) };
        let sdk = make(aws_config::Region::new(region.to_string()), watch);
        Service { sdk, name, host }
    }
}

/// Maximum number of regions with clients at the same time. AWS has about 40 regions, so more of them are invented
/// names, and each new client costs memory.
const REGIONS: usize = 64;

/// Returns the client of a region, which is created on first use. If there are too many clients, those not in use are
/// dropped.
fn made_once<K: Eq + Hash + Clone, V>(
    made: &Mutex<HashMap<K, Arc<V>>>,
    key: &K,
    make: impl FnOnce() -> V,
) -> Arc<V> {
    let mut made = lock(made);
    if made.len() >= REGIONS && !made.contains_key(key) {
        made.retain(|_, client| Arc::strong_count(client) > 1);
    }
    Arc::clone(made.entry(key.clone()).or_insert_with(|| Arc::new(make())))
}

/// Observes every attempt of one client: counts it and remembers the host.
struct Watch {
    name: &'static str,
    host: Arc<OnceLock<String>>,
    attempts: Attempts,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "OpsyWatch"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.host.get_or_init(|| host(context.request().uri()).to_owned());
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("?", Metadata::name);
        let status = context.response().map(|response| response.status().as_u16());
        let result = match (context.output_or_error(), context.response()) {
            (Some(Ok(_)), _) => "ok",
            (_, Some(response)) => error::answer_word(response),
            (Some(Err(error)), None) if is_timeout(error) => "timeout",
            (_, None) => "transport",
        };
        tracing::debug!(service = self.name, operation, status, result, "AWS call");
        let attempt = Attempt { service: self.name, operation: operation.to_owned(), status, result };
        *lock(&self.attempts).entry(attempt).or_default() += 1;
        Ok(())
    }
}

fn is_timeout(error: &OrchestratorError<Error>) -> bool {
    error.is_timeout_error() || error.as_connector_error().is_some_and(ConnectorError::is_timeout)
}

/// Returns the host of a URL, with its port.
pub(super) fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', '?']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invented_regions_do_not_pile_up_and_clients_in_use_stay() {
        let made = Mutex::default();
        let used = made_once(&made, &"eu-west-1".to_owned(), || 0);
        for number in 1..=1000 {
            made_once(&made, &format!("xx-invented-{number}"), || number);
        }
        assert!(lock(&made).len() <= REGIONS, "{}", lock(&made).len());
        assert!(Arc::ptr_eq(&used, &made_once(&made, &"eu-west-1".to_owned(), || 1)));
    }
}
