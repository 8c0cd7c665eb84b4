//! Why an attempt to publish failed: the repository or the forge. Pure.

use crate::api::{Class, reasons};
use crate::forge::ForgeError;
use crate::git::GitError;

#[derive(Debug, thiserror::Error)]
pub(super) enum PublishError {
    #[error(transparent)]
    Git(#[from] GitError),
    #[error(transparent)]
    Forge(#[from] ForgeError),
}

impl PublishError {
    pub fn class(&self) -> Class {
        match self {
            Self::Git(error) => error.class(),
            Self::Forge(error) => error.class(),
        }
    }

    /// Returns the reason for the condition `Published`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Git(GitError::OtherCommits { .. }) => reasons::BRANCH_NOT_OWN,
            Self::Git(_) => reasons::PUSH_FAILED,
            Self::Forge(_) => reasons::PULL_REQUEST_FAILED,
        }
    }

    /// Whether the repository is unavailable: it is not known whether it would accept a push.
    pub fn is_outage_of_git(&self) -> bool {
        matches!(self, Self::Git(error) if matches!(error.class(), Class::Transient { .. }))
    }

    pub fn holds_tip_back(&self) -> bool {
        matches!(self, Self::Git(error) if error.holds_tip_back())
    }
}
