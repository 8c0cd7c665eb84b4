//! The files of a commit that syncing reads: manifests, and the status files Opsy wrote itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::files::{POINTER, POINTER_LIMIT, is_pointer};
use crate::git::templates::links::follow;
use crate::git::tree::{is_within, join};
use crate::git::{Entry, EntryKind, GitError, Handle, Listing};
use crate::manifest::{self, Blobs, Form, MAX_FILE_BYTES, Problem, Severity, SourceFile};
use crate::settings::RepoSettings;

/// Larger files are not even loaded: no manifest comes near, and the clone may hold anything.
pub const FILE_LIMIT: usize = MAX_FILE_BYTES;
/// Files that may hold manifests, links to folders of them counted as often as they name one, and the bytes of all of
/// them: what is kept of manifests is about as large, and parsing more takes minutes.
const FILES_LIMIT: usize = 25_000;
const SUM_LIMIT: usize = 64 * 1024 * 1024;
/// The bytes of all status files: Opsy writes some kilobytes per object.
const STATUS_LIMIT: usize = 64 * 1024 * 1024;

/// Where the newest commits are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Remote,
    /// What was fetched before: the remote is away.
    Clone,
}

/// The files below the path that is read which may hold manifests. Their contents are read when they are needed.
pub(super) struct Sources {
    pub files: Vec<SourceFile>,
    pub problems: Vec<Problem>,
    clone: Arc<Clone>,
}

impl Sources {
    /// Why a content could not be read, if so: then what was made of the files is worth nothing.
    pub fn failure(&self) -> Option<GitError> {
        self.clone.failed().take()
    }
}

/// All files below the path that is read which may hold manifests, and what is wrong with others.
pub(super) async fn sources(git: &Handle, listing: &Listing) -> Result<Sources, GitError> {
    let path = &git.options().path;
    let refused = |why| GitError::Path { path: shown(path).to_owned(), why };
    let picked = pick(listing, path).map_err(refused)?;
    let with_content = || picked.iter().filter(|picked| !matches!(picked.form, Form::Unknown(_)));
    let sizes = git.sizes(with_content().map(|picked| picked.id.clone()).collect()).await?;
    check_sum(sizes.iter().copied()).map_err(refused)?;
    let sized = with_content().zip(&sizes);
    let small = sized.filter(|(_, size)| **size <= POINTER_LIMIT).map(|(picked, _)| picked.id.clone());
    let pointers: HashSet<String> = git.pointers(small.collect()).await?.into_iter().collect();
    let mut sizes = sizes.into_iter();
    let clone = Arc::new(Clone { git: git.clone(), failed: Mutex::default() });
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
    Ok(Sources { files, problems: ignore_problems(listing), clone })
}

/// The clone, as the reader of manifests asks it: from its own thread.
struct Clone {
    git: Handle,
    failed: Mutex<Option<GitError>>,
}

impl Clone {
    fn failed(&self) -> std::sync::MutexGuard<'_, Option<GitError>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blobs for Clone {
    fn read(&self, blob: &str) -> Vec<u8> {
        let read = self.git.read(vec![(String::new(), blob.to_owned())]);
        match futures::executor::block_on(read).map(|mut blobs| blobs.pop()) {
            Ok(blob) => blob.map(|blob| blob.content).unwrap_or_default(),
            Err(error) => {
                self.failed().get_or_insert(error);
                Vec::new()
            }
        }
    }
}

/// Are so many bytes read at all? Files that are too large are not among them.
pub fn check_sum(sizes: impl Iterator<Item = usize>) -> Result<(), String> {
    let sum: usize = sizes.filter(|size| *size <= FILE_LIMIT).sum();
    match sum > SUM_LIMIT {
        false => Ok(()),
        true => Err(format!("its YAML files have {sum} bytes, more than {SUM_LIMIT}; {NARROW}")),
    }
}

/// What to do where there is too much to read.
const NARROW: &str = "name a folder with less by --path, or list what is not for Opsy in .opsyignore";

/// The path that is read, in a message.
fn shown(path: &str) -> &str {
    if path.is_empty() { "the repository" } else { path }
}

/// What was read of a path.
#[derive(Debug)]
pub enum Content {
    /// Nothing is there to be read.
    Unread,
    /// It has more bytes than are loaded.
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

/// A path with what was read of it, for the reader of manifests. Pure; `opsy validate` asks the same.
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

/// The form of a path whose content is a Git LFS pointer.
fn pointer(form: Form) -> Form {
    match form {
        Form::File => Form::Unknown(POINTER.to_owned()),
        Form::Unfit(why) => Form::Unknown(format!("{why}, without Git LFS")),
        Form::Unknown(why) => Form::Unknown(why),
    }
}

/// A path that may hold manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Relative to the path that is read.
    pub path: String,
    /// Object id of the content, in hex.
    pub id: String,
    pub form: Form,
}

/// What is to be read below a path of the repository. Pure; `opsy validate` asks the same.
///
/// Nothing is read through a link. But what a link hides is looked into, and so is a file whose name is odd: a
/// manifest that turned into one is an error, not an absence.
///
/// # Errors
/// There are too many.
pub fn pick(listing: &Listing, path: &str) -> Result<Vec<Picked>, String> {
    let mut all = Vec::new();
    for (file, entry) in listing.under(path) {
        if all.len() > FILES_LIMIT {
            return Err(format!("has more than {FILES_LIMIT} YAML files; {NARROW}"));
        }
        let picked = |form: Form| Picked { path: below(file, path).to_owned(), id: entry.id.clone(), form };
        match &entry.kind {
            EntryKind::Link(target) => all.extend(linked(listing, path, file, target)),
            EntryKind::Submodule => {
                all.push(picked(Form::Unknown("is a submodule: manifests in it are not read".to_owned())));
            }
            _ if !is_read(below(file, path)) => {}
            EntryKind::File { .. } => all.push(picked(Form::File)),
            EntryKind::Misnamed => {
                all.push(picked(Form::Unfit("has a name that is not UTF-8: rename it".to_owned())));
            }
            EntryKind::Pointer => all.push(picked(pointer(Form::File))),
        }
    }
    Ok(all)
}

