//! The agent, put together: what each part is handed, in what order it starts and stops.

mod engine;
pub mod heap;
mod identity;
mod kubernetes;
mod meters;
mod publishing;
mod pushes;
mod reconcilers;
mod render;
mod repository;
mod signals;
mod signing;
pub mod sources;
mod standalone;
mod takeover;
mod telling;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::api::fence::Fence;
use crate::api::network::Network;
use crate::api::{Kind, ObjectKey};
use crate::aws::Aws;
use crate::builder::access::TemplateAccess;
use crate::engine::objects::Objects;
use crate::engine::{Runs, Standing};
use crate::git::address::Address;
use crate::git::auth::Credentials;
use crate::git::github_app::Tokens;
use crate::git::signatures::{Signers, SigningKey};
use crate::git::sources::Sources;
use crate::git::{GitError, Handle, Options};
use crate::manifest::Reader;
use crate::publish::{Publisher, Publishing};
use crate::settings::{self, EnvSecrets, RunFlags};
use crate::sync::{Sync, Synced};
use crate::telemetry::health::{Health, Stage};
use crate::telemetry::out;
use crate::webhook::Inbox;
use crate::{builder, refresher};
use engine::{Claim, Engine, while_held};
use identity::Identity;
use repository::Repository;
pub use signals::Signals;
use takeover::{Handed, Takeover};
use telling::Telling;

/// Running passes get this long to end after a signal.
const PASSES_END: Duration = Duration::from_secs(30);
/// A last publish gets this long.
const LAST_PUBLISH: Duration = Duration::from_secs(15);
/// What is still to be told gets this long: what it tells of is in the status, so the next start goes on.
const LAST_MESSAGES: Duration = Duration::from_secs(5);
/// In `--once` there may be no next start soon; the pace of chats is a message a second.
const ONCE_MESSAGES: Duration = Duration::from_secs(60);
/// In `--once`, a branch that takes longer than this does not take the push.
const ONCE_PUBLISH: Duration = Duration::from_secs(120);

/// Exit codes of `--once`.
const STALLED: u8 = 2;
const WAITING: u8 = 3;

/// An agent that has everything and does not follow its repository yet.
pub struct Agent {
    sync: Sync,
    interval: Duration,
    /// Pushes that were reported, and the clone whose repository they may be of.
    pushes: (Inbox, Handle),
    work: Work,
}

/// Everything that lives as long as the agent.
struct Work {
    objects: Arc<Objects>,
    runs: Arc<dyn Runs>,
    synced: watch::Receiver<Option<Arc<Synced>>>,
    takeover: Takeover,
    drives: Vec<JoinHandle<()>>,
    publisher: Publisher,
    stop: CancellationToken,
    claim: Claim,
    health: Arc<Health>,
    telling: Arc<Telling>,
    repository: Arc<Repository>,
    repositories: Sources,
    /// No build is started any more.
    ending: Arc<AtomicBool>,
    /// Looks at the repository, from when there is something to see.
    following: Option<AbortOnDropHandle<()>>,
    _serving: [Option<AbortOnDropHandle<()>>; 2],
}

