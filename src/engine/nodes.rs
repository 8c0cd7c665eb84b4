//! The contract for the nodes of the cluster in which the agent runs, and for what runs on them. The engine of a
//! cluster implements it; a refresher observes through it before an update of a node group starts, while one hangs, and
//! after one has ended. On one machine there is no cluster, and no implementation.

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use jiff::Timestamp;

use super::error::EngineError;

/// Reads nodes, pods and PodDisruptionBudgets. Nothing is cached, because all of it changes at any time.
pub trait Nodes: Send + Sync {
    /// The nodes with the label of an EKS managed node group of this name. The group may be one of another cluster:
    /// `Node::template` tells.
    fn of_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<Vec<Node>, EngineError>>;
    /// The nodes that run on these EC2 instances and belong to no managed node group.
    fn on_instances<'a>(
        &'a self,
        instances: &'a BTreeSet<String>,
    ) -> BoxFuture<'a, Result<Vec<Node>, EngineError>>;
    /// Where the agent itself and the builds run.
    fn hosts(&self) -> BoxFuture<'_, Result<Hosts, EngineError>>;
    /// The pods on these nodes, each with its budgets. This reads all pods of the cluster page by page, and keeps only
    /// those.
    fn pods<'a>(&'a self, nodes: &'a BTreeSet<String>) -> BoxFuture<'a, Result<Vec<NodePod>, EngineError>>;
}

/// A node of a node group, as far as a refresher needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    /// ID of the EC2 instance that it runs on.
    pub instance: Option<String>,
    /// ID of the launch template of its group, as EKS labels the node of a managed group.
    pub template: Option<String>,
    /// ID of its image, as EKS labels the node of a managed group.
    pub image: Option<String>,
    /// Why it is not ready; `None` if it is.
    pub not_ready: Option<String>,
    /// It is being deleted.
    pub is_leaving: bool,
    pub created: Option<Timestamp>,
}

/// The nodes that host the agent and builds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// The node of the agent's own pod, if it is known.
    pub agent: Option<String>,
    pub builds: Vec<BuildPod>,
}

/// The pod of a build that has not ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildPod {
    pub namespace: String,
    /// Name of its builder, as it is labeled.
    pub builder: String,
    pub node: String,
}

/// A pod on a node. Pods of DaemonSets, mirror pods and ended pods are left out: a drain does not wait for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodePod {
    /// Namespace and name, separated by a slash.
    pub name: String,
    pub node: String,
    /// A controller recreates it elsewhere.
    pub has_controller: bool,
    /// Why its data is lost with the node: the volume that is stored there.
    pub local_volume: Option<String>,
    /// The annotation by which it asks not to be evicted.
    pub do_not_evict: Option<&'static str>,
    /// It tolerates every taint, so that it may be scheduled to a node that is being drained.
    pub tolerates_all: bool,
    pub is_ready: bool,
    /// It was evicted or deleted, and has not ended yet.
    pub is_terminating: bool,
    /// It has not started yet. Its eviction needs no budget.
    pub is_pending: bool,
    /// The PodDisruptionBudgets that select it.
    pub budgets: Vec<Budget>,
}

/// A PodDisruptionBudget, as the eviction of a pod depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// Namespace and name, separated by a slash.
    pub name: String,
    /// It allows to evict at least one pod now.
    pub allows: bool,
    /// It lets pods that are not ready be evicted without counting them.
    pub spares_unready: bool,
}
