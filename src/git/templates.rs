//! Resolves a template source to a commit, a tag over everything its build reads, and its files.
//! Which files those are is decided by pure functions over the listing of the commit.

use std::collections::BTreeMap;

use globset::GlobBuilder;
use tokio::sync::watch;

use super::tree::{Entry, EntryKind, Listing, is_within, join, plain};
use super::{GitError, Handle};
use crate::api::files::TemplateFile;
use crate::api::ids::digest;
use crate::api::{Class, CommitId};

/// A build's files travel whole, through memory: this is far more than templates and scripts need.
const SIZE_LIMIT: usize = 64 * 1024 * 1024;
/// Links that lead to links that lead to links: as many as Linux follows.
const HOP_LIMIT: usize = 40;

/// What a build reads from the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateQuery {
    /// Template argument (folder or file), relative to the root; `.` is the root.
    pub template: String,
    /// Variables files, relative to the root.
    pub var_files: Vec<String>,
    /// Globs of further inputs.
    pub inputs: Vec<String>,
    /// Lay out the whole repository, not only the above (`gitSync.image` is set).
    pub whole: bool,
}

/// A template at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub commit: CommitId,
    /// `v1-<hash>` over the Git object ids of everything the query names, without the status path.
    pub tag: String,
}

/// Why a template cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    pub class: Class,
    pub message: String,
}

/// Which commit is the synced one, and where its status files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub commit: CommitId,
    /// Folder of the status files, from the root; `""` where there is none.
    pub status: String,
}

/// The repository's templates at the synced commit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Templates {
    handle: Handle,
    at: watch::Receiver<Option<At>>,
}

impl Templates {
    /// `at` is told by the sync before anybody works by a commit.
    pub fn new(handle: Handle, at: watch::Receiver<Option<At>>) -> Self {
        Self { handle, at }
    }

    /// What the query names at the synced commit. A missing path is `Class::Invalid`, naming it.
    pub async fn resolve(&self, query: &TemplateQuery) -> Result<Resolved, TemplateError> {
        let At { commit, status } = self.at()?;
        let listing = self.handle.list(&commit).await?;
        let files = choose(&listing, query, &status).map_err(invalid)?;
        Ok(Resolved { commit, tag: tag(&files) })
    }

    /// The files of a resolved query, at its commit.
    pub async fn files(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
    ) -> Result<Vec<TemplateFile>, TemplateError> {
        let status = self.at()?.status;
        let listing = self.handle.list(commit).await?;
        let chosen = if query.whole {
            let mut all = BTreeMap::new();
            add_folder(&listing, "", "", &status, HOP_LIMIT, &mut all).map_err(invalid)?;
            all
        } else {
            choose(&listing, query, &status).map_err(invalid)?
        };
        self.load(chosen).await
    }

    /// Is this URL the agent's own repository (scheme, user and `.git` aside)?
    pub fn is_own(&self, url: &str) -> bool {
        self.handle.options().address.is_same(url)
    }

    /// The agent's own repository and branch, without credentials: the tags `packer-repo` and `packer-repo-branch`.
    pub fn own(&self) -> (String, String) {
        (self.handle.options().address.to_string(), self.handle.branch().unwrap_or_default())
    }

    fn at(&self) -> Result<At, TemplateError> {
        self.at.borrow().clone().ok_or_else(|| TemplateError {
            class: Class::TRANSIENT,
            message: "the repository was not read yet".to_owned(),
        })
    }

    async fn load(&self, chosen: BTreeMap<String, Chosen>) -> Result<Vec<TemplateFile>, TemplateError> {
        let sizes = self.handle.sizes(chosen.values().map(|file| file.id.clone()).collect()).await?;
        let size: usize = sizes.iter().sum();
        if size > SIZE_LIMIT {
            let largest =
                chosen.keys().zip(&sizes).max_by_key(|(_, size)| **size).map_or("", |(path, _)| path);
            return Err(invalid(format!(
                "the template's files have {size} bytes, more than {SIZE_LIMIT}; the largest is {largest}"
            )));
        }
        let wanted = chosen.iter().map(|(path, file)| (path.clone(), file.id.clone())).collect();
        let blobs = self.handle.read(wanted).await?;
        let file = |(blob, chosen): (super::Blob, &Chosen)| TemplateFile {
            path: blob.path,
            executable: chosen.executable,
            content: blob.content,
        };
        Ok(blobs.into_iter().zip(chosen.values()).map(file).collect())
    }
}

