//! The cluster of the simulated world: nodes that become ready some time after an update, the pods on them, and where the
//! agent and builds run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::World;
use crate::api::{Class, ImageId, Seen};
use crate::aws::autoscaling::Member;
use crate::engine::nodes::{Budget, BuildPod, Hosts, Node, NodePod};
use crate::probe::Verdict;
use crate::refresher::cluster_view::{ClusterNeed, ClusterView};
use crate::refresher::memory::Rollout;

/// The cluster in which the agent runs.
#[derive(Clone, Debug, Default)]
pub struct SimCluster {
    /// The agent may not read nodes.
    pub denied: bool,
    /// The API server does not respond.
    pub down: bool,
    /// How long nodes take to become ready after an update, in seconds.
    pub slow: i64,
    /// The group whose nodes host the agent.
    pub agent: Option<String>,
    /// The builder whose build runs on the nodes of a group.
    pub builds: BTreeMap<String, String>,
    /// The pods on the first node of a group.
    pub pods: BTreeMap<String, Vec<NodePod>>,
    /// Groups of another cluster.
    pub elsewhere: BTreeSet<String>,
    /// A failed update leaves a node with the new image, whatever EKS shows.
    pub mixes: bool,
    /// The image of that node.
    pub mixed: BTreeMap<String, String>,
    /// During an update, every group has one more node, which is ready and runs this image.
    pub added: Option<ImageId>,
    /// When the nodes of a group are ready.
    pub settles: BTreeMap<String, Timestamp>,
    /// Until when no other group may start because of this one.
    pub gates: BTreeMap<String, Timestamp>,
    /// Groups with images whose nodes were too late.
    pub late: BTreeSet<(String, ImageId)>,
}

impl SimCluster {
    /// Nothing that was observed so far counts any more.
    pub fn forget_gates(&mut self) {
        self.gates.clear();
    }

    pub fn forget_gate(&mut self, group: &str) {
        self.gates.remove(group);
    }

    pub fn host_build(&mut self, group: &str, on: bool) {
        self.builds.remove(group);
        if on {
            self.builds.insert(group.to_owned(), "base".to_owned());
        }
    }

    pub fn hold(&mut self, group: &str, on: bool) {
        self.pods.remove(group);
        if on {
            let budget = Budget { name: "shop/api".to_owned(), allows: false, spares_unready: false };
            let node = format!("{group}-1");
            let pod = NodePod {
                name: "shop/api-0".to_owned(),
                node,
                has_controller: true,
                is_ready: true,
                budgets: vec![budget],
                ..NodePod::default()
            };
            self.pods.insert(group.to_owned(), vec![pod]);
        }
    }
}

impl World {
    /// An update of a group to an image succeeded at this time; if the refresher knows, no other group starts before its
    /// nodes are ready.
    pub(super) fn replace_nodes(&mut self, group: &str, image: &ImageId, at: Timestamp, is_known: bool) {
        let limit = self.spec().policy.health.nodes_ready_within.unwrap_or_default();
        let limit = SignedDuration::try_from(limit).expect("short");
        let Some(cluster) = &mut self.cluster else { return };
        cluster.mixed.remove(group);
        let settles = at + SignedDuration::from_secs(cluster.slow);
        cluster.settles.insert(group.to_owned(), settles);
        if is_known && !cluster.denied && !cluster.elsewhere.contains(group) {
            cluster.gates.insert(group.to_owned(), settles.min(at + limit));
        }
        if settles > at + limit {
            cluster.late.insert((group.to_owned(), image.clone()));
        }
    }

    /// An update of a group failed halfway: its nodes stay as they are until another one.
    pub(super) fn mix_nodes(&mut self, group: &str) {
        let until = self.now + SignedDuration::from_hours(24 * 365);
        if let Some(cluster) = &mut self.cluster {
            cluster.settles.insert(group.to_owned(), until);
        }
    }

    /// An update of a group to this image failed, and EKS shows the former version again.
    pub(super) fn leave_node(&mut self, group: &str, image: &str) {
        let cluster = self.cluster.as_mut().filter(|cluster| cluster.mixes);
        if let Some(cluster) = cluster {
            cluster.mixed.insert(group.to_owned(), image.to_owned());
        }
    }

    /// What holds a group must not have been overlooked when its turn came.
    pub fn expect_admitted(&self, before: Option<&Rollout>, after: &Rollout) {
        let Some(cluster) = self.cluster.as_ref().filter(|_| after.rollback.is_none()) else { return };
        let is_known = |name: &str, started: Timestamp| {
            before.and_then(|before| before.groups.get(name)).is_some_and(|entry| entry.started == started)
        };
        for (name, entry) in &after.groups {
            let is_left_behind = entry.previous_image.as_ref() == Some(&entry.image);
            let exists = self.groups.contains_key(name) || self.own.contains_key(name);
            if entry.started != self.now || is_known(name, entry.started) || is_left_behind || !exists {
                continue;
            }
            assert!(cluster.denied || !cluster.down, "{name} begins while the cluster cannot be read");
            assert!(cluster.denied || !cluster.builds.contains_key(name), "{name} begins with a build on it");
            if self.policy.blocks {
                assert!(!cluster.denied, "{name} begins although its nodes cannot be checked");
                assert!(!cluster.pods.contains_key(name), "{name} begins although a budget holds it");
            }
        }
    }

