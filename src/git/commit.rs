//! Commits on a branch's fresh tip: a tree from that tip's tree plus our files, a commit, a push.
//! Nothing is ever rebased or forced, and no path the change does not name is touched. Pushing into a
//! local path runs no hooks of that repository: libgit2 writes into it directly.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use git2::{Blob, FileMode, ObjectType, Oid, Repository, Signature, Time, Tree, TreeEntry};
use jiff::Timestamp;
use tracing::info;

use super::ancestry;
use super::heads::commit_id;
use super::mirror::{Mirror, check_local, tracked, tracking_ref};
use super::push::{self, Pushed};
use super::reader::Reader;
use super::signatures::{self, Range, SigningKey};
use super::tree::{self, Folder};
use super::{GitError, Tip};
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
    /// Made from the content on the fresh tip, so that nothing others wrote is lost. Content of more than
    /// `MERGE_LIMIT` bytes is an error.
    Merge(Merge),
    /// The same for a file that only Opsy writes: content of more than `RENEW_LIMIT` bytes is replaced.
    Renew(Merge),
}

/// The most bytes of a file that others write too: the entries of 10,000 builders, in several regions each.
const MERGE_LIMIT: usize = 4 * 1024 * 1024;
/// The most bytes of a file that only Opsy writes: a status file has some kilobytes.
const RENEW_LIMIT: usize = 1024 * 1024;

impl fmt::Debug for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(bytes) => write!(f, "Put({} bytes)", bytes.len()),
            Self::Remove => f.write_str("Remove"),
            Self::Merge(_) => f.write_str("Merge(…)"),
            Self::Renew(_) => f.write_str("Renew(…)"),
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
    let base = fresh_tip(mirror, change)?;
    let key = mirror.options().signing_key.clone();
    let folder = mirror.options().folder.clone();
    let repo = mirror.repo()?;
    let local = |error: git2::Error| GitError::local(&folder, &error);
    let Some((commit, paths)) = write(repo, base, change, key.as_ref(), &local)? else {
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
fn fresh_tip(mirror: &mut Mirror, change: &Change) -> Result<Option<Oid>, GitError> {
    let (read, branch) = (mirror.fetch(None)?, &change.branch);
    ancestry::check(mirror, &read.commit)?;
    check_signatures(mirror, &read, change)?;
    if read.branch != *branch
        && let Some(written) = mirror.fetch_if_there(branch)?
    {
        check_written(mirror, &written, change)?;
    }
    Ok(tracked(mirror.repo()?, branch))
}

/// Refuses a tip that is not verified: nothing is added to what is held back, and nothing of it is signed.
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

/// Refuses to sign what others added to the branch that is only written: with our signature, they would be trusted. Without
/// a key, nothing of the branch is.
fn check_written(mirror: &mut Mirror, written: &Tip, change: &Change) -> Result<(), GitError> {
    let options = mirror.options().clone();
    let (Some(signers), Some(_)) = (&options.signers, &options.signing_key) else { return Ok(()) };
    let range = Range { tip: written.commit.clone(), since: Vec::new(), now: change.time };
    signatures::verify(mirror.repo()?, &options.folder, &range, signers).map_err(|error| match error {
        GitError::Unverified { commit, author, why } => {
            let tip = format!("{commit} by {author} is not accepted: {why}");
            GitError::UnverifiedStatus { branch: written.branch.clone(), tip }
        }
        error => error,
    })
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
    key: Option<&SigningKey>,
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
    let commit = match key {
        None => repo.commit(None, &signature, &signature, &message, &tree, &parents).map_err(local)?,
        Some(key) => {
            let content = repo.commit_create_buffer(&signature, &signature, &message, &tree, &parents);
            signed(repo, &content.map_err(local)?, key, local)?
        }
    };
    Ok(Some((commit, paths)))
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
        let at_path = |why: String| GitError::Path { path: path.clone(), why };
        let now = tree.and_then(|tree| tree.get_path(path.as_ref()).ok());
        if let Some(what) = now.as_ref().and_then(not_a_file) {
            if matches!(edit, Edit::Remove) {
                // Opsy did not put it there.
                continue;
            }
            return Err(at_path(format!("is {what}, and Opsy writes a file there: remove it")));
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
        };
        if found == new {
            change.settled.note(path, version, found);
        } else {
            differing.push((path.clone(), new));
        }
    }
    Ok(differing)
}