/// A file to lay out: a blob, whatever links led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Chosen {
    id: String,
    executable: bool,
}

/// The files a query names, by the path they are laid out at.
fn choose(
    listing: &Listing,
    query: &TemplateQuery,
    status: &str,
) -> Result<BTreeMap<String, Chosen>, String> {
    let mut chosen = BTreeMap::new();
    let named = std::iter::once(("template", &query.template))
        .chain(query.var_files.iter().map(|f| ("variables file", f)));
    for (what, path) in named {
        let place = plain(path).ok_or_else(|| format!("{what} {path:?} leaves the repository"))?;
        if !add(listing, &place, &place, status, HOP_LIMIT, &mut chosen)? {
            return Err(format!("{what} {path:?} does not exist in the repository"));
        }
    }
    for glob in &query.inputs {
        let matcher = GlobBuilder::new(glob.trim_start_matches("./").trim_end_matches('/'))
            .literal_separator(true)
            .build()
            .map_err(|error| format!("input {glob:?} is no glob: {error}"))?
            .compile_matcher();
        let mut found = false;
        for (path, _) in listing.iter().filter(|(path, _)| !is_within(path, status)) {
            // A glob that names a folder means everything in it.
            if prefixes(path).any(|part| matcher.is_match(part)) {
                found |= add(listing, path, path, status, HOP_LIMIT, &mut chosen)?;
            }
        }
        if !found {
            return Err(format!("input {glob:?} matches nothing in the repository"));
        }
    }
    Ok(chosen)
}

/// A path and every folder above it: `a/b/c` gives `a`, `a/b`, `a/b/c`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).chain(std::iter::once(path))
}

/// Adds what stands at `from` as `to`; false when nothing does.
fn add(
    listing: &Listing,
    from: &str,
    to: &str,
    status: &str,
    hops: usize,
    chosen: &mut BTreeMap<String, Chosen>,
) -> Result<bool, String> {
    let from = follow(listing, from, hops)?;
    match listing.get(&from) {
        Some(Entry { id, kind: EntryKind::File { executable } }) => {
            chosen.insert(to.to_owned(), Chosen { id: id.clone(), executable: *executable });
            Ok(true)
        }
        Some(_) => {
            Err(format!("{from} is a submodule, and what is in it is not in the repository: copy it in"))
        }
        None => add_folder(listing, &from, to, status, hops, chosen),
    }
}

/// Adds a folder's files; false when there are none.
fn add_folder(
    listing: &Listing,
    from: &str,
    to: &str,
    status: &str,
    hops: usize,
    chosen: &mut BTreeMap<String, Chosen>,
) -> Result<bool, String> {
    let mut found = false;
    for (path, entry) in listing.under(from).filter(|(path, _)| !is_within(path, status)) {
        let place = join(to, path[from.len()..].trim_start_matches('/'));
        let fewer = match entry.kind {
            EntryKind::Link(_) => {
                hops.checked_sub(1).ok_or_else(|| format!("{path} leads through too many links"))?
            }
            _ => hops,
        };
        if !add(listing, path, &place, status, fewer, chosen)? {
            return Err(format!("{path} is a link to nothing in the repository"));
        }
        found = true;
    }
    Ok(found)
}

/// Where a path really is, after all links on its way. Links never leave the repository.
fn follow(listing: &Listing, path: &str, hops: usize) -> Result<String, String> {
    let mut path = path.to_owned();
    for _ in 0..=hops {
        let Some((link, target)) = prefixes(&path).find_map(|part| match &listing.get(part)?.kind {
            EntryKind::Link(target) => Some((part.to_owned(), target.clone())),
            _ => None,
        }) else {
            return Ok(path);
        };
        let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
        let outside = || format!("{link} is a link to {target:?}, outside of the repository");
        let place = if target.starts_with('/') { None } else { plain(&join(folder, &target)) };
        path = join(&place.ok_or_else(outside)?, path[link.len()..].trim_start_matches('/'));
    }
    Err(format!("{path} leads through too many links"))
}

fn tag(files: &BTreeMap<String, Chosen>) -> String {
    let mut parts = Vec::new();
    for (path, file) in files {
        parts.extend([path.as_str(), if file.executable { "x" } else { "-" }, &file.id]);
    }
    format!("v1-{}", digest(&parts))
}

fn invalid(message: String) -> TemplateError {
    TemplateError { class: Class::Invalid, message }
}

impl From<GitError> for TemplateError {
    fn from(error: GitError) -> Self {
        Self { class: error.class(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests;
