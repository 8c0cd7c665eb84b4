//! The state of the sync.

use jiff::Timestamp;

use crate::api::status::LastSynced;
use crate::api::{Class, CommitId};
use crate::git::GitError;

/// The state of the sync, for health, metrics and conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncState {
    /// The last tip that was read. The agent's own commits move it, too.
    pub commit: Option<CommitId>,
    /// Why the last attempt failed. While the tip is held back, this reason stays, even if later attempts fail for
    /// another one: it ends only with a tip that descends from the last synced commit, or that is accepted.
    pub error: Option<(Class, String)>,
    /// The remote could not be reached since the start: the commit is from the clone.
    pub from_clone: bool,
    /// When it began to succeed, or to fail.
    pub since: Timestamp,
    /// Times of the last attempt and of the last success. A change of these alone does not notify receivers.
    pub attempted_at: Option<Timestamp>,
    pub succeeded: Option<Timestamp>,
    /// The last synced commit, which tips must descend from, if it is known.
    pub last: Option<LastSynced>,
    /// Why the tip is held back, if it is.
    pub held: Option<Hold>,
    /// A proxy or a certificate prevents the connection.
    pub network: bool,
}

/// Why a tip is held back, so that the last synced commit stays in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It does not descend from the last synced commit.
    Rewritten,
    /// It adds a commit that no trusted signer signed.
    Unverified,
}

impl Hold {
    /// Returns why the tip is held back, if the error says so.
    pub(super) fn of(error: &GitError) -> Option<Self> {
        match error {
            GitError::Rewritten { .. } => Some(Self::Rewritten),
            GitError::Unverified { .. } => Some(Self::Unverified),
            _ => None,
        }
    }
}

impl SyncState {
    pub fn new(since: Timestamp) -> Self {
        Self {
            commit: None,
            error: None,
            from_clone: false,
            since,
            attempted_at: None,
            succeeded: None,
            last: None,
            held: None,
            network: false,
        }
    }

    /// The state after an attempt to sync.
    pub(super) fn after(&self, attempt: Attempt, error: Option<&GitError>) -> Self {
        let Attempt { commit, from_clone, last, at } = attempt;
        let stays_held = self.held.filter(|_| error.is_some_and(|error| !error.is_about_a_commit()));
        let held = stays_held.or_else(|| error.and_then(Hold::of));
        let network = stays_held.is_none() && error.is_some_and(GitError::is_network_error);
        let error = match stays_held.is_some() {
            true => self.error.clone(),
            false => error.map(|error| (error.class(), error.to_string())),
        };
        let turned = self.error.is_some() != error.is_some();
        let since = if turned { at } else { self.since };
        let succeeded = if error.is_none() { Some(at) } else { self.succeeded };
        Self { commit, error, from_clone, since, attempted_at: Some(at), succeeded, last, held, network }
    }

    /// Returns true if only the times of attempts differ.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        Self { attempted_at: other.attempted_at, succeeded: other.succeeded, ..self.clone() } == *other
    }
}

/// An attempt to sync.
pub(super) struct Attempt {
    pub commit: Option<CommitId>,
    pub from_clone: bool,
    pub last: Option<LastSynced>,
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tip_that_is_followed_or_accepted_ends_a_hold() {
        let commit = |digit: &str| CommitId::parse(digit.repeat(40)).expect("an id");
        let rewritten = GitError::Rewritten { last: commit("a"), tip: commit("b"), missing: None };
        let after = |state: &SyncState, error: Option<&GitError>| {
            let attempt = Attempt { commit: None, from_clone: false, last: None, at: Timestamp::UNIX_EPOCH };
            state.after(attempt, error)
        };
        let held = after(&SyncState::new(Timestamp::UNIX_EPOCH), Some(&rewritten));
        assert!(held.held == Some(Hold::Rewritten) && held.error.is_some());
        let url = || "https://h/r".to_owned();
        for failure in [
            GitError::Unreachable { url: url(), why: "timeout".to_owned() },
            GitError::Unauthenticated { url: url() },
            GitError::NoBranch { url: url(), branch: "main".to_owned(), has: "next".to_owned() },
        ] {
            assert_eq!(after(&held, Some(&failure)), held, "{failure}");
        }
        assert_eq!(after(&held, None).held, None);
        let accepted = GitError::Path { path: "opsy.yaml".to_owned(), why: "is not YAML".to_owned() };
        assert_eq!(after(&held, Some(&accepted)).held, None, "the tip was accepted, and cannot be loaded");
        let unreachable = GitError::Unreachable { url: url(), why: "timeout".to_owned() };
        assert_eq!(after(&SyncState::new(Timestamp::UNIX_EPOCH), Some(&unreachable)).held, None);
    }
}
