//! The branch of a pull request: fetches its target, builds a tree from the target's tip and the files of a change,
//! commits it to a branch of this agent's own, and pushes it. Commits of other people on that branch are never replaced.
//!
//! As long as the target stays where it is, commits are added to the branch. When the target has moved, one commit on its
//! tip takes their place; the push names the commit that it replaces, so that a commit that others pushed in the
//! meantime makes it fail.

use std::collections::BTreeSet;

use git2::{Commit, Oid, Repository, Tree};
use tracing::info;

use super::commit::{self, Attempt, Author, Change};
use super::heads::commit_id;
use super::mirror::{Mirror, tracked};
use super::push::{self, Pushed, Update};
use super::ref_names::tracking_ref;
use super::signatures::SigningKey;
use super::tree::{self, ChangedPath, TreeChange};
use super::{GitError, Tip, ancestry, depth};
use crate::api::ids::digest;
use crate::api::paths::is_within;
use crate::api::{CommitId, Owner};

/// The trailers of each commit on such a branch. They name the owner of the agent that made the commit, and the branch
/// and directory that it reads.
pub const OWNER_TRAILER: &str = "Opsy-Owner";
pub const SOURCE_TRAILER: &str = "Opsy-Source";
/// The maximum number of commits on the branch that are examined. A pull request that is open for months has some
/// hundred.
const COMMITS: usize = 5_000;

/// What the branch of a pull request must contain.
#[derive(Clone)]
pub struct ProposalBranch {
    pub name: String,
    /// The change of the target, which is `change.branch`. Its message has the trailer `OWNER_TRAILER`.
    pub change: Change,
    pub owner: Owner,
    /// The changes that people declined. A commit with one of them is not pushed.
    pub declined: BTreeSet<String>,
    /// The directory of the status files, from the root of the repository.
    pub status: String,
    /// The change is not complete yet: what it does not name stays in the branch, unless the target has changed it.
    pub is_incomplete: bool,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposed {
    /// The target has all of the change. `tip` is that of the branch, if the branch exists.
    Obsolete { tip: Option<CommitId> },
    /// The branch has the change.
    Current {
        /// The new commit of the branch, if one was needed.
        pushed: Option<CommitId>,
        /// The paths that differ from the target.
        paths: Vec<String>,
        /// Identifies these paths and their content.
        content: String,
    },
    /// People declined the change, and nothing was pushed.
    Declined,
    /// The server rejected the update, with this message.
    Rejected { message: String },
}

/// The agent that makes the commits of such branches.
#[derive(Clone, Debug)]
pub struct Maker {
    pub author: Author,
    pub owner: Owner,
    /// The branch and directory that it reads.
    pub source: String,
}

/// Whether an agent left a branch behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// The branch does not exist.
    Absent,
    /// Its tip is a commit of this agent.
    Own(CommitId),
    /// Its tip is a commit of somebody else.
    Other(CommitId),
}

/// The branch as it was fetched.
struct Existing {
    tip: Oid,
    /// The newest commit that the target has, too.
    base: Oid,
}

/// What was written to the clone.
enum Written {
    Obsolete,
    Current { commit: Option<Oid>, paths: Vec<String>, content: String },
}

/// Fetches, commits and pushes once.
pub(super) fn attempt(mirror: &mut Mirror, proposal: &ProposalBranch) -> Result<Attempt<Proposed>, GitError> {
    commit::check_bare(mirror)?;
    let target = commit::fresh_tip(mirror, &proposal.change)?;
    let target = target.ok_or_else(|| GitError::NoTarget { branch: proposal.change.branch.clone() })?;
    let existing = fetch_existing(mirror, target, proposal)?;
    let (key, folder) = (mirror.options().signing_key.clone(), mirror.options().folder.clone());
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let tip = existing.as_ref().map(|existing| existing.tip);
    let written = write(mirror.repo()?, (target, existing.as_ref()), proposal, key.as_ref(), &local)?;
    let (commit, paths, content) = match written {
        Written::Obsolete => return Ok(Attempt::Done(Proposed::Obsolete { tip: tip.map(commit_id) })),
        Written::Current { commit: None, paths, content } => {
            return Ok(Attempt::Done(Proposed::Current { pushed: None, paths, content }));
        }
        Written::Current { commit: Some(_), content, .. } if proposal.declined.contains(&content) => {
            return Ok(Attempt::Done(Proposed::Declined));
        }
        Written::Current { commit: Some(commit), paths, content } => (commit, paths, content),
    };
    let moves = existing.is_some_and(|existing| existing.base != target);
    let update = if moves { Update::Replace } else { Update::FastForward };
    match push::push(mirror, commit, &proposal.name, tip, update)? {
        Pushed::Done => {
            let reference = tracking_ref(&proposal.name);
            mirror.repo()?.reference(&reference, commit, true, "pushed").map_err(local)?;
            info!(%commit, branch = proposal.name, files = paths.len(), "pushed");
            let pushed = Some(commit_id(commit));
            Ok(Attempt::Done(Proposed::Current { pushed, paths, content }))
        }
        Pushed::Lost => Ok(Attempt::Lost),
        Pushed::Rejected { message } => Ok(Attempt::Done(Proposed::Rejected { message })),
    }
}

