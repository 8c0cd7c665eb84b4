//! Commits a change: fetches the tip of the branch, builds a tree from the tip's tree and the files of the change,
//! commits it and pushes. It never rebases or force-pushes, and never touches a path that the change does not name. A
//! push into a local repository does not run its hooks, because libgit2 writes into it directly.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use git2::{Blob, FileMode, ObjectType, Oid, Repository, Signature, Time, Tree, TreeEntry};
use jiff::Timestamp;
use tracing::info;

use super::ancestry;
use super::blobs::NewBlobs;
use super::heads::commit_id;
use super::mirror::{Mirror, check_local, tracked};
use super::push::{self, Pushed, Update};
use super::reader::Reader;
use super::ref_names::tracking_ref;
use super::signatures::{self, Range, SigningKey};
use super::tree::{Lookup, TreeChange};
use super::{GitError, Tip};
use crate::api::CommitId;
use crate::api::lock::lock;
use crate::api::paths;

/// Returns the new content of a file from its current content; `Err` states why there is none.
pub type Merge = Arc<dyn Fn(Option<&[u8]>) -> Result<Vec<u8>, String> + Send + Sync>;
/// Returns the commit message for the paths that differ.
pub type Message = Arc<dyn Fn(&[String]) -> String + Send + Sync>;

/// The change of one file.
#[derive(Clone)]
pub enum Edit {
    Put(Vec<u8>),
    Remove,
    /// The new content is made from the current content at the fetched tip, so that nothing that others wrote is lost.
    /// Content of more than `MERGE_LIMIT` bytes is an error.
    Merge(Merge),
    /// As `Merge`, for a file that only Opsy writes: content of more than `RENEW_LIMIT` bytes is replaced.
    Renew(Merge),
    /// As `Merge`, for a file of other people: anything but a file of at most `MERGE_LIMIT` bytes is left alone.
    Amend(Merge),
}

/// The maximum size of a file that others also write: enough for 10,000 builders with several regions each.
const MERGE_LIMIT: usize = 4 * 1024 * 1024;
/// The maximum size of a file that only Opsy writes: a status file has a few kilobytes.
const RENEW_LIMIT: usize = 1024 * 1024;

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(bytes) => write!(f, "Put({} bytes)", bytes.len()),
            Self::Remove => f.write_str("Remove"),
            Self::Merge(_) => f.write_str("Merge(…)"),
            Self::Renew(_) => f.write_str("Renew(…)"),
            Self::Amend(_) => f.write_str("Amend(…)"),
        }
    }
}

/// Author and committer of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    pub name: String,
    pub email: String,
}

/// A change of files on a branch, for one commit.
#[derive(Clone)]
pub struct Change {
    pub branch: String,
    /// By path, from the root of the repository.
    pub edits: BTreeMap<String, Edit>,
    /// The version of the input of each merge, by path: the same version and file result in the same content.
    pub versions: BTreeMap<String, String>,
    /// Merges that need not be repeated.
    pub settled: Arc<Settled>,
    pub message: Message,
    pub author: Author,
    pub time: Timestamp,
}

/// Merges that changed nothing, so that a change of one file does not repeat the merges of all others.
#[derive(Debug, Default)]
pub struct Settled(Mutex<HashMap<String, (String, Oid)>>);

impl Settled {
    fn holds(&self, path: &str, version: Option<&String>, now: Option<Oid>) -> bool {
        let known = lock(&self.0);
        known.get(path).is_some_and(|(of, blob)| version == Some(of) && now == Some(*blob))
    }

    fn note(&self, path: &str, version: Option<&String>, now: Option<Oid>) {
        let (Some(version), Some(now)) = (version, now) else { return };
        let mut known = lock(&self.0);
        known.insert(path.to_owned(), (version.clone(), now));
    }
}

/// The result of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The branch already has this content.
    Unchanged,
    Pushed {
        commit: CommitId,
        paths: Vec<String>,
    },
    /// The server rejected the update, with this message.
    Rejected {
        message: String,
    },
}

