//! The second Git loop: status → repository. After a quiet period, it renders the status files and publishes those that
//! differ as one batch: by a commit to the branch (`commits`), or by a pull request (`pull_requests`). After a refusal or
//! an outage it backs off and reports the state; builds and rollouts are not affected.

mod change;
mod commits;
mod error;
mod former;
mod message;
mod pull_request_text;
mod pull_requests;
pub mod render;
mod schedule;
pub mod seeds;
mod setters;
mod state;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::backoff;
use crate::api::{Class, CommitId, Owner, duration, reasons};
use crate::forge::pull_request::Known;
use crate::git::commit::{Edit, Outcome, Settled};
use crate::git::{GitError, Handle};
use crate::manifest::setters::{Found, Reference};
use crate::settings::{PublishMode, RepoSettings};
use crate::wait;

use error::PublishError;
use former::Former;
pub use pull_requests::{Connect, branch as pull_request_branch, is_branch as is_pull_request_branch};
use schedule::Schedule;
use setters::SetterFiles;
pub use state::Publishing;

/// The default quiet period: long enough for related changes of several objects to be one commit.
const QUIET: Duration = Duration::from_secs(2);
/// First and longest wait after a refusal or failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// The desired content of a status file.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// Relative to the status folder.
    pub path: String,
    pub edit: Edit,
    /// The object that it describes; `None` for a file about all objects.
    pub resource: Option<String>,
    /// What happened, in a few words: `eks-node built ami-…`.
    pub summary: Option<String>,
    /// Further trailers, like `Opsy-Image`.
    pub trailers: Vec<(&'static str, String)>,
    /// An identifier of the data that the content is rendered from, if there is one: equal identifiers mean equal
    /// content.
    pub version: Option<String>,
}

/// Returns the settings of the synced commit; `None` before the first sync.
pub type Settings = Arc<dyn Fn() -> Option<RepoSettings> + Send + Sync>;
/// The files of all objects. It knows which of them the branch has, as far as the loop says so.
pub trait Content: Send + Sync {
    /// Returns the files with their desired content, except for those that the branch is known to have.
    fn render(&self) -> Batch;
    /// The branch has all files of the last batch.
    fn published(&self);
    /// It is not known any more what the branch has.
    fn forget(&self);
    /// Returns the owner of the objects; `None` before a commit is loaded.
    fn owner(&self) -> Option<Owner> {
        None
    }
    /// Returns the loaded commit, in whose files setters are looked for.
    fn commit(&self) -> Option<CommitId> {
        None
    }
    /// Returns what a setter refers to.
    fn find(&self, _reference: &Reference) -> Found {
        Found::Pending
    }
    /// Returns why setters must not edit a file of the commit, which `.opsyignore` excludes if `is_ignored`.
    fn refusal(&self, _path: &str, _is_ignored: bool) -> Option<String> {
        None
    }
}

/// Content that returns all files each time.
impl<F: Fn() -> Batch + Send + Sync> Content for F {
    fn render(&self) -> Batch {
        self()
    }
    fn published(&self) {}
    fn forget(&self) {}
}

/// The files to publish.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub files: Vec<Rendered>,
    /// More files follow when the work that is in progress ends.
    pub is_incomplete: bool,
}

/// A handle of the loop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    wake: Arc<Notify>,
    flush: mpsc::Sender<oneshot::Sender<Publishing>>,
    state: watch::Receiver<Publishing>,
    succeeded: watch::Receiver<Option<Timestamp>>,
}

impl Publisher {
    /// Reports a change of a status or of the remote. A batch is published after the quiet period.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Publishes now, without waiting for a backoff, for shutdown and `--once`. Returns `None` if it takes longer than
    /// `limit`.
    pub async fn flush(&self, limit: Duration) -> Option<Publishing> {
        let (reply, answer) = oneshot::channel();
        let ask = async {
            self.flush.send(reply).await.ok()?;
            answer.await.ok()
        };
        tokio::time::timeout(limit, ask).await.ok().flatten()
    }

    pub fn state(&self) -> watch::Receiver<Publishing> {
        self.state.clone()
    }

    /// When the repository was last known to have the desired content.
    pub fn succeeded(&self) -> Option<Timestamp> {
        *self.succeeded.borrow()
    }
}

/// Where the files are published. As long as it is the same, what was published is there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    branch: String,
    folder: String,
    at: At,
}

/// What is there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum At {
    /// The tree ID of the directory at the tip of the branch, if it exists.
    Directory(Option<String>),
    /// The tips of the branch and of the branch of its pull request, if they exist, and the version of the setters.
    Proposal { tips: [Option<CommitId>; 2], setters: String },
}

/// The result of an attempt to publish.
struct Attempted {
    outcome: Outcome,
    /// Further files follow when the work that is in progress ends.
    is_incomplete: bool,
    /// Why setters cannot edit files, if they cannot.
    setters: Option<String>,
}

/// The loop.
pub struct Publish {
    git: Handle,
    settings: Settings,
    content: Arc<dyn Content>,
    /// Where the content is known to be.
    place: Option<Place>,
    now: fn() -> Timestamp,
    wake: Arc<Notify>,
    flushes: mpsc::Receiver<oneshot::Sender<Publishing>>,
    state: watch::Sender<Publishing>,
    settled: Arc<Settled>,
    succeeded: watch::Sender<Option<Timestamp>>,
    connect: Option<Connect>,
    /// The pull requests from a branch, as of the last time that the forge was asked.
    pulls: Option<(String, Known)>,
    former: Former,
    setters: SetterFiles,
}

