//! The bare clone and its remote: compare refs, fetch what moved, start again from a damaged clone.
//! Owned by the network thread.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use git2::{
    AutotagOption, Direction, FetchOptions, Oid, ProxyOptions, Remote, RemoteCallbacks, RepositoryInitOptions,
};
use tracing::{info, warn};

use super::auth::{Answers, Credentials};
use super::heads::{choose, commit_id, heads, no_branch};
use super::{GitError, Options, ssh, tls};
use crate::api::CommitId;
use crate::api::proxy::Route;

/// A host that does not take a connection in this time is away.
const CONNECT_TIMEOUT_MS: i32 = 15_000;
/// Longest silence on a connection: a server counting a large fetch or running push hooks says nothing meanwhile.
const SERVER_TIMEOUT_MS: i32 = 120_000;
/// A fetch of a template repository that takes longer is given up: a server could send a byte now and then.
const LONGEST_FETCH: Duration = Duration::from_secs(600);
/// File in the clone that says whose clone it is.
const ORIGIN_FILE: &str = "opsy-origin";
/// Every fetch adds a pack and libgit2 cannot repack: past this many, look-ups cost more than a new clone.
const PACK_LIMIT: usize = 500;

/// The tip of a branch as seen on the remote; its objects are in the clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    pub branch: String,
    pub commit: CommitId,
    /// The remote had something new.
    pub fetched: bool,
}

/// What is known of the branch, shared with the sync.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// The last synced commit.
    pub synced: Option<CommitId>,
    /// The newest commit that is verified, with all that leads to it.
    pub verified: Option<CommitId>,
}

/// The bare clone.
pub(super) struct Mirror {
    options: Arc<Options>,
    repo: Option<git2::Repository>,
    /// Counts new clones, so that the reading thread opens the new one.
    generation: Arc<AtomicU64>,
    /// The clone's packs were counted: once a process is enough.
    counted: bool,
    known: Arc<Mutex<Known>>,
    /// Those of the options, until others are set.
    credentials: Option<Credentials>,
}

impl Mirror {
    pub fn new(options: Arc<Options>, generation: Arc<AtomicU64>, known: Arc<Mutex<Known>>) -> Self {
        prepare();
        let credentials = options.credentials.clone();
        Self { options, repo: None, generation, counted: false, known, credentials }
    }

    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Answers for one connection. The credentials are read now.
    pub fn answers(&self) -> Result<Answers, GitError> {
        let answers = Answers::new(&self.options.address, self.credentials.as_ref())?;
        if let (Some((_, host, port)), Some(known)) = (self.options.address.ssh_place(), answers.hosts()) {
            let beside = self.options.folder.parent().unwrap_or(&self.options.folder);
            ssh::prefer(beside, known, host, port)?;
        }
        Ok(answers)
    }

    /// What the tip of the branch that is read must descend from, and what need not be verified again.
    pub fn known(&self) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has a commit in the clone, also one that no branch leads to any more, as far as the server hands it out.
    pub fn obtain(&mut self, commit: &CommitId) -> Result<(), GitError> {
        let missing = || GitError::NotSent(commit.clone());
        let id = Oid::from_str(commit.as_str()).map_err(|_| missing())?;
        let options = Arc::clone(&self.options);
        let answers = self.answers()?;
        let repo = self.repo()?;
        if repo.find_commit(id).is_ok() {
            return Ok(());
        }
        let mut fetch = FetchOptions::new();
        fetch.remote_callbacks(callbacks(&answers)).proxy_options(proxy(&options));
        fetch.download_tags(AutotagOption::None).update_fetchhead(false);
        let fetched = repo
            .remote_anonymous(options.address.url())
            .and_then(|mut remote| remote.fetch(&[format!("+{id}:{LAST_REF}")], Some(&mut fetch), None));
        fetched.map_err(|error| match is_not_handed_out(&error) {
            true => missing(),
            false => match GitError::transfer(options.address.as_str(), &options.folder, &error) {
                GitError::Rejected { url, .. } if answers.had_none() && !answers.is_ssh() => {
                    GitError::Unauthenticated { url }
                }
                error => error,
            },
        })?;
        repo.find_commit(id).map(drop).map_err(|_| missing())
    }

    /// The tip of a branch, or of the branch that is read. A damaged clone is replaced once.
    pub fn fetch(&mut self, branch: Option<&str>) -> Result<Tip, GitError> {
        match self.fetch_once(branch) {
            Err(GitError::Corrupt { why, .. }) => {
                warn!(why, "the clone is damaged: making a new one");
                self.renew(branch)
            }
            // Only now that the remote has answered: the clone is all there is while it is away.
            Ok(_) if !std::mem::replace(&mut self.counted, true) && is_crowded(&self.options.folder) => {
                info!("the clone has too many packs: making a new one");
                self.renew(branch)
            }
            result => result,
        }
    }

