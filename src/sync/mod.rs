//! The first Git loop: repository → documents. Hands out the last synced commit as level state.
//!
//! ```text
//! wake: a watched file, a webhook, the interval
//!   └─> git: tip ─> history, verification ─> listing ─> did the input change? ─> blobs ─> parse ─> Synced (a watch)
//! ```
//! The input is everything in the repository but the status folder: templates may lie anywhere, and
//! our own commits, which touch the status folder alone, must wake nobody. An error keeps the last
//! good commit; after a restart while the remote is away, that is the one the clone has.

mod accept;
mod history;
pub mod input;
pub mod prune;
mod reread;
mod state;
mod verification;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;
use tokio::sync::watch as level;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::api::CommitId;
use crate::api::status::LastSynced;
use crate::git::templates::choice::Own;
use crate::git::templates::{At, Templates};
use crate::git::tree::join;
use crate::git::{GitError, Handle, Listing, Tip, backoff};
use crate::manifest::{OBJECT_LIMIT, ObjectSet, SETTINGS_FILE, SourceFile, is_settings};

pub use accept::Accepts;
use accept::Requests;
use history::Verdict;
use input::{Origin, StatusTip};
pub use reread::Reread;
use state::Looked;
pub use state::{Hold, SyncState};

/// First and longest wait after a failure; in between, a watched file or a webhook still wakes.
const RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// The commit the agent works by.
#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    pub commit: CommitId,
    /// Fingerprint of the input without the status path: equal means nothing to do.
    pub input: String,
    pub set: ObjectSet,
    /// Status files as found at this commit: path relative to the status folder, content.
    pub status_files: Vec<(String, Vec<u8>)>,
}

/// Files of a commit → what is in them. Remembers what it likes between commits.
pub type Parse = Box<dyn FnMut(&[SourceFile]) -> ObjectSet + Send>;

/// What syncing gives to others.
#[derive(Clone, Debug)]
pub struct Outputs {
    pub synced: level::Receiver<Option<Arc<Synced>>>,
    pub state: level::Receiver<SyncState>,
    pub templates: Templates,
    /// Has the commit read again that was read last.
    pub reread: Reread,
}

/// What becomes of a tip.
enum Judged {
    /// It is loaded: because a person accepts it, if history alone does not allow it.
    Taken { is_accepted: bool, is_verified: bool },
    /// It is held back, for this reason.
    Held(GitError),
}

