//! How syncing goes, as others see it.

use jiff::Timestamp;

use crate::api::status::LastSynced;
use crate::api::{Class, CommitId};
use crate::git::GitError;

/// How syncing goes, for health, metrics and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncState {
    /// The remote's tip as last seen; our own commits move it too.
    pub commit: Option<CommitId>,
    /// Why the last attempt failed. While the tip is held back, that is the reason, also when later attempts fail for
    /// another one: only a tip that is followed or accepted ends it.
    pub error: Option<(Class, String)>,
    /// The remote has not answered since the start: the commit is what the clone had.
    pub from_clone: bool,
    /// Since when it has been working, or failing.
    pub since: Timestamp,
    /// When it last looked, and when it last did so with success. News of these alone wake nobody.
    pub looked: Option<Timestamp>,
    pub succeeded: Option<Timestamp>,
    /// The last synced commit, which tips must descend from, where that is known.
    pub last: Option<LastSynced>,
    /// Why the tip is held back, if it is.
    pub held: Option<Hold>,
    /// A proxy or a certificate stops the attempts.
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
    /// What an error says of the tip.
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
            looked: None,
            succeeded: None,
            last: None,
            held: None,
            network: false,
        }
    }

    /// The state after an attempt to sync.
    pub(super) fn after(&self, looked: Looked, error: Option<&GitError>) -> Self {
        let Looked { commit, from_clone, last, at } = looked;
        let stays_held = self.held.filter(|_| error.is_some_and(|error| !error.is_about_a_commit()));
        let held = stays_held.or_else(|| error.and_then(Hold::of));
        let network = stays_held.is_none() && error.is_some_and(GitError::is_of_the_network);
        let error = match stays_held.is_some() {
            true => self.error.clone(),
            false => error.map(|error| (error.class(), error.to_string())),
        };
        let turned = self.error.is_some() != error.is_some();
        let since = if turned { at } else { self.since };
        let succeeded = if error.is_none() { Some(at) } else { self.succeeded };
        Self { commit, error, from_clone, since, looked: Some(at), succeeded, last, held, network }
    }

    /// Is it the same but for the times of attempts?
    pub(super) fn is_like(&self, other: &Self) -> bool {
        Self { looked: other.looked, succeeded: other.succeeded, ..self.clone() } == *other
    }
}

/// An attempt to sync.
pub(super) struct Looked {
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
            let looked = Looked { commit: None, from_clone: false, last: None, at: Timestamp::UNIX_EPOCH };
            state.after(looked, error)
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
