//! The second Git loop: status → repository. After a quiet period, it renders the status files and commits those that
//! differ as one batch. After a refusal or an outage it backs off and reports the state; builds and rollouts are not
//! affected.

mod condition;
mod message;
pub mod render;
mod schedule;
pub mod seeds;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::api::backoff;
use crate::api::{Class, CommitId, duration};
use crate::git::commit::{Author, Change, Edit, Outcome, Settled};
use crate::git::{GitError, Handle};
use crate::settings::RepoSettings;
use crate::wait;

use schedule::Schedule;

/// The default quiet period: long enough for related changes of several objects to be one commit.
const QUIET: Duration = Duration::from_secs(2);
/// First and longest wait after a refusal or failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(600));
/// The default author.
const AUTHOR: (&str, &str) = ("Opsy", "opsy@users.noreply.local");

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

/// The state of publishing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Publishing {
    /// Nothing has been published yet.
    Idle,
    /// `publish.enabled: false`.
    Off,
    /// The repository has the desired content. `commit` is the commit of this agent, if one was needed.
    Done {
        commit: Option<CommitId>,
    },
    /// The server rejects the commits of this agent, with this message.
    Rejected {
        message: String,
        since: Timestamp,
    },
    Failed {
        class: Class,
        message: String,
        since: Timestamp,
    },
}

impl Publishing {
    /// Returns true if the repository has the desired content, as far as is known.
    pub fn is_up_to_date(&self) -> bool {
        matches!(self, Self::Idle | Self::Off | Self::Done { .. })
    }

