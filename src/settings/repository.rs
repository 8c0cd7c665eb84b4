//! `opsy.yaml`: the settings that contain no secret and that a pull request may change.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::api::Key;
use crate::api::daily::Daily;
use crate::api::notifier::Notifier;

/// `opsy.yaml`. Every field is optional; the accessors hold the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepoSettings {
    /// Owner of everything this agent makes. Default: a hash of repository and path; in a cluster, of the cluster and
    /// the agent's namespace. A later change must be confirmed with the flag `--agent-id`.
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
    /// false leaves the error lines and the output of builds out of status files and commits. They stay in the status of
    /// the object and in notifications. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<bool>,
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
    /// Secrets that the agent's own notifications are sent with.
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
