//! The source of the agent's AWS credentials: the SDK's standard chain (variables, profiles with roles, SSO and
//! `credential_process`, web identity, container, instance), with what it lacks. The chain reads profile files once and
//! keeps a failure forever. Therefore it is created again after each failure, and for each read of credentials that
//! never expire. A failure is explained: which profile it concerns, and what to do.

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use aws_config::ConfigLoader;
use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError;

use super::causes::{causes, find};
use crate::api::aws_codes::{DENIED, REJECTED};
use crate::api::lock::lock;
use crate::api::{Region, network, steady};

/// What to do if credentials are missing.
const GIVE_SOME: &str = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the pod (EKS Pod \
                         Identity, IRSA) or the machine (instance profile) a role";

/// Used if nothing names a region: STS needs one, and no object has asked for another yet.
pub(super) const FALLBACK: &str = "us-east-1";
/// Time limit of one read: a `credential_process` may be a script that asks a server.
pub(super) const LOAD: Duration = Duration::from_secs(20);
/// Credentials that do not expire are read again after this time, because a person may have replaced them.
const REREAD: Duration = Duration::from_secs(300);

/// Error codes of STS for an invalid role or token, besides denials.
const WRONG_ROLE: [&str; 4] =
    ["InvalidIdentityToken", "ValidationError", "MalformedPolicyDocument", "RegionDisabledException"];

/// Creates the configuration of a chain.
pub(super) type Loader = Box<dyn Fn() -> ConfigLoader + Send + Sync>;

/// The agent's credentials. Cheap to clone.
#[derive(Clone)]
pub(super) struct Source(Arc<Inner>);

struct Inner {
    load: Loader,
    /// The profile that is requested by name.
    profile: Option<String>,
    /// The first region that an object asked for. Roles are assumed there if nothing names another one.
    region: OnceLock<Region>,
    chain: Mutex<Option<SharedCredentialsProvider>>,
    key: Mutex<LastKey>,
}

/// The access key ID of the credentials that were returned last.
#[derive(Default)]
struct LastKey {
    id: Option<String>,
    /// How many times another one was returned than before.
    changes: u64,
}

/// Why there are no credentials, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Explained(String);

impl Source {
    pub(super) fn new(profile: Option<String>, load: Loader) -> Self {
        let (region, chain, key) = (OnceLock::new(), Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { load, profile, region, chain, key }))
    }

    /// Records that an object uses this region.
    pub(super) fn in_region(&self, region: &Region) {
        self.0.region.get_or_init(|| region.clone());
    }

    /// Returns how many times the access key has changed. The first one is no change: a response that was requested before
    /// it is known is already one with this key.
    pub(super) fn key_changes(&self) -> u64 {
        lock(&self.0.key).changes
    }

    async fn chain(&self) -> Option<SharedCredentialsProvider> {
        let made = lock(&self.0.chain).clone();
        if made.is_some() {
            return made;
        }
        let region = self.0.region.get().map_or(FALLBACK, Region::as_str).to_owned();
        let made = (self.0.load)().region(region_or(region)).load().await.credentials_provider();
        lock(&self.0.chain).clone_from(&made);
        made
    }

    async fn read(&self) -> provider::Result {
        let Some(chain) = self.chain().await else { return Err(CredentialsError::not_loaded_no_source()) };
        match chain.provide_credentials().await {
            Ok(mut credentials) => {
                lock(&self.0.key).returned(credentials.access_key_id());
                if credentials.expiry().is_none() {
                    *lock(&self.0.chain) = None;
                    *credentials.expiry_mut() = Some(now() + REREAD);
                }
                Ok(credentials)
            }
            Err(error) => {
                *lock(&self.0.chain) = None;
                let (acts, words) = explained(&error, self.0.profile.as_deref());
                Err(match error {
                    CredentialsError::CredentialsNotLoaded(_) => {
                        CredentialsError::not_loaded(Explained(words))
                    }
                    _ if acts => CredentialsError::invalid_configuration(Explained(words)),
                    _ => CredentialsError::provider_error(Explained(words)),
                })
            }
        }
    }
}

