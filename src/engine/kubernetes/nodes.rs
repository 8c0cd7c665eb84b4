//! Reads the nodes of the cluster and what runs on them, for the refreshers (`Nodes`): `fields` decodes the few fields
//! that are needed. The lists are read page by page, and nothing is kept of what is not asked for.

mod fields;

use std::collections::BTreeSet;

use futures::future::BoxFuture;
use futures::{FutureExt, try_join};
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::ListParams;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use super::send::send;
use super::{Cluster, MANAGED_BY, RUN, Scope};
use crate::api::Class;
use crate::engine::EngineError;
use crate::engine::nodes::{BuildPod, Hosts, Node, NodePod, Nodes};
pub use fields::IMAGE;
use fields::{BudgetFields, NodeFields, PodFields};

/// Label of the nodes of an EKS managed node group.
pub const GROUP: &str = "eks.amazonaws.com/nodegroup";
/// Objects per page. A page of pods with long specs stays below ten megabytes.
const PAGE: u32 = 250;
/// Pods that have not ended.
const NOT_ENDED: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// The API server, for nodes.
pub struct ClusterNodes {
    client: Client,
    /// The node of the agent's own pod.
    own_node: Option<String>,
    /// The namespaces in which builds run. A pod elsewhere does not belong to this agent, even with the labels of a build.
    builds: Scope,
}

/// One page of a list.
#[derive(Deserialize)]
struct Page<T> {
    metadata: PageMetadata,
    items: Vec<T>,
}

#[derive(Deserialize)]
struct PageMetadata {
    #[serde(default, rename = "continue")]
    next: Option<String>,
}

impl ClusterNodes {
    /// `builds` is the namespace for builds; without one they run in the watched namespaces.
    pub fn new(cluster: &Cluster, own_node: Option<String>, builds: Option<&str>) -> Self {
        let client = cluster.client.clone();
        let builds =
            builds.map_or_else(|| cluster.scope.clone(), |name| Scope::Namespaces(vec![name.to_owned()]));
        Self { client, own_node, builds }
    }

    /// The nodes that match this selector and are wanted, sorted by name.
    async fn nodes(
        &self,
        selector: &str,
        is_wanted: impl Fn(&Node) -> bool,
    ) -> Result<Vec<Node>, EngineError> {
        let params = ListParams::default().labels(selector);
        let mut nodes = Vec::new();
        let keep = |node: NodeFields| nodes.extend(Some(node.read()).filter(&is_wanted));
        self.pages(&path::<v1::Node>(), "nodes", params, keep).await?;
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    async fn build_pods(&self) -> Result<Vec<BuildPod>, EngineError> {
        let (label, value) = MANAGED_BY;
        let params = ListParams::default().labels(&format!("{label}={value},{RUN}")).fields(NOT_ENDED);
        let mut builds = Vec::new();
        let is_ours = |build: &BuildPod| self.builds.covers(&build.namespace);
        let keep = |pod: PodFields| builds.extend(pod.build().filter(is_ours));
        self.pages(&path::<v1::Pod>(), "pods", params, keep).await?;
        Ok(builds)
    }

    async fn workload(&self, nodes: &BTreeSet<String>) -> Result<Vec<NodePod>, EngineError> {
        let (mut read, mut budgets) = (Vec::<PodFields>::new(), Vec::<BudgetFields>::new());
        let (pod_path, budget_path) = (path::<v1::Pod>(), path::<PodDisruptionBudget>());
        let is_there = |pod: &PodFields| pod.node().is_some_and(|node| nodes.contains(node));
        try_join!(
            self.pages(&pod_path, "pods", ListParams::default().fields(NOT_ENDED), |pod| {
                read.extend(Some(pod).filter(is_there));
            }),
            self.pages(&budget_path, "poddisruptionbudgets", ListParams::default(), |budget| {
                budgets.push(budget);
            }),
        )?;
        let mut pods: Vec<NodePod> = read.iter().filter_map(|pod| pod.read(&budgets)).collect();
        pods.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pods)
    }

    /// Passes every object of a list of the whole cluster to `keep`.
    async fn pages<T: DeserializeOwned>(
        &self,
        path: &str,
        resource: &str,
        params: ListParams,
        mut keep: impl FnMut(T),
    ) -> Result<(), EngineError> {
        let mut params = params.limit(PAGE);
        loop {
            let request = kube::core::Request::new(path).list(&params);
            let text = send(&self.client, request).await.map_err(|refusal| explain(resource, refusal))?;
            let page: Page<T> = serde_json::from_str(&text).map_err(|error| {
                EngineError::transient(format!("the list of {resource} cannot be decoded: {error}"))
            })?;
            page.items.into_iter().for_each(&mut keep);
            match page.metadata.next.filter(|next| !next.is_empty()) {
                Some(next) => params.continue_token = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// The path of a kind in all namespaces.
fn path<K: Resource>() -> String {
    match K::GROUP {
        "" => format!("/api/{}/{}", K::VERSION, K::URL_PATH_SEGMENT),
        group => format!("/apis/{group}/{}/{}", K::VERSION, K::URL_PATH_SEGMENT),
    }
}

/// The error for people: what is missing, and which value of the chart grants it.
fn explain(resource: &str, refusal: Refusal) -> EngineError {
    let Refusal { class, message, .. } = refusal;
    let message = match class {
        Class::Denied => {
            format!(
                "the agent may not list {resource} of the cluster ({message}): set rbac.nodes of the chart"
            )
        }
        _ => format!("the {resource} of the cluster cannot be listed: {message}"),
    };
    EngineError { class, message }
}

impl Nodes for ClusterNodes {
    fn of_group<'a>(&'a self, group: &'a str) -> BoxFuture<'a, Result<Vec<Node>, EngineError>> {
        async move { self.nodes(&format!("{GROUP}={group}"), |_| true).await }.boxed()
    }

    fn on_instances<'a>(
        &'a self,
        instances: &'a BTreeSet<String>,
    ) -> BoxFuture<'a, Result<Vec<Node>, EngineError>> {
        let is_wanted = |node: &Node| node.instance.as_ref().is_some_and(|id| instances.contains(id));
        async move { self.nodes(&format!("!{GROUP}"), is_wanted).await }.boxed()
    }

    fn hosts(&self) -> BoxFuture<'_, Result<Hosts, EngineError>> {
        async { Ok(Hosts { agent: self.own_node.clone(), builds: self.build_pods().await? }) }.boxed()
    }

    fn pods<'a>(&'a self, nodes: &'a BTreeSet<String>) -> BoxFuture<'a, Result<Vec<NodePod>, EngineError>> {
        self.workload(nodes).boxed()
    }
}
