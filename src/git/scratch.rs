//! A repository that is deleted with its value: holds commits that no remote has, so that the agent's own code can read
//! them. A work tree with its uncommitted files becomes a commit, and so does a branch merged into another one. It has
//! the objects of the person's repository as alternates, into which nothing is written. `branches` finds the branches that
//! names mean.

mod branches;

use std::fs;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, IndexAddOption, IndexEntryExtendedFlag, Oid, Repository, Signature, Time, Tree};

use super::ref_names::HEADS;
pub use super::ref_names::refspec;
use crate::api::{CommitId, checks};

/// The branch that is read.
const BRANCH: &str = "refs/heads/opsy-plan";
/// The files of a repository that decide what `git add` adds.
const EXCLUDES: &str = "info/exclude";
const INDEX: &str = "index";
/// The patterns of a sparse checkout.
const SPARSE: &str = "info/sparse-checkout";
/// Conflicting paths that a message names.
const SHOWN: usize = 5;

/// Why a commit cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ScratchError {
    #[error("{} is not in a Git work tree: run the command in a clone of the repository", .0.display())]
    NoWorkTree(PathBuf),
    #[error(
        "{name} is not a commit of this repository ({why}): name a commit, branch or tag, and fetch it first"
    )]
    NoCommit { name: String, why: String },
    #[error("it conflicts with {onto} in {paths}: merge {onto} first")]
    Conflicts { onto: String, paths: String },
    #[error(
        "the clone is shallow and does not contain a common ancestor of {onto} and {name}: fetch more history, for \
         example with fetch-depth: 0"
    )]
    Shallow { onto: String, name: String },
    #[error(
        "the default branch of the remote is not known: set --base to the commit to compare with and --branch to the branch \
         that the agent reads, or run `git remote set-head origin --auto` first"
    )]
    NoDefaultBranch,
    #[error("this clone does not contain {name}: run `git fetch origin {refspec}` first, or set --base")]
    NotFetched { name: String, refspec: String },
    #[error(
        "the work tree is a sparse checkout, in which files that are not checked out look like deleted ones: run `git \
         sparse-checkout disable` first, or plan a commit with --head"
    )]
    Sparse,
    #[error(transparent)]
    Git(#[from] git2::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// A scratch repository of a person's repository.
pub struct Scratch {
    repo: Repository,
    origin: Repository,
    folder: tempfile::TempDir,
}

/// A commit, and how a person calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub commit: CommitId,
    /// Whether the person's repository has the commit. That of a work tree exists only in the scratch repository.
    pub is_shared: bool,
}

impl Scratch {
    /// Creates it for the repository that contains a directory.
    ///
    /// # Errors
    /// If the directory is not in a repository, or the repository belongs to another user.
    pub fn of(within: &Path) -> Result<Self, ScratchError> {
        let origin = Repository::discover(within).map_err(|error| match error.code() {
            ErrorCode::NotFound => ScratchError::NoWorkTree(within.to_owned()),
            _ => ScratchError::Git(error),
        })?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("repository");
        Repository::init_bare(&path)?;
        super::alternates::link(&path, &origin)?;
        // Status may be on a branch of its own.
        branches::copy(&origin, &path)?;
        Ok(Self { repo: Repository::open(&path)?, origin, folder })
    }

    /// The directory of the scratch repository, and one for a clone of it.
    pub fn paths(&self) -> (PathBuf, PathBuf) {
        (self.repo.path().to_owned(), self.folder.path().join("clone"))
    }

    /// The root of the person's work tree.
    pub fn root(&self) -> Option<&Path> {
        self.origin.workdir()
    }

    /// The address of the remote `origin`, if the repository has one. CI systems write tokens into it, which are removed.
    pub fn remote(&self) -> Option<String> {
        let remote = self.origin.find_remote("origin").ok()?;
        Some(without_login(remote.url().ok()?))
    }

    /// Resolves a name of a commit.
    ///
    /// # Errors
    /// If it does not name a commit that the repository has.
    pub fn resolve(&self, name: &str) -> Result<Named, ScratchError> {
        let found = self.origin.revparse_single(name).and_then(|object| object.peel_to_commit());
        let commit = found.map_err(|error| ScratchError::NoCommit {
            name: name.to_owned(),
            why: error.message().to_owned(),
        })?;
        Ok(Named { name: name.to_owned(), commit: id(commit.id()), is_shared: true })
    }

    /// Makes a commit of the work tree: every file that `git add --all` would add, and nothing that Git ignores.
    ///
    /// # Errors
    /// If a file cannot be read, or the checkout is sparse.
    pub fn work_tree(&self) -> Result<Named, ScratchError> {
        let root = self.root().ok_or_else(|| ScratchError::NoWorkTree(self.origin.path().to_owned()))?;
        // With the person's index, only files that differ are read; those of Git LFS stay pointers.
        for file in [INDEX, EXCLUDES] {
            let from = if file == INDEX { self.origin.path() } else { self.origin.commondir() }.join(file);
            if from.exists() {
                fs::copy(&from, self.repo.path().join(file))?;
            }
        }
        let repo = Repository::open(self.repo.path())?;
        repo.set_workdir(root, false)?;
        let mut index = repo
            .index()
            .map_err(|error| if self.is_sparse() { ScratchError::Sparse } else { error.into() })?;
        if index.iter().any(|entry| is_skipped(&entry)) {
            return Err(ScratchError::Sparse);
        }
        index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
        index.update_all(["*"], None)?;
        let tree = index.write_tree()?;
        let head = self.resolve("HEAD").ok().and_then(|head| Oid::from_str(head.commit.as_str()).ok());
        let commit = self.commit(tree, head.as_slice(), "work tree")?;
        Ok(Named { name: "the work tree".to_owned(), commit, is_shared: false })
    }