/// What an entry is, unless it is a file.
fn not_a_file(entry: &TreeEntry<'_>) -> Option<&'static str> {
    match entry.kind() {
        Some(ObjectType::Tree) => Some("a folder"),
        Some(ObjectType::Commit) => Some("a submodule"),
        _ if entry.filemode() == i32::from(FileMode::Link) => Some("a symbolic link"),
        _ => None,
    }
}

/// What an edit gets of a file as it is now.
enum Current<'a> {
    Blob(Blob<'a>),
    /// Opsy did not write it.
    Replaced,
    Refused(String),
}

/// Loads a file, unless its header says that it is too large.
fn current<'a>(repo: &'a Repository, id: Oid, edit: &Edit) -> Result<Current<'a>, git2::Error> {
    let (size, kind) = repo.odb()?.read_header(id)?;
    Ok(match edit {
        _ if kind != ObjectType::Blob => {
            Current::Refused("is not a file, although its mode says so: remove it".to_owned())
        }
        Edit::Renew(_) if size > RENEW_LIMIT => Current::Replaced,
        _ if size > MERGE_LIMIT => Current::Refused(format!(
            "has more than {MERGE_LIMIT} bytes, and Opsy adds its entries: remove it"
        )),
        _ => Current::Blob(repo.find_blob(id)?),
    })
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

    struct Place {
        _folder: tempfile::TempDir,
        repo: Repository,
    }

    impl Place {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            let repo = Repository::init_bare(folder.path()).expect("a repository");
            Self { _folder: folder, repo }
        }

        /// A tree with one entry at `x`, and what an edit of `x` comes to.
        fn edited(&self, id: Oid, mode: i32, edit: Edit) -> Result<Vec<(String, Option<Oid>)>, String> {
            let mut builder = self.repo.treebuilder(None).expect("a builder");
            builder.insert("x", id, mode).expect("an entry");
            let tree = self.repo.find_tree(builder.write().expect("a tree")).expect("the tree");
            let change = Change {
                branch: "main".to_owned(),
                edits: [("x".to_owned(), edit)].into(),
                versions: BTreeMap::new(),
                settled: Arc::default(),
                message: Arc::new(|_| String::new()),
                author: Author { name: "a".to_owned(), email: "a".to_owned() },
                time: Timestamp::UNIX_EPOCH,
            };
            let local = |error: git2::Error| GitError::local(self.repo.path(), &error);
            edits(&self.repo, Some(&tree), &change, |bytes| self.repo.blob(bytes), &local)
                .map_err(|error| format!("{:?} {error}", error.class()))
        }
    }

    fn merges() -> [Edit; 2] {
        let merge: Merge = Arc::new(|now| Ok(now.unwrap_or(b"absent").to_vec()));
        [Edit::Merge(merge.clone()), Edit::Renew(merge)]
    }

    #[test]
    fn what_is_not_a_file_is_named_and_left_alone() {
        let place = Place::new();
        let empty = place.repo.treebuilder(None).and_then(|builder| builder.write()).expect("a tree");
        let blob = place.repo.blob(b"y").expect("a blob");
        let put = || Edit::Put(b"y".to_vec());
        for (id, mode, what) in [
            (empty, 0o040_000, "a folder"),
            (blob, 0o160_000, "a submodule"),
            (blob, 0o120_000, "a symbolic link"),
        ] {
            let due = format!("Invalid x: is {what}, and Opsy writes a file there: remove it");
            for edit in merges().into_iter().chain([put()]) {
                assert_eq!(place.edited(id, mode, edit), Err(due.clone()));
            }
            assert_eq!(place.edited(id, mode, Edit::Remove), Ok(Vec::new()), "{what} is not Opsy's");
        }
        assert_eq!(place.edited(blob, 0o100_644, Edit::Remove), Ok(vec![("x".to_owned(), None)]));
    }

    #[test]
    fn a_large_file_is_not_loaded() {
        let place = Place::new();
        let absent = Oid::hash_object(ObjectType::Blob, b"absent").expect("an id");
        let [merge, renew] = merges();
        let small = place.repo.blob(&[b'x'; RENEW_LIMIT]).expect("a blob");
        assert_eq!(place.edited(small, 0o100_644, merge.clone()), Ok(Vec::new()), "it is merged");
        assert_eq!(place.edited(small, 0o100_644, renew.clone()), Ok(Vec::new()));
        let large = place.repo.blob(&vec![b'x'; MERGE_LIMIT + 1]).expect("a blob");
        let why = place.edited(large, 0o100_644, merge).expect_err("too large");
        assert!(why.starts_with("Invalid x: has more than 4194304 bytes"), "{why}");
        assert_eq!(place.edited(large, 0o100_644, renew), Ok(vec![("x".to_owned(), Some(absent))]));
    }
}
