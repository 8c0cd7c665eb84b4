//! The door to the two Git threads. Cheap to clone; every call is a job sent to a thread and its answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{error, info};

use super::address::Address;
use super::auth::Credentials;
use super::commit::{self, Attempt, Change, Outcome};
use super::mirror::{self, Known, Mirror};
use super::reader::{Blob, Described, Reader};
use super::signatures::{Range, Signers, SigningKey};
use super::tree::{self, Listing};
use super::{GitError, Tip, backoff};
use crate::api::CommitId;
use crate::api::proxy::Proxies;

/// Lost races in a row before a change is given up for now: others push as fast as we do.
const COMMIT_ATTEMPTS: u32 = 6;
/// First and longest wait between such attempts: a rival's push takes some tenths of a second.
const RACE_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Which repository, and where its clone is kept.
#[derive(Clone, Debug)]
pub struct Options {
    pub address: Address,
    /// Branch to read. Default: the remote's default branch.
    pub branch: Option<String>,
    /// Folder inside the repository that is read. The root is `""`.
    pub path: String,
    /// Folder of the bare clone: Opsy's alone, on this machine.
    pub folder: PathBuf,
    pub credentials: Option<Credentials>,
    /// Proxies of the environment.
    pub proxies: Proxies,
    /// Fetch the tips without their history, where the server allows it.
    pub shallow: bool,
    /// Who may sign commits. Default: commits need no signature.
    pub signers: Option<Signers>,
    /// What our own commits are signed with.
    pub signing_key: Option<SigningKey>,
}

/// The repository. A thread that hangs in a system call is abandoned when the process exits.
#[derive(Clone, Debug)]
pub struct Handle {
    options: Arc<Options>,
    /// The branch that is read, once the remote told its default.
    branch: Arc<Mutex<Option<String>>>,
    /// What tips must descend from, and what need not be verified again.
    known: Arc<Mutex<Known>>,
    network: Lane<Mirror>,
    reading: Lane<Reader>,
}

