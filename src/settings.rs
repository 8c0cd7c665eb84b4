//! Settings. Flags and `OPSY_*` variables hold what is needed to reach the repository; `opsy.yaml` in the repository
//! holds everything else, so that a pull request can change it.

mod cluster;
mod forge;
mod git;
mod network;
mod repository;
mod signing;
mod trust;
mod webhook;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::api::ids::BadId;
use crate::api::{Owner, checks};
pub use cluster::{ClusterFlags, EngineChoice, PodFlags};
pub use forge::ForgeFlags;
pub use git::{AddressFlags, GitFlags, usual_known_hosts};
pub use network::NetworkFlags;
pub use repository::{
    AuthorSettings, DigestSettings, JsonSetter, LimitSettings, PruneSettings, PublishMode, PublishSettings,
    RepoSettings, SetterSettings,
};
pub use signing::SigningFlags;
pub use trust::{NotifyFlags, TrustFlags};
pub use webhook::WebhookFlags;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text on a terminal; elsewhere, JSON from `opsy run` and text from other commands
    Auto,
    /// Text for people
    Text,
    /// JSON for machines
    Json,
}

/// Flags of `opsy run`.
#[derive(Args, Clone, Debug)]
pub struct RunFlags {
    #[command(flatten)]
    pub access: AccessFlags,
    /// Restrict the objects of a namespace to templates at these paths of the repository. In a namespace without a
    /// rule, other than the agent's own, only objects that are declared in Git can use templates
    #[arg(long, env = "OPSY_TEMPLATES", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub templates: Vec<String>,
    #[command(flatten)]
    pub trust: TrustFlags,
    #[command(flatten)]
    pub state: StateFlags,
    #[command(flatten)]
    pub pods: PodFlags,
    /// Serve /healthz, /readyz and /metrics on this address, such as `[::]:8080` (IPv4 and IPv6); default: none
    #[arg(long, env = "OPSY_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<std::net::SocketAddr>,
    #[command(flatten)]
    pub webhook: WebhookFlags,
    /// Check the repository for new commits at this interval
    #[arg(long, env = "OPSY_INTERVAL", default_value = "30s", value_parser = duration)]
    pub interval: Duration,
    /// Pass these additional environment variables to builds; globs are allowed. Builds on this machine always inherit
    /// PATH, HOME, LANG, LC_*, TZ, TMPDIR, SSL_CERT_*, *_PROXY, AWS_*, PACKER_* and PKR_*
    #[arg(long, env = "OPSY_PASS_ENV", value_delimiter = ',', value_name = "NAME,…")]
    pub pass_env: Vec<String>,
    /// Exit when nothing is left to do, with code 0 (in sync), 2 (stalled or failing) or 3 (waiting on purpose:
    /// suspended, disabled, no image yet)
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub output: OutputFlags,
}

/// Flags for what the agent needs access to: repository, cluster, Packer and sinks. `opsy check` takes them, too.
#[derive(Args, Clone, Debug)]
pub struct AccessFlags {
    /// Read manifests and templates from this repository: a URL or a local path
    #[arg(long, env = "OPSY_REPO", value_name = "URL|PATH")]
    pub repo: String,
    /// Read this branch; default: the default branch of the remote
    #[arg(long, env = "OPSY_BRANCH")]
    pub branch: Option<String>,
    /// Read manifests from this directory of the repository
    #[arg(long, env = "OPSY_PATH", default_value = "")]
    pub path: String,
    #[command(flatten)]
    pub git: GitFlags,
    #[command(flatten)]
    pub signing: SigningFlags,
    #[command(flatten)]
    pub forge: ForgeFlags,
    /// Set the owner of everything that this agent creates; a different agentID in opsy.yaml is then an error. Required
    /// to change the owner of an agent that has run before
    #[arg(long, env = "OPSY_AGENT_ID", value_name = "ID", value_parser = owner)]
    pub agent_id: Option<Owner>,
    #[command(flatten)]
    pub network: NetworkFlags,
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Run this Packer binary: a path, or a name that is looked up in PATH
    #[arg(long, env = "OPSY_PACKER", default_value = "packer")]
    pub packer: String,
    /// Share this directory of Packer plugins among all builds
    #[arg(long, env = "OPSY_PACKER_PLUGINS", value_name = "DIR")]
    pub packer_plugins: Option<PathBuf>,
    /// Read secrets of builds and notifications from `DIR/<namespace>/<secret>/<KEY>`
    #[arg(long, env = "OPSY_SECRETS", value_name = "DIR")]
    pub secrets: Option<PathBuf>,
    #[command(flatten)]
    pub notify: NotifyFlags,
    /// Use the Slack Web API at this URL, for workspaces with a separate API
    #[arg(long, env = "OPSY_SLACK_API", value_name = "URL", default_value = "https://slack.com/api/")]
    pub slack_api: String,
}

