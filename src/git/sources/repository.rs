//! One repository of templates: the tips of the branches that builders use, fetched together and at most once per interval.
//!
//! ```text
//! tip (a reconcile) ──┐                                   ┌─> known: tips, when to fetch again
//! refresh (interval) ─┼─> start ─> one task at a time: ask ┤
//! refresh (a push) ───┘   │                               └─> wake the builders whose branch moved
//!                         └─ a reconcile waits for it for some seconds, and is woken later
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::{SourceOptions, room};
use crate::api::{Class, CommitId, Key};
use crate::git::auth::Credentials;
use crate::git::signatures::Range;
use crate::git::templates::{Resolver, TemplateError};
use crate::git::{GitError, Handle, Tip as Fetched, backoff};

/// Longest wait after failures: an account that is refused must not be locked.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// A reconcile waits this long for a fetch: most take less, and the others hold up no object but their own.
const PATIENCE: Duration = Duration::from_secs(10);

/// A branch as builders name it; `None` is the remote's default.
type Branch = Option<String>;
type Tip = Result<CommitId, TemplateError>;

/// One clone, and what the remote said last.
pub struct Repository {
    pub resolver: Resolver,
    credentials: Access,
    /// Which builder uses which branch.
    users: Mutex<BTreeMap<Key, Branch>>,
    known: Mutex<Known>,
    /// A task asks the remote, and is to ask once more when it has.
    is_asking: AtomicBool,
    again: AtomicBool,
    /// Counts the answers.
    answers: watch::Sender<u64>,
}

/// Whose credentials are used.
pub enum Access {
    /// Those of the agent, for branches of its own repository.
    Own,
    /// Those of a Secret, or none.
    Secret(Option<Key>),
}

#[derive(Default)]
struct Known {
    tips: BTreeMap<Branch, Tip>,
    /// When the remote answered last.
    asked: Option<Instant>,
    /// Failures in a row, and when to ask again.
    failures: u32,
    due: Option<Instant>,
}

impl Repository {
    pub fn new(resolver: Resolver, credentials: Access) -> Self {
        Self {
            resolver,
            credentials,
            users: Mutex::default(),
            known: Mutex::default(),
            is_asking: AtomicBool::default(),
            again: AtomicBool::default(),
            answers: watch::Sender::default(),
        }
    }

    /// Is `url` an address of this repository?
    pub fn is_at(&self, url: &str) -> bool {
        self.handle().options().address.is_same(url)
    }

    /// Does a builder use this branch?
    pub fn uses(&self, branch: Option<&str>) -> bool {
        let branch_of = |used: &Branch| used.is_none() || branch.is_none() || used.as_deref() == branch;
        self.users().values().any(branch_of)
    }

    /// The commit that a branch is at, for a builder. Asks the remote only where the last answer does not say.
    ///
    /// # Errors
    /// Why it is not known. Where the remote takes long to answer, the builder is woken when it has.
    pub async fn tip(self: &Arc<Self>, branch: Branch, user: &Key, options: &Arc<SourceOptions>) -> Tip {
        self.users().insert(user.clone(), branch.clone());
        let until = Instant::now() + PATIENCE;
        let mut answers = self.answers.subscribe();
        loop {
            if let Some(tip) = self.known().answer(&branch, options.interval) {
                return tip;
            }
            self.start(options, Some(user.clone()));
            if timeout_at(until, answers.changed()).await.is_err() {
                return self.known().tips.get(&branch).cloned().unwrap_or_else(|| Err(being_fetched()));
            }
        }
    }

    /// Asks the remote if the interval, or the wait after failures, is over.
    pub fn refresh_if_due(self: &Arc<Self>, options: &Arc<SourceOptions>) {
        if self.known().is_due(options.interval) {
            self.start(options, None);
        }
    }

    /// Asks the remote now, and once more if it is being asked already. An account that is refused is not tried more often.
    /// What is returned changes when it has answered.
    pub fn refresh(self: &Arc<Self>, options: &Arc<SourceOptions>) -> Option<watch::Receiver<u64>> {
        if self.known().due.is_some_and(|due| Instant::now() < due) {
            return None;
        }
        let answers = self.answers.subscribe();
        self.again.store(true, Ordering::SeqCst);
        self.start(options, None);
        Some(answers)
    }

