//! The interface to the two Git threads. It is cheap to clone. Each call sends a job to a thread and awaits its result.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tracing::{error, info};

use super::address::Address;
use super::auth::Credentials;
use super::commit::{self, Attempt, Change, Outcome};
use super::depth::History;
use super::http::Http;
use super::mirror::{self, Known, Mirror};
use super::proposal_branch::{self, Left, Maker, ProposalBranch, Proposed};
use super::push::{self, Pushed};
use super::reader::{Blob, Described, Reader};
use super::signatures::{Range, Signers, SigningKey};
use super::tree::{ChangedPath, Listing};
use super::worker::Worker;
use super::{GitError, Tip};
use crate::api::lock::lock;
use crate::api::text::one_line;
use crate::api::{CommitId, backoff, paths};
use crate::wait;

/// Lost races in a row after which a change fails for now: others push as often as this agent.
const COMMIT_ATTEMPTS: u32 = 6;
/// The first and the longest wait between these attempts: another push takes some tenths of a second.
const RACE_WAIT: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The repository, and the place of its clone.
#[derive(Clone, Debug)]
pub struct Options {
    pub address: Address,
    /// The branch to read. Default: the remote's default branch.
    pub branch: Option<String>,
    /// The directory of the repository that is read. The root is `""`.
    pub path: String,
    /// The local directory of the bare clone. It must contain nothing else.
    pub folder: PathBuf,
    pub credentials: Option<Credentials>,
    /// The client for requests that libgit2 cannot send, and the proxies of both.
    pub http: Http,
    /// How much history to fetch, if the server can cut it.
    pub history: History,
    /// The trusted signers of commits. Default: commits need no signature.
    pub signers: Option<Signers>,
    /// The key that signs commits of this agent.
    pub signing_key: Option<SigningKey>,
}

/// A repository and its threads. A thread that hangs in a system call does not keep the process from exiting.
#[derive(Clone, Debug)]
pub struct Handle {
    options: Arc<Options>,
    /// The branch that is read. If none is configured, it is known after the first fetch.
    branch: Arc<Mutex<Option<String>>>,
    /// The commits that tips must descend from, and that need not be verified again.
    known: Arc<Mutex<Known>>,
    network: Worker<Mirror>,
    reading: Worker<Reader>,
    /// Locked while the reading thread has a job: the network thread removes no file of the clone then.
    gate: Arc<Mutex<()>>,
}

