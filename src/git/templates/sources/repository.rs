//! One template repository: the tips of the branches that builders use, fetched together at most once per interval.
//!
//! ```text
//! tip (a reconcile) ──┐                                    ┌─> state: tips, time of the next fetch
//! refresh (interval) ─┼─> start ─> one task: fetch_tips ───┤
//! refresh (a push) ───┘   │                                └─> requeue the builders whose branch moved
//!                         └─ a reconcile waits some seconds for it, and is requeued later
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{SourceOptions, disk};
use crate::api::lock::lock;
use crate::api::{Class, CommitId, Key, backoff};
use crate::git::address::Address;
use crate::git::auth::Credentials;
use crate::git::signatures::Range;
use crate::git::templates::choice::{OpsyFiles, is_ignore_file};
use crate::git::templates::users::Users;
use crate::git::templates::{Resolver, TemplateError, TemplateQuery};
use crate::git::{GitError, Handle, Tip as Fetched};
use crate::wait;

/// The longest backoff after failures. The backoff keeps an account with wrong credentials from being locked.
const MAX_BACKOFF: Duration = Duration::from_secs(300);
/// How long a reconcile waits for a fetch. Most fetches take less, and a longer one delays only its own object.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// The branch of a builder; `None` is the remote's default branch.
type Branch = Option<String>;
type Tip = Result<CommitId, TemplateError>;

/// One clone, with the result of its last fetch.
pub struct Repository {
    pub resolver: Resolver,
    credentials: Access,
    /// The branch of each builder.
    users: Mutex<BTreeMap<Key, Branch>>,
    /// The query of each builder.
    queries: Users,
    state: Mutex<State>,
    /// A task fetches, and has to fetch again after that.
    is_fetching: AtomicBool,
    fetch_again: AtomicBool,
    /// The number of completed fetches.
    fetches: watch::Sender<u64>,
}

/// The credentials of a repository.
pub enum Access {
    /// The agent's own, for branches of its own repository.
    Own,
    /// Those in a Secret, or none.
    Secret(Option<Key>),
}

#[derive(Default)]
struct State {
    tips: BTreeMap<Branch, Tip>,
    /// When the last fetch ended.
    fetched: Option<Instant>,
    /// The number of consecutive failures, and the time of the next attempt after one.
    failures: u32,
    retry_at: Option<Instant>,
}

impl Repository {
    pub fn new(resolver: Resolver, credentials: Access) -> Self {
        Self {
            resolver,
            credentials,
            users: Mutex::default(),
            queries: Users::default(),
            state: Mutex::default(),
            is_fetching: AtomicBool::default(),
            fetch_again: AtomicBool::default(),
            fetches: watch::Sender::default(),
        }
    }

    /// Returns true if `url` is an address of this repository.
    pub fn is_at(&self, url: &str) -> bool {
        self.handle().options().address.is_same(url)
    }

    /// Returns true if a builder uses this branch; with `None`, any branch.
    pub fn uses(&self, branch: Option<&str>) -> bool {
        let branch_of = |used: &Branch| used.is_none() || branch.is_none() || used.as_deref() == branch;
        self.users().values().any(branch_of)
    }

    /// Returns the tip of a branch for a builder. Fetches only if the last result is missing or too old.
    ///
    /// # Errors
    /// If the tip is not known. If the fetch takes long, the builder is requeued when it has ended.
    pub async fn tip(
        self: &Arc<Self>,
        branch: Branch,
        (user, query): (&Key, &TemplateQuery),
        options: &Arc<SourceOptions>,
    ) -> Tip {
        self.users().insert(user.clone(), branch.clone());
        self.queries.record(user, query);
        let until = Instant::now() + MAX_WAIT;
        let mut fetches = self.fetches.subscribe();
        loop {
            if let Some(tip) = self.state().current(&branch, options.interval) {
                return tip;
            }
            self.start(options, Some(user.clone()));
            if timeout_at(until, fetches.changed()).await.is_err() {
                return self.state().tips.get(&branch).cloned().unwrap_or_else(|| Err(being_fetched()));
            }
        }
    }

    /// Fetches if the interval, or the backoff after failures, has passed.
    pub fn refresh_if_due(self: &Arc<Self>, options: &Arc<SourceOptions>) {
        if self.state().is_due(options.interval) {
            self.start(options, None);
        }
    }

