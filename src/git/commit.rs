//! Commits on a branch's fresh tip: a tree from that tip's tree plus our files, a commit, a push.
//! Nothing is ever rebased or forced, and no path the change does not name is touched. Pushing into a
//! local path runs no hooks of that repository: libgit2 writes into it directly.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use git2::{ObjectType, Oid, Repository, Signature, Time, Tree};
use jiff::Timestamp;
use tracing::info;

use super::GitError;
use super::ancestry;
use super::heads::commit_id;
use super::mirror::{Mirror, check_local, tracked, tracking_ref};
use super::push::{self, Pushed};
use super::reader::Reader;
use super::tree::{self, Folder};
use crate::api::CommitId;

/// New content from what the file holds now; `Err` says why it cannot be made.
pub type Merge = Arc<dyn Fn(Option<&[u8]>) -> Result<Vec<u8>, String> + Send + Sync>;
/// The commit message for the paths that differ.
pub type Message = Arc<dyn Fn(&[String]) -> String + Send + Sync>;

/// What becomes of one file.
#[derive(Clone)]
pub enum Edit {
    Put(Vec<u8>),
    Remove,
    /// Made from the content on the fresh tip, so that nothing others wrote is lost.
    Merge(Merge),
}

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(bytes) => write!(f, "Put({} bytes)", bytes.len()),
            Self::Remove => f.write_str("Remove"),
            Self::Merge(_) => f.write_str("Merge(…)"),
        }
    }
}

/// Author and committer of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub email: String,
}

/// Files to change on a branch, as one commit.
#[derive(Clone)]
pub struct Change {
    pub branch: String,
    /// By path from the root of the repository.
    pub edits: BTreeMap<String, Edit>,
    /// What a merge makes its content from, by path: the same version makes the same of the same file.
    pub versions: BTreeMap<String, String>,
    pub settled: Arc<Settled>,
    pub message: Message,
    pub author: Author,
    pub time: Timestamp,
}

/// Merges that were found to change nothing: a thousand files are not merged anew because one changed.
#[derive(Debug, Default)]
pub struct Settled(Mutex<HashMap<String, (String, Oid)>>);

impl Settled {
    fn holds(&self, path: &str, version: Option<&String>, now: Option<Oid>) -> bool {
        let known = self.0.lock().expect("no code panics while it holds what is settled");
        known.get(path).is_some_and(|(of, blob)| version == Some(of) && now == Some(*blob))
    }

    fn note(&self, path: &str, version: Option<&String>, now: Option<Oid>) {
        let (Some(version), Some(now)) = (version, now) else { return };
        let mut known = self.0.lock().expect("no code panics while it holds what is settled");
        known.insert(path.to_owned(), (version.clone(), now));
    }
}

/// What came of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The branch says so already.
    Unchanged,
    Pushed {
        commit: CommitId,
        paths: Vec<String>,
    },
    /// The server took the objects and refused the update, in its own words.
    Refused {
        words: String,
    },
}

/// One attempt at a change.
pub(super) enum Attempt {
    Done(Outcome),
    /// Somebody else pushed since we looked.
    Lost,
}

/// Does everything once, from the fetch on.
pub(super) fn attempt(mirror: &mut Mirror, change: &Change) -> Result<Attempt, GitError> {
    check_bare(mirror)?;
    let base = fresh_tip(mirror, &change.branch)?;
    let folder = mirror.options().folder.clone();
    let repo = mirror.repo()?;
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let Some((commit, paths)) = write(repo, base, change, &local)? else {
        return Ok(Attempt::Done(Outcome::Unchanged));
    };
    match push::push(mirror, commit, &change.branch, base)? {
        Pushed::Done => {
            let repo = mirror.repo()?;
            repo.reference(&tracking_ref(&change.branch), commit, true, "pushed").map_err(local)?;
            info!(%commit, branch = change.branch, files = paths.len(), "pushed");
            Ok(Attempt::Done(Outcome::Pushed { commit: commit_id(commit), paths }))
        }
        Pushed::Lost => Ok(Attempt::Lost),
        Pushed::Refused { words } => Ok(Attempt::Done(Outcome::Refused { words })),
    }
}

/// The paths the change would touch on the branch as last seen.
pub(super) fn differences(reader: &mut Reader, change: &Change) -> Result<Vec<String>, GitError> {
    let base = reader.tracked(&change.branch)?;
    let folder = reader.folder();
    let repo = reader.repo()?;
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let tree =
        base.map(|id| repo.find_commit(id).and_then(|commit| commit.tree())).transpose().map_err(local)?;
    let blob = |bytes: &[u8]| Oid::hash_object(ObjectType::Blob, bytes);
    Ok(edits(repo, tree.as_ref(), change, blob, &local)?.into_iter().map(|(path, _)| path).collect())
}