    /// When the repository stopped being up to date.
    fn since(&self) -> Option<Timestamp> {
        match self {
            Self::Rejected { since, .. } | Self::Failed { since, .. } => Some(*since),
            _ => None,
        }
    }
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

/// The directory that the files are in. As long as it is the same, the branch has what was published.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    branch: String,
    folder: String,
    /// The tree ID of the directory at the tip of the branch, if it exists.
    tree: Option<String>,
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
        let (place, settled) = (None, Arc::default());
        (Self { git, settings, content, place, now, wake, flushes, state, succeeded, settled }, publisher)
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
        if self.place.is_none() && matches!(result, Ok(Some((Outcome::Pushed { .. }, _)))) {
            // Another hand changed the directory before this push: its changes are looked at before this ends.
            match self.attempt(&settings).await {
                Ok(Some((Outcome::Unchanged, _))) => {}
                second => result = second,
            }
        }
        let (result, is_incomplete) = match result {
            Ok(Some((outcome, is_incomplete))) => (Ok(Some(outcome)), is_incomplete),
            Ok(None) => (Ok(None), false),
            Err(error) => (Err(error), false),
        };
        let state = self.judge(result, is_incomplete);
        if matches!(state, Publishing::Done { .. }) {
            self.succeeded.send_replace(Some((self.now)()));
        }
        if state.is_up_to_date() {
            schedule.published();
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

    /// Publishes what differs, and returns whether further files wait; `None` if publishing is switched off.
    async fn attempt(&mut self, settings: &RepoSettings) -> Result<Option<(Outcome, bool)>, GitError> {
        let publish = settings.publish.clone().unwrap_or_default();
        if publish.enabled == Some(false) {
            return Ok(None);
        }
        let branch = publish.branch.or_else(|| self.git.branch());
        let branch = branch.ok_or(GitError::NotSynced)?;
        let place = self.find(branch, settings).await?;
        let batch = self.content.render();
        let is_incomplete = batch.is_incomplete;
        let change = self.change(settings, batch.files, &place);
        // Most wakeups change nothing. The clone shows this without a request to the remote.
        if change.edits.is_empty() {
            return Ok(Some((Outcome::Unchanged, is_incomplete)));
        }
        if !self.git.differs(&change).await? {
            // If the tip has moved meanwhile, the batch was compared with another directory.
            if self.locate(place.branch.clone(), place.folder.clone()).await? == place {
                self.content.published();
            }
            return Ok(Some((Outcome::Unchanged, is_incomplete)));
        }
        let outcome = self.git.commit(&change).await?;
        if let Outcome::Pushed { commit, .. } = &outcome {
            self.note_pushed(commit, place).await;
        }
        Ok(Some((outcome, is_incomplete)))
    }

    /// Finds the directory to publish to. If it is not as it was left, another hand may have changed any file there.
    async fn find(&mut self, branch: String, settings: &RepoSettings) -> Result<Place, GitError> {
        let folder = self.git.status_folder(settings.status_path());
        let place = self.locate(branch, folder).await?;
        if self.place.as_ref() != Some(&place) {
            self.content.forget();
            self.place = Some(place.clone());
        }
        Ok(place)
    }

    async fn locate(&self, branch: String, folder: String) -> Result<Place, GitError> {
        let tree = self.git.directory(&branch, &folder).await?;
        Ok(Place { branch, folder, tree })
    }

    /// Notes that a commit has the files of the last batch. If it was made on another tip than the one that was seen,
    /// the directory has changes of another hand, which the next look must find.
    async fn note_pushed(&mut self, commit: &CommitId, seen: Place) {
        match self.git.directories(commit, &seen.folder).await {
            Ok((before, tree)) if before == seen.tree => {
                self.content.published();
                self.place = Some(Place { tree, ..seen });
            }
            Ok(_) => self.place = None,
            Err(error) => {
                warn!(%error, "the pushed commit cannot be read");
                self.place = None;
            }
        }
        if self.place.is_none() {
            self.wake.notify_one();
        }
    }

    /// Returns the state after an attempt. `is_incomplete` says whether further files wait. `Rejected` ends only with a
    /// successful push: neither files that wait nor an unreachable server show that the branch accepts commits again.
    fn judge(&self, result: Result<Option<Outcome>, GitError>, is_incomplete: bool) -> Publishing {
        let before = self.state.borrow().clone();
        let since = before.since().unwrap_or_else(self.now);
        match result {
            Ok(None) => Publishing::Off,
            Ok(Some(Outcome::Unchanged)) if is_incomplete && !matches!(before, Publishing::Off) => before,
            Err(error)
                if matches!(before, Publishing::Rejected { .. })
                    && matches!(error.class(), Class::Transient { .. }) =>
            {
                warn!(%error, "status cannot be published; retrying");
                before
            }
            Err(error) if error.holds_tip_back() => {
                // The sync reports this, and wakes this loop when it loads a tip again.
                info!(%error, "nothing is published while the tip is held back");
                before
            }
            Ok(Some(Outcome::Unchanged)) => Publishing::Done { commit: None },
            Ok(Some(Outcome::Pushed { commit, paths })) => {
                info!(%commit, files = paths.len(), "published");
                Publishing::Done { commit: Some(commit) }
            }
            Ok(Some(Outcome::Rejected { message })) => {
                warn!(
                    error = message,
                    "the server rejects the push of status; retrying, builds and rollouts continue"
                );
                Publishing::Rejected { message, since }
            }
            Err(error) => {
                warn!(%error, "status cannot be published; retrying, builds and rollouts continue");
                Publishing::Failed { class: error.class(), message: error.to_string(), since }
            }
        }
    }

    fn quiet(&self) -> Duration {
        let written = (self.settings)().and_then(|settings| settings.publish?.quiet_period);
        written.and_then(|text| duration::parse(&text).ok()).unwrap_or(QUIET)
    }

    /// The change that commits a batch.
    fn change(&self, settings: &RepoSettings, files: Vec<Rendered>, place: &Place) -> Change {
        let files: BTreeMap<String, Rendered> =
            files.into_iter().map(|file| (format!("{}/{}", place.folder, file.path), file)).collect();
        let edits = files.iter().map(|(path, file)| (path.clone(), file.edit.clone())).collect();
        let versions =
            files.iter().filter_map(|(path, file)| Some((path.clone(), file.version.clone()?))).collect();
        let suffix = settings.publish.as_ref().and_then(|publish| publish.commit_suffix.clone());
        let author = settings.author.clone().unwrap_or_default();
        Change {
            branch: place.branch.clone(),
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
