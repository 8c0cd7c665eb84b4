//! Where the agent's AWS credentials come from: the SDK's standard chain (variables, profiles with roles, SSO
//! and `credential_process`, web identity, container, instance), with what it lacks. The chain reads profile
//! files once and keeps a failure for ever: here it is made anew after each failure, and for each reading of
//! credentials that never expire. A failure is explained: which profile, and what to do.

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

use super::error::{DENIED, GIVE_SOME, REJECTED, causes, find};
use super::locked;
use crate::api::{Region, network, steady};

/// Where nothing names a region: STS needs one, and no object has asked for another yet.
pub(super) const FALLBACK: &str = "us-east-1";
/// One reading: a `credential_process` may be a script that asks a server.
pub(super) const LOAD: Duration = Duration::from_secs(20);
/// Credentials without an end are read again after this long: a person may have replaced them.
const REREAD: Duration = Duration::from_secs(300);

/// What STS answers when a role or its token is not as it should be, beside denials.
const WRONG_ROLE: [&str; 4] =
    ["InvalidIdentityToken", "ValidationError", "MalformedPolicyDocument", "RegionDisabledException"];

/// Makes the configuration of a chain.
pub(super) type Loader = Box<dyn Fn() -> ConfigLoader + Send + Sync>;

/// The agent's credentials. Cheap to clone.
#[derive(Clone)]
pub(super) struct Source(Arc<Inner>);

struct Inner {
    load: Loader,
    /// The profile that is asked for by name.
    profile: Option<String>,
    /// The first region an object asked for: roles are assumed there where nothing names another.
    region: OnceLock<Region>,
    chain: Mutex<Option<SharedCredentialsProvider>>,
    /// Of the credentials handed out last.
    key: Mutex<Option<String>>,
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

    /// An object works in this region.
    pub(super) fn in_region(&self, region: &Region) {
        self.0.region.get_or_init(|| region.clone());
    }

    /// Access key id of the credentials handed out last.
    pub(super) fn key(&self) -> Option<String> {
        locked(&self.0.key).clone()
    }

    async fn chain(&self) -> Option<SharedCredentialsProvider> {
        let made = locked(&self.0.chain).clone();
        if made.is_some() {
            return made;
        }
        let region = self.0.region.get().map_or(FALLBACK, Region::as_str).to_owned();
        let made = (self.0.load)().region(region_or(region)).load().await.credentials_provider();
        locked(&self.0.chain).clone_from(&made);
        made
    }

    async fn read(&self) -> provider::Result {
        let Some(chain) = self.chain().await else { return Err(CredentialsError::not_loaded_no_source()) };
        match chain.provide_credentials().await {
            Ok(mut credentials) => {
                *locked(&self.0.key) = Some(credentials.access_key_id().to_owned());
                if credentials.expiry().is_none() {
                    *locked(&self.0.chain) = None;
                    *credentials.expiry_mut() = Some(now() + REREAD);
                }
                Ok(credentials)
            }
            Err(error) => {
                *locked(&self.0.chain) = None;
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

#[expect(
    clippy::disallowed_methods,
    reason = "the SDK goes by this clock when it asks for credentials again"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The region the environment or the profile names, else this one. The machine's own is not asked for: every
/// manifest names one.
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
        locked(&self.0.chain).as_ref()?.fallback_on_interrupt()
    }
}

/// Whether a person must act, and the words: what fails, for which profile, what to do.
pub(super) fn explained(error: &CredentialsError, profile: Option<&str>) -> (bool, String) {
    let said: Vec<String> = causes(error).skip(1).map(|cause| cause.to_string()).collect();
    let any = |part: &str| said.iter().any(|words| words.contains(part));
    let of = profile.unwrap_or("default");
    if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        let words = match profile {
            Some(profile) => format!(
                "AWS_PROFILE is {profile:?}, and neither ~/.aws/config nor ~/.aws/credentials has such a profile \
                 with credentials: correct the name there or in AWS_PROFILE"
            ),
            None => format!("no AWS credentials found: {GIVE_SOME}"),
        };
        return (true, words);
    }
    if any("credentials-login") {
        let process =
            format!("credential_process = aws configure export-credentials --profile {of} --format process");
        let words = format!(
            "AWS profile {of:?} has the session of `aws login`, which Opsy cannot read: name in AWS_PROFILE \
             another profile that has \"{process}\""
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
    (false, format!("no AWS credentials at the moment: {why} (if none were given: {GIVE_SOME})"))
}

fn source(profile: Option<&str>) -> String {
    profile.map_or_else(
        || "variables, or profile \"default\"".to_owned(),
        |profile| format!("profile {profile:?}"),
    )
}

/// STS's answer, where a role of a profile or of a web identity was asked for. A denial is a person's to end.
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
