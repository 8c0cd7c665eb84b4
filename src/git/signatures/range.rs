//! The commits that must be signed: those of a tip that were not verified or accepted before.

use std::path::Path;

use git2::{Oid, Repository};
use jiff::Timestamp;

use super::keyring::Keyring;
use super::refusal::Refusal;
use super::signed;
use super::signers::Signers;
use crate::api::CommitId;
use crate::git::heads::commit_id;
use crate::git::{GitError, ancestry, depth};

/// The maximum number of commits of one verification: years of work, which take seconds.
const COMMITS_LIMIT: usize = 10_000;
/// The maximum size of a commit, which consists mostly of its message.
const SIZE_LIMIT: usize = 1024 * 1024;
/// The maximum number of characters of an author in an error.
const AUTHOR_LIMIT: usize = 100;

/// The commits to verify, and the time of the verification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    pub tip: CommitId,
    /// Commits that were verified or accepted before, with all their ancestors. Commits that the tip does not descend
    /// from are ignored. If none is left, only the tip is verified.
    pub since: Vec<CommitId>,
    pub now: Timestamp,
}

/// Verifies all commits of a range, the oldest first.
///
/// # Errors
/// `GitError::Unverified` for the first commit without a valid signature of a trusted signer.
pub(in crate::git) fn verify(
    repo: &Repository,
    folder: &Path,
    range: &Range,
    signers: &Signers,
) -> Result<(), GitError> {
    let local = |error: git2::Error| GitError::local(folder, &error);
    let tip = Oid::from_str(range.tip.as_str()).map_err(local)?;
    let Some(commits) = commits(repo, tip, &range.since).map_err(local)? else {
        return Err(GitError::HistoryCut(range.tip.clone()));
    };
    if commits.is_empty() {
        return Ok(());
    }
    let refused =
        |id: Oid, why: Refusal| GitError::Unverified { commit: commit_id(id), author: author(repo, id), why };
    if commits.len() > COMMITS_LIMIT {
        return Err(refused(tip, Refusal::TooMany { limit: COMMITS_LIMIT }));
    }
    let keyring = signers.load()?;
    for id in commits.into_iter().rev() {
        if let Err(why) = verify_commit(repo, id, &keyring, range.now).map_err(local)? {
            return Err(refused(id, why));
        }
    }
    Ok(())
}

/// Returns the commits of the range, the newest first. If they exceed the limit, returns one more than the limit. If the
/// history is cut, so that commits of the range could be missing, returns `None`.
fn commits(repo: &Repository, tip: Oid, since: &[CommitId]) -> Result<Option<Vec<Oid>>, git2::Error> {
    let mut known = Vec::new();
    for commit in since {
        let id = Oid::from_str(commit.as_str())?;
        match ancestry::follows(repo, tip, id)? {
            Some(true) => known.push(id),
            Some(false) => {}
            None => return Ok(None),
        }
    }
    if known.is_empty() {
        return Ok(Some(vec![tip]));
    }
    let mut walk = repo.revwalk()?;
    walk.set_sorting(git2::Sort::TOPOLOGICAL)?;
    walk.push(tip)?;
    for id in known {
        walk.hide(id)?;
    }
    let commits: Vec<Oid> = walk.take(COMMITS_LIMIT + 1).collect::<Result<_, _>>()?;
    for id in &commits {
        if depth::is_cut_at(&repo.find_commit(*id)?) {
            return Ok(None);
        }
    }
    Ok(Some(commits))
}

/// Verifies one commit.
fn verify_commit(
    repo: &Repository,
    id: Oid,
    keyring: &Keyring,
    now: Timestamp,
) -> Result<Result<(), Refusal>, git2::Error> {
    let objects = repo.odb()?;
    let (bytes, _) = objects.read_header(id)?;
    if bytes > SIZE_LIMIT {
        return Ok(Err(Refusal::TooLarge { bytes, limit: SIZE_LIMIT }));
    }
    Ok(keyring.verify(objects.read(id)?.data(), now))
}

/// Returns whether a commit has a signature, of whomever.
pub(in crate::git) fn is_signed(repo: &Repository, id: Oid) -> Result<bool, git2::Error> {
    let objects = repo.odb()?;
    Ok(signed::split(objects.read(id)?.data()) != Err(Refusal::Unsigned))
}

/// Returns the author of a commit, for an error.
fn author(repo: &Repository, id: Oid) -> String {
    let Ok(commit) = repo.find_commit(id) else { return "an unknown author".to_owned() };
    let author = commit.author();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let shown = format!("{} <{}>", text(author.name_bytes()), text(author.email_bytes()));
    shown.chars().filter(|char| !char.is_control()).take(AUTHOR_LIMIT).collect()
}
