//! Template repositories: those in `builder.repoURL`, and other branches of the agent's own repository.
//!
//! ```text
//! builder ─(address, branch, Secret)─> Sources ─> one clone per address and Secret ─> tip of the branch
//!    ^                                     │ once per interval, for all branches in use
//!    └──────────── wake ───────────────────┘ if a branch moved, or can be read again
//! ```
//! The credentials of a clone are read again for each fetch, and are never used for another clone. Clones that no
//! builder uses are removed. If signatures are required, the tip of a branch must be signed; its signer vouches for its
//! content.

mod disk;
mod repository;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::choice::OpsyFiles;
use super::{Resolved, Resolver, TemplateError, TemplateQuery, invalid};
use crate::api::ids::digest;
use crate::api::lock::lock;
use crate::api::{CommitId, Key};
use crate::git::address::{Address, AddressRules};
use crate::git::auth::Credentials;
use crate::git::signatures::Signers;
use crate::git::{Handle, History, Http, Listing, Options};
use crate::wait;
use repository::Access;
pub(super) use repository::Repository;

/// Reads the credentials for a repository, as a pair of its address and the Secret in `gitSync.secret` of a builder.
pub type Login = Arc<
    dyn Fn(&Address, Option<Key>) -> BoxFuture<'static, Result<Option<Credentials>, TemplateError>>
        + Send
        + Sync,
>;

/// The options of all template repositories.
#[derive(Clone)]
pub struct SourceOptions {
    /// The directory of the clones. It must contain nothing else.
    pub folder: PathBuf,
    pub rules: AddressRules,
    pub http: Http,
    /// The interval between two fetches of a repository.
    pub interval: Duration,
    pub login: Login,
    /// The trusted host keys for a Secret without `known_hosts`.
    pub hosts: Credentials,
    /// Requeues a builder.
    pub wake: Arc<dyn Fn(&Key) + Send + Sync>,
    /// The trusted signers of the tips of branches. Default: they need no signature.
    pub signers: Option<Signers>,
    pub now: fn() -> Timestamp,
    /// Returns true if there is a builder of this name.
    pub exists: Arc<dyn Fn(&Key) -> bool + Send + Sync>,
}

/// The identity of a clone: one address and one Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct CloneId {
    url: String,
    secret: Option<Key>,
}

/// All template repositories. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    options: Arc<SourceOptions>,
    open: Arc<Mutex<BTreeMap<CloneId, Arc<Repository>>>>,
    /// Other branches of the agent's own repository.
    own: Arc<OnceLock<Arc<Repository>>>,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sources")
    }
}

impl Sources {
    pub fn new(options: SourceOptions) -> Self {
        Self { options: Arc::new(options), open: Arc::default(), own: Arc::default() }
    }

    /// Adds other branches of the agent's own repository, which use the agent's clone and credentials.
    pub(super) fn with_own(self, resolver: Resolver) -> Self {
        self.own.get_or_init(|| Arc::new(Repository::new(resolver, Access::Own)));
        self
    }

    /// Returns the tip of another branch of the agent's own repository.
    pub(super) async fn own_tip(
        &self,
        branch: &str,
        builder: &Key,
        query: &TemplateQuery,
    ) -> Result<CommitId, TemplateError> {
        self.forget(builder);
        match self.own.get() {
            Some(own) => own.tip(Some(branch.to_owned()), (builder, query), &self.options).await,
            None => Err(invalid("other branches cannot be read here".to_owned())),
        }
    }

    /// Returns the repository at an address for a builder with this Secret. Does not fetch.
    pub(super) fn repository(
        &self,
        url: &str,
        secret: Option<Key>,
        user: &Key,
    ) -> Result<Arc<Repository>, TemplateError> {
        let address = self.options.rules.parse_remote(url)?;
        let id = CloneId { url: address.url().to_owned(), secret };
        self.own.get().into_iter().for_each(|own| own.forget(user));
        let mut open = self.open();
        for (_, other) in open.iter().filter(|(other, _)| **other != id) {
            other.forget(user);
        }
        if let Some(found) = open.get(&id) {
            return Ok(found.clone());
        }
        let folder = self.options.folder.join(folder_name(&id));
        let handle = Handle::start(Options {
            address,
            branch: None,
            path: String::new(),
            folder,
            credentials: None,
            http: self.options.http.clone(),
            history: History::Tips,
            signers: None,
            signing_key: None,
        })?;
        let opened = Arc::new(Repository::new(Resolver::new(handle), Access::Secret(id.secret.clone())));
        open.insert(id, opened.clone());
        Ok(opened)
    }

