//! What the statuses of both kinds have in common, and the one of what is no object.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::conditions::Condition;
use super::notifier::Notification;
use super::{AMIRefresherStatus, CommitId, Key, PackerBuilderStatus};

/// A status, whichever kind's.
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

/// How the repository stands that is worked by, and what people were told of it. It is no object, so the
/// engine remembers this for the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RepositoryStatus {
    /// The last synced commit: the tip of the branch must descend from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<LastSynced>,
    /// Synced, Applied, Pruned, TakenOver, Accepted, Readable and Published, each only there while it is false; Notified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// Files that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Vec<BrokenFile>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Vec<Notification>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<LastDigest>,
    /// Secrets that notifications were ever sent with: no build is given one, also after `opsy.yaml` has dropped it.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub notifier_secrets: BTreeSet<Key>,
}

/// The last synced commit, which every tip must descend from. It outlives the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSynced {
    pub commit: CommitId,
    /// The repository, and the branch where the settings name one: of another, nothing is known.
    pub source: String,
    /// The newest commit whose signature was verified, with all before it: the last synced one, or one of ours after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified: Option<CommitId>,
}

/// A file that cannot be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenFile {
    pub file: String,
    /// Where and how, as `opsy validate` says it.
    pub words: String,
    /// The commit at which it was first seen so.
    pub commit: String,
}

/// The last digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDigest {
    /// Its day.
    pub day: String,
    /// What it tells began and ended then.
    pub since: Timestamp,
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
