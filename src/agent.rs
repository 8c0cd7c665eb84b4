//! The standalone agent, put together: what each part is handed, in what order it starts and stops.

mod reconcilers;
mod render;

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::{Key, Kind, ObjectKey, Owner};
use crate::aws::Aws;
use crate::engine::Standing;
use crate::engine::drive::drive;
use crate::engine::feed::Feed;
use crate::engine::standalone::home::StateFolder;
use crate::engine::standalone::runs::{Packer, Processes};
use crate::engine::standalone::secrets::Secrets;
use crate::engine::standalone::{clone_dir, lock, objects_dir, runs_dir};
use crate::git::auth::{Address, Credentials, Secret};
use crate::git::{Handle, Options};
use crate::manifest::{ObjectSet, Reader, Severity};
use crate::publish::{Publish, Publisher, Publishing};
use crate::settings::{EnvSecrets, RunFlags};
use crate::sync::{Outputs, Sync, Synced, prune};
use crate::{builder, refresher};

/// Running passes get this long to end after a signal.
const PASSES_END: Duration = Duration::from_secs(30);
/// A last publish gets this long.
const LAST_PUBLISH: Duration = Duration::from_secs(15);
/// In `--once`, a branch that takes longer than this does not take the push.
const ONCE_PUBLISH: Duration = Duration::from_secs(120);

/// Exit codes of `--once`.
const STALLED: u8 = 2;
const WAITING: u8 = 3;

/// Everything that lives as long as the agent.
pub struct Agent {
    pub home: Arc<StateFolder>,
    pub runs: Processes,
    interval: Duration,
    sync: Sync,
    synced: watch::Receiver<Option<Arc<Synced>>>,
    /// The commit whose objects the home holds.
    loaded: watch::Sender<Option<Arc<Synced>>>,
    drives: Vec<JoinHandle<()>>,
    publisher: Publisher,
    stop: CancellationToken,
    /// Given up last.
    _lock: lock::StateLock,
}

impl Agent {
    /// Takes the state folder, takes up running builds, and starts everything but the sync.
    pub async fn start(flags: RunFlags) -> anyhow::Result<Self> {
        let state = flags.state.dir()?;
        let lock = lock::take(&state)?;
        let secrets = EnvSecrets::read();
        let repository = Address::parse(&flags.repo)?;
        let handle = Handle::start(Options {
            address: repository.clone(),
            branch: flags.branch.clone(),
            path: flags.path.clone(),
            folder: clone_dir(&state),
            credentials: credentials(&flags, &secrets),
        })?;
        let (builders, builder_queue) = Feed::new();
        let (refreshers, refresher_queue) = Feed::new();
        let home = StateFolder::open(objects_dir(&state), builders, refreshers, now)
            .context("the state folder cannot be read")?;
        let home = Arc::new(home);
        let runs = processes(&flags, secrets, &home, &state)?;
        runs.recover().context("the runs of the state folder cannot be read")?;
        let mut reader = Reader::new(spec_problems);
        let (sync, outputs) = Sync::new(handle.clone(), Box::new(move |files| reader.read(files)), now);
        let stop = CancellationToken::new();
        let loaded = watch::Sender::new(None);
        let publisher = start_publishing(handle, &home, &outputs, loaded.subscribe(), stop.clone());
        let parts = reconcilers::Parts {
            aws: Aws::from_env().await,
            templates: outputs.templates,
            runs: runs.clone(),
            home: home.clone(),
            synced: outputs.synced.clone(),
            owner: owner(&repository, &flags.path),
            publishing: publisher.state(),
        };
        let drives = vec![
            tokio::spawn(drive(parts.builders(), builder_queue)),
            tokio::spawn(drive(parts.refreshers(), refresher_queue)),
        ];
        let (interval, synced) = (flags.interval, outputs.synced);
        Ok(Self { home, runs, interval, sync, synced, loaded, drives, publisher, stop, _lock: lock })
    }