    /// Fetches now. If a fetch is running, it is repeated, because it could have missed the push. During the backoff
    /// after failures, it does nothing. The receiver that is returned changes when the fetch has ended.
    pub fn refresh(self: &Arc<Self>, options: &Arc<SourceOptions>) -> Option<watch::Receiver<u64>> {
        if self.state().retry_at.is_some_and(|due| Instant::now() < due) {
            return None;
        }
        let fetches = self.fetches.subscribe();
        self.fetch_again.store(true, Ordering::SeqCst);
        self.start(options, None);
        Some(fetches)
    }

    /// Starts the task that fetches, unless it is running.
    fn start(self: &Arc<Self>, options: &Arc<SourceOptions>, waiting: Option<Key>) {
        if self.is_fetching.swap(true, Ordering::SeqCst) {
            return;
        }
        let (repository, options) = (self.clone(), options.clone());
        tokio::spawn(async move {
            loop {
                repository.fetch_again.store(false, Ordering::SeqCst);
                repository.fetch_tips(&options, waiting.as_ref()).await;
                if repository.fetch_again.load(Ordering::SeqCst) {
                    continue;
                }
                repository.is_fetching.store(false, Ordering::SeqCst);
                repository.fetches.send_modify(|count| *count += 1);
                // A push could have been reported in between.
                if !repository.fetch_again.load(Ordering::SeqCst)
                    || repository.is_fetching.swap(true, Ordering::SeqCst)
                {
                    return;
                }
            }
        });
    }

    /// Fetches the branches in use, and requeues the builders whose result changed, except the one that waits.
    async fn fetch_tips(&self, options: &SourceOptions, waiting: Option<&Key>) {
        let started = Instant::now();
        let branches: Vec<Branch> =
            self.users().values().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let fetched = self.fetch(&branches, options).await;
        let is_failure = fetched.is_err();
        let mut new = BTreeMap::new();
        match fetched {
            Ok(tips) => {
                for (branch, tip) in branches.into_iter().zip(tips) {
                    let before = self.state().tips.get(&branch).and_then(|tip| tip.clone().ok());
                    new.insert(branch, self.verified(tip, before.as_ref(), options).await);
                }
            }
            Err(error) => new.extend(branches.into_iter().map(|branch| (branch, Err(error.clone())))),
        }
        let old = {
            let mut state = self.state();
            state.failures = if is_failure { state.failures + 1 } else { 0 };
            state.fetched = Some(Instant::now());
            let most = MAX_BACKOFF.max(options.interval);
            let wait = || {
                backoff::jittered(backoff::doubled(options.interval, most, state.failures), wait::random())
            };
            state.retry_at = is_failure.then(|| Instant::now() + wait());
            std::mem::replace(&mut state.tips, new.clone())
        };
        // The builder that waits gets the result directly, unless it has stopped waiting.
        let is_late = Instant::now() >= started + MAX_WAIT;
        for (branch, tip) in &new {
            let concerned = match old.get(branch) {
                Some(old) if old == tip => continue,
                None if !is_late => continue,
                Some(Ok(before)) => self.affected(before, tip).await,
                Some(Err(_)) | None => None,
            };
            let is_concerned = |user: &Key| concerned.as_ref().is_none_or(|keys| keys.contains(user));
            let users = self.users().clone();
            let of_branch = users.into_iter().filter(|(_, used)| used == branch).map(|(user, _)| user);
            of_branch
                .filter(|user| (is_late || Some(user) != waiting) && is_concerned(user))
                .for_each(|user| (options.wake)(&user));
        }
    }

    /// Returns the builders whose inputs differ between two tips; `None` if that is not known: it may be all.
    async fn affected(&self, before: &CommitId, now: &Tip) -> Option<BTreeSet<Key>> {
        // In the agent's own repository, manifests and status files are no inputs, and only the sync knows these.
        let (Access::Secret(_), Ok(now)) = (&self.credentials, now) else { return None };
        let changed = self.handle().changes(before, now, "").await.ok().flatten();
        let paths = changed.map(|changed| changed.into_iter().map(|change| change.path).collect::<Vec<_>>());
        let paths = paths.filter(|paths| !paths.iter().any(|path| is_ignore_file(path)));
        let (queries, own) = (self.queries.queries(), OpsyFiles::default());
        let differing = self.resolver.differing(queries, (before, now), paths.as_deref(), &own).await.ok()?;
        Some(self.queries.of(&differing))
    }