    /// Returns the repository of a query and the tip of its branch. Fetches at most once per interval.
    async fn tip(
        &self,
        query: &TemplateQuery,
        builder: &Key,
    ) -> Result<(Arc<Repository>, CommitId), TemplateError> {
        let source = query.source.clone().unwrap_or_default();
        let url = source.repository.as_deref().unwrap_or_default();
        let repository = self.repository(url, source.secret_of(builder), builder)?;
        let commit = repository.tip(source.branch, (builder, query), &self.options).await?;
        Ok((repository, commit))
    }

    /// Resolves a query of a builder in its template repository.
    pub async fn resolve(&self, query: &TemplateQuery, builder: &Key) -> Result<Resolved, TemplateError> {
        let (repository, commit) = self.tip(query, builder).await?;
        repository.resolver.resolve(query, &commit, &OpsyFiles::default()).await
    }

    /// Returns all files of the template repository of a query, and the handle to read them.
    pub async fn list(
        &self,
        query: &TemplateQuery,
        builder: &Key,
    ) -> Result<(Arc<Listing>, Handle), TemplateError> {
        let (repository, commit) = self.tip(query, builder).await?;
        let handle = repository.resolver.handle();
        Ok((handle.list(&commit).await?, handle.clone()))
    }

    /// Records that a builder uses no template repository.
    pub(super) fn forget(&self, user: &Key) {
        self.own.get().into_iter().for_each(|own| own.forget(user));
        self.open().values().for_each(|repository| repository.forget(user));
    }

    /// Returns the open clones.
    pub(super) fn all(&self) -> Vec<Arc<Repository>> {
        self.open().values().cloned().collect()
    }

    /// Returns the repositories that builders use.
    fn used(&self) -> Vec<Arc<Repository>> {
        self.own
            .get()
            .cloned()
            .into_iter()
            .chain(self.all())
            .filter(|repository| repository.uses(None))
            .collect()
    }

    /// Fetches every repository once per interval, requeues builders whose branch moved, and removes clones that no
    /// builder uses.
    pub async fn follow(self, stop: CancellationToken) {
        let mut is_first = true;
        loop {
            tokio::select! {
                () = wait::pause(self.options.interval) => {}
                () = stop.cancelled() => return,
            }
            self.remove_unused(is_first);
            is_first = false;
            self.used().iter().for_each(|repository| repository.refresh_if_due(&self.options));
        }
    }

    /// Starts to fetch now, for example after a push to a branch at one of these addresses. Without addresses or a
    /// branch, all match. The future completes after all fetches; it need not be awaited.
    pub fn fetch_now(&self, addresses: &[String], branch: Option<&str>) -> impl Future<Output = ()> + use<> {
        let is_selected = |repository: &&Arc<Repository>| {
            let matches_address =
                addresses.is_empty() || addresses.iter().any(|address| repository.is_at(address));
            matches_address && repository.uses(branch)
        };
        let used = self.used();
        let selected = used.iter().filter(is_selected);
        let fetches: Vec<_> = selected.filter_map(|repository| repository.refresh(&self.options)).collect();
        async move {
            for mut fetch in fetches {
                let _ = fetch.changed().await;
            }
        }
    }

    /// Removes the clones without users and, after the start, those that an earlier process left.
    fn remove_unused(&self, is_first: bool) {
        let exists = &self.options.exists;
        if let Some(own) = self.own.get() {
            own.retain_users(|user| exists(user));
        }
        let unused: Vec<(CloneId, Arc<Repository>)> = {
            let mut open = self.open();
            let is_unused = |repository: &Arc<Repository>| repository.retain_users(|user| exists(user)) == 0;
            let ids: Vec<CloneId> = open
                .iter()
                .filter(|(_, repository)| is_unused(repository))
                .map(|(id, _)| id.clone())
                .collect();
            ids.into_iter().filter_map(|id| open.remove(&id).map(|repository| (id, repository))).collect()
        };
        for (id, repository) in unused {
            info!(url = id.url, "removing the clone of a template repository that no builder uses");
            // The thread of a clone can hang, so nothing waits for it.
            tokio::spawn(async move { repository.remove().await });
        }
        if is_first {
            let used: BTreeSet<String> = self.open().keys().map(folder_name).collect();
            disk::remove_unused(&self.options.folder, &used);
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<CloneId, Arc<Repository>>> {
        lock(&self.open)
    }
}

fn folder_name(id: &CloneId) -> String {
    let secret = id.secret.as_ref().map(Key::to_string).unwrap_or_default();
    digest(&[&id.url, &secret])[..disk::NAME_LENGTH].to_owned()
}
