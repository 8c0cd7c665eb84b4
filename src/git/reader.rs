//! Reads commits from the clone. Owned by the reading thread, which never talks to the remote.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use git2::{Commit, ErrorClass, ErrorCode, Oid, Repository};

use super::alternates::SourcePacks;
use super::ancestry;
use super::depth::{self, History};
use super::entry::{Entry, EntryKind};
use super::heads::commit_id;
use super::ignore::{self, Ignore};
use super::mirror::tracked;
use super::signatures::{self, Range, Signers};
use super::tree::{self, ChangedPath, Listing};
use super::{GitError, Options};
use crate::api::{CommitId, files};

/// The maximum number of blobs whose kind and size are cached: far more than a repository of manifests and templates has.
const BLOBS_KEPT: usize = 100_000;

/// The maximum number of consecutive commits of the agent that are skipped to find another one: years of status
/// commits.
const OWN_COMMITS: usize = 10_000;

/// A file with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub path: String,
    /// The object ID, in hexadecimal.
    pub id: String,
    pub content: Vec<u8>,
}

/// The maximum number of files of a template repository whose listing is cached: about two megabytes.
const KEPT_ENTRIES: usize = 20_000;

/// A description of a commit, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub id: CommitId,
    pub author: String,
    /// The first line of its message.
    pub subject: String,
}

fn described(commit: &Commit<'_>) -> Described {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Described {
        id: commit_id(commit.id()),
        author: text(commit.author().name_bytes()),
        subject: commit.summary_bytes().map(text).unwrap_or_default(),
    }
}

/// Returns author and subject of a commit, if the repository that contains a directory has it. Reads only what is on the
/// disk.
pub fn describe_in(dir: &Path, commit: &CommitId) -> Option<Described> {
    let repo = Repository::discover(dir).ok()?;
    let found = repo.find_commit(oid(commit.as_str()).ok()?).ok()?;
    Some(described(&found))
}

/// The clone, for reading.
pub(super) struct Reader {
    options: Arc<Options>,
    generation: Arc<AtomicU64>,
    open: Option<(u64, Repository)>,
    /// The packs of the source when the clone was opened.
    source_packs: SourcePacks,
    /// The last commit that was listed: all reconciles of a commit need its listing.
    last: Option<(CommitId, Arc<Listing>)>,
    /// Whether a blob is a Git LFS pointer, by ID. Each blob is read once.
    pointers: HashMap<String, bool>,
    /// The sizes of blobs: those of all manifests are needed for each commit.
    sizes: HashMap<Oid, usize>,
}

impl Reader {
    pub fn new(options: Arc<Options>, generation: Arc<AtomicU64>) -> Self {
        Self {
            options,
            generation,
            open: None,
            source_packs: SourcePacks::default(),
            last: None,
            pointers: HashMap::new(),
            sizes: HashMap::new(),
        }
    }

    /// Returns all files of a commit.
    pub fn list(&mut self, commit: &CommitId) -> Result<Arc<Listing>, GitError> {
        if let Some((_, listing)) = self.last.as_ref().filter(|(last, _)| last == commit) {
            return Ok(Arc::clone(listing));
        }
        let folder = self.folder();
        let listing = Arc::new(list(self.repo()?, &folder, commit)?);
        // There can be many template repositories, so large listings of them are not kept in memory.
        if self.options.history != History::Tips || listing.iter().count() <= KEPT_ENTRIES {
            self.last = Some((commit.clone(), Arc::clone(&listing)));
        }
        Ok(listing)
    }

    /// Returns the paths at which two commits differ outside of the directory `without`; `None` if there are too many.
    pub fn changes(
        &mut self,
        before: &CommitId,
        now: &CommitId,
        without: &str,
    ) -> Result<Option<Vec<ChangedPath>>, GitError> {
        let (before, now) = (oid(before.as_str())?, oid(now.as_str())?);
        let repo = self.repo()?;
        let tree = |id: Oid| repo.find_commit(id).and_then(|commit| commit.tree());
        let trees = tree(before).and_then(|before| Ok((before, tree(now)?)));
        let found = trees.and_then(|(before, now)| tree::changes(repo, &before, &now, without));
        found.map_err(|error| GitError::local(&self.folder(), &error))
    }

    /// Returns author and subject of the last change that a commit contains. Commits that changed only `without` are
    /// skipped: they are the agent's own.
    pub fn describe(&mut self, commit: &CommitId, without: &str) -> Result<Described, GitError> {
        let id = oid(commit.as_str())?;
        let repo = self.repo()?;
        let mut found = repo.find_commit(id).map_err(|_| GitError::NoCommit(commit.clone()))?;
        for _ in 0..OWN_COMMITS {
            if !without.is_empty() && depth::is_cut_at(&found) {
                return Err(GitError::HistoryCut(commit.clone()));
            }
            let Ok(parent) = found.parent(0) else { break };
            if !changes_only(repo, &found, &parent, without) {
                break;
            }
            found = parent;
        }
        Ok(described(&found))
    }

