//! The bare clone and its remote: compares refs, fetches the branches that moved, and replaces a damaged clone. The
//! network thread owns it.

mod directory;
mod limits;
mod refs;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use git2::{Direction, Oid};
use tracing::{info, warn};

use super::alternates::{self, SourcePacks};
use super::auth::Credentials;
use super::authenticator::Authenticator;
use super::connection::{callbacks, connection_error, depth_of, download, proxy, receive};
use super::depth::{self, History};
use super::heads::{choose, commit_id, heads, no_branch};
use super::poll::{Expected, Poll};
use super::ref_names::{branch_ref, tracking_ref};
use super::upkeep::{Upkeep, has_too_many_packs};
use super::{GitError, Options, ssh};
use crate::api::CommitId;
use crate::api::lock::lock;
use directory::{clear, open};
pub(super) use limits::configure;
pub(super) use refs::tracked;
use refs::{DEEPENED, LAST_REF, all_tracked, delete_all, last_default, refspecs, set_last_default};

/// The tip of a branch of the remote. Its objects are in the clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    pub branch: String,
    pub commit: CommitId,
    /// The branch had moved since the last fetch.
    pub fetched: bool,
}

/// The commits of the branch that are synced and verified, shared with the sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The last synced commit.
    pub synced: Option<CommitId>,
    /// The newest commit that is verified together with all its ancestors.
    pub verified: Option<CommitId>,
}

/// The bare clone.
pub(super) struct Mirror {
    options: Arc<Options>,
    repo: Option<git2::Repository>,
    /// The packs of the source when the clone was opened.
    source_packs: SourcePacks,
    /// Incremented for every new clone, so that the reading thread opens it.
    generation: Arc<AtomicU64>,
    upkeep: Upkeep,
    known: Arc<Mutex<Known>>,
    /// The credentials of the options, unless `use_credentials` set others.
    credentials: Option<Credentials>,
    poll: Poll,
    /// How often the clone was deepened since the last fetch.
    deepened: usize,
}