impl Publish {
    pub fn new(
        git: Handle,
        settings: Settings,
        content: Arc<dyn Content>,
        now: fn() -> Timestamp,
    ) -> (Self, Publisher) {
        let wake = Arc::new(Notify::new());
        let (flush, flushes) = mpsc::channel(1);
        let (state, state_out) = watch::channel(Publishing::Idle);
        let (succeeded, succeeded_out) = watch::channel(None);
        let publisher =
            Publisher { wake: Arc::clone(&wake), flush, state: state_out, succeeded: succeeded_out };
        let publish = Self {
            git,
            settings,
            content,
            place: None,
            now,
            wake,
            flushes,
            state,
            settled: Arc::default(),
            succeeded,
            connect: None,
            pulls: None,
            former: Former::default(),
            setters: SetterFiles::default(),
        };
        (publish, publisher)
    }

    /// Sets how to connect to the forge, for pull requests.
    #[must_use]
    pub fn with_forge(self, connect: Connect) -> Self {
        Self { connect: Some(connect), ..self }
    }

    /// Publishes batches until it is stopped. Stopping publishes nothing; call `flush` before.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut schedule = Schedule::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(reply) = self.flushes.recv() => {
                    let state = self.publish(&mut schedule).await;
                    // The caller may have stopped waiting.
                    let _ = reply.send(state);
                }
                () = self.wake.notified() => schedule.woken(Instant::now(), self.quiet()),
                () = until(schedule.due()) => drop(self.publish(&mut schedule).await),
            }
        }
    }

    async fn publish(&mut self, schedule: &mut Schedule) -> Publishing {
        let Some(settings) = (self.settings)() else {
            // No commit has been loaded: it is not known whether the branch accepts commits.
            schedule.published();
            return self.state.borrow().clone();
        };
        let mut result = self.attempt(&settings).await;
        let is_pushed = |attempted: &Attempted| matches!(attempted.outcome, Outcome::Pushed { .. });
        if self.place.is_none() && matches!(&result, Ok(Some(attempted)) if is_pushed(attempted)) {
            // Another hand changed the directory before this push: its changes are looked at before this ends.
            match self.attempt(&settings).await {
                Ok(Some(Attempted { outcome: Outcome::Unchanged, .. })) => {}
                second => result = second,
            }
        }
        if result.is_ok() {
            self.close_former(&settings).await;
        }
        let state = self.judge(result);
        if matches!(state, Publishing::Done { .. }) {
            self.succeeded.send_replace(Some((self.now)()));
        }
        if !state.is_retried() {
            schedule.published();
            schedule.also(self.former.due());
        } else {
            let (first, most) = RETRY;
            let wait =
                backoff::jittered(backoff::doubled(first, most, schedule.failures() + 1), wait::random());
            schedule.failed(Instant::now(), wait);
        }
        self.state.send_if_modified(|known| {
            let changed = *known != state;
            known.clone_from(&state);
            changed
        });
        state
    }

    /// Publishes what differs; `None` if publishing is switched off.
    async fn attempt(&mut self, settings: &RepoSettings) -> Result<Option<Attempted>, PublishError> {
        let publish = settings.publish.clone().unwrap_or_default();
        if publish.enabled == Some(false) {
            return Ok(None);
        }
        let branch = publish.branch.or_else(|| self.git.branch());
        let branch = branch.ok_or(GitError::NotSynced)?;
        let attempted = match publish.mode.unwrap_or_default() {
            PublishMode::Commit => self.commit(settings, branch).await?,
            PublishMode::PullRequest => self.propose(settings, branch).await?,
        };
        Ok(Some(attempted))
    }

    /// Returns the state after an attempt. `Rejected` ends only with a successful push: neither files that wait nor an
    /// unreachable server show that the branch accepts commits again.
    fn judge(&self, result: Result<Option<Attempted>, PublishError>) -> Publishing {
        let before = self.state.borrow().clone();
        let since = before.since().unwrap_or_else(self.now);
        let attempted = match result {
            Ok(None) => return Publishing::Off,
            Ok(Some(attempted)) => attempted,
            Err(error) if matches!(before, Publishing::Rejected { .. }) && error.is_outage_of_git() => {
                warn!(%error, "status cannot be published; retrying");
                return before;
            }
            Err(error) if error.holds_tip_back() => {
                // The sync reports this, and wakes this loop when it loads a tip again.
                info!(%error, "nothing is published while the tip is held back");
                return before;
            }
            Err(error) => {
                warn!(%error, "status cannot be published; retrying, builds and rollouts continue");
                let (reason, class, message) = (error.reason(), error.class(), error.to_string());
                return Publishing::Failed { reason, class, message, since };
            }
        };
        let state = match attempted.outcome {
            Outcome::Unchanged
                if attempted.is_incomplete
                    && !matches!(before, Publishing::Off)
                    && !before.is_about_setters() =>
            {
                before.clone()
            }
            Outcome::Unchanged => Publishing::Done { commit: None },
            Outcome::Pushed { commit, paths } => {
                info!(%commit, files = paths.len(), "published");
                Publishing::Done { commit: Some(commit) }
            }
            Outcome::Rejected { message } => {
                warn!(
                    error = message,
                    "the server rejects the push of status; retrying, builds and rollouts continue"
                );
                Publishing::Rejected { message, since }
            }
        };
        match attempted.setters {
            Some(message) if state.is_up_to_date() => {
                let (reason, class) = (reasons::SETTER_INVALID, Class::Invalid);
                let state = Publishing::Failed { reason, class, message, since };
                if before != state {
                    warn!(error = state.failure().map(|(_, message)| message), "setters cannot edit files");
                }
                state
            }
            _ => state,
        }
    }

    fn quiet(&self) -> Duration {
        let written = (self.settings)().and_then(|settings| settings.publish?.quiet_period);
        written.and_then(|text| duration::parse(&text).ok()).unwrap_or(QUIET)
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
