//! The second Git loop: status → repository. Waits until it is quiet, asks what the status files
//! should say, and commits what differs as one batch. A refusal or an outage backs off here and never
//! reaches builds or rollouts: it is a state others may show.

mod message;
mod schedule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::{Class, CommitId, duration};
use crate::git::commit::{Author, Change, Edit, Outcome, Settled};
use crate::git::{GitError, Handle, backoff};
use crate::settings::RepoSettings;

use schedule::Schedule;

/// Quiet period where `opsy.yaml` says nothing: long enough for one pass to touch several objects.
const QUIET: Duration = Duration::from_secs(2);
/// First and longest wait after a refusal or failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// Author where `opsy.yaml` names none.
const AUTHOR: (&str, &str) = ("Opsy", "opsy@users.noreply.local");

/// A status file as it should be.
#[derive(Clone, Debug)]
pub struct Rendered {
    /// Relative to the status folder.
    pub path: String,
    pub edit: Edit,
    /// The object it tells of; a file of all objects has none.
    pub resource: Option<String>,
    /// What happened, in a few words: `eks-node built ami-…`.
    pub news: Option<String>,
    /// Further trailers, like `Opsy-Image`.
    pub trailers: Vec<(&'static str, String)>,
    /// Names what the content is made from, where that has a name.
    pub version: Option<String>,
}

/// Gives the settings of the synced commit; `None` before the first.
pub type Settings = Arc<dyn Fn() -> Option<RepoSettings> + Send + Sync>;
/// Gives every status file as it should be now.
pub type Render = Arc<dyn Fn() -> Batch + Send + Sync>;

/// What there is to publish.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub files: Vec<Rendered>,
    /// There is more, which waits for the end of what is under way.
    pub more: bool,
}

/// How publishing goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// Nothing was published yet.
    Idle,
    /// `publish.enabled: false`.
    Off,
    /// The repository says what it should; the commit is ours if one was needed.
    Done {
        commit: Option<CommitId>,
    },
    /// The server refuses our commits, in its own words.
    Refused {
        words: String,
        since: Timestamp,
    },
    Failed {
        class: Class,
        message: String,
        since: Timestamp,
    },
}

impl Publishing {
    /// Is what should be in the repository in it, as far as is known?
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Idle | Self::Off | Self::Done { .. })
    }

    /// Since when it has not been good.
    fn since(&self) -> Option<Timestamp> {
        match self {
            Self::Refused { since, .. } | Self::Failed { since, .. } => Some(*since),
            _ => None,
        }
    }
}

/// The way to the loop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    wake: Arc<Notify>,
    flush: mpsc::Sender<oneshot::Sender<Publishing>>,
    state: watch::Receiver<Publishing>,
    succeeded: watch::Receiver<Option<Timestamp>>,
}

impl Publisher {
    /// A status changed, or the remote did: a batch is published once it is quiet.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Publishes now, whatever was refused or failed before. For shutdown and `--once`. `None` when it
    /// took longer than `limit`.
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

    /// When the repository was last known to say what it should.
    pub fn succeeded(&self) -> Option<Timestamp> {
        *self.succeeded.borrow()
    }
}

/// The loop.
pub struct Publish {
    git: Handle,
    settings: Settings,
    render: Render,
    now: fn() -> Timestamp,
    wake: Arc<Notify>,
    flushes: mpsc::Receiver<oneshot::Sender<Publishing>>,
    state: watch::Sender<Publishing>,
    settled: Arc<Settled>,
    succeeded: watch::Sender<Option<Timestamp>>,
}

impl Publish {
    pub fn new(git: Handle, settings: Settings, render: Render, now: fn() -> Timestamp) -> (Self, Publisher) {
        let wake = Arc::new(Notify::new());
        let (flush, flushes) = mpsc::channel(1);
        let (state, state_out) = watch::channel(Publishing::Idle);
        let (succeeded, succeeded_out) = watch::channel(None);
        let publisher =
            Publisher { wake: Arc::clone(&wake), flush, state: state_out, succeeded: succeeded_out };
        (
            Self { git, settings, render, now, wake, flushes, state, succeeded, settled: Arc::default() },
            publisher,
        )
    }

