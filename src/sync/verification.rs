//! Signatures of the commits that a tip adds: verified between the fetch and the load. What was verified is remembered,
//! also after a restart, so that a key can be replaced without a look back.

use jiff::Timestamp;

use crate::api::CommitId;
use crate::api::status::LastSynced;
use crate::git::signatures::Range;
use crate::git::{GitError, Handle};

/// Verifies a tip, where signatures are wanted; true where they are. Before anything was synced the tip alone must be
/// signed: its history was written before anybody asked for signatures, and who signs the tip vouches for its content.
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

/// May the status files of a branch of their own be read? What anybody can push there would else become status.
pub(super) async fn is_trusted(git: &Handle, tip: &CommitId, now: Timestamp) -> Result<bool, GitError> {
    match verify(git, tip, None, None, now).await {
        Ok(_) => Ok(true),
        Err(error @ GitError::Unverified { .. }) => {
            tracing::warn!(%error, "the status files of the branch that is published to are not read");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
