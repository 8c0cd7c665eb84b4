//! The cluster engine, put together: custom resources, Jobs, and a Lease that makes this the one agent.

use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt;

use super::engine::{Claim, Engine};
use super::{now, pushes};
use crate::api::network::Network;
use crate::api::{Key, Owner};
use crate::engine::kubernetes::home::ClusterHome;
use crate::engine::kubernetes::job::network::PodNetwork;
use crate::engine::kubernetes::job::{Own, RunImages, Setup};
use crate::engine::kubernetes::lease::{self, Held, Tenure, Terms, notes};
use crate::engine::kubernetes::runs::ClusterRuns;
use crate::engine::kubernetes::{Cluster, OWNER, account};
use crate::engine::objects::Objects;
use crate::engine::standalone::{clone_dir, lock};
use crate::git::address::Address;
use crate::settings::{ClusterFlags, RunFlags};
use crate::telemetry::health::Health;
use crate::webhook::Inbox;

/// Waits for the Lease, as long as it takes; only then are the watches started.
pub async fn start(
    flags: &RunFlags,
    network: &Network,
    repository: &Address,
    health: &Health,
    inbox: &Inbox,
) -> anyhow::Result<Engine> {
    let state = flags.state.dir()?;
    let lock = lock::take(&state, lock::Engine::Kubernetes)?;
    let (kubeconfig, namespaces) = (flags.cluster.kubeconfig.as_deref(), &flags.cluster.namespaces);
    let cluster = Cluster::connect(kubeconfig, namespaces, network).await?;
    let lease = flags.cluster.lease_name.clone();
    let owner = owner(flags, &cluster).await?;
    let identity = flags.cluster.identity.clone().unwrap_or_else(lease::identity);
    tracing::info!(identity, lease, namespace = cluster.namespace, "waiting for the Lease");
    let tenure = Tenure { lease, identity };
    let terms = Terms {
        tenure: tenure.clone(),
        repository: notes::repository(&repository.identity(), &flags.path),
        blocked: health.blocked.clone(),
        duration: flags.cluster.lease_duration,
        now,
    };
    let setup = setup(&flags.cluster, network, &cluster).await?;
    let passing_on = pushes::pass_on(&cluster, &tenure.lease, inbox);
    let Held { lost, release, mut notes, pushes: noted } = tokio::select! {
        held = lease::acquire(&cluster, terms) => held,
        never = passing_on => match never {},
    };
    tokio::spawn(pushes::take_up(noted, inbox.clone()));
    tracing::info!("this is the agent that works now");
    let namespace = Some(cluster.namespace.clone());
    let (objects, queues) = Objects::new();
    let home = ClusterHome::start(cluster.clone(), objects.clone(), tenure);
    let runs = ClusterRuns::start(cluster, objects.clone(), setup, now);
    let ending = home.clone();
    let give_up = async move {
        ending.stop();
        release.give_up().await;
        drop(lock);
    };
    let claim = Claim { lost, give_up: Box::new(move || give_up.boxed()) };
    let clone = clone_dir(&state);
    // While another replica worked, this clone stood still.
    let clone_is_newest = false;
    let noted_owner = notes.remove(OWNER);
    Ok(Engine {
        objects,
        queues,
        home: home as Arc<_>,
        runs,
        owner,
        namespace,
        noted_owner,
        clone,
        clone_is_newest,
        claim,
    })
}

/// Whose objects and images are this agent's, unless `opsy.yaml` says so.
async fn owner(flags: &RunFlags, cluster: &Cluster) -> anyhow::Result<Owner> {
    if let Some(id) = &flags.agent_id {
        return Ok(id.clone());
    }
    let owner = cluster.owner(&flags.cluster.lease_name).await;
    owner.context("the owner's name is made of the uid of namespace kube-system (--agent-id sets another)")
}

/// How builds run, and what is the agent's own.
async fn setup(flags: &ClusterFlags, network: &Network, cluster: &Cluster) -> anyhow::Result<Setup> {
    let own = |name: &String| Key { namespace: cluster.namespace.clone(), name: name.clone() };
    let account = match &flags.service_account {
        Some(name) => Some(own(name)),
        None => account::own(cluster).await.context("which ServiceAccount the agent has cannot be asked")?,
    };
    if PodNetwork::withholds(network) {
        tracing::warn!(
            "the address of the proxy holds credentials, which builds are not given: set HTTPS_PROXY in \
             builder.pod.env, or in the Secret of builder.secret, for builders that need a proxy"
        );
    }
    Ok(Setup {
        network: PodNetwork::new(network),
        images: RunImages { runner: flags.runner_image.clone(), packer: flags.packer_image.clone() },
        pull_secrets: flags.image_pull_secrets.clone(),
        namespace: flags.builds_namespace.clone(),
        own: Own { account, secrets: flags.own_secrets.iter().map(own).collect() },
    })
}
