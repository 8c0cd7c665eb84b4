//! Verifies the signatures of the commits that a tip adds, between the fetch and the load. Verified commits are
//! remembered, also after a restart, so that a key can be replaced without another verification of old commits.

use jiff::Timestamp;

use crate::api::CommitId;
use crate::api::status::LastSynced;
use crate::git::signatures::Range;
use crate::git::{GitError, Handle};

/// Verifies a tip if signatures are required. Returns whether it was verified. Before the first sync, only the tip
/// itself must be signed: its history can be older than the requirement, and the signer of the tip vouches for its
/// content.
pub(super) async fn verify(
    git: &Handle,
    tip: &CommitId,
    last: Option<&LastSynced>,
    accepted: Option<&CommitId>,
    now: Timestamp,
) -> Result<bool, GitError> {
    let Some(signers) = &git.options().signers else { return Ok(false) };
    let verified = last.and_then(|last| last.verified.as_ref());
    if verified == Some(tip) {
        return Ok(true);
    }
    let since = last.map(|last| &last.commit).into_iter().chain(verified).chain(accepted).cloned().collect();
    git.verify(&Range { tip: tip.clone(), since, now }, signers).await.map(|()| true)
}

/// Returns true if the status files of a separate branch may be read. Otherwise, anyone who can push there could set
/// status.
pub(super) async fn is_trusted(git: &Handle, tip: &CommitId, now: Timestamp) -> Result<bool, GitError> {
    match verify(git, tip, None, None, now).await {
        Ok(_) => Ok(true),
        Err(error @ GitError::Unverified { .. }) => {
            tracing::warn!(%error, "the status files on the branch of publish.branch are not read");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
