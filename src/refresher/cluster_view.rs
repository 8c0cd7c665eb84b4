//! What a reconcile knows of the cluster in which the agent runs: nodes of node groups, what runs on them, and where the
//! agent and builds run. Without such a cluster, or if a group belongs to another one, nothing is known, and nothing is
//! assumed. Filled by `observe`, read by `plan` through `Observed`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::node_group::{GroupKind, Instance, NodeGroup, SelfManagedGroup};
use crate::api::{Class, ImageId, Seen};
use crate::engine::nodes::{Hosts, Node, NodePod};

/// What was read of the cluster in this reconcile.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// The engine has a cluster.
    pub exists: bool,
    /// Nodes by the name of their group, including those of a group with the same name in another cluster.
    pub nodes: BTreeMap<String, Seen<Vec<Node>>>,
    pub hosts: Option<Seen<Hosts>>,
    /// The pods on nodes of a group, by its name.
    pub pods: BTreeMap<String, Seen<Vec<NodePod>>>,
}

/// What has to be read of the cluster before the plan can decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterNeed {
    /// The nodes of a managed group.
    Nodes {
        group: String,
    },
    /// The nodes on the instances of a self-managed group.
    NodesOn {
        group: String,
        instances: BTreeSet<String>,
    },
    Hosts,
    /// The pods on these nodes of a group.
    Pods {
        group: String,
        nodes: BTreeSet<String>,
    },
}

/// A part of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View<T> {
    /// There is no cluster, or the group has no nodes in it.
    Absent,
    /// The agent may not read it.
    Denied(String),
    /// It could not be read now.
    Unreadable(String),
    Is(T),
}

/// A node of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupNode<'a> {
    /// ID of the instance while it has not joined the cluster.
    pub name: &'a str,
    pub image: Option<&'a str>,
    /// Why it is not ready; `None` if it is.
    pub not_ready: Option<&'a str>,
    /// It is being deleted or terminated.
    pub is_leaving: bool,
    /// Its instance, if the group is self-managed.
    pub instance: Option<&'a Instance>,
}

impl ClusterView {
    pub fn new(exists: bool) -> Self {
        Self { exists, ..Self::default() }
    }

    /// The nodes of a group. Nodes of a managed group with the same name in another cluster do not count: their launch
    /// template is another one. The nodes of a self-managed group are those on its instances.
    pub fn nodes<'a>(&'a self, group: &'a NodeGroup) -> Result<View<Vec<GroupNode<'a>>>, ClusterNeed> {
        if !self.exists {
            return Ok(View::Absent);
        }
        match &group.kind {
            GroupKind::Managed(_) => self.labeled(group),
            GroupKind::SelfManaged(own) => self.on_instances(&group.name, own),
        }
    }

    fn labeled<'a>(&'a self, group: &'a NodeGroup) -> Result<View<Vec<GroupNode<'a>>>, ClusterNeed> {
        let Some(in_force) = &group.launch_template else { return Ok(View::Absent) };
        let need = || ClusterNeed::Nodes { group: group.name.clone() };
        let seen = self.nodes.get(&group.name).ok_or_else(need)?;
        let is_own = |node: &&Node| node.template.as_deref() == Some(in_force.template.as_str());
        Ok(view(seen).filter_map(|nodes| {
            let own: Vec<_> = nodes.iter().filter(is_own).map(GroupNode::labeled).collect();
            (!own.is_empty()).then_some(own)
        }))
    }

    /// If no instance is a node of this cluster, the group belongs to another one. Otherwise, each instance is to be one.
    fn on_instances<'a>(
        &'a self,
        group: &str,
        own: &'a SelfManagedGroup,
    ) -> Result<View<Vec<GroupNode<'a>>>, ClusterNeed> {
        let staying = own.instances.iter().map(|instance| &instance.id);
        let instances: BTreeSet<String> = staying.chain(&own.leaving).cloned().collect();
        if instances.is_empty() {
            return Ok(View::Absent);
        }
        let need = || ClusterNeed::NodesOn { group: group.to_owned(), instances };
        let seen = self.nodes.get(group).ok_or_else(need)?;
        Ok(view(seen).filter_map(|nodes| {
            let of = |id: &str| nodes.iter().find(|node| node.instance.as_deref() == Some(id));
            let staying = own.instances.iter().map(|instance| GroupNode::on(instance, of(&instance.id)));
            let leaving = own.leaving.iter().filter_map(|id| of(id)).map(GroupNode::leaving);
            (!nodes.is_empty()).then(|| staying.chain(leaving).collect())
        }))
    }

    pub fn hosts(&self) -> Result<View<&Hosts>, ClusterNeed> {
        if !self.exists {
            return Ok(View::Absent);
        }
        Ok(view(self.hosts.as_ref().ok_or(ClusterNeed::Hosts)?))
    }

    /// The pods on these nodes of a group.
    pub fn pods(&self, group: &str, nodes: &[GroupNode<'_>]) -> Result<View<&[NodePod]>, ClusterNeed> {
        let names = || nodes.iter().map(|node| node.name.to_owned()).collect();
        let seen = self
            .pods
            .get(group)
            .ok_or_else(|| ClusterNeed::Pods { group: group.to_owned(), nodes: names() })?;
        Ok(view(seen).filter_map(|pods| Some(pods.as_slice())))
    }
}

impl<T> View<T> {
    /// The view of what this returns; absent if it returns nothing.
    fn filter_map<U>(self, map: impl FnOnce(T) -> Option<U>) -> View<U> {
        match self {
            Self::Is(value) => map(value).map_or(View::Absent, View::Is),
            Self::Absent => View::Absent,
            Self::Denied(why) => View::Denied(why),
            Self::Unreadable(why) => View::Unreadable(why),
        }
    }
}

impl<'a> GroupNode<'a> {
    fn labeled(node: &'a Node) -> Self {
        Self {
            name: &node.name,
            image: node.image.as_deref(),
            not_ready: node.not_ready.as_deref(),
            is_leaving: node.is_leaving,
            instance: None,
        }
    }

    /// The node on an instance. EC2 Auto Scaling knows the image, and only the node knows whether it is ready.
    fn on(instance: &'a Instance, node: Option<&'a Node>) -> Self {
        Self {
            name: node.map_or(&instance.id, |node| &node.name),
            image: instance.image.as_ref().map(ImageId::as_str),
            not_ready: node.map_or(Some("it has not joined yet"), |node| node.not_ready.as_deref()),
            is_leaving: node.is_some_and(|node| node.is_leaving),
            instance: Some(instance),
        }
    }

    /// The node on an instance that is being terminated.
    fn leaving(node: &'a Node) -> Self {
        Self { is_leaving: true, image: None, ..Self::labeled(node) }
    }
}

fn view<T>(seen: &Seen<T>) -> View<&T> {
    match seen {
        Seen::Is(value) => View::Is(value),
        Seen::Unknown(Class::Denied, why) => View::Denied(why.clone()),
        Seen::Unknown(_, why) => View::Unreadable(why.clone()),
    }
}
