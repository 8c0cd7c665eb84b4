//! The few fields of nodes, pods and PodDisruptionBudgets that are read, and what they mean for a drain. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde::Deserialize;

use crate::engine::kubernetes::{BUILDER, RUN};
use crate::engine::nodes::{Budget, BuildPod, Node, NodePod};

/// Label of a node: ID of the launch template of its group.
const TEMPLATE: &str = "eks.amazonaws.com/sourceLaunchTemplateId";
/// Label of a node: ID of its image.
pub const IMAGE: &str = "eks.amazonaws.com/nodegroup-image";
/// Annotation of a mirror pod, which the kubelet creates from a file of its node.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotations by which pods ask autoscalers not to evict them, with the value.
const DO_NOT_EVICT: [(&str, &str); 2] =
    [("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"), ("karpenter.sh/do-not-disrupt", "true")];

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    owner_references: Vec<Owner>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Owner {
    kind: String,
    controller: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Condition {
    r#type: String,
    status: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
pub struct NodeFields {
    metadata: Metadata,
    #[serde(default)]
    spec: NodeSpec,
    #[serde(default)]
    status: NodeStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeSpec {
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
pub struct PodFields {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    node_name: Option<String>,
    volumes: Option<Vec<Volume>>,
    tolerations: Option<Vec<Toleration>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Volume {
    name: String,
    empty_dir: Option<EmptyDir>,
    host_path: Option<HostPath>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct EmptyDir {
    medium: Option<String>,
}

#[derive(Default, Deserialize)]
struct HostPath {}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Toleration {
    key: Option<String>,
    operator: Option<String>,
    effect: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodStatus {
    phase: Option<String>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
pub struct BudgetFields {
    metadata: Metadata,
    #[serde(default)]
    spec: BudgetSpec,
    #[serde(default)]
    status: BudgetStatus,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetSpec {
    selector: Option<LabelSelector>,
    unhealthy_pod_eviction_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct BudgetStatus {
    disruptions_allowed: i32,
    current_healthy: i32,
    desired_healthy: i32,
}

impl Metadata {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.as_ref()?.get(name).map(String::as_str)
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn full_name(&self) -> String {
        format!("{}/{}", self.namespace.as_deref().unwrap_or_default(), self.name)
    }

    fn controller(&self) -> Option<&str> {
        let owner = self.owner_references.iter().find(|owner| owner.controller == Some(true))?;
        Some(&owner.kind)
    }
}

impl NodeFields {
    pub fn read(self) -> Node {
        let ready = self.status.conditions.iter().flatten().find(|condition| condition.r#type == "Ready");
        let not_ready = match ready {
            Some(ready) if ready.status == "True" => None,
            Some(ready) => Some(ready.reason.clone().unwrap_or_else(|| ready.status.clone())),
            None => Some("it has not joined yet".to_owned()),
        };
        Node {
            instance: self.spec.provider_id.as_deref().and_then(instance_id).map(str::to_owned),
            template: self.metadata.label(TEMPLATE).map(str::to_owned),
            image: self.metadata.label(IMAGE).map(str::to_owned),
            not_ready,
            is_leaving: self.metadata.deletion_timestamp.is_some(),
            created: self.metadata.creation_timestamp,
            name: self.metadata.name,
        }
    }
}

/// The ID of an EC2 instance by the provider ID of its node: `aws:///us-east-1a/i-0123456789abcdef0`.
fn instance_id(provider_id: &str) -> Option<&str> {
    let place = provider_id.strip_prefix("aws://")?;
    place.rsplit('/').next().filter(|id| id.starts_with("i-"))
}

impl PodFields {
    pub fn node(&self) -> Option<&str> {
        self.spec.node_name.as_deref()
    }

    /// The pod as one of a build that runs on a node.
    pub fn build(&self) -> Option<BuildPod> {
        self.metadata.label(RUN)?;
        Some(BuildPod {
            namespace: self.metadata.namespace.clone().unwrap_or_default(),
            builder: self.metadata.label(BUILDER).unwrap_or_default().to_owned(),
            node: self.node()?.to_owned(),
        })
    }

    /// The pod, if a drain waits for it.
    pub fn read(&self, budgets: &[BudgetFields]) -> Option<NodePod> {
        let PodFields { metadata, spec, status } = self;
        if metadata.controller() == Some("DaemonSet") || metadata.annotation(MIRROR).is_some() {
            return None;
        }
        let asks = |(name, value): &&(&'static str, &str)| metadata.annotation(name) == Some(*value);
        let ready = status.conditions.iter().flatten().find(|condition| condition.r#type == "Ready");
        let mut budgets: Vec<Budget> =
            budgets.iter().filter(|budget| budget.selects(metadata)).map(BudgetFields::read).collect();
        budgets.sort_by(|a, b| a.name.cmp(&b.name));
        Some(NodePod {
            name: metadata.full_name(),
            node: spec.node_name.clone()?,
            has_controller: metadata.controller().is_some(),
            local_volume: spec.volumes.iter().flatten().find_map(Volume::local),
            do_not_evict: DO_NOT_EVICT.iter().find(asks).map(|(name, _)| *name),
            tolerates_all: spec.tolerations.iter().flatten().any(Toleration::is_universal),
            is_ready: ready.is_some_and(|ready| ready.status == "True"),
            is_terminating: metadata.deletion_timestamp.is_some(),
            is_pending: status.phase.as_deref() == Some("Pending"),
            budgets,
        })
    }
}

impl Volume {
    /// The volume in words, if its data is on the disk of the node.
    fn local(&self) -> Option<String> {
        if self.host_path.is_some() {
            return Some(format!("hostPath volume {}", self.name));
        }
        let on_disk = self.empty_dir.as_ref().is_some_and(|dir| dir.medium.as_deref() != Some("Memory"));
        on_disk.then(|| format!("emptyDir volume {}", self.name))
    }
}

impl Toleration {
    /// Whether it tolerates the taint of every node that is cordoned.
    fn is_universal(&self) -> bool {
        let has_key = self.key.as_deref().is_some_and(|key| !key.is_empty());
        let effect = self.effect.as_deref().unwrap_or_default();
        !has_key && self.operator.as_deref() == Some("Exists") && matches!(effect, "" | "NoSchedule")
    }
}

impl BudgetFields {
    /// A budget without a selector selects no pod, and one with an empty selector all of its namespace.
    fn selects(&self, pod: &Metadata) -> bool {
        let selector = self.spec.selector.clone().and_then(|selector| Selector::try_from(selector).ok());
        let labels = pod.labels.clone().unwrap_or_default();
        self.metadata.namespace == pod.namespace && selector.is_some_and(|selector| selector.matches(&labels))
    }

    fn read(&self) -> Budget {
        let status = &self.status;
        let is_healthy = status.desired_healthy > 0 && status.current_healthy >= status.desired_healthy;
        let always = self.spec.unhealthy_pod_eviction_policy.as_deref() == Some("AlwaysAllow");
        Budget {
            name: self.metadata.full_name(),
            allows: status.disruptions_allowed > 0,
            spares_unready: always || is_healthy,
        }
    }
}

#[cfg(test)]
mod tests;
