//! The parts of `opsy plan`: two trees, synced one after the other from a scratch repository, and both reconcilers, which
//! observe and decide as in the agent. Nothing here can act: there is no run, no engine, no publisher and no sink.

mod no_runs;
mod objects;
mod request;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Context as _;
use futures::stream::{self, StreamExt as _};
use tokio::sync::watch;

use super::template_clones::TemplateClones;
use super::{now, sources, spec_problems, standalone};
use crate::api::checks::written;
use crate::api::fence::{Fence, Rule};
use crate::api::network::Network;
use crate::api::{CommitId, Key, Kind, Owner, PackerBuilder};
use crate::aws::Aws;
use crate::builder::access::TemplateAccess;
use crate::builder::{self, Fleet, Watches, advice};
use crate::git::address::Address;
use crate::git::scratch::{self, Named, Scratch};
use crate::git::templates::TemplateSource;
use crate::git::{GitError, Handle, History, Http, Options};
use crate::manifest::{Document, Reader};
use crate::preview::Side;
use crate::preview::report::{Facts, Finding, Report, Revision};
use crate::probe::Probes;
use crate::settings::{self, AddressFlags, PublishMode, RepoSettings};
use crate::sync::{Outputs, StatusFile, Sync, Synced};
use crate::{preview, publish, refresher};
use no_runs::NoRuns;
use objects::Objects;
pub use request::Request;

/// Refreshers that are observed at the same time: each has its own cluster, and EKS allows few calls per second.
const AT_ONCE: usize = 8;

/// Plans a change. Reads only.
///
/// # Errors
/// The trees cannot be read, or the flags are invalid.
pub async fn plan(request: &Request, network: &Network) -> anyhow::Result<Report> {
    let scratch = Scratch::of(&request.folder)?;
    let branch = request.branch(&scratch)?;
    let base = match &request.base {
        Some(name) => scratch.resolve(name)?,
        None => scratch.tip(&branch)?,
    };
    let head = match &request.head {
        Some(name) => scratch.resolve(name)?,
        None => scratch.work_tree()?,
    };
    let merged = scratch.merged(&base, &head)?;
    scratch.set_branch(&branch, &base.commit)?;
    let mut trees = Trees::open(request, (&scratch, branch), network).await?;
    let before = trees.base(&scratch, &base.commit).await?;
    scratch.read_at(&merged)?;
    let after = trees.head(&before).await;
    let is_same = scratch.is_same(&base.commit, &merged)?;
    let revisions = (revision(base), revision(head));
    let report = Report { is_same, ..Report::new(request.target(), revisions, request.facts(), now()) };
    match after {
        Ok(after) => Ok(compare(&before, &after, report)),
        Err(error) => Ok(Report { problems: vec![unreadable(error)?], ..report }),
    }
}

fn revision(named: Named) -> Revision {
    let commit = named.is_shared.then(|| named.commit.to_string());
    Revision { name: named.name, commit }
}

fn compare(before: &Planned, after: &Planned, report: Report) -> Report {
    let settings = match before.is_new {
        true => Vec::new(),
        false => preview::settings::changes(&before.side.set.settings, &after.side.set.settings),
    };
    preview::compare(&before.side, &after.side, Report { settings, ..report })
}

/// The problem of a commit that the agent does not load at all, such as an invalid `opsy.yaml`.
fn unreadable(error: GitError) -> Result<Finding, GitError> {
    let (file, message) = match error {
        GitError::Path { path, why } => (path, why),
        GitError::NoPath { path, .. } => {
            (path, "does not exist: the agent keeps the last good commit".to_owned())
        }
        error => return Err(error),
    };
    Ok(Finding { file, line: None, message, is_old: false })
}

/// Checks that the clone has the branch with the published status.
fn check_status_branch(settings: &RepoSettings, scratch: &Scratch) -> anyhow::Result<()> {
    let publish = settings.publish.as_ref().filter(|publish| publish.enabled != Some(false));
    let Some(branch) = publish.and_then(|publish| written(publish.branch.as_ref())) else { return Ok(()) };
    anyhow::ensure!(
        scratch.has_branch(branch),
        "publish.branch in opsy.yaml is {branch}, and this clone does not contain that branch, so the status of the \
         objects is not known: run `git fetch origin {}` first; if the agent has not published anything yet, use \
         --no-status",
        scratch::refspec(branch)
    );
    Ok(())
}

/// One tree with its decisions and its objects.
struct Planned {
    side: Side,
    objects: Arc<Objects>,
    /// There is nothing at the path that the agent reads.
    is_new: bool,
}

/// The sync of the scratch repository, and what both reconcilers use.
struct Trees {
    sync: Sync,
    builders: builder::Context,
    refreshers: refresher::Context,
    owner: Owner,
    /// The branch that the agent reads.
    branch: String,
    facts: Facts,
    /// The objects of the tree that is planned.
    objects: watch::Sender<Arc<Objects>>,
    clones: Option<TemplateClones>,
    path: String,
    has_no_status: bool,
    /// The owner is set by the flag.
    is_owner_set: bool,
}

