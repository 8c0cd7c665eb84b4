//! Resolves the template of a builder to a commit, a tag (a hash of its inputs), and the files for its build. This
//! module selects the repository, `resolver` reads it, and `choice` selects the files from the listing of the commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;

use super::address::Address;
use super::reader::Described;
use super::ref_names::refspec;
use super::{GitError, Handle};
use crate::api::files::TemplateFile;
use crate::api::{Class, CommitId, Key};

pub mod choice;
pub mod links;
mod resolver;
pub mod sources;
mod users;

use choice::OpsyFiles;
pub(super) use resolver::Resolver;
use sources::Sources;
use users::Users;

/// The files that a build reads from a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateQuery {
    /// The template argument of the build: a directory or file, relative to the root. `.` is the root.
    pub template: String,
    /// The template arguments of other commands, if they differ.
    pub others: Vec<String>,
    /// `builder.dir`, unless it is the template of a command.
    pub dir: Option<String>,
    /// Variables files, relative to the root.
    pub var_files: Vec<String>,
    /// Globs of additional inputs.
    pub inputs: Vec<String>,
    /// Whether the build gets the whole repository, and not only these files (`gitSync.image` is set).
    pub whole: bool,
    /// The repository and branch, if they differ from those that the agent syncs.
    pub source: Option<TemplateSource>,
}

/// The repository and branch of a manifest. `repository` is `None` for the agent's own repository.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateSource {
    pub repository: Option<String>,
    /// Default: the remote's default branch.
    pub branch: Option<String>,
    /// The Secret with the credentials, in the namespace of the builder.
    pub secret: Option<String>,
}

impl TemplateSource {
    /// The Secret with the credentials.
    pub fn secret_of(&self, builder: &Key) -> Option<Key> {
        self.secret.clone().map(|name| Key { namespace: builder.namespace.clone(), name })
    }
}

impl TemplateQuery {
    /// Returns the template arguments of all commands.
    pub fn templates(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.template).chain(&self.others).map(String::as_str)
    }
}

/// A template at a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    pub commit: CommitId,
    /// The address where the repository is reached.
    pub url: String,
    /// `v2-<hash>`, a hash of the Git object IDs of the inputs. Version 1 included the manifests and status files.
    pub tag: String,
}

/// Why a template cannot be resolved or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    pub class: Class,
    pub message: String,
}

/// The synced commit, and which of its files belong to Opsy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    pub commit: CommitId,
    /// Shared, because every reconcile takes note of them.
    pub opsy_files: Arc<OpsyFiles>,
}

/// The templates of all repositories. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Templates {
    own: Resolver,
    /// The queries of builders in the agent's own repository at the synced commit.
    users: Users,
    at: watch::Receiver<Option<At>>,
    sources: Option<Sources>,
    /// The address and the branch that the repository is known by, if a copy of it is read.
    known_as: Option<(Address, String)>,
}

impl Templates {
    /// Creates the templates of the agent's own repository. The sync updates `at` before a commit is used.
    pub fn new(handle: Handle, at: watch::Receiver<Option<At>>) -> Self {
        Self { own: Resolver::new(handle), users: Users::default(), at, sources: None, known_as: None }
    }

    /// Adds template repositories.
    pub fn with_sources(self, sources: Sources) -> Self {
        Self { sources: Some(sources.with_own(self.own.clone())), ..self }
    }

    /// The same, if the handle reads a copy of the repository.
    pub fn known_as(self, address: Address, branch: String) -> Self {
        Self { known_as: Some((address, branch)), ..self }
    }

    /// Resolves the query of a builder at the current commit of its repository. If no build can have the files, the
    /// error has the class `Invalid` and names them.
    pub async fn resolve(&self, query: &TemplateQuery, builder: &Key) -> Result<Resolved, TemplateError> {
        let Some(source) = self.other_source(query) else {
            self.sources.iter().for_each(|sources| sources.forget(builder));
            // First: a commit that is synced meanwhile finds the builder.
            self.users.record(builder, query);
            let At { commit, opsy_files } = self.at()?;
            return self.own.resolve(query, &commit, &opsy_files).await;
        };
        self.users.forget(builder);
        let sources = self.sources()?;
        if source.repository.is_some() {
            return sources.resolve(query, builder).await;
        }
        let branch = source.branch.as_deref().unwrap_or_default();
        let tip = sources.own_tip(branch, builder, query).await;
        let commit =
            tip.map_err(|error| if self.known_as.is_some() { not_copied(error, branch) } else { error })?;
        self.own.resolve(query, &commit, &self.at()?.opsy_files).await
    }