/// The result of one attempt.
pub(super) enum Attempt<T> {
    Done(T),
    /// The branch moved after it was fetched.
    Lost,
}

/// Fetches, commits and pushes once.
pub(super) fn attempt(mirror: &mut Mirror, change: &Change) -> Result<Attempt<Outcome>, GitError> {
    check_bare(mirror)?;
    let base = fresh_tip(mirror, change)?;
    let key = mirror.options().signing_key.clone();
    let folder = mirror.options().folder.clone();
    let repo = mirror.repo()?;
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let Some((commit, paths)) = write(repo, base, change, key.as_ref(), &local)? else {
        return Ok(Attempt::Done(Outcome::Unchanged));
    };
    match push::push(mirror, commit, &change.branch, base, Update::FastForward)? {
        Pushed::Done => {
            let repo = mirror.repo()?;
            repo.reference(&tracking_ref(&change.branch), commit, true, "pushed").map_err(local)?;
            info!(%commit, branch = change.branch, files = paths.len(), "pushed");
            Ok(Attempt::Done(Outcome::Pushed { commit: commit_id(commit), paths }))
        }
        Pushed::Lost => Ok(Attempt::Lost),
        Pushed::Rejected { message } => Ok(Attempt::Done(Outcome::Rejected { message })),
    }
}

/// Returns whether the change would modify the branch as of the last fetch. It looks no further than the first file that
/// differs: the commit makes the content of all files again, from the fetched tip.
pub(super) fn differs(reader: &mut Reader, change: &Change) -> Result<bool, GitError> {
    let base = reader.tracked(&change.branch)?;
    let folder = reader.folder();
    let repo = reader.repo()?;
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let tree =
        base.map(|id| repo.find_commit(id).and_then(|commit| commit.tree())).transpose().map_err(local)?;
    let blob = |bytes: &[u8]| Oid::hash_object(ObjectType::Blob, bytes);
    Ok(!edits(repo, tree.as_ref(), (change, 1), blob, &local)?.is_empty())
}

/// Fetches the tip to commit onto. A branch that is only written need not exist: it then starts without history.
pub(super) fn fresh_tip(mirror: &mut Mirror, change: &Change) -> Result<Option<Oid>, GitError> {
    let (read, branch) = (mirror.fetch(None)?, &change.branch);
    ancestry::check(mirror, &read.commit)?;
    check_signatures(mirror, &read, change)?;
    if read.branch != *branch
        && let Some(written) = mirror.fetch_if_exists(branch)?
    {
        check_written(mirror, &written, Vec::new(), change.time)?;
    }
    Ok(tracked(mirror.repo()?, branch))
}

/// Returns an error if the tip is not verified: the agent neither adds a commit to a tip that is held back, nor signs
/// it.
fn check_signatures(mirror: &mut Mirror, read: &Tip, change: &Change) -> Result<(), GitError> {
    let options = mirror.options().clone();
    let Some(signers) = &options.signers else { return Ok(()) };
    if read.branch == change.branch && options.signing_key.is_none() {
        return Err(GitError::Unsigned { branch: read.branch.clone() });
    }
    let known = mirror.known();
    let since = known.synced.into_iter().chain(known.verified).collect();
    let range = Range { tip: read.commit.clone(), since, now: change.time };
    signatures::verify(mirror.repo()?, &options.folder, &range, signers)
}

/// Returns an error if others added commits to a branch that is only written, since these commits: the signature of the
/// agent's commit would make them trusted. Without a signing key, no commit of the branch is trusted.
pub(super) fn check_written(
    mirror: &mut Mirror,
    written: &Tip,
    since: Vec<CommitId>,
    now: Timestamp,
) -> Result<(), GitError> {
    let options = mirror.options().clone();
    let (Some(signers), Some(_)) = (&options.signers, &options.signing_key) else { return Ok(()) };
    let range = Range { tip: written.commit.clone(), since, now };
    signatures::verify(mirror.repo()?, &options.folder, &range, signers).map_err(|error| match error {
        GitError::Unverified { commit, author, why } => {
            let tip = format!("{commit} by {author} is not accepted: {why}");
            GitError::UnverifiedStatus { branch: written.branch.clone(), tip }
        }
        error => error,
    })
}

