//! The parts of `opsy plan`: two trees, synced one after the other from a scratch repository, and both reconcilers, which
//! observe and decide as in the agent. Nothing here can act: there is no run, no engine, no publisher and no sink.

mod no_runs;
mod objects;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use futures::stream::{self, StreamExt as _};
use tokio::sync::watch;

use super::template_clones::TemplateClones;
use super::{now, sources, spec_problems, standalone};
use crate::api::fence::{Fence, Rule};
use crate::api::network::Network;
use crate::api::{CommitId, Key, Owner, PackerBuilder};
use crate::aws::Aws;
use crate::builder::access::TemplateAccess;
use crate::builder::{self, Fleet, Watches};
use crate::git::address::Address;
use crate::git::scratch::{Named, Scratch};
use crate::git::{Handle, History, Http, Options};
use crate::manifest::Reader;
use crate::preview::Side;
use crate::preview::report::{Facts, Report, Revision};
use crate::probe::Probes;
use crate::settings::{self, AddressFlags};
use crate::sync::{Outputs, Sync, Synced};
use crate::{preview, refresher};
use no_runs::NoRuns;
use objects::Objects;

/// Refreshers that are observed at the same time: each has its own cluster, and EKS allows few calls per second.
const AT_ONCE: usize = 8;

/// What to plan.
pub struct Request {
    /// A directory in a clone of the repository.
    pub folder: PathBuf,
    /// What is compared with; default: the remote's default branch as of the last fetch.
    pub base: Option<String>,
    /// The commit to plan; default: the work tree.
    pub head: Option<String>,
    /// The repository as the agent reads it; default: the remote `origin`.
    pub repository: Option<String>,
    pub branch: Option<String>,
    /// The directory with the manifests.
    pub path: String,
    pub agent_id: Option<Owner>,
    /// AWS is not read.
    pub is_offline: bool,
    pub addresses: AddressFlags,
    pub secrets: Option<PathBuf>,
    /// The clusters that namespaces may roll out to, as far as it is known.
    pub clusters: Vec<Rule>,
}

impl Request {
    fn facts(&self) -> Facts {
        if self.is_offline { Facts::Recorded } else { Facts::Live }
    }
}

/// Plans a change. Reads only.
///
/// # Errors
/// The trees cannot be read, or the flags are invalid.
pub async fn plan(request: &Request, network: &Network) -> anyhow::Result<Report> {
    let scratch = Scratch::of(&request.folder)?;
    let base = match &request.base {
        Some(name) => scratch.resolve(name)?,
        None => scratch.default_base()?,
    };
    let head = match &request.head {
        Some(name) => scratch.resolve(name)?,
        None => scratch.work_tree()?,
    };
    let merged = scratch.merged(&base, &head)?;
    let mut trees = Trees::open(request, &scratch, network).await?;
    let before = trees.side(&scratch, &base.commit, None).await?;
    let after = trees.side(&scratch, &merged, Some(&before)).await?;
    let target = if request.path.is_empty() { ".".to_owned() } else { request.path.clone() };
    let revisions = (revision(base, true), revision(head, request.head.is_some()));
    let report = Report::new(target, revisions, request.facts(), now());
    Ok(preview::compare(&before.side, &after.side, report))
}

fn revision(named: Named, is_commit: bool) -> Revision {
    let commit = is_commit.then(|| named.commit.to_string());
    Revision { name: named.name, commit }
}

/// One tree with its decisions and its objects.
struct Planned {
    side: Side,
    objects: Arc<Objects>,
}

/// The sync of the scratch repository, and what both reconcilers use.
struct Trees {
    sync: Sync,
    builders: builder::Context,
    refreshers: refresher::Context,
    owner: Owner,
    facts: Facts,
    /// The objects of the tree that is planned.
    objects: watch::Sender<Arc<Objects>>,
    _clones: Option<TemplateClones>,
}

impl Trees {
    async fn open(request: &Request, scratch: &Scratch, network: &Network) -> anyhow::Result<Self> {
        // Nothing is sent to these addresses.
        let rules = sources::rules(&AddressFlags { insecure_http: true, ..request.addresses.clone() })?;
        let (repository, clone) = scratch.paths();
        let copy = rules.parse(&repository.display().to_string())?;
        let known_as = match request.repository.clone().or_else(|| scratch.remote()) {
            Some(address) => rules.parse(&address)?,
            None => copy.clone(),
        };
        let branch = request.branch.clone().or_else(|| scratch.branch()).unwrap_or_default();
        let git = Handle::start(Options {
            address: copy,
            branch: Some(scratch.branch_to_read().to_owned()),
            path: request.path.clone(),
            folder: clone,
            credentials: None,
            http: Http::new(network),
            history: History::Recent,
            signers: None,
            signing_key: None,
        })?;
        let (sync, outputs) = Sync::new(git, Box::new(Reader::new(spec_problems)), now);
        let clones = match request.is_offline {
            true => None,
            false => Some(TemplateClones::open(&request.addresses, request.secrets.clone(), network)?),
        };
        let owner = request.agent_id.clone().unwrap_or_else(|| standalone::owner(&known_as, &request.path));
        let aws = Aws::from_env(settings::aws_profile().map_err(anyhow::Error::msg)?, network).await?;
        let objects = watch::Sender::new(Arc::new(Objects::new(Arc::default(), Arc::default())));
        let builders = builders(&outputs, (known_as, branch), clones.as_ref(), &aws, &owner)?;
        let refreshers =
            refreshers(&outputs, (&aws, network), &owner, &request.clusters, objects.subscribe())?;
        let facts = request.facts();
        Ok(Self { sync, builders, refreshers, owner, facts, objects, _clones: clones })
    }

