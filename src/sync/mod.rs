//! The first Git loop: repository → documents. Provides the last synced commit in a watch channel.
//!
//! ```text
//! wake: a watched file, a webhook, the interval
//!   └─> git: tip ─> history, verification ─> listing ─> did the input change? ─> blobs ─> parse ─> Synced (a watch)
//! ```
//! The input is everything in the repository except the status folder: templates can be anywhere, and the agent's own
//! commits, which change only the status folder, must not cause work. After an error, the last good commit stays in
//! force; after a restart while the remote cannot be reached, this is the last commit in the clone.

mod accept;
pub mod difference;
mod history;
pub mod input;
mod owner;
pub mod prune;
mod reread;
mod state;
mod verification;
mod watch;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::watch as level;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api::CommitId;
use crate::api::backoff;
use crate::api::lock::lock;
use crate::api::paths::join;
use crate::api::status::LastSynced;
use crate::git::templates::choice::OpsyFiles;
use crate::git::templates::{At, Templates};
use crate::git::{GitError, Handle, Listing, Tip};
use crate::manifest::{OBJECT_LIMIT, ObjectSet, SETTINGS_FILE, SourceFile, is_settings};
use crate::wait;

pub use accept::Accepts;
use accept::Requests;
pub use difference::Difference;
use difference::{Changes, Kept, Links};
use history::Verdict;
use input::{Origin, StatusTip};
pub use reread::Reread;
use state::Attempt;
pub use state::{Hold, SyncState};

/// First and longest wait after a failure. A watched file or a webhook ends the wait.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The synced commit, which declares the desired state.
#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    pub commit: CommitId,
    /// The same set as that of the commit before, if none of its manifests differs.
    pub set: Arc<ObjectSet>,
    /// Status files as found when the set was read: path relative to the status folder, content.
    pub status_files: Arc<Vec<(String, Vec<u8>)>>,
    /// What differs from the commit that was synced before; `None` for the first one.
    pub difference: Option<Difference>,
}

/// Parses the files of a commit. May cache anything between commits.
pub type Parse = Box<dyn FnMut(&[SourceFile]) -> ObjectSet + Send>;

/// The outputs of the sync loop.
#[derive(Clone, Debug)]
pub struct Outputs {
    pub synced: level::Receiver<Option<Arc<Synced>>>,
    pub state: level::Receiver<SyncState>,
    pub templates: Templates,
    /// Requests that the last commit is read again.
    pub reread: Reread,
}

/// The decision about a tip.
enum Judged {
    /// It is loaded. `is_accepted` means that only the request of a person allows this.
    Loaded { is_accepted: bool, is_verified: bool },
    /// It is held back, for this reason.
    Held(GitError),
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
    /// The symbolic links in that listing.
    links: Links,
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
            links: Links::default(),
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

    /// Loads a tip, unless it is held back.
    async fn load_tip(&mut self, tip: Tip, from: Origin) -> Result<Arc<Synced>, GitError> {
        let commit = tip.commit.clone();
        let mut judged = self.judge(&commit, None).await?;
        let mut request = None;
        if matches!(judged, Judged::Held(_)) && from == Origin::Remote {
            request = self.requests.pending().await;
            if request.is_some() {
                judged = self.judge(&commit, request.as_ref()).await?;
            }
        }
        let (is_accepted, is_verified) = match judged {
            Judged::Loaded { is_accepted, is_verified } => (is_accepted, is_verified),
            Judged::Held(held) => {
                if let Some(accepted) = request {
                    warn!(%accepted, tip = %commit, "the accepted commit does not release the tip");
                    self.requests.answer(accepted).await;
                }
                return Err(held);
            }
        };
        let synced = self.load_commit(tip, from).await?;
        if is_accepted || synced.commit == commit {
            self.git.note_last_synced(commit.clone());
            let source = history::source(&self.git);
            self.last = Some(LastSynced { commit: commit.clone(), source, verified: None });
        }
        if let Some(last) = self.last.as_mut().filter(|_| is_verified) {
            self.git.note_verified(commit.clone());
            last.verified = Some(commit.clone());
        }
        if let Some(accepted) = request {
            info!(%accepted, %commit, "the tip was accepted by a person and is loaded");
            self.requests.answer(accepted).await;
        }
        Ok(synced)
    }

