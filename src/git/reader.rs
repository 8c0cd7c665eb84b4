//! Reads commits from the clone. Owned by the reading thread, which never talks to the remote.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use git2::{Commit, ErrorClass, ErrorCode, Oid, Repository};

use super::ancestry;
use super::heads::commit_id;
use super::ignore::{self, Ignore};
use super::mirror::tracked;
use super::signatures::{self, Range, Signers};
use super::tree::{self, EntryKind, Listing};
use super::{GitError, Options};
use crate::api::{CommitId, files};

/// Blobs whose kind is remembered: far more than a repository's templates have.
const POINTERS_KEPT: usize = 100_000;

/// Commits of our own in a row that are passed over to find a person's: years of status in a quiet repository.
const OWN_COMMITS: usize = 10_000;

/// A file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    pub path: String,
    /// Object id, in hex.
    pub id: String,
    pub content: Vec<u8>,
}

/// Files of a template repository whose listing is kept between reconciles: some two megabytes.
const KEPT_ENTRIES: usize = 20_000;

/// A commit, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    pub id: CommitId,
    pub author: String,
    /// The first line of its message.
    pub subject: String,
}

/// The reading side of the clone.
pub(super) struct Reader {
    options: Arc<Options>,
    generation: Arc<AtomicU64>,
    open: Option<(u64, Repository)>,
    /// The last commit that was listed: passes ask for the same one again and again.
    last: Option<(CommitId, Arc<Listing>)>,
    /// Which blobs are Git LFS pointers: each is looked at once.
    pointers: HashMap<String, bool>,
}

impl Reader {
    pub fn new(options: Arc<Options>, generation: Arc<AtomicU64>) -> Self {
        Self { options, generation, open: None, last: None, pointers: HashMap::new() }
    }

    /// All files of a commit.
    pub fn list(&mut self, commit: &CommitId) -> Result<Arc<Listing>, GitError> {
        if let Some((_, listing)) = self.last.as_ref().filter(|(last, _)| last == commit) {
            return Ok(Arc::clone(listing));
        }
        let folder = self.folder();
        let listing = Arc::new(list(self.repo()?, &folder, commit)?);
        // There may be many template repositories: what a large one has is not kept in memory.
        if !self.options.shallow || listing.iter().count() <= KEPT_ENTRIES {
            self.last = Some((commit.clone(), Arc::clone(&listing)));
        }
        Ok(listing)
    }

    /// Who made the last change that a commit has, and what they say of it. Commits that changed nothing but
    /// `without` are passed over: they are our own.
    pub fn describe(&mut self, commit: &CommitId, without: &str) -> Result<Described, GitError> {
        let id = oid(commit.as_str())?;
        let repo = self.repo()?;
        let mut found = repo.find_commit(id).map_err(|_| GitError::NoCommit(commit.clone()))?;
        for _ in 0..OWN_COMMITS {
            let Ok(parent) = found.parent(0) else { break };
            if !changes_only(repo, &found, &parent, without) {
                break;
            }
            found = parent;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Described {
            id: commit_id(found.id()),
            author: text(found.author().name_bytes()),
            subject: found.summary_bytes().map(text).unwrap_or_default(),
        })
    }

    /// Is a commit another one, or does it descend from it?
    pub fn follows(&mut self, commit: &CommitId, other: &CommitId) -> Result<bool, GitError> {
        let (commit, other) = (oid(commit.as_str())?, oid(other.as_str())?);
        let folder = self.folder();
        ancestry::follows(self.repo()?, commit, other).map_err(|error| damaged(&folder, &error))
    }

    /// Verifies the signatures of commits.
    pub fn verify(&mut self, range: &Range, signers: &Signers) -> Result<(), GitError> {
        let folder = self.folder();
        signatures::verify(self.repo()?, &folder, range, signers)
    }

    /// Sizes of blobs, without their content.
    pub fn sizes(&mut self, ids: &[String]) -> Result<Vec<usize>, GitError> {
        let folder = self.folder();
        let odb = self.repo()?.odb().map_err(|error| GitError::local(&folder, &error))?;
        ids.iter()
            .map(|id| match odb.read_header(oid(id)?) {
                Ok((size, _)) => Ok(size),
                Err(error) => Err(damaged(&folder, &error)),
            })
            .collect()
    }

    /// Which of these blobs are Git LFS pointers.
    pub fn pointers(&mut self, ids: Vec<String>) -> Result<Vec<String>, GitError> {
        if self.pointers.len() > POINTERS_KEPT {
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

    /// Contents of blobs, in the order asked.
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

    /// The tip of a branch as last seen on the remote.
    pub fn tracked(&mut self, branch: &str) -> Result<Option<Oid>, GitError> {
        Ok(tracked(self.repo()?, branch))
    }

    /// The clone, opened again when the network thread made a new one.
    pub fn repo(&mut self) -> Result<&Repository, GitError> {
        let generation = self.generation.load(Ordering::Acquire);
        if self.open.as_ref().is_none_or(|(opened, _)| *opened != generation) {
            let folder = self.folder();
            let repo = Repository::open_bare(&folder).map_err(|error| match error.code() {
                ErrorCode::Owner => GitError::local(&folder, &error),
                _ => damaged(&folder, &error),
            })?;
            self.open = Some((generation, repo));
            self.last = None;
        }
        Ok(&self.open.as_ref().expect("opened above").1)
    }

    pub fn folder(&self) -> PathBuf {
        self.options.folder.clone()
    }
}

/// Does a commit change nothing of its parent but this folder? What cannot be read may be a change.
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
        // Our own refusal, not libgit2's.
        ErrorClass::None => GitError::Path { path: commit.to_string(), why: error.message().to_owned() },
        _ => damaged(folder, &error),
    })
}

/// The list without what its ignore files name.
fn without_ignored(repo: &Repository, listing: Listing) -> Result<Listing, git2::Error> {
    let is_ignore_file = |path: &str| path.rsplit('/').next() == Some(ignore::FILE);
    let is_file = |entry: &tree::Entry| matches!(entry.kind, EntryKind::File { .. });
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

/// An object that a tree names is missing or unreadable: only a new clone helps.
fn damaged(folder: &Path, error: &git2::Error) -> GitError {
    if error.class() == ErrorClass::Invalid {
        // A tree names an object of another type than it says: a new clone would have the same.
        return GitError::Path { path: "the commit".to_owned(), why: error.message().to_owned() };
    }
    GitError::Corrupt { folder: folder.to_owned(), why: error.message().to_owned() }
}

fn oid(text: &str) -> Result<Oid, GitError> {
    Oid::from_str(text)
        .map_err(|_| GitError::Path { path: text.to_owned(), why: "is not an object id".to_owned() })
}
