//! Template repositories: those that builders name in `builder.repoURL`, and other branches of the agent's own.
//!
//! ```text
//! builder ─(address, branch, Secret)─> Sources ─> one clone per address and Secret ─> tip of the branch
//!    ^                                     │ once per interval, for all branches that are used
//!    └──────────── wake ───────────────────┘ where a branch moved, or can be read again
//! ```
//! Credentials are read again for each fetch, and go to no other clone. Clones that no builder uses are removed. Where
//! signatures are required, the tip of a branch must be signed; its signer vouches for its content.

mod repository;
mod room;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::address::AddressRules;
use super::auth::Credentials;
use super::signatures::Signers;
use super::templates::choice::Own;
use super::templates::{Resolved, Resolver, TemplateError, TemplateQuery, invalid};
use super::{Handle, Listing, Options, backoff};
use crate::api::ids::digest;
use crate::api::proxy::Proxies;
use crate::api::{CommitId, Key};
use repository::Access;
pub(super) use repository::Repository;

/// Reads the Secret of a builder's `gitSync.secret`.
pub type Login =
    Arc<dyn Fn(Key) -> BoxFuture<'static, Result<Option<Credentials>, TemplateError>> + Send + Sync>;

/// What the template repositories are made of.
#[derive(Clone)]
pub struct SourceOptions {
    /// Folder of the clones: Opsy's alone.
    pub folder: PathBuf,
    pub rules: AddressRules,
    pub proxies: Proxies,
    /// How often each is fetched.
    pub interval: Duration,
    pub login: Login,
    /// Trusted host keys where no Secret gives any.
    pub hosts: Credentials,
    /// Wakes a builder.
    pub wake: Arc<dyn Fn(&Key) + Send + Sync>,
    /// Who may sign the tips of branches. Default: they need no signature.
    pub signers: Option<Signers>,
    pub now: fn() -> Timestamp,
    /// Is there a builder of this name?
    pub exists: Arc<dyn Fn(&Key) -> bool + Send + Sync>,
}

/// A clone belongs to one address and one Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    url: String,
    secret: Option<Key>,
}

/// All template repositories. Cheap to clone.
#[derive(Clone)]
pub struct Sources {
    options: Arc<SourceOptions>,
    open: Arc<Mutex<BTreeMap<Id, Arc<Repository>>>>,
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

    /// With further branches of the agent's own repository, in the agent's clone and with its credentials.
    pub(super) fn with_own(self, resolver: Resolver) -> Self {
        self.own.get_or_init(|| Arc::new(Repository::new(resolver, Access::Own)));
        self
    }

    /// The tip of another branch of the agent's own repository.
    pub(super) async fn own_tip(&self, branch: &str, builder: &Key) -> Result<CommitId, TemplateError> {
        self.forget(builder);
        match self.own.get() {
            Some(own) => own.tip(Some(branch.to_owned()), builder, &self.options).await,
            None => Err(invalid("other branches are not read here".to_owned())),
        }
    }