    /// Decides about a tip: first by its history, then by its signatures.
    async fn judge(&self, tip: &CommitId, accepted: Option<&CommitId>) -> Result<Judged, GitError> {
        let last = self.last.as_ref();
        let verdict = history::judge(history::facts(&self.git, last, accepted, tip).await?);
        if let (Verdict::Hold, Some(last)) = (verdict, last) {
            let last = last.commit.clone();
            return Ok(Judged::Held(GitError::Rewritten { last, tip: tip.clone(), missing: None }));
        }
        match verification::verify(&self.git, tip, last, accepted, (self.now)()).await {
            Ok(is_verified) => Ok(Judged::Loaded { is_accepted: verdict == Verdict::Accept, is_verified }),
            Err(error) if error.holds_tip_back() => Ok(Judged::Held(error)),
            Err(error) => Err(error),
        }
    }

    /// Loads a commit.
    async fn load_commit(&mut self, tip: Tip, from: Origin) -> Result<Arc<Synced>, GitError> {
        let again = self.reread.take();
        let before = self.synced.borrow().clone().filter(|_| !again);
        let loaded = self.load_after(before, tip, from).await;
        if again && loaded.is_err() {
            self.reread.put_back();
        }
        loaded
    }

    /// Loads a commit, unless its input is the same as that of `before`. Only what differs from `before` is read, if that
    /// suffices.
    async fn load_after(
        &mut self,
        before: Option<Arc<Synced>>,
        tip: Tip,
        from: Origin,
    ) -> Result<Arc<Synced>, GitError> {
        if let Some(same) = before.as_ref().filter(|_| self.seen.as_ref() == Some(&tip.commit)) {
            return Ok(Arc::clone(same));
        }
        let at = self.at.borrow().clone().filter(|_| before.is_some());
        let changes = match at {
            Some(at) => Some(Changes::between(&self.git, at, &tip.commit).await),
            None => None,
        };
        let kept = changes.as_ref().map_or(Kept::Nothing, |changes| changes.kept(self.links));
        let synced = match (before, changes) {
            // A commit of the agent's own, most likely.
            (Some(same), _) if kept == Kept::All => same,
            (Some(before), Some(changes)) if kept == Kept::Manifests => {
                self.load_again(&before, &tip.commit, &changes)
            }
            (before, changes) => self.load_listing(before, &tip.commit, changes, from).await?,
        };
        self.seen = Some(tip.commit);
        Ok(synced)
    }

    /// Loads a commit that has the same manifests as the one before.
    fn load_again(&mut self, before: &Synced, commit: &CommitId, changes: &Changes) -> Arc<Synced> {
        info!(%commit, "synced: no manifest differs");
        self.fingerprint = None;
        let at = At { commit: commit.clone(), opsy_files: Arc::clone(&changes.from.opsy_files) };
        let synced = Synced {
            commit: commit.clone(),
            set: Arc::clone(&before.set),
            status_files: Arc::clone(&before.status_files),
            difference: Some(changes.difference(&at)),
        };
        self.before = Some(changes.from.clone());
        self.announce(at, synced)
    }

    /// Loads a commit by the list of its files, unless the list is the same as before.
    async fn load_listing(
        &mut self,
        before: Option<Arc<Synced>>,
        commit: &CommitId,
        changes: Option<Changes>,
        from: Origin,
    ) -> Result<Arc<Synced>, GitError> {
        let listing = self.git.list(commit).await?;
        if let Some((path, why)) = listing.unreadable_ignore.clone() {
            // Ignored files would become objects and inputs. The last good commit stays in force.
            return Err(GitError::Path { path, why });
        }
        let path = self.git.options().path.clone();
        if !path.is_empty() && !listing.has_folder(&path) {
            return Err(GitError::NoPath { path, commit: commit.clone() });
        }
        if let Some(same) = before
            && self.fingerprint == Some(listing.fingerprint(&self.status_folder(&same.set)))
        {
            return Ok(same);
        }
        self.load(commit, &listing, changes, from).await
    }