/// Returns an error for a local repository that is not bare: libgit2 cannot push into it.
pub(super) fn check_bare(mirror: &Mirror) -> Result<(), GitError> {
    let Some(path) = mirror.options().address.path() else { return Ok(()) };
    match check_local(path)?.is_bare() {
        true => Ok(()),
        false => Err(GitError::NotBare { path: path.display().to_string() }),
    }
}

/// Writes the commit into the clone; returns `None` if the tip already has all of its content.
fn write(
    repo: &Repository,
    base: Option<Oid>,
    change: &Change,
    key: Option<&SigningKey>,
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Option<(Oid, Vec<String>)>, GitError> {
    let parent = base.map(|id| repo.find_commit(id)).transpose().map_err(local)?;
    let tree = parent.as_ref().map(git2::Commit::tree).transpose().map_err(local)?;
    let Some((tree, paths)) = edited(repo, tree.as_ref(), change, local)? else { return Ok(None) };
    let message = (change.message)(&paths);
    let commit = commit_tree(repo, (&tree, parent.as_ref()), change, (&message, key), local)?;
    Ok(Some((commit, paths)))
}

/// Returns the tree with the edits of a change, and the paths that differ; `None` if no path does.
pub(super) fn edited<'a>(
    repo: &'a Repository,
    tree: Option<&Tree<'a>>,
    change: &Change,
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Option<(Tree<'a>, Vec<String>)>, GitError> {
    let mut blobs = NewBlobs::new(repo).map_err(local)?;
    let edits = edits(repo, tree, (change, usize::MAX), |bytes| blobs.add(bytes), local)?;
    if edits.is_empty() {
        return Ok(None);
    }
    blobs.write().map_err(local)?;
    let mut changes = TreeChange::default();
    for (path, blob) in &edits {
        changes.set(path, *blob);
    }
    let tree = changes.apply(repo, tree).map_err(|error| cannot_commit(change, &error))?;
    let tree = match tree {
        Some(tree) => tree,
        None => repo.treebuilder(None).and_then(|empty| empty.write()).map_err(local)?,
    };
    let paths = edits.into_iter().map(|(path, _)| path).collect();
    Ok(Some((repo.find_tree(tree).map_err(local)?, paths)))
}

/// Commits a tree, signed if there is a key.
pub(super) fn commit_tree(
    repo: &Repository,
    (tree, parent): (&Tree<'_>, Option<&git2::Commit<'_>>),
    change: &Change,
    (message, key): (&str, Option<&SigningKey>),
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Oid, GitError> {
    let signature = signature(change).map_err(|error| cannot_commit(change, &error))?;
    let parents: Vec<_> = parent.into_iter().collect();
    match key {
        None => repo.commit(None, &signature, &signature, message, tree, &parents).map_err(local),
        Some(key) => {
            let content = repo.commit_create_buffer(&signature, &signature, message, tree, &parents);
            signed(repo, &content.map_err(local)?, key, local)
        }
    }
}

/// Writes a commit with its signature.
fn signed(
    repo: &Repository,
    content: &[u8],
    key: &SigningKey,
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Oid, GitError> {
    let text = std::str::from_utf8(content).map_err(|error| git2::Error::from_str(&error.to_string()));
    let armored = key.sign(content)?;
    // libgit2 adds the last newline itself.
    repo.commit_signed(text.map_err(local)?, armored.trim_end(), None).map_err(local)
}

/// Returns the first `most` edits that change something, with the new blob of each.
fn edits(
    repo: &Repository,
    tree: Option<&Tree<'_>>,
    (change, most): (&Change, usize),
    mut blob: impl FnMut(&[u8]) -> Result<Oid, git2::Error>,
    local: &dyn Fn(git2::Error) -> GitError,
) -> Result<Vec<(String, Option<Oid>)>, GitError> {
    let (mut differing, mut files) = (Vec::new(), Lookup::new(repo, tree));
    for (path, edit) in &change.edits {
        check_path(path)?;
        let at_path = |why: String| GitError::Path { path: path.clone(), why };
        let now = files.get(path).map_err(local)?;
        if let Some(what) = now.as_ref().and_then(not_a_file) {
            if matches!(edit, Edit::Remove | Edit::Amend(_)) {
                // Opsy did not create it.
                continue;
            }
            return Err(at_path(format!("is {what}, but Opsy writes a file there: remove it")));
        }
        let (found, version) = (now.as_ref().map(TreeEntry::id), change.versions.get(path));
        if change.settled.holds(path, version, found) {
            continue;
        }
        let new = match edit {
            Edit::Put(bytes) => Some(blob(bytes).map_err(local)?),
            Edit::Remove => None,
            Edit::Merge(merge) | Edit::Renew(merge) => {
                let current = match found.map(|id| current(repo, id, edit).map_err(local)).transpose()? {
                    None | Some(Current::Replaced) => None,
                    Some(Current::Blob(blob)) => Some(blob),
                    Some(Current::Refused(why)) => return Err(at_path(why)),
                };
                let merged = merge(current.as_ref().map(git2::Blob::content)).map_err(at_path)?;
                Some(blob(&merged).map_err(local)?)
            }
            Edit::Amend(amend) => {
                let current = found.map(|id| current(repo, id, edit).map_err(local)).transpose()?;
                let Some(Current::Blob(current)) = current else { continue };
                Some(blob(&amend(Some(current.content())).map_err(at_path)?).map_err(local)?)
            }
        };
        if found == new {
            change.settled.note(path, version, found);
            continue;
        }
        differing.push((path.clone(), new));
        if differing.len() >= most {
            break;
        }
    }
    Ok(differing)
}

/// Returns what an entry is, unless it is a file.
fn not_a_file(entry: &TreeEntry<'_>) -> Option<&'static str> {
    match entry.kind() {
        Some(ObjectType::Tree) => Some("a directory"),
        Some(ObjectType::Commit) => Some("a submodule"),
        _ if entry.filemode() == i32::from(FileMode::Link) => Some("a symbolic link"),
        _ => None,
    }
}

/// The current content of a file, for an edit.
enum Current<'a> {
    Blob(Blob<'a>),
    /// The file is too large to be one that Opsy wrote, and is replaced.
    Replaced,
    Refused(String),
}

/// Loads a file, unless its header says that it is too large.
fn current<'a>(repo: &'a Repository, id: Oid, edit: &Edit) -> Result<Current<'a>, git2::Error> {
    let (size, kind) = repo.odb()?.read_header(id)?;
    Ok(match edit {
        _ if kind != ObjectType::Blob => {
            Current::Refused("has the mode of a file, but is not a file: remove it".to_owned())
        }
        Edit::Renew(_) if size > RENEW_LIMIT => Current::Replaced,
        _ if size > MERGE_LIMIT => Current::Refused(format!(
            "has more than {MERGE_LIMIT} bytes, and Opsy cannot add its entries: remove the file"
        )),
        _ => Current::Blob(repo.find_blob(id)?),
    })
}

/// Checks that a path is in plain form and not in `.git`.
fn check_path(path: &str) -> Result<(), GitError> {
    let git = path.split('/').any(|part| part.eq_ignore_ascii_case(".git"));
    if git || path.is_empty() || paths::plain(path).as_deref() != Some(path) {
        return Err(GitError::Path {
            path: path.to_owned(),
            why: "must be a path inside the repository, outside of .git".to_owned(),
        });
    }
    Ok(())
}

fn signature(change: &Change) -> Result<Signature<'static>, git2::Error> {
    Signature::new(&change.author.name, &change.author.email, &Time::new(change.time.as_second(), 0))
}

/// Returns the error for a commit that the content of the repository, or the settings, prevent.
fn cannot_commit(change: &Change, error: &git2::Error) -> GitError {
    let path = change.edits.keys().next().cloned().unwrap_or_default();
    GitError::Path { path, why: error.message().to_owned() }
}

#[cfg(test)]
mod tests;