    /// The repository at an address, as a builder with this Secret sees it. Nothing is fetched yet.
    pub(super) fn repository(
        &self,
        url: &str,
        secret: Option<Key>,
        user: &Key,
    ) -> Result<Arc<Repository>, TemplateError> {
        let address = self.options.rules.parse_remote(url)?;
        let id = Id { url: address.url().to_owned(), secret };
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
            proxies: self.options.proxies.clone(),
            shallow: true,
            signers: None,
            signing_key: None,
        })?;
        let opened = Arc::new(Repository::new(Resolver::new(handle), Access::Secret(id.secret.clone())));
        open.insert(id, opened.clone());
        Ok(opened)
    }

    /// The repository of a query, and the commit that its branch is at. Nothing is fetched that was fetched in this interval.
    async fn tip(
        &self,
        query: &TemplateQuery,
        builder: &Key,
    ) -> Result<(Arc<Repository>, CommitId), TemplateError> {
        let elsewhere = query.elsewhere.clone().unwrap_or_default();
        let url = elsewhere.repository.as_deref().unwrap_or_default();
        let repository = self.repository(url, elsewhere.secret_of(builder), builder)?;
        let commit = repository.tip(elsewhere.branch, builder, &self.options).await?;
        Ok((repository, commit))
    }

    /// What a query of a builder comes to in its template repository.
    pub async fn resolve(&self, query: &TemplateQuery, builder: &Key) -> Result<Resolved, TemplateError> {
        let (repository, commit) = self.tip(query, builder).await?;
        repository.resolver.resolve(query, &commit, &Own::default()).await
    }

    /// All files of the template repository that a query leads to, and the clone to read them from.
    pub async fn list(
        &self,
        query: &TemplateQuery,
        builder: &Key,
    ) -> Result<(Arc<Listing>, Handle), TemplateError> {
        let (repository, commit) = self.tip(query, builder).await?;
        let handle = repository.resolver.handle();
        Ok((handle.list(&commit).await?, handle.clone()))
    }

    /// The builder uses no template repository.
    pub(super) fn forget(&self, user: &Key) {
        self.own.get().into_iter().for_each(|own| own.forget(user));
        self.open().values().for_each(|repository| repository.forget(user));
    }

    /// The clones that are open.
    pub(super) fn all(&self) -> Vec<Arc<Repository>> {
        self.open().values().cloned().collect()
    }

    /// Those with builders.
    fn used(&self) -> Vec<Arc<Repository>> {
        self.own
            .get()
            .cloned()
            .into_iter()
            .chain(self.all())
            .filter(|repository| repository.uses(None))
            .collect()
    }

    /// Fetches every repository once per interval, wakes builders whose branch moved, and removes what no builder uses.
    pub async fn follow(self, stop: CancellationToken) {
        let mut is_first = true;
        loop {
            tokio::select! {
                () = backoff::pause(self.options.interval) => {}
                () = stop.cancelled() => return,
            }
            self.remove_unused(is_first);
            is_first = false;
            self.used().iter().for_each(|repository| repository.refresh_if_due(&self.options));
        }
    }

    /// Starts to fetch now, as after a push to a branch at one of these addresses; without addresses or branch, to any. Ends
    /// when all are fetched, and need not be awaited.
    pub fn fetch_now(&self, addresses: &[String], branch: Option<&str>) -> impl Future<Output = ()> + use<> {
        let is_meant = |repository: &&Arc<Repository>| {
            let is_there = addresses.is_empty() || addresses.iter().any(|address| repository.is_at(address));
            is_there && repository.uses(branch)
        };
        let used = self.used();
        let meant = used.iter().filter(is_meant);
        let answers: Vec<_> = meant.filter_map(|repository| repository.refresh(&self.options)).collect();
        async move {
            for mut answer in answers {
                let _ = answer.changed().await;
            }
        }
    }

    /// Removes the clones without users, and after a start those that another process left.
    fn remove_unused(&self, is_first: bool) {
        let exists = &self.options.exists;
        if let Some(own) = self.own.get() {
            own.keep_users(|user| exists(user));
        }
        let unused: Vec<(Id, Arc<Repository>)> = {
            let mut open = self.open();
            let is_unused = |repository: &Arc<Repository>| repository.keep_users(|user| exists(user)) == 0;
            let ids: Vec<Id> = open
                .iter()
                .filter(|(_, repository)| is_unused(repository))
                .map(|(id, _)| id.clone())
                .collect();
            ids.into_iter().filter_map(|id| open.remove(&id).map(|repository| (id, repository))).collect()
        };
        for (id, repository) in unused {
            info!(url = id.url, "removing the clone of a template repository that no builder uses");
            // The thread of a clone may hang: nothing else waits for it.
            tokio::spawn(async move { repository.remove().await });
        }
        if is_first {
            let kept: BTreeSet<String> = self.open().keys().map(folder_name).collect();
            room::remove_others(&self.options.folder, &kept);
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<Id, Arc<Repository>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn folder_name(id: &Id) -> String {
    let secret = id.secret.as_ref().map(Key::to_string).unwrap_or_default();
    digest(&[&id.url, &secret])[..room::NAME_LENGTH].to_owned()
}