/// The flag for the output format.
#[derive(Args, Clone, Copy, Debug)]
pub struct OutputFlags {
    /// Output format
    #[arg(long = "output", env = "OPSY_OUTPUT", value_enum, default_value = "auto")]
    pub format: Output,
}

/// The flag that selects the state directory.
#[derive(Args, Clone, Debug)]
pub struct StateFlags {
    /// Store status, runs and the clone in this directory; default: /var/lib/opsy for root, else
    /// ~/.local/state/opsy
    #[arg(long, env = "OPSY_STATE", value_name = "DIR")]
    state: Option<PathBuf>,
}

impl StateFlags {
    /// The state directory, absolute.
    pub fn dir(&self) -> std::io::Result<PathBuf> {
        let dir = match &self.state {
            Some(dir) => dir.clone(),
            None => default_state(),
        };
        std::path::absolute(dir)
    }
}

/// Secrets in the environment of the agent. They are never printed, and no build receives these variables unchanged.
#[derive(Clone, Default)]
pub struct EnvSecrets {
    pub git_password: Option<String>,
    pub git_token: Option<String>,
    pub webhook: Option<String>,
    /// `OPSY_SECRET_…` without the prefix.
    pub builds: BTreeMap<String, String>,
    /// `OPSY_BUILD_…` without the prefix: variables for every build on this machine.
    pub every_build: BTreeMap<String, String>,
}

/// Prefix of the variables that hold build secrets.
const SECRET_PREFIX: &str = "OPSY_SECRET_";
/// Prefix of the variables that every build receives, without this prefix.
const BUILD_PREFIX: &str = "OPSY_BUILD_";

impl EnvSecrets {
    /// Reads them from the environment.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn read() -> Self {
        let with = |prefix: &'static str| {
            std::env::vars_os().filter_map(move |(name, value)| {
                let name = name.into_string().ok()?.strip_prefix(prefix)?.to_owned();
                Some((name, value.into_string().ok()?))
            })
        };
        Self {
            git_password: std::env::var("OPSY_GIT_PASSWORD").ok(),
            git_token: std::env::var("OPSY_GIT_TOKEN").ok(),
            webhook: std::env::var("OPSY_WEBHOOK_SECRET").ok(),
            builds: with(SECRET_PREFIX).collect(),
            every_build: with(BUILD_PREFIX).collect(),
        }
    }
}

/// The variables of the environment that are valid UTF-8.
pub fn environment() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

/// Prefix of the variables that hold the endpoint of an AWS service.
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// Removes empty `AWS_*` and `OPSY_*` variables. Other AWS tools, charts and pipelines treat an empty variable as
/// unset, but the AWS SDK for Rust uses the empty value.
///
/// # Safety
/// No other thread may run.
pub unsafe fn forget_empty_variables() {
    for (name, value) in std::env::vars_os() {
        let read = name.to_str().is_some_and(|name| {
            // A variable for builds can be empty on purpose.
            let of_builds = [SECRET_PREFIX, BUILD_PREFIX].iter().any(|prefix| name.starts_with(prefix));
            name.starts_with("AWS_") || (name.starts_with("OPSY_") && !of_builds)
        });
        if read && value.to_str().is_some_and(|value| value.trim().is_empty()) {
            // SAFETY: the caller guarantees that no other thread runs.
            unsafe { std::env::remove_var(name) };
        }
    }
}

/// Removes empty entries from `NO_PROXY`. Programs in Go ignore them, but the `kube` crate rejects the whole variable.
///
/// # Safety
/// No other thread may run.
pub unsafe fn tidy_no_proxy() {
    for name in ["NO_PROXY", "no_proxy"] {
        #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
        let Ok(value) = std::env::var(name) else { continue };
        let entries: Vec<&str> = value.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
        let tidy = entries.join(",");
        if tidy != value {
            // SAFETY: the caller guarantees that no other thread runs.
            unsafe { std::env::set_var(name, tidy) };
        }
    }
}

/// Returns the AWS profile that the environment names. The AWS SDK reads its other variables itself, but it cannot
/// handle an invalid endpoint, so endpoints are checked here.
///
/// # Errors
/// An endpoint is not valid. The error names the variable and the reason.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn aws_profile() -> Result<Option<String>, String> {
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENDPOINT)) else { continue };
        match value.to_str() {
            Some(value) => checks::endpoint(value).map_err(|why| format!("{name} {value:?} {why}"))?,
            None => return Err(format!("{name} is not UTF-8")),
        }
    }
    Ok(std::env::var("AWS_PROFILE").ok())
}

/// The default state directory.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn default_state() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/opsy");
    }
    let base = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    base.or_else(home).unwrap_or_default().join("opsy")
}

fn duration(text: &str) -> Result<Duration, crate::api::duration::BadDuration> {
    crate::api::duration::parse(text)
}

fn owner(text: &str) -> Result<Owner, BadId> {
    Owner::parse(text)
}