    /// The tip of a branch, or of the branch that is read, as the remote last had it. Asks the clone alone.
    pub fn last_fetched(&mut self, branch: Option<&str>) -> Result<Option<Tip>, GitError> {
        let named = branch.map(str::to_owned).or_else(|| self.options.branch.clone());
        let repo = self.repo()?;
        let Some(branch) = named.or_else(|| last_default(repo)) else { return Ok(None) };
        let tip = tracked(repo, &branch).filter(|tip| repo.find_commit(*tip).is_ok());
        Ok(tip.map(|tip| Tip { branch, commit: commit_id(tip), fetched: false }))
    }

    /// Throws the clone away and fetches into a new one.
    pub fn renew(&mut self, branch: Option<&str>) -> Result<Tip, GitError> {
        self.clear()?;
        self.fetch_once(branch)
    }

    /// Throws the clone away.
    pub fn clear(&mut self) -> Result<(), GitError> {
        self.repo = None;
        clear(&self.options.folder)
    }

    /// Like `fetch`, but a branch that is not there is no error.
    pub fn fetch_if_there(&mut self, branch: &str) -> Result<Option<Tip>, GitError> {
        match self.fetch(Some(branch)) {
            Ok(tip) => Ok(Some(tip)),
            Err(GitError::NoBranch { .. } | GitError::Empty { .. }) => {
                self.forget(branch)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn fetch_once(&mut self, branch: Option<&str>) -> Result<Tip, GitError> {
        let tips = self.fetch_branches(&[branch.map(str::to_owned)], None)?;
        tips.into_iter().next().expect("one answer for each branch")
    }

    /// The tips of some branches, over one connection. `None` is the branch that is read, else the remote's default. An
    /// error about one branch is its own.
    pub fn fetch_branches(
        &mut self,
        wanted: &[Option<String>],
        limit: Option<usize>,
    ) -> Result<Vec<Result<Tip, GitError>>, GitError> {
        let options = Arc::clone(&self.options);
        options.address.path().map_or(Ok(()), |path| check_local(path).map(drop))?;
        // Before the answers: they have libgit2 read a file, which it does once it is initialized.
        self.repo()?;
        let answers = self.answers()?;
        let repo = self.repo()?;
        let url = options.address.url();
        let mut remote = repo.remote_anonymous(url).map_err(|error| GitError::remote(url, &error))?;
        let at_remote = |error: git2::Error| refusal(url, &answers, &error);
        let mut connection = remote
            .connect_auth(Direction::Fetch, Some(callbacks(&answers)), Some(proxy(&options)))
            .map_err(at_remote)?;
        let heads = heads(connection.list().map_err(at_remote)?);
        let find = |wanted: &Option<String>| {
            let named = wanted.as_deref().or(options.branch.as_deref());
            let branch = choose(url, &heads, named)?;
            let found = heads.branches.iter().find(|(name, _)| *name == branch);
            let tip = found.map(|(_, tip)| *tip).ok_or_else(|| no_branch(url, &branch, &heads))?;
            let before = tracked(repo, &branch);
            let moved = before != Some(tip) || repo.find_commit(tip).is_err();
            Ok(Found { branch, tip, before, moved, is_default: named.is_none() })
        };
        let found: Vec<Result<Found, GitError>> = wanted.iter().map(find).collect();
        let moved: BTreeSet<&str> =
            found.iter().flatten().filter(|found| found.moved).map(|found| found.branch.as_str()).collect();
        if !moved.is_empty() {
            download(connection.remote(), &moved, &answers, (&options, limit))?;
        }
        for found in found.iter().flatten() {
            if found.moved {
                note_rewrite(repo, found);
            }
            if found.is_default && last_default(repo).as_deref() != Some(&*found.branch) {
                note_default(repo, &found.branch)
                    .map_err(|error| GitError::local(&options.folder, &error))?;
            }
        }
        Ok(found.into_iter().map(|found| found.map(Found::into_tip)).collect())
    }

    /// Uses these credentials from now on.
    pub fn use_credentials(&mut self, credentials: Option<Credentials>) {
        self.credentials = credentials;
    }

    /// The open clone; made first where there is none or another URL's.
    pub fn repo(&mut self) -> Result<&git2::Repository, GitError> {
        if self.repo.is_none() {
            self.repo = Some(open(&self.options)?);
            self.generation.fetch_add(1, Ordering::Release);
        }
        Ok(self.repo.as_ref().expect("opened above"))
    }

    /// Drops our idea of a branch that is gone from the remote.
    fn forget(&mut self, branch: &str) -> Result<(), GitError> {
        let folder = self.options.folder.clone();
        match self.repo()?.find_reference(&tracking_ref(branch)) {
            Ok(mut reference) => reference.delete().map_err(|error| GitError::local(&folder, &error)),
            Err(_) => Ok(()),
        }
    }
}

/// A local repository, opened: libgit2's own words for a path without one lead astray.
pub(super) fn check_local(path: &Path) -> Result<git2::Repository, GitError> {
    let url = path.display().to_string();
    if !path.is_dir() {
        return Err(GitError::NoRepository { url, why: "no such folder".to_owned() });
    }
    git2::Repository::open(path).map_err(|error| GitError::remote(&url, &error))
}

/// Where the remote's branches are noted.
const TRACKING: &str = "refs/remotes/origin/";

/// Where the last synced commit is noted that no branch leads to.
const LAST_REF: &str = "refs/opsy/last";

/// Name of the ref that holds a branch's tip as last seen.
pub(super) fn tracking_ref(branch: &str) -> String {
    format!("{TRACKING}{branch}")
}

/// Which branch the remote's default was when it last answered, as Git itself notes it.
const DEFAULT_REF: &str = "refs/remotes/origin/HEAD";

fn last_default(repo: &git2::Repository) -> Option<String> {
    let noted = repo.find_reference(DEFAULT_REF).ok()?;
    let target = noted.symbolic_target().ok()??.to_owned();
    target.strip_prefix(TRACKING).map(str::to_owned)
}

fn note_default(repo: &git2::Repository, branch: &str) -> Result<(), git2::Error> {
    repo.reference_symbolic(DEFAULT_REF, &tracking_ref(branch), true, "the remote's default").map(drop)
}

/// The tip of a branch as last seen.
pub(super) fn tracked(repo: &git2::Repository, branch: &str) -> Option<Oid> {
    repo.refname_to_id(&tracking_ref(branch)).ok()
}

/// Does the server refuse to send a commit that no branch contains? By default most servers do.
fn is_not_handed_out(error: &git2::Error) -> bool {
    let why = error.message();
    why.contains("not our ref") || why.contains("cannot fetch a specific object")
}

/// Callbacks that answer for credentials.
pub(super) fn callbacks(answers: &Answers) -> RemoteCallbacks<'static> {
    let answers = answers.clone();
    let mut callbacks = RemoteCallbacks::new();
    let checking = answers.clone();
    callbacks.credentials(move |url, user, allowed| answers.answer(url, user, allowed));
    callbacks.certificate_check(move |certificate, _| checking.check(certificate));
    callbacks
}

/// The proxy of the remote.
pub(super) fn proxy(options: &Options) -> ProxyOptions<'static> {
    let mut proxy = ProxyOptions::new();
    match options.proxies.route(options.address.url()) {
        Route::Through(through) => {
            proxy.url(through.secret_url());
        }
        // What Git's own configuration says.
        Route::Unset if options.address.may_use_proxy() => {
            proxy.auto();
        }
        Route::Unset | Route::Direct => {}
    }
    proxy
}

/// The error of a connection, knowing whether it asked for credentials in vain.
pub(super) fn refusal(url: &str, answers: &Answers, error: &git2::Error) -> GitError {
    if let Some(why) = answers.distrust() {
        return GitError::HostKey { url: url.to_owned(), why };
    }
    match GitError::remote(url, error) {
        GitError::Rejected { url, .. } if answers.had_none() && !answers.is_ssh() => {
            GitError::Unauthenticated { url }
        }
        error => error,
    }
}

/// Settings of the process: by default libgit2 waits without limit.
fn prepare() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: these set C integers that libgit2 and OpenSSL read when they connect. Only threads that went
        // through this `Once` connect, so no read is concurrent with these writes. The first call initializes libgit2.
        unsafe {
            // Neither call can fail: libgit2 stores the number and returns 0.
            git2::opts::set_server_connect_timeout_in_milliseconds(CONNECT_TIMEOUT_MS).ok();
            git2::opts::set_server_timeout_in_milliseconds(SERVER_TIMEOUT_MS).ok();
            tls::close_quietly();
        }
    });
}

