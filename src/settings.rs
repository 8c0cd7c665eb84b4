//! Settings: flags and `OPSY_*` variables have what is needed to reach the repository; `opsy.yaml` in the
//! repository has the rest, so that a pull request changes it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::api::checks;
use crate::api::daily::Daily;
use crate::api::notifier::Notifier;

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

/// Where objects are stored and builds run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// Use kubernetes in a pod or with --kubeconfig, else standalone
    Auto,
    /// Store objects in a state directory and run builds as processes
    Standalone,
    /// Store objects as custom resources and run builds as Jobs
    Kubernetes,
}

/// What `opsy run` needs to use a cluster.
#[derive(Args, Clone, Debug)]
pub struct ClusterFlags {
    /// Select where objects are stored and builds run
    #[arg(long, env = "OPSY_ENGINE", value_enum, default_value = "auto")]
    pub engine: EngineChoice,
    /// Use the cluster of this kubeconfig instead of that of the pod
    #[arg(long, env = "OPSY_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Manage the objects of these namespaces; `*` means all; default: the namespace of the agent
    #[arg(long, env = "OPSY_NAMESPACES", value_delimiter = ',', value_name = "NAME,…")]
    pub namespaces: Vec<String>,
    /// Use this image with `/opsy-runner` in build pods
    #[arg(long, env = "OPSY_RUNNER_IMAGE", value_name = "IMAGE", default_value = "")]
    pub runner_image: String,
    /// Use this image with Packer for builders that name none
    #[arg(long, env = "OPSY_PACKER_IMAGE", value_name = "IMAGE", default_value = "hashicorp/packer:1.11")]
    pub packer_image: String,
    /// Name this replica in the Lease; default: the host name and a random part
    #[arg(long, env = "OPSY_IDENTITY", value_name = "NAME")]
    pub identity: Option<String>,
    /// Let another replica take the Lease this long after its last renewal
    #[arg(long, env = "OPSY_LEASE_DURATION", default_value = "15s", value_parser = duration)]
    pub lease_duration: Duration,
}

impl ClusterFlags {
    /// Is the engine kubernetes?
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn is_kubernetes(&self) -> bool {
        match self.engine {
            EngineChoice::Kubernetes => true,
            EngineChoice::Standalone => false,
            EngineChoice::Auto => {
                self.kubeconfig.is_some() || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            }
        }
    }
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
    /// Log in to the repository as this user
    #[arg(long, env = "OPSY_GIT_USERNAME")]
    pub git_username: Option<String>,
    /// Read the password from this file, each time it is used
    #[arg(long, env = "OPSY_GIT_PASSWORD_FILE", value_name = "FILE")]
    pub git_password_file: Option<PathBuf>,
    /// Read an access token from this file, each time it is used
    #[arg(long, env = "OPSY_GIT_TOKEN_FILE", value_name = "FILE")]
    pub git_token_file: Option<PathBuf>,
    #[command(flatten)]
    pub state: StateFlags,
    #[command(flatten)]
    pub cluster: ClusterFlags,
    /// Serve /healthz, /readyz and /metrics at this address, such as `[::]:8080` (IPv4 and IPv6); default: do not serve
    #[arg(long, env = "OPSY_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<std::net::SocketAddr>,
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

/// `opsy.yaml`. Every field is optional; the accessors hold the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepoSettings {
    /// Owner of everything this agent makes. Default: a hash of repository and path; in a cluster, of the cluster and
    /// the agent's namespace.
    #[serde(default, rename = "agentID", skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// AWS accounts that may be touched. Default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Vec<String>>,
    /// Namespace of manifests that name none. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Folder of status files, relative to the path Opsy reads. Default `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_path: Option<String>,
    /// What may be removed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneSettings>,
    /// How status is committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishSettings>,
    /// Author of Opsy's commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<AuthorSettings>,
    /// Limits on concurrent work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitSettings>,
    /// Sinks for what concerns no object or all of them, and for objects whose manifest has no notifier.
    /// Secrets are those of `namespace`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notifier: Option<Notifier>,
    /// One message per day about all objects, to the sinks in `notifier`. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<DigestSettings>,
}

/// One message per day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DigestSettings {
    /// Time of day, `HH:MM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Time zone, like `Europe/Berlin`. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl DigestSettings {
    /// When it is sent.
    ///
    /// # Errors
    /// The field that is wrong, and how.
    pub fn daily(&self) -> Result<Daily, (&'static str, String)> {
        Daily::parse(self.time.as_deref().unwrap_or_default(), self.time_zone.as_deref())
    }
}

/// What may be removed at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PruneSettings {
    /// Allow an empty tree, or removing more than half of the objects at once. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_mass: Option<bool>,
}

/// How status is committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishSettings {
    /// false commits nothing. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// Branch of the status files. Default: the branch that is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Appended to commit subjects, like `[skip ci]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_suffix: Option<String>,
    /// How long it must be quiet before a batch is committed. Default 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_period: Option<String>,
}

/// Author of Opsy's commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorSettings {
    /// Default `Opsy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Default `opsy@users.noreply.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// Limits on concurrent work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitSettings {
    /// Builds that may run at once. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_builds: Option<i32>,
    /// Allow builds although more than half of the builders lost their images at once. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_mass_build: Option<bool>,
}

/// Builds at once where `opsy.yaml` has no limit: enough for a team, gentle to EC2's RunInstances rate.
const CONCURRENT_BUILDS: usize = 4;

impl RepoSettings {
    pub fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    pub fn status_path(&self) -> &str {
        self.status_path.as_deref().unwrap_or("status").trim_matches('/')
    }

    pub fn concurrent_builds(&self) -> usize {
        self.limits
            .as_ref()
            .and_then(|limits| limits.concurrent_builds)
            .and_then(|n| usize::try_from(n).ok())
            .unwrap_or(CONCURRENT_BUILDS)
    }

    pub fn allow_mass_build(&self) -> bool {
        self.limits.as_ref().and_then(|limits| limits.allow_mass_build).unwrap_or(false)
    }

    pub fn allow_mass_prune(&self) -> bool {
        self.prune.as_ref().and_then(|prune| prune.allow_mass).unwrap_or(false)
    }
}