    /// Whether other groups have to wait for the nodes of this one.
    pub fn is_gating(&self, group: &str) -> bool {
        let gate = self.cluster.as_ref().and_then(|cluster| cluster.gates.get(group));
        gate.is_some_and(|until| self.now < *until)
    }

    /// The result of a check.
    pub(super) fn verdict(&self, name: &str) -> Verdict {
        self.asked.set(self.asked.get() + 1);
        let is_good = !self.bad_checks.contains(name);
        let response = if is_good { "HTTP 200" } else { "HTTP 503" };
        Verdict { is_good, response: response.to_owned() }
    }

    pub(super) fn read_cluster(&self, mut view: ClusterView, need: ClusterNeed) -> ClusterView {
        let cluster = self.cluster.as_ref().expect("there is a cluster");
        match need {
            ClusterNeed::Nodes { group } => {
                let nodes = cluster.seen(self.nodes_of(cluster, &group));
                view.nodes.insert(group, nodes);
            }
            ClusterNeed::NodesOn { group, instances } => {
                let nodes = self.own_nodes(cluster, &group);
                let is_wanted = |node: &Node| node.instance.as_ref().is_some_and(|id| instances.contains(id));
                let nodes = nodes.into_iter().filter(is_wanted).collect();
                view.nodes.insert(group, cluster.seen(nodes));
            }
            ClusterNeed::Hosts => {
                let builds = cluster.builds.iter().map(|(group, builder)| BuildPod {
                    namespace: "default".to_owned(),
                    builder: builder.clone(),
                    // The first node may not have joined yet.
                    node: format!("{group}-1"),
                });
                let agent = cluster.agent.as_ref().map(|group| format!("{group}-1"));
                view.hosts = Some(cluster.seen(Hosts { agent, builds: builds.collect() }));
            }
            ClusterNeed::Pods { group, nodes } => {
                let pods = cluster.pods.get(&group).cloned().unwrap_or_default();
                let pods = pods.into_iter().filter(|pod| nodes.contains(&pod.node)).collect();
                view.pods.insert(group, cluster.seen(pods));
            }
        }
        view
    }

    /// The nodes of a group: until they settle, the first one still runs the first image, and the second one is not
    /// ready.
    fn nodes_of(&self, cluster: &SimCluster, group: &str) -> Vec<Node> {
        let Some(sim) = self.groups.get(group) else { return Vec::new() };
        let has_settled = self.has_settled(cluster, group);
        let template = sim.seen.launch_template.as_ref().map(|in_force| in_force.template.to_string());
        let template = template.filter(|_| !cluster.elsewhere.contains(group));
        let (image, left) = (sim.seen.release_version.clone(), cluster.mixed.get(group).cloned());
        let node = |number: usize, image: Option<String>, not_ready: Option<&str>| Node {
            name: format!("{group}-{number}"),
            instance: Some(format!("i-{group}-{number}")),
            template: template.clone().or_else(|| Some("lt-0123456789abcdef0".to_owned())),
            image,
            not_ready: not_ready.map(str::to_owned),
            is_leaving: false,
            created: Some(self.now - Duration::from_secs(3600)),
        };
        let added = cluster.added.as_ref().filter(|_| sim.running.is_some());
        let added = added.map(|image| node(2, Some(image.to_string()), None));
        let nodes = match has_settled {
            true => [node(0, image.clone(), None), node(1, left.or(image), None)],
            false => [node(0, None, None), node(1, image, Some("KubeletNotReady"))],
        };
        nodes.into_iter().chain(added).collect()
    }

    /// The nodes on the instances of a self-managed group: until they settle, the first one has not joined, and the
    /// others are not ready.
    fn own_nodes(&self, cluster: &SimCluster, group: &str) -> Vec<Node> {
        let Some(own) = self.own.get(group).filter(|_| !cluster.elsewhere.contains(group)) else {
            return Vec::new();
        };
        let has_settled = self.has_settled(cluster, group);
        let not_ready = (!has_settled).then(|| "KubeletNotReady".to_owned());
        let members = own.seen.instances.iter().enumerate();
        let joined = members.filter(|(number, _)| has_settled || *number > 0);
        let node = |(number, member): (usize, &Member)| Node {
            name: format!("{group}-{number}"),
            instance: Some(member.id.clone()),
            not_ready: not_ready.clone(),
            ..Node::default()
        };
        joined.map(node).collect()
    }

    fn has_settled(&self, cluster: &SimCluster, group: &str) -> bool {
        cluster.settles.get(group).is_none_or(|at| *at <= self.now)
    }
}

impl SimCluster {
    fn seen<T>(&self, value: T) -> Seen<T> {
        if self.denied {
            return Seen::Unknown(Class::Denied, "the agent may not list nodes".to_owned());
        }
        if self.down {
            return Seen::Unknown(Class::TRANSIENT, "no response".to_owned());
        }
        Seen::Is(value)
    }
}
