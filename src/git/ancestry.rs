//! Which commit descends from which, as the clone has it.

use git2::{ErrorCode, Oid, Repository};

use super::GitError;
use super::mirror::Mirror;
use crate::api::CommitId;

/// Is a commit another one, or does it descend from it? From a commit that the clone does not have, none does: the
/// clone has the whole history of what it has.
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

/// Refuses a tip that does not follow the last synced commit.
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