/// The tip to build on. A branch that is only written may be absent: it then starts without history.
fn fresh_tip(mirror: &mut Mirror, branch: &str) -> Result<Option<Oid>, GitError> {
    let read = mirror.fetch(None)?;
    ancestry::check(mirror, &read.commit)?;
    if read.branch != branch {
        mirror.fetch_if_there(branch)?;
    }
    Ok(tracked(mirror.repo()?, branch))
}

/// libgit2 pushes into bare local repositories only.
fn check_bare(mirror: &Mirror) -> Result<(), GitError> {
    let Some(path) = mirror.options().address.path() else { return Ok(()) };
    match check_local(path)?.is_bare() {
        true => Ok(()),
        false => Err(GitError::NotBare { path: path.display().to_string() }),
    }
}

/// Writes the commit into the clone; `None` when the tip says all of it already.
fn write(
    repo: &Repository,
    base: Option<Oid>,
    change: &Change,
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Option<(Oid, Vec<String>)>, GitError> {
    let parent = base.map(|id| repo.find_commit(id)).transpose().map_err(local)?;
    let tree = parent.as_ref().map(git2::Commit::tree).transpose().map_err(local)?;
    let edits = edits(repo, tree.as_ref(), change, |bytes| repo.blob(bytes), local)?;
    if edits.is_empty() {
        return Ok(None);
    }
    let mut folder = Folder::default();
    for (path, blob) in &edits {
        folder.set(path, *blob);
    }
    let tree = folder.apply(repo, tree.as_ref()).map_err(|error| unfit(change, &error))?;
    let tree = match tree {
        Some(tree) => tree,
        None => repo.treebuilder(None).and_then(|empty| empty.write()).map_err(local)?,
    };
    let tree = repo.find_tree(tree).map_err(local)?;
    let paths: Vec<String> = edits.into_iter().map(|(path, _)| path).collect();
    let signature = signature(change).map_err(|error| unfit(change, &error))?;
    let message = (change.message)(&paths);
    let parents: Vec<_> = parent.iter().collect();
    let commit = repo.commit(None, &signature, &signature, &message, &tree, &parents).map_err(local)?;
    Ok(Some((commit, paths)))
}

/// The edits that change something, with the blob each puts.
fn edits(
    repo: &Repository,
    tree: Option<&Tree<'_>>,
    change: &Change,
    blob: impl Fn(&[u8]) -> Result<Oid, git2::Error>,
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Vec<(String, Option<Oid>)>, GitError> {
    let mut differing = Vec::new();
    for (path, edit) in &change.edits {
        check_path(path)?;
        let now = tree.and_then(|tree| tree.get_path(path.as_ref()).ok());
        let (found, version) = (now.as_ref().map(git2::TreeEntry::id), change.versions.get(path));
        if change.settled.holds(path, version, found) {
            continue;
        }
        let new = match edit {
            Edit::Put(bytes) => Some(blob(bytes).map_err(local)?),
            Edit::Remove => None,
            Edit::Merge(merge) => {
                let blob_now =
                    now.as_ref().map(|entry| repo.find_blob(entry.id())).transpose().map_err(local)?;
                let merged = merge(blob_now.as_ref().map(git2::Blob::content))
                    .map_err(|why| GitError::Path { path: path.clone(), why })?;
                Some(blob(&merged).map_err(local)?)
            }
        };
        if found == new {
            change.settled.note(path, version, found);
        } else {
            differing.push((path.clone(), new));
        }
    }
    Ok(differing)
}

/// A path must be in plain form, and never Git's own.
fn check_path(path: &str) -> Result<(), GitError> {
    let git = path.split('/').any(|part| part.eq_ignore_ascii_case(".git"));
    if git || path.is_empty() || tree::plain(path).as_deref() != Some(path) {
        return Err(GitError::Path {
            path: path.to_owned(),
            why: "is no path that may be committed".to_owned(),
        });
    }
    Ok(())
}

fn signature(change: &Change) -> Result<Signature<'static>, git2::Error> {
    Signature::new(&change.author.name, &change.author.email, &Time::new(change.time.as_second(), 0))
}

/// The repository as it is, or the settings, do not let the commit be made.
fn unfit(change: &Change, error: &git2::Error) -> GitError {
    let path = change.edits.keys().next().cloned().unwrap_or_default();
    GitError::Path { path, why: error.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_are_committed() {
        for good in ["status/a.yaml", "a"] {
            assert!(check_path(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../b", "a//b", "a/", ".git/hooks/post-commit", "x/.GIT/config"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
    }
}