/// Deletes the branch, if it is at this commit.
pub(super) fn delete(mirror: &mut Mirror, branch: &str, tip: &CommitId) -> Result<Pushed, GitError> {
    let folder = mirror.options().folder.clone();
    let tip = Oid::from_str(tip.as_str()).map_err(|error| GitError::local(&folder, &error))?;
    let deleted = push::delete(mirror, branch, tip)?;
    if deleted == Pushed::Done {
        mirror.untrack(branch)?;
    }
    Ok(deleted)
}

/// Fetches a branch, and reads who made its tip. An agent adds no commits to those of others, so if the tip is its own,
/// all that is not in the target is.
pub(super) fn left(mirror: &mut Mirror, branch: &str, maker: &Maker) -> Result<Left, GitError> {
    let Some(tip) = mirror.fetch_if_exists(branch)? else { return Ok(Left::Absent) };
    let folder = mirror.options().folder.clone();
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let repo = mirror.repo()?;
    let commit = tracked(repo, branch).ok_or(GitError::NotSynced)?;
    let commit = repo.find_commit(commit).map_err(local)?;
    let is_own = is_made_by(&commit, &maker.author, &maker.owner)
        && has_trailer(&commit, SOURCE_TRAILER, &maker.source);
    drop(commit);
    mirror.untrack(branch)?;
    Ok(if is_own { Left::Own(tip.commit) } else { Left::Other(tip.commit) })
}

/// Fetches the branch, if it exists, and finds where it leaves the target.
///
/// # Errors
/// If it has a commit that this agent did not make, or that no trusted signer signed.
fn fetch_existing(
    mirror: &mut Mirror,
    target: Oid,
    proposal: &ProposalBranch,
) -> Result<Option<Existing>, GitError> {
    let Some(fetched) = mirror.fetch_if_exists(&proposal.name)? else { return Ok(None) };
    let folder = mirror.options().folder.clone();
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let tip = tracked(mirror.repo()?, &proposal.name).ok_or(GitError::NotSynced)?;
    let base = loop {
        match base(mirror.repo()?, (target, tip), proposal, &local) {
            Err(GitError::HistoryCut(_)) if mirror.deepen()? => {}
            found => break found?,
        }
    };
    let tip_of_branch = Tip { branch: proposal.name.clone(), ..fetched };
    commit::check_written(mirror, &tip_of_branch, vec![commit_id(target)], proposal.change.time)?;
    Ok(Some(Existing { tip, base }))
}