    /// Starts the task that asks the remote, unless there is one.
    fn start(self: &Arc<Self>, options: &Arc<SourceOptions>, asks: Option<Key>) {
        if self.is_asking.swap(true, Ordering::SeqCst) {
            return;
        }
        let (repository, options) = (self.clone(), options.clone());
        tokio::spawn(async move {
            loop {
                repository.again.store(false, Ordering::SeqCst);
                repository.ask(&options, asks.as_ref()).await;
                if repository.again.load(Ordering::SeqCst) {
                    continue;
                }
                repository.is_asking.store(false, Ordering::SeqCst);
                repository.answers.send_modify(|count| *count += 1);
                // A push may have been reported in between.
                if !repository.again.load(Ordering::SeqCst)
                    || repository.is_asking.swap(true, Ordering::SeqCst)
                {
                    return;
                }
            }
        });
    }

    /// Fetches the branches in use, and wakes their builders where something changed, except the one that waits.
    async fn ask(&self, options: &SourceOptions, asks: Option<&Key>) {
        let asked = Instant::now();
        let branches: Vec<Branch> =
            self.users().values().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let fetched = self.fetch(&branches, options).await;
        let is_failure = fetched.is_err();
        let mut new = BTreeMap::new();
        match fetched {
            Ok(tips) => {
                for (branch, tip) in branches.into_iter().zip(tips) {
                    let before = self.known().tips.get(&branch).and_then(|tip| tip.clone().ok());
                    new.insert(branch, self.verified(tip, before.as_ref(), options).await);
                }
            }
            Err(error) => new.extend(branches.into_iter().map(|branch| (branch, Err(error.clone())))),
        }
        let old = {
            let mut known = self.known();
            known.failures = if is_failure { known.failures + 1 } else { 0 };
            known.asked = Some(Instant::now());
            let most = LONGEST_WAIT.max(options.interval);
            let wait = || backoff::after(known.failures, options.interval, most, backoff::random());
            known.due = is_failure.then(|| Instant::now() + wait());
            std::mem::replace(&mut known.tips, new.clone())
        };
        // The one that waits gets its answer from here, if it still does.
        let is_late = Instant::now() >= asked + PATIENCE;
        let moved = |branch: &Branch| match old.get(branch) {
            Some(old) => new.get(branch) != Some(old),
            None => is_late,
        };
        let users = self.users().clone();
        for (user, _) in
            users.iter().filter(|(user, branch)| (is_late || Some(*user) != asks) && moved(branch))
        {
            (options.wake)(user);
        }
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
                if room::is_used_up(&handle.options().folder) {
                    handle.clear().await;
                }
                (Some(credentials_of(secret.as_ref(), options).await?), Some(room::left(&options.folder)))
            }
        };
        match handle.fetch_branches(branches.to_vec(), credentials, limit).await {
            Err(GitError::TooLarge { limit, .. }) if limit < room::REPOSITORY_LIMIT => Err(room::is_short()),
            fetched => Ok(fetched?),
        }
    }

    /// The tip, if it is signed where signatures are required. The history of the branch is not fetched: the signer of the
    /// tip vouches for its content. One that was verified before is not verified again.
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

    /// A builder does not use it any more.
    pub fn forget(&self, user: &Key) {
        self.users().remove(user);
    }

    /// Forgets builders that are gone; the number of those that are left.
    pub fn keep_users(&self, exists: impl Fn(&Key) -> bool) -> usize {
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

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<Key, Branch>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Read again each time, so that they can be rotated.
async fn credentials_of(secret: Option<&Key>, options: &SourceOptions) -> Result<Credentials, TemplateError> {
    let own = match secret {
        Some(secret) => (options.login)(secret.clone()).await?,
        None => None,
    };
    let mut credentials = own.unwrap_or_default();
    credentials.ssh_agent = options.hosts.ssh_agent;
    if credentials.known_hosts.is_empty() {
        credentials.known_hosts.clone_from(&options.hosts.known_hosts);
        credentials.usual_hosts = options.hosts.usual_hosts;
    }
    Ok(credentials)
}

impl Known {
    /// What the remote said of a branch, while that counts.
    fn answer(&self, branch: &Branch, interval: Duration) -> Option<Tip> {
        self.tips.get(branch).filter(|_| !self.is_due(interval)).cloned()
    }

    /// The last answer is older than the interval, or the wait after failures is over.
    fn is_due(&self, interval: Duration) -> bool {
        let now = Instant::now();
        match self.due {
            Some(due) => now >= due,
            None => self.asked.is_none_or(|asked| now >= asked + interval),
        }
    }
}

fn being_fetched() -> TemplateError {
    let message =
        "the template repository is being fetched; the build is decided when that is done".to_owned();
    TemplateError { class: Class::TRANSIENT, message }
}
