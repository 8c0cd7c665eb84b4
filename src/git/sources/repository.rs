//! One template repository: the tips of the branches that builders use, fetched together and at most once per interval.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::SourceOptions;
use crate::api::{Class, CommitId, Key};
use crate::git::auth::Credentials;
use crate::git::signatures::Range;
use crate::git::templates::{Resolver, TemplateError};
use crate::git::{GitError, Handle, Tip as Fetched, backoff};

/// Longest wait after failures: an account that is refused must not be locked.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A branch as builders name it; `None` is the remote's default.
type Branch = Option<String>;
type Tip = Result<CommitId, TemplateError>;

/// One clone, and what the remote said last.
pub struct Repository {
    pub resolver: Resolver,
    /// Whose credentials are used.
    secret: Option<Key>,
    /// Which builder uses which branch.
    users: Mutex<BTreeMap<Key, Branch>>,
    /// Locked while the remote is asked: all who ask meanwhile get the same answer.
    known: tokio::sync::Mutex<Known>,
}

#[derive(Default)]
struct Known {
    tips: BTreeMap<Branch, Tip>,
    /// When the remote was asked last.
    asked: Option<Instant>,
    /// Failures in a row, and when to ask again.
    failures: u32,
    due: Option<Instant>,
}

impl Repository {
    pub fn new(handle: Handle, secret: Option<Key>) -> Self {
        let resolver = Resolver::new(handle);
        Self { resolver, secret, users: Mutex::default(), known: tokio::sync::Mutex::default() }
    }

    /// Is `url` an address of this repository?
    pub fn is_at(&self, url: &str) -> bool {
        self.resolver.handle().options().address.is_same(url)
    }

    /// The commit that a branch is at, for a builder. Asks the remote only where the last answer does not say.
    pub async fn tip(&self, branch: Branch, user: &Key, options: &SourceOptions) -> Tip {
        self.users().insert(user.clone(), branch.clone());
        let mut known = self.known.lock().await;
        if !known.tips.contains_key(&branch) || known.is_due(options.interval) {
            self.ask(&mut known, options, Some(user)).await;
        }
        known.tips.get(&branch).cloned().unwrap_or_else(|| Err(not_asked()))
    }

    /// Asks the remote if the interval is over.
    pub async fn refresh_if_due(&self, options: &SourceOptions) {
        let mut known = self.known.lock().await;
        if known.is_due(options.interval) {
            self.ask(&mut known, options, None).await;
        }
    }

    /// Asks the remote now.
    pub async fn refresh(&self, options: &SourceOptions) {
        let mut known = self.known.lock().await;
        self.ask(&mut known, options, None).await;
    }

    /// Fetches the branches in use, and wakes their builders where something changed, except the one that asks.
    async fn ask(&self, known: &mut Known, options: &SourceOptions, asks: Option<&Key>) {
        let branches: Vec<Branch> =
            self.users().values().cloned().collect::<BTreeSet<_>>().into_iter().collect();
        let fetched = match self.credentials(options).await {
            Ok(credentials) => {
                let handle = self.resolver.handle();
                handle.fetch_branches(branches.clone(), credentials).await.map_err(TemplateError::from)
            }
            Err(error) => Err(error),
        };
        let new: BTreeMap<Branch, Tip> = match fetched {
            Ok(tips) => {
                known.failures = 0;
                let mut new = BTreeMap::new();
                for (branch, tip) in branches.into_iter().zip(tips) {
                    let before = known.tips.get(&branch).and_then(|tip| tip.as_ref().ok());
                    let tip = self.verified(tip, before, options).await;
                    new.insert(branch, tip);
                }
                new
            }
            Err(error) => {
                known.failures += 1;
                branches.into_iter().map(|branch| (branch, Err(error.clone()))).collect()
            }
        };
        let now = Instant::now();
        known.asked = Some(now);
        known.due = (known.failures > 0).then(|| {
            let most = LONGEST_WAIT.max(options.interval);
            now + backoff::after(known.failures, options.interval, most, backoff::random())
        });
        let old = std::mem::replace(&mut known.tips, new);
        // Those who wait for a first answer get it from here.
        let moved = |branch: &Branch| old.get(branch).is_some_and(|old| known.tips.get(branch) != Some(old));
        let users = self.users().clone();
        for (user, _) in users.iter().filter(|(user, branch)| Some(*user) != asks && moved(branch)) {
            (options.wake)(user);
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
        match self.resolver.handle().verify(&range, signers).await {
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

    /// Read again each time, so that they can be rotated.
    async fn credentials(&self, options: &SourceOptions) -> Result<Option<Credentials>, TemplateError> {
        let own = match &self.secret {
            Some(secret) => (options.login)(secret.clone()).await?,
            None => None,
        };
        let mut credentials = own.unwrap_or_default();
        if credentials.known_hosts.is_empty() {
            credentials.known_hosts.clone_from(&options.hosts.known_hosts);
            credentials.usual_hosts = options.hosts.usual_hosts;
        }
        Ok(Some(credentials))
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
        self.resolver.handle().clear().await;
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<Key, Branch>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// The last answer is older than the interval, or the wait after failures is over.
    fn is_due(&self, interval: Duration) -> bool {
        let now = Instant::now();
        match self.due {
            Some(due) => now >= due,
            None => self.asked.is_none_or(|asked| now >= asked + interval),
        }
    }
}

fn not_asked() -> TemplateError {
    TemplateError { class: Class::TRANSIENT, message: "the template repository was not read yet".to_owned() }
}