    /// Returns true if a commit is `other` or descends from it.
    pub fn follows(&mut self, commit: &CommitId, other: &CommitId) -> Result<bool, GitError> {
        let (id, other) = (oid(commit.as_str())?, oid(other.as_str())?);
        let folder = self.folder();
        let follows = ancestry::follows(self.repo()?, id, other).map_err(|error| damaged(&folder, &error))?;
        follows.ok_or_else(|| GitError::HistoryCut(commit.clone()))
    }

    /// Verifies the signatures of commits.
    pub fn verify(&mut self, range: &Range, signers: &Signers) -> Result<(), GitError> {
        let folder = self.folder();
        signatures::verify(self.repo()?, &folder, range, signers)
    }

    /// Returns whether a commit has a signature, of whomever.
    pub fn is_signed(&mut self, commit: &CommitId) -> Result<bool, GitError> {
        let (id, folder) = (oid(commit.as_str())?, self.folder());
        signatures::is_signed(self.repo()?, id).map_err(|error| GitError::local(&folder, &error))
    }

    /// Returns the sizes of blobs, without reading their content.
    pub fn sizes(&mut self, ids: &[String]) -> Result<Vec<usize>, GitError> {
        if self.sizes.len() > BLOBS_KEPT {
            self.sizes.clear();
        }
        let folder = self.folder();
        let mut known = std::mem::take(&mut self.sizes);
        let odb = self.repo()?.odb().map_err(|error| GitError::local(&folder, &error))?;
        let mut size = |id: &String| {
            let id = oid(id)?;
            if let Some(size) = known.get(&id) {
                return Ok(*size);
            }
            let (size, _) = odb.read_header(id).map_err(|error| damaged(&folder, &error))?;
            known.insert(id, size);
            Ok(size)
        };
        let sizes = ids.iter().map(&mut size).collect();
        drop(odb);
        self.sizes = known;
        sizes
    }

    /// Returns those of the blobs that are Git LFS pointers.
    pub fn pointers(&mut self, ids: Vec<String>) -> Result<Vec<String>, GitError> {
        if self.pointers.len() > BLOBS_KEPT {
            self.pointers.clear();
        }
        for id in &ids {
            if !self.pointers.contains_key(id) {
                let folder = self.folder();
                let found = is_pointer(self.repo()?, id).map_err(|error| damaged(&folder, &error))?;
                self.pointers.insert(id.clone(), found);
            }
        }
        Ok(ids.into_iter().filter(|id| self.pointers[id]).collect())
    }

    /// Returns the contents of blobs, in the order of the request.
    pub fn read(&mut self, files: Vec<(String, String)>) -> Result<Vec<Blob>, GitError> {
        let folder = self.folder();
        let repo = self.repo()?;
        files
            .into_iter()
            .map(|(path, id)| {
                let blob = repo.find_blob(oid(&id)?).map_err(|error| damaged(&folder, &error))?;
                Ok(Blob { path, id, content: blob.content().to_vec() })
            })
            .collect()
    }

    /// Returns the tip of a branch as of the last fetch.
    pub fn tracked(&mut self, branch: &str) -> Result<Option<Oid>, GitError> {
        Ok(tracked(self.repo()?, branch))
    }

    /// Returns the tree ID of a directory at the tip of a branch as of the last fetch, if it exists.
    pub fn directory(&mut self, branch: &str, path: &str) -> Result<Option<String>, GitError> {
        let Some(tip) = self.tracked(branch)? else { return Ok(None) };
        let folder = self.folder();
        let commit = self.repo()?.find_commit(tip).map_err(|error| damaged(&folder, &error))?;
        directory(&commit, path).map_err(|error| damaged(&folder, &error))
    }

    /// Returns the tree ID of a directory in a commit, if it exists.
    pub fn directory_of(&mut self, commit: &CommitId, path: &str) -> Result<Option<String>, GitError> {
        let (folder, id) = (self.folder(), oid(commit.as_str())?);
        let found = self.repo()?.find_commit(id).map_err(|error| damaged(&folder, &error))?;
        directory(&found, path).map_err(|error| damaged(&folder, &error))
    }

    /// Returns the tree IDs of a directory in the parent of a commit and in the commit itself, if they exist.
    pub fn directories(
        &mut self,
        commit: &CommitId,
        path: &str,
    ) -> Result<(Option<String>, Option<String>), GitError> {
        let (folder, id) = (self.folder(), oid(commit.as_str())?);
        let damaged = |error| damaged(&folder, &error);
        let commit = self.repo()?.find_commit(id).map_err(damaged)?;
        let before = match commit.parent_count() {
            0 => None,
            _ => directory(&commit.parent(0).map_err(damaged)?, path).map_err(damaged)?,
        };
        Ok((before, directory(&commit, path).map_err(damaged)?))
    }