impl Handle {
    /// Starts the threads. Nothing is read or fetched yet.
    ///
    /// # Errors
    /// If `options.path` leads out of the repository, or the system cannot create a thread.
    pub fn start(mut options: Options) -> Result<Self, GitError> {
        options.path = paths::plain(&options.path).ok_or_else(|| GitError::Path {
            path: options.path.clone(),
            why: "must be a path inside the repository".to_owned(),
        })?;
        mirror::configure();
        let options = Arc::new(options);
        let generation = Arc::new(AtomicU64::new(0));
        let (for_mirror, for_reader) = (Arc::clone(&options), Arc::clone(&options));
        let counter = Arc::clone(&generation);
        let known = Arc::<Mutex<Known>>::default();
        let for_network = Arc::clone(&known);
        let gate = Arc::<Mutex<()>>::default();
        let for_upkeep = Arc::clone(&gate);
        Ok(Self {
            branch: Arc::new(Mutex::new(options.branch.clone())),
            network: Worker::start("git-network", move || {
                let (options, known) = (Arc::clone(&for_mirror), Arc::clone(&for_network));
                Mirror::new(options, Arc::clone(&counter), known, Arc::clone(&for_upkeep))
            })?,
            reading: Worker::start("git-reading", move || {
                Reader::new(Arc::clone(&for_reader), Arc::clone(&generation))
            })?,
            options,
            known,
            gate,
        })
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the branch that is read. If none is configured, it is unknown until the first fetch.
    pub fn branch(&self) -> Option<String> {
        lock(&self.branch).clone()
    }

    /// Returns branch and directory that are read, in one line. The branch is missing until the first fetch.
    pub fn source(&self) -> String {
        let path = Some(self.options.path.as_str()).filter(|path| !path.is_empty());
        let parts = self.branch().into_iter().chain(path.map(str::to_owned));
        one_line(&parts.collect::<Vec<_>>().join(":"))
    }

    /// Returns the path from the root of the repository for a status path, which is relative to the path that is read.
    /// Returns `""` if it leads out of that path.
    pub fn status_folder(&self, status_path: &str) -> String {
        match paths::plain(status_path) {
            Some(status) if !status.is_empty() => paths::join(&self.options.path, &status),
            _ => String::new(),
        }
    }

    /// Returns the directory with the refs of a repository on this machine.
    pub fn local_git_folder(&self) -> Option<PathBuf> {
        let path = self.options.address.path()?;
        Some(mirror::check_local(path).ok()?.commondir().to_owned())
    }

    /// Returns the tip of the branch that is read. Objects are fetched only if the tip has moved.
    pub async fn fetch(&self) -> Result<Tip, GitError> {
        let tip = self.network.run(|mirror| mirror.fetch(None)).await?;
        self.compact(tip.fetched);
        self.record_branch(&tip);
        Ok(tip)
    }

    /// Returns the tip of the branch that is read as of the last fetch, if there was one. Reads only the clone.
    pub async fn last_fetched(&self) -> Result<Option<Tip>, GitError> {
        let tip = self.network.run(|mirror| mirror.last_fetched(None)).await?;
        tip.iter().for_each(|tip| self.record_branch(tip));
        Ok(tip)
    }

    /// Returns the tip of another branch as of the last fetch, if there was one. Reads only the clone.
    pub async fn last_fetched_branch(&self, branch: &str) -> Result<Option<Tip>, GitError> {
        let branch = branch.to_owned();
        self.network.run(move |mirror| mirror.last_fetched(Some(&branch))).await
    }

    /// Records the branch that is read.
    fn record_branch(&self, tip: &Tip) {
        *lock(&self.branch) = Some(tip.branch.clone());
    }

    /// Returns the tip of another branch, if the branch exists.
    pub async fn fetch_branch(&self, branch: &str) -> Result<Option<Tip>, GitError> {
        let branch = branch.to_owned();
        self.network.run(move |mirror| mirror.fetch_if_exists(&branch)).await
    }

    /// Fetches branches with these credentials, over one connection that may receive `limit` bytes, and returns their
    /// tips. `None` is the remote's default branch.
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
        let tips = self.network.run(fetch).await?;
        self.compact(tips.iter().flatten().any(|tip| tip.fetched));
        Ok(tips)
    }

    /// Merges packs and loose objects if there are too many. The caller does not wait for it.
    fn compact(&self, changed: bool) {
        self.network.post(move |mirror| mirror.compact(changed));
    }

    /// Removes the clone.
    pub async fn clear(&self) {
        if let Err(error) = self.network.run(Mirror::clear).await {
            error!(%error, "the clone cannot be removed");
        }
    }

    /// Records the last synced commit. Nothing is pushed while the tip of the branch does not descend from it.
    pub fn note_last_synced(&self, commit: CommitId) {
        lock(&self.known).synced = Some(commit);
    }

    /// Records the newest commit that is verified together with all its ancestors.
    pub fn note_verified(&self, commit: CommitId) {
        lock(&self.known).verified = Some(commit);
    }

    /// Verifies the signatures of commits in the clone.
    ///
    /// # Errors
    /// `GitError::Unverified` names the first commit that no trusted signer signed.
    pub async fn verify(&self, range: &Range, signers: &Signers) -> Result<(), GitError> {
        let (range, signers) = (range.clone(), signers.clone());
        self.read_history_with(move |reader| reader.verify(&range, &signers)).await
    }

    /// Returns true if a commit in the clone has a signature, of whomever.
    pub async fn is_signed(&self, commit: &CommitId) -> Result<bool, GitError> {
        let commit = commit.clone();
        self.read_with(move |reader| reader.is_signed(&commit)).await
    }

