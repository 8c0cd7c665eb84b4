//! Which commits descend from which, in the clone.

use git2::{ErrorCode, Oid, Repository};

use super::mirror::Mirror;
use super::{GitError, depth};
use crate::api::CommitId;

/// Returns true if a commit is `other` or descends from it, and `None` if its history is cut before that is known.
pub(super) fn follows(repo: &Repository, commit: Oid, other: Oid) -> Result<Option<bool>, git2::Error> {
    if commit == other {
        return Ok(Some(true));
    }
    let follows = match repo.find_commit(other) {
        Ok(_) => repo.graph_descendant_of(commit, other)?,
        Err(error) if error.code() == ErrorCode::NotFound => false,
        Err(error) => return Err(error),
    };
    Ok(if follows || !depth::is_cut(repo, commit)? { Some(follows) } else { None })
}

/// Returns an error if a tip does not descend from the last synced commit.
pub(super) fn check(mirror: &mut Mirror, tip: &CommitId) -> Result<(), GitError> {
    let Some(last) = mirror.known().synced else { return Ok(()) };
    let folder = mirror.options().folder.clone();
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let ids = Oid::from_str(tip.as_str()).and_then(|tip| Ok((tip, Oid::from_str(last.as_str())?)));
    let (id, other) = ids.map_err(local)?;
    loop {
        match follows(mirror.repo()?, id, other).map_err(local)? {
            Some(true) => return Ok(()),
            Some(false) => return Err(GitError::Rewritten { last, tip: tip.clone(), missing: None }),
            None if mirror.deepen()? => {}
            None => return Err(GitError::HistoryCut(tip.clone())),
        }
    }
}
