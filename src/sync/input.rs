//! The files of a commit that can contain manifests.

mod clone;
mod pick;

use std::collections::HashSet;
use std::sync::Arc;

use crate::api::files::{POINTER_LIMIT, is_pointer};
use crate::git::{GitError, Handle, Listing};
use crate::manifest::{self, Form, MAX_FILE_BYTES, Problem, Severity, SourceFile};

use clone::Clone;
use pick::{NARROW, pointer};
pub use pick::{Picked, below, can_be_manifest, pick};

/// Larger files are not loaded: no manifest is nearly as large, and a repository can contain any file.
pub const FILE_LIMIT: usize = MAX_FILE_BYTES;
/// Maximum size of all manifests in bytes. The parsed objects take about as much memory, and parsing more takes
/// minutes.
pub(super) const SUM_LIMIT: usize = 64 * 1024 * 1024;

/// Where the newest commits come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Remote,
    /// The commits that were fetched before, because the remote cannot be reached.
    Clone,
}

/// The files below the path that can contain manifests. Their contents are read when they are needed.
pub(super) struct Sources {
    pub files: Vec<SourceFile>,
    pub problems: Vec<Problem>,
    /// The size of those that are read.
    pub bytes: usize,
    clone: Arc<Clone>,
}

impl Sources {
    /// Returns why a file could not be read, if so. What was parsed must then be discarded.
    pub fn failure(&self) -> Option<GitError> {
        self.clone.failure()
    }
}

/// Returns all files below the path that can contain manifests, and the problems of other files.
pub(super) async fn sources(git: &Handle, listing: &Arc<Listing>) -> Result<Sources, GitError> {
    let path = &git.options().path;
    let refused = |why| GitError::Path { path: shown(path).to_owned(), why };
    let (all, below) = (Arc::clone(listing), path.clone());
    // On a thread for blocking work: a commit can have hundreds of thousands of links.
    let picked = tokio::task::spawn_blocking(move || pick(&all, &below)).await;
    let picked = picked.map_err(|error| error.to_string()).flatten().map_err(refused)?;
    let with_content = || picked.iter().filter(|picked| !matches!(picked.form, Form::Unknown(_)));
    let sizes = git.sizes(with_content().map(|picked| picked.id.clone()).collect()).await?;
    check_sum(sizes.iter().copied()).map_err(refused)?;
    let sized = with_content().zip(&sizes);
    let small = sized.filter(|(_, size)| **size <= POINTER_LIMIT).map(|(picked, _)| picked.id.clone());
    let pointers: HashSet<String> = git.pointers(small.collect()).await?.into_iter().collect();
    let readable = with_content()
        .zip(&sizes)
        .filter(|(picked, size)| **size <= FILE_LIMIT && !pointers.contains(&picked.id));
    let bytes = sizes.iter().filter(|size| **size <= FILE_LIMIT).sum();
    let clone = Arc::new(Clone::new(git, readable.map(|(picked, size)| (picked.id.clone(), *size))));
    let mut sizes = sizes.iter().copied();
    let file = |picked: Picked| {
        let content = match &picked.form {
            Form::Unknown(_) => Content::Unread,
            _ if sizes.next().is_some_and(|size| size > FILE_LIMIT) => Content::TooLarge,
            _ if pointers.contains(&picked.id) => Content::Pointer,
            _ => Content::Readable(manifest::Content::Stored(clone.clone())),
        };
        source(picked, content)
    };
    let files = picked.into_iter().map(file).collect();
    Ok(Sources { files, problems: ignore_problems(listing), bytes, clone })
}

/// Checks the size of all files together. Files that are too large are not read, and do not count.
pub fn check_sum(sizes: impl Iterator<Item = usize>) -> Result<(), String> {
    let sum: usize = sizes.filter(|size| *size <= FILE_LIMIT).sum();
    match sum > SUM_LIMIT {
        false => Ok(()),
        true => Err(format!("has YAML files of {sum} bytes in total, more than {SUM_LIMIT}; {NARROW}")),
    }
}

/// The path that is read, for messages.
fn shown(path: &str) -> &str {
    if path.is_empty() { "the repository" } else { path }
}

/// The content of a path.
#[derive(Debug)]
pub enum Content {
    /// It has no content that is read.
    Unread,
    /// It is larger than the limit, and not loaded.
    TooLarge,
    /// A Git LFS pointer.
    Pointer,
    Readable(manifest::Content),
}

impl Content {
    pub fn of(bytes: Vec<u8>) -> Self {
        match is_pointer(&bytes) {
            true => Self::Pointer,
            false => Self::Readable(bytes.into()),
        }
    }
}

/// Combines a path and its content for the reader of manifests. Pure; `opsy validate` uses it, too.
pub fn source(picked: Picked, content: Content) -> SourceFile {
    let Picked { path, id, form } = picked;
    let nothing = || Vec::new().into();
    let (form, content) = match (form, content) {
        (form, Content::Unread) => (form, nothing()),
        (_, Content::TooLarge) => {
            (Form::Unknown(format!("has more than {FILE_LIMIT} bytes and is not read")), nothing())
        }
        (form, Content::Pointer) => (pointer(form), nothing()),
        (form, Content::Readable(content)) => (form, content),
    };
    SourceFile { path, blob: id, content, form }
}

/// The problems of ignore files: a file that cannot be read, and lines that are not valid.
pub fn ignore_problems(listing: &Listing) -> Vec<Problem> {
    let unreadable = listing.unreadable_ignore.iter();
    let unreadable = unreadable.map(|(file, why)| problem(file, Severity::Error, why.clone()));
    let found = |(file, line, message): &(String, usize, String)| Problem {
        line: Some(*line),
        ..problem(file, Severity::Note, message.clone())
    };
    unreadable.chain(listing.broken_ignores.iter().map(found)).collect()
}

fn problem(file: &str, severity: Severity, message: String) -> Problem {
    Problem { file: file.to_owned(), line: None, message, severity }
}

#[cfg(test)]
mod tests;
