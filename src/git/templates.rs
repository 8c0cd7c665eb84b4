//! Resolves a template source to a commit, a tag over its inputs, and the files its build gets.
//! Which repository that is, is decided here; `resolver` reads it; which files are inputs is decided by `choice`, over the
//! listing of the commit.

use tokio::sync::watch;

use super::reader::Described;
use super::sources::Sources;
use super::{GitError, Handle};
use crate::api::files::TemplateFile;
use crate::api::{Class, CommitId, Key};

pub mod choice;
pub mod links;
mod resolver;

use choice::Own;
pub(super) use resolver::Resolver;

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
    /// Where all this is, if it is not what the agent has synced.
    pub elsewhere: Option<Elsewhere>,
}

/// A repository and branch that a manifest names. The agent's own repository has no address here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Elsewhere {
    pub repository: Option<String>,
    /// Default: the remote's own.
    pub branch: Option<String>,
    /// Secret with credentials, in the namespace of the builder.
    pub secret: Option<String>,
}

impl Elsewhere {
    pub(super) fn secret_of(&self, builder: &Key) -> Option<Key> {
        self.secret.clone().map(|name| Key { namespace: builder.namespace.clone(), name })
    }
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
    /// Where the repository is reached.
    pub url: String,
    /// `v2-<hash>` over the Git object ids of the inputs. Version 1 counted Opsy's own files, too.
    pub tag: String,
}

/// Why a template cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
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

/// The templates of all repositories. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Templates {
    own: Resolver,
    at: watch::Receiver<Option<At>>,
    sources: Option<Sources>,
}

impl Templates {
    /// Those of the agent's own repository. `at` is told by the sync before anybody works by a commit.
    pub fn new(handle: Handle, at: watch::Receiver<Option<At>>) -> Self {
        Self { own: Resolver::new(handle), at, sources: None }
    }

    /// With template repositories.
    pub fn with_sources(self, sources: Sources) -> Self {
        Self { sources: Some(sources.with_own(self.own.clone())), ..self }
    }

    /// What the query of a builder names at the commit that its source is at. What no build could have is
    /// `Class::Invalid`, naming it.
    pub async fn resolve(&self, query: &TemplateQuery, builder: &Key) -> Result<Resolved, TemplateError> {
        let Some(elsewhere) = self.elsewhere(query) else {
            self.sources.iter().for_each(|sources| sources.forget(builder));
            let At { commit, own } = self.at()?;
            return self.own.resolve(query, &commit, &own).await;
        };
        let sources = self.sources()?;
        if elsewhere.repository.is_some() {
            return sources.resolve(query, builder).await;
        }
        let commit = sources.own_tip(elsewhere.branch.as_deref().unwrap_or_default(), builder).await?;
        self.own.resolve(query, &commit, &self.at()?.own).await
    }

    /// The files of a resolved query, at its commit.
    pub async fn files(
        &self,
        query: &TemplateQuery,
        builder: &Key,
        commit: &CommitId,
    ) -> Result<Vec<TemplateFile>, TemplateError> {
        let other =
            self.elsewhere(query).and_then(|elsewhere| Some((elsewhere, elsewhere.repository.as_ref()?)));
        let Some((elsewhere, url)) = other else {
            return self.own.files(query, commit, &self.at()?.own).await;
        };
        let repository = self.sources()?.repository(url, elsewhere.secret_of(builder), builder)?;
        repository.resolver.files(query, commit, &Own::default()).await
    }

    /// Who made a commit of any repository, and what they say of it; with the address of the repository. Commits of the
    /// agent's own that changed nothing but `status` are passed over.
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

    /// Where a query leads, unless it is what the agent has synced.
    fn elsewhere<'a>(&self, query: &'a TemplateQuery) -> Option<&'a Elsewhere> {
        let own_branch = self.own.handle().branch();
        query.elsewhere.as_ref().filter(|elsewhere| {
            elsewhere.repository.is_some() || elsewhere.branch.is_some() && elsewhere.branch != own_branch
        })
    }

    fn sources(&self) -> Result<&Sources, TemplateError> {
        self.sources.as_ref().ok_or_else(|| invalid("template repositories are not read here".to_owned()))
    }

    /// Is this URL the agent's own repository (scheme, user and `.git` aside)?
    pub fn is_own(&self, url: &str) -> bool {
        self.own.handle().options().address.is_same(url)
    }

    /// The agent's own repository and branch, without credentials: the tags `packer-repo` and `packer-repo-branch`.
    pub fn own(&self) -> (String, String) {
        let handle = self.own.handle();
        (handle.options().address.to_string(), handle.branch().unwrap_or_default())
    }

    fn at(&self) -> Result<At, TemplateError> {
        self.at.borrow().clone().ok_or_else(|| TemplateError {
            class: Class::TRANSIENT,
            message: "the repository was not read yet".to_owned(),
        })
    }
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