/// Returns the newest commit of the branch that the target has, too. All commits after it must be of this agent.
fn base(
    repo: &Repository,
    (target, tip): (Oid, Oid),
    proposal: &ProposalBranch,
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Oid, GitError> {
    let mut at = tip;
    for _ in 0..COMMITS {
        let follows = ancestry::follows(repo, target, at).map_err(local)?;
        if follows == Some(true) {
            return Ok(at);
        }
        let commit = repo.find_commit(at).map_err(local)?;
        if is_made_by(&commit, &proposal.change.author, &proposal.owner) {
            at = commit.parent_id(0).map_err(local)?;
        } else if follows.is_none() || depth::is_cut_at(&commit) {
            return Err(GitError::HistoryCut(commit_id(at)));
        } else {
            return Err(other_commits(&commit, proposal));
        }
    }
    let commit = repo.find_commit(tip).map_err(local)?;
    Err(other_commits(&commit, proposal))
}

fn other_commits(commit: &Commit<'_>, proposal: &ProposalBranch) -> GitError {
    let author = commit.committer();
    GitError::OtherCommits {
        branch: proposal.name.clone(),
        commit: commit_id(commit.id()),
        author: String::from_utf8_lossy(author.name_bytes()).into_owned(),
    }
}

/// Whether this agent made a commit. A commit that a person amended, rebased or picked has another author or committer.
fn is_made_by(commit: &Commit<'_>, author: &Author, owner: &Owner) -> bool {
    let own = (author.name.as_bytes(), author.email.as_bytes());
    let is_by_agent =
        [commit.author(), commit.committer()].iter().all(|by| (by.name_bytes(), by.email_bytes()) == own);
    commit.parent_count() == 1 && is_by_agent && has_trailer(commit, OWNER_TRAILER, owner.as_str())
}

fn has_trailer(commit: &Commit<'_>, name: &str, value: &str) -> bool {
    let trailer = format!("{name}: {value}");
    String::from_utf8_lossy(commit.message_bytes()).lines().any(|line| line == trailer)
}

/// Writes the commit into the clone, if one is needed.
fn write(
    repo: &Repository,
    (target, existing): (Oid, Option<&Existing>),
    proposal: &ProposalBranch,
    key: Option<&SigningKey>,
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Written, GitError> {
    let of_target = repo.find_commit(target).map_err(local)?;
    let before = of_target.tree().map_err(local)?;
    let start = match existing.filter(|_| proposal.is_incomplete) {
        Some(existing) => with_kept(repo, &before, existing, proposal).map_err(local)?,
        None => before.clone(),
    };
    let edited = commit::edited(repo, Some(&start), &proposal.change, local)?;
    let now = edited.map_or(start, |(tree, _)| tree);
    if now.id() == before.id() {
        return Ok(Written::Obsolete);
    }
    let changed = changes(repo, &before, &now, &proposal.name).map_err(local)?;
    let content = content_of(&changed);
    let paths = paths(changed);
    // Commits are added as long as the target does not move.
    let tip = existing.filter(|existing| existing.base == target && existing.tip != target);
    let Some(tip) = tip.map(|existing| repo.find_commit(existing.tip)).transpose().map_err(local)? else {
        let message = (proposal.change.message)(&paths);
        let commit =
            commit::commit_tree(repo, (&now, Some(&of_target)), &proposal.change, (&message, key), local)?;
        return Ok(Written::Current { commit: Some(commit), paths, content });
    };
    let of_tip = tip.tree().map_err(local)?;
    if of_tip.id() == now.id() {
        return Ok(Written::Current { commit: None, paths, content });
    }
    let added = self::paths(changes(repo, &of_tip, &now, &proposal.name).map_err(local)?);
    let message = (proposal.change.message)(&added);
    let commit = commit::commit_tree(repo, (&now, Some(&tip)), &proposal.change, (&message, key), local)?;
    Ok(Written::Current { commit: Some(commit), paths, content })
}

/// Returns the tree of the target with what the branch changed, where the target has not changed it: status files, and
/// files that setters edit now. Nothing else on the branch is proposed again.
fn with_kept<'a>(
    repo: &'a Repository,
    target: &Tree<'a>,
    existing: &Existing,
    proposal: &ProposalBranch,
) -> Result<Tree<'a>, git2::Error> {
    let tree = |id: Oid| repo.find_commit(id).and_then(|commit| commit.tree());
    let (base, tip) = (tree(existing.base)?, tree(existing.tip)?);
    let proposed = tree::changes(repo, &base, &tip, "")?.unwrap_or_default();
    let (mut kept, mut is_any) = (TreeChange::default(), false);
    for ChangedPath { path, id, exists, .. } in proposed {
        let at = |tree: &Tree<'_>| tree.get_path(path.as_ref()).ok().map(|entry| entry.id());
        let is_own = is_within(&path, &proposal.status) || proposal.change.edits.contains_key(&path);
        if is_own && at(&base) == at(target) {
            kept.set(&path, exists.then(|| Oid::from_str(&id)).transpose()?);
            is_any = true;
        }
    }
    let changed = if is_any { kept.apply(repo, Some(target))? } else { None };
    changed.map_or_else(|| Ok(target.clone()), |changed| repo.find_tree(changed))
}

fn changes(
    repo: &Repository,
    before: &Tree<'_>,
    now: &Tree<'_>,
    branch: &str,
) -> Result<Vec<ChangedPath>, git2::Error> {
    let too_many = || git2::Error::from_str(&format!("branch {branch} would change too many files"));
    tree::changes(repo, before, now, "")?.ok_or_else(too_many)
}

fn paths(changed: Vec<ChangedPath>) -> Vec<String> {
    changed.into_iter().map(|changed| changed.path).collect()
}

fn content_of(changed: &[ChangedPath]) -> String {
    digest(&changed.iter().flat_map(|changed| [changed.path.as_str(), &changed.id]).collect::<Vec<_>>())
}
