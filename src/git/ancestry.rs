//! Which commits descend from which, in the clone.

use git2::{ErrorCode, Oid, Repository};

use super::GitError;
use super::mirror::Mirror;
use crate::api::CommitId;

/// Returns true if a commit is `other` or descends from it. If the clone does not have `other`, it returns false, since
/// the clone has the whole history of each of its commits.
pub(super) fn follows(repo: &Repository, commit: Oid, other: Oid) -> Result<bool, git2::Error> {
    if commit == other {
        return Ok(true);
    }
    match repo.find_commit(other) {
        Ok(_) => repo.graph_descendant_of(commit, other),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns an error if a tip does not descend from the last synced commit.
pub(super) fn check(mirror: &mut Mirror, tip: &CommitId) -> Result<(), GitError> {
    let Some(last) = mirror.known().synced else { return Ok(()) };
    let folder = mirror.options().folder.clone();
    let ids = Oid::from_str(tip.as_str()).and_then(|tip| Ok((tip, Oid::from_str(last.as_str())?)));
    let repo = mirror.repo()?;
    match ids.and_then(|(tip, last)| follows(repo, tip, last)) {
        Ok(true) => Ok(()),
        Ok(false) => Err(GitError::Rewritten { last, tip: tip.clone(), missing: None }),
        Err(error) => Err(GitError::local(&folder, &error)),
    }
}
