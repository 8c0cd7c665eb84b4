//! Resolves a template source to a commit, a tag over its inputs, and the files its build gets.
//! Which files those are is decided by `choice`, over the listing of the commit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::{GitError, Handle};
use crate::api::files::TemplateFile;
use crate::api::ids::digest;
use crate::api::{Class, CommitId};

/// A build's files travel whole, through memory: this is far more than templates and scripts need.
const SIZE_LIMIT: usize = 64 * 1024 * 1024;

pub mod choice;
pub mod links;

use choice::{Choice, Own, Trouble, choose};
use links::{Files, pointer};

/// What a build reads from the repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TemplateQuery {
    /// Template argument of the build (folder or file), relative to the root; `.` is the root.
    pub template: String,
    /// Those of other commands, where they differ.
    pub others: Vec<String>,
    /// `builder.dir`, where no command's template is it.
    pub dir: Option<String>,
    /// Variables files, relative to the root.
    pub var_files: Vec<String>,
    /// Globs of further inputs.
    pub inputs: Vec<String>,
    /// Lay out the whole repository, not only the above (`gitSync.image` is set).
    pub whole: bool,
}

impl TemplateQuery {
    /// The template arguments of all commands.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.template).chain(&self.others).map(String::as_str)
    }
}

/// A template at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub commit: CommitId,
    /// `v2-<hash>` over the Git object ids of the inputs. Version 1 counted Opsy's own files, too.
    pub tag: String,
}

/// Why a template cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    pub class: Class,
    pub message: String,
}

/// Which commit is the synced one, and which of its files are Opsy's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub commit: CommitId,
    pub own: Own,
}

/// What queries came to at a commit: reconciles ask the same again and again.
#[derive(Debug, Default)]
struct Memo {
    commit: Option<CommitId>,
    resolved: HashMap<TemplateQuery, Result<String, String>>,
}

/// The repository's templates at the synced commit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Templates {
    handle: Handle,
    at: watch::Receiver<Option<At>>,
    memo: Arc<Mutex<Memo>>,
}

impl Templates {
    /// `at` is told by the sync before anybody works by a commit.
    pub fn new(handle: Handle, at: watch::Receiver<Option<At>>) -> Self {
        Self { handle, at, memo: Arc::default() }
    }

    /// What the query names at the synced commit. What no build could have is `Class::Invalid`, naming it.
    pub async fn resolve(&self, query: &TemplateQuery) -> Result<Resolved, TemplateError> {
        let At { commit, own } = self.at()?;
        let known = self.memo(&commit).resolved.get(query).cloned();
        let resolved = match known {
            Some(known) => known,
            None => {
                let resolved = self.tag(query, &commit, &own).await?;
                self.memo(&commit).resolved.insert(query.clone(), resolved.clone());
                resolved
            }
        };
        resolved.map(|tag| Resolved { commit, tag }).map_err(invalid)
    }

    /// The files of a resolved query, at its commit.
    pub async fn files(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
    ) -> Result<Vec<TemplateFile>, TemplateError> {
        let own = self.at()?.own;
        let listing = self.handle.list(commit).await?;
        let Choice { inputs, mut beside } =
            choose(&listing, query, &own).map_err(|all| invalid(first(&all)))?;
        if let Some(why) = self.pointers(&inputs).await?.first() {
            return Err(invalid(pointer(why)));
        }
        for path in self.pointers(&beside).await? {
            beside.remove(&path);
        }
        beside.extend(inputs);
        self.load(beside).await
    }

    /// The tag of a query at a commit, or why it has none.
    async fn tag(
        &self,
        query: &TemplateQuery,
        commit: &CommitId,
        own: &Own,
    ) -> Result<Result<String, String>, TemplateError> {
        let listing = self.handle.list(commit).await?;
        let inputs = match choose(&listing, query, own) {
            Ok(choice) => choice.inputs,
            Err(troubles) => return Ok(Err(first(&troubles))),
        };
        let pointers = self.pointers(&inputs).await?;
        Ok(pointers.first().map_or_else(|| Ok(tag(&inputs)), |path| Err(pointer(path))))
    }

    /// The Git LFS pointers among files.
    async fn pointers(&self, files: &Files) -> Result<Vec<String>, TemplateError> {
        let found = self.handle.pointers(files.values().map(|file| file.id.clone()).collect()).await?;
        let is_found = |file: &links::Chosen| found.contains(&file.id);
        Ok(files.iter().filter(|(_, file)| is_found(file)).map(|(path, _)| path.clone()).collect())
    }

    fn memo(&self, commit: &CommitId) -> std::sync::MutexGuard<'_, Memo> {
        let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
        if memo.commit.as_ref() != Some(commit) {
            *memo = Memo { commit: Some(commit.clone()), ..Memo::default() };
        }
        memo
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

    async fn load(&self, chosen: Files) -> Result<Vec<TemplateFile>, TemplateError> {
        let sizes = self.handle.sizes(chosen.values().map(|file| file.id.clone()).collect()).await?;
        let size: usize = sizes.iter().sum();
        if size > SIZE_LIMIT {
            let largest =
                chosen.keys().zip(&sizes).max_by_key(|(_, size)| **size).map_or("", |(path, _)| path);
            return Err(invalid(format!(
                "the template's files have {size} bytes, more than {SIZE_LIMIT}; the largest is {largest}; leave out what the build does not need by .opsyignore"
            )));
        }
        let wanted = chosen.iter().map(|(path, file)| (path.clone(), file.id.clone())).collect();
        let blobs = self.handle.read(wanted).await?;
        let file = |(blob, chosen): (super::Blob, &links::Chosen)| TemplateFile {
            path: blob.path,
            executable: chosen.executable,
            content: blob.content,
        };
        Ok(blobs.into_iter().zip(chosen.values()).map(file).collect())
    }
}

/// What is wrong first of all.
fn first(troubles: &[Trouble]) -> String {
    troubles.first().map(ToString::to_string).unwrap_or_default()
}

fn tag(files: &Files) -> String {
    let mut parts = Vec::new();
    for (path, file) in files {
        parts.extend([path.as_str(), if file.executable { "x" } else { "-" }, &file.id]);
    }
    format!("v2-{}", digest(&parts))
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