    /// Works until nothing that was started is left.
    pub async fn once(mut self) -> anyhow::Result<ExitCode> {
        self.sync.once().await?;
        load(&self.home, &self.synced, &self.loaded)?;
        let mut signals = Signals::new()?;
        let (standings, interrupted) = tokio::select! {
            standings = self.home.board.settled() => (standings, false),
            () = signals.next() => (self.home.board.standings(), true),
        };
        let published = self.publisher.flush(ONCE_PUBLISH).await;
        self.end_passes().await;
        let trouble = match &published {
            Some(state) if state.is_good() => None,
            Some(Publishing::Refused { words, .. }) => {
                Some(format!("the push of status was refused: {words}"))
            }
            Some(Publishing::Failed { message, .. }) => Some(format!("status is not published: {message}")),
            _ => Some(format!("the branch took no push within {} s", ONCE_PUBLISH.as_secs())),
        };
        if let Some(trouble) = &trouble {
            eprintln!("opsy: {trouble}");
        }
        if interrupted {
            anyhow::bail!("interrupted; builds go on, and the next run takes them up");
        }
        let complete = self.synced.borrow().as_ref().is_some_and(|synced| synced.set.complete());
        Ok(exit_code(&standings, complete && trouble.is_none()))
    }

    /// Works until a signal, SIGINT or SIGTERM. A second one ends it at once.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let mut signals = Signals::new()?;
        let Self { home, sync, mut synced, loaded, mut drives, publisher, stop, interval, _lock, .. } = self;
        let syncing = tokio::spawn(sync.run(interval, Arc::default(), stop.clone()));
        loop {
            tokio::select! {
                changed = synced.changed() => {
                    changed.context("the sync has ended")?;
                    // A full disk is no reason to stop: the next commit, or restart, tries again.
                    if let Err(error) = load(&home, &synced, &loaded) {
                        tracing::error!(%error, "the commit cannot be taken over");
                    }
                }
                () = signals.next() => break,
                _ = futures::future::select_all(&mut drives) => anyhow::bail!("the reconcile loop has ended"),
            }
        }
        tracing::info!("stopping; builds go on, and the next start takes them up");
        let ending = async {
            end_passes(&home, &mut drives).await;
            publisher.flush(LAST_PUBLISH).await;
            stop.cancel();
            // It ends between two looks; one that hangs in a system call is left behind.
            let _ = tokio::time::timeout(LAST_PUBLISH, syncing).await;
        };
        tokio::select! {
            () = ending => Ok(ExitCode::SUCCESS),
            () = signals.next() => Ok(ExitCode::FAILURE),
        }
    }

    async fn end_passes(&mut self) {
        end_passes(&self.home, &mut self.drives).await;
        self.stop.cancel();
    }
}

/// Hands the synced commit to the home.
fn load(
    home: &StateFolder,
    synced: &watch::Receiver<Option<Arc<Synced>>>,
    loaded: &watch::Sender<Option<Arc<Synced>>>,
) -> anyhow::Result<()> {
    let Some(synced) = synced.borrow().clone() else { return Ok(()) };
    let known: BTreeSet<ObjectKey> = home.known().into_iter().collect();
    let pruning = prune::decide(&known, &synced.set);
    let written: BTreeSet<_> = synced.set.documents.iter().map(|document| &document.object).collect();
    let is_kept = |object: &&ObjectKey| !written.contains(object) && !pruning.remove.contains(object);
    let kept: Vec<ObjectKey> = known.iter().filter(is_kept).cloned().collect();
    tell_problems(&synced.set, pruning.refused.as_deref());
    // Read only when an object turns up that the state folder does not know.
    let seeds = std::cell::LazyCell::new(|| render::seeds(&synced.status_files));
    home.load(&synced.set.documents, &pruning.remove, &kept, |object| seeds.get(object).cloned())
        .context("the commit cannot be taken over into the state folder")?;
    loaded.send_replace(Some(synced.clone()));
    Ok(())
}

/// What a person must mend in the repository. Errors: they are shown on a terminal too.
fn tell_problems(set: &ObjectSet, kept: Option<&str>) {
    for problem in &set.problems {
        match problem.severity {
            Severity::Error => tracing::error!("{problem}"),
            Severity::Note => tracing::warn!("{problem}"),
        }
    }
    if let Some(why) = kept {
        tracing::error!("nothing is pruned: {why}");
    }
}

/// Ends the queues and waits for running passes.
async fn end_passes(home: &StateFolder, drives: &mut Vec<JoinHandle<()>>) {
    home.builders.close();
    home.refreshers.close();
    for drive in drives.drain(..) {
        if tokio::time::timeout(PASSES_END, drive).await.is_err() {
            tracing::warn!("a pass did not end in time");
        }
    }
}

