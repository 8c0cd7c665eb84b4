//! The start of the agent: every part is made from the parts before it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio_util::sync::CancellationToken;

use super::endpoints::Endpoints;
use super::engine::Engine;
use super::inputs::Inputs;
use super::running::Running;
use super::{
    Agent, forge, kubernetes, memory, metrics, notifications, now, publishing, reconcilers, sources,
    standalone, syncing, templates,
};
use crate::api::fence::Fence;
use crate::api::network::Network;
use crate::aws::Aws;
use crate::builder::access::TemplateAccess;
use crate::git::github_app::Tokens;
use crate::git::templates::Templates;
use crate::git::{GitError, Handle, History, Http, Options};
use crate::loader::Loader;
use crate::notifications::Notifications;
use crate::probe::Probes;
use crate::publish::Publisher;
use crate::repository::{self, Repository};
use crate::settings::RunFlags;
use crate::sync::Outputs;
use crate::task;
use crate::telemetry::health::Stage;

impl Agent {
    /// Starts everything but the sync. In a cluster, this waits for the Lease.
    ///
    /// # Errors
    /// What cannot be started, and which flag is wrong.
    pub async fn start(flags: RunFlags, network: Network) -> anyhow::Result<Self> {
        let inputs = Inputs::read(flags, network)?;
        let endpoints = Endpoints::serve(&inputs).await?;
        let engine = start_engine(&inputs, &endpoints).await?;
        let access = TemplateAccess::new(engine.namespace.clone(), &inputs.flags.templates)
            .map_err(|why| anyhow::anyhow!("--templates: {why}"))?;
        let tokens = Tokens::new(&inputs.network, now)?;
        let http = Http::new(&inputs.network);
        let git = open_clone(&inputs, &engine, &tokens, http.clone())?;
        endpoints.health.enter(Stage::Starting);
        let (sync, outputs, loader) = syncing::make(&inputs, &engine, git.clone(), &endpoints.health).await?;
        let aws = Aws::from_env(inputs.aws_profile.clone(), &inputs.network).await?;
        let template_repositories =
            templates::make(&inputs, (tokens, http), &engine, outputs.synced.clone())?;
        let templates = outputs.templates.clone().with_sources(template_repositories.clone());
        let core = Core { inputs, endpoints, engine, git, outputs, loader, aws, templates };

        let notifications = core.notifications()?;
        let stop = CancellationToken::new();
        let publisher = core.publisher(stop.clone());
        let repository = core.repository(&notifications, &publisher);
        let ending = Arc::new(AtomicBool::default());
        let reconcilers = core.reconcilers(access, &notifications, &publisher, ending.clone())?;

        let Core { inputs, endpoints, engine, git, outputs, loader, .. } = core;
        let loops = reconcilers.drive(engine.queues);
        let (board, read) = (engine.objects.board.clone(), outputs.state.clone());
        task::detach("releasing memory", memory::give_back(board, read, loader.loaded(), publisher.state()));
        let running = Running {
            objects: engine.objects,
            runs: engine.runs,
            synced: outputs.synced,
            loader,
            loops,
            publisher,
            stop,
            claim: engine.claim,
            health: endpoints.health,
            notifications,
            repository,
            reconciling: None,
            template_repositories,
            ending,
            _serving: endpoints.serving,
        };
        Ok(Self { sync, interval: inputs.flags.interval, inbox: endpoints.inbox, git, running })
    }
}

/// The parts that all others are connected to.
struct Core {
    inputs: Inputs,
    endpoints: Endpoints,
    engine: Engine,
    git: Handle,
    outputs: Outputs,
    loader: Loader,
    aws: Aws,
    templates: Templates,
}

impl Core {
    fn notifications(&self) -> anyhow::Result<Arc<Notifications>> {
        let (git, templates) = (self.git.clone(), self.templates.clone());
        let (engine, aws, synced) = (&self.engine, &self.aws, self.outputs.synced.clone());
        notifications::start(&self.inputs, notifications::Uses { engine, aws, git, templates, synced })
    }

    fn publisher(&self, stop: CancellationToken) -> Publisher {
        let (engine, git, sync) = (&self.engine, self.git.clone(), self.outputs.state.clone());
        let connect = forge::connect(
            &self.inputs.flags.access,
            &self.inputs.repository,
            &self.inputs.network,
            git.options().credentials.clone(),
        );
        publishing::start(publishing::Uses { engine, git, sync, loaded: self.loader.loaded(), connect, stop })
    }

    fn repository(&self, notifications: &Arc<Notifications>, publisher: &Publisher) -> Arc<Repository> {
        let sources = repository::Sources {
            home: self.engine.home.clone(),
            objects: self.engine.objects.clone(),
            synced: self.outputs.synced.clone(),
            loaded: self.loader.loaded(),
            load: self.loader.outcome(),
            sync: self.outputs.state.clone(),
            publishing: publisher.state(),
        };
        Repository::new(sources, notifications.clone(), now)
    }

    fn reconcilers(
        &self,
        access: TemplateAccess,
        notifications: &Arc<Notifications>,
        publisher: &Publisher,
        ending: Arc<AtomicBool>,
    ) -> anyhow::Result<reconcilers::Parts> {
        let engine = &self.engine;
        let trust = &self.inputs.flags.trust;
        let meter = metrics::start(&metrics::Measured {
            health: &self.endpoints.health,
            engine,
            aws: &self.aws,
            sync: &self.outputs.state,
            loaded: self.loader.loaded(),
            publisher,
            notifications,
        });
        let hosts = Fence::new("--check-hosts", engine.namespace.clone(), trust.check_hosts.clone());
        let probes = Probes::new(&self.inputs.network, Arc::new(hosts))?;
        Ok(reconcilers::Parts {
            aws: self.aws.clone(),
            templates: self.templates.clone(),
            access: Arc::new(access),
            runs: engine.runs.clone(),
            nodes: engine.nodes.clone(),
            probes,
            home: engine.home.clone(),
            objects: engine.objects.clone(),
            synced: self.outputs.synced.clone(),
            owner: engine.owner.clone(),
            clusters: Arc::new(Fence::new("--clusters", engine.namespace.clone(), trust.clusters.clone())),
            meter,
            notifications: notifications.clone(),
            ending,
        })
    }
}

async fn start_engine(inputs: &Inputs, endpoints: &Endpoints) -> anyhow::Result<Engine> {
    if inputs.flags.access.cluster.is_kubernetes() {
        kubernetes::start(inputs, endpoints).await
    } else {
        standalone::start(inputs)
    }
}

/// Opens the clone of the agent's own repository.
fn open_clone(inputs: &Inputs, engine: &Engine, tokens: &Tokens, http: Http) -> Result<Handle, GitError> {
    let credentials = sources::credentials(&inputs.flags.access.git, &inputs.secrets, tokens)?;
    if credentials.login.is_some() && inputs.repository.is_plain_http() {
        tracing::warn!(
            "credentials are sent to the repository over plain HTTP, where others can read them: use https://"
        );
    }
    Handle::start(Options {
        address: inputs.repository.clone(),
        branch: inputs.flags.access.branch.clone(),
        path: inputs.flags.access.path.clone(),
        folder: engine.clone.clone(),
        credentials: Some(credentials),
        http,
        history: if inputs.signers.is_some() { History::Whole } else { History::Recent },
        signers: inputs.signers.clone(),
        signing_key: inputs.signing_key.clone(),
    })
}
