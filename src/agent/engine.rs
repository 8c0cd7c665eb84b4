//! What either engine provides to the agent, and the claim that makes this the only agent that works.

use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::api::Owner;
use crate::engine::nodes::Nodes;
use crate::engine::objects::{Objects, Queues};
use crate::engine::standalone::manifest_cache::ManifestCache;
use crate::engine::{Home, Runs};

/// An engine that is started and holds its claim.
pub struct Engine {
    pub objects: Arc<Objects>,
    pub queues: Queues,
    pub home: Arc<dyn Home>,
    pub runs: Arc<dyn Runs>,
    /// The nodes of the cluster; `None` without one.
    pub nodes: Option<Arc<dyn Nodes>>,
    /// The owner if `opsy.yaml` names none.
    pub owner: Owner,
    /// The agent's own namespace; `None` without a cluster.
    pub namespace: Option<String>,
    /// The recorded owner: the one that this agent has worked for.
    pub recorded_owner: Option<String>,
    /// Folder of the bare clone.
    pub clone: PathBuf,
    /// The file with what was parsed of manifests; `None` if builds could change it and commits are verified.
    pub manifest_cache: Option<ManifestCache>,
    /// No other agent's clone can be ahead of this one: the agent may start from it while the remote is unavailable.
    pub clone_is_newest: bool,
    pub claim: Claim,
}

/// The lock or the Lease. It is released last.
pub struct Claim {
    /// Returns how the claim was lost. From then on, nothing may be done.
    pub lost: BoxFuture<'static, String>,
    /// Releases the claim, so that the next agent can start at once.
    pub release: Box<dyn FnOnce() -> BoxFuture<'static, ()> + Send>,
}

impl Claim {
    /// Takes the future that returns when the claim is lost.
    pub fn take_lost(&mut self) -> BoxFuture<'static, String> {
        std::mem::replace(&mut self.lost, futures::future::pending().boxed())
    }
}

/// Works while the claim is held. If the claim is lost, the work is dropped wherever it is.
pub async fn while_held<T>(
    lost: BoxFuture<'static, String>,
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        // The loss is checked first: the work must not take another step after it.
        biased;
        why = lost => anyhow::bail!("{why}"),
        code = work => code,
    }
}
