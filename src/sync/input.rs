//! The files of a commit that syncing reads: manifests, and the status files Opsy wrote itself.

use std::collections::HashMap;

use crate::api::files::{POINTER, is_pointer};
use crate::git::templates::links::follow;
use crate::git::tree::{is_within, join};
use crate::git::{Entry, EntryKind, GitError, Handle, Listing};
use crate::manifest::{Form, Problem, Severity, SourceFile};
use crate::settings::RepoSettings;

/// Larger files are not even loaded: no manifest comes near, and the clone may hold anything.
pub const FILE_LIMIT: usize = 16 * 1024 * 1024;

/// Where the newest commits are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Remote,
    /// What was fetched before: the remote is away.
    Clone,
}

/// All files below the path that is read which may hold manifests, and what is wrong with others.
pub(super) async fn sources(
    git: &Handle,
    listing: &Listing,
) -> Result<(Vec<SourceFile>, Vec<Problem>), GitError> {
    let picked = pick(listing, &git.options().path);
    let with_content = picked.iter().filter(|picked| !matches!(picked.form, Form::Unknown(_)));
    let named = with_content.map(|picked| (picked.path.clone(), picked.id.clone())).collect();
    let (small, large) = by_size(git, named).await?;
    let mut contents: HashMap<String, Content> =
        large.into_iter().map(|(path, size)| (path, Content::TooLarge(size))).collect();
    let blobs = git.read(small).await?.into_iter();
    contents.extend(blobs.map(|blob| (blob.path, Content::Bytes(blob.content))));
    let content = |picked: &Picked, contents: &mut HashMap<_, _>| contents.remove(&picked.path);
    let sources = picked.into_iter().map(|picked| {
        let content = content(&picked, &mut contents).unwrap_or(Content::Unread);
        source(picked, content)
    });
    Ok((sources.collect(), ignore_problems(listing)))
}

/// What was read of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing is there to be read.
    Unread,
    /// So many bytes, more than are loaded.
    TooLarge(usize),
    Bytes(Vec<u8>),
}

/// A path with what was read of it, for the reader of manifests. Pure; `opsy validate` asks the same.
pub fn source(picked: Picked, content: Content) -> SourceFile {
    let Picked { path, id, form } = picked;
    let (form, content) = match (form, content) {
        (form, Content::Unread) => (form, Vec::new()),
        (_, Content::TooLarge(size)) => {
            let why = format!("has {size} bytes, more than {FILE_LIMIT}, and is not read");
            (Form::Unknown(why), Vec::new())
        }
        (form, Content::Bytes(bytes)) if is_pointer(&bytes) => (pointer(form), Vec::new()),
        (form, Content::Bytes(bytes)) => (form, bytes),
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
pub fn pick(listing: &Listing, path: &str) -> Vec<Picked> {
    let mut all = Vec::new();
    for (file, entry) in listing.under(path) {
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
    all
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
    files.map(picked).collect()
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
    // A status file beyond all measure was not written by us.
    let (small, _) = by_size(git, files).await?;
    Ok(git.read(small).await?.into_iter().map(|blob| (blob.path, blob.content)).collect())
}

/// A file's path and blob id.
type Named = (String, String);

/// Files small enough to load, and the others with their sizes.
async fn by_size(git: &Handle, files: Vec<Named>) -> Result<(Vec<Named>, Vec<(String, usize)>), GitError> {
    let sizes = git.sizes(files.iter().map(|(_, id)| id.clone()).collect()).await?;
    let (small, large): (Vec<_>, Vec<_>) =
        files.into_iter().zip(sizes).partition(|(_, size)| *size <= FILE_LIMIT);
    let small = small.into_iter().map(|(file, _)| file).collect();
    Ok((small, large.into_iter().map(|((path, _), size)| (path, size)).collect()))
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