impl Trees {
    async fn open(
        request: &Request,
        (scratch, branch): (&Scratch, String),
        network: &Network,
    ) -> anyhow::Result<Self> {
        // Nothing is sent to these addresses.
        let rules = sources::rules(&AddressFlags { insecure_http: true, ..request.addresses.clone() })?;
        let (repository, clone) = scratch.paths();
        let copy = rules.parse(&repository.display().to_string())?;
        let known_as = match request.repository.clone().or_else(|| scratch.remote()) {
            Some(address) => rules.parse(&address)?,
            None => copy.clone(),
        };
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
        let aws =
            Aws::snapshot_from_env(settings::aws_profile().map_err(anyhow::Error::msg)?, network).await?;
        let objects = watch::Sender::new(Arc::new(Objects::new(Arc::default(), Arc::default())));
        let builders = builders(&outputs, (known_as, branch.clone()), clones.as_ref(), &aws, &owner)?;
        let refreshers =
            refreshers(&outputs, (&aws, network), &owner, &request.clusters, objects.subscribe())?;
        Ok(Self {
            sync,
            builders,
            refreshers,
            owner,
            branch,
            facts: request.facts(),
            objects,
            clones,
            path: request.path.clone(),
            has_no_status: request.has_no_status,
            is_owner_set: request.agent_id.is_some(),
        })
    }

    /// The tree that is compared with. Nothing in it is planned if the change creates the path that the agent reads.
    async fn base(&mut self, scratch: &Scratch, commit: &CommitId) -> anyhow::Result<Planned> {
        if !scratch.has_directory(commit, &self.path)? {
            self.clones.iter().for_each(|clones| clones.allow_only(std::iter::empty()));
            let objects = Arc::new(Objects::new(Arc::default(), Arc::default()));
            return Ok(Planned { side: Side::default(), objects, is_new: true });
        }
        scratch.read_at(commit)?;
        let synced = self.sync.once().await.context("the agent does not load the base")?;
        self.clones.iter().for_each(|clones| clones.allow_only(sources_of(&synced)));
        let files = match self.has_no_status {
            true => Arc::default(),
            false => {
                check_status_branch(&synced.set.settings, scratch)?;
                let proposed = self.proposed_status(scratch, &synced).await?;
                proposed.unwrap_or_else(|| synced.status_files.clone())
            }
        };
        let objects = Arc::new(Objects::new(synced.set.clone(), files));
        let side = self.decide(&synced, &objects).await;
        Ok(Planned { side, objects, is_new: false })
    }

    /// The status in the open pull request of the agent, if it publishes by pull request and the clone has its branch. A
    /// branch that a clone keeps after its pull request was merged does not count.
    async fn proposed_status(
        &self,
        scratch: &Scratch,
        synced: &Synced,
    ) -> anyhow::Result<Option<Arc<Vec<StatusFile>>>> {
        let publish = synced.set.settings.publish.clone().unwrap_or_default();
        if publish.enabled == Some(false) || publish.mode != Some(PublishMode::PullRequest) {
            return Ok(None);
        }
        let target = written(publish.branch.as_ref()).unwrap_or(&self.branch);
        let Some(branch) = self.proposed_branch(scratch, synced, target)? else { return Ok(None) };
        if !scratch.is_ahead_in(&branch, &synced.commit, &self.sync.status_folder(&synced.set))? {
            return Ok(None);
        }
        Ok(self.sync.status_on(&branch, synced).await?.map(Arc::new))
    }

    /// The branch of the agent's pull request for a target. If the owner of the agent is not known, because only its
    /// cluster knows it, the only branch for this target counts.
    fn proposed_branch(
        &self,
        scratch: &Scratch,
        synced: &Synced,
        target: &str,
    ) -> anyhow::Result<Option<String>> {
        if self.is_owner_set || synced.set.settings.agent_id.is_some() {
            let branch = publish::pull_request_branch(&synced.owner(&self.owner), target);
            return Ok(Some(branch).filter(|branch| scratch.has_branch(branch)));
        }
        let mut branches = scratch.branches()?;
        branches.retain(|branch| publish::is_pull_request_branch(branch, target));
        Ok(branches.pop().filter(|_| branches.is_empty()))
    }

    /// The tree that is planned. The status that the base has published is that of both trees, because the agent writes
    /// it onto the branch.
    async fn head(&mut self, base: &Planned) -> Result<Planned, GitError> {
        let synced = self.sync.once().await?;
        let objects = Arc::new(base.objects.of_tree(synced.set.clone()));
        let side = self.decide(&synced, &objects).await;
        Ok(Planned { side, objects, is_new: false })
    }

    /// Decides about every object.
    async fn decide(&mut self, synced: &Synced, objects: &Arc<Objects>) -> Side {
        self.objects.send_replace(objects.clone());
        let mut side = Side { set: synced.set.clone(), undeclared: objects.undeclared(), ..Side::default() };
        self.decide_builders(synced, objects, &mut side).await;
        self.decide_refreshers(objects, &mut side).await;
        side
    }

    async fn decide_builders(&mut self, synced: &Synced, objects: &Objects, side: &mut Side) {
        let objects: Vec<PackerBuilder> = objects.builders().collect();
        self.builders.owner = synced.owner(&self.owner);
        self.builders.fleet = Arc::new(Fleet::default());
        let is_owner_known = self.is_owner_set || synced.set.settings.agent_id.is_some();
        let (ctx, facts) = (&self.builders, self.facts);
        let previews = builder::preview::previews(&objects, synced, ctx, facts, is_owner_known).await;
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

/// The template repositories that the builders of a commit read.
fn sources_of(synced: &Synced) -> impl Iterator<Item = (Key, TemplateSource)> {
    let of_builder = |document: &Document| {
        let object = serde_json::from_value(document.json.value()).ok()?;
        Some((document.object.key.clone(), advice::source(&object)?.source?))
    };
    let builders = synced.set.documents.iter().filter(|document| document.object.kind == Kind::PackerBuilder);
    builders.filter_map(of_builder)
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