impl Agent {
    /// Starts an engine, and everything but the sync.
    pub async fn start(flags: RunFlags, network: Network) -> anyhow::Result<Self> {
        let mut secrets = EnvSecrets::read();
        if let Some((name, value)) = network.build_variable() {
            secrets.every_build.entry(name.to_owned()).or_insert(value);
        }
        let profile = settings::aws_profile().map_err(anyhow::Error::msg)?;
        let repository = sources::rules(&flags.git.addresses)?.parse(&flags.repo)?;
        let signing = signing::read(&flags.signing)?;
        let health = Health::new();
        let serving = match flags.listen {
            Some(address) => Some(health.serve(address).await?),
            None => None,
        };
        let inbox = Inbox::default();
        let receiving = pushes::receive(&flags, &secrets, &health, &inbox).await?;
        let engine = start_engine(&flags, &network, &repository, &secrets, (&health, &inbox)).await?;
        let tokens = Tokens::new(&network, now)?;
        let credentials = sources::credentials(&flags, &secrets, &tokens)?;
        // Our own key is for our own branches.
        let signers = signing.0.clone().map(|signers| Signers { own: None, ..signers });
        let handle = open_clone(&flags, &network, repository, &engine, credentials, signing)?;
        health.enter(Stage::Starting);
        let noted = engine.noted_owner.clone();
        let identity = Arc::new(Identity::new(flags.agent_id.clone(), engine.owner.clone(), noted));
        let judge = identity.clone();
        let mut reader = Reader::new(spec_problems).refusing(move |settings| judge.refuses(settings));
        let held = reader.held();
        let (mut sync, outputs) = Sync::new(handle.clone(), Box::new(move |files| reader.read(files)), now);
        let memory = repository::remembered(&*engine.home).await?;
        engine.objects.withhold(memory.notifier_secrets);
        sync.go_on_from(memory.last, repository::accepts(engine.home.clone()));
        if engine.clone_is_newest {
            sync.may_start_from_the_clone();
        }
        let stop = CancellationToken::new();
        let takeover = Takeover::new(&engine, &health, &outputs, held, identity);
        let loaded = || takeover.loaded.subscribe();
        let aws = Aws::from_env(profile, &network).await?;
        let repositories =
            sources::start(&flags, (&network, tokens), signers, &engine, outputs.synced.clone())?;
        let templates = outputs.templates.clone().with_sources(repositories.clone());
        let telling = {
            let git = (handle.clone(), templates.clone());
            telling::start(&engine, git, (&flags, &network), &aws, outputs.synced.clone())?
        };
        let publisher = publishing::start(handle.clone(), &engine, &outputs, loaded(), stop.clone());
        let meter = meters::start(&health, &engine, &aws, &outputs, &publisher, &telling, loaded());
        let Engine { objects, queues, home, runs, owner, namespace, claim, .. } = engine;
        let clusters = Fence::new("--clusters", namespace.clone(), flags.trust.clusters.clone());
        let access = TemplateAccess::new(namespace, &flags.templates);
        let access = access.map_err(|why| anyhow::anyhow!("--templates: {why}"))?;
        let ending = Arc::new(AtomicBool::default());
        let parts = reconcilers::Parts {
            aws,
            meter,
            templates,
            access: Arc::new(access),
            runs: runs.clone(),
            home: home.clone(),
            objects: objects.clone(),
            synced: outputs.synced.clone(),
            owner,
            clusters: Arc::new(clusters),
            publishing: publisher.state(),
            telling: telling.clone(),
            ending: ending.clone(),
        };
        let drives = parts.drive(queues);
        let repository = Repository::new(home, &telling, &outputs, &publisher, &takeover);
        tokio::spawn(heap::give_back(objects.board.clone(), loaded(), publisher.state()));
        let work = Work {
            objects,
            runs,
            synced: outputs.synced,
            takeover,
            drives,
            publisher,
            stop,
            claim,
            health,
            telling,
            repository,
            repositories,
            ending,
            following: None,
            _serving: [serving, receiving],
        };
        Ok(Self { sync, interval: flags.interval, pushes: (inbox, handle), work })
    }

    /// What it works on, for those who show it.
    pub fn parts(&self) -> (Arc<Objects>, Arc<dyn Runs>) {
        (self.work.objects.clone(), self.work.runs.clone())
    }

    /// Works until nothing that was started is left.
    pub async fn once(mut self, signals: Signals) -> anyhow::Result<ExitCode> {
        let lost = self.take_lost();
        while_held(lost, self.work_once(signals)).await
    }

    /// Works until a signal, SIGINT or SIGTERM. A second one ends it at once.
    pub async fn run(mut self, signals: Signals) -> anyhow::Result<ExitCode> {
        let lost = self.take_lost();
        while_held(lost, self.work_on(signals)).await
    }

    fn take_lost(&mut self) -> BoxFuture<'static, String> {
        std::mem::replace(&mut self.work.claim.lost, futures::future::pending().boxed())
    }

    async fn work_once(self, mut signals: Signals) -> anyhow::Result<ExitCode> {
        let Self { mut sync, mut work, .. } = self;
        let state = sync.state();
        let begin = async {
            sync.once().await?;
            while work.takeover.load(false).await? == Handed::ReadAgain {
                sync.once().await?;
            }
            anyhow::Ok(())
        };
        tokio::select! {
            begun = begin => begun?,
            () = signals.next() => anyhow::bail!("interrupted before anything was looked at"),
        }
        let (standings, interrupted) = tokio::select! {
            standings = work.settled() => (standings, false),
            () = signals.next() => (work.objects.board.standings(), true),
        };
        let published = work.publisher.flush(ONCE_PUBLISH).await;
        work.end_passes().await;
        work.stop.cancel();
        (work.claim.give_up)().await;
        let trouble = match &published {
            Some(state) if state.is_good() => None,
            Some(Publishing::Refused { words, .. }) => {
                Some(format!("the push of status was refused: {words}"))
            }
            Some(Publishing::Failed { message, .. }) => Some(format!("status is not published: {message}")),
            _ => Some(format!("the branch took no push within {} s", ONCE_PUBLISH.as_secs())),
        };
        if let Some(trouble) = &trouble {
            out::error(trouble);
        }
        if interrupted {
            anyhow::bail!("interrupted; builds go on, and the next run takes them up");
        }
        let complete = work.synced.borrow().as_ref().is_some_and(|synced| synced.set.complete());
        let complete = complete && state.borrow().held.is_none();
        Ok(exit_code(&standings, complete && trouble.is_none()))
    }

    async fn work_on(self, mut signals: Signals) -> anyhow::Result<ExitCode> {
        let Self { sync, interval, pushes: (inbox, handle), mut work } = self;
        work.follow();
        meters::check_sync(&work.health, sync.state(), interval);
        let wake = Arc::new(Notify::new());
        let listeners =
            vec![pushes::wake_sync(handle, wake.clone()), pushes::fetch_templates(work.repositories.clone())];
        let _following = AbortOnDropHandle::new(tokio::spawn(pushes::follow(inbox, listeners)));
        let syncing = tokio::spawn(sync.run(interval, wake, work.stop.clone()));
        tokio::spawn(work.repositories.clone().follow(work.stop.clone()));
        let mut failures = 0;
        loop {
            tokio::select! {
                changed = work.synced.changed() => {
                    changed.context("the sync has ended")?;
                    failures = work.takeover.try_again(0).await;
                }
                () = takeover::pause_after(failures) => failures = work.takeover.try_again(failures).await,
                () = work.takeover.returned() => failures = work.takeover.try_again(failures).await,
                () = signals.next() => break,
                _ = futures::future::select_all(&mut work.drives) => anyhow::bail!("the reconcile loop has ended"),
            }
        }
        tracing::info!("stopping; builds go on, and the next start takes them up");
        let ending = async {
            work.health.enter(Stage::Stopping);
            // First: what was told is noted by a pass.
            work.telling.notifier.drain(LAST_MESSAGES).await;
            // What it keeps is the next agent's from here on.
            work.following = None;
            work.end_passes().await;
            work.publisher.flush(LAST_PUBLISH).await;
            work.stop.cancel();
            // It ends between two looks; one that hangs in a system call is left behind.
            let _ = tokio::time::timeout(LAST_PUBLISH, syncing).await;
            (work.claim.give_up)().await;
        };
        tokio::select! {
            () = ending => Ok(ExitCode::SUCCESS),
            () = signals.next() => Ok(ExitCode::FAILURE),
        }
    }
}