    /// Returns true if a commit is `other` or descends from it.
    pub async fn follows(&self, commit: &CommitId, other: &CommitId) -> Result<bool, GitError> {
        let (commit, other) = (commit.clone(), other.clone());
        self.read_history_with(move |reader| reader.follows(&commit, &other)).await
    }

    /// Ensures that the clone has a commit. No branch needs to contain it, if the server sends it by its ID.
    pub async fn obtain(&self, commit: &CommitId) -> Result<(), GitError> {
        let commit = commit.clone();
        self.network.run(move |mirror| mirror.obtain(&commit)).await
    }

    /// Returns all files of a commit in the clone.
    pub async fn list(&self, commit: &CommitId) -> Result<Arc<Listing>, GitError> {
        let commit = commit.clone();
        self.read_with(move |reader| reader.list(&commit)).await
    }

    /// Returns author and subject of the last change that a commit contains. Commits that changed only the directory
    /// `without` are skipped.
    pub async fn describe(&self, commit: &CommitId, without: &str) -> Result<Described, GitError> {
        let (commit, without) = (commit.clone(), without.to_owned());
        self.read_history_with(move |reader| reader.describe(&commit, &without)).await
    }

    /// Returns the paths at which two commits differ outside of the directory `without`; `None` if there are too many.
    pub async fn changes(
        &self,
        before: &CommitId,
        now: &CommitId,
        without: &str,
    ) -> Result<Option<Vec<ChangedPath>>, GitError> {
        let (before, now, without) = (before.clone(), now.clone(), without.to_owned());
        self.read_with(move |reader| reader.changes(&before, &now, &without)).await
    }

    /// Returns the sizes of blobs.
    pub async fn sizes(&self, ids: Vec<String>) -> Result<Vec<usize>, GitError> {
        self.read_with(move |reader| reader.sizes(&ids)).await
    }

    /// Returns those of the blobs that are Git LFS pointers.
    pub async fn pointers(&self, ids: Vec<String>) -> Result<Vec<String>, GitError> {
        self.read_with(move |reader| reader.pointers(ids.clone())).await
    }

    /// Returns the contents of blobs, which are given as (path, ID).
    pub async fn read(&self, files: Vec<(String, String)>) -> Result<Vec<Blob>, GitError> {
        self.read_with(move |reader| reader.read(files.clone())).await
    }

    /// Returns whether a change would modify the branch as of the last fetch. Reads only the clone.
    pub async fn differs(&self, change: &Change) -> Result<bool, GitError> {
        let change = Arc::new(change.clone());
        self.read_with(move |reader| commit::differs(reader, &change)).await
    }

    /// Returns the tree ID of a directory at the tip of a branch as of the last fetch, if it exists. Reads only the clone.
    pub async fn directory(&self, branch: &str, path: &str) -> Result<Option<String>, GitError> {
        let (branch, path) = (branch.to_owned(), path.to_owned());
        self.read_with(move |reader| reader.directory(&branch, &path)).await
    }

    /// Returns the tree ID of a directory in a commit, if it exists.
    pub async fn directory_of(&self, commit: &CommitId, path: &str) -> Result<Option<String>, GitError> {
        let (commit, path) = (commit.clone(), path.to_owned());
        self.read_with(move |reader| reader.directory_of(&commit, &path)).await
    }

    /// Returns the tree IDs of a directory in the parent of a commit and in the commit itself, if they exist.
    pub async fn directories(
        &self,
        commit: &CommitId,
        path: &str,
    ) -> Result<(Option<String>, Option<String>), GitError> {
        let (commit, path) = (commit.clone(), path.to_owned());
        self.read_with(move |reader| reader.directories(&commit, &path)).await
    }

    /// Commits a change onto the freshly fetched tip of the branch and pushes it. After a lost race, it fetches again.
    pub async fn commit(&self, change: &Change) -> Result<Outcome, GitError> {
        let change = Arc::new(change.clone());
        let branch = change.branch.clone();
        self.until_settled(&branch, move |mirror| commit::attempt(mirror, &change)).await
    }