/// Starts the loop that commits status, and wakes it with every change: of a status, or of the branch,
/// where somebody may have changed our files. It goes by the commit that was loaded: without the objects
/// of a commit, their status files would look like those of objects that are gone.
fn start_publishing(
    handle: Handle,
    home: &Arc<StateFolder>,
    outputs: &Outputs,
    mut loaded: watch::Receiver<Option<Arc<Synced>>>,
    stop: CancellationToken,
) -> Publisher {
    let mut tip = outputs.state.clone();
    let settings = loaded.clone();
    let settings = Arc::new(move || settings.borrow().as_ref().map(|loaded| loaded.set.settings.clone()));
    let (publish, publisher) =
        Publish::new(handle, settings, render::files(home.clone(), loaded.clone()), now);
    tokio::spawn(publish.run(stop));
    let (changed, waker) = (home.changed.clone(), publisher.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = changed.notified() => {}
                moved = tip.changed() => if moved.is_err() { return },
                news = loaded.changed() => if news.is_err() { return },
            }
            waker.wake();
        }
    });
    tokio::spawn(wake_on_trouble(publisher.state(), home.clone()));
    publisher
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// The one place that reads the clock. Whole seconds, as Kubernetes writes times.
#[expect(clippy::disallowed_methods, reason = "everything else is handed this function")]
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Who owns what this agent makes, unless `opsy.yaml` says it: the same for every clone of the
/// repository, whatever the credentials or the scheme.
fn owner(repository: &Address, path: &str) -> Owner {
    let digest = crate::api::ids::digest(&[&repository.identity(), path.trim_matches('/')]);
    Owner::parse(&digest[..16]).expect("hex digits are an owner")
}

fn credentials(flags: &RunFlags, secrets: &EnvSecrets) -> Option<Credentials> {
    let file = |path: &Option<std::path::PathBuf>| path.clone().map(Secret::File);
    let token = file(&flags.git_token_file).or_else(|| secrets.git_token.clone().map(Secret::Value));
    if let Some(token) = token {
        return Some(Credentials::token(token));
    }
    let password =
        file(&flags.git_password_file).or_else(|| secrets.git_password.clone().map(Secret::Value))?;
    let user = flags.git_username.clone().map(Secret::Value);
    Some(Credentials { username: user, password })
}

fn processes(
    flags: &RunFlags,
    secrets: EnvSecrets,
    home: &Arc<StateFolder>,
    state: &std::path::Path,
) -> anyhow::Result<Processes> {
    let plugins = flags.packer_plugins.as_ref().map(std::path::absolute).transpose()?;
    let packer = Packer {
        program: flags.packer.clone(),
        plugins: plugins.map(|path| path.to_string_lossy().into_owned()),
    };
    let secrets = Secrets { folder: flags.secrets.clone(), environment: secrets.builds };
    let program = std::env::current_exe().context("this program cannot be found on disk")?;
    let home = home.clone();
    let ended = move |builder: &Key| {
        home.wake(&ObjectKey { kind: Kind::PackerBuilder, key: builder.clone() });
    };
    Ok(Processes::new(runs_dir(state), program, packer, secrets, ended))
}

/// What a document's own reconciler says is wrong with it.
pub fn spec_problems(document: &crate::manifest::Document) -> Vec<(String, String)> {
    let json = document.json.clone();
    match document.object.kind {
        Kind::PackerBuilder => serde_json::from_value(json)
            .map_or_else(|_| Vec::new(), |object| builder::spec::parse(&object).err().unwrap_or_default()),
        Kind::AMIRefresher => serde_json::from_value(json)
            .map_or_else(|_| Vec::new(), |object| refresher::spec::parse(&object).err().unwrap_or_default()),
    }
}

/// `Published` is part of every status: when publishing begins or ceases to fail, all look again.
async fn wake_on_trouble(mut publishing: watch::Receiver<Publishing>, home: Arc<StateFolder>) {
    let mut trouble = home.unpublished();
    while publishing.changed().await.is_ok() {
        let is = !publishing.borrow_and_update().is_good();
        if is != trouble {
            trouble = is;
            home.wake_all(Kind::PackerBuilder);
            home.wake_all(Kind::AMIRefresher);
        }
    }
}

fn exit_code(standings: &BTreeMap<ObjectKey, Standing>, fine: bool) -> ExitCode {
    let any = |standing| standings.values().any(|s| *s == standing);
    if !fine || any(Standing::Stalled) || any(Standing::Failing) {
        ExitCode::from(STALLED)
    } else if any(Standing::Waiting) {
        ExitCode::from(WAITING)
    } else {
        ExitCode::SUCCESS
    }
}