/// A branch of the remote.
struct Found {
    branch: String,
    tip: Oid,
    /// Where it was when it was fetched last.
    before: Option<Oid>,
    moved: bool,
    /// It is read because it is the remote's default.
    is_default: bool,
}

impl Found {
    fn into_tip(self) -> Tip {
        Tip { commit: commit_id(self.tip), branch: self.branch, fetched: self.moved }
    }
}

/// Fetches branches over the connection that is open already.
fn download(
    remote: &mut Remote<'_>,
    branches: &BTreeSet<&str>,
    answers: &Answers,
    (options, limit): (&Options, Option<usize>),
) -> Result<(), GitError> {
    let url = options.address.url();
    let refspecs: Vec<String> =
        branches.iter().map(|branch| format!("+refs/heads/{branch}:{}", tracking_ref(branch))).collect();
    let received = Rc::new(Cell::new(0));
    let mut fetch = |depth: i32| {
        let mut callbacks = callbacks(answers);
        let started = Instant::now();
        let counted = Rc::clone(&received);
        callbacks.transfer_progress(move |progress| {
            counted.set(progress.received_bytes());
            limit.is_none_or(|limit| progress.received_bytes() <= limit && started.elapsed() < LONGEST_FETCH)
        });
        let mut fetch = FetchOptions::new();
        fetch.remote_callbacks(callbacks).proxy_options(proxy(options));
        fetch.download_tags(AutotagOption::None).update_fetchhead(false).depth(depth);
        remote.fetch(&refspecs, Some(&mut fetch), None)
    };
    // libgit2 reads a repository on this machine without the protocol that leaves history out.
    let is_shallow = options.shallow && options.address.path().is_none();
    let fetched = match fetch(i32::from(is_shallow)) {
        // The limit counts for the whole history, too.
        Err(error) if is_shallow && error.message().contains("support shallow") => fetch(0),
        fetched => fetched,
    };
    fetched.map_err(|error| match limit.filter(|limit| received.get() > *limit) {
        Some(limit) => GitError::TooLarge { url: url.to_owned(), limit },
        None => GitError::transfer(url, &options.folder, &error),
    })
}