impl LastKey {
    fn returned(&mut self, id: &str) {
        let before = self.id.replace(id.to_owned());
        self.changes += u64::from(before.is_some_and(|before| before != id));
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the SDK uses this clock to decide when to load credentials again"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Returns the region that the environment or the profile names, else this one. The region of the machine itself is not
/// used, because every manifest names one.
pub(super) fn region_or(region: impl Into<std::borrow::Cow<'static, str>>) -> RegionProviderChain {
    RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(aws_config::Region::new(region))
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

impl ProvideCredentials for Source {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.read())
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        lock(&self.0.chain).as_ref()?.fallback_on_interrupt()
    }
}

/// Returns whether a person must act, and the message: what fails, for which profile, and what to do.
pub(super) fn explained(error: &CredentialsError, profile: Option<&str>) -> (bool, String) {
    let said: Vec<String> = causes(error).skip(1).map(|cause| cause.to_string()).collect();
    let any = |part: &str| said.iter().any(|words| words.contains(part));
    let of = profile.unwrap_or("default");
    if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        let words = match profile {
            Some(profile) => format!(
                "AWS_PROFILE is {profile:?}, but neither ~/.aws/config nor ~/.aws/credentials contains a profile \
                 of that name with credentials: correct the name there or in AWS_PROFILE"
            ),
            None => format!("no AWS credentials found: {GIVE_SOME}"),
        };
        return (true, words);
    }
    if any("credentials-login") {
        let process =
            format!("credential_process = aws configure export-credentials --profile {of} --format process");
        let words = format!(
            "AWS profile {of:?} uses a session of `aws login`, which Opsy cannot read: set AWS_PROFILE to \
             another profile that contains \"{process}\""
        );
        return (true, words);
    }
    if any("SSO token") || any("sso/cache") || any("UnauthorizedException") {
        let words = format!(
            "AWS profile {of:?} is not signed in to SSO, or its session has expired: run `aws sso login \
             --profile {of}`"
        );
        return (true, words);
    }
    let last = said.last().map_or_else(|| error.to_string(), |last| steady::answer(last.trim()));
    if any("external process") {
        let why = last.rsplit("Stderr: ").next().unwrap_or(&last);
        return (true, format!("credential_process of AWS profile {of:?} failed: {}", why.trim()));
    }
    if let Some((acts, why)) = refused_role(error) {
        return (
            acts,
            format!("the role of the AWS credentials ({}) cannot be assumed: {why}", source(profile)),
        );
    }
    if matches!(error, CredentialsError::InvalidConfiguration(_)) {
        let why = last.trim_start_matches("ProfileFile provider could not be built: ");
        return (true, format!("AWS credentials are configured wrongly ({}): {why}", source(profile)));
    }
    let advice = network::advice(&said.join("\n"));
    let mut why: Vec<String> = said.iter().rev().take(2).map(|words| steady::answer(words.trim())).collect();
    why.reverse();
    let why = if why.is_empty() { error.to_string() } else { why.join(": ") };
    let why = advice.map_or_else(|| why.clone(), |advice| format!("{advice} ({why})"));
    let why = why.trim_end_matches('.');
    (false, format!("no AWS credentials at the moment: {why} (if none are configured: {GIVE_SOME})"))
}

fn source(profile: Option<&str>) -> String {
    profile.map_or_else(
        || "variables, or profile \"default\"".to_owned(),
        |profile| format!("profile {profile:?}"),
    )
}

/// Returns the error of STS if a role of a profile or of a web identity was requested, and whether a person must act.
fn refused_role(error: &CredentialsError) -> Option<(bool, String)> {
    let role = find::<AssumeRoleError>(error).map(|error| (error.code(), error.message()));
    let web = || find::<AssumeRoleWithWebIdentityError>(error).map(|error| (error.code(), error.message()));
    let (code, message) = role.or_else(web)?;
    let code = code.unwrap_or_default();
    let acts = DENIED.contains(&code) || REJECTED.contains(&code) || WRONG_ROLE.contains(&code);
    Some((acts, format!("{code}: {}", steady::answer(message.unwrap_or_default()))))
}

#[cfg(test)]
mod tests;