impl Mirror {
    pub fn new(
        options: Arc<Options>,
        generation: Arc<AtomicU64>,
        known: Arc<Mutex<Known>>,
        reading: Arc<Mutex<()>>,
    ) -> Self {
        let credentials = options.credentials.clone();
        let (source_packs, upkeep, poll) = (SourcePacks::default(), Upkeep::new(reading), Poll::default());
        let (repo, deepened) = (None, 0);
        Self { options, repo, source_packs, generation, upkeep, known, credentials, poll, deepened }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Returns the callbacks for one connection. Reads the credentials.
    pub fn authenticator(&self) -> Result<Authenticator, GitError> {
        let auth = Authenticator::new(&self.options.address, self.credentials.as_ref())?;
        if let (Some((_, host, port)), Some(known)) = (self.options.address.ssh_endpoint(), auth.hosts()) {
            let parent = self.options.folder.parent().unwrap_or(&self.options.folder);
            ssh::prefer(parent, known, host, port)?;
        }
        Ok(auth)
    }

    /// Returns the commits that the tip of the branch must descend from, and that need not be verified again.
    pub fn known(&self) -> Known {
        lock(&self.known).clone()
    }

    /// Ensures that the clone has a commit. No branch needs to contain it, if the server sends it by its ID.
    pub fn obtain(&mut self, commit: &CommitId) -> Result<(), GitError> {
        let missing = || GitError::NotSent(commit.clone());
        let id = Oid::from_str(commit.as_str()).map_err(|_| missing())?;
        let options = Arc::clone(&self.options);
        if self.repo()?.find_commit(id).is_ok() {
            return Ok(());
        }
        self.link()?;
        let auth = self.authenticator()?;
        let repo = self.repo()?;
        if repo.find_commit(id).is_ok() {
            return Ok(());
        }
        let depth = depth_of(&options, repo);
        let fetched = repo.remote_anonymous(options.address.url()).and_then(|mut remote| {
            receive(&mut remote, &[format!("+{id}:{LAST_REF}")], depth, &options, &|| callbacks(&auth))
        });
        fetched.map_err(|error| match is_not_sent(&error) {
            true => missing(),
            false => match GitError::transfer(options.address.as_str(), &options.folder, &error) {
                GitError::Rejected { url, .. } if auth.lacks_credentials() && !auth.is_ssh() => {
                    GitError::Unauthenticated { url }
                }
                error => error,
            },
        })?;
        self.join(depth)?;
        self.repo()?.find_commit(id).map(drop).map_err(|_| missing())
    }

    /// Fetches a branch, by default the branch that is read, and returns its tip. A damaged clone is replaced once.
    pub fn fetch(&mut self, branch: Option<&str>) -> Result<Tip, GitError> {
        match self.fetch_once(branch) {
            Err(GitError::Corrupt { why, .. }) => {
                warn!(why, "the clone is damaged: creating a new one");
                self.renew(branch)
            }
            // Only after the remote has responded: while it is unreachable, the clone is needed.
            Ok(_) if self.upkeep.has_failed() && has_too_many_packs(&self.options.folder) => {
                info!("the clone has too many packs: creating a new one");
                self.renew(branch)
            }
            // Signatures were not required when it was made.
            Ok(_) if self.options.history == History::Whole && self.repo()?.is_shallow() => {
                info!("the clone does not have the whole history: creating a new one");
                self.renew(branch)
            }
            result => result,
        }
    }

    /// Returns the tip of a branch, by default the branch that is read, as of the last fetch. Reads only the clone.
    pub fn last_fetched(&mut self, branch: Option<&str>) -> Result<Option<Tip>, GitError> {
        let named = branch.map(str::to_owned).or_else(|| self.options.branch.clone());
        let repo = self.repo()?;
        let Some(branch) = named.or_else(|| last_default(repo)) else { return Ok(None) };
        let tip = tracked(repo, &branch).filter(|tip| repo.find_commit(*tip).is_ok());
        Ok(tip.map(|tip| Tip { branch, commit: commit_id(tip), fetched: false }))
    }

    /// Replaces the clone with a new one and fetches.
    pub fn renew(&mut self, branch: Option<&str>) -> Result<Tip, GitError> {
        self.clear()?;
        self.fetch_once(branch)
    }

    /// Removes the clone.
    pub fn clear(&mut self) -> Result<(), GitError> {
        self.repo = None;
        let _no_job = self.upkeep.wait_for_reader();
        clear(&self.options.folder)
    }

    /// Merges packs and loose objects if there are too many, after the clone changed and once per process.
    pub fn compact(&mut self, changed: bool) {
        if self.upkeep.run(&self.options.folder, changed, &self.generation) {
            self.repo = None;
        }
    }

    /// Like `fetch`, but returns `None` if the branch does not exist.
    pub fn fetch_if_exists(&mut self, branch: &str) -> Result<Option<Tip>, GitError> {
        match self.fetch(Some(branch)) {
            Ok(tip) => Ok(Some(tip)),
            Err(GitError::NoBranch { .. } | GitError::Empty { .. }) => {
                self.untrack(branch)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn fetch_once(&mut self, branch: Option<&str>) -> Result<Tip, GitError> {
        let tips = self.fetch_branches(&[branch.map(str::to_owned)], None)?;
        tips.into_iter().next().expect("one tip for each branch")
    }

    /// Fetches branches over one connection and returns their tips. `None` is the branch that is read, or the remote's
    /// default branch. An error of one branch does not affect the others.
    pub fn fetch_branches(
        &mut self,
        wanted: &[Option<String>],
        limit: Option<usize>,
    ) -> Result<Vec<Result<Tip, GitError>>, GitError> {
        let options = Arc::clone(&self.options);
        let source = self.link()?;
        // Before the credentials: with SSH, they set an option of libgit2, which must be initialized.
        self.repo()?;
        let auth = self.authenticator()?;
        if let Some(tips) = self.unchanged(wanted, source.as_ref(), &auth)? {
            return Ok(tips.into_iter().map(Ok).collect());
        }
        let repo = self.repo()?;
        let url = options.address.url();
        let mut remote = repo.remote_anonymous(url).map_err(|error| GitError::remote(url, &error))?;
        let depth = depth_of(&options, repo);
        let at_remote = |error: git2::Error| connection_error(url, &auth, &error);
        let mut connection = remote
            .connect_auth(Direction::Fetch, Some(callbacks(&auth)), Some(proxy(&options)))
            .map_err(at_remote)?;
        let heads = heads(connection.list().map_err(at_remote)?);
        let find = |wanted: &Option<String>| {
            let named = wanted.as_deref().or(options.branch.as_deref());
            let branch = choose(url, &heads, named)?;
            let found = heads.branches.iter().find(|(name, _)| *name == branch);
            let tip = found.map(|(_, tip)| *tip).ok_or_else(|| no_branch(url, &branch, &heads))?;
            let before = tracked(repo, &branch);
            let moved = before != Some(tip) || repo.find_commit(tip).is_err();
            Ok(RemoteBranch { branch, tip, before, moved, is_default: named.is_none() })
        };
        let found: Vec<Result<RemoteBranch, GitError>> = wanted.iter().map(find).collect();
        let moved: BTreeSet<&str> =
            found.iter().flatten().filter(|found| found.moved).map(|found| found.branch.as_str()).collect();
        if !moved.is_empty() {
            download(connection.remote(), &refspecs(&moved), &auth, (&options, limit), depth)?;
        }
        let has_moved = !moved.is_empty();
        drop(connection);
        drop(remote);
        if has_moved {
            self.deepened = 0;
            self.join(depth)?;
        }
        let repo = self.repo()?;
        for found in found.iter().flatten() {
            if found.moved {
                log_fetch(repo, found);
            }
            if found.is_default && last_default(repo).as_deref() != Some(&*found.branch) {
                set_last_default(repo, &found.branch)
                    .map_err(|error| GitError::local(&options.folder, &error))?;
            }
        }
        Ok(found.into_iter().map(|found| found.map(RemoteBranch::into_tip)).collect())
    }

    /// Returns the tips of branches if the quick check confirms that none has moved since the last fetch.
    fn unchanged(
        &mut self,
        wanted: &[Option<String>],
        source: Option<&git2::Repository>,
        auth: &Authenticator,
    ) -> Result<Option<Vec<Tip>>, GitError> {
        let options = Arc::clone(&self.options);
        self.repo()?;
        let Self { repo: Some(repo), poll, .. } = self else { return Ok(None) };
        let expect = |wanted: &Option<String>| {
            let named = wanted.clone().or_else(|| options.branch.clone());
            let is_default = named.is_none();
            let branch = named.or_else(|| last_default(repo))?;
            let tip = tracked(repo, &branch).filter(|tip| repo.find_commit(*tip).is_ok())?;
            Some(Expected { branch, tip, is_default })
        };
        let Some(expected) = wanted.iter().map(expect).collect::<Option<Vec<_>>>() else { return Ok(None) };
        if !poll.is_unchanged(&options, (source, repo), auth, &expected) {
            return Ok(None);
        }
        let tip = |Expected { branch, tip, .. }| Tip { branch, commit: commit_id(tip), fetched: false };
        Ok(Some(expected.into_iter().map(tip).collect()))
    }

    /// Returns the branches of the remote whose names start with `prefix`. `None` if all refs must be listed to find them.
    pub fn poll_below(&mut self, prefix: &str) -> Result<Option<Vec<String>>, GitError> {
        let options = Arc::clone(&self.options);
        if !options.address.is_http() || self.repo().is_err() {
            return Ok(None);
        }
        let auth = self.authenticator()?;
        let Self { repo, poll, .. } = self;
        Ok(repo.as_ref().and_then(|repo| poll.branches_below((&options, repo), &auth, prefix)))
    }

    /// Fetches more of the history of all branches that were fetched. Returns false if there is no more.
    pub fn deepen(&mut self) -> Result<bool, GitError> {
        let options = Arc::clone(&self.options);
        let (Some(depth), true) = (depth::step(self.deepened), self.repo()?.is_shallow()) else {
            return Ok(false);
        };
        info!(depth, "fetching more of the history");
        let auth = self.authenticator()?;
        let (repo, url) = (self.repo()?, options.address.url());
        let branches = all_tracked(repo).map_err(|error| GitError::local(&options.folder, &error))?;
        // Not to the tracking refs: the tips on the remote may be others by now, and were not checked.
        let branches = branches.iter().map(|branch| format!("+{}:{DEEPENED}{branch}", branch_ref(branch)));
        let branches: Vec<String> = branches.collect();
        let mut remote = repo.remote_anonymous(url).map_err(|error| GitError::remote(url, &error))?;
        download(&mut remote, &branches, &auth, (&options, None), depth)?;
        drop(remote);
        delete_all(repo, DEEPENED).map_err(|error| GitError::local(&options.folder, &error))?;
        self.deepened += 1;
        self.join(depth)?;
        Ok(true)
    }

    /// Removes the cuts of the history that a fetch with this depth added without need, and opens the clone again, so
    /// that both threads see its history.
    fn join(&mut self, depth: i32) -> Result<(), GitError> {
        if depth > 0 && self.options.history != History::Tips {
            let folder = self.options.folder.clone();
            depth::join(self.repo()?).map_err(|error| GitError::local(&folder, &error))?;
            self.repo = None;
            self.repo()?;
        }
        Ok(())
    }

    /// Sets the credentials for the next connections.
    pub fn use_credentials(&mut self, credentials: Option<Credentials>) {
        self.credentials = credentials;
    }

    /// Returns the open clone. Creates it if there is none, or if it is a clone of another URL.
    pub fn repo(&mut self) -> Result<&git2::Repository, GitError> {
        if self.repo.is_none() || self.source_packs.changed() {
            self.source_packs = SourcePacks::of(&self.options.folder);
            self.repo = Some(open(&self.options)?);
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(self.repo.as_ref().expect("opened above"))
    }

    /// Links the clone to the objects of its source, if that is a repository on this machine. Returns the source.
    fn link(&mut self) -> Result<Option<git2::Repository>, GitError> {
        let options = Arc::clone(&self.options);
        let Some(path) = options.address.path() else { return Ok(None) };
        let source = check_local(path)?;
        self.repo()?;
        let failed = |error: std::io::Error| GitError::CloneDirectory {
            folder: options.folder.clone(),
            why: error.to_string(),
        };
        if alternates::link(&options.folder, &source).map_err(failed)? {
            self.repo = None;
        }
        Ok(Some(source))
    }

    /// Deletes the tracking ref of a branch that the remote does not have.
    pub fn untrack(&mut self, branch: &str) -> Result<(), GitError> {
        let folder = self.options.folder.clone();
        match self.repo()?.find_reference(&tracking_ref(branch)) {
            Ok(mut reference) => reference.delete().map_err(|error| GitError::local(&folder, &error)),
            Err(_) => Ok(()),
        }
    }
}

/// Opens a local repository. Checks the path first, because libgit2's error for a missing directory is misleading.
pub(super) fn check_local(path: &Path) -> Result<git2::Repository, GitError> {
    let url = path.display().to_string();
    if !path.is_dir() {
        return Err(GitError::NoRepository { url, why: "no such directory".to_owned() });
    }
    git2::Repository::open(path).map_err(|error| GitError::remote(&url, &error))
}

/// Returns true if the server refuses to send a commit that no branch contains. Most servers do by default.
fn is_not_sent(error: &git2::Error) -> bool {
    let why = error.message();
    why.contains("not our ref") || why.contains("cannot fetch a specific object")
}

/// A branch of the remote.
struct RemoteBranch {
    branch: String,
    tip: Oid,
    /// Its tip as of the last fetch.
    before: Option<Oid>,
    moved: bool,
    /// It was not named, and is the remote's default branch.
    is_default: bool,
}

impl RemoteBranch {
    fn into_tip(self) -> Tip {
        Tip { commit: commit_id(self.tip), branch: self.branch, fetched: self.moved }
    }
}

fn log_fetch(repo: &git2::Repository, found: &RemoteBranch) {
    let RemoteBranch { branch, tip, before, .. } = found;
    let Some(before) = *before else { return info!(branch, commit = %tip, "fetched") };
    match repo.graph_descendant_of(*tip, before) {
        Ok(true) => info!(branch, commit = %tip, "fetched"),
        Ok(false) if before == *tip => info!(branch, commit = %tip, "fetched again"),
        // A shallow clone does not show whether the branch was rewritten.
        _ if repo.is_shallow() => info!(branch, commit = %tip, %before, "fetched"),
        _ => warn!(branch, commit = %tip, %before, "the branch was rewritten on the remote"),
    }
}
