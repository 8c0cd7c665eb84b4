//! What the statuses of both kinds have in common, and the status of the repository, which is not an object.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::conditions::Condition;
use super::notifier::Notification;
use super::{AMIRefresherStatus, CommitId, Key, PackerBuilderStatus};

/// A status with conditions and notifications.
pub trait Status {
    fn conditions(&mut self) -> &mut Option<Vec<Condition>>;
    fn notifications(&mut self) -> &mut Option<Vec<Notification>>;
}

impl Status for PackerBuilderStatus {
    fn conditions(&mut self) -> &mut Option<Vec<Condition>> {
        &mut self.conditions
    }

    fn notifications(&mut self) -> &mut Option<Vec<Notification>> {
        &mut self.notifications
    }
}

impl Status for AMIRefresherStatus {
    fn conditions(&mut self) -> &mut Option<Vec<Condition>> {
        &mut self.conditions
    }

    fn notifications(&mut self) -> &mut Option<Vec<Notification>> {
        &mut self.notifications
    }
}

/// The status of the repository, and the notifications about it. The repository is not an object, so the engine stores
/// this for the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepositoryStatus {
    /// The last synced commit. The tip of the branch must descend from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastSynced>,
    /// Synced, Applied, Pruned, TakenOver, Accepted, Readable, Published and Notified, each present only while it is
    /// false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Files that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Vec<BrokenFile>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Vec<Notification>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<LastDigest>,
    /// Secrets with which notifications were ever sent. They are never given to a build, even after `opsy.yaml` has
    /// dropped them.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub notifier_secrets: BTreeSet<Key>,
}

/// The last synced commit, from which every tip must descend. It outlives the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSynced {
    pub commit: CommitId,
    /// The repository, and the branch if the settings name one. The record does not apply to another source.
    pub source: String,
    /// The newest commit whose signature was verified, with all commits before it: the last synced one, or a later one
    /// of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<CommitId>,
}

/// A file that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenFile {
    pub file: String,
    /// The position and the problem, as `opsy validate` prints them.
    pub words: String,
    /// The commit at which the file was first found broken.
    pub commit: String,
}

/// The last digest message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDigest {
    /// The day of the digest.
    pub day: String,
    /// Start of the period that the digest covers.
    pub since: Timestamp,
    /// End of the period that the digest covers.
    pub until: Timestamp,
}

impl Status for RepositoryStatus {
    fn conditions(&mut self) -> &mut Option<Vec<Condition>> {
        &mut self.conditions
    }

    fn notifications(&mut self) -> &mut Option<Vec<Notification>> {
        &mut self.notifications
    }
}