/// The loop.
pub struct Sync {
    git: Handle,
    parse: Arc<Mutex<Parse>>,
    now: fn() -> Timestamp,
    /// The commit that was last looked into; not always one that changed anything.
    seen: Option<CommitId>,
    /// The clone may be started from, and was not tried yet.
    resumes: bool,
    /// It was started from.
    from_clone: bool,
    reread: Reread,
    last: Option<LastSynced>,
    requests: Requests,
    /// Why the last look failed, as it was logged.
    failure: Option<String>,
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
            at,
            synced,
            state,
        };
        (sync, outputs)
    }

    /// Lets `run` start by the clone's last commit when the remote is away. Only for a clone that nobody
    /// else's is ahead of: an older commit would take newer objects back.
    pub fn may_start_from_the_clone(&mut self) {
        self.resumes = true;
    }

    /// Goes on from the commit that was synced last in the agent's last life, if it is one of this repository and
    /// branch. `accepts` has what people accept while a tip is held back.
    pub fn go_on_from(&mut self, last: Option<LastSynced>, accepts: Accepts) {
        self.last = last.filter(|last| last.source == history::source(&self.git));
        if let Some(last) = &self.last {
            self.git.note_last_synced(last.commit.clone());
            last.verified.iter().for_each(|commit| self.git.note_verified(commit.clone()));
        }
        self.requests = Requests::new(accepts);
    }

    /// How it goes.
    pub fn state(&self) -> level::Receiver<SyncState> {
        self.state.subscribe()
    }

    /// Looks once. `Ok` is the commit to work by, new or not.
    ///
    /// # Errors
    /// When the repository cannot be read; what was synced before stays.
    pub async fn once(&mut self) -> Result<Arc<Synced>, GitError> {
        let mut result = self.look().await;
        if let Err(error) = &mut result
            && error.holds()
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

    /// Looks whenever woken, and at least every `interval`, until stopped.
    pub async fn run(mut self, interval: Duration, wake: Arc<Notify>, stop: CancellationToken) {
        let _watcher = watch::files(&self.git, &wake);
        let mut failures = 0;
        loop {
            let mut looked = self.look().await;
            if let Err(error) = &mut looked
                && (self.may_resume(error) || self.reread.is_wanted())
            {
                let failure = self.resume().await;
                if let (GitError::Rewritten { missing, .. }, true) = (error, self.synced.borrow().is_none()) {
                    *missing = failure.map(|failure| failure.to_string());
                }
            }
            self.report(looked.as_ref().err());
            let wait = match looked {
                Ok(_) => {
                    failures = 0;
                    interval
                }
                // The remote is well, and a person may push what is good at any time.
                Err(error) if error.is_about_a_commit() => interval,
                Err(_) => {
                    failures += 1;
                    let (first, most) = RETRY;
                    backoff::after(failures, first, most.max(interval), backoff::random())
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = wake.notified() => debug!("woken"),
                () = self.reread.requested() => debug!("the commit is read again"),
                () = backoff::pause(wait) => {}
            }
        }
    }

    async fn look(&mut self) -> Result<Arc<Synced>, GitError> {
        let tip = self.git.fetch().await?;
        (self.resumes, self.from_clone) = (false, false);
        self.take(tip, Origin::Remote).await
    }

    /// The first look failed, or one to read the commit again: what was fetched before is better than nothing. Returns
    /// why that failed, if it did.
    async fn resume(&mut self) -> Option<GitError> {
        let is_first = self.synced.borrow().is_none();
        let taken = match self.git.last_fetched().await {
            Ok(None) => return None,
            Ok(Some(tip)) => self.take(tip, Origin::Clone).await,
            Err(error) => Err(error),
        };
        let taken = match taken {
            Err(error) if error.holds() => self.stay().await,
            taken => taken,
        };
        match taken {
            Ok(synced) if is_first => {
                self.from_clone = true;
                warn!(commit = %synced.commit, "starting by the commit that was fetched last");
                None
            }
            Ok(_) => None,
            Err(error) => {
                warn!(%error, "the commit that was fetched last cannot be started from");
                Some(error)
            }
        }
    }

    /// Is the clone to be started from? It is while a tip is held back, and once while the remote is away.
    fn may_resume(&mut self, error: &GitError) -> bool {
        match error {
            error if error.holds() => self.synced.borrow().is_none(),
            _ => std::mem::take(&mut self.resumes),
        }
    }

    /// Makes the last synced commit the one to work by: the tip is held back.
    async fn stay(&mut self) -> Result<Arc<Synced>, GitError> {
        let commit = self.last.as_ref().ok_or(GitError::Gone)?.commit.clone();
        self.git.obtain(&commit).await?;
        let branch = self.git.branch().unwrap_or_default();
        self.take_commit(Tip { branch, commit, fetched: false }, Origin::Clone).await
    }

    /// Makes a tip the commit to work by, unless it is held back.
    async fn take(&mut self, tip: Tip, from: Origin) -> Result<Arc<Synced>, GitError> {
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
            Judged::Taken { is_accepted, is_verified } => (is_accepted, is_verified),
            Judged::Held(held) => {
                if let Some(accepted) = request {
                    warn!(%accepted, tip = %commit, "the accepted commit does not clear the tip: it stays held back");
                    self.requests.answer(accepted).await;
                }
                return Err(held);
            }
        };
        let synced = self.take_commit(tip, from).await?;
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
            info!(%accepted, %commit, "a person accepted the tip, and it is loaded");
            self.requests.answer(accepted).await;
        }
        Ok(synced)
    }

    /// Judges a tip by its history, and then by its signatures.
    async fn judge(&self, tip: &CommitId, accepted: Option<&CommitId>) -> Result<Judged, GitError> {
        let last = self.last.as_ref();
        let verdict = history::judge(history::facts(&self.git, last, accepted, tip).await?);
        if let (Verdict::Hold, Some(last)) = (verdict, last) {
            let last = last.commit.clone();
            return Ok(Judged::Held(GitError::Rewritten { last, tip: tip.clone(), missing: None }));
        }
        match verification::verify(&self.git, tip, last, accepted, (self.now)()).await {
            Ok(is_verified) => Ok(Judged::Taken { is_accepted: verdict == Verdict::Accept, is_verified }),
            Err(error) if error.holds() => Ok(Judged::Held(error)),
            Err(error) => Err(error),
        }
    }

    /// Makes a commit the one to work by.
    async fn take_commit(&mut self, tip: Tip, from: Origin) -> Result<Arc<Synced>, GitError> {
        let again = self.reread.take();
        let before = self.synced.borrow().clone().filter(|_| !again);
        let taken = self.take_after(before, tip, from).await;
        if again && taken.is_err() {
            self.reread.put_back();
        }
        taken
    }

    /// The same, unless its input is that of the one before.
    async fn take_after(
        &mut self,
        before: Option<Arc<Synced>>,
        tip: Tip,
        from: Origin,
    ) -> Result<Arc<Synced>, GitError> {
        if let Some(same) = before.as_ref().filter(|_| self.seen.as_ref() == Some(&tip.commit)) {
            return Ok(Arc::clone(same));
        }
        let listing = self.git.list(&tip.commit).await?;
        if let Some((path, why)) = listing.unreadable_ignore.clone() {
            // What it leaves out would become objects and inputs: work goes on by the last good commit.
            return Err(GitError::Path { path, why });
        }
        let path = self.git.options().path.clone();
        if !path.is_empty() && !listing.has_folder(&path) {
            return Err(GitError::NoPath { path, commit: tip.commit });
        }
        let synced = match before {
            Some(same) if same.input == listing.fingerprint(&self.status_folder(&same.set)) => same,
            _ => self.load(&tip.commit, &listing, from).await?,
        };
        self.seen = Some(tip.commit);
        Ok(synced)
    }

    /// Reads everything at a commit whose input is new, and hands it out.
    async fn load(
        &mut self,
        commit: &CommitId,
        listing: &Arc<Listing>,
        from: Origin,
    ) -> Result<Arc<Synced>, GitError> {
        let set = self.read(listing).await?;
        if set.without_settings {
            // Owner, accounts and paths would be guessed: work goes on by the last good commit, or not at all.
            let words = set.problems.iter().find(|problem| is_settings(&problem.file));
            let (path, why) = words.map_or_else(
                || (SETTINGS_FILE.to_owned(), "cannot be read".to_owned()),
                |problem| (problem.file.clone(), problem.message.clone()),
            );
            return Err(GitError::Path { path, why });
        }
        let status = self.status_folder(&set);
        if status.is_empty() {
            let why = "must name a folder below the path that is read".to_owned();
            return Err(GitError::Path { path: "statusPath".to_owned(), why });
        }
        let status_files = self.status_files(&set, listing, &status, from).await?;
        let input = listing.fingerprint(&status);
        info!(%commit, objects = set.documents.len(), problems = set.problems.len(), "synced");
        let synced = Arc::new(Synced { commit: commit.clone(), input, set, status_files });
        // Templates first: whoever is woken by the new commit finds its templates.
        let path = &self.git.options().path;
        let files = synced.set.own_files.iter().map(|file| join(path, file)).collect();
        self.at.send_replace(Some(At { commit: commit.clone(), own: Own { status, files } }));
        self.synced.send_replace(Some(Arc::clone(&synced)));
        Ok(synced)
    }

    /// The status files, unless they are on a branch of their own that is not trusted.
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

    /// Reads the manifests of a commit, off the async threads: it takes its time.
    async fn read(&self, listing: &Arc<Listing>) -> Result<ObjectSet, GitError> {
        let sources = input::sources(&self.git, listing).await?;
        let parse = Arc::clone(&self.parse);
        let work = move || {
            let mut parse = parse.lock().unwrap_or_else(PoisonError::into_inner);
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
                true => "working by the last good commit",
                false => "nothing is done until it can be",
            };
            warn!(error, "the repository cannot be synced: {then}");
        }
        self.failure = failure;
        let looked = Looked {
            commit: self.seen.clone(),
            from_clone: self.from_clone,
            last: self.last.clone(),
            at: (self.now)(),
        };
        self.state.send_if_modified(|state| {
            let new = state.after(looked, error);
            let changed = !new.is_like(state);
            *state = new;
            changed
        });
    }
}