    async fn fetch(
        &self,
        branches: &[Branch],
        options: &SourceOptions,
    ) -> Result<Vec<Result<Fetched, GitError>>, TemplateError> {
        let handle = self.handle();
        let (credentials, limit) = match &self.credentials {
            Access::Own => (handle.options().credentials.clone(), None),
            Access::Secret(secret) => {
                if disk::must_be_replaced(&handle.options().folder) {
                    handle.clear().await;
                }
                (
                    Some(credentials_of(&handle.options().address, secret.clone(), options).await?),
                    Some(disk::remaining(&options.folder)),
                )
            }
        };
        match handle.fetch_branches(branches.to_vec(), credentials, limit).await {
            Err(GitError::TooLarge { limit, .. }) if limit < disk::REPOSITORY_LIMIT => {
                Err(disk::over_limit())
            }
            fetched => Ok(fetched?),
        }
    }

    /// Returns the tip. If signatures are required, it must be signed. The history of the branch is not fetched: the
    /// signer of the tip vouches for its content. A tip that was verified before is not verified again.
    async fn verified(
        &self,
        tip: Result<Fetched, GitError>,
        before: Option<&CommitId>,
        options: &SourceOptions,
    ) -> Tip {
        let commit = tip?.commit;
        let Some(signers) = options.signers.as_ref().filter(|_| before != Some(&commit)) else {
            return Ok(commit);
        };
        let range = Range { tip: commit.clone(), since: Vec::new(), now: (options.now)() };
        match self.handle().verify(&range, signers).await {
            Ok(()) => Ok(commit),
            Err(GitError::Unverified { commit, author, why }) => Err(TemplateError {
                class: Class::Invalid,
                message: format!(
                    "commit {commit} by {author} of the template repository is not accepted: {why}; check who made it, \
                     then push a commit that is signed with the key of a trusted signer"
                ),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Records that a builder no longer uses the repository.
    pub fn forget(&self, user: &Key) {
        self.users().remove(user);
        self.queries.forget(user);
    }

    /// Removes the users that do not exist any more, and returns the number of remaining users.
    pub fn retain_users(&self, exists: impl Fn(&Key) -> bool) -> usize {
        self.queries.retain(0, &exists);
        let mut users = self.users();
        users.retain(|user, _| exists(user));
        users.len()
    }

    /// Removes the clone.
    pub async fn remove(&self) {
        self.handle().clear().await;
    }

    fn handle(&self) -> &Handle {
        self.resolver.handle()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<Key, Branch>> {
        lock(&self.users)
    }
}

/// Reads the credentials, for each fetch, so that they can be rotated.
async fn credentials_of(
    address: &Address,
    secret: Option<Key>,
    options: &SourceOptions,
) -> Result<Credentials, TemplateError> {
    let mut credentials = (options.login)(address, secret).await?.unwrap_or_default();
    credentials.ssh_agent = options.hosts.ssh_agent;
    if credentials.known_hosts.is_empty() {
        credentials.known_hosts.clone_from(&options.hosts.known_hosts);
        credentials.usual_hosts = options.hosts.usual_hosts;
    }
    Ok(credentials)
}

impl State {
    /// Returns the result for a branch, unless it is too old.
    fn current(&self, branch: &Branch, interval: Duration) -> Option<Tip> {
        self.tips.get(branch).filter(|_| !self.is_due(interval)).cloned()
    }

    /// Returns true if the last fetch is older than the interval, or if the backoff after failures has passed.
    fn is_due(&self, interval: Duration) -> bool {
        let now = Instant::now();
        match self.retry_at {
            Some(due) => now >= due,
            None => self.fetched.is_none_or(|fetched| now >= fetched + interval),
        }
    }
}

fn being_fetched() -> TemplateError {
    let message =
        "the template repository is being fetched; the builder continues when the fetch has ended".to_owned();
    TemplateError { class: Class::TRANSIENT, message }
}