impl Handle {
    /// Starts the threads. Nothing is read or fetched yet.
    ///
    /// # Errors
    /// When `options.path` leaves the repository, or the system gives no thread.
    pub fn start(mut options: Options) -> Result<Self, GitError> {
        options.path = tree::plain(&options.path).ok_or_else(|| GitError::Path {
            path: options.path.clone(),
            why: "must be a path inside the repository".to_owned(),
        })?;
        let options = Arc::new(options);
        let generation = Arc::new(AtomicU64::new(0));
        let (for_mirror, for_reader) = (Arc::clone(&options), Arc::clone(&options));
        let counter = Arc::clone(&generation);
        let known = Arc::<Mutex<Known>>::default();
        let for_network = Arc::clone(&known);
        Ok(Self {
            branch: Arc::new(Mutex::new(options.branch.clone())),
            network: Lane::start("git-network", move || {
                Mirror::new(Arc::clone(&for_mirror), Arc::clone(&counter), Arc::clone(&for_network))
            })?,
            reading: Lane::start("git-reading", move || {
                Reader::new(Arc::clone(&for_reader), Arc::clone(&generation))
            })?,
            options,
            known,
        })
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The branch that is read; unknown until the first fetch where none was named.
    pub fn branch(&self) -> Option<String> {
        self.branch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A status path, relative to the path that is read, from the root; `""` where it leaves that path.
    pub fn status_folder(&self, status_path: &str) -> String {
        match tree::plain(status_path) {
            Some(status) if !status.is_empty() => tree::join(&self.options.path, &status),
            _ => String::new(),
        }
    }

    /// Where a repository on this machine keeps its refs.
    pub fn local_git_folder(&self) -> Option<PathBuf> {
        let path = self.options.address.path()?;
        Some(mirror::check_local(path).ok()?.commondir().to_owned())
    }

    /// The tip of the branch that is read: refs are compared, and objects fetched only when it moved.
    pub async fn fetch(&self) -> Result<Tip, GitError> {
        let tip = self.network.ask(|mirror| mirror.fetch(None)).await?;
        self.reads(&tip);
        Ok(tip)
    }

    /// The tip of the branch that is read as the remote last had it, if it ever answered. Asks the clone
    /// alone.
    pub async fn last_fetched(&self) -> Result<Option<Tip>, GitError> {
        let tip = self.network.ask(|mirror| mirror.last_fetched(None)).await?;
        tip.iter().for_each(|tip| self.reads(tip));
        Ok(tip)
    }

    /// The same of another branch.
    pub async fn last_fetched_branch(&self, branch: &str) -> Result<Option<Tip>, GitError> {
        let branch = branch.to_owned();
        self.network.ask(move |mirror| mirror.last_fetched(Some(&branch))).await
    }

    /// Notes which branch it turned out to be.
    fn reads(&self, tip: &Tip) {
        *self.branch.lock().unwrap_or_else(PoisonError::into_inner) = Some(tip.branch.clone());
    }

    /// The tip of another branch, if it is there.
    pub async fn fetch_branch(&self, branch: &str) -> Result<Option<Tip>, GitError> {
        let branch = branch.to_owned();
        self.network.ask(move |mirror| mirror.fetch_if_there(&branch)).await
    }

    /// The tips of some branches, with these credentials, over one connection that may receive this many bytes. `None` is
    /// the remote's default branch.
    pub async fn fetch_branches(
        &self,
        branches: Vec<Option<String>>,
        credentials: Option<Credentials>,
        limit: Option<usize>,
    ) -> Result<Vec<Result<Tip, GitError>>, GitError> {
        let fetch = move |mirror: &mut Mirror| {
            mirror.use_credentials(credentials);
            match mirror.fetch_branches(&branches, limit) {
                Err(GitError::Corrupt { .. }) => {
                    mirror.clear()?;
                    mirror.fetch_branches(&branches, limit)
                }
                result => result,
            }
        };
        self.network.ask(fetch).await
    }

    /// Removes the clone.
    pub async fn clear(&self) {
        if let Err(error) = self.network.ask(Mirror::clear).await {
            error!(%error, "the clone cannot be removed");
        }
    }

    /// Notes the last synced commit: nothing is pushed while the tip of the branch does not descend from it.
    pub fn note_last_synced(&self, commit: CommitId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).synced = Some(commit);
    }

    /// Notes the newest commit that is verified, with all that leads to it.
    pub fn note_verified(&self, commit: CommitId) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).verified = Some(commit);
    }

    /// Verifies the signatures of commits in the clone.
    ///
    /// # Errors
    /// `GitError::Unverified` names the first commit that no trusted signer signed.
    pub async fn verify(&self, range: &Range, signers: &Signers) -> Result<(), GitError> {
        let (range, signers) = (range.clone(), signers.clone());
        self.read_with(move |reader| reader.verify(&range, &signers)).await
    }

    /// Is a commit another one, or does it descend from it?
    pub async fn follows(&self, commit: &CommitId, other: &CommitId) -> Result<bool, GitError> {
        let (commit, other) = (commit.clone(), other.clone());
        self.read_with(move |reader| reader.follows(&commit, &other)).await
    }

    /// Has a commit in the clone, also one that no branch leads to any more, as far as the server hands it out.
    pub async fn obtain(&self, commit: &CommitId) -> Result<(), GitError> {
        let commit = commit.clone();
        self.network.ask(move |mirror| mirror.obtain(&commit)).await
    }

    /// All files of a commit that was fetched.
    pub async fn list(&self, commit: &CommitId) -> Result<Arc<Listing>, GitError> {
        let commit = commit.clone();
        self.read_with(move |reader| reader.list(&commit)).await
    }

    /// Who made the last change that a commit has, and the first line of what they say of it. Commits that
    /// changed nothing but `without`, a folder, are passed over.
    pub async fn describe(&self, commit: &CommitId, without: &str) -> Result<Described, GitError> {
        let (commit, without) = (commit.clone(), without.to_owned());
        self.read_with(move |reader| reader.describe(&commit, &without)).await
    }

    /// Sizes of blobs by their ids.
    pub async fn sizes(&self, ids: Vec<String>) -> Result<Vec<usize>, GitError> {
        self.read_with(move |reader| reader.sizes(&ids)).await
    }

    /// Which of these blobs are Git LFS pointers.
    pub async fn pointers(&self, ids: Vec<String>) -> Result<Vec<String>, GitError> {
        self.read_with(move |reader| reader.pointers(ids.clone())).await
    }

    /// Contents of blobs given as (path, id).
    pub async fn read(&self, files: Vec<(String, String)>) -> Result<Vec<Blob>, GitError> {
        self.read_with(move |reader| reader.read(files.clone())).await
    }

    /// The paths a change would touch on the branch as last seen. Asks the clone alone.
    pub async fn differences(&self, change: &Change) -> Result<Vec<String>, GitError> {
        let change = change.clone();
        self.read_with(move |reader| commit::differences(reader, &change)).await
    }

    /// Commits a change on the branch's fresh tip and pushes it. A lost race starts again from a fetch.
    pub async fn commit(&self, change: &Change) -> Result<Outcome, GitError> {
        for attempt in 1..=COMMIT_ATTEMPTS {
            if attempt > 1 {
                let (first, most) = RACE_WAIT;
                backoff::pause(backoff::after(attempt - 1, first, most, backoff::random())).await;
            }
            let ours = change.clone();
            match self.network.ask(move |mirror| commit::attempt(mirror, &ours)).await? {
                Attempt::Done(outcome) => return Ok(outcome),
                Attempt::Lost => info!(attempt, branch = change.branch, "the branch moved while pushing"),
            }
        }
        Err(GitError::Contended { url: self.options.address.to_string(), attempts: COMMIT_ATTEMPTS })
    }

    /// A read, once more from a new clone where this one is damaged.
    async fn read_with<T, F>(&self, job: F) -> Result<T, GitError>
    where
        T: Send + 'static,
        F: FnMut(&mut Reader) -> Result<T, GitError> + Clone + Send + 'static,
    {
        let mut again = job.clone();
        let mut job = job;
        match self.reading.ask(move |reader| job(reader)).await {
            Err(error @ GitError::Corrupt { .. }) => {
                error!(%error, "making a new clone");
                self.network.ask(|mirror| mirror.renew(None)).await?;
                self.reading.ask(move |reader| again(reader)).await
            }
            result => result,
        }
    }
}

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread that owns an `S` and does one job after the other on it.
struct Lane<S> {
    jobs: mpsc::Sender<Job<S>>,
}

impl<S> std::fmt::Debug for Lane<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lane")
    }
}

impl<S> Clone for Lane<S> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<S: 'static> Lane<S> {
    fn start(name: &str, make: impl Fn() -> S + Send + 'static) -> Result<Self, GitError> {
        let (jobs, queue) = mpsc::channel::<Job<S>>();
        let work = move || {
            let mut state = make();
            for job in queue {
                if catch_unwind(AssertUnwindSafe(|| job(&mut state))).is_err() {
                    error!("a Git job panicked: its thread starts afresh");
                    state = make();
                }
            }
        };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work);
        thread.map(|_| Self { jobs }).map_err(|_| GitError::Gone)
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        let (reply, answer) = oneshot::channel();
        // Nobody waits for the answer when the asking task was dropped: then it may be lost.
        let job: Job<S> = Box::new(move |state| drop(reply.send(job(state))));
        self.jobs.send(job).map_err(|_| GitError::Gone)?;
        answer.await.map_err(|_| GitError::Gone)?
    }
}
