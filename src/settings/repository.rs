//! `opsy.yaml`: the settings that contain no secret and that a pull request can change.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::api::Key;
use crate::api::daily::Daily;
use crate::api::notifier::Notifier;

/// Settings of the repository. Every field is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepoSettings {
    /// Owner of everything that this agent creates. Default: a hash of repository and path; in a cluster, of the
    /// cluster, the agent's namespace and the name of a Lease that is not the default one. A later change must be
    /// confirmed with the flag `--agent-id`.
    #[serde(default, rename = "agentID", skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<String>,
    /// AWS accounts that the agent may use. Default any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Vec<String>>,
    /// Namespace of manifests that do not name one. Default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Directory of status files, relative to the path that Opsy reads. Default `status`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_path: Option<String>,
    /// Guard against the accidental removal of many objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prune: Option<PruneSettings>,
    /// How status files are committed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<PublishSettings>,
    /// Values in other files of the repository that Opsy keeps equal to the active images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub setters: Option<SetterSettings>,
    /// Author of Opsy's commits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<AuthorSettings>,
    /// Limits on concurrent work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitSettings>,
    /// Sinks for notifications about no object or all objects, and for objects whose manifest has no notifier. Secrets
    /// are read from `namespace`.
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
    /// Time zone, such as `Europe/Berlin`. Default UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

impl DigestSettings {
    /// Returns when it is sent.
    ///
    /// # Errors
    /// A field is not valid. The error names the field and the reason.
    pub fn daily(&self) -> Result<Daily, (&'static str, String)> {
        Daily::parse(self.time.as_deref().unwrap_or_default(), self.time_zone.as_deref())
    }
}

/// Guard against the accidental removal of many objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PruneSettings {
    /// Allow an empty tree, or the removal of more than half (and more than two) of the objects at once. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_mass: Option<bool>,
}

/// How status files are committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PublishSettings {
    /// If false, nothing is committed. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// How status files reach the branch: by a commit (Commit), or by a pull request that people merge (PullRequest), for
    /// a protected branch. Default Commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<PublishMode>,
    /// If false, status files and commits do not contain the error lines and the output of builds. The status of the
    /// object and notifications still contain them. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<bool>,
    /// Branch of the status files. Default: the branch that is read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Suffix of commit subjects, such as `[skip ci]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_suffix: Option<String>,
    /// Time without a change of status before a batch is committed. Default 2s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_period: Option<String>,
}

/// How status files reach their branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum PublishMode {
    #[default]
    Commit,
    PullRequest,
}

/// Values in other files of the repository that Opsy keeps equal to the active images. They are committed together with the
/// status files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SetterSettings {
    /// Globs of the YAML and HCL files (.yaml, .yml, .tf, .tfvars, .hcl) that Opsy may edit, relative to the root of the
    /// repository. The value before the comment `# {"$opsy": "<namespace>/<builder>:<region>:<architecture>"}` becomes
    /// the ID of the active image. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paths: Option<Vec<String>>,
    /// Values in JSON files, which cannot contain comments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Vec<JsonSetter>>,
}

/// A value in a JSON file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JsonSetter {
    /// File, relative to the root of the repository.
    pub path: String,
    /// JSON pointer to the value, such as `/eks/ami_id`.
    pub pointer: String,
    /// `<namespace>/<builder>:<region>:<architecture>` for the ID of the active image; append `:name` for its name,
    /// or `:build` for the ID of its build.
    pub value: String,
}

/// Author of Opsy's commits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorSettings {
    /// Name of the author. Default `Opsy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Email address of the author. Default `opsy@users.noreply.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// Limits on concurrent work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LimitSettings {
    /// Maximum number of builds that run at once. Default 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_builds: Option<i32>,
    /// Allow builds even if more than half (and more than two) of the builders lost their images. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_mass_build: Option<bool>,
}

/// The default limit of concurrent builds: enough for a team, and low enough for the rate limit of EC2's RunInstances.
const CONCURRENT_BUILDS: usize = 4;

impl RepoSettings {
    /// The Secrets that the agent's own notifications use.
    pub fn notifier_secrets(&self) -> BTreeSet<Key> {
        let names = self.notifier.iter().flat_map(Notifier::secrets);
        names.map(|name| Key { namespace: self.namespace().to_owned(), name: name.to_owned() }).collect()
    }

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