    /// Publishes batches until stopped. Flush first: stopping publishes nothing.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut schedule = Schedule::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(reply) = self.flushes.recv() => {
                    let state = self.publish(&mut schedule).await;
                    // Whoever asked may have given up waiting.
                    let _ = reply.send(state);
                }
                () = self.wake.notified() => schedule.woken(Instant::now(), self.quiet()),
                () = until(schedule.due()) => drop(self.publish(&mut schedule).await),
            }
        }
    }

    async fn publish(&mut self, schedule: &mut Schedule) -> Publishing {
        let Some(settings) = (self.settings)() else {
            // Nothing was loaded yet: whether the branch takes anything is not known.
            schedule.published();
            return self.state.borrow().clone();
        };
        let batch = (self.render)();
        let more = batch.more;
        let result = self.attempt(&settings, batch.files).await;
        let state = self.judge(result, more);
        if matches!(state, Publishing::Done { .. }) {
            self.succeeded.send_replace(Some((self.now)()));
        }
        if state.is_good() {
            schedule.published();
        } else {
            let (first, most) = RETRY;
            let wait = backoff::after(schedule.failures() + 1, first, most, backoff::random());
            schedule.failed(Instant::now(), wait);
        }
        self.state.send_if_modified(|known| {
            let changed = *known != state;
            known.clone_from(&state);
            changed
        });
        state
    }

    async fn attempt(
        &self,
        settings: &RepoSettings,
        files: Vec<Rendered>,
    ) -> Result<Option<Outcome>, GitError> {
        let publish = settings.publish.clone().unwrap_or_default();
        if publish.enabled == Some(false) {
            return Ok(None);
        }
        let branch = publish.branch.or_else(|| self.git.branch());
        let branch = branch.ok_or(GitError::Gone)?;
        let change = self.change(settings, files, branch);
        // Most wakes change nothing: the clone can tell without asking the remote.
        if change.edits.is_empty() || self.git.differences(&change).await?.is_empty() {
            return Ok(Some(Outcome::Unchanged));
        }
        self.git.commit(&change).await.map(Some)
    }

    /// What an attempt means, which had `more` to publish that waits. A refusal ends with a push that is
    /// taken: neither what is held back nor a server that is away says that the branch is open again.
    fn judge(&self, result: Result<Option<Outcome>, GitError>, more: bool) -> Publishing {
        let before = self.state.borrow().clone();
        let since = before.since().unwrap_or_else(self.now);
        match result {
            Ok(None) => Publishing::Off,
            Ok(Some(Outcome::Unchanged)) if more && !matches!(before, Publishing::Off) => before,
            Err(error)
                if matches!(before, Publishing::Refused { .. })
                    && matches!(error.class(), Class::Transient { .. }) =>
            {
                warn!(%error, "status cannot be published: it is tried again");
                before
            }
            Err(error) if error.holds() => {
                // The sync says so to people; it wakes this loop when the tip is followed again.
                info!(%error, "nothing is published");
                before
            }
            Ok(Some(Outcome::Unchanged)) => Publishing::Done { commit: None },
            Ok(Some(Outcome::Pushed { commit, paths })) => {
                info!(%commit, files = paths.len(), "published");
                Publishing::Done { commit: Some(commit) }
            }
            Ok(Some(Outcome::Refused { words })) => {
                warn!(
                    words,
                    "the server refuses to take status: builds and rollouts go on, and it is tried again"
                );
                Publishing::Refused { words, since }
            }
            Err(error) => {
                warn!(%error, "status cannot be published: builds and rollouts go on, and it is tried again");
                Publishing::Failed { class: error.class(), message: error.to_string(), since }
            }
        }
    }

    fn quiet(&self) -> Duration {
        let written = (self.settings)().and_then(|settings| settings.publish?.quiet_period);
        written.and_then(|text| duration::parse(&text).ok()).unwrap_or(QUIET)
    }

    /// The change that brings a batch into a branch.
    fn change(&self, settings: &RepoSettings, files: Vec<Rendered>, branch: String) -> Change {
        let folder = self.git.status_folder(settings.status_path());
        let files: BTreeMap<String, Rendered> =
            files.into_iter().map(|file| (format!("{folder}/{}", file.path), file)).collect();
        let edits = files.iter().map(|(path, file)| (path.clone(), file.edit.clone())).collect();
        let versions =
            files.iter().filter_map(|(path, file)| Some((path.clone(), file.version.clone()?))).collect();
        let suffix = settings.publish.as_ref().and_then(|publish| publish.commit_suffix.clone());
        let author = settings.author.clone().unwrap_or_default();
        Change {
            branch,
            edits,
            versions,
            settled: self.settled.clone(),
            message: Arc::new(move |paths| {
                let changed: Vec<&Rendered> = paths.iter().filter_map(|path| files.get(path)).collect();
                message::compose(&changed, suffix.as_deref())
            }),
            author: Author {
                name: author.name.unwrap_or_else(|| AUTHOR.0.to_owned()),
                email: author.email.unwrap_or_else(|| AUTHOR.1.to_owned()),
            },
            time: (self.now)(),
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
