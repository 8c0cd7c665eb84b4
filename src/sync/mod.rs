//! The first Git loop: repository → documents. Provides the last synced commit in a watch channel.
//!
//! ```text
//! wake: a watched file, a webhook, the interval
//!   └─> git: tip ─> history, verification ─> changed paths ─> do manifests differ? ──no──> Synced (a watch)
//!                                                                 └─yes─> listing ─> blobs ─> parse ──┘
//! ```
//! The input is everything in the repository except the status folder: templates can be anywhere, and the agent's own
//! commits, which change only the status folder, must not cause work. After an error, the last good commit stays in
//! force; after a restart while the remote cannot be reached, this is the last commit in the clone.

mod accept;
pub mod difference;
mod edited;
mod history;
pub mod input;
mod load;
mod owner;
pub mod prune;
mod reread;
mod state;
mod status_files;
mod verification;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::watch as level;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::api::CommitId;
use crate::api::backoff;
use crate::api::status::LastSynced;
use crate::git::templates::{At, Templates};
use crate::git::{GitError, Handle, Tip};
use crate::manifest::{Edited, ObjectSet, Reader, SourceFile};
use crate::wait;

pub use accept::Accepts;
use accept::Requests;
pub use difference::Difference;
use edited::Reading;
use input::Origin;
pub use reread::Reread;
use state::Attempt;
pub use state::{Hold, SyncState};
pub use status_files::StatusFile;

/// First and longest wait after a failure. A watched file or a webhook ends the wait.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The synced commit, which declares the desired state.
#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    pub commit: CommitId,
    /// The same set as that of the commit before, if none of its manifests differs.
    pub set: Arc<ObjectSet>,
    /// Status files as found when the set was read.
    pub status_files: Arc<Vec<StatusFile>>,
    /// What differs from the commit that was synced before; `None` for the first one.
    pub difference: Option<Difference>,
}

/// Parses the files of a commit. May cache anything between commits.
pub type Parse = Box<dyn Parser>;

/// Parses files of commits, one commit after the other.
pub trait Parser: Send {
    /// Reads all files of a commit.
    fn read(&mut self, files: &[SourceFile]) -> ObjectSet;
    /// Reads a commit in which only these files differ from the one that was read last. Returns `None` if all files must
    /// be read.
    fn reread(&mut self, _edited: &Edited) -> Option<ObjectSet> {
        None
    }
    /// Forgets what the last reading found, because the content of a file could not be read after all.
    fn discard(&mut self) {}
    /// May save what the last reading found, because the content of every file could be read.
    fn save(&mut self) {}
}

impl Parser for Reader {
    fn read(&mut self, files: &[SourceFile]) -> ObjectSet {
        Reader::read(self, files)
    }
    fn reread(&mut self, edited: &Edited) -> Option<ObjectSet> {
        Reader::reread(self, edited)
    }
    fn discard(&mut self) {
        Reader::discard(self);
    }
}

impl<F: FnMut(&[SourceFile]) -> ObjectSet + Send> Parser for F {
    fn read(&mut self, files: &[SourceFile]) -> ObjectSet {
        self(files)
    }
}

/// The outputs of the sync loop.
#[derive(Clone, Debug)]
pub struct Outputs {
    pub synced: level::Receiver<Option<Arc<Synced>>>,
    pub state: level::Receiver<SyncState>,
    pub templates: Templates,
    /// Requests that the last commit is read again.
    pub reread: Reread,
}

/// The loop.
pub struct Sync {
    git: Handle,
    parse: Arc<Mutex<Parse>>,
    now: fn() -> Timestamp,
    /// The last commit that was read, even if it changed nothing.
    seen: Option<CommitId>,
    /// The agent may start from the clone, and has not tried this yet.
    resumes: bool,
    /// The agent started from the clone.
    from_clone: bool,
    reread: Reread,
    last: Option<LastSynced>,
    requests: Requests,
    /// Why the last sync failed, as it was logged.
    failure: Option<String>,
    /// The commit that was synced before the current one.
    before: Option<At>,
    /// Fingerprint of the listing that the set was read from, without the status path; `None` if the synced commit has
    /// the set of another one.
    fingerprint: Option<String>,
    /// Whether a link in that listing has the name of a manifest.
    links_to_manifests: bool,
    /// What is known of the synced commit; `None` if the next one must be read as a whole.
    reading: Option<Reading>,
    at: level::Sender<Option<At>>,
    synced: level::Sender<Option<Arc<Synced>>>,
    state: level::Sender<SyncState>,
}

impl Sync {
    pub fn new(git: Handle, parse: Parse, now: fn() -> Timestamp) -> (Self, Outputs) {
        let (at, templates_at) = level::channel(None);
        let (synced, synced_out) = level::channel(None);
        let (state, state_out) = level::channel(SyncState::new(now()));
        let templates = Templates::new(git.clone(), templates_at);
        let reread = Reread::default();
        let outputs = Outputs { synced: synced_out, state: state_out, templates, reread: reread.clone() };
        let parse = Arc::new(Mutex::new(parse));
        let sync = Self {
            git,
            parse,
            now,
            seen: None,
            resumes: false,
            from_clone: false,
            reread,
            last: None,
            requests: Requests::default(),
            failure: None,
            before: None,
            fingerprint: None,
            links_to_manifests: false,
            reading: None,
            at,
            synced,
            state,
        };
        (sync, outputs)
    }