    /// Reads everything of a commit whose input is new, and sends it to the receivers.
    async fn load(
        &mut self,
        commit: &CommitId,
        listing: &Arc<Listing>,
        changes: Option<Changes>,
        from: Origin,
    ) -> Result<Arc<Synced>, GitError> {
        let set = self.read(listing).await?;
        if set.without_settings {
            // Owner, accounts and paths would be guesses. The last good commit stays in force, if there is one.
            let words = set.problems.iter().find(|problem| is_settings(&problem.file));
            let (path, why) = words.map_or_else(
                || (SETTINGS_FILE.to_owned(), "cannot be read".to_owned()),
                |problem| (problem.file.clone(), problem.message.clone()),
            );
            return Err(GitError::Path { path, why });
        }
        let status = self.status_folder(&set);
        if status.is_empty() {
            let why = "must be a directory below the path that is read".to_owned();
            return Err(GitError::Path { path: "statusPath".to_owned(), why });
        }
        let status_files = self.status_files(&set, listing, &status, from).await?;
        info!(%commit, objects = set.documents.len(), problems = set.problems.len(), "synced");
        self.fingerprint = Some(listing.fingerprint(&status));
        self.links = Links::of(listing);
        let path = &self.git.options().path;
        let files = set.own_files.iter().map(|file| join(path, file)).collect();
        let opsy_files = Arc::new(OpsyFiles { status, files });
        let at = At { commit: commit.clone(), opsy_files };
        let difference = self.difference(&at, changes).await;
        let (set, status_files) = (Arc::new(set), Arc::new(status_files));
        Ok(self.announce(at, Synced { commit: commit.clone(), set, status_files, difference }))
    }

    /// What differs from the commit that was synced before, if there is one.
    async fn difference(&mut self, now: &At, changes: Option<Changes>) -> Option<Difference> {
        // A commit that is read again is compared with the one before it: the first reading may not have been loaded.
        let before = self.at.borrow().clone().filter(|before| before.commit != now.commit);
        self.before = before.or(self.before.take());
        let before = self.before.clone()?;
        let changes = match changes.filter(|changes| changes.from == before) {
            Some(changes) => changes,
            None => Changes::between(&self.git, before, &now.commit).await,
        };
        Some(changes.difference(now))
    }

    /// Sends a commit to the receivers.
    fn announce(&self, at: At, synced: Synced) -> Arc<Synced> {
        let synced = Arc::new(synced);
        // Templates first, so that every receiver of the new commit finds its templates.
        self.at.send_replace(Some(at));
        self.synced.send_replace(Some(Arc::clone(&synced)));
        synced
    }

    /// The status files, unless they are on a separate branch that is not trusted.
    async fn status_files(
        &self,
        set: &ObjectSet,
        listing: &Listing,
        folder: &str,
        from: Origin,
    ) -> Result<Vec<(String, Vec<u8>)>, GitError> {
        let tip = input::status_tip(&self.git, &set.settings, from).await?;
        match tip {
            StatusTip::Here => input::status_files(&self.git, listing, folder).await,
            StatusTip::Elsewhere(Some(tip))
                if verification::is_trusted(&self.git, &tip.commit, (self.now)()).await? =>
            {
                input::status_files(&self.git, &*self.git.list(&tip.commit).await?, folder).await
            }
            StatusTip::Elsewhere(_) => Ok(Vec::new()),
        }
    }

    /// Reads the manifests of a commit, on a thread for blocking work, because it can take long.
    async fn read(&self, listing: &Arc<Listing>) -> Result<ObjectSet, GitError> {
        let sources = input::sources(&self.git, listing).await?;
        let parse = Arc::clone(&self.parse);
        let work = move || {
            let mut parse = lock(&parse);
            let set = parse(&sources.files);
            (set, sources)
        };
        let done = tokio::task::spawn_blocking(work).await;
        let (mut set, sources) = done.map_err(|error| {
            let why = format!("its manifests cannot be parsed: {error}");
            GitError::Path { path: "the commit".to_owned(), why }
        })?;
        if let Some(error) = sources.failure() {
            return Err(error);
        }
        if set.too_many_objects {
            let why = format!("declares more than {OBJECT_LIMIT} objects");
            return Err(GitError::Path { path: "the commit".to_owned(), why });
        }
        set.problems.extend(sources.problems);
        set.problems.sort();
        Ok(set)
    }

    /// The status folder from the root of the repository.
    fn status_folder(&self, set: &ObjectSet) -> String {
        self.git.status_folder(set.settings.status_path())
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