    /// Makes a commit the tip, and decides about every object. The status that the base has published is that of both
    /// trees, because the agent writes it onto the branch.
    async fn side(
        &mut self,
        scratch: &Scratch,
        commit: &CommitId,
        base: Option<&Planned>,
    ) -> anyhow::Result<Planned> {
        scratch.read_at(commit)?;
        let synced = self.sync.once().await?;
        let objects = Arc::new(match base {
            Some(base) => base.objects.of_tree(synced.set.clone()),
            None => Objects::new(synced.set.clone(), synced.status_files.clone()),
        });
        self.objects.send_replace(objects.clone());
        let mut side = Side { set: synced.set.clone(), undeclared: objects.undeclared(), ..Side::default() };
        self.decide_builders(&synced, &objects, &mut side).await;
        self.decide_refreshers(&objects, &mut side).await;
        Ok(Planned { side, objects })
    }

    async fn decide_builders(&mut self, synced: &Synced, objects: &Objects, side: &mut Side) {
        let objects: Vec<PackerBuilder> = objects.builders().collect();
        self.builders.owner = synced.owner(&self.owner);
        self.builders.fleet = Arc::new(Fleet::default());
        let previews = builder::preview::previews(&objects, synced, &self.builders, self.facts).await;
        // The agent may have an owner that only its cluster knows. The tags of its images name it.
        let mut owners: Vec<&Owner> = previews.iter().filter_map(|preview| preview.owner.as_ref()).collect();
        owners.sort();
        owners.dedup();
        self.refreshers.owner = match owners.as_slice() {
            [one] => (*one).clone(),
            _ => self.builders.owner.clone(),
        };
        side.builders = previews.into_iter().map(|preview| (preview.key.clone(), preview)).collect();
    }

    async fn decide_refreshers(&self, objects: &Objects, side: &mut Side) {
        let decide = async |object| {
            let (object, inputs) = (Arc::new(object), |builder: &Key| objects.inputs_of(builder));
            let preview = refresher::preview::preview(&object, &self.refreshers, self.facts, &inputs).await;
            (preview.key.clone(), preview)
        };
        side.refreshers = stream::iter(objects.refreshers()).map(decide).buffered(AT_ONCE).collect().await;
    }
}

fn builders(
    outputs: &Outputs,
    (repository, branch): (Address, String),
    clones: Option<&TemplateClones>,
    aws: &Aws,
    owner: &Owner,
) -> anyhow::Result<builder::Context> {
    let mut templates = outputs.templates.clone().known_as(repository, branch);
    if let Some(clones) = clones {
        templates = templates.with_sources(clones.all().clone());
    }
    Ok(builder::Context {
        aws: aws.clone(),
        templates,
        access: Arc::new(TemplateAccess::default()),
        runs: Arc::new(NoRuns),
        synced: outputs.synced.clone(),
        owner: owner.clone(),
        now,
        fleet: Arc::default(),
        watches: Arc::new(Watches::default()),
        ending: Arc::default(),
        undeclared: Arc::new(|_| None),
        withheld: Arc::new(BTreeSet::new),
        in_sync: Arc::new(|_| true),
    })
}

fn refreshers(
    outputs: &Outputs,
    (aws, network): (&Aws, &Network),
    owner: &Owner,
    clusters: &[Rule],
    objects: watch::Receiver<Arc<Objects>>,
) -> anyhow::Result<refresher::Context> {
    Ok(refresher::Context {
        aws: aws.clone(),
        builder_images: Arc::new(move |builder| objects.borrow().images_of(builder)),
        undeclared: Arc::new(|_| None),
        synced: outputs.synced.clone(),
        owner: owner.clone(),
        clusters: Arc::new(Fence::elsewhere("--clusters", clusters.to_vec())),
        now,
        nodes: None,
        // A plan asks no server: it assumes that the checks are good.
        probes: Probes::new(network, Arc::new(Fence::default()))?,
    })
}