    /// Returns the clone. Opens it again after the network thread has replaced it or removed packs, or the source has.
    pub fn repo(&mut self) -> Result<&Repository, GitError> {
        let generation = self.generation.load(Ordering::Acquire);
        let is_open = self.open.as_ref().is_some_and(|(opened, _)| *opened == generation);
        if !is_open || self.source_packs.changed() {
            let folder = self.folder();
            self.source_packs = SourcePacks::of(&folder);
            let repo = depth::open(&folder).map_err(|error| match error.code() {
                ErrorCode::Owner => GitError::local(&folder, &error),
                _ => damaged(&folder, &error),
            })?;
            self.open = Some((generation, repo));
        }
        Ok(&self.open.as_ref().expect("opened above").1)
    }

    pub fn folder(&self) -> PathBuf {
        self.options.folder.clone()
    }
}

/// The tree ID of a directory in a commit, if it exists.
fn directory(commit: &Commit<'_>, path: &str) -> Result<Option<String>, git2::Error> {
    match commit.tree()?.get_path(Path::new(path)) {
        Ok(entry) => Ok(Some(entry.id().to_string())),
        // A missing object has the same code, and another class.
        Err(error) if error.code() == ErrorCode::NotFound && error.class() == ErrorClass::Tree => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns true if two commits differ only in this directory. A tree that cannot be read counts as a difference.
fn changes_only(repo: &Repository, commit: &Commit<'_>, parent: &Commit<'_>, folder: &str) -> bool {
    let path: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    let trees = commit.tree().and_then(|tree| Ok((tree, parent.tree()?)));
    trees.is_ok_and(|(tree, before)| !path.is_empty() && tree::equal_without(repo, &tree, &before, &path))
}

fn list(repo: &Repository, folder: &Path, commit: &CommitId) -> Result<Listing, GitError> {
    let found = repo.find_commit(oid(commit.as_str())?).map_err(|_| GitError::NoCommit(commit.clone()))?;
    let listing = found.tree().and_then(|root| tree::list(repo, &root));
    let listing = listing.and_then(|listing| without_ignored(repo, listing));
    listing.map_err(|error| match error.class() {
        // An error of `tree::list`, not of libgit2.
        ErrorClass::None => GitError::Path { path: commit.to_string(), why: error.message().to_owned() },
        _ => damaged(folder, &error),
    })
}

/// Returns the list without the files that its ignore files exclude.
fn without_ignored(repo: &Repository, listing: Listing) -> Result<Listing, git2::Error> {
    let is_ignore_file = |path: &str| path.rsplit('/').next() == Some(ignore::FILE);
    let is_file = |entry: &Entry| matches!(entry.kind, EntryKind::File { .. });
    let (mut files, mut left, odb) = (Vec::new(), ignore::SIZE_LIMIT, repo.odb()?);
    let found = listing.iter().filter(|(path, entry)| is_ignore_file(path) && is_file(entry));
    let found: Vec<_> = found.map(|(path, entry)| (path.to_owned(), entry.id.clone())).collect();
    for (path, id) in found {
        let id = Oid::from_str(&id)?;
        let Some(rest) = left.checked_sub(odb.read_header(id)?.0) else {
            return Ok(listing.with_unreadable_ignore(path, ignore::too_large()));
        };
        left = rest;
        files.push((path, repo.find_blob(id)?.content().to_vec()));
    }
    let ignore = Ignore::read(files.iter().map(|(path, content)| (path.as_str(), content.as_slice())));
    Ok(listing.without(&ignore))
}

fn is_pointer(repo: &Repository, id: &str) -> Result<bool, git2::Error> {
    let id = Oid::from_str(id)?;
    let (size, _) = repo.odb()?.read_header(id)?;
    Ok(size <= files::POINTER_LIMIT && files::is_pointer(repo.find_blob(id)?.content()))
}

/// Classifies an error of an object that a tree names. If the object is missing or damaged, the clone must be replaced.
fn damaged(folder: &Path, error: &git2::Error) -> GitError {
    if error.class() == ErrorClass::Invalid {
        // The tree names an object of a different type than it states. A new clone would have the same error.
        return GitError::Path { path: "the commit".to_owned(), why: error.message().to_owned() };
    }
    GitError::Corrupt { folder: folder.to_owned(), why: error.message().to_owned() }
}

fn oid(text: &str) -> Result<Oid, GitError> {
    Oid::from_str(text)
        .map_err(|_| GitError::Path { path: text.to_owned(), why: "is not an object ID".to_owned() })
}