impl Work {
    /// Waits until nothing is under way, and people were told.
    async fn settled(&mut self) -> BTreeMap<ObjectKey, Standing> {
        let board = self.objects.board.clone();
        board.settled().await;
        // Messages take their time, and so does the push: a build that begins meanwhile would outlive this agent. One
        // that slips in before is waited for.
        self.ending.store(true, Ordering::Relaxed);
        board.settled().await;
        self.follow();
        self.repository.look().await;
        self.telling.notifier.drain(ONCE_MESSAGES).await;
        // What was told is noted by a pass.
        board.settled().await
    }

    fn follow(&mut self) {
        self.following = Some(AbortOnDropHandle::new(tokio::spawn(self.repository.clone().follow())));
    }

    /// Ends the queues and waits for running passes. One that waits for something longer than that is cut off
    /// before the claim is given up; one that blocks a thread cannot be.
    async fn end_passes(&mut self) {
        self.health.enter(Stage::Stopping);
        self.objects.close();
        let end = Instant::now() + PASSES_END;
        for mut drive in self.drives.drain(..) {
            if tokio::time::timeout_at(end, &mut drive).await.is_err() {
                tracing::warn!("a pass did not end in time");
                drive.abort();
                let _ = drive.await;
            }
        }
    }
}

fn open_clone(
    flags: &RunFlags,
    network: &Network,
    repository: Address,
    engine: &Engine,
    credentials: Credentials,
    (signers, signing_key): (Option<Signers>, Option<SigningKey>),
) -> Result<Handle, GitError> {
    if credentials.login.is_some() && repository.is_clear() {
        tracing::warn!(
            "anybody can read the repository's credentials on their way by plain HTTP: use https://"
        );
    }
    Handle::start(Options {
        address: repository,
        branch: flags.branch.clone(),
        path: flags.path.clone(),
        folder: engine.clone.clone(),
        credentials: Some(credentials),
        proxies: network.proxies.clone(),
        // Whether a tip descends from the last synced commit, only history tells.
        shallow: false,
        signers,
        signing_key,
    })
}

async fn start_engine(
    flags: &RunFlags,
    network: &Network,
    repository: &Address,
    secrets: &EnvSecrets,
    (health, inbox): (&Health, &Inbox),
) -> anyhow::Result<Engine> {
    if flags.cluster.is_kubernetes() {
        kubernetes::start(flags, network, repository, health, inbox).await
    } else {
        standalone::start(flags, repository, secrets)
    }
}

/// The one place that reads the clock. Whole seconds, as Kubernetes writes times.
#[expect(clippy::disallowed_methods, reason = "everything else is handed this function")]
pub fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// What a document's own reconciler says is wrong with it.
pub fn spec_problems(document: &crate::manifest::Document) -> Vec<(String, String)> {
    let json = document.json.value();
    match document.object.kind {
        Kind::PackerBuilder => serde_json::from_value(json)
            .map_or_else(|_| Vec::new(), |object| builder::spec::parse(&object).err().unwrap_or_default()),
        Kind::AMIRefresher => serde_json::from_value(json)
            .map_or_else(|_| Vec::new(), |object| refresher::spec::parse(&object).err().unwrap_or_default()),
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