fn note_rewrite(repo: &git2::Repository, found: &Found) {
    let Found { branch, tip, before, .. } = found;
    let Some(before) = *before else { return info!(branch, commit = %tip, "fetched") };
    match repo.graph_descendant_of(*tip, before) {
        Ok(true) => info!(branch, commit = %tip, "fetched"),
        Ok(false) if before == *tip => info!(branch, commit = %tip, "fetched again"),
        // A clone without history cannot tell.
        _ if repo.is_shallow() => info!(branch, commit = %tip, %before, "fetched"),
        _ => warn!(branch, commit = %tip, %before, "the branch was rewritten on the remote"),
    }
}

/// Opens our clone of this address, or makes an empty one.
fn open(options: &Options) -> Result<git2::Repository, GitError> {
    let folder = &options.folder;
    let origin = fs::read_to_string(folder.join(ORIGIN_FILE)).unwrap_or_default();
    if origin == options.address.url() {
        match git2::Repository::open_bare(folder) {
            Ok(repo) => return Ok(repo),
            Err(error) => warn!(why = error.message(), "the clone cannot be opened: making a new one"),
        }
    }
    clear(folder)?;
    create(options)
}

fn create(options: &Options) -> Result<git2::Repository, GitError> {
    let folder = &options.folder;
    let failed = |why: String| GitError::Folder { folder: folder.clone(), why };
    // The mark comes first: a folder that holds anything is ours only by it.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| failed(error.to_string()))?;
    fs::write(folder.join(ORIGIN_FILE), options.address.url()).map_err(|error| failed(error.to_string()))?;
    let mut init = RepositoryInitOptions::new();
    init.bare(true).external_template(false);
    let repo = git2::Repository::init_opts(folder, &init).map_err(|error| GitError::local(folder, &error))?;
    // Credentials go to the host they were given for, and to no other.
    let configured = repo.config().and_then(|mut config| config.set_str("http.followRedirects", "false"));
    configured.map_err(|error| GitError::local(folder, &error))?;
    Ok(repo)
}

/// Removes a clone of ours. Never a folder somebody else filled.
fn clear(folder: &Path) -> Result<(), GitError> {
    let failed =
        |error: std::io::Error| GitError::Folder { folder: folder.to_owned(), why: error.to_string() };
    match fs::read_dir(folder).map(|mut entries| entries.next().is_none()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(true) => Ok(()),
        Ok(false) if !folder.join(ORIGIN_FILE).is_file() => {
            Err(GitError::ForeignFolder { folder: folder.to_owned() })
        }
        Ok(false) => fs::remove_dir_all(folder).map_err(failed),
    }
}

pub(super) fn is_crowded(folder: &Path) -> bool {
    let packs = fs::read_dir(folder.join("objects/pack")).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.path().extension().is_some_and(|ext| ext == "pack")).count()
    });
    packs > PACK_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_others_is_never_cleared() {
        let folder = tempfile::tempdir().expect("a folder");
        let theirs = folder.path().join("thesis.tex");
        fs::write(&theirs, "years of work").expect("written");
        assert!(matches!(clear(folder.path()), Err(GitError::ForeignFolder { .. })));
        assert!(theirs.exists());
    }
}