    /// Returns the builders whose inputs in the agent's own repository differ between the commit `before` and the
    /// current one, as far as is known: a builder that is being resolved is one of them. `changed` are the paths at
    /// which `before` and `now` differ; `None` means any. If a newer commit than `now` was synced meanwhile, they are
    /// not all, and every query is compared. `count` builders exist, of which `exists` returns true; others are forgotten.
    ///
    /// # Errors
    /// If the current commit cannot be read.
    pub async fn affected(
        &self,
        (before, now): (&CommitId, &CommitId),
        changed: Option<&[String]>,
        (count, exists): (usize, impl Fn(&Key) -> bool),
    ) -> Result<BTreeSet<Key>, TemplateError> {
        let At { commit, opsy_files } = self.at()?;
        let changed = changed.filter(|_| commit == *now);
        self.users.retain(count, exists);
        let queries = self.users.queries();
        let differing = self.own.differing(queries, (before, &commit), changed, &opsy_files).await?;
        Ok(self.users.of(&differing))
    }

    /// Returns the files of a resolved query, at its commit.
    pub async fn files(
        &self,
        query: &TemplateQuery,
        builder: &Key,
        commit: &CommitId,
    ) -> Result<Vec<TemplateFile>, TemplateError> {
        let other = self.other_source(query).and_then(|source| Some((source, source.repository.as_ref()?)));
        let Some((source, url)) = other else {
            return self.own.files(query, commit, &self.at()?.opsy_files).await;
        };
        let repository = self.sources()?.repository(url, source.secret_of(builder), builder)?;
        repository.resolver.files(query, commit, &OpsyFiles::default()).await
    }

    /// Returns author and subject of a commit of any repository, and the address of the repository. In the agent's own
    /// repository, commits that changed only the directory `status` are skipped.
    pub async fn describe(&self, commit: &CommitId, status: &str) -> Option<(Described, String)> {
        let own = self.own.handle();
        if let Ok(described) = own.describe(commit, status).await {
            return Some((described, own.options().address.to_string()));
        }
        for repository in self.sources.iter().flat_map(Sources::all) {
            let handle = repository.resolver.handle();
            if let Ok(described) = handle.describe(commit, "").await {
                return Some((described, handle.options().address.to_string()));
            }
        }
        None
    }

    /// Returns the repository and branch of a query, unless they are those that the agent syncs.
    fn other_source<'a>(&self, query: &'a TemplateQuery) -> Option<&'a TemplateSource> {
        let own_branch = match &self.known_as {
            Some((_, branch)) => Some(branch.clone()),
            None => self.own.handle().branch(),
        };
        query.source.as_ref().filter(|source| {
            source.repository.is_some() || source.branch.is_some() && source.branch != own_branch
        })
    }

    fn sources(&self) -> Result<&Sources, TemplateError> {
        self.sources.as_ref().ok_or_else(|| invalid("template repositories cannot be read here".to_owned()))
    }

    /// Returns true if the URL is that of the agent's own repository. Scheme, user and `.git` are ignored.
    pub fn is_own(&self, url: &str) -> bool {
        match &self.known_as {
            Some((address, _)) => address.is_same(url),
            None => self.own.handle().options().address.is_same(url),
        }
    }

    /// Returns the agent's own repository and branch, for the tags `packer-repo` and `packer-repo-branch`.
    pub fn own(&self) -> (String, String) {
        if let Some((address, branch)) = &self.known_as {
            return (address.to_string(), branch.clone());
        }
        let handle = self.own.handle();
        (handle.options().address.to_string(), handle.branch().unwrap_or_default())
    }

    fn at(&self) -> Result<At, TemplateError> {
        self.at.borrow().clone().ok_or_else(|| TemplateError {
            class: Class::TRANSIENT,
            message: "the repository has not been read yet".to_owned(),
        })
    }
}

/// The error for a branch that a copy of the repository does not have, though its remote may have it.
fn not_copied(error: TemplateError, branch: &str) -> TemplateError {
    let message = match error.class {
        Class::NotFound => format!(
            "this clone does not contain branch {branch}: run `git fetch origin {}` first",
            refspec(branch)
        ),
        _ => error.message,
    };
    TemplateError { message, ..error }
}

pub(super) fn invalid(message: String) -> TemplateError {
    TemplateError { class: Class::Invalid, message }
}

impl From<GitError> for TemplateError {
    fn from(error: GitError) -> Self {
        Self { class: error.class(), message: error.to_string() }
    }
}

#[cfg(test)]
mod tests;
