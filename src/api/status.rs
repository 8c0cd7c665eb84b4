//! What the statuses of both kinds have in common, and the one of what is no object.

use serde::{Deserialize, Serialize};

use super::conditions::Condition;
use super::notifier::Notification;
use super::{AMIRefresherStatus, PackerBuilderStatus};

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
    /// Synced, Applied and Published, each only there while it is false; Notified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notifications: Option<Vec<Notification>>,
    /// The day of the last digest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

impl Status for RepositoryStatus {
    fn conditions(&mut self) -> &mut Option<Vec<Condition>> {
        &mut self.conditions
    }

    fn notifications(&mut self) -> &mut Option<Vec<Notification>> {
        &mut self.notifications
    }
}