/// What a link hides: the file it leads to, or the manifests of a folder that is not read itself.
fn linked(listing: &Listing, path: &str, link: &str, target: &str) -> Vec<Picked> {
    let name = below(link, path);
    let unfit = |to: &str, entry: &Entry| {
        let why = format!("is a link to {to}, and links are not followed: commit the file itself");
        match entry.kind {
            EntryKind::Pointer => pointer(Form::Unfit(why)),
            _ => Form::Unfit(why),
        }
    };
    let is_file = |entry: &Entry| matches!(entry.kind, EntryKind::File { .. } | EntryKind::Pointer);
    let real = follow(listing, link).unwrap_or_default();
    if let Some(entry) = listing.get(&real).filter(|entry| is_file(entry)) {
        let is_read_itself = is_within_path(&real, path) && is_read(below(&real, path));
        let is_hidden = is_read(name) && !is_read_itself;
        let picked = || Picked { path: name.to_owned(), id: entry.id.clone(), form: unfit(&real, entry) };
        return is_hidden.then(picked).into_iter().collect();
    }
    if real.is_empty() || !listing.has_folder(&real) {
        let why = format!("is a link to {target:?}, which is not in the repository");
        return vec![Picked { path: name.to_owned(), id: String::new(), form: Form::Unknown(why) }];
    }
    if is_within_path(&real, path) {
        return Vec::new();
    }
    let hidden = listing.under(&real).filter(|(file, _)| is_read(file));
    let files = hidden.filter(|(_, entry)| is_file(entry));
    let picked = |(file, entry): (&str, &Entry)| Picked {
        path: join(name, below(file, &real)),
        id: entry.id.clone(),
        form: unfit(file, entry),
    };
    // Many links to one large folder name more files than memory holds.
    files.take(FILES_LIMIT).map(picked).collect()
}

fn is_within_path(file: &str, path: &str) -> bool {
    path.is_empty() || is_within(file, path)
}

/// YAML, and what kustomize calls its own file.
fn is_read(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.ends_with(".yaml") || name.ends_with(".yml") || name == "Kustomization"
}

/// An ignore file that cannot be read, and lines of others that mean nothing.
pub fn ignore_problems(listing: &Listing) -> Vec<Problem> {
    let unreadable = listing.unreadable_ignore.iter();
    let unreadable = unreadable.map(|(file, why)| problem(file, Severity::Error, why.clone()));
    let found = |(file, line, message): &(String, usize, String)| Problem {
        line: Some(*line),
        ..problem(file, Severity::Note, message.clone())
    };
    unreadable.chain(listing.broken_ignores.iter().map(found)).collect()
}

/// The status files: beside the manifests, or on the branch they are published to.
pub(super) async fn status_files(
    git: &Handle,
    settings: &RepoSettings,
    listing: &Listing,
    folder: &str,
    from: Origin,
) -> Result<Vec<(String, Vec<u8>)>, GitError> {
    let branch = settings.publish.as_ref().and_then(|publish| publish.branch.as_deref());
    let elsewhere = match branch.filter(|branch| Some(*branch) != git.branch().as_deref()) {
        Some(branch) => {
            let tip = match from {
                Origin::Remote => git.fetch_branch(branch).await?,
                Origin::Clone => git.last_fetched_branch(branch).await?,
            };
            let Some(tip) = tip else { return Ok(Vec::new()) };
            Some(git.list(&tip.commit).await?)
        }
        None => None,
    };
    let files = elsewhere
        .as_deref()
        .unwrap_or(listing)
        .all_under(folder)
        .filter(|(_, entry)| matches!(entry.kind, EntryKind::File { .. }))
        .map(|(file, entry)| (below(file, folder).to_owned(), entry.id.clone()))
        .collect();
    small_files(git, files).await
}

/// The contents of files, but for those that no Opsy wrote: too large a file, and any where all together are.
async fn small_files(git: &Handle, files: Vec<(String, String)>) -> Result<Vec<(String, Vec<u8>)>, GitError> {
    let sizes = git.sizes(files.iter().map(|(_, id)| id.clone()).collect()).await?;
    let small = |size: &usize| *size <= FILE_LIMIT;
    if sizes.iter().copied().filter(small).sum::<usize>() > STATUS_LIMIT {
        tracing::warn!(limit = STATUS_LIMIT, "the status files have more bytes than are read: none is");
        return Ok(Vec::new());
    }
    let files = files.into_iter().zip(sizes).filter(|(_, size)| small(size)).map(|(file, _)| file);
    Ok(git.read(files.collect()).await?.into_iter().map(|blob| (blob.path, blob.content)).collect())
}

/// A path below a folder, from there.
fn below<'a>(path: &'a str, folder: &str) -> &'a str {
    path.strip_prefix(folder).unwrap_or(path).trim_start_matches('/')
}

fn problem(file: &str, severity: Severity, message: String) -> Problem {
    Problem { file: file.to_owned(), line: None, message, severity }
}

#[cfg(test)]
mod tests;