    /// Brings the branch of a proposal up to date with a change, on the freshly fetched tip of its target, and pushes it.
    /// After a lost race, it fetches again.
    pub async fn propose(&self, proposal: &ProposalBranch) -> Result<Proposed, GitError> {
        let proposal = Arc::new(proposal.clone());
        let branch = proposal.name.clone();
        self.until_settled(&branch, move |mirror| proposal_branch::attempt(mirror, &proposal)).await
    }

    /// Deletes a branch that is at this commit.
    pub async fn delete_branch(&self, branch: &str, tip: &CommitId) -> Result<Pushed, GitError> {
        let (branch, tip) = (branch.to_owned(), tip.clone());
        self.network.run(move |mirror| proposal_branch::delete(mirror, &branch, &tip)).await
    }

    /// Returns the branches of the remote whose names start with `prefix`.
    pub async fn branches_below(&self, prefix: &str) -> Result<Vec<String>, GitError> {
        let prefix = prefix.to_owned();
        self.network.run(move |mirror| push::branches_below(mirror, &prefix)).await
    }

    /// Returns whether an agent left a branch behind.
    pub async fn left(&self, branch: &str, maker: &Maker) -> Result<Left, GitError> {
        let (branch, maker) = (branch.to_owned(), maker.clone());
        self.network.run(move |mirror| proposal_branch::left(mirror, &branch, &maker)).await
    }

    /// Repeats an attempt to push until no other writer is faster.
    async fn until_settled<T: Send + 'static>(
        &self,
        branch: &str,
        attempted: impl Fn(&mut Mirror) -> Result<Attempt<T>, GitError> + Clone + Send + 'static,
    ) -> Result<T, GitError> {
        for attempt in 1..=COMMIT_ATTEMPTS {
            if attempt > 1 {
                let (first, most) = RACE_WAIT;
                wait::pause(backoff::jittered(backoff::doubled(first, most, attempt - 1), wait::random()))
                    .await;
            }
            match self.network.run(attempted.clone()).await? {
                Attempt::Done(outcome) => {
                    self.compact(true);
                    return Ok(outcome);
                }
                Attempt::Lost => info!(attempt, branch, "the branch moved while pushing"),
            }
        }
        Err(GitError::Contended { url: self.options.address.to_string(), attempts: COMMIT_ATTEMPTS })
    }

    /// Returns the branches of the remote, if it accepts pushes with the credentials. Nothing is pushed.
    pub async fn branches_to_push(&self) -> Result<Vec<String>, GitError> {
        self.network.run(|mirror| push::branches_to_push(mirror)).await
    }

    /// Reads from the clone. While the history is cut before the answer is known, more of it is fetched.
    async fn read_history_with<T, F>(&self, job: F) -> Result<T, GitError>
    where
        T: Send + 'static,
        F: FnMut(&mut Reader) -> Result<T, GitError> + Clone + Send + 'static,
    {
        let mut has_more = true;
        loop {
            match self.read_with(job.clone()).await {
                // Another read could have fetched all of it in the meantime, so the last answer decides.
                Err(GitError::HistoryCut(_)) if has_more => {
                    has_more = self.network.run(Mirror::deepen).await?
                }
                result => return result,
            }
        }
    }

    /// Reads from the clone. If the clone is damaged, it is replaced, and the read is retried once.
    async fn read_with<T, F>(&self, job: F) -> Result<T, GitError>
    where
        T: Send + 'static,
        F: FnMut(&mut Reader) -> Result<T, GitError> + Clone + Send + 'static,
    {
        let read = |mut job: F| {
            let gate = Arc::clone(&self.gate);
            self.reading.run(move |reader| {
                let _no_removal = lock(&gate);
                job(reader)
            })
        };
        match read(job.clone()).await {
            Err(error @ GitError::Corrupt { .. }) => {
                error!(%error, "creating a new clone");
                self.network.run(|mirror| mirror.renew(None)).await?;
                read(job).await
            }
            result => result,
        }
    }
}
