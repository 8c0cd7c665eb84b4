//! Settings: flags and `OPSY_*` variables have what is needed to reach the repository; `opsy.yaml` in the
//! repository has the rest, so that a pull request changes it.

mod cluster;
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
pub use cluster::{ClusterFlags, EngineChoice};
pub use git::{AddressFlags, GitFlags, usual_known_hosts};
pub use network::NetworkFlags;
pub use repository::{
    AuthorSettings, DigestSettings, LimitSettings, PruneSettings, PublishSettings, RepoSettings,
};
pub use signing::SigningFlags;
pub use trust::TrustFlags;
pub use webhook::WebhookFlags;

/// Output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text on a terminal, JSON elsewhere
    Auto,
    /// Text for people
    Text,
    /// JSON for machines
    Json,
}

/// What `opsy run` needs to reach the repository and to build.
#[derive(Args, Clone, Debug)]
pub struct RunFlags {
    /// Read manifests and templates from this repository: a URL or a local path
    #[arg(long, env = "OPSY_REPO", value_name = "URL|PATH")]
    pub repo: String,
    /// Read this branch; default: the default branch of the remote
    #[arg(long, env = "OPSY_BRANCH")]
    pub branch: Option<String>,
    /// Read manifests from this directory of the repository
    #[arg(long, env = "OPSY_PATH", default_value = "")]
    pub path: String,
    /// Allow the objects of a namespace to use only these paths of the repository as templates. Without a rule for a
    /// namespace that is not the agent's own, its objects must be declared in Git to use any
    #[arg(long, env = "OPSY_TEMPLATES", value_delimiter = ',', value_name = "NAMESPACE=GLOB,…")]
    pub templates: Vec<String>,
    #[command(flatten)]
    pub git: GitFlags,
    /// Set the owner of everything this agent makes; a different agentID in opsy.yaml is then an error. Needed to change
    /// the owner of an agent that has worked already
    #[arg(long, env = "OPSY_AGENT_ID", value_name = "ID", value_parser = owner)]
    pub agent_id: Option<Owner>,
    #[command(flatten)]
    pub network: NetworkFlags,
    #[command(flatten)]
    pub state: StateFlags,
    #[command(flatten)]
    pub cluster: ClusterFlags,
    #[command(flatten)]
    pub trust: TrustFlags,
    #[command(flatten)]
    pub signing: SigningFlags,
    /// Serve /healthz, /readyz and /metrics at this address, such as `[::]:8080` (IPv4 and IPv6); default: do not serve
    #[arg(long, env = "OPSY_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<std::net::SocketAddr>,
    #[command(flatten)]
    pub webhook: WebhookFlags,
    /// Check the repository for new commits this often
    #[arg(long, env = "OPSY_INTERVAL", default_value = "30s", value_parser = duration)]
    pub interval: Duration,
    /// Run this Packer: a path, or a name looked up in PATH
    #[arg(long, env = "OPSY_PACKER", default_value = "packer")]
    pub packer: String,
    /// Share this directory of Packer plugins among all builds
    #[arg(long, env = "OPSY_PACKER_PLUGINS", value_name = "DIR")]
    pub packer_plugins: Option<PathBuf>,
    /// Read secrets of builds and notifications from `DIR/<namespace>/<secret>/<KEY>`
    #[arg(long, env = "OPSY_SECRETS", value_name = "DIR")]
    pub secrets: Option<PathBuf>,
    /// Hand these variables of the environment to builds, too; globs are allowed. Builds on this machine inherit PATH,
    /// HOME, LANG, LC_*, TZ, TMPDIR, SSL_CERT_*, *_PROXY, AWS_*, PACKER_* and PKR_*
    #[arg(long, env = "OPSY_PASS_ENV", value_delimiter = ',', value_name = "NAME,…")]
    pub pass_env: Vec<String>,
    /// Use this Slack Web API, for workspaces with an API of their own
    #[arg(long, env = "OPSY_SLACK_API", value_name = "URL", default_value = "https://slack.com/api/")]
    pub slack_api: String,
    /// Exit when nothing is left to do: 0 settled, 2 stalled or failing, 3 waiting on purpose
    /// (suspended, disabled, no image yet)
    #[arg(long)]
    pub once: bool,
    /// Output format
    #[arg(long, env = "OPSY_OUTPUT", value_enum, default_value = "auto")]
    pub output: Output,
}

/// Where the state directory is.
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

/// Secrets of the agent's own environment: never printed, never handed to a build as they are.
#[derive(Clone, Default)]
pub struct EnvSecrets {
    pub git_password: Option<String>,
    pub git_token: Option<String>,
    pub webhook: Option<String>,
    /// `OPSY_SECRET_…` without the prefix.
    pub builds: BTreeMap<String, String>,
    /// `OPSY_BUILD_…` without the prefix: variables of every build on this machine.
    pub every_build: BTreeMap<String, String>,
}

/// Variables that hold build secrets start with this.
const SECRET_PREFIX: &str = "OPSY_SECRET_";
/// Variables that every build gets without this.
const BUILD_PREFIX: &str = "OPSY_BUILD_";

impl EnvSecrets {
    /// Reads them, once.
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

/// Variables with the address of an AWS service start like this.
const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// Removes variables of AWS's and of Opsy's that are empty: everywhere else in AWS's world, and in charts and
/// pipelines, that means they are not set. AWS's library for Rust takes them at their word.
///
/// # Safety
/// No other thread may run.
pub unsafe fn forget_empty_variables() {
    for (name, value) in std::env::vars_os() {
        let read = name.to_str().is_some_and(|name| {
            // Those of builds are theirs: empty ones may be what is wanted.
            let of_builds = [SECRET_PREFIX, BUILD_PREFIX].iter().any(|prefix| name.starts_with(prefix));
            name.starts_with("AWS_") || (name.starts_with("OPSY_") && !of_builds)
        });
        if read && value.to_str().is_some_and(|value| value.trim().is_empty()) {
            // SAFETY: no other thread runs, as the caller says.
            unsafe { std::env::remove_var(name) };
        }
    }
}

/// Removes empty entries of `NO_PROXY`: for Go's programs they mean nothing, and kube's library for Rust refuses the
/// whole variable.
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
            // SAFETY: no other thread runs, as the caller says.
            unsafe { std::env::set_var(name, tidy) };
        }
    }
}

/// The profile of AWS that the environment names. The rest of that environment is read by AWS's library, which
/// gives up on an address that is none: those are refused here.
///
/// # Errors
/// The variable, and what is wrong with it.
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

/// The state directory where none is named.
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
