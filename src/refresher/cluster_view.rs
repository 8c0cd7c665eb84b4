//! What a reconcile knows of the cluster in which the agent runs: nodes of node groups, what runs on them, and where the
//! agent and builds run. Without such a cluster, or if a group belongs to another one, nothing is known, and nothing is
//! assumed. Filled by `observe`, read by `plan` through `Observed`. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::node_group::{GroupKind, NodeGroup};
use crate::api::{Class, Seen};
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
    /// The nodes of a group.
    Nodes {
        group: String,
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

impl ClusterView {
    pub fn new(exists: bool) -> Self {
        Self { exists, ..Self::default() }
    }

    /// The nodes of a group. Nodes of a group with the same name in another cluster do not count: their launch template
    /// is another one.
    pub fn nodes(&self, group: &NodeGroup) -> Result<View<Vec<&Node>>, ClusterNeed> {
        // Nodes of self-managed groups have no labels that tell their group.
        let is_known = self.exists && matches!(group.kind, GroupKind::Managed(_));
        let Some(in_force) = group.launch_template.as_ref().filter(|_| is_known) else {
            return Ok(View::Absent);
        };
        let name = &group.name;
        let seen = self.nodes.get(name).ok_or_else(|| ClusterNeed::Nodes { group: name.clone() })?;
        let is_own = |node: &&Node| node.template.as_deref() == Some(in_force.template.as_str());
        Ok(match view(seen) {
            View::Is(nodes) => match nodes.iter().filter(is_own).collect::<Vec<_>>() {
                own if own.is_empty() => View::Absent,
                own => View::Is(own),
            },
            View::Absent => View::Absent,
            View::Denied(why) => View::Denied(why),
            View::Unreadable(why) => View::Unreadable(why),
        })
    }

    pub fn hosts(&self) -> Result<View<&Hosts>, ClusterNeed> {
        if !self.exists {
            return Ok(View::Absent);
        }
        Ok(view(self.hosts.as_ref().ok_or(ClusterNeed::Hosts)?))
    }

    /// The pods on these nodes of a group.
    pub fn pods(&self, group: &str, nodes: &[&Node]) -> Result<View<&[NodePod]>, ClusterNeed> {
        let names = || nodes.iter().map(|node| node.name.clone()).collect();
        let seen = self
            .pods
            .get(group)
            .ok_or_else(|| ClusterNeed::Pods { group: group.to_owned(), nodes: names() })?;
        Ok(match view(seen) {
            View::Is(pods) => View::Is(pods.as_slice()),
            View::Absent => View::Absent,
            View::Denied(why) => View::Denied(why),
            View::Unreadable(why) => View::Unreadable(why),
        })
    }
}

fn view<T>(seen: &Seen<T>) -> View<&T> {
    match seen {
        Seen::Is(value) => View::Is(value),
        Seen::Unknown(Class::Denied, why) => View::Denied(why.clone()),
        Seen::Unknown(_, why) => View::Unreadable(why.clone()),
    }
}