    /// Allows `run` to start from the last commit in the clone if the remote cannot be reached. Call it only if no
    /// other agent can have synced a newer commit: an older commit would revert newer objects.
    pub fn allow_start_from_clone(&mut self) {
        self.resumes = true;
    }

    /// Continues from the commit that was synced last before the restart, if it belongs to this repository and branch.
    /// `accepts` has the requests of people to accept a tip that is held back.
    pub fn continue_from(&mut self, last: Option<LastSynced>, accepts: Accepts) {
        self.last = last.filter(|last| last.source == history::source(&self.git));
        if let Some(last) = &self.last {
            self.git.note_last_synced(last.commit.clone());
            last.verified.iter().for_each(|commit| self.git.note_verified(commit.clone()));
        }
        self.requests = Requests::new(accepts);
    }

    /// The state of the sync.
    pub fn state(&self) -> level::Receiver<SyncState> {
        self.state.subscribe()
    }

    /// Syncs once. Returns the commit in force, new or not.
    ///
    /// # Errors
    /// The repository cannot be read. The last synced commit stays in force.
    pub async fn once(&mut self) -> Result<Arc<Synced>, GitError> {
        let mut result = self.attempt().await;
        if let Err(error) = &mut result
            && error.holds_tip_back()
        {
            let stayed = self.stay().await;
            if let GitError::Rewritten { missing, .. } = error {
                *missing = stayed.as_ref().err().map(ToString::to_string);
            }
            self.report(result.as_ref().err());
            return stayed.or(result);
        }
        self.report(result.as_ref().err());
        result
    }

    /// Syncs after each wakeup, and at least every `interval`, until it is stopped.
    pub async fn run(mut self, interval: Duration, wake: Arc<Notify>, stop: CancellationToken) {
        let _watcher = watch::files(&self.git, &wake);
        let mut failures = 0;
        loop {
            let mut result = self.attempt().await;
            if let Err(error) = &mut result
                && (self.may_resume(error) || self.reread.is_wanted())
            {
                let failure = self.resume().await;
                if let (GitError::Rewritten { missing, .. }, true) = (error, self.synced.borrow().is_none()) {
                    *missing = failure.map(|failure| failure.to_string());
                }
            }
            self.report(result.as_ref().err());
            let wait = match result {
                Ok(_) => {
                    failures = 0;
                    interval
                }
                // The remote works, and a good commit can be pushed at any time.
                Err(error) if error.is_about_a_commit() => interval,
                Err(_) => {
                    failures += 1;
                    let (first, most) = RETRY;
                    backoff::jittered(backoff::doubled(first, most.max(interval), failures), wait::random())
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wake.notified() => debug!("woken"),
                () = self.reread.requested() => debug!("the commit is read again"),
                () = wait::pause(wait) => {}
            }
        }
    }

    async fn attempt(&mut self) -> Result<Arc<Synced>, GitError> {
        let tip = self.git.fetch().await?;
        (self.resumes, self.from_clone) = (false, false);
        self.load_tip(tip, Origin::Remote).await
    }

    /// Loads the commit that was fetched last, because the first sync, or one to read the commit again, failed. Returns
    /// why that failed, too, if so.
    async fn resume(&mut self) -> Option<GitError> {
        let is_first = self.synced.borrow().is_none();
        let loaded = match self.git.last_fetched().await {
            Ok(None) => return None,
            Ok(Some(tip)) => self.load_tip(tip, Origin::Clone).await,
            Err(error) => Err(error),
        };
        let loaded = match loaded {
            Err(error) if error.holds_tip_back() => self.stay().await,
            loaded => loaded,
        };
        match loaded {
            Ok(synced) if is_first => {
                self.from_clone = true;
                warn!(commit = %synced.commit, "starting from the commit that was fetched last");
                None
            }
            Ok(_) => None,
            Err(error) => {
                warn!(%error, "cannot start from the commit that was fetched last");
                Some(error)
            }
        }
    }

    /// Returns true if the agent must start from the clone: while a tip is held back, and once if the remote cannot be
    /// reached.
    fn may_resume(&mut self, error: &GitError) -> bool {
        match error {
            error if error.holds_tip_back() => self.synced.borrow().is_none(),
            _ => std::mem::take(&mut self.resumes),
        }
    }

    /// Loads the last synced commit, because the tip is held back.
    async fn stay(&mut self) -> Result<Arc<Synced>, GitError> {
        let commit = self.last.as_ref().ok_or(GitError::NotSynced)?.commit.clone();
        self.git.obtain(&commit).await?;
        let branch = self.git.branch().unwrap_or_default();
        self.load_commit(Tip { branch, commit, fetched: false }, Origin::Clone).await
    }

    fn report(&mut self, error: Option<&GitError>) {
        let failure = error.map(ToString::to_string);
        if let Some(error) = failure.as_ref().filter(|_| failure != self.failure) {
            let then = match self.synced.borrow().is_some() {
                true => "the last good commit stays in force",
                false => "nothing is reconciled until it can be",
            };
            warn!(error, "the repository cannot be synced; {then}");
        }
        self.failure = failure;
        let attempt = Attempt {
            commit: self.seen.clone(),
            from_clone: self.from_clone,
            last: self.last.clone(),
            at: (self.now)(),
        };
        self.state.send_if_modified(|state| {
            let new = state.after(attempt, error);
            let changed = !new.is_like(state);
            *state = new;
            changed
        });
    }
}
