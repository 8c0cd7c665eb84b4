//! The engine of a cluster: custom resources, Jobs, and a Lease that makes this the only agent that works.

use std::sync::Arc;

use anyhow::Context as _;
use futures::FutureExt;

use super::endpoints::Endpoints;
use super::engine::{Claim, Engine};
use super::inputs::Inputs;
use super::{now, pushes};
use crate::api::network::Network;
use crate::api::{Key, Owner};
use crate::engine::kubernetes::job::network::PodNetwork;
use crate::engine::kubernetes::job::{Own, RunImages, Setup};
use crate::engine::kubernetes::lease::{self, Held, Tenure, Terms, notes};
use crate::engine::kubernetes::nodes::ClusterNodes;
use crate::engine::kubernetes::objects::ClusterHome;
use crate::engine::kubernetes::runs::ClusterRuns;
use crate::engine::kubernetes::{Cluster, OWNER, account};
use crate::engine::objects::Objects;
use crate::engine::standalone::manifest_cache::ManifestCache;
use crate::engine::standalone::{clone_dir, lock};
use crate::settings::{AccessFlags, RunFlags};
use crate::task;

/// Waits for the Lease, as long as it takes. The watches are started only then.
///
/// # Errors
/// The state directory or the cluster cannot be used.
pub async fn start(inputs: &Inputs, endpoints: &Endpoints) -> anyhow::Result<Engine> {
    let Inputs { flags, network, .. } = inputs;
    let state = flags.state.dir()?;
    let lock = lock::take(&state, lock::EngineKind::Kubernetes)?;
    let (kubeconfig, namespaces) =
        (flags.access.cluster.kubeconfig.as_deref(), &flags.access.cluster.namespaces);
    let cluster = Cluster::connect(kubeconfig, namespaces, network).await?;
    let owner = owner(&flags.access, &cluster).await?;
    let setup = setup(flags, network, &cluster).await?;
    let terms = terms(inputs, endpoints);
    let tenure = terms.tenure.clone();
    let Held { lost, release, mut notes, pushes } = hold_lease(&cluster, terms, endpoints).await;
    task::detach("accepting forwarded pushes", pushes::accept_forwarded(pushes, endpoints.inbox.clone()));
    let namespace = Some(cluster.namespace.clone());
    let (objects, queues) = Objects::new();
    let nodes = ClusterNodes::new(
        &cluster,
        flags.pods.node_name.clone(),
        flags.access.cluster.builds_namespace.as_deref(),
    );
    let home = ClusterHome::start(cluster.clone(), objects.clone(), tenure);
    let runs = ClusterRuns::start(cluster, objects.clone(), setup, now);
    let ending = home.clone();
    let release_lease = async move {
        // Nothing is written after the release of the Lease.
        ending.stop();
        release.release().await;
        drop(lock);
    };
    Ok(Engine {
        objects,
        queues,
        home: home as Arc<_>,
        runs,
        nodes: Some(Arc::new(nodes)),
        owner,
        namespace,
        recorded_owner: notes.remove(OWNER),
        clone: clone_dir(&state),
        manifest_cache: Some(ManifestCache::of(&state)),
        // While another replica worked, this clone was not updated.
        clone_is_newest: false,
        claim: Claim { lost, release: Box::new(move || release_lease.boxed()) },
    })
}

fn terms(inputs: &Inputs, endpoints: &Endpoints) -> Terms {
    let Inputs { flags, repository, .. } = inputs;
    let identity = flags.pods.identity.clone().unwrap_or_else(lease::identity);
    Terms {
        tenure: Tenure { lease: flags.access.cluster.lease_name.clone(), identity },
        repository: notes::repository(&repository.identity(), &flags.access.path),
        blocked: endpoints.health.blocked.clone(),
        duration: flags.pods.lease_duration,
        now,
    }
}

/// Waits for the Lease. Until then, pushes that are reported here are forwarded to the replica that works.
async fn hold_lease(cluster: &Cluster, terms: Terms, endpoints: &Endpoints) -> Held {
    let Tenure { lease, identity } = terms.tenure.clone();
    tracing::info!(identity, lease, namespace = cluster.namespace, "waiting for the Lease");
    let held = tokio::select! {
        held = lease::acquire(cluster, terms) => held,
        never = pushes::forward(cluster, &lease, &endpoints.inbox) => match never {},
    };
    tracing::info!("this replica holds the Lease: starting to work");
    held
}

/// The owner of objects and images, unless `opsy.yaml` names another.
async fn owner(flags: &AccessFlags, cluster: &Cluster) -> anyhow::Result<Owner> {
    if let Some(id) = &flags.agent_id {
        return Ok(id.clone());
    }
    let owner = cluster.owner(&flags.cluster.lease_name).await;
    owner.context(
        "the UID of namespace kube-system, the source of the owner, cannot be read: allow it, or set --agent-id",
    )
}

/// How builds run, and which ServiceAccount and Secrets are the agent's own.
async fn setup(
    RunFlags { access, pods, .. }: &RunFlags,
    network: &Network,
    cluster: &Cluster,
) -> anyhow::Result<Setup> {
    let own = |name: &String| Key { namespace: cluster.namespace.clone(), name: name.clone() };
    let account = match &pods.service_account {
        Some(name) => Some(own(name)),
        None => {
            account::own(cluster).await.context("the ServiceAccount of the agent cannot be determined")?
        }
    };
    if PodNetwork::withholds(network) {
        tracing::warn!(
            "the address of the proxy contains credentials, which builds do not get: for builders that need a \
             proxy, set HTTPS_PROXY in builder.pod.env, or in the Secret of builder.secret"
        );
    }
    Ok(Setup {
        network: PodNetwork::new(network),
        images: RunImages {
            runner: access.cluster.runner_image.clone(),
            packer: access.cluster.packer_image.clone(),
        },
        pull_secrets: pods.image_pull_secrets.clone(),
        namespace: access.cluster.builds_namespace.clone(),
        own: Own { account, secrets: pods.own_secrets.iter().map(own).collect() },
    })
}