    /// Makes a commit without files, for a repository without a commit.
    ///
    /// # Errors
    /// If the file system refuses it.
    pub fn empty(&self) -> Result<Named, ScratchError> {
        let tree = self.repo.treebuilder(None)?.write()?;
        let commit = self.commit(tree, &[], "empty")?;
        Ok(Named { name: "an empty repository".to_owned(), commit, is_shared: false })
    }

    /// Makes the commit that a merge of `head` into `base` would make.
    ///
    /// # Errors
    /// If both changed the same lines.
    pub fn merged(&self, base: &Named, head: &Named) -> Result<CommitId, ScratchError> {
        let (onto, from) = (Oid::from_str(base.commit.as_str())?, Oid::from_str(head.commit.as_str())?);
        let is_ahead = onto == from || self.repo.graph_descendant_of(from, onto).unwrap_or(false);
        if is_ahead || self.tree(&base.commit)?.is_empty() {
            return Ok(head.commit.clone());
        }
        if self.origin.is_shallow() && self.repo.merge_base(onto, from).is_err() {
            return Err(ScratchError::Shallow { onto: base.name.clone(), name: head.name.clone() });
        }
        let (ours, theirs) = (self.repo.find_commit(onto)?, self.repo.find_commit(from)?);
        let mut index = self.repo.merge_commits(&ours, &theirs, None)?;
        if index.has_conflicts() {
            let paths = conflicting(&index)?;
            return Err(ScratchError::Conflicts { onto: base.name.clone(), paths });
        }
        let tree = index.write_tree_to(&self.repo)?;
        self.commit(tree, &[onto, from], "merge")
    }

    /// Whether two commits have the same files.
    ///
    /// # Errors
    /// If one of them cannot be read.
    pub fn is_same(&self, one: &CommitId, other: &CommitId) -> Result<bool, ScratchError> {
        Ok(self.tree(one)?.id() == self.tree(other)?.id())
    }

    /// Whether a commit has anything in a directory; an empty path is the root.
    ///
    /// # Errors
    /// If the commit cannot be read.
    pub fn has_directory(&self, commit: &CommitId, path: &str) -> Result<bool, ScratchError> {
        let tree = self.tree(commit)?;
        let entry =
            |path: &Path| tree.get_path(path).is_ok_and(|entry| entry.kind() == Some(git2::ObjectType::Tree));
        Ok(if path.is_empty() { !tree.is_empty() } else { entry(Path::new(path.trim_end_matches('/'))) })
    }

    /// The branch that is read.
    pub fn branch_to_read(&self) -> &'static str {
        BRANCH.trim_start_matches(HEADS)
    }

    /// Makes a commit the tip of the branch that is read.
    ///
    /// # Errors
    /// If the file system refuses it.
    pub fn read_at(&self, commit: &CommitId) -> Result<(), ScratchError> {
        self.repo.reference(BRANCH, Oid::from_str(commit.as_str())?, true, "read")?;
        Ok(())
    }

    fn tree(&self, commit: &CommitId) -> Result<Tree<'_>, ScratchError> {
        Ok(self.repo.find_commit(Oid::from_str(commit.as_str())?)?.tree()?)
    }

    /// Whether the person has asked for a sparse checkout. libgit2 does not read every index of one.
    fn is_sparse(&self) -> bool {
        self.origin.path().join(SPARSE).exists()
    }

    fn commit(&self, tree: Oid, parents: &[Oid], message: &str) -> Result<CommitId, ScratchError> {
        let parents: Vec<_> =
            parents.iter().map(|parent| self.repo.find_commit(*parent)).collect::<Result<_, _>>()?;
        // The commit is never published. A fixed time gives the same tree the same ID.
        let by = Signature::new("opsy", "opsy@localhost", &Time::new(0, 0))?;
        let tree = self.repo.find_tree(tree)?;
        let parents: Vec<&git2::Commit<'_>> = parents.iter().collect();
        Ok(id(self.repo.commit(None, &by, &by, message, &tree, &parents)?))
    }
}

/// An address without a user name and password. The user of SSH is a part of the address.
fn without_login(url: &str) -> String {
    if url.starts_with("http") { checks::without_user(url) } else { url.to_owned() }
}

/// Whether a file is left out of a sparse checkout.
fn is_skipped(entry: &git2::IndexEntry) -> bool {
    IndexEntryExtendedFlag::from_bits_truncate(entry.flags_extended).is_skip_worktree()
}

fn conflicting(index: &git2::Index) -> Result<String, git2::Error> {
    let mut paths = Vec::new();
    for conflict in index.conflicts()? {
        let conflict = conflict?;
        let entry = conflict.our.or(conflict.their).or(conflict.ancestor);
        paths.extend(entry.map(|entry| String::from_utf8_lossy(&entry.path).into_owned()));
    }
    let more = paths.len().saturating_sub(SHOWN);
    paths.truncate(SHOWN);
    let shown = paths.join(", ");
    Ok(if more == 0 { shown } else { format!("{shown} and {more} more files") })
}

fn id(oid: Oid) -> CommitId {
    CommitId::parse(oid.to_string()).expect("the hex form of an object ID is a commit ID")
}

#[cfg(test)]
mod tests;
