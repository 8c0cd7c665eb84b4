//! How syncing goes, as others see it.

use jiff::Timestamp;

use crate::api::status::LastSynced;
use crate::api::{Class, CommitId};

/// How syncing goes, for health, metrics and people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyncState {
    /// The remote's tip as last seen; our own commits move it too.
    pub commit: Option<CommitId>,
    /// Why the last attempt failed.
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
    /// The tip is held back: it does not descend from that commit.
    pub held: bool,
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
            held: false,
        }
    }
}
